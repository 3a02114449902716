"""The adapter to Stable-Baselines3, and Stable-Baselines3 on the single environments."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

pytest.importorskip("stable_baselines3")

from stable_baselines3 import DQN, PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import SubprocVecEnv, VecCheckNan, VecMonitor, VecNormalize

from metalearn_env.adapters.sb3 import SB3VecEnv, make_sb3_env

REGRESSION = "MetaLearn/LinearRegression-v0"


def actions(env: Any, seed: int, n: int) -> np.ndarray:
    """Return actions of n steps for all rows, (n, num_envs, ...)."""
    env.action_space.seed(seed)
    return np.array([[env.action_space.sample() for _ in range(env.num_envs)] for _ in range(n)])


# The adapter


@pytest.mark.parametrize("options", [{"horizon": 4}, {"horizon": 9, "max_episode_steps": 3}, {"strategy": "constant"}])
def test_rows_are_single_environments(env_id: str, options: dict[str, Any]) -> None:
    """Observations, rewards, ends, last observations and infos, over several episodes."""
    env = make_sb3_env(env_id, 3, seed=5, **options)
    single = [gym.make(env_id, **options) for _ in range(3)]
    observations = env.reset()
    for row, one in enumerate(single):
        observation, info = one.reset(seed=5 + row)
        assert np.array_equal(observations[row], observation)
        assert env.reset_infos[row] == info
    episodes = 0
    for chosen in actions(env, 0, 20):
        observations, rewards, dones, infos = env.step(chosen)
        assert (rewards.dtype, dones.dtype) == (np.float32, np.bool_)
        for row, one in enumerate(single):
            observation, reward, terminated, truncated, info = one.step(chosen[row])
            assert rewards[row] == np.float32(reward)
            assert dones[row] == (terminated or truncated)
            if dones[row]:
                episodes += 1
                info["TimeLimit.truncated"] = truncated and not terminated
                assert np.array_equal(infos[row].pop("terminal_observation"), observation)
                observation, _ = one.reset()
            assert infos[row] == info
            assert np.array_equal(observations[row], observation)
    assert episodes >= 6


@pytest.mark.parametrize(
    ("options", "truncated"),
    [
        ({"horizon": 3}, False),
        ({"horizon": 5, "max_episode_steps": 3}, True),
        ({"horizon": 3, "max_episode_steps": 3}, False),
    ],
)
def test_the_horizon_is_no_time_limit(env_id: str, options: dict[str, int], truncated: bool) -> None:
    env = make_sb3_env(env_id, 2, seed=0, split="test", **options)
    env.reset()
    small = np.full((2, 1), -0.5, np.float32)
    for _ in range(2):
        _, _, dones, infos = env.step(small)
        assert not dones.any()
        assert all("TimeLimit.truncated" not in info for info in infos)
    _, _, dones, infos = env.step(small)
    assert dones.all()
    assert [info["TimeLimit.truncated"] for info in infos] == [truncated] * 2


def test_dictionaries_are_taken_apart(env_id: str) -> None:
    env = make_sb3_env(env_id, 2, seed=0, horizon=2, observation="dict", split="test")
    single = gym.make(env_id, horizon=2, observation="dict", split="test")
    first, (expected, _) = env.reset(), single.reset(seed=1)
    assert all(np.array_equal(first[key][1], expected[key]) for key in expected)
    for _ in range(2):
        _, _, dones, infos = env.step(np.full((2, 1), -0.5))
        last = single.step(np.full(1, -0.5))[0]
    assert dones.all()
    assert all(np.array_equal(infos[1]["terminal_observation"][key], last[key]) for key in last)


def test_seeds(env_id: str) -> None:
    env = make_sb3_env(env_id, 3)
    other, small = make_sb3_env(env_id, 3), np.full((3, 1), -0.5, np.float32)
    for one in (env, other):
        one.reset()
    assert not np.array_equal(env.step(small)[0], other.step(small)[0])  # first observations have but a few values
    env.seed(5)
    first, second = env.reset(), env.reset()
    single = gym.make(env_id)
    for row in range(3):
        assert np.array_equal(first[row], single.reset(seed=5 + row)[0])
        assert np.array_equal(second[row], single.reset()[0])


def test_attributes_and_methods(env_id: str) -> None:
    env = make_sb3_env(env_id, 3)
    env.reset()
    assert env.get_attr("render_mode") == [None] * 3
    assert env.get_attr("num_envs", indices=[0, 2]) == [3, 3]
    assert env.env_method("get_attr", "render_mode", indices=1) == [(None,) * 3]
    assert env.env_is_wrapped(gym.Wrapper) == [False] * 3
    env.set_attr("note", 7)
    assert env.get_attr("note") == [7, 7, 7]
    with pytest.raises(ValueError, match="note"):
        env.set_attr("note", 8, indices=[0])
    assert env.get_attr("note") == [7, 7, 7]
    with pytest.raises(AttributeError):
        env.get_attr("no_such_thing")


def test_reset_options_reach_the_environment(env_id: str) -> None:
    env = make_sb3_env(env_id, 3, seed=0)
    first = env.reset()
    env.set_options({"reset_mask": np.array([True, False, True])})
    second = env.reset()
    assert [bool((one == other).all()) for one, other in zip(first, second, strict=True)] == [False, True, False]


@pytest.mark.parametrize(
    "options", [[{"a": 1}, {"a": 2}, {"a": 1}], [{"a": 1}, {}, {}], [{}, {"a": 1}, {}], [{"a": 1}]]
)
def test_options_of_rows_are_those_of_all_or_refused(env_id: str, options: list[dict[str, int]]) -> None:
    env = make_sb3_env(env_id, 3, seed=0)
    env.set_options([{"a": 1}] * 3)
    with pytest.raises(ValueError, match=r"options are the same for all 3 rows; \[\{.*\}\] cannot be honoured"):
        env.set_options(options)
    assert env._options == [{"a": 1}] * 3


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED], ids=lambda mode: mode.name)
def test_another_autoreset_mode_is_refused(env_id: str, mode: AutoresetMode) -> None:
    with pytest.raises(ValueError, match="SAME_STEP"):
        SB3VecEnv(gym.make_vec(env_id, num_envs=2, autoreset_mode=mode))


def test_any_other_vector_environment_of_the_same_mode() -> None:
    """CartPole with Gymnasium's own statistics, whose info is nested."""
    make = [lambda: gym.wrappers.RecordEpisodeStatistics(gym.make("CartPole-v1", max_episode_steps=12))] * 3
    env = SB3VecEnv(SyncVectorEnv(make, autoreset_mode=AutoresetMode.SAME_STEP))
    env.seed(0)
    env.reset()
    lengths, length = [], np.zeros(3, int)
    for t in range(40):
        _, rewards, dones, infos = env.step(np.full(3, t % 2))
        assert (rewards == 1.0).all()
        length += 1
        for row in np.flatnonzero(dones):
            assert infos[row]["TimeLimit.truncated"]
            assert infos[row]["terminal_observation"].shape == (4,)
            assert infos[row]["episode"]["l"] == length[row]
            lengths.append(int(length[row]))
            length[row] = 0
        assert not any("episode" in infos[row] for row in np.flatnonzero(~dones))
    assert lengths == [12] * 9


def test_what_vector_wrappers_tell_of_an_end_is_kept() -> None:
    env = gym.make_vec("MetaLearn/QLearning-v0", 2, horizon=3, autoreset_mode=AutoresetMode.SAME_STEP)
    env = SB3VecEnv(gym.wrappers.vector.RecordEpisodeStatistics(env))
    env.reset()
    returns = np.zeros(2)
    for _ in range(3):
        _, rewards, dones, infos = env.step(np.zeros((2, 1), np.float32))
        returns += rewards
    assert dones.all()
    assert [info["episode"]["r"] for info in infos] == pytest.approx(returns, rel=1e-5)
    assert all("final_gap" in info and "terminal_observation" in info for info in infos)


# Wrappers and agents of Stable-Baselines3


def test_monitor_and_normalisation(env_id: str) -> None:
    env = VecNormalize(VecMonitor(VecCheckNan(make_sb3_env(env_id, 4, seed=0, horizon=5), raise_exception=True)))
    env.reset()
    total, ended = np.zeros(4), 0
    for chosen in actions(env, 0, 20):
        observations, _, dones, infos = env.step(chosen)
        assert np.isfinite(observations).all()
        total += env.get_original_reward()
        for row in np.flatnonzero(dones):
            assert infos[row]["episode"]["r"] == pytest.approx(total[row], abs=1e-4)
            assert infos[row]["terminal_observation"].shape == observations[row].shape
            total[row], ended = 0.0, ended + 1
    assert ended >= 16


def test_pictures(env_id: str) -> None:
    pytest.importorskip("matplotlib")
    env = make_sb3_env(env_id, 2, seed=0, render_mode="rgb_array")
    env.reset()
    assert env.render_mode == "rgb_array"
    images = env.get_images()
    assert len(images) == 2
    assert all(image.dtype == np.uint8 and image.shape == images[0].shape for image in images)
    assert env.render().shape[2] == 3


@pytest.mark.parametrize(
    ("algorithm", "policy", "options"),
    [
        (PPO, "MlpPolicy", {}),
        (PPO, "MultiInputPolicy", {"observation": "dict"}),
        (PPO, "MlpPolicy", {"action": "discrete", "strategy": "random"}),
        (PPO, "MlpPolicy", {"strategy": "constant"}),
        (DQN, "MlpPolicy", {"action": "discrete"}),
    ],
)
def test_agents_learn_on_it(env_id: str, algorithm: Any, policy: str, options: dict[str, str]) -> None:
    env = VecMonitor(make_sb3_env(env_id, 4, horizon=5, **options))
    settings = {"n_steps": 8, "batch_size": 16, "n_epochs": 1} if algorithm is PPO else {"learning_starts": 16}
    model = algorithm(policy, env, seed=0, device="cpu", policy_kwargs={"net_arch": [8]}, **settings)
    model.learn(64)
    assert model.num_timesteps == 64
    assert len(model.ep_info_buffer) >= 8
    assert np.isfinite([episode["r"] for episode in model.ep_info_buffer]).all()


def test_a_seeded_agent_is_reproducible(env_id: str) -> None:
    def weights() -> np.ndarray:
        env = make_sb3_env(env_id, 4, horizon=5)
        settings = {"n_steps": 8, "batch_size": 16, "n_epochs": 1, "policy_kwargs": {"net_arch": [8]}}
        model = PPO("MlpPolicy", env, seed=3, device="cpu", **settings).learn(64)
        return model.policy.action_net.weight.detach().numpy()

    assert np.array_equal(weights(), weights())


def test_make_vec_env(env_id: str) -> None:
    env = make_vec_env(f"metalearn_env:{env_id}", n_envs=2, seed=3)
    single = gym.make(env_id)
    observations = env.reset()
    for row in range(2):
        assert np.array_equal(observations[row], single.reset(seed=3 + row)[0])


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_workers_find_the_id(method: str) -> None:
    kwargs = {"vec_env_cls": SubprocVecEnv, "vec_env_kwargs": {"start_method": method}}
    env = make_vec_env(f"metalearn_env:{REGRESSION}", n_envs=1, seed=3, env_kwargs={"horizon": 2}, **kwargs)
    try:
        single = gym.make(REGRESSION, horizon=2)
        assert np.array_equal(env.reset()[0], single.reset(seed=3)[0])
        observations, *_ = env.step(np.zeros((1, 1), np.float32))
        assert np.array_equal(observations[0], single.step(np.zeros(1, np.float32))[0])
    finally:
        env.close()
