"""The single environment: what Gymnasium and Stable-Baselines3 require, and what `StepSizeEnv` promises."""

from __future__ import annotations

import copy
import hashlib
import importlib
import pickle
from dataclasses import dataclass
from itertools import product
from types import SimpleNamespace
from typing import Any, NamedTuple, final, get_args

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env

import metalearn_env
from metalearn_env import TaskFamily
from metalearn_env.actions import FACTORS, RITZ, SPREADS, Action, ActionMap, Strategy
from metalearn_env.driving import driven
from metalearn_env.engine import Engine
from metalearn_env.envs import StepSizeEnv
from metalearn_env.families import make_family
from metalearn_env.family import Array
from metalearn_env.observations import NUM_STATIC, Observation, Observer, feature_names
from metalearn_env.pool import draw_tasks
from metalearn_env.rewards import Reward, potential
from metalearn_env.rules.schedules import schedule
from metalearn_env.scoring import final_log_gap

KEYS = ("action", "strategy", "observation", "reward")
CHOICES = tuple(get_args(choice) for choice in (Action, Strategy, Observation, Reward))
OPTIONS = [dict(zip(KEYS, values, strict=True)) for values in product(*CHOICES)]
every_option = pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options.values()))
# every form of observation, and every reward, with every action and strategy
every_form = pytest.mark.parametrize(
    "options",
    [options for options in OPTIONS if (options["observation"] == "flat") == (options["reward"] == "log")],
    ids=lambda options: "-".join(options.values()),
)
every_action = pytest.mark.parametrize(
    "options",
    [dict(zip(KEYS[:2], values, strict=True)) for values in product(*CHOICES[:2])],
    ids=lambda options: "-".join(options.values()),
)

REGRESSION = "MetaLearn/LinearRegression-v0"
INFO = {"loss", "signal", "step_size", "gap"}
STOP = 10_000


def same(one: Any, other: Any) -> bool:
    """Whether two observations, or two (nested) records of an episode, are the same bits."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return np.array_equal(one, other, equal_nan=True)


def actions(env: gym.Env, seed: int, n: int = 60) -> list[Any]:
    env.action_space.seed(seed)
    return [env.action_space.sample() for _ in range(n)]


def extreme(env: gym.Env, which: str) -> list[Any]:
    """Return actions at one end of their space, jumping between its ends, or drawn."""
    space = env.action_space
    if isinstance(space, gym.spaces.Box):
        low, high = space.low, space.high
    elif isinstance(space, gym.spaces.Discrete):
        low, high = np.int64(0), space.n - 1
    else:
        low, high = np.zeros_like(space.nvec), space.nvec - 1
    return {"lowest": [low], "highest": [high], "bouncing": [high, low], "random": actions(env, 0)}[which]


def play(env: gym.Env, seed: int | None, chosen: list[Any]) -> list[Any]:
    """Return all that an episode gives: reset, then every step, the chosen actions over and over."""
    record: list[Any] = [env.reset(seed=seed)]
    for index in range(STOP):
        record.append(env.step(chosen[index % len(chosen)]))
        if record[-1][2] or record[-1][3]:
            return record
    raise AssertionError("the episode does not end")


def digest(record: list[Any]) -> str:
    """Return a hash of what an episode gave, down to the last bit."""
    parts = [repr(sorted(info.items())).encode() + np.asarray(obs).tobytes() for obs, *_, info in record]
    return hashlib.sha256(b"".join(parts)).hexdigest()


# What the checkers of the two libraries say


@every_option
def test_gymnasium_finds_no_fault(env_id: str, options: dict[str, str]) -> None:
    check_env(gym.make(env_id, **options).unwrapped, skip_render_check=True)


@every_option
def test_stable_baselines3_finds_no_fault(env_id: str, options: dict[str, str]) -> None:
    sb3 = pytest.importorskip("stable_baselines3.common.env_checker")
    sb3.check_env(gym.make(env_id, **options), skip_render_check=True)


# What reset and step return


@every_option
def test_types_and_keys(env_id: str, options: dict[str, str]) -> None:
    env = gym.make(env_id, horizon=5, **options).unwrapped
    (first, first_info), *steps = play(env, 0, actions(env, 0))
    for observation in (first, *(step[0] for step in steps)):
        columns = list(observation.values()) if isinstance(observation, dict) else [observation]
        assert all(column.dtype == np.float32 and column.ndim == 1 for column in columns)
        assert sum(map(len, columns)) == len(env.feature_names)
    assert first_info.keys() == INFO
    for _, reward, terminated, truncated, info in steps:
        assert (type(reward), type(terminated), type(truncated)) == (float, bool, bool)
        assert info.keys() == (
            INFO | {"final_gap", *env.session.engine.family.final_info_names} if terminated else INFO
        )
        assert all(type(value) is float for value in info.values())
    assert steps[-1][-1]["final_gap"] == steps[-1][-1]["gap"]


@pytest.mark.parametrize("which", ["lowest", "highest", "bouncing", "random"])
@every_form
def test_observations_stay_in_their_space_and_rewards_add_up(env_id: str, options: dict[str, str], which: str) -> None:
    """To the whole improvement."""
    env = gym.make(env_id, horizon=15, disable_env_checker=True, **options)
    for seed in range(3):
        (first, start), *steps = play(env, seed, extreme(env, which))
        assert all(observation in env.observation_space for observation in (first, *(step[0] for step in steps)))
        ratio = steps[-1][-1]["final_gap"] / start["gap"]
        whole = -np.log(np.clip(ratio, 1e-12, 1e6)) if options["reward"] == "log" else 1.0 - np.clip(ratio, 0.0, 10.0)
        rewards = sum(step[1] for step in steps) * env.unwrapped.session.reward_unit[0]
        assert rewards == pytest.approx(whole, rel=1e-9, abs=1e-9)


@every_action
def test_an_episode_ends_at_the_horizon_or_by_divergence(env_id: str, options: dict[str, str]) -> None:
    env = gym.make(env_id, horizon=12, history=0, disable_env_checker=True, **options)
    ends = set()
    for seed, which in product(range(4), ("lowest", "highest")):
        (_, start), *steps = play(env, seed, extreme(env, which))
        assert not any(step[3] for step in steps)
        assert [step[2] for step in steps] == [False] * (len(steps) - 1) + [True]
        last, _, _, _, info = steps[-1]
        progress = last[env.unwrapped.feature_names.index("progress")]
        diverged = not info["final_gap"] <= 1e6 * start["gap"]
        assert diverged or progress == 1.0
        assert len(steps) == (round(12 * progress) if options["strategy"] == "dynamic" else 1)
        ends.add(bool(diverged))
    assert False in ends


@pytest.mark.parametrize("reward", ["log", "linear"])
@pytest.mark.parametrize(("which", "shares"), [("lowest", (0.1, 0.5)), ("random", (0.2, 1.0))])
def test_an_interval_is_so_many_steps_of_one_size(env_id: str, reward: str, which: str, shares: Any) -> None:
    """Rewards are of the whole stretch; runs that diverge end within one."""
    options = {"horizon": 11, "reward": reward, "action": "absolute", "disable_env_checker": True}
    long, short = gym.make(env_id, interval=4, **options), gym.make(env_id, **options)
    for seed in range(4):
        assert same(long.reset(seed=seed), short.reset(seed=seed))
        rng, ended, taken = np.random.default_rng(seed), False, 0
        while not ended:
            low, high = shares
            action = np.array([-high if which == "lowest" else rng.uniform(low, high)], np.float32)
            _, reward_of_all, ended, _, told = long.step(action)
            of_each, over = [], False
            while len(of_each) < 4 and not over:
                _, one, over, _, info = short.step(action)
                of_each.append(one)
            taken += len(of_each)
            assert over == ended
            assert same(told, info)
            assert reward_of_all == pytest.approx(sum(of_each), rel=1e-9, abs=1e-12)
        assert long.unwrapped.session.engine.t[0] == taken <= 11


@pytest.mark.parametrize(("opening", "ends"), [(0, [3, 6, 7]), (2, [1, 2, 5, 7])])
def test_what_is_observed_is_what_changed_between_decisions(opening: int, ends: list[int]) -> None:
    env = gym.make(REGRESSION, interval=3, opening=opening, horizon=7, history=2, batch_size=4)
    env.reset(seed=1)
    engine, names = env.unwrapped.session.engine, env.unwrapped.feature_names
    for end, action in zip(ends, [-0.1, 0.05, -0.2, 0.1], strict=False):
        before = engine.direction[0].copy(), engine.signal[0], engine.step_size[0]
        observation = env.step(np.array([action], np.float32))[0]
        d, d_before = engine.direction[0], before[0]
        expected = {
            "progress": end / 7,
            "signal_ratio[-1]": np.log(engine.signal[0] / before[1]),
            "step_ratio[-1]": np.log(100.0) * action,
            "norm_ratio[-1]": 0.5 * np.log(d @ d / (d_before @ d_before)),
            "cosine[-1]": d @ d_before / np.sqrt((d @ d) * (d_before @ d_before)),
            "curvature[-1]": np.log(max(1.0 - d @ d_before / (d_before @ d_before), 1e-300)),
        }
        for name, value in expected.items():
            assert observation[names.index(name)] == pytest.approx(np.clip(value, -5.0, 5.0), rel=1e-5), name
    assert engine.t[0] == 7


def test_what_is_observed_may_be_means_over_the_steps_between_decisions() -> None:
    env = gym.make(REGRESSION, interval=3, averaged=True, horizon=7, history=2, batch_size=4)
    env.reset(seed=1)
    engine, names = env.unwrapped.session.engine, env.unwrapped.feature_names
    twin = Engine.start(engine.family, type(engine.task)(*map(np.copy, engine.task)), 7)
    first = signal, squared = twin.signal[0], twin.squared_norm[0]
    for steps, action in ((3, -0.1), (3, 0.05), (1, -0.2)):
        observation, _, _, _, info = env.step(np.array([action], np.float32))
        told = []
        for _ in range(steps):
            twin.advance(np.array([info["step_size"]]))
            told.append([twin.signal[0], twin.squared_norm[0], twin.previous_squared_norm[0], twin.alignment[0]])
        before, (signal, squared, square_before, alignment) = (signal, squared), np.mean(told, axis=0)
        expected = {
            "log10_signal": np.log10(signal / first[0]),
            "log10_norm": 0.5 * np.log10(squared / first[1]),
            "signal_ratio[-1]": np.log(signal / before[0]),
            "step_ratio[-1]": np.log(100.0) * action,
            "norm_ratio[-1]": 0.5 * np.log(squared / before[1]),
            "cosine[-1]": alignment / np.sqrt(squared * square_before),
            "curvature[-1]": np.log(max(1.0 - alignment / square_before, 1e-300)),
        }
        for name, value in expected.items():
            low, high = (-1.0, 1.0) if name == "cosine[-1]" else (-5.0, 5.0)
            assert observation[names.index(name)] == pytest.approx(np.clip(value, low, high), rel=1e-5), name
    assert engine.t[0] == 7


@pytest.mark.parametrize("options", [{}, {"ritz": 3}, {"interval": 2, "averaged": True}])
@pytest.mark.parametrize("resolution", [1.0, 2.0**-5, 2.0**-20])
def test_what_is_observed_of_the_past_may_be_rounded(options: dict[str, Any], resolution: float) -> None:
    env, plain = (gym.make(REGRESSION, **options, **more) for more in ({"resolution": resolution}, {}))
    seen, twin = env.reset(seed=1)[0], plain.reset(seed=1)[0]
    rng, ended, known = np.random.default_rng(0), False, NUM_STATIC  # of task and progress
    while not ended:
        assert np.array_equal(seen[:known], twin[:known])
        assert np.array_equal(seen[known:], np.rint(twin[known:] / resolution) * resolution)
        assert env.observation_space.contains(seen)
        action = rng.uniform(-0.3, 0.4, 1).astype(np.float32)
        (seen, *_), (twin, _, ended, *_) = env.step(action), plain.step(action)


@pytest.mark.parametrize("options", [{}, {"interval": 2}, {"interval": 3, "opening": 2, "averaged": True}])
def test_what_is_observed_may_be_ritz_values(options: dict[str, Any]) -> None:
    """They are the eigenvalues of the Hessian in the space of the last directions but the newest one."""
    last, rng, tasks = 3, np.random.default_rng(0), {"dimension": 6, "conditioning": 20, "horizon": 9}
    env, plain = (gym.make(REGRESSION, **tasks, **options, **more) for more in ({"ritz": last}, {}))
    observation, _ = env.reset(seed=1)
    twin, _ = plain.reset(seed=1)
    assert env.unwrapped.feature_names[:-10] == plain.unwrapped.feature_names
    assert observation.tolist() == [*twin.tolist(), *10 * (0.0,)]
    engine, names = env.unwrapped.session.engine, env.unwrapped.feature_names
    descent = [engine.family.direction(engine.task, engine.task.optimum - unit, engine.t)[0] for unit in np.eye(6)]
    hessian, gradients, ended = np.stack(descent), [engine.direction[0].copy()], False
    while not ended:
        action = rng.uniform(-0.3, 0.3, 1).astype(np.float32)
        observation, _, ended, _, info = env.step(action)
        assert np.array_equal(observation[:-10], plain.step(action)[0])
        while len(gradients) <= engine.t[0]:
            gradients.append(gradients[-1] - info["step_size"] * hessian @ gradients[-1])
        basis = np.linalg.qr(np.stack(gradients[-last - 1 : -1], axis=1))[0]
        value, vector = np.linalg.eigh(basis.T @ hessian @ basis)
        share = np.square(vector.T @ basis.T @ gradients[-1]) / np.square(gradients[-1]).sum()
        steps = np.log(1.0 / value / info["step_size"])
        for power in range(RITZ):
            most = (share * value**power).argmax()
            told = [observation[names.index(f"ritz_{what}[{power}]")] for what in ("step", "share")]
            assert told == pytest.approx([steps[most], np.log(share[most])], abs=5e-3)
        ends = observation[names.index("ritz_longest")], observation[names.index("ritz_shortest")]
        assert ends == pytest.approx((steps.max(), steps.min()), abs=5e-3)


def test_what_is_observed_is_bounded_whatever_is_told() -> None:
    family, observer = make_family("LinearRegression", dimension=4), Observer(2, 1, ritz=3)
    engine = Engine.start(family, draw_tasks(family, 0, 2, 5), 5)
    observer.begin_as("supervised", np.array([[1e3, -1e3], [0.5, 0.5]]), engine, np.arange(2))
    engine.advance(engine.unit)
    observer.update(engine, np.full((2, 10), 1e3))
    told = dict(zip(feature_names(1, 3), observer.observation()[0], strict=True))
    assert (told["descriptor_0"], told["descriptor_1"], told["ritz_longest"]) == (10.0, -10.0, 10.0)


@pytest.mark.parametrize("power", range(RITZ))
def test_the_inverse_ritz_values_solve_a_quadratic(power: int) -> None:
    """Of three eigenvalues: after three steps all are known, and three more, each of them once, end at the optimum."""
    options = {"dimension": 3, "conditioning": 30, "spectrum": "log-uniform", "horizon": 8, "noise": 0}
    env = gym.make(REGRESSION, action="discrete", ritz=4, **options)
    assert env.action_space == gym.spaces.Discrete(len(FACTORS) + RITZ)
    env.reset(seed=2)
    same = FACTORS.index(1.0)
    for action in (same, same, same, *3 * [len(FACTORS) + power]):
        observation, *_, info = env.step(action)
    engine = env.unwrapped.session.engine
    assert engine.gap_ratio[0] < 1e-12
    assert info["step_size"] > 0.0
    assert np.isfinite(observation).all()
    with pytest.raises(ValueError, match="a discrete action is at least 0 and below"):
        env.step(len(FACTORS) + RITZ)


@pytest.mark.parametrize("power", range(RITZ))
def test_an_inverse_ritz_value_is_taken_once_and_the_shortest_is_held(power: int) -> None:
    """Of as many eigenvalues as steps were taken, the inverses of one, and then twice that of the largest."""
    options = {"dimension": 3, "conditioning": 30, "spectrum": "log-uniform", "horizon": 12, "noise": 0}
    env = gym.make(REGRESSION, action="discrete", ritz=4, interval=3, opening=4, render_mode="ansi", **options)
    env.reset(seed=2)
    same, ritz = FACTORS.index(1.0), len(FACTORS) + power
    for action in (same, same, same, ritz, ritz, same):
        env.step(action)
    session = env.unwrapped.session
    family, task = session.engine.family, session.engine.task
    hessian = np.stack([family.direction(task, task.optimum - unit, 0)[0] for unit in np.eye(3)])
    inverses = 1.0 / np.linalg.eigvalsh(hessian)
    taken = session.trace.step_size[0, 1:]
    chosen = [np.abs(step / inverses - 1.0).argmin() for step in taken[3:7]]
    assert taken[3:7] == pytest.approx(inverses[chosen], rel=1e-4)
    assert chosen[2:] == [2, 2]
    assert taken[7:10] == pytest.approx(taken[6], rel=1e-12)


@pytest.mark.parametrize(
    ("interval", "opening", "averaged"), [(1, 0, False), (3, 0, False), (4, 3, True), (5, 5, True)]
)
@pytest.mark.parametrize("name", ["LinearRegression", "Clustering", "QLearning"])
def test_steps_of_given_choices_are_those_of_a_driver(name: str, interval: int, opening: int, averaged: bool) -> None:
    """Ritz steps and factors in turn, of horizons that end within an interval."""
    options = {"action": "discrete", "interval": interval, "opening": opening, "averaged": averaged, "ritz": 4}
    header = {**options, "strategy": "dynamic", "history": 2, "feature_names": feature_names(2, 4)}
    chosen = np.random.default_rng(0).integers(3, len(FACTORS) + RITZ, 40)
    env = gym.make(f"MetaLearn/{name}-v0", horizon=17, history=2, render_mode="ansi", **options)
    env.reset(seed=3)
    session = env.unwrapped.session
    engine = Engine.start(session.engine.family, session.engine.task._make(map(np.copy, session.engine.task)), 17)
    asked, steps = iter(chosen), []
    for _, step in zip(range(17), driven(lambda _: np.array([next(asked)]), header, engine), strict=False):
        engine.advance_only(~engine.ended, step)
        steps.append(float(step[0]))
    asked, ended = iter(chosen), False
    while not ended:
        ended = env.step(next(asked))[2]
    inside = session.trace.step_size[0, 1 : session.engine.t[0] + 1]
    assert inside.tolist() == steps[: len(inside)]
    assert len(set(inside)) > 3


def test_what_is_held_after_a_ritz_step_is_within_the_bounds_of_all_steps() -> None:
    family = make_family("LinearRegression")
    fresh, actions = Engine.start(family, draw_tasks(family, 0, 3, 5), 5), ActionMap(3, "discrete", interval=2, ritz=4)
    actions.begin(fresh, np.arange(3))
    ritz = np.full((3, RITZ + 1), 1.0) * fresh.unit[:, None]
    ritz[:, -1] = (1e-20, 1.0, 1e20) * fresh.unit
    step = actions.step_size(np.array([[len(FACTORS)], [3], [len(FACTORS)]]), fresh, ritz)
    assert step / fresh.unit == pytest.approx(np.ones(3))
    assert actions.switched() / fresh.unit == pytest.approx([1e-6, 1.0, 1e6])


def test_without_a_step_taken_the_inverse_ritz_values_are_the_first_step() -> None:
    for action in range(len(FACTORS), len(FACTORS) + RITZ):
        env = gym.make(REGRESSION, action="discrete", ritz=4)
        _, before = env.reset(seed=0)
        assert env.step(action)[-1]["step_size"] == before["step_size"]


def test_the_first_step_moves(env_id: str) -> None:
    env = gym.make(env_id, split="test")
    for seed in range(5):
        _, before = env.reset(seed=seed)
        observation, _, _, _, after = env.step(np.zeros(1, np.float32))
        assert after["loss"] != before["loss"]
        assert after["step_size"] == before["step_size"] > 0.0
        assert observation[env.unwrapped.feature_names.index("norm_ratio[-1]")] != 0.0


def first_steps(split: str, **options: Any) -> np.ndarray:
    """Return log10 of the first steps in units, (64,), as the environment has them and as it shows them."""
    envs = gym.make_vec("MetaLearn/Mixture-v0", num_envs=64, split=split, **options)
    observations, _ = envs.reset(seed=0)
    engine = envs.unwrapped.session.engine
    decades = np.log10(engine.step_size / engine.unit)
    shown = observations[:, envs.unwrapped.feature_names.index("log10_step")]
    assert shown == pytest.approx(decades, abs=1e-6)
    return decades


def test_first_steps_are_the_unit_unless_they_are_to_vary() -> None:
    assert not first_steps("train").any()
    assert not first_steps("test", first_step_decades=2).any()
    varied = first_steps("train", first_step_decades=(1, 2))
    assert ((np.abs(varied) >= 1) & (np.abs(varied) <= 2)).all()
    assert (varied > 0).any()
    assert (varied < 0).any()


@pytest.mark.parametrize("decades", [-1, 6, "2", (2, 1)])
def test_first_steps_that_cannot_be_are_refused(decades: Any) -> None:
    with pytest.raises(ValueError, match="first_step_decades is a number of decades from 0 to 5"):
        gym.make("MetaLearn/Mixture-v0", first_step_decades=decades)


@pytest.mark.parametrize("strategy", ["constant", "random"])
def test_what_is_decided_once_has_no_first_step_to_vary(strategy: str) -> None:
    with pytest.raises(ValueError, match="no first step to vary"):
        gym.make("MetaLearn/Mixture-v0", strategy=strategy, first_step_decades=1)


# Divergence to what is not a number, which only some families know


class Cliff(NamedTuple):
    depth: Array  # (n,)


@final
@dataclass(frozen=True, eq=False, kw_only=True)
class CliffFamily(TaskFamily[Cliff]):
    """The loss falls along a line, until it is ``beyond`` at 2."""

    kind = "supervised"
    descriptor_names = ()
    beyond: float = np.nan
    num_parameters = 1

    def sample(self, rng: np.random.Generator, n: int, horizon: int) -> Cliff:
        return Cliff(rng.uniform(3.0, 4.0, n))

    def start(self, task: Cliff) -> Array:
        return np.zeros((len(task.depth), 1))

    def loss(self, task: Cliff, theta: Array) -> Array:
        return np.where(theta[:, 0] > 2.0, self.beyond, task.depth - theta[:, 0])

    def direction(self, task: Cliff, theta: Array, t: Any) -> Array:
        return np.ones_like(theta)

    def descriptor(self, task: Cliff) -> Array:
        return np.zeros((len(task.depth), 0))

    def reference_loss(self, task: Cliff) -> Array:
        return np.zeros(len(task.depth))


@pytest.mark.parametrize("beyond", [np.nan, np.inf])
@pytest.mark.parametrize(("reward", "fall"), [("log", -np.log(1e6)), ("linear", 1.0 - 10.0)])
@pytest.mark.parametrize("strategy", ["dynamic", "constant"])
def test_a_gap_that_is_not_a_number_is_the_worst(beyond: float, reward: str, fall: float, strategy: str) -> None:
    env = StepSizeEnv(CliffFamily, beyond=beyond, split="test", reward=reward, strategy=strategy, action="absolute")
    _, *steps = play(env, 0, [np.log([1.5]) / np.log(1000.0)])  # steps of 1.5
    assert len(steps) == (2 if strategy == "dynamic" else 1)
    assert sum(step[1] for step in steps) == pytest.approx(fall)
    assert steps[-1][0] in env.observation_space
    assert steps[-1][0][env.feature_names.index("progress")] == np.float32(2 / 50)  # it stops there
    family = CliffFamily(beyond=beyond, split="test")
    scored = final_log_gap(family, family.sample(np.random.default_rng(0), 3, 5), 5, schedule(np.full(5, 1.5)))
    assert scored == pytest.approx(np.log(1e6))


def test_the_linear_reward_is_of_no_gap_below_0() -> None:
    below = SimpleNamespace(gap_ratio=np.array([-0.5, 0.5, 20.0]))
    assert potential(below, "linear").tolist() == [0.0, 0.5, 10.0]


# Seeds


@every_action
def test_a_seed_decides_all_that_follows(env_id: str, options: dict[str, str]) -> None:
    env, other = (gym.make(env_id, horizon=(3, 8), **options) for _ in range(2))
    chosen = actions(env, 0)
    twice = [[play(env, seed, chosen) for seed in (1, None, None)] for _ in range(2)]
    assert same(twice[0], twice[1])
    assert same(twice[0], [play(other, seed, chosen) for seed in (1, None, None)])
    assert not same(twice[0][0], twice[0][1])
    assert not same(twice[0][0], play(other, 2, chosen))


def test_the_global_generator_is_left_alone(env_id: str) -> None:
    env = gym.make(env_id, strategy="random")
    np.random.seed(0)  # noqa: NPY002  (it is this one)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    play(env, 3, actions(env, 0))
    play(env, None, actions(env, 0))
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_splits_are_different_streams(env_id: str) -> None:
    starts = [gym.make(env_id, split=split).reset(seed=0)[1]["loss"] for split in ("train", "validation", "test")]
    assert len(set(starts)) == 3


ELSEWHERE = """
import gymnasium as gym, sys
sys.path.insert(0, {folder!r})
from test_envs import digest, play, actions
for env_id in {ids}:
    env = gym.make("metalearn_env:" + env_id, strategy="random", horizon=(3, 8))
    print(digest(play(env, 7, actions(env, 0)) + play(env, None, actions(env, 1))))
"""


def test_another_process_meets_the_same_episode(run_python: Any, request: pytest.FixtureRequest) -> None:
    ids = sorted(env_id for env_id, spec in gym.registry.items() if spec.namespace == "MetaLearn")
    here = []
    for env_id in ids:
        env = gym.make(env_id, strategy="random", horizon=(3, 8))
        here.append(digest(play(env, 7, actions(env, 0)) + play(env, None, actions(env, 1))))
    code = ELSEWHERE.format(folder=str(request.path.parent), ids=ids)
    assert [run_python(code, PYTHONHASHSEED=seed).split() for seed in "12"] == [here, here]


# Registration, specifications, keywords


def test_the_module_prefix_registers(run_python: Any, env_id: str) -> None:
    code = f"import gymnasium as gym; print(gym.make('metalearn_env:{env_id}').reset(seed=0)[1]['loss'])"
    assert float(run_python(code)) == gym.make(env_id).reset(seed=0)[1]["loss"]


def test_reloading_does_not_warn() -> None:
    before = {env_id for env_id in gym.registry if env_id.startswith("MetaLearn/")}
    importlib.reload(metalearn_env)
    assert {env_id for env_id in gym.registry if env_id.startswith("MetaLearn/")} == before


def test_a_specification_makes_the_same_environment(env_id: str) -> None:
    env = gym.make(env_id, horizon=(3, 8), action="discrete", observation="dict", split="validation")
    spec, chosen = env.spec, actions(env, 0)
    assert spec is not None
    assert spec.max_episode_steps is None
    for remade in (spec, pickle.loads(pickle.dumps(spec)), EnvSpec.from_json(spec.to_json())):
        assert same(play(gym.make(remade), 5, chosen), play(env, 5, chosen))


@pytest.mark.parametrize("keyword", ["bogus", "trace", "n", "num_envs", "autoreset_mode"])
def test_an_unknown_keyword_is_refused(env_id: str, keyword: str) -> None:
    with pytest.raises(TypeError, match=keyword):
        gym.make(env_id, **{keyword: True})


BAD_FOR_ALL = [
    ("split", "dev"),
    *product(["horizon"], [0, -1, 1.5, (5, 2), (1, 2, 3), "x", None, True, float("nan"), float("inf"), (0, 3)]),
    *product(["history"], [-1, 1.5, "x", None, (1, 2), 10_001, 10**9]),
    *product(["interval"], [0, -2, 1.5, True, "2", None, (1, 2)]),
    *product(["opening"], [-1, 1.5, True, "2", None, (1, 2)]),
    *product(["ritz"], [-1, 1.5, True, "2", None, (1, 2)]),
    *product(["averaged"], [1, "yes", None, True]),  # True: there is no interval
    *product(["resolution"], [-0.5, 0.3, 2, 2.0**-21, True, "0.5", None, float("nan"), float("inf")]),
    *product(["action", "strategy", "observation", "reward"], ["bogus", 3, None]),
]


@pytest.mark.parametrize(("option", "value"), BAD_FOR_ALL)
def test_an_option_that_cannot_be_honoured_is_refused(env_id: str, option: str, value: Any) -> None:
    with pytest.raises(ValueError, match=option):
        gym.make(env_id, **{option: value})


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({}, "with an interval of 1 every step is decided on"),
        ({"interval": 1}, "with an interval of 1 every step is decided on"),
        ({"strategy": "constant"}, "constant steps are decided once, for the whole episode"),
    ],
)
def test_there_is_no_opening_without_intervals(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=f"{why}: opening is 0, not 3"):
        gym.make(REGRESSION, opening=3, **options)
    with pytest.raises(ValueError, match="there is nothing to take means of: averaged is False, not True"):
        gym.make(REGRESSION, averaged=True, **options)
    gym.make(REGRESSION, opening=0, averaged=False, **options)


@pytest.mark.parametrize("strategy", ["constant", "random"])
def test_what_is_decided_once_has_no_interval(strategy: str) -> None:
    with pytest.raises(ValueError, match=f"{strategy} steps are decided once, .*: interval is 1, not 4"):
        gym.make(REGRESSION, strategy=strategy, interval=4)
    gym.make(REGRESSION, strategy=strategy, interval=1)
    with pytest.raises(
        ValueError, match=f"{strategy} steps are decided once, and see no Ritz values: ritz is 0, not 4"
    ):
        gym.make(REGRESSION, strategy=strategy, ritz=4)
    gym.make(REGRESSION, strategy=strategy, ritz=0)


@pytest.mark.parametrize("mode", ["depth_array", "bogus", 3])
def test_an_unknown_render_mode_is_refused(env_id: str, mode: Any) -> None:
    with pytest.raises(ValueError, match="render_mode"):
        StepSizeEnv(**gym.spec(env_id).kwargs, render_mode=mode)


DATA = np.random.default_rng(0).normal(size=(40, 3))
WITH_NAN = DATA.copy()
WITH_NAN[3, 1] = np.nan

BAD_FOR_REGRESSION = [
    ("spectrum", {"spectrum": "flat"}),
    *(("batch_size", {"batch_size": value}) for value in (0, -1, 1.5, "x")),
    *(("dimension", {"dimension": value}) for value in (0, 1.5, (8, 4), "x", (1, float("inf")))),
    *(("conditioning", {"conditioning": value}) for value in (0.9, (0.5, 10), float("inf"), "x")),
    *(("examples_per_parameter", {"examples_per_parameter": value}) for value in (0.9, 0, (2, 1))),
    *(("noise", {"noise": value}) for value in (-1, (0, 1), "x")),
    *(("scale", {"scale": value}) for value in (-1, float("nan"), "x")),
    ("conditioning", {"spectrum": "gaussian", "conditioning": 10}),
    ("dataset", {"dataset": "iris"}),
    ("dataset", {"dataset": 3}),
    ("dataset", {"dataset": (DATA,)}),
    ("dataset", {"dataset": (DATA[:1], [1.0])}),
    ("dataset", {"dataset": (DATA, np.zeros(39))}),
    ("dataset", {"dataset": (DATA[:, 0], np.zeros(40))}),
    ("row 3", {"dataset": (WITH_NAN, np.zeros(40))}),
    ("row 3", {"dataset": (DATA, WITH_NAN[:, 1])}),
    ("split", {"dataset": (DATA[:4], np.zeros(4)), "split": "test"}),
    ("dimension", {"dataset": (DATA, np.arange(40.0)), "dimension": 4}),
    ("constant", {"dataset": (DATA, np.ones(40))}),
    ("scale", {"scale": (3, 1)}),
    ("scale", {"scale": 400}),
    (r"horizon is at most 9.22", {"horizon": 2**63}),
    ("examples_per_parameter", {"dataset": (DATA, np.arange(40.0)), "examples_per_parameter": (50, 100)}),
    ("real numbers", {"dataset": (DATA.astype(complex), np.arange(40.0))}),
    ("real numbers", {"dataset": (DATA, ["a"] * 40)}),
    ("finite, at most", {"dataset": (DATA * 1e300, np.arange(40.0))}),
    ("spectrum", {"dataset": (DATA, np.zeros(40)), "spectrum": "gaussian"}),
    ("conditioning", {"dataset": (DATA, np.zeros(40)), "conditioning": 10}),
    ("noise", {"dataset": (DATA, np.zeros(40)), "noise": 0.1}),
]


@pytest.mark.parametrize(("named", "options"), BAD_FOR_REGRESSION)
def test_an_option_of_regression_that_cannot_be_honoured_is_refused(named: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=named):
        gym.make(REGRESSION, **options)


@pytest.mark.parametrize("name", ["diabetes", "linnerud"])
@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_bundled_data_can_be_played(name: str, split: str) -> None:
    pytest.importorskip("sklearn")
    env = gym.make(REGRESSION, dataset=name, split=split, batch_size=2, horizon=5)
    for seed in range(5):
        play(env, seed, extreme(env, "lowest"))


def test_a_family_of_ones_own_by_class_and_by_path() -> None:
    by_class = StepSizeEnv(CliffFamily, split="test")
    by_path = gym.make(REGRESSION, family=f"{__name__}:CliffFamily", split="test")
    assert by_class.reset(seed=0)[1] == by_path.reset(seed=0)[1]


@pytest.mark.parametrize(
    ("family", "error"),
    [("Nothing", ValueError), ("no.such:Thing", ValueError), ("json:loads", TypeError), (dict, TypeError)],
)
def test_what_is_not_a_family_is_refused(family: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"family|TaskFamily"):
        gym.make(REGRESSION, family=family)


# Actions that are refused, and those that are clipped


def test_a_step_outside_an_episode_is_refused(env_id: str) -> None:
    env = gym.make(env_id, horizon=2).unwrapped
    with pytest.raises(gym.error.ResetNeeded):
        env.step(env.action_space.sample())
    record = play(env, 0, actions(env, 0))
    with pytest.raises(gym.error.ResetNeeded):
        env.step(env.action_space.sample())
    assert same(play(env, 0, actions(env, 0)), record)


def test_reset_has_no_options(env_id: str) -> None:
    with pytest.raises(ValueError, match="start"):
        gym.make(env_id).reset(options={"start": 3})


NAN, INF = float("nan"), float("inf")
BAD_ACTIONS = [
    *(({}, value, named) for value, named in (([NAN], "nan"), ([INF], "inf"), ([-INF], "-inf"))),
    *(({}, value, "shape") for value in ([0.0, 0.0], [], 0.5, [[0.5]])),
    *(({}, value, "type") for value in (["up"], None, [True], [1j])),
    ({"strategy": "random"}, [0.0], "shape"),
    ({"strategy": "random"}, [0.0, NAN], "nan"),
    *(({"action": "discrete"}, value, "-1|7") for value in (7, -1)),
    *(({"action": "discrete"}, value, "type") for value in (0.5, NAN, None, True, "2")),
    ({"action": "discrete"}, [1, 2], "shape"),
    ({"action": "discrete", "strategy": "random"}, [1, 4], "4"),
    ({"action": "discrete", "strategy": "random"}, 1, "shape"),
    ({"action": "discrete", "strategy": "random"}, [1.0, 1.0], "type"),
]


@pytest.mark.parametrize(("options", "action", "named"), BAD_ACTIONS)
def test_a_bad_action_is_refused_and_changes_nothing(
    env_id: str, options: dict[str, str], action: Any, named: str
) -> None:
    env, twin = (gym.make(env_id, **options).unwrapped for _ in range(2))
    chosen = actions(env, 0)
    for one in (env, twin):
        one.reset(seed=4)
        if "strategy" not in options:
            one.step(chosen[0])
    with pytest.raises(ValueError, match="action") as refusal:
        env.step(action if action is None else np.array(action))
    assert any(part in str(refusal.value) for part in named.split("|"))
    assert same(env.step(chosen[1]), twin.step(chosen[1]))


@pytest.mark.parametrize(("action", "clipped"), [(5.0, 1.0), (-3.0, -1.0), (1e300, 1.0), (-1.0000001, -1.0), (2, 1.0)])
@pytest.mark.parametrize("kind", ["relative", "absolute"])
def test_a_number_beyond_the_box_is_clipped(env_id: str, kind: str, action: float, clipped: float) -> None:
    env, twin = (gym.make(env_id, action=kind).unwrapped for _ in range(2))
    env.reset(seed=4), twin.reset(seed=4)
    assert same(env.step(np.array([action])), twin.step(np.array([clipped], np.float32)))


def test_step_sizes_are_what_the_table_of_actions_says(env_id: str) -> None:
    def steps(chosen: list[Any], **options: str) -> list[float]:
        """Return step sizes in units."""
        env = gym.make(env_id, split="test", **options).unwrapped
        _, start = env.reset(seed=0)
        return [env.step(action)[-1]["step_size"] / start["step_size"] for action in chosen]

    box = [np.array([value]) for value in (-0.5, 0.25, -1.0)]
    assert steps(box) == pytest.approx([100**-0.5, 100**-0.25, 100**-1.25])
    assert steps(box, action="absolute") == pytest.approx([1000**-0.5, 1000**0.25, 1000**-1])
    assert steps([0, 1, 2, 3], action="discrete") == pytest.approx([0.5, 0.5 * 0.707, *[0.5 * 0.707 * 0.9] * 2])
    assert steps([np.array([-1.0])] * 9)[-1] == pytest.approx(1e-6)
    assert steps([np.array([-0.5])], strategy="constant") == pytest.approx([100**-0.5])
    still = np.array([-0.5, -1.0])  # no spread
    assert steps([still], strategy="random") == pytest.approx([100**-0.5])


def test_the_spread_of_random_steps_is_what_was_asked_for(env_id: str) -> None:
    env = gym.make(env_id, strategy="random", split="test", horizon=1).unwrapped
    env.reset(seed=0)
    inverse = []
    for _ in range(400):
        _, start = env.reset()
        inverse.append(0.1 * start["step_size"] / env.step(np.array([-0.5, 0.0]))[-1]["step_size"])
    width = (10.0 - 1.0) / (10.0 + 1.0)  # one decade from the shortest to the longest
    uniform = np.arccos((np.array(inverse) - 1.0) / width) / np.pi
    assert uniform.min() < 0.02 < 0.98 < uniform.max()
    assert uniform.mean() == pytest.approx(0.5, abs=4 * 12**-0.5 / 20)
    assert uniform.std() == pytest.approx(12**-0.5, rel=0.1)


def test_random_steps_are_drawn_anew_within_an_episode() -> None:
    env = StepSizeEnv("LinearRegression", strategy="random", horizon=40, split="test", render_mode="ansi")
    env.reset(seed=0)
    env.step(np.array([-0.3, 0.0]))
    assert env.session.trace is not None
    assert len(set(env.session.trace.step_size[0, 1:])) == 40


@pytest.mark.parametrize("spread", [0.5, 2.0])
def test_random_steps_shrink_every_component_alike(spread: float) -> None:
    """The mean of log|1 - lambda h| is that of Chebyshev's steps for all eigenvalues; of a constant step it is not."""
    ratio, draws = 10.0**spread, (np.arange(200_000) + 0.5) / 200_000
    actions = ActionMap(len(draws), "discrete", "random")
    nobody: Any = None  # what the steps are of
    actions.step_size(np.full((len(draws), 2), [3, SPREADS.index(spread)]), nobody)
    steps = actions.drawn(np.full(len(draws), 2.0 / (1.0 + 1.0 / ratio)), draws)
    rate = np.log((np.sqrt(ratio) - 1.0) / (np.sqrt(ratio) + 1.0))
    for eigenvalue in np.linspace(1.0 / ratio, 1.0, 7):
        assert np.log(np.abs(1.0 - eigenvalue * steps)).mean() == pytest.approx(rate, abs=2e-3)
    assert (steps.min(), steps.max()) == pytest.approx((1.0, ratio), rel=1e-4)


# Pictures, copies, and the end


@pytest.mark.parametrize("strategy", ["dynamic", "constant", "random"])
def test_a_picture_grows_with_the_episode(env_id: str, strategy: str) -> None:
    pytest.importorskip("matplotlib")
    env = gym.make(env_id, render_mode="rgb_array", strategy=strategy, horizon=4)
    env.reset(seed=0)
    before = env.render()
    env.step(np.zeros(env.action_space.shape, np.float32))
    after = env.render()
    for picture in (before, after):
        assert picture.dtype == np.uint8
        assert picture.ndim == 3
        assert picture.shape[2] == 3
        assert picture.shape[0] % 2 == picture.shape[1] % 2 == 0
    assert not np.array_equal(before, after)


def test_without_a_render_mode_there_is_a_warning_and_no_picture(env_id: str) -> None:
    env = gym.make(env_id).unwrapped
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="render_mode"):
        assert env.render() is None


@pytest.mark.parametrize("copied", [lambda env: pickle.loads(pickle.dumps(env)), copy.deepcopy], ids=["pickle", "copy"])
@pytest.mark.parametrize("steps", [None, 0, 2])
def test_a_copy_goes_on_as_the_original_does(env_id: str, copied: Any, steps: int | None) -> None:
    """A copy taken before the first reset, after it, and after two steps and a picture."""
    pytest.importorskip("matplotlib")
    env = gym.make(env_id, render_mode="rgb_array", horizon=6, split="test").unwrapped
    chosen = [0.1 * action for action in actions(env, 0)]  # no inner run diverges
    if steps is not None:
        env.reset(seed=0)
        [env.step(action) for action in chosen[:steps]]
        env.render()
    copy_of_it = copied(env)
    if steps is None:
        env.reset(seed=0), copy_of_it.reset(seed=0)
    for action in chosen[:3]:
        assert same(copy_of_it.step(action), env.step(action))
    assert np.array_equal(copy_of_it.render(), env.render())
    assert same(play(copy_of_it, None, chosen), play(env, None, chosen))


def test_close_twice(env_id: str) -> None:
    env = gym.make(env_id)
    env.reset(seed=0)
    env.close()
    env.close()


def test_there_is_no_picture_before_the_first_reset() -> None:
    env = StepSizeEnv("LinearRegression", render_mode="rgb_array")
    with pytest.raises(gym.error.ResetNeeded, match="reset"):
        env.render()
