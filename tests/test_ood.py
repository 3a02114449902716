"""Out of distribution: every axis of every family leads beyond what is configured, as its tasks show."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from test_vector import assert_equal_runs, native, singles

from metalearn_env import TaskFamily
from metalearn_env.families import FAMILIES, beyond, make_family
from metalearn_env.limits import limit_loss
from metalearn_env.mixture import HORIZON_AXES, Part, typical_return
from metalearn_env.scoring import TaskSet, task_sets
from metalearn_env.splits import ROW_SPLITS, SPLITS, split_rows, task_generator
from metalearn_env.tails import NOISE_LEVELS
from metalearn_env.testing import check_family

N, HORIZON = 200, 3
PARTS = 4  # of the tasks, where what is measured is a statistic of many

Options = dict[str, Any]
Axes = dict[str, Options]
Measure = Callable[
    [TaskFamily, Any, Any], Any
]  # (family, draw, task) -> what an axis is about, a number a task or part

#: Ranges of a user's own, and the axes that there are then.
OWN: list[tuple[str, Options, Axes]] = [
    (
        "LinearRegression",
        {"dimension": (30, 40), "batch_size": 6, "noise": (0.1, 0.2), "conditioning": 5.0, "scale": 7},
        {
            "dimension": {"dimension": (80, 160)},
            "conditioning": {"conditioning": (5.0, 500.0), "examples_per_parameter": (1.005, 1.025)},
            "spectrum": {"spectrum": "bimodal"},
            "noise": {"noise": (0.2, 2.0)},
            "start": {"noise": (1e-5, 1e-3)},
            "batch_size": {"batch_size": 1},
            "scale": {"scale": (7.0, 14.0)},
            "heavy_tails": {"tails": "heavy"},
        },
    ),
    (
        "LinearRegression",
        {"spectrum": "gaussian", "dimension": (30, 40), "examples_per_parameter": (1.2, 3), "noise": 0},
        {
            "dimension": {"dimension": (80, 160)},
            "conditioning": {"examples_per_parameter": (1.02, 1.1)},
            "spectrum": {"spectrum": "bimodal"},
            "scale": {"scale": (3.0, 6.0)},
            "heavy_tails": {"tails": "heavy"},
        },
    ),
    (
        "LinearRegression",
        {"spectrum": "bimodal", "tails": "heavy", "dimension": 9, "noise": 1.0, "batch_size": 1, "scale": 100},
        {
            "dimension": {"dimension": (18, 36)},
            "conditioning": {"conditioning": (1e4, 1e6)},
            "spectrum": {"spectrum": "mixed"},
            "noise": {"noise": (1.0, 10.0)},
            "start": {"noise": (1e-4, 1e-2)},
        },
    ),
    (
        "Clustering",
        {"clusters": (3, 8), "points": 12, "dimension": 3, "imbalance": 2, "outliers": 0.4, "scale": 0},
        {
            "dimension": {"dimension": (6, 12)},
            "clusters": {"clusters": (9, 12)},
            "imbalance": {"imbalance": (2.0, 20.0)},
            "separation": {"separation": (0.1, 1.0)},
            "start": {"init": "k-means++"},
            "batch_size": {"batch_size": 8},
            "scale": {"scale": (0.0, 6.0)},
            "heavy_tails": {"outliers": (0.4, 1.0)},
        },
    ),
    (
        "Clustering",
        {
            "init": "k-means++",
            "clusters": 4,
            "batch_size": None,
            "separation": (5, 6),
            "outliers": 0,
            "scale": 30,
        },
        {
            "dimension": {"dimension": (16, 32)},
            "clusters": {"clusters": (5, 8)},
            "imbalance": {"imbalance": (10.0, 100.0)},
            "separation": {"separation": (0.5, 5.0)},
            "start": {"init": "random"},
        },
    ),
    (
        "QLearning",
        {"sampling": "trajectory", "states": (5, 9), "branching": 2, "noise": 0.5, "discount": 0.5, "tails": "heavy"},
        {
            "dimension": {"states": (18, 36)},
            "noise": {"noise": (0.5, 5.0)},
            "discount": {"discount": (0.5, 0.95)},
            "scale": {"scale": (3.0, 6.0)},
        },
    ),
    (
        "QLearning",
        {"noise": 0, "discount": 0, "actions": (2, 3), "scale": 60.0},
        {
            "dimension": {"states": (32, 64)},
            "discount": {"discount": (0.0, 0.9)},
            "scale": {"scale": (60.0, 100.0)},
        },
    ),
    (
        "QLearning",
        {"mdp": "FrozenLake-v1", "discount": (0.5, 0.9)},
        {
            "noise": {"noise": (3.0, 30.0)},
            "discount": {"discount": (0.9, 0.99)},
            "scale": {"scale": (3.0, 6.0)},
            "heavy_tails": {"tails": "heavy"},
        },
    ),
]
CASES: list[tuple[str, Options]] = [*((name, {}) for name in FAMILIES), *((name, given) for name, given, _ in OWN)]
WALK = [(name, options, axis) for name, options in CASES for axis in make_family(name, **options).axes()]
IDS = [f"{name}({', '.join(options)})-{axis}" for name, options, axis in WALK]
every_axis = pytest.mark.parametrize(("name", "options", "axis"), WALK, ids=IDS)


def tasks(family: TaskFamily, n: int = N) -> tuple[Any, Any]:
    """Return the random numbers and the tasks of the family's own split."""
    draw = family.sample(task_generator(0, family.split), n, HORIZON)
    return draw, family.complete(draw)


# The split


def test_the_fourth_stream_is_ood_and_the_others_are_where_they_were() -> None:
    assert SPLITS == ("train", "validation", "test", "ood")
    assert SPLITS[:3] == ROW_SPLITS
    for place, split in enumerate(SPLITS):
        sequence = np.random.SeedSequence(5, spawn_key=(place,))
        expected = np.random.Generator(np.random.SFC64(sequence)).random(3)
        assert np.array_equal(task_generator(5, split).random(3), expected)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_tasks_of_ood_are_those_of_no_other_split(name: str) -> None:
    met = []
    for split in SPLITS:
        family = make_family(name, split=split)
        _, task = tasks(family, 20)
        loss = family.loss(task, family.start(task) + 1.0)
        met.append(set(loss.tolist()))
    assert [len(own) for own in met] == [20] * 4
    assert len(set.union(*met)) == 80


@pytest.mark.parametrize("name", FAMILIES)
def test_the_split_alone_leaves_the_options_as_they_are(name: str) -> None:
    family = make_family(name, split="ood")
    assert {**vars_of(family), "split": "train"} == vars_of(make_family(name))


def vars_of(family: TaskFamily) -> Options:
    return {field.name: getattr(family, field.name) for field in dataclasses.fields(family)}


SQUARE = np.random.default_rng(0).normal(size=(60, 3))


@pytest.mark.parametrize(
    ("name", "options"),
    [("LinearRegression", {"dataset": (SQUARE, SQUARE[:, 0])}), ("Clustering", {"dataset": SQUARE, "clusters": 2})],
    ids=["LinearRegression", "Clustering"],
)
def test_data_sets_have_no_such_split(name: str, options: Options) -> None:
    family = make_family(name, **options)
    assert family.axes() == {}
    with pytest.raises(ValueError, match="no axis 'noise'; it has none"):
        beyond(family, "noise")
    with pytest.raises(ValueError, match=r"train, validation, test; split 'ood' is of synthetic tasks"):
        gym.make(f"MetaLearn/{name}-v0", **options, split="ood")


def test_rows_are_of_no_such_split() -> None:
    with pytest.raises(ValueError, match="'ood' is of synthetic tasks"):
        split_rows(10, "ood")
    with pytest.raises(ValueError, match="split is one of train, validation, test, ood, not 'holdout'"):
        split_rows(10, "holdout")


# The axes


@pytest.mark.parametrize(
    ("name", "options", "expected"), OWN, ids=[f"{name}({', '.join(own)})" for name, own, _ in OWN]
)
def test_moves_are_relative_to_what_is_configured(name: str, options: Options, expected: Axes) -> None:
    found = make_family(name, **options).axes()
    assert found.keys() == expected.keys()
    for axis, move in expected.items():
        assert found[axis].keys() == move.keys(), axis
        for option, value in move.items():
            assert found[axis][option] == (value if isinstance(value, str) else pytest.approx(value)), axis


def test_there_are_not_more_clusters_than_points_nor_less_separation_than_none() -> None:
    axes = make_family("Clustering", clusters=(2, 4), points=4, separation=0).axes()
    assert not {"clusters", "separation"} & axes.keys()
    assert "imbalance" in axes


@every_axis
def test_every_axis_leads_to_a_family_that_keeps_the_contract(name: str, options: Options, axis: str) -> None:
    family = make_family(name, **options)
    moved, move = beyond(family, axis), family.axes()[axis]
    assert vars_of(moved) == {**vars_of(family), "split": "ood", **move}
    check_family(name, **vars_of(moved))
    _, task = tasks(moved, 20)
    assert np.isfinite(limit_loss(moved, task, HORIZON)).all()


@every_axis
def test_every_axis_changes_the_tasks_and_goes_through_json(name: str, options: Options, axis: str) -> None:
    family = make_family(name, **options)
    move = json.loads(json.dumps(family.axes()[axis]))
    (_, here), (_, there), (_, again) = (
        tasks(one, 10)
        for one in (
            make_family(name, **options, split="ood"),
            beyond(family, axis),
            make_family(name, **{**options, **move}, split="ood"),
        )
    )
    assert not all(np.array_equal(one, other) for one, other in zip(here, there, strict=True))
    assert all(np.array_equal(one, other) for one, other in zip(there, again, strict=True))


@pytest.mark.parametrize("name", FAMILIES)
def test_an_axis_that_there_is_not_is_refused(name: str) -> None:
    family = make_family(name)
    with pytest.raises(ValueError, match=f"no axis 'nonesuch'.*{', '.join(family.axes())}"):
        beyond(family, "nonesuch")


# Where the tasks of an axis lie


def of_descriptor(index: int) -> Measure:
    return lambda family, draw, task: 10.0 ** family.descriptor(task)[:, index]


def of_shape(index: int) -> Measure:
    return lambda family, draw, task: draw.shape[:, index]


def of_parts(statistic: Callable[[Any], float], numbers: Measure) -> Measure:
    return lambda family, draw, task: [statistic(part) for part in np.array_split(numbers(family, draw, task), PARTS)]


def kurtosis(values: Any) -> float:
    return float((values**4).mean() / (values**2).mean() ** 2)


def ill_condition(family: TaskFamily, draw: Any, task: Any) -> Any:
    """Return kappa of the tasks with a given spectrum; if there are none, d / (m - d) of the Gaussian designs."""
    given = draw.spectrum > 0
    if not given.any():
        return draw.dimension / (draw.examples - draw.dimension)
    eigenvalues = np.where(task.diagonal > 0.0, task.diagonal, np.nan)[given] ** 2
    return np.nanmax(eigenvalues, axis=1) / np.nanmin(eigenvalues, axis=1)


def middle(family: TaskFamily, draw: Any, task: Any) -> Any:
    """Return what part of the eigenvalues is further than a tenth of the decades from both extremes."""
    parts = []
    for diagonal, superdiagonal, d in zip(task.diagonal, task.superdiagonal, draw.dimension, strict=True):
        factor = np.diag(diagonal[:d]) + np.diag(superdiagonal[: d - 1], 1)
        logs = np.log(np.linalg.svd(factor, compute_uv=False))
        parts.append(np.mean(np.abs(logs - logs.max() / 2 - logs.min() / 2) < 0.3999 * np.ptp(logs)))
    return np.array(parts)


def noise_of_targets(family: TaskFamily, draw: Any, task: Any) -> Any:
    """Return f* over the gap at the start; of minibatches, as the residual of all examples is a matter of chance."""
    _, task = tasks(dataclasses.replace(family, batch_size=family.batch_size or 1))
    return task.minimum / (family.loss(task, family.start(task)) - task.minimum)


def noise_of_rewards(family: TaskFamily, draw: Any, task: Any) -> Any:
    deviation = task.noise_unit * NOISE_LEVELS[family.tails].spread
    return deviation / np.sqrt(np.vecdot(task.reward, task.reward) / task.pairs)


def first_gap(family: TaskFamily, draw: Any, task: Any) -> Any:
    return (family.loss(task, family.start(task)) - task.minimum) / task.scatter


MEASURES: dict[str, dict[str, Measure]] = {
    "LinearRegression": {
        "dimension": of_descriptor(0),
        "conditioning": ill_condition,
        "spectrum": of_parts(np.mean, middle),
        "noise": noise_of_targets,
        "start": noise_of_targets,
        "batch_size": lambda family, draw, task: task.targets.shape[2:],
        "scale": lambda family, draw, task: np.abs(np.log10(draw.objective)),
        "heavy_tails": of_parts(kurtosis, lambda family, draw, task: task.optimum[task.optimum != 0.0]),
    },
    "Clustering": {
        "dimension": of_descriptor(1),
        "clusters": of_descriptor(0),
        "imbalance": of_shape(1),
        "separation": of_shape(0),
        "start": of_parts(np.mean, first_gap),
        "batch_size": lambda family, draw, task: task.batches.shape[2:],
        "scale": lambda family, draw, task: np.abs(np.log10(draw.unit)),
        "heavy_tails": of_shape(3),
    },
    "QLearning": {
        "dimension": of_descriptor(0),
        "noise": noise_of_rewards,
        "discount": lambda family, draw, task: task.discount,
        "scale": lambda family, draw, task: np.abs(np.log10(draw.objective)),
        "heavy_tails": of_parts(kurtosis, lambda family, draw, task: task.noise.astype(float)),
    },
    "Tracking": {
        "dimension": of_descriptor(0),
        "drift": lambda family, draw, task: task.drift,
        "noise": lambda family, draw, task: task.drift,
        "start": lambda family, draw, task: task.distance,
        "scale": lambda family, draw, task: np.abs(np.log10(task.deviation)),
        "heavy_tails": of_parts(kurtosis, lambda family, draw, task: task.noise / task.deviation[:, None, None]),
    },
}


@every_axis
def test_the_tasks_lie_outside(name: str, options: Options, axis: str) -> None:
    if name not in MEASURES:
        pytest.skip("it is not said how the axes of this family are measured")
    family = make_family(name, **options)
    here, there = (np.asarray(MEASURES[name][axis](one, *tasks(one))) for one in (family, beyond(family, axis)))
    above, below = there > here.max(), there < here.min()
    assert max(above.mean(), below.mean()) > 0.9
    assert (there >= here.max()).all() or (there <= here.min()).all()


@pytest.mark.parametrize("name", MEASURES)
def test_every_axis_of_the_packages_families_is_measured(name: str) -> None:
    assert {axis for walked, _, axis in WALK if walked == name} == MEASURES[name].keys()


# Environments and scores


def all_axes(env_id: str) -> list[str]:
    """Return the axes that all families of an environment have."""
    spec = gym.spec(env_id).kwargs
    names = spec.get("families", [spec.get("family")])
    axes = [[*make_family(name).axes(), *HORIZON_AXES] for name in names]
    return [axis for axis in axes[0] if all(axis in others for others in axes)]


def parts_of(env: Any) -> tuple[Part, ...]:
    return env.unwrapped.session.parts


def test_an_axis_is_selected(env_id: str) -> None:
    for axis in all_axes(env_id):
        env = gym.make(env_id, split="ood", ood=axis, horizon=(8, 20))
        for part in parts_of(env):
            family = make_family(type(part.family).__name__)
            moved = vars_of(family) if axis in HORIZON_AXES else vars_of(beyond(family, axis))
            assert vars_of(part.family) == {**moved, "split": "ood"}
            stretched = {"short_horizon": (2, 5), "long_horizon": (32, 80)}
            assert part.horizon((8, 20)) == stretched.get(axis, (8, 20))
        env.reset(seed=0)
        horizon = int(env.unwrapped.session.engine.horizon[0])
        low, high = part.horizon((8, 20))
        assert low <= horizon <= high
        for _ in range(horizon):
            *_, terminated, _, _ = env.step(np.full(1, -0.05, np.float32))
        assert terminated


def test_without_an_axis_every_axis_has_its_turn(env_id: str) -> None:
    env = gym.make_vec(env_id, num_envs=4, split="ood", horizon=8)
    parts = parts_of(env)
    for origin in {id(part.origin): part.origin for part in parts}.values():
        of_family = [part for part in parts if part.origin is origin]
        assert [part.axis for part in of_family] == [*origin.axes(), *HORIZON_AXES]
        assert sum(part.weight for part in of_family) == pytest.approx(1.0)
    env.reset(seed=0)
    for _ in range(40):
        observation, reward, *_ = env.step(np.full((4, 1), -0.05, np.float32))
        assert observation in env.observation_space
        assert np.isfinite(reward).all()


@pytest.mark.parametrize("options", [{"horizon": (2, 6)}, {"horizon": 6, "strategy": "random"}, {"ood": "scale"}])
def test_rows_are_single_environments_out_of_distribution(env_id: str, options: Options) -> None:
    options = {"split": "ood", "horizon": 4, **options}
    mode = AutoresetMode.SAME_STEP
    assert_equal_runs(native(env_id, 4, mode, **options), singles(env_id, 4, mode, **options), mode, steps=20)


def test_moved_rewards_are_in_the_units_of_where_they_were_moved_from() -> None:
    one = gym.make_vec("MetaLearn/QLearning-v0", num_envs=4, split="ood", horizon=5)
    several = gym.make_vec("MetaLearn/Mixture-v0", num_envs=30, split="ood", horizon=5)
    for env in (one, several):
        env.reset(seed=0)
    assert (one.unwrapped.session.reward_unit == 1.0).all()
    mixed = gym.spec("MetaLearn/Mixture-v0").kwargs["families"]
    units = {typical_return(make_family(name), 5, "log") for name in mixed}
    assert set(several.unwrapped.session.reward_unit) == units


@pytest.mark.parametrize("split", ROW_SPLITS)
def test_an_axis_is_of_this_split_only(env_id: str, split: str) -> None:
    with pytest.raises(ValueError, match=f"split 'ood', not of '{split}'"):
        gym.make(env_id, split=split, ood="scale")


def test_an_axis_that_a_family_does_not_have_is_refused(env_id: str) -> None:
    for axis in ("nonesuch", 3):
        with pytest.raises(ValueError, match="short_horizon, long_horizon, not"):
            gym.make(env_id, split="ood", ood=axis)
    with pytest.raises(ValueError, match="ood of LinearRegression is one of dimension"):
        gym.make("MetaLearn/Mixture-v0", split="ood", ood="discount")


def test_scores_have_a_set_of_tasks_for_each_axis() -> None:
    sets = task_sets("MetaLearn/QLearning-v0", "ood", 8, 0, {"horizon": 8})
    assert [(one.env_kwargs or {})["ood"] for one in sets] == [*make_family("QLearning").axes(), *HORIZON_AXES]
    assert [one.horizon for one in sets[-2:]] == [2, 32]
    for one in sets:
        assert one.family.split == "ood"
        assert [tasks.family.split for tasks in one.tuning] == ["train", "validation"]
        assert all(vars_of(tasks.family)["discount"] == (0.8, 0.99) for tasks in one.tuning)
    mixed = task_sets("MetaLearn/Mixture-v0", "ood", 8, 0, {"ood": "scale", "families": ["QLearning", "Clustering"]})
    assert [(one.env_id, one.env_kwargs) for one in mixed] == [
        (f"MetaLearn/{name}-v0", {"ood": "scale"}) for name in ("QLearning", "Clustering")
    ]
    with pytest.raises(ValueError, match="take `task_sets`"):
        TaskSet("MetaLearn/QLearning-v0", "ood", 8)
