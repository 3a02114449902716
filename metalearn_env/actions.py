"""What an agent's action means: a step size, as a multiple of the last one or of the task's unit.

==========  ===========================  ==============================================
action      the agent gives              step size
==========  ===========================  ==============================================
relative    a in [-1, 1]                 last step * 100^a
absolute    a in [-1, 1]                 unit * 1000^a
discrete    i in 0..6                    last step * (.5, .707, .9, 1, 1.1, 1.414, 2)[i]
==========  ===========================  ==============================================

Every mode stays within unit * 10^-6 ... unit * 10^6. With the strategy "random" the agent gives a second number, the
spread of the step: the environment takes the step above times exp(spread * z), z standard normal, and the next action
is relative to the step before the draw. Source of the relative modes: Xu et al. 2019, arXiv 1909.09712.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from metalearn_env.engine import Learners, Rows
from metalearn_env.family import ONE, Array

Action = Literal["relative", "absolute", "discrete"]
Strategy = Literal["dynamic", "constant", "random"]

RELATIVE_DECADES = 2.0  # good step sizes alternate between long and short ones that are so far apart
ABSOLUTE_DECADES = 3.0
FACTORS = (0.5, 0.707, 0.9, 1.0, 1.1, 1.414, 2.0)
SPREADS = (0.0, 0.25, 0.5, 1.0)
RANGE = 1e6

_MINUS_ONE = -ONE
_RELATIVE_LOG = np.array(RELATIVE_DECADES * np.log(10.0))
_ABSOLUTE_LOG = np.array(ABSOLUTE_DECADES * np.log(10.0))


class ActionMap:
    """Turns the actions of n agents into n step sizes.

    Args:
        n: agents.
        action: "relative", "absolute" or "discrete".
        strategy: "dynamic" (a step size each inner step), "constant" (one for the episode) or "random".

    Attributes:
        choices: for discrete actions, the number of choices of each component; else None.
        size: components of an action.

    Raises:
        ValueError: another action or strategy.
    """

    def __init__(self, n: int, action: str = "relative", strategy: str = "dynamic") -> None:
        for name, value, known in (("action", action, Action), ("strategy", strategy, Strategy)):
            if value not in get_args(known):
                raise ValueError(f"{name} is one of {', '.join(get_args(known))}, not {value!r}")
        self.action, self.strategy = action, strategy
        self.size = 2 if strategy == "random" else 1
        self.choices = (len(FACTORS), len(SPREADS))[: self.size] if action == "discrete" else None
        self._center, self._low, self._high = np.zeros((3, n))  # the last step size before its draw; its bounds

    def begin(self, fresh: Learners, rows: Rows) -> None:
        """Take up the new episodes of ``rows``, at the start of which the engine ``fresh`` stands."""
        self._center[rows] = fresh.step_size
        self._low[rows], self._high[rows] = fresh.unit / RANGE, fresh.unit * RANGE

    def state(self) -> dict[str, Any]:
        """Return all that changes with time, as plain lists."""
        return {"center": self._center.tolist(), "low": self._low.tolist(), "high": self._high.tolist()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a `state` of as many agents."""
        self._center, self._low, self._high = (np.array(state[name], np.float64) for name in ("center", "low", "high"))

    def parse(self, actions: Any, n: int) -> NDArray[Any]:
        """Return actions as an array (n, size), clipped to their space.

        Raises:
            ValueError: shape, type, a value that is not finite, or a choice that does not exist. Nothing has changed.
        """
        array = np.asarray(actions)
        shape = (n,) if self.choices and self.size == 1 else (n, self.size)
        if array.dtype.kind not in ("iu" if self.choices else "fiu"):
            wanted = "whole number" if self.choices else "number"
            raise ValueError(f"an action is a {wanted}, not of type {array.dtype}")
        if array.shape != shape:
            one = n == 1 and array.shape[:1] == (1,)
            raise ValueError(
                f"an action has shape {shape[1:]}, not {array.shape[1:]}"
                if one
                else f"{n} actions have shape {shape}, not {array.shape}"
            )
        if self.choices is None:
            return _clipped(array.astype(np.float64, copy=False))
        array = array.reshape(n, self.size)
        if (array < 0).any() or (array >= self.choices).any():
            bad = array[((array < 0) | (array >= self.choices)).any(axis=1)][0]
            raise ValueError(f"a discrete action is at least 0 and below {self.choices}, not {tuple(bad.tolist())}")
        return array

    def step_size(self, actions: NDArray[Any], engine: Learners, noise: Array | None = None) -> Array:
        """Return the step sizes, (n,), of parsed actions; ``noise`` (n,) is the draw of the strategy "random"."""
        location = actions[:, 0]
        if self.action == "relative":
            step = self._center * np.exp(_RELATIVE_LOG * location)
        elif self.action == "absolute":
            step = engine.unit * np.exp(_ABSOLUTE_LOG * location)
        else:
            step = self._center * np.take(FACTORS, location)
        self._center = step = np.minimum(np.maximum(step, self._low), self._high)
        if noise is None:
            return step
        spread = np.take(SPREADS, actions[:, 1]) if self.choices else 0.5 * (1.0 + actions[:, 1])
        return step * np.exp(spread * noise)


def _clipped(array: Array) -> Array:
    """Return finite numbers clipped to [-1, 1], or raise ``ValueError``."""
    if not math.isfinite(np.vdot(array, array)):  # a quick look; only what is truly not finite is refused
        for row in np.flatnonzero(~np.isfinite(array).all(axis=1)):
            raise ValueError(f"an action is finite; row {row} is {array[row].tolist()}")
    return np.minimum(np.maximum(array, _MINUS_ONE), ONE)
