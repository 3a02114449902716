"""What is left of a policy: known answers, and what a policy that reacts to what it sees loses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metalearn_env.driving import driven
from metalearn_env.engine import Engine
from metalearn_env.observations import columns, feature_names, groups
from metalearn_env.policy import Policy
from metalearn_env.scoring import TaskSet, ablations
from metalearn_env.scoring.ablations import (
    ABLATIONS,
    ablation_run,
    actions,
    marginal,
    masked,
    mean_observation,
    mean_schedule,
    policy_run,
    replayed,
    shuffled,
)
from metalearn_env.scoring.contenders import ablation, contender
from metalearn_env.scoring.runs import Run, recorded
from metalearn_env.scoring.table import score

ENV = "MetaLearn/LinearRegression-v0"
OPTIONS = {"spectrum": "log-uniform", "dimension": [4, 8], "conditioning": 30, "horizon": 12}
MASKS = ("without-task", "without-progress", "without-history", "without-cosine", "without-descriptor_0")


@pytest.fixture(scope="module")
def task_set() -> TaskSet:
    return TaskSet(ENV, tasks=24, env_kwargs=OPTIONS)


def perceptron(weights: dict[str, float], bias: float = 0.0, **header: Any) -> Policy:
    """Return the policy whose action is ``bias`` plus a weight times each of some features, of one layer."""
    names = feature_names(2)
    header = {"history": 2, "action": "relative", "strategy": "dynamic", "feature_names": list(names), **header}
    weight = np.array([[weights.get(name, 0.0) for name in names]], np.float32)
    return Policy(((weight, np.array([bias], np.float32)),), header)


@pytest.mark.parametrize("name", [*ABLATIONS, *MASKS])
@pytest.mark.parametrize(
    ("header", "bias"),
    [
        ({}, -0.05),
        ({}, 0.0),
        ({}, 0.4),  # runs diverge
        ({"action": "absolute"}, -0.1),
        ({"strategy": "constant"}, -0.1),
        ({"action": "absolute", "strategy": "constant"}, 0.05),
        ({"interval": 5}, -0.05),
        ({"interval": 5}, 0.4),
        ({"action": "absolute", "interval": 3}, -0.1),
        ({"interval": 5, "opening": 3}, -0.05),
        ({"interval": 5, "opening": 3}, 0.4),
        ({"action": "absolute", "interval": 4, "opening": 30}, -0.1),
        ({"interval": 5, "opening": 3, "averaged": True}, 0.4),
    ],
)
def test_a_policy_of_constant_output_is_reproduced(
    task_set: TaskSet, name: str, header: dict[str, Any], bias: float
) -> None:
    policy = perceptron({}, bias, **header)
    whole, left = policy_run(policy, task_set), ablation_run(name, policy, task_set)
    assert left.log_gap == pytest.approx(whole.log_gap, abs=1e-6)
    assert left.step_size == pytest.approx(whole.step_size, rel=1e-6, nan_ok=True)


def test_an_open_loop_schedule_is_its_mean_and_not_its_shuffle(task_set: TaskSet) -> None:
    """A policy that looks at the time alone takes the same steps on every task."""
    policy = perceptron({"progress": -0.02}, -0.06)
    whole = policy_run(policy, task_set)
    for same in ("mean-schedule", "without-task", "without-history"):
        assert ablation_run(same, policy, task_set).step_size == pytest.approx(whole.step_size, rel=1e-5, nan_ok=True)
    held = ablation_run("without-progress", policy, task_set)
    mean = np.exp(np.log(100.0) * (-0.06 - 0.02 * np.mean(np.arange(12) / 12)))
    assert held.step_size == pytest.approx(np.tile(mean ** np.arange(1, 13)[:, None], 24), rel=1e-4)
    assert not np.allclose(ablation_run("shuffled", policy, task_set).step_size, whole.step_size)


@pytest.mark.parametrize(
    "header",
    [
        {},
        *(
            {"interval": 5, **more}
            for more in ({}, {"opening": 3}, {"averaged": True}, {"opening": 3, "averaged": True})
        ),
    ],
)
def test_a_mean_observation_is_that_of_what_is_seen_at_decisions(task_set: TaskSet, header: dict[str, Any]) -> None:
    policy, seen = perceptron({"signal_ratio[-1]": 0.02}, -0.06, **header), []

    def act(observations: np.ndarray) -> np.ndarray:
        seen.append(observations)
        return policy(observations)

    recorded(task_set.family, task_set.task, 12, lambda engine: driven(act, policy.header, engine))
    assert len(seen) == len(policy.decisions(12))
    found = mean_observation(policy, task_set)
    assert found == pytest.approx(np.concatenate(seen).mean(axis=0), abs=1e-5)
    assert found[feature_names(0).index("progress")] == pytest.approx(policy.decisions(12).mean() / 12, abs=1e-6)


def test_a_mean_observation_leaves_out_what_is_seen_after_a_divergence(task_set: TaskSet) -> None:
    policy = perceptron({}, 0.4)
    steps = policy_run(policy, task_set).step_size
    assert np.isnan(steps).any()
    progress = np.concatenate([np.full(np.isfinite(of_all).sum(), t / 12) for t, of_all in enumerate(steps)])
    found = mean_observation(policy, task_set)[feature_names(0).index("progress")]
    assert found == pytest.approx(progress.mean(), abs=1e-6)


def test_shuffled_actions_are_the_same_on_each_task_in_another_order(task_set: TaskSet) -> None:
    policy = perceptron({"signal_ratio[-1]": 0.02, "cosine[-1]": 0.05}, -0.06)
    whole = actions(policy, policy_run(policy, task_set))
    left = actions(policy, recorded(task_set.family, task_set.task, 12, shuffled(policy, task_set)))
    assert np.isfinite(whole).all()
    assert np.sort(left, axis=0) == pytest.approx(np.sort(whole, axis=0), abs=1e-9)
    assert not np.allclose(left, whole)


def test_actions_after_a_divergence_are_those_before_it_again(task_set: TaskSet) -> None:
    policy = perceptron({"progress": 0.1}, 0.1)
    whole = actions(policy, policy_run(policy, task_set))
    assert np.isnan(whole).any()
    engine = Engine.start(task_set.family, task_set.task, 12)
    steps = np.log(np.stack([step / engine.unit for step in shuffled(policy, task_set)(engine)]))
    assert np.isfinite(steps).all()
    left = np.diff(steps, axis=0, prepend=0.0)
    for mine, theirs in zip(left.T, whole.T, strict=True):
        known = theirs[np.isfinite(theirs)]
        assert np.abs(mine[:, None] - known[None]).min(axis=1).max() < 1e-9
        assert np.sort(mine[: len(known)]) == pytest.approx(np.sort(known), abs=1e-9)


def test_marginal_actions_are_drawn_from_those_on_tuning_tasks(task_set: TaskSet) -> None:
    policy = perceptron({"signal_ratio[-1]": 0.02, "cosine[-1]": 0.05}, -0.06)
    pool = np.concatenate([actions(policy, policy_run(policy, tasks)).ravel() for tasks in task_set.tuning])
    many = TaskSet(ENV, tasks=512, env_kwargs=OPTIONS)
    drawn = actions(policy, recorded(many.family, many.task, 12, marginal(policy, many)))[:3]
    assert drawn.mean() == pytest.approx(pool.mean(), abs=5 * pool.std() / drawn.size**0.5)
    assert drawn.std() == pytest.approx(pool.std(), rel=0.15)  # heavy tails
    assert np.abs(np.corrcoef(drawn[0], drawn[1])[0, 1]) < 0.2
    assert np.array_equal(drawn, actions(policy, recorded(many.family, many.task, 12, marginal(policy, many)))[:3])


def test_marginal_actions_are_of_both_tuning_sets(task_set: TaskSet, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(ablations, "policy_run", lambda who, of: (asked.append(of.split), policy_run(who, of))[1])
    marginal(perceptron({}, -0.05), task_set)
    assert asked == ["train", "validation"]


def test_the_mean_schedule_is_geometric_over_train_and_validation_tasks(task_set: TaskSet) -> None:
    policy = perceptron({"descriptor_0": 0.1, "cosine[-1]": 0.05}, -0.15)
    engine = Engine.start(task_set.family, task_set.task, 12)
    found = [step[0] / engine.unit[0] for step in mean_schedule(policy, task_set)(engine)]
    steps = np.hstack([policy_run(policy, tasks).step_size for tasks in task_set.tuning])
    assert steps.shape == (12, 512)
    assert found == pytest.approx(np.exp(np.nanmean(np.log(steps), axis=1)), rel=1e-6)


def test_replayed_steps_stay_within_the_bounds_of_an_agents(task_set: TaskSet) -> None:
    engine = Engine.start(task_set.family, task_set.task, 4)
    rule = replayed(perceptron({}), np.full((4, 1), np.log(1e4)))
    assert [step[0] / engine.unit[0] for step in rule(engine)] == pytest.approx([1e4, 1e6, 1e6, 1e6])


def test_the_mean_schedule_is_stretched_over_other_horizons() -> None:
    """Where the horizon is moved out of distribution, tuning tasks have the one that was configured."""
    policy = perceptron({"progress": -0.02}, -0.06)
    long = TaskSet(ENV, "ood", 8, 0, {**OPTIONS, "ood": "long_horizon"})
    assert (long.horizon, long.tuning[0].horizon) == (48, 12)
    engine = Engine.start(long.family, long.task, 48)
    steps = np.log([step[0] / engine.unit[0] for step in mean_schedule(policy, long)(engine)])
    short = np.log(policy_run(policy, long.tuning[0]).step_size[:, 0])
    assert steps[::4] == pytest.approx(short, abs=1e-6)
    assert steps[2::4][:11] == pytest.approx((short[1:] + short[:-1]) / 2, abs=1e-6)


def test_means_of_observations_are_of_train_tasks_and_known_where_they_are(task_set: TaskSet) -> None:
    policy = perceptron({}, -0.05)
    mean, names = mean_observation(policy, task_set.tuning[0]), list(feature_names(2))
    assert task_set.tuning[0].split == "train"
    assert mean[names.index("kind_supervised")] == 1.0
    assert mean[names.index("progress")] == pytest.approx(np.mean(np.arange(12) / 12))
    assert mean[names.index("log10_horizon")] == pytest.approx(np.log10(12))
    assert mean[names.index("step_ratio[-1]")] == pytest.approx(-0.05 * np.log(100) * 11 / 12, rel=1e-5)
    descriptors = task_set.family.descriptor(task_set.tuning[0].task)
    assert mean[names.index("descriptor_0")] == pytest.approx(descriptors[:, 0].mean(), rel=1e-5)


def test_a_mask_takes_a_group_and_nothing_else(task_set: TaskSet) -> None:
    """The masked policy says the same for any values of what is masked, and what it did for all others at the means."""
    policy = Policy.untrained(history=2, seed=0)
    mean = mean_observation(policy, task_set.tuning[0])
    seen = np.random.default_rng(0).normal(size=(50, len(mean))).astype(np.float32)
    for name, cut in groups(2).items():
        left = masked(policy, task_set, columns(2, name))
        at_means = seen.copy()
        at_means[:, cut] = mean[cut]
        assert left(seen) == pytest.approx(policy(at_means), abs=1e-5)
        assert not np.allclose(policy(seen), policy(at_means))
    assert policy.layers[0][0].all()


def test_columns_have_names() -> None:
    names = feature_names(2)
    assert [names[index] for index in columns(2, "cosine")] == ["cosine[-1]", "cosine[-2]"]
    assert [names[index] for index in columns(2, "cosine[-2]")] == ["cosine[-2]"]
    assert [names[index] for index in columns(2, "progress")] == ["progress", "log10_horizon"]
    assert [names[index] for index in columns(2, "log10_horizon")] == ["log10_horizon"]
    with pytest.raises(ValueError, match=r"'colour'.*history.*cosine"):
        columns(2, "colour")


def test_a_policy_that_sees_loses_what_it_sees_with(task_set: TaskSet) -> None:
    """The step size of Barzilai and Borwein is a linear policy in the log curvature."""
    policy = perceptron({"curvature[-1]": -1.0 / np.log(100)})
    rows = score(task_set, [contender("bb1"), *_written(policy, "whole", "without-history", "shuffled")])["rows"]
    iqm = {row["controller"]: row["iqm"] for row in rows}
    assert iqm["whole"] > iqm["shuffled"]
    assert iqm["whole"] > iqm["without-history"]


def _written(policy: Policy, *names: str) -> list[Any]:
    from metalearn_env.scoring import Contender

    def of(name: str) -> Any:
        return lambda tasks: [policy_run(policy, tasks) if name == "whole" else ablation_run(name, policy, tasks)]

    return [Contender(name, "control", of(name)) for name in names]


def test_names_on_the_command_line(tmp_path: Path, task_set: TaskSet) -> None:
    path = tmp_path / "mine.safetensors"
    policy = Policy.untrained(history=2, seed=0)
    policy.save(path)
    names = ["marginal", "shuffled", "mean-schedule", "without-history"]
    rows = score(task_set, [contender(f"{name}:{path}") for name in names])["rows"]
    assert [(row["controller"], row["kind"]) for row in rows] == [(f"{name}:mine", "control") for name in names]
    (run,) = contender(f"shuffled:{path}").runs(task_set)
    again = ablation_run("shuffled", policy, task_set)
    assert all(np.array_equal(one, other, equal_nan=True) for one, other in zip(run, again, strict=True))
    assert isinstance(run, Run)
    with pytest.raises(ValueError, match="'colour'"):
        contender(f"without-colour:{path}")
    with pytest.raises(FileNotFoundError, match="missing"):
        contender("marginal:missing.safetensors")


@pytest.mark.parametrize("name", ABLATIONS)
def test_steps_that_are_drawn_are_not_replayed(name: str, tmp_path: Path, task_set: TaskSet) -> None:
    (weight, bias), *_ = perceptron({}, -0.1).layers
    header = perceptron({}, strategy="random").header
    policy = Policy(((np.vstack([weight, weight]), np.append(bias, bias)),), header)
    policy.save(tmp_path / "mine.safetensors")
    with pytest.raises(ValueError, match=f"{name} replays steps that a policy decides on"):
        contender(f"{name}:{tmp_path / 'mine.safetensors'}")
    with pytest.raises(ValueError, match="the strategy 'random' are drawn"):
        ablation_run(name, policy, task_set)
    assert ablation_run("without-history", policy, task_set).step_size.shape == (12, 24)


def test_several_training_seeds_have_a_run_each(tmp_path: Path, task_set: TaskSet) -> None:
    paths = [tmp_path / f"{seed}.safetensors" for seed in range(2)]
    for seed, path in enumerate(paths):
        Policy.untrained(history=2, seed=seed).save(path)
    runs = ablation("mean-schedule", "mean", paths).runs(task_set)
    assert len(runs) == 2
    assert not np.allclose(runs[0].step_size[:2], runs[1].step_size[:2])
