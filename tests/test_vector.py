"""The native vector environment: n single environments, bit for bit, in every autoreset mode."""

from __future__ import annotations

import copy
import functools
import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import NormalizeObservation, RecordEpisodeStatistics

from metalearn_env.engine import CHUNK
from metalearn_env.pool import COMPLETED_AT_ONCE
from metalearn_env.vector import StepSizeVectorEnv

REGRESSION = "MetaLearn/LinearRegression-v0"
MODES = list(AutoresetMode)
every_mode = pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)

FOR_ALL: dict[str, dict[str, Any]] = {
    "default": {"horizon": 5},
    "constant": {"strategy": "constant", "horizon": (3, 7)},
    "constant discrete": {"strategy": "constant", "action": "discrete", "reward": "linear", "horizon": (3, 7)},
    "random": {"strategy": "random", "horizon": (3, 7)},
    "random discrete": {"strategy": "random", "action": "discrete", "horizon": 5, "split": "validation"},
    "discrete dict": {"action": "discrete", "observation": "dict", "horizon": (3, 7), "history": 2},
    "linear": {"reward": "linear", "horizon": 4, "split": "test", "history": 0},
    "interval": {"interval": 3, "horizon": (2, 9)},
    "interval diverging": {"interval": 4, "action": "absolute", "horizon": (5, 17), "reward": "linear"},
    "opening": {"interval": 4, "opening": 3, "horizon": (2, 15)},
    "averaged": {"interval": 4, "opening": 3, "averaged": True, "horizon": (2, 15)},
    "averaged diverging": {"interval": 4, "averaged": True, "action": "absolute", "horizon": (5, 17)},
    "ritz": {"action": "discrete", "ritz": 3, "horizon": (2, 11)},
    "ritz held": {"action": "discrete", "ritz": 3, "interval": 3, "opening": 2, "horizon": (2, 11)},
    "ritz dict": {"ritz": 2, "interval": 3, "opening": 2, "averaged": True, "observation": "dict", "history": 0},
    "ritz diverging": {"ritz": 4, "action": "absolute", "horizon": (5, 17)},
    "diverging": {"action": "absolute", "horizon": 9, "observation": "dict"},
}
FOR_REGRESSION: dict[str, dict[str, Any]] = {
    "minibatch": {"batch_size": 3, "dimension": (2, 12), "horizon": (4, 9)},
    "minibatch of one": {"batch_size": 1, "dimension": (1, 12), "horizon": (4, 9), "strategy": "random"},
    "one dimension": {"dimension": 1, "horizon": 6, "noise": 0},
    "diabetes": {"dataset": "diabetes", "horizon": (2, 5), "split": "test"},
    "diabetes minibatch": {"dataset": "diabetes", "horizon": 4, "batch_size": 5, "dimension": (2, 10)},
    "linnerud": {"dataset": "linnerud", "horizon": 4, "split": "validation"},
}


def native(env_id: str, n: int, mode: AutoresetMode, **options: Any) -> StepSizeVectorEnv:
    return gym.make_vec(env_id, num_envs=n, autoreset_mode=mode, **options)


def singles(env_id: str, n: int, mode: AutoresetMode, **options: Any) -> SyncVectorEnv:
    make = functools.partial(gym.make, env_id, disable_env_checker=True, **options)
    return SyncVectorEnv([make] * n, autoreset_mode=mode)


def assert_same(one: Any, other: Any, where: str = "") -> None:
    """Hold that two returned things are the same bits, types and shapes."""
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_same(one[key], other[key], f"{where}[{key}]")
    elif isinstance(one, (list, tuple)) or (isinstance(one, np.ndarray) and one.dtype == object):
        assert len(one) == len(other), where
        for index, (mine, yours) in enumerate(zip(one, other, strict=True)):
            assert_same(mine, yours, f"{where}[{index}]")
    elif isinstance(one, np.ndarray):
        assert (one.dtype, one.shape) == (other.dtype, other.shape), where
        if not np.array_equal(one, other, equal_nan=True):
            index = tuple(np.argwhere(one != other)[0].tolist())
            pytest.fail(f"{where}{list(index)}: {one[index]!r} is not {other[index]!r}")
    else:
        assert one == other, where


def random_actions(env: Any, rng: np.random.Generator) -> np.ndarray:
    """Return actions for all rows; numbers go beyond the box, too."""
    space = env.single_action_space
    if isinstance(space, gym.spaces.Box):
        return rng.uniform(-1.2, 1.2, (env.num_envs, *space.shape)).astype(np.float32)
    if isinstance(space, gym.spaces.Discrete):
        return rng.integers(space.n, size=env.num_envs)
    return rng.integers(space.nvec, size=(env.num_envs, len(space.nvec)))


def assert_equal_runs(one: Any, other: Any, mode: AutoresetMode, steps: int, seed: Any = 3) -> list[Any]:
    """Hold that two vector environments give the same; return the (terminated, truncated) of every step."""
    rng, ends = np.random.default_rng(0), []
    assert_same(one.reset(seed=seed), other.reset(seed=seed), "reset")
    for t in range(steps):
        actions = random_actions(one, rng)
        mine, yours = one.step(actions), other.step(actions)
        assert_same(mine, yours, f"step {t}")
        ended = mine[2] | mine[3]
        ends.append(mine[2:4])
        if mode == AutoresetMode.DISABLED and ended.any():
            mask = {"reset_mask": ended}
            assert_same(one.reset(options=mask), other.reset(options=dict(mask)), f"reset after step {t}")
    return ends


# One arithmetic


@every_mode
@pytest.mark.parametrize("options", FOR_ALL.values(), ids=FOR_ALL.keys())
def test_equals_single_environments(env_id: str, options: dict[str, Any], mode: AutoresetMode) -> None:
    ends = assert_equal_runs(native(env_id, 5, mode, **options), singles(env_id, 5, mode, **options), mode, steps=25)
    assert any(terminated.any() for terminated, _ in ends)


@every_mode
@pytest.mark.parametrize("options", FOR_REGRESSION.values(), ids=FOR_REGRESSION.keys())
def test_equals_single_regressions(options: dict[str, Any], mode: AutoresetMode) -> None:
    if "dataset" in options:
        pytest.importorskip("sklearn")
    one, other = native(REGRESSION, 5, mode, **options), singles(REGRESSION, 5, mode, **options)
    assert_equal_runs(one, other, mode, steps=25)


@every_mode
def test_equals_single_environments_that_diverge(mode: AutoresetMode) -> None:
    options = {"action": "absolute", "horizon": 40, "split": "test"}
    one, other = native(REGRESSION, 8, mode, **options), singles(REGRESSION, 8, mode, **options)
    ends = assert_equal_runs(one, other, mode, steps=30)
    assert any(terminated.any() for terminated, _ in ends)  # before the horizon


@every_mode
@pytest.mark.parametrize("limit", [2, 5, 9])
def test_equals_time_limited_environments(env_id: str, mode: AutoresetMode, limit: int) -> None:
    options = {"max_episode_steps": limit, "horizon": 5}
    ends = assert_equal_runs(native(env_id, 4, mode, **options), singles(env_id, 4, mode, **options), mode, steps=20)
    assert any(truncated.any() for _, truncated in ends) == (limit <= 5)
    if limit == 5:
        assert any((terminated & truncated).any() for terminated, truncated in ends)


@every_mode
@pytest.mark.parametrize(
    "options",
    [
        {"dimension": (300, 512), "horizon": (2, 5)},
        {"dimension": (300, 512), "horizon": 3, "batch_size": 2, "action": "absolute"},
        {"dimension": (300, 512), "horizon": (2, 5), "strategy": "constant", "max_episode_steps": 1},
    ],
    ids=["full batch", "minibatch", "constant"],
)
def test_equals_single_environments_beyond_one_chunk(options: dict[str, Any], mode: AutoresetMode) -> None:
    n = 2 * CHUNK // 512 + 3
    assert_equal_runs(native(REGRESSION, n, mode, **options), singles(REGRESSION, n, mode, **options), mode, steps=8)


def test_many_rows_draw_what_single_environments_draw(env_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """More rows than are drawn at once, over more episodes than a block holds."""
    monkeypatch.setattr("metalearn_env.pool.MAX_BLOCK", 12)
    n, episodes, options = 2 * COMPLETED_AT_ONCE // 12 + 3, 26, {"horizon": 1, "split": "test"}
    one = native(env_id, n, AutoresetMode.SAME_STEP, **options)
    one.reset(seed=11)
    losses = [one.step(np.zeros((n, 1)))[-1]["loss"] for _ in range(episodes)]
    for row in (0, 11, n - 1):
        single = gym.make(env_id, **options).unwrapped
        single.reset(seed=11 + row)
        assert [loss[row] for loss in losses] == [single.reset()[1]["loss"] for _ in range(episodes)]


# Seeds and resets


@pytest.mark.parametrize("seeds", [3, [5, 1, 5], (9, 8, 7)])
def test_seeds_of_the_rows(env_id: str, seeds: Any) -> None:
    one, other = native(env_id, 3, AutoresetMode.NEXT_STEP), singles(env_id, 3, AutoresetMode.NEXT_STEP)
    assert_equal_runs(one, other, AutoresetMode.NEXT_STEP, steps=5, seed=seeds)
    assert_equal_runs(one, other, AutoresetMode.NEXT_STEP, steps=5, seed=None)
    assert_equal_runs(one, other, AutoresetMode.NEXT_STEP, steps=5, seed=[None, 4, None])


def test_rows_without_a_seed_are_random(env_id: str) -> None:
    one = native(env_id, 3, AutoresetMode.NEXT_STEP)
    losses = one.reset(seed=[None, 4, None])[1]["loss"]
    assert losses[1] == gym.make(env_id).reset(seed=4)[1]["loss"]
    assert len({*losses, *native(env_id, 3, AutoresetMode.NEXT_STEP).reset()[1]["loss"]}) == 6


@pytest.mark.parametrize("seeds", [[1, 2], [1, 2, 3, 4], []])
def test_a_wrong_number_of_seeds_is_refused(env_id: str, seeds: list[int]) -> None:
    env = native(env_id, 3, AutoresetMode.NEXT_STEP)
    with pytest.raises(ValueError, match="seed"):
        env.reset(seed=seeds)


@every_mode
def test_a_part_of_the_rows_can_be_reset(env_id: str, mode: AutoresetMode) -> None:
    """In the middle of their episodes, with seeds, and just after an end."""
    options = {"horizon": 4, "split": "test", "strategy": "random"}
    one, other = native(env_id, 3, mode, **options), singles(env_id, 3, mode, **options)
    rng = np.random.default_rng(1)
    assert_same(one.reset(seed=0), other.reset(seed=0))
    for t in range(12):
        actions = random_actions(one, rng)
        mine, yours = one.step(actions), other.step(actions)
        assert_same(mine, yours, f"step {t}")
        mask = np.array([t % 2 == 0, t % 3 == 0, True])
        if mode == AutoresetMode.DISABLED:
            mask |= mine[2]
        seed = [7, 8, 9] if t == 4 else None
        mine, yours = (env.reset(seed=seed, options={"reset_mask": mask}) for env in (one, other))
        assert_same(mine, yours, f"reset after step {t}")


def test_the_reset_mask_is_read_only(env_id: str) -> None:
    env = native(env_id, 3, AutoresetMode.DISABLED)
    env.reset(seed=0)
    options = {"reset_mask": np.array([True, False, True])}
    env.reset(options=options)
    assert options.keys() == {"reset_mask"}
    assert options["reset_mask"].tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"reset_mask": np.ones(3)}, TypeError, "reset_mask.*float64"),
        ({"reset_mask": [True, True, True]}, TypeError, "reset_mask.*list"),
        ({"reset_mask": np.ones(2, bool)}, ValueError, "reset_mask.*shape"),
        ({"reset_mask": np.ones((3, 1), bool)}, ValueError, "reset_mask.*shape"),
        ({"reset_mask": np.zeros(3, bool)}, ValueError, "reset_mask.*True"),
        ({"reset_masks": np.ones(3, bool)}, ValueError, "reset_masks"),
        ({"reset_mask": np.ones(3, bool), "other": 1}, ValueError, "other"),
    ],
)
def test_a_bad_reset_is_refused_and_changes_nothing(
    env_id: str, options: dict[str, Any], error: type[Exception], named: str
) -> None:
    env, twin = (native(env_id, 3, AutoresetMode.NEXT_STEP) for _ in range(2))
    env.reset(seed=0), twin.reset(seed=0)
    with pytest.raises(error, match=named):
        env.reset(seed=5, options=options)
    assert_same(env.step(np.zeros((3, 1))), twin.step(np.zeros((3, 1))))
    assert_same(env.reset(), twin.reset())


@every_mode
def test_a_step_before_the_first_reset_is_refused(env_id: str, mode: AutoresetMode) -> None:
    env = native(env_id, 2, mode)
    with pytest.raises(gym.error.ResetNeeded):
        env.step(np.zeros((2, 1)))
    with pytest.raises(ValueError, match="reset"):
        env.reset(options={"reset_mask": np.array([True, False])})


def test_disabled_rows_must_be_reset(env_id: str) -> None:
    env = native(env_id, 2, AutoresetMode.DISABLED, horizon=2, split="test")
    env.reset(seed=0)
    [env.step(np.zeros((2, 1))) for _ in range(2)]
    env.reset(options={"reset_mask": np.array([True, False])})
    with pytest.raises(gym.error.ResetNeeded, match="1"):
        env.step(np.zeros((2, 1)))


# Actions


@pytest.mark.parametrize(
    ("options", "actions", "named"),
    [
        ({}, [[0.0], [np.nan], [0.0]], "row 1.*nan"),
        ({}, [[0.0], [0.0], [-np.inf]], "row 2.*inf"),
        ({}, [0.0, 0.0, 0.0], "shape"),
        ({}, [[0.0], [0.0]], "shape"),
        ({}, [["a"], ["b"], ["c"]], "type"),
        ({"action": "discrete"}, [0, 7, 0], "7"),
        ({"action": "discrete"}, [0.0, 1.0, 0.0], "type"),
        ({"action": "discrete"}, [0, 1], "shape"),
        ({"action": "discrete", "strategy": "random"}, [[0, 0], [0, 4], [0, 0]], "4"),
    ],
)
def test_a_bad_action_is_refused_and_changes_nothing(
    env_id: str, options: dict[str, Any], actions: Any, named: str
) -> None:
    env, twin = (native(env_id, 3, AutoresetMode.NEXT_STEP, **options) for _ in range(2))
    env.reset(seed=0), twin.reset(seed=0)
    with pytest.raises(ValueError, match=f"(?s)action.*{named}"):
        env.step(np.array(actions))
    good = random_actions(env, np.random.default_rng(0))
    assert_same(env.step(good), twin.step(good))


def test_inputs_are_not_written_to(env_id: str) -> None:
    env = native(env_id, 3, AutoresetMode.NEXT_STEP)
    env.reset(seed=0)
    actions = np.full((3, 1), 5.0)
    actions.flags.writeable = False
    env.step(actions)
    assert (actions == 5.0).all()


# What is returned, and what Gymnasium's tools make of it


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP], ids=lambda mode: mode.name)
@pytest.mark.parametrize("form", ["flat", "dict"])
def test_what_was_returned_stays_as_it_was(env_id: str, mode: AutoresetMode, form: str) -> None:
    env = native(env_id, 3, mode, horizon=3, observation=form, split="test")
    returned = [env.reset(seed=0)]
    kept = copy.deepcopy(returned)
    rng = np.random.default_rng(0)
    for _ in range(10):
        returned.append(env.step(random_actions(env, rng)))
        kept.append(copy.deepcopy(returned[-1]))
    assert_same(returned, kept)
    for array in _arrays(returned[5]):  # nor is anything of it read again
        array[...] = np.zeros((), array.dtype)
    twin = native(env_id, 3, mode, horizon=3, observation=form, split="test")
    twin.reset(seed=0)
    rng = np.random.default_rng(0)
    [twin.step(random_actions(twin, rng)) for _ in range(10)]
    actions = random_actions(env, rng)
    assert_same(env.step(actions), twin.step(actions))


def _arrays(value: Any) -> list[np.ndarray]:
    if isinstance(value, dict):
        return [array for part in value.values() for array in _arrays(part)]
    if isinstance(value, tuple):
        return [array for part in value for array in _arrays(part)]
    return [value] if isinstance(value, np.ndarray) else []


@pytest.mark.parametrize("options", [{}, {"observation": "dict"}, {"action": "discrete"}, {"strategy": "random"}])
def test_spaces_are_those_of_single_environments(env_id: str, options: dict[str, Any]) -> None:
    one, other = (make(env_id, 3, AutoresetMode.NEXT_STEP, **options) for make in (native, singles))
    for space in ("single_observation_space", "observation_space", "single_action_space", "action_space"):
        assert getattr(one, space) == getattr(other, space)
    one.reset(seed=0)
    one.action_space.seed(0)
    for _ in range(5):
        assert one.step(one.action_space.sample())[0] in one.observation_space


def test_make_vec_gives_the_native_one(env_id: str) -> None:
    env = gym.make_vec(env_id, num_envs=4)
    assert isinstance(env.unwrapped, StepSizeVectorEnv)
    assert env.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP
    assert env.spec is not None
    assert env.spec.id == env_id
    again = gym.make_vec(pickle.loads(pickle.dumps(env.spec)))
    assert_same(again.reset(seed=0), env.reset(seed=0))


@every_mode
def test_metadata_tell_the_mode(env_id: str, mode: AutoresetMode) -> None:
    for given in (mode, mode.value):
        assert native(env_id, 2, given).metadata["autoreset_mode"] == mode
    assert isinstance(native(env_id, 2, mode).metadata["render_modes"], list)
    assert native(env_id, 2, mode).metadata["render_fps"] > 0


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"num_envs": 0}, ValueError, "num_envs"),
        ({"num_envs": 2.5}, ValueError, "num_envs"),
        ({"max_episode_steps": 0}, ValueError, "max_episode_steps"),
        ({"autoreset_mode": "bogus"}, ValueError, "bogus"),
        ({"observation": "bogus"}, ValueError, "observation"),
        ({"render_mode": "human"}, ValueError, "render_mode"),
        ({"horizon": 0}, ValueError, "horizon"),
        ({"bogus": 1}, TypeError, "bogus"),
        ({"trace": True}, TypeError, "trace"),
    ],
)
def test_an_option_that_cannot_be_honoured_is_refused(
    env_id: str, options: dict[str, Any], error: type[Exception], named: str
) -> None:
    with pytest.raises(error, match=named):
        StepSizeVectorEnv(**gym.spec(env_id).kwargs, **options)


def test_asynchronous_workers(env_id: str) -> None:
    make = functools.partial(gym.make, f"metalearn_env:{env_id}", horizon=3)
    workers = AsyncVectorEnv([make] * 2, context="spawn")
    try:
        assert_equal_runs(
            native(env_id, 2, AutoresetMode.NEXT_STEP, horizon=3), workers, AutoresetMode.NEXT_STEP, steps=6
        )
    finally:
        workers.close()


def test_call_and_attributes(env_id: str) -> None:
    env = native(env_id, 3, AutoresetMode.NEXT_STEP)
    env.reset(seed=0)
    assert env.get_attr("render_mode") == (None,) * 3
    assert env.call("feature_names") == (env.feature_names,) * 3
    for values in ("note", ["note"] * 3, ("note",) * 3):
        env.set_attr("note", values)
        assert env.get_attr("note") == ("note",) * 3
    for values in (["a", "b", "a"], ["a"]):
        with pytest.raises(ValueError, match="note"):
            env.set_attr("note", values)
    env.set_attr("note", [np.ones(2)] * 3)
    with pytest.raises(ValueError, match="note is one value"):
        env.set_attr("note", [np.ones(2), np.ones(2), np.zeros(2)])
    with pytest.raises(AttributeError):
        env.get_attr("no_such_thing")


def test_normalize_observation(env_id: str) -> None:
    one, other = (
        NormalizeObservation(make(env_id, 4, AutoresetMode.NEXT_STEP, horizon=3)) for make in (native, singles)
    )
    assert_equal_runs(one, other, AutoresetMode.NEXT_STEP, steps=8)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP], ids=lambda mode: mode.name)
def test_record_episode_statistics(env_id: str, mode: AutoresetMode) -> None:
    env = RecordEpisodeStatistics(native(env_id, 4, mode, horizon=3, split="test"))
    env.reset(seed=0)
    total = np.zeros(4)
    for _ in range(3):
        _, reward, terminated, _, infos = env.step(np.zeros((4, 1)))
        total += reward
    assert terminated.all()
    assert infos["_episode"].all()
    assert infos["episode"]["r"] == pytest.approx(total)
    assert infos["episode"]["l"].tolist() == [3] * 4


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP], ids=lambda mode: mode.name)
def test_pictures_of_all_rows(env_id: str, mode: AutoresetMode) -> None:
    pytest.importorskip("matplotlib")
    env = native(env_id, 2, mode, horizon=3, render_mode="rgb_array")
    other = singles(env_id, 2, mode, horizon=3, render_mode="rgb_array")
    assert_equal_runs(env, other, mode, steps=4)
    assert_same(env.render(), other.render())


def test_without_a_render_mode_there_is_a_warning_and_no_picture(env_id: str) -> None:
    env = native(env_id, 2, AutoresetMode.NEXT_STEP)
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="render_mode"):
        assert env.render() is None


@pytest.mark.parametrize("copied", [lambda env: pickle.loads(pickle.dumps(env)), copy.deepcopy], ids=["pickle", "copy"])
@pytest.mark.parametrize("n", [3, CHUNK // 512 + 3])
def test_a_copy_goes_on_as_the_original_does(copied: Any, n: int) -> None:
    env = native(REGRESSION, n, AutoresetMode.SAME_STEP, dimension=512, horizon=3)
    env.reset(seed=0)
    env.step(np.zeros((n, 1)))
    copy_of_it = copied(env)
    for t in range(6):
        assert_same(copy_of_it.step(np.zeros((n, 1))), env.step(np.zeros((n, 1))), f"step {t}")


def test_close_twice(env_id: str) -> None:
    env = native(env_id, 2, AutoresetMode.NEXT_STEP)
    env.reset(seed=0)
    env.close()
    env.close()
