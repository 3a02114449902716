"""The Gymnasium environment: a session of one row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from metalearn_env.family import TaskFamily
from metalearn_env.mixture import Entry
from metalearn_env.observations import check_observation, feature_names
from metalearn_env.rendering import RENDER_FPS, RENDER_MODES, Renderer
from metalearn_env.session import make_session
from metalearn_env.spaces import action_space, formed, observation_space


def check_render_mode(render_mode: str | None, modes: Sequence[str] = RENDER_MODES) -> None:
    """Raise ``ValueError`` unless it is None or one of the modes."""
    if render_mode is not None and render_mode not in modes:
        raise ValueError(f"render_mode is None or one of {', '.join(modes)}, not {render_mode!r}")


class StepSizeEnv(gym.Env[Any, Any]):
    """An agent chooses the step size of an inner learner.

    ## Description
    A task is drawn from a family of inner problems. At every step the family gives a direction, the agent chooses how
    far to go, and the inner learner moves: ``theta += step_size * direction``. An episode is one inner run.

    ## Action Space
    | `action=` | space | step size |
    |---|---|---|
    | `"relative"` (default) | `Box(-1, 1, (1,), float32)` | the last one times `100**a` |
    | `"absolute"` | `Box(-1, 1, (1,), float32)` | the task's unit times `1000**a` |
    | `"discrete"` | `Discrete(7)` | the last one times .5, .707, .9, 1, 1.1, 1.414 or 2 |
    | `"discrete"`, with `ritz` | `Discrete(11)` | those, or the inverse of one of four Ritz values |

    With `strategy="dynamic"` (default) every inner step is an action, or every `interval` of them after the `opening`:
    an action then makes so many inner steps of one size (fewer where the run ends), like a frame skip. With
    `"constant"` one action is held for the whole inner run, so that an episode is one step. So it is with `"random"`,
    whose action has a second component, a spread (`a + 1`, or a choice of 0, .5, 1, 2) in decades: every inner step is
    drawn by the arcsine law; the step size above is their harmonic mean, and the longest is `10**spread` times the
    shortest. Numbers beyond the box are clipped; an action that is not finite, or of another shape or type, raises
    `ValueError`.

    ## Observation Space
    `Box(float32)` of 16 + 5 `history` columns, the same for every family, named by `env.unwrapped.feature_names`: the
    kind of the task and its descriptors; progress t / T and log10 T; log10 of the step size over the task's unit, of
    the signal and of |direction| over their first values; of each of the last `history` actions, the logs of the ratios
    of signal, step size and |direction| where it has led to and where it was taken, the cosine of the directions there,
    and the curvature number. All are free of units and bounded. `observation="dict"` gives the groups `task`,
    `progress` and `history`. With `ritz` there are 10 more columns, the group `ritz`: what the last directions tell of
    the curvature, see `metalearn_env.krylov`.

    ## Rewards
    `reward="log"` (default): log gap before the step minus log gap after it, with gap = loss - reference loss.
    `reward="linear"`: the fall of the gap, as a part of the first gap. A step is all that one action does. Both add up
    to the improvement over the episode, whatever the actions: the potential is clipped (log: 1e-12 to 1e6 times the
    first gap; linear: 0 to 10 times), not the reward. Where there are several families, rewards are divided by what a
    decent constant step typically earns on the family of the episode, so that no family drowns the others.

    ## Starting State
    A new task at its start. The step size to start from is the task's natural unit, as it shows at t = 0; in the train
    split times 10^U(-x, x), x being `first_step_decades`.

    ## Episode End
    `terminated` when the horizon is reached (it is part of the problem, and observed), or when the gap exceeds 1e6
    times the first gap or is not a number. Never `truncated`.

    ## Info
    `loss`, `signal` (the loss a learner would see), `step_size`, `gap`; at the end `final_gap`, and what the family
    tells (`final_info_names`): `greedy_value` and `optimal_value` of Q-learning.

    ## Arguments
    * `family`: set by the id; a name, or `"package.module:Class"` of one's own family.
    * `families`, `weights`: of `MetaLearn/Mixture-v0`. A list of families, each a name, `"package.module:Class"` or
      `{"family": name, option: value, ...}`; every episode is of one of them, drawn in proportion to the weights
      (default: equally often). Their options go into their entries.
    * `split`: `"train"`, `"validation"`, `"test"` or `"ood"`; their tasks are disjoint.
    * `ood`: of the split "ood", out of distribution: the axis along which tasks are moved beyond the ranges that are
      configured: what the family's `axes()` names (such as `"dimension"` or `"noise"`), `"short_horizon"` or
      `"long_horizon"` (a quarter of the horizon, four times). Default: every episode is moved along one of them.
    * `horizon`: inner steps of an episode, or a range `(low, high)` of them. Default 50.
    * `history`: actions in the observation. Default 5.
    * `interval`: inner steps that an action's step size is held for. Default 1. What is decided once, by
      `strategy="constant"` or `"random"`, is held for the whole run, and takes no other. The inverse of a Ritz value is
      taken once, and then that of the largest there has been.
    * `opening`: where the interval is above 1, inner steps at the start of an episode that are each an action of their
      own. Default 0.
    * `averaged`: where the interval is above 1, an action sees, of signal, directions and cosine, the means over the
      inner steps since the one before, which say more where directions are noisy; else what there is at the actions
      themselves, and in between nothing need be looked at. Default False.
    * `ritz`: of how many inner steps there are Ritz values, as many directions being kept, and one more; they are seen,
      and discrete actions may choose among their inverses. Of dynamic steps alone. Default 0: there are none.
    * `resolution`: what is observed of the past is rounded to multiples of it, a power of two from 2^-20 to 1, so that
      the actions of an agent are the same where the task is given in other units; else rounding errors grow until they
      show. Default 0: it is observed as it is.
    * `action`, `strategy`, `observation`, `reward`: as above.
    * `first_step_decades`: as above. Default 0: elsewhere episodes start at the unit, too.
    * `render_mode`: `None`, `"rgb_array"`, `"human"` or `"ansi"`, see Rendering.
    * of one family, every option that it has, such as `spectrum`, `batch_size` and `dataset` of
      `metalearn_env.families.linear_regression.LinearRegression`.

    ## Rendering
    * `"rgb_array"`: a picture, (400, 1200, 3): the gap over the inner steps, beside that of the best constant step in
      hindsight for the very same task (which is found at the first picture of an episode); the step sizes; and the
      inner problem, if the family shows it: the fit, the points and centres, the greedy policy on a grid, the value
      table. It is what `gymnasium.wrappers.RecordVideo` takes.
    * `"human"`: the same in a window, at every `reset` and `step`. It needs a display.
    * `"ansi"`: a few lines of text.

    ## Vectorized environment
    `gym.make_vec(id, num_envs=n)` gives the native batch, `metalearn_env.vector.StepSizeVectorEnv`.

    ## Version History
    * v0: first version.
    """

    metadata = {"render_modes": RENDER_MODES, "render_fps": RENDER_FPS}

    def __init__(
        self,
        family: str | type[TaskFamily] | None = None,
        *,
        families: Sequence[Entry] | None = None,
        observation: str = "flat",
        render_mode: str | None = None,
        **options: Any,
    ) -> None:
        check_observation(observation)
        check_render_mode(render_mode)
        self.session = make_session(family, families, 1, options, trace=render_mode is not None)
        self.observation_form, self.render_mode = observation, render_mode
        self.observation_space = observation_space(self.session.history, self.session.ritz, observation)
        self.action_space = action_space(self.session.actions)
        self._renderer = Renderer(self.session)
        self._ended = True

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The names of the columns of the flat observation."""
        return feature_names(self.session.history, self.session.ritz)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin a new episode; see `gymnasium.Env.reset`. There are no ``options``."""
        if options:
            raise ValueError(f"reset has no options, not {sorted(options)}")
        super().reset(seed=seed)
        if seed is not None or not self.session.pool.seeded(0):
            self.session.pool.seed(0, task_seed(self.np_random))
        self.session.begin(_ONE_ROW)
        self._ended = False
        if self.render_mode == "human":
            self.render()
        return self._observation(), self._info()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Make the inner steps of an action: one, ``interval``, or all if it is decided once; see `gymnasium.Env.step`.

        Raises:
            ValueError: the action has another shape or type, or is not finite. Nothing has changed.
            gymnasium.error.ResetNeeded: the episode has ended, or not begun.
        """
        if self._ended:
            raise gym.error.ResetNeeded("the episode has ended; call reset() before step()")
        outcome = self.session.step(self.session.actions.parse(np.asarray(action)[None], 1))
        info = self._info()
        self._ended = outcome.terminated.item()
        if self._ended:
            info["final_gap"] = info["gap"]
            for _, last in self.session.final_info(_ONE_ROW):
                info |= {name: float(value[0]) for name, value in last.items()}
        if self.render_mode == "human":
            self.render()
        return self._observation(), outcome.reward.item(), self._ended, False, info

    def render(self) -> NDArray[np.uint8] | str | None:
        """Return a picture of the episode so far, (H, W, 3), or text, as the render mode says.

        With "human", which renders by itself, and without a render mode it returns None.

        Raises:
            gymnasium.error.ResetNeeded: before the first reset.
            gymnasium.error.Error: there is no Matplotlib, or ("human") no display.
        """
        if self.render_mode is None:
            gym.logger.warn("render() returns nothing: the environment was made without a render_mode")
            return None
        if self.render_mode == "human":
            self._renderer.show()
            return None
        return (self._renderer.texts() if self.render_mode == "ansi" else self._renderer.pictures())[0]

    def close(self) -> None:
        """Close the window, if there is one."""
        self._renderer.close()

    def _observation(self) -> Any:
        columns = self.session.observer.observation()[0]
        return formed(columns, self.session.history, self.session.ritz, self.observation_form)

    def _info(self) -> dict[str, float]:
        engine = self.session.engine
        loss = engine.loss.item()
        return {
            "loss": loss,
            "signal": engine.signal.item(),
            "step_size": engine.step_size.item(),
            "gap": loss - engine.reference.item(),
        }


_ONE_ROW = np.zeros(1, np.int64)


def task_seed(generator: np.random.Generator) -> int:
    """Return the seed of a row's tasks, from the generator that Gymnasium has seeded."""
    return int(generator.integers(2**63))
