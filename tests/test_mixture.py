"""Several families side by side: who comes how often, what rewards are worth, and that n rows are n environments."""

from __future__ import annotations

import copy
import pickle
from collections import Counter
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode
from test_envs import CliffFamily, actions, play, same
from test_vector import assert_equal_runs, assert_same, every_mode, native, random_actions, singles

from metalearn_env.engine import Engine
from metalearn_env.families import make_family
from metalearn_env.mixture import LEAST_RETURN, make_parts, typical_return
from metalearn_env.pool import draw_tasks
from metalearn_env.rewards import log_gap
from metalearn_env.rules.schedules import schedule
from metalearn_env.scoring import final_log_gap
from metalearn_env.session import Session

MIXTURE = "MetaLearn/Mixture-v0"
NAMES = ["LinearRegression", "Clustering", "QLearning"]
KINDS = ("kind_supervised", "kind_unsupervised", "kind_reinforcement")

FOR_MIXTURES: dict[str, dict[str, Any]] = {
    "two of a kind": {
        "families": ["LinearRegression", {"family": "LinearRegression", "dimension": 2, "batch_size": 2}],
        "horizon": (2, 6),
    },
    "carried state": {
        "families": [{"family": "QLearning", "sampling": "trajectory"}, {"family": "Clustering", "batch_size": None}],
        "weights": [1, 3],
        "horizon": (2, 6),
        "split": "test",
    },
    "that diverge": {"action": "absolute", "horizon": 12, "split": "validation"},
    "that diverge at a constant step": {"action": "absolute", "strategy": "constant", "horizon": 12},
    "random steps": {"strategy": "random", "horizon": (1, 9), "reward": "linear"},
    "time-limited": {"horizon": 5, "max_episode_steps": 3},
}


def kinds(observations: np.ndarray) -> np.ndarray:
    """Return the kind of the task of each row, as an index."""
    one_hot = observations[:, : len(KINDS)]
    assert (one_hot.sum(axis=1) == 1.0).all()
    return one_hot.argmax(axis=1)


@every_mode
@pytest.mark.parametrize("options", FOR_MIXTURES.values(), ids=FOR_MIXTURES.keys())
@pytest.mark.parametrize("n", [2, 9])
def test_rows_are_single_environments(options: dict[str, Any], mode: AutoresetMode, n: int) -> None:
    assert_equal_runs(native(MIXTURE, n, mode, **options), singles(MIXTURE, n, mode, **options), mode, steps=60)


@pytest.mark.parametrize("weights", [None, [1, 1, 2], [0.1, 5, 0.9]])
def test_families_come_as_often_as_their_weights_say(weights: list[float] | None) -> None:
    env = native(MIXTURE, 40, AutoresetMode.SAME_STEP, horizon=1, weights=weights)
    env.reset(seed=0)
    met = np.concatenate([kinds(env.step(np.zeros((40, 1)))[0]) for _ in range(50)])
    expected = np.array(weights or [1, 1, 1]) / sum(weights or [1, 1, 1])
    spread = np.sqrt(expected * (1 - expected) / len(met))
    assert (np.abs(np.bincount(met, minlength=3) / len(met) - expected) < 5 * spread).all()


def test_successive_episodes_are_of_several_families_whatever_the_row() -> None:
    for seed in range(4):
        env = gym.make(MIXTURE, horizon=2)
        env.reset(seed=seed)
        assert len({int(env.reset()[0][:3].argmax()) for _ in range(20)}) == 3


def test_the_observation_names_the_kind_and_the_end_tells_what_its_family_tells() -> None:
    env, told = gym.make(MIXTURE, horizon=3).unwrapped, Counter[str]()
    for seed in range(12):
        (first, _), *_, (last, *_, info) = play(env, seed, [np.zeros(1, np.float32)])
        family = env.session.engine.family
        for observation in (first, last):
            columns = dict(zip(env.feature_names, observation, strict=True))
            assert [columns[kind] for kind in KINDS] == [float(kind == f"kind_{family.kind}") for kind in KINDS]
        assert info.keys() >= set(family.final_info_names)
        assert ("greedy_value" in info) == (family.kind == "reinforcement")
        told[family.kind] += 1
    assert len(told) == 3


def test_a_mixture_of_one_family_is_that_family() -> None:
    mixture = gym.make(MIXTURE, families=[{"family": "LinearRegression", "dimension": (3, 9)}], split="test")
    family = gym.make("MetaLearn/LinearRegression-v0", dimension=(3, 9), split="test")
    chosen = actions(family, 0)
    assert same([play(mixture, seed, chosen) for seed in (4, None)], [play(family, seed, chosen) for seed in (4, None)])


@pytest.mark.parametrize("reward", ["log", "linear"])
def test_no_family_drowns_the_others(reward: str) -> None:
    """Returns of the best of a few constant steps are one, on tasks that the unit was not measured on."""
    parts = make_parts(NAMES)
    units = [typical_return(part.family, 50, reward) for part in parts]
    for part, unit in zip(parts, units, strict=True):
        task = draw_tasks(replace(part.family, split="validation"), 1, 64, 50)
        steps = [schedule(np.full(50, multiple)) for multiple in (0.03, 0.1, 0.3, 1.0, 3.0)]
        gaps = np.min([final_log_gap(part.family, task, 50, rule) for rule in steps], axis=0)
        returns = -gaps if reward == "log" else 1.0 - np.exp(gaps)
        assert returns.mean() / unit == pytest.approx(1.0, abs=0.35)
    assert (max(units) / min(units) > 1.5) == (reward == "log")  # else there would be nothing to scale


@pytest.mark.parametrize("strategy", ["dynamic", "constant"])
def test_rewards_are_in_units_of_the_family(strategy: str) -> None:
    env = gym.make(MIXTURE, horizon=6, strategy=strategy).unwrapped
    for seed in range(6):
        (_, start), *steps = play(env, seed, [np.full(1, -0.2, np.float32)])
        family = env.session.engine.family
        unit = typical_return(replace(family, split="train"), 6, "log")
        fall = -np.log(np.clip(steps[-1][-1]["final_gap"] / start["gap"], 1e-12, 1e6))
        assert sum(step[1] for step in steps) * unit == pytest.approx(fall)


def test_the_unit_of_rewards_is_of_the_train_split_and_positive() -> None:
    family = make_family("QLearning")
    assert typical_return(family, 20, "log") == typical_return(replace(family, split="test"), 20, "log")
    assert typical_return(CliffFamily(), 1, "log") >= LEAST_RETURN


def test_rows_of_one_family_have_the_plain_rewards() -> None:
    session = Session(make_family("QLearning"), 3)
    assert (session.reward_unit == 1.0).all()


def test_a_family_of_ones_own_takes_part() -> None:
    env = gym.make_vec(MIXTURE, num_envs=8, families=[f"{__name__}:CliffFamily", CliffFamily, "Clustering"], horizon=4)
    env.reset(seed=0)
    for _ in range(20):
        observation, reward, *_ = env.step(np.zeros((8, 1), np.float32))
        assert observation in env.observation_space
        assert np.isfinite(reward).all()


def test_a_specification_keeps_the_families() -> None:
    entries = ["Clustering", {"family": "QLearning", "states": 5, "branching": 2}]
    env = gym.make(MIXTURE, families=entries, weights=[2, 1], horizon=4)
    spec, chosen = env.spec, actions(env, 0)
    assert spec is not None
    for remade in (spec, pickle.loads(pickle.dumps(spec)), EnvSpec.from_json(spec.to_json())):
        for seed in range(4):
            assert same(play(gym.make(remade), seed, chosen), play(env, seed, chosen))


@pytest.mark.parametrize("copied", [lambda env: pickle.loads(pickle.dumps(env)), copy.deepcopy], ids=["pickle", "copy"])
@pytest.mark.parametrize("steps", [None, 0, 7])
def test_a_copied_batch_goes_on_as_the_original_does(copied: Any, steps: int | None) -> None:
    env, rng = native(MIXTURE, 7, AutoresetMode.SAME_STEP, horizon=(1, 5)), np.random.default_rng(0)
    if steps is not None:
        env.reset(seed=5)
        for _ in range(steps):
            env.step(random_actions(env, rng))
    twin = copied(env)
    if steps is None:
        assert_same(env.reset(seed=5), twin.reset(seed=5))
    for _ in range(25):
        chosen = random_actions(env, rng)
        assert_same(env.step(chosen), twin.step(chosen))


def test_learners_keep_their_place_among_others() -> None:
    """The engine of a mixture is, row by row, the engines of its families."""
    env = gym.make_vec(MIXTURE, num_envs=30, split="test", horizon=20)
    env.reset(seed=1)
    session = env.unwrapped.session
    before = log_gap(session.engine)
    for _ in range(5):
        env.step(np.full((30, 1), -0.05, np.float32))
    assert (log_gap(session.engine) != before).all()
    assert session.engine.t.tolist() == [5] * 30
    singles = [gym.make(MIXTURE, split="test", horizon=20).unwrapped for _ in range(30)]
    for row, env in enumerate(singles):
        env.reset(seed=1 + row)
        engine = env.session.engine
        assert isinstance(engine, Engine)
        assert engine.unit[0] == session.engine.unit[row]


BAD = [
    (ValueError, "families", {"families": []}),
    (ValueError, "families", {"families": "LinearRegression"}),
    (ValueError, "families", {"families": 3}),
    (ValueError, "'Bogus'", {"families": ["Bogus"]}),
    (TypeError, "'bogus'", {"families": [{"family": "Clustering", "bogus": 1}]}),
    (ValueError, "clusters", {"families": [{"family": "Clustering", "clusters": 0}]}),
    (ValueError, "'family'", {"families": [{"clusters": 3}]}),
    (ValueError, "split", {"families": [{"family": "Clustering", "split": "test"}]}),
    (TypeError, "TaskFamily", {"families": [int]}),
    (TypeError, "TaskFamily", {"families": [None]}),
    (TypeError, "dimension", {"dimension": 4}),
    (ValueError, "family='Clustering' and families", {"family": "Clustering"}),
    *((ValueError, "weights", {"weights": weights}) for weights in ([1, 1], [1, 1, 0], [1, -1, 1], "abc", 1, {}, [])),
    *((ValueError, "weights", {"weights": [1, 1, odd]}) for odd in (np.nan, np.inf, "x", True, None)),
]


@pytest.mark.parametrize(("error", "named", "options"), BAD)
def test_what_cannot_be_honoured_is_refused(error: type[Exception], named: str, options: dict[str, Any]) -> None:
    for make in (gym.make, gym.make_vec):
        with pytest.raises(error, match=named):
            make(MIXTURE, **options)


def test_weights_are_of_several_families_only() -> None:
    with pytest.raises(TypeError, match="weights"):
        gym.make("MetaLearn/Clustering-v0", weights=[1])
    with pytest.raises(ValueError, match="families"):
        gym.make("MetaLearn/Clustering-v0", families=["QLearning"])
