"""The native vector environment: a session of n rows, equal to n single environments bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from metalearn_env.envs import check_render_mode, task_seed
from metalearn_env.family import TaskFamily
from metalearn_env.mixture import Entry
from metalearn_env.observations import check_observation, feature_names
from metalearn_env.ranges import as_integer
from metalearn_env.rendering import RENDER_FPS, Renderer
from metalearn_env.session import make_session
from metalearn_env.spaces import action_space, formed, observation_space

Mask = NDArray[np.bool_]

RENDER_MODES = ["rgb_array", "ansi"]


class StepSizeVectorEnv(VectorEnv[Any, Any, Any]):
    """n rows of `metalearn_env.envs.StepSizeEnv`, computed together.

    Row i of a seed s has the seed s + i and meets what a single environment with that seed meets.

    Args:
        family: see `StepSizeEnv`, as for all options that are not named here.
        num_envs: rows.
        max_episode_steps: truncate episodes after so many steps; None: never.
        autoreset_mode: NEXT_STEP (the step after an end ignores the action, any of the space, and returns the first
            observation of the next episode), SAME_STEP (the ending step does; the last observation is in
            ``infos["final_obs"]``), or DISABLED (``reset(options={"reset_mask": mask})`` is up to the user).
        render_mode: None, "rgb_array" or "ansi"; there is no window for many rows.
    """

    def __init__(
        self,
        family: str | type[TaskFamily] | None = None,
        *,
        families: Sequence[Entry] | None = None,
        num_envs: int = 1,
        max_episode_steps: int | None = None,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        observation: str = "flat",
        render_mode: str | None = None,
        **options: Any,
    ) -> None:
        self.num_envs = as_integer("num_envs", num_envs, minimum=1)
        if max_episode_steps is not None:
            max_episode_steps = as_integer("max_episode_steps", max_episode_steps, minimum=1)
        check_observation(observation)
        check_render_mode(render_mode, RENDER_MODES)
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {
            "render_modes": RENDER_MODES,
            "render_fps": RENDER_FPS,
            "autoreset_mode": self.autoreset_mode,
        }
        self.session = make_session(family, families, self.num_envs, options, trace=render_mode is not None)
        self.observation_form, self.render_mode = observation, render_mode
        self.single_observation_space = observation_space(self.session.history, self.session.ritz, observation)
        self.single_action_space = action_space(self.session.actions)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._max_episode_steps = max_episode_steps
        self._renderer = Renderer(self.session)
        self._steps = np.zeros(self.num_envs, np.int64)
        self._ended = np.ones(self.num_envs, np.bool_)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The names of the columns of the flat observation."""
        return feature_names(self.session.history, self.session.ritz)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin new episodes, in all rows or in those of ``options["reset_mask"]``.

        Args:
            seed: an integer (row i gets seed + i), a list of one per row, or None: go on with the rows' own streams.
            options: None or ``{"reset_mask": mask}``, mask a boolean array (num_envs,) with at least one True.

        Raises:
            ValueError, TypeError: a list of another length, another option, or a mask that is not as said.
            gymnasium.error.Error: a seed below 0.
        """
        mask = self._reset_mask(options)
        seeds = self._row_seeds(seed)
        rows = np.flatnonzero(mask)
        fresh = {row: self._task_seed(row, seeds[row]) for row in rows.tolist()}
        for row, entropy in fresh.items():
            if entropy is not None:
                self.session.pool.seed(row, entropy)
        self._begin(rows)
        return self._observation(), self._infos(mask)

    def step(self, actions: Any) -> tuple[Any, NDArray[np.float64], Mask, Mask, dict[str, Any]]:
        """Make one step in every row; see `gymnasium.vector.VectorEnv.step`.

        Raises:
            ValueError: the actions have another shape or type, or are not finite. Nothing has changed.
            gymnasium.error.ResetNeeded: before the first reset, or (mode DISABLED) where an ended row was not reset.
        """
        parsed = self.session.actions.parse(actions, self.num_envs)
        resetting = np.flatnonzero(self._ended)
        if resetting.size and (self.autoreset_mode != AutoresetMode.NEXT_STEP or not self.session.begun):
            raise gym.error.ResetNeeded(f"rows {resetting.tolist()} have ended or not begun; reset them before step()")
        reward, terminated = self.session.step(parsed, ~self._ended if resetting.size else None)
        self._steps += 1
        if resetting.size:
            self._begin(resetting)
            reward[resetting], terminated[resetting] = 0.0, False
        truncated = self._truncated()
        ended = self._ended = terminated | truncated
        final_rows = np.flatnonzero(ended)
        if self.autoreset_mode == AutoresetMode.SAME_STEP and final_rows.size:
            infos = self._final(ended, terminated, final_rows)
            self._begin(final_rows)
            infos |= self._infos(np.ones(self.num_envs, np.bool_))
        else:
            infos = self._infos(np.ones(self.num_envs, np.bool_), terminated)
        return self._observation(), reward, terminated, truncated, infos

    def render(self) -> tuple[Any, ...] | None:
        """Return a picture of each row's episode so far, (H, W, 3), or text; None without a render mode."""
        if self.render_mode is None:
            gym.logger.warn("render() returns nothing: the environment was made without a render_mode")
            return None
        return tuple(self._renderer.texts()) if self.render_mode == "ansi" else tuple(self._renderer.pictures())

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Return an attribute, or what a method returns, once per row."""
        value = getattr(self, name)
        value = value(*args, **kwargs) if callable(value) else value
        return (value,) * self.num_envs

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """Return an attribute once per row."""
        return self.call(name)

    def set_attr(self, name: str, values: Any) -> None:
        """Set an attribute, the same for all rows.

        Raises:
            ValueError: a list or tuple whose values differ, or of another length than num_envs.
        """
        if isinstance(values, (list, tuple)):
            if len(values) != self.num_envs or not all(np.array_equal(value, values[0]) for value in values):
                raise ValueError(f"{name} is one value, or the same one for each of {self.num_envs} rows, not {values}")
            values = values[0]
        setattr(self, name, values)

    def _reset_mask(self, options: dict[str, Any] | None) -> Mask:
        unknown = sorted(set(options or {}) - {"reset_mask"})
        if unknown:
            raise ValueError(f"the only option of reset is 'reset_mask', not {unknown}")
        if not options:
            return np.ones(self.num_envs, np.bool_)
        mask = options["reset_mask"]
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
            raise TypeError(f"reset_mask is a boolean NumPy array, not {getattr(mask, 'dtype', type(mask).__name__)}")
        if mask.shape != (self.num_envs,):
            raise ValueError(f"reset_mask has shape ({self.num_envs},), not {mask.shape}")
        if not mask.any():
            raise ValueError("reset_mask has at least one True, not none")
        if not self.session.begun and not mask.all():
            raise ValueError("the first reset is of all rows, not of a part")
        return mask

    def _row_seeds(self, seed: Any) -> Sequence[int | None]:
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, (int, np.integer)) and not isinstance(seed, bool):
            return [int(seed) + row for row in range(self.num_envs)]
        if not isinstance(seed, (Sequence, np.ndarray)) or isinstance(seed, str):
            raise TypeError(f"seed is None, a whole number or a list of them, not {seed!r}")
        if len(seed) != self.num_envs:
            raise ValueError(f"a list of seeds has one for each of {self.num_envs} rows, not {len(seed)}")
        return [None if one is None else as_integer("seed", one, minimum=0) for one in seed]

    def _task_seed(self, row: int, seed: int | None) -> int | None:
        """Return the seed of a row's tasks as a single environment has it; None where the row goes on as it is."""
        if seed is None and self.session.pool.seeded(row):
            return None
        return task_seed(seeding.np_random(seed)[0])

    def _begin(self, rows: NDArray[np.int64]) -> None:
        self.session.begin(rows)
        self._steps[rows] = 0
        self._ended[rows] = False

    def _truncated(self) -> Mask:
        if self._max_episode_steps is None:
            return np.zeros(self.num_envs, np.bool_)
        return self._steps >= self._max_episode_steps

    def _observation(self) -> Any:
        return formed(
            self.session.observer.observation(), self.session.history, self.session.ritz, self.observation_form
        )

    def _infos(self, mask: Mask, terminated: Mask | None = None) -> dict[str, Any]:
        """Return the infos of the rows of ``mask``, with what is told in the end of those that are ``terminated``."""
        infos: dict[str, Any] = {}
        values, whole = self.session.info(), mask.all()
        for key, value in values.items():
            infos[key], infos[f"_{key}"] = value if whole else np.where(mask, value, 0.0), mask.copy()
        if terminated is not None and (rows := np.flatnonzero(terminated)).size:
            told = [(rows, {"final_gap": values["gap"][rows]}), *self.session.final_info(rows)]
            for which, last in told:
                for key, value in last.items():
                    infos.setdefault(key, np.zeros(self.num_envs))[which] = value
                    infos.setdefault(f"_{key}", np.zeros(self.num_envs, np.bool_))[which] = True
        return infos

    def _final(self, ended: Mask, terminated: Mask, rows: NDArray[np.int64]) -> dict[str, Any]:
        final_obs = np.full(self.num_envs, None, dtype=object)
        last = self.session.observer.observation()
        for row in rows:
            final_obs[row] = formed(last[row].copy(), self.session.history, self.session.ritz, self.observation_form)
        return {
            "final_obs": final_obs,
            "_final_obs": ended.copy(),
            "final_info": self._infos(ended, terminated),
            "_final_info": ended.copy(),
        }
