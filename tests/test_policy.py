"""Policy files: written, refused, run by NumPy as torch runs them, and driving step sizes as in the environment."""

from __future__ import annotations

import json
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from safetensors.numpy import save_file

from metalearn_env.actions import FACTORS, RITZ, SPREADS
from metalearn_env.driving import driven
from metalearn_env.engine import Engine
from metalearn_env.families import make_family
from metalearn_env.observations import feature_names
from metalearn_env.policy import FORMAT, SHIPPED, Policy, load
from metalearn_env.pool import draw_tasks
from metalearn_env.rewards import log_gap
from metalearn_env.scoring import TaskSet, final_log_gap, score_row, task_sets
from metalearn_env.scoring.ablations import actions, policy_run
from metalearn_env.scoring.contenders import run_policy
from metalearn_env.whole_data import LeastSquares, descend

ACTIONS, STRATEGIES = ("relative", "absolute", "discrete"), ("dynamic", "constant", "random")
REGRESSION = "MetaLearn/LinearRegression-v0"


def untrained(
    action: str = "relative", strategy: str = "dynamic", history: int = 2, seed: int = 0, **header: Any
) -> Policy:
    """Return a policy of random weights for any kind of action."""
    rng, names = np.random.default_rng(seed), feature_names(history, header.get("ritz", 0))
    choices = len(FACTORS) + (RITZ if header.get("ritz") else 0)
    parts = (choices, len(SPREADS)) if action == "discrete" else (1, 1)
    outputs = sum(parts) if strategy == "random" else parts[0]
    sizes = (len(names), 8, 8, outputs)
    layers = tuple(
        ((rng.normal(size=(out, into)) / into**0.5).astype(np.float32), rng.normal(size=out).astype(np.float32))
        for into, out in pairwise(sizes)
    )
    known = {"history": history, "action": action, "strategy": strategy, "feature_names": list(names)}
    return Policy(layers, {**known, "env": REGRESSION, "seed": seed, **header})


# Files


@pytest.mark.parametrize(("action", "strategy"), list(product(ACTIONS, STRATEGIES)))
def test_what_is_saved_is_loaded(tmp_path: Path, action: str, strategy: str) -> None:
    policy, path = untrained(action, strategy), tmp_path / "mine.safetensors"
    policy.save(path)
    loaded = load(path)
    assert loaded.header == policy.header
    observations = np.random.default_rng(1).normal(size=(9, len(feature_names(2)))).astype(np.float32)
    assert np.array_equal(loaded(observations), policy(observations))
    assert [file.name for file in tmp_path.iterdir()] == ["mine.safetensors"]
    untrained(action, strategy, seed=1).save(str(path))  # over the first
    assert load(str(path)).header["seed"] == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_a_full_disk_leaves_the_policy_that_was_there(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    untrained().save(path)
    (tmp_path / "mine.safetensors.part").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"cannot write .*mine\.safetensors: No space left"):
        untrained(seed=1).save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.safetensors"]
    assert load(path).header["seed"] == 0


@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path: Path, part: float) -> None:
    path = tmp_path / "mine.safetensors"
    untrained().save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(ValueError, match=r"mine\.safetensors"):
        load(path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"format": "metalearn_env policy 0"}])
def test_a_foreign_file_is_refused(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    path = tmp_path / "foreign.safetensors"
    save_file({"0.weight": np.zeros((1, 3), np.float32)}, path, metadata)
    with pytest.raises(ValueError, match=FORMAT):
        load(path)


def test_what_is_no_safetensors_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "policy.zip"
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(ValueError, match=r"policy\.zip"):
        load(path)


def test_a_type_that_numpy_has_not_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "odd.safetensors"
    parts = {"0.weight": {"dtype": "BF16", "shape": [1, 21], "data_offsets": [0, 42]}}
    parts["0.bias"] = {"dtype": "BF16", "shape": [1], "data_offsets": [42, 44]}
    metadata = {"format": FORMAT, "policy": json.dumps(header())}
    told = json.dumps({"__metadata__": metadata, **parts}).encode()
    path.write_bytes(len(told).to_bytes(8, "little") + told + bytes(44))
    with pytest.raises(ValueError, match=r"odd\.safetensors is not .*bfloat16"):  # which some packages teach NumPy
        load(path)


def test_what_policies_do_is_told_by_their_digests() -> None:
    one = Policy.untrained(history=1, seed=0)
    bounds = [[0.0] * 21, [1.0] * 21]
    changes: list[dict[str, Any]] = [{"interval": 3}, {"activation": "relu"}, {"output": "tanh"}, {"observed": bounds}]
    others = [Policy(one.layers, {**one.header, **change}) for change in changes]
    assert len({policy.digest for policy in (one, Policy.untrained(history=1, seed=1), *others)}) == 6
    assert Policy(one.layers, {**one.header, "date": "today", "output": "clip"}).digest == one.digest


def test_other_tensors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "odd.safetensors"
    save_file({"weight": np.zeros((1, 3), np.float32)}, path, {"format": FORMAT, "policy": json.dumps(header())})
    with pytest.raises(ValueError, match=r"odd.safetensors is not a policy.*weight"):
        load(path)


def header(**changes: object) -> dict[str, object]:
    """Return the header of a policy with a history of one step."""
    names = list(feature_names(1))
    return {"history": 1, "action": "relative", "strategy": "dynamic", "feature_names": names, **changes}


WEIGHT, BIAS = np.zeros((1, 21), np.float32), np.zeros(1, np.float32)


@pytest.mark.parametrize(
    ("metadata", "weight", "bias", "words"),
    [
        ({}, WEIGHT, BIAS, "policy"),
        ({"policy": "[1]"}, WEIGHT, BIAS, "dictionary"),
        ({"policy": "{"}, WEIGHT, BIAS, "odd"),
        ({"policy": json.dumps({"history": 1})}, WEIGHT, BIAS, "feature_names"),
        ({"policy": json.dumps(header(history=-3))}, WEIGHT, BIAS, "history"),
        ({"policy": json.dumps(header(history=10**12))}, WEIGHT, BIAS, "each of 1000000000000 decisions, not 21"),
        ({"policy": "[" * 100_000}, WEIGHT, BIAS, "odd.*RecursionError"),
        ({"policy": json.dumps(header(action="sideways"))}, WEIGHT, BIAS, "action"),
        ({"policy": json.dumps(header(interval=0))}, WEIGHT, BIAS, "interval is a whole number >= 1, not 0"),
        ({"policy": json.dumps(header(interval=2, strategy="constant"))}, WEIGHT, BIAS, "interval is 1, not 2"),
        (
            {"policy": json.dumps(header(interval=2, opening=-1))},
            WEIGHT,
            BIAS,
            "opening is a whole number >= 0, not -1",
        ),
        ({"policy": json.dumps(header(opening=2))}, WEIGHT, BIAS, "opening is 0, not 2"),
        ({"policy": json.dumps(header(activation="gelu"))}, WEIGHT, BIAS, "activation is one of tanh, relu, not"),
        ({"policy": json.dumps(header(output="raw"))}, WEIGHT, BIAS, "output is one of clip, tanh, not"),
        ({"policy": json.dumps(header())}, WEIGHT[:, :7], BIAS, "layer 0 takes 21"),
        ({"policy": json.dumps(header())}, WEIGHT.astype(int), BIAS, "layer 0"),
        ({"policy": json.dumps(header())}, WEIGHT * np.nan, BIAS, "finite"),
        ({"policy": json.dumps(header())}, WEIGHT, BIAS * np.nan, "layer 0 is finite"),
        ({"policy": json.dumps(header(observed=[[0.0], [1.0]]))}, WEIGHT, BIAS, "observed is the lowest"),
        ({"policy": json.dumps(header(observed=[[1.0] * 21, [0.0] * 21]))}, WEIGHT, BIAS, "observed is the lowest"),
        ({"policy": json.dumps(header())}, np.zeros((3, 21), np.float32), np.zeros(3, np.float32), "outputs, not 3"),
    ],
)
def test_a_file_that_is_no_policy_is_refused(
    tmp_path: Path, metadata: dict[str, str], weight: np.ndarray, bias: np.ndarray, words: str
) -> None:
    path = tmp_path / "odd.safetensors"
    save_file({"0.weight": weight, "0.bias": bias}, path, {"format": FORMAT, **metadata})
    with pytest.raises(ValueError, match=words) as caught:
        load(path)
    assert "odd.safetensors" in str(caught.value)


@pytest.mark.parametrize("name", ["no-such-policy", "no/such/file.safetensors", "."])
def test_a_missing_file_is_named(name: str) -> None:
    with pytest.raises(FileNotFoundError, match="neither a file nor a shipped policy"):
        load(name)


def test_other_features_are_refused_with_both_lists() -> None:
    policy = untrained()
    names = [*policy.header["feature_names"][:-1], "moon_phase"]
    other = Policy(policy.layers, {**policy.header, "feature_names": names})
    engine = gym.make(REGRESSION, split="test").unwrapped
    engine.reset(seed=0)
    with pytest.raises(ValueError, match=r"(?s)moon_phase.*curvature\[-2\]"):
        next(other.step_sizes(engine.session.engine))


@pytest.mark.parametrize("shape", [(3, 5), (len(feature_names(2)),), (1, 3, len(feature_names(2)))])
def test_observations_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="shape"):
        untrained()(np.zeros(shape, np.float32))


def test_what_lies_beyond_training_is_taken_for_the_nearest(tmp_path: Path) -> None:
    policy, width = untrained(), len(feature_names(2))
    Policy(policy.layers, {**policy.header, "observed": [[-0.5] * width, [1.0] * width]}).save(tmp_path / "kept")
    seen = np.random.default_rng(0).normal(size=(20, width)).astype(np.float32)
    assert (seen < -0.5).any()
    assert (seen > 1.0).any()
    kept = load(tmp_path / "kept")
    assert np.array_equal(kept(seen), policy(np.clip(seen, -0.5, 1.0)))
    assert not np.array_equal(kept(seen), policy(seen))


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.safetensors")), ids=lambda path: getattr(path, "stem", ""))
def test_shipped_policies_reach_what_their_files_say(path: Path) -> None:
    policy = load(path.stem)
    header, told = policy.header, policy.header["test"]
    assert list(header["feature_names"]) == list(feature_names(header["history"], policy.options["ritz"]))
    assert {"env_kwargs", "command", "seed", "steps", "wall_seconds", "versions", "validation_iqm"} <= header.keys()
    assert path.stat().st_size < 200_000
    sets = task_sets(header["env"], "test", told["tasks"], told["seed"], header["task_options"])
    gaps = [run_policy(policy, task_set)[None] for task_set in sets]
    assert score_row(path.stem, "policy", sets, gaps).iqm == pytest.approx(told["iqm"], abs=0.01)


# Against torch


@pytest.mark.parametrize(
    "options",
    [{}, {"strategy": "random"}, {"action": "discrete"}, {"action": "discrete", "strategy": "random"}],
    ids=lambda options: "-".join(options.values()) or "default",
)
def test_numpy_does_what_torch_does(env_id: str, options: dict[str, str]) -> None:
    """On the observations of an episode; where torch draws from logits, the most likely choice."""
    pytest.importorskip("stable_baselines3")
    export = pytest.importorskip("agents.export").export
    from stable_baselines3 import PPO

    from metalearn_env.adapters.sb3 import make_sb3_env

    env = make_sb3_env(env_id, 8, seed=0, horizon=20, **options)
    settings = {"n_steps": 32, "batch_size": 64, "learning_rate": 3e-2}
    model = PPO("MlpPolicy", env, seed=0, device="cpu", policy_kwargs={"net_arch": [16, 16]}, **settings)
    model.learn(256)  # far enough from the first weights, whose actions are nearly constant
    names = env.get_attr("feature_names")[0]
    policy = export(
        model, {"history": 5, "action": "relative", "strategy": "dynamic", **options, "feature_names": names}
    )
    observations, spread = env.reset(), []
    for _ in range(20):
        expected, _ = model.predict(observations, deterministic=True)
        found = policy(observations)
        assert found.shape == expected.shape
        assert found == pytest.approx(expected, abs=1e-6)
        spread.append(found)
        observations, *_ = env.step(expected)
    assert np.std(spread) > 0.01


def test_no_torch_is_loaded(run_python: Any, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    untrained().save(path)
    code = f"""
import sys
import gymnasium as gym
from metalearn_env.policy import load
from metalearn_env.scoring import TaskSet, final_log_gap
tasks = TaskSet({REGRESSION!r}, tasks=8, env_kwargs={{"horizon": 5}})
print(len(final_log_gap(tasks.family, tasks.task, 5, load({str(path)!r}).step_sizes)))
print(*({{"torch", "stable_baselines3", "matplotlib", "scipy", "pandas", "sklearn"}} & sys.modules.keys()))
"""
    assert run_python(code).split() == ["8"]


# Driving step sizes


@pytest.mark.parametrize(("action", "strategy"), list(product(ACTIONS, STRATEGIES)))
def test_a_policy_drives_step_sizes(env_id: str, action: str, strategy: str) -> None:
    env = gym.make(env_id, split="test").unwrapped
    env.reset(seed=0)
    family = env.session.engine.family
    task = family.complete(family.sample(np.random.default_rng(0), 6, 10))
    policy, engine = untrained(action, strategy, seed=1), Engine.start(family, task, 10)
    taken = []
    for _, step in zip(range(10), policy.step_sizes(engine), strict=False):
        assert step.shape == (6,)
        assert (step > 0.0).all()
        taken.append(step / engine.unit)
        engine.advance_only(~engine.ended, step)
    if (action, strategy) != ("discrete", "random"):  # which may choose no spread
        assert (np.ptp(np.array(taken), axis=0) == 0.0).all() == (strategy == "constant")
    again = final_log_gap(family, task, 10, policy.step_sizes)
    assert np.array_equal(again, log_gap(engine))


@pytest.mark.parametrize(
    ("action", "strategy", "interval", "opening", "averaged", "ritz"),
    [
        *((*both, 1, 0, False, 0) for both in product(ACTIONS, ("dynamic", "constant"))),
        *((one, "dynamic", 5, opening, False, 0) for one in ACTIONS for opening in (0, 3)),
        *(("relative", "dynamic", 5, opening, True, 0) for opening in (0, 3)),
        *((one, "dynamic", 1, 0, False, 4) for one in ACTIONS),
        ("discrete", "dynamic", 5, 3, True, 4),
    ],
)
@pytest.mark.parametrize("resolution", [0.0, 2.0**-4])
def test_a_policy_does_the_same_in_the_environment(
    env_id: str, action: str, strategy: str, interval: int, opening: int, averaged: bool, ritz: int, resolution: float
) -> None:
    options: dict[str, Any] = {"action": action, "strategy": strategy, "interval": interval, "opening": opening}
    options |= {"averaged": averaged, "ritz": ritz, "resolution": resolution}
    horizon, policy = 12, untrained(**options)
    assert policy.options == {"history": 2, **options}
    env = gym.make(env_id, split="test", horizon=horizon, **policy.options)
    policy.check_options(options)
    for seed in range(5):
        observation, _ = env.reset(seed=seed)
        session = env.unwrapped.session
        engine = Engine.start(
            session.engine.family, type(session.engine.task)(*map(np.copy, session.engine.task)), horizon
        )
        steps, ended = policy.step_sizes(engine), False
        while not ended:
            observation, _, ended, _, info = env.step(policy(observation[None])[0])
            held_for = 1 if engine.t[0] < opening else interval
            for _ in range(horizon if strategy == "constant" else min(held_for, horizon - int(engine.t[0]))):
                engine.advance_only(~engine.ended, next(steps))
            assert info["step_size"] == pytest.approx(engine.step_size[0], rel=1e-6)
            assert info["gap"] == pytest.approx(engine.loss[0] - engine.reference[0], rel=1e-6)
        assert engine.ended.all()
        assert info["final_gap"] == pytest.approx(engine.loss[0] - engine.reference[0], rel=1e-6)


@pytest.mark.parametrize("name", ["linear-regression", "mixture"])
def test_what_sees_the_past_rounded_does_the_same_in_other_units(name: str) -> None:
    """The objective times a million, or a millionth of it: else rounding errors grow until they show."""
    tasks = [TaskSet(REGRESSION, "test", 64, 0, {"scale": [decades, decades]}) for decades in (0, 6)]

    def change(policy: Policy) -> float:
        one, other = (actions(policy, policy_run(policy, of)) for of in tasks)
        return float(np.abs(one - other).max())

    policy = load(name)
    assert change(policy) < 1e-6
    assert change(Policy(policy.layers, {**policy.header, "resolution": 0.0})) > 1e-6


@pytest.mark.parametrize("name", ["linear-regression", "mixture"])
def test_inputs_may_be_rotated(name: str) -> None:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(60, 12)) * np.logspace(0, 1, 12)
    targets = inputs @ rng.normal(size=12) + rng.normal(size=60)
    rotation, _ = np.linalg.qr(rng.normal(size=(12, 12)))
    one, other = (descend(name, LeastSquares(None, of, targets), 50) for of in (inputs, inputs @ rotation))
    assert other.step_sizes == pytest.approx(one.step_sizes, rel=1e-6)
    assert len({round(float(step), 9) for step in one.step_sizes}) > 20


def test_another_interval_is_refused_like_another_history() -> None:
    with pytest.raises(ValueError, match="the policy was trained with interval=3, not 1"):
        untrained(interval=3).check_options({"interval": 1})
    with pytest.raises(ValueError, match="the policy was trained with interval=1, not 2"):
        untrained().check_options({"interval": 2})
    with pytest.raises(ValueError, match="the policy was trained with opening=7, not 0"):
        untrained(interval=3, opening=7).check_options({"interval": 3, "opening": 0})
    with pytest.raises(ValueError, match="the policy was trained with averaged=True, not False"):
        untrained(interval=3, averaged=True).check_options({"interval": 3, "averaged": False})
    with pytest.raises(ValueError, match="the policy was trained with ritz=4, not 3"):
        untrained(ritz=4).check_options({"history": 2, "ritz": 3})
    with pytest.raises(ValueError, match="history is at most 10000, not 1000000000"):
        untrained().check_options({"history": 10**9})
    with pytest.raises(ValueError, match="history is at most 10000, not 1000000000"):
        Policy.untrained(history=10**9, seed=0)
    with pytest.raises(ValueError, match="the policy was trained with ritz=0, not 3"):
        untrained().check_options({"ritz": 3})
    with pytest.raises(ValueError, match=r"the policy was trained with resolution=0.5, not 0"):
        untrained(resolution=0.5).check_options({"resolution": 0})
    untrained(interval=3, opening=7).check_options({"horizon": 9})
    assert (untrained().interval, untrained(interval=3).interval) == (1, 3)


def test_a_policy_is_not_run_where_its_actions_mean_something_else() -> None:
    with pytest.raises(ValueError, match="trained with action='relative', not 'absolute'"):
        run_policy(untrained(), TaskSet(REGRESSION, tasks=8, env_kwargs={"action": "absolute"}))


@pytest.mark.parametrize("horizon", [0, -1, 2.5, "x", None])
def test_decisions_are_of_a_whole_horizon(horizon: Any) -> None:
    with pytest.raises(ValueError, match="horizon is a whole number >= 1"):
        untrained(interval=3).decisions(horizon)


@pytest.mark.parametrize("averaged", [False, True])
@pytest.mark.parametrize("row", [0, 1])
def test_a_task_that_diverges_in_the_opening_leaves_the_decisions_of_the_others(row: int, averaged: bool) -> None:
    asked, policy = [], untrained(interval=5, opening=6, averaged=averaged)
    family = make_family("LinearRegression")
    first = np.ones(3)
    first[row] = 1e3
    engine = Engine.start(family, draw_tasks(family, seed=0, n=3, horizon=20), 20, first)

    def act(observations: np.ndarray) -> np.ndarray:
        asked.append(len(observations))
        return np.zeros((len(observations), 1))

    for _, step in zip(range(20), driven(act, policy.header, engine), strict=False):
        engine.advance_only(~engine.ended, step)
    assert engine.t.tolist() == [20 if index != row else engine.t[row] for index in range(3)]
    assert engine.t[row] < 6
    assert len(asked) == len(policy.decisions(20)) == 9


@pytest.mark.parametrize(("strategy", "size"), [("constant", 1), ("random", 2)])
def test_what_is_decided_once_is_one_decision(strategy: str, size: int) -> None:
    names = list(feature_names(1))
    header = {"history": 1, "action": "relative", "strategy": strategy, "feature_names": names}
    policy = Policy(((np.zeros((size, len(names)), np.float32), np.zeros(size, np.float32)),), header)
    assert policy.decisions(12).tolist() == [0]


@pytest.mark.parametrize(("opening", "decisions"), [(0, [0, 4, 8]), (1, [0, 1, 5, 9]), (5, [0, 1, 2, 3, 4, 5, 9])])
def test_a_policy_with_an_interval_is_asked_at_decisions_alone(opening: int, decisions: list[int]) -> None:
    asked, policy = [], untrained(interval=4, opening=opening)

    def act(observations: np.ndarray) -> np.ndarray:
        asked.append(len(observations))
        return policy(observations)

    family = make_family("LinearRegression")
    engine = Engine.start(family, draw_tasks(family, seed=0, n=3, horizon=10), 10)
    taken = []
    for _, step in zip(range(10), driven(act, policy.header, engine), strict=False):
        taken.append(step)
        engine.advance(step)
    assert asked == [3] * len(decisions)
    assert policy.decisions(10).tolist() == decisions
    assert [t for t in range(10) if not t or not np.array_equal(taken[t], taken[t - 1])] == decisions
