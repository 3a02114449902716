"""Stable-Baselines3 on a native Gymnasium vector environment, without a copy of the environment per row.

>>> env = make_sb3_env("MetaLearn/LinearRegression-v0", num_envs=8)
>>> env.reset().shape
(8, 41)
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from typing import Any, cast

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv

try:
    from stable_baselines3.common.vec_env import VecEnv
except ImportError as error:
    raise ImportError('the adapter needs Stable-Baselines3: pip install "metalearn-env[agents]"') from error


def make_sb3_env(env_id: str, num_envs: int, *, seed: int | None = None, **kwargs: Any) -> SB3VecEnv:
    """Make the native vector environment of an id, ready for Stable-Baselines3.

    Args:
        env_id: a registered id with a vector entry point that takes ``autoreset_mode``.
        num_envs: rows.
        seed: of the first reset; None: the agent's (Stable-Baselines3 seeds its environment) or a random one.
        kwargs: what ``gym.make_vec`` takes.
    """
    env = SB3VecEnv(gym.make_vec(env_id, num_envs=num_envs, autoreset_mode=AutoresetMode.SAME_STEP, **kwargs))
    if seed is not None:
        env.seed(seed)
    return env


class SB3VecEnv(VecEnv):
    """A `stable_baselines3.common.vec_env.VecEnv` over any `gymnasium.vector.VectorEnv` with same-step autoreset.

    Args:
        env: the vector environment.

    Raises:
        ValueError: its autoreset mode is another one.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        mode = env.metadata.get("autoreset_mode")
        if mode != AutoresetMode.SAME_STEP:
            raise ValueError(f"Stable-Baselines3 needs autoreset_mode=SAME_STEP, not {mode}")
        self.env = env
        self.render_mode = env.render_mode
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        self._actions: Any = None

    def reset(self) -> Any:
        """Begin new episodes in all rows and return their first observations; infos are in ``reset_infos``."""
        seeds = None if all(seed is None for seed in self._seeds) else list(self._seeds)
        observations, infos = self.env.reset(seed=cast(Any, seeds), options=self._options[0] or None)
        self.reset_infos = _rows(infos, self.num_envs)
        self._reset_seeds()
        self._reset_options()
        return observations

    def set_options(self, options: list[dict[str, Any]] | dict[str, Any] | None = None) -> None:
        """Set the options of the next reset, which are those of all rows.

        Raises:
            ValueError: a list of others than the same for each row. Nothing has changed.
        """
        if isinstance(options, list) and (len(options) != self.num_envs or any(one != options[0] for one in options)):
            raise ValueError(f"options are the same for all {self.num_envs} rows; {options} cannot be honoured")
        super().set_options(options)

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = actions

    def step_wait(self) -> tuple[Any, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        observations, rewards, terminated, truncated, infos = self.env.step(self._actions)
        final_obs, final_info = infos.pop("final_obs", None), infos.pop("final_info", {})
        rows = _rows({key: value for key, value in infos.items() if key not in _OF_AUTORESET}, self.num_envs)
        done = terminated | truncated
        ended = np.flatnonzero(done)
        for row, last in zip(ended.tolist(), _rows(_of_rows(final_info, ended), ended.size), strict=True):
            last["terminal_observation"] = final_obs[row]
            last["TimeLimit.truncated"] = bool(truncated[row] and not terminated[row])
            rows[row] |= last
        return observations, rewards.astype(np.float32), done, rows

    def close(self) -> None:
        self.env.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        frames: Any = self.env.render()
        return [None] * self.num_envs if frames is None else list(frames)

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Return an attribute of the vector environment, once per row."""
        return [_attribute(self.env, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute of the vector environment; it is the same for all rows.

        Raises:
            ValueError: ``indices`` names only some of them.
        """
        if len(list(self._get_indices(indices))) != self.num_envs:
            raise ValueError(f"{attr_name} is shared by all {self.num_envs} rows; indices={indices} cannot be honoured")
        setattr(self.env.unwrapped, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Call a method of the vector environment once and return what it returns, once per row."""
        result = _attribute(self.env, method_name)(*args, **kwargs)
        return [result for _ in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: Any = None) -> list[bool]:
        """Return False once per row: the rows of a native vector environment have no wrappers of their own."""
        return [False for _ in self._get_indices(indices)]


_OF_AUTORESET = ("final_obs", "_final_obs", "final_info", "_final_info")


def _attribute(env: Any, name: str) -> Any:
    return getattr(env, name) if hasattr(env, name) else getattr(env.unwrapped, name)


def _rows(infos: dict[str, Any], n: int) -> list[dict[str, Any]]:
    """Turn a dictionary of arrays (or of such dictionaries) with masks into a list of n dictionaries."""
    keys = [key for key in infos if not key.startswith("_")]
    masks = [infos.get(f"_{key}") for key in keys]
    values = [_per_row(infos[key], n) for key in keys]
    if all(mask is None or mask.all() for mask in masks):
        # map makes a dictionary per row at half the cost of a comprehension, in every step of every training
        return [*map(dict, map(zip, repeat(keys), zip(*values, strict=True)))] or [{} for _ in range(n)]
    return [
        {key: value[row] for key, value, mask in zip(keys, values, masks, strict=True) if mask is None or mask[row]}
        for row in range(n)
    ]


def _of_rows(infos: dict[str, Any], rows: np.ndarray) -> dict[str, Any]:
    """Return the infos of some rows alone."""
    return {key: _of_rows(value, rows) if isinstance(value, dict) else value[rows] for key, value in infos.items()}


def _per_row(value: Any, n: int) -> list[Any]:
    if isinstance(value, dict):
        return _rows(value, n)
    return list(value) if value.ndim > 1 else value.tolist()
