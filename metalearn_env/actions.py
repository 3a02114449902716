"""What an agent's action means: a step size, as a multiple of the last one or of the task's unit.

==========  ===========================  ==============================================
action      the agent gives              step size
==========  ===========================  ==============================================
relative    a in [-1, 1]                 last step * 100^a
absolute    a in [-1, 1]                 unit * 1000^a
discrete    i in 0..6                    last step * (.5, .707, .9, 1, 1.1, 1.414, 2)[i]
            i in 7..10, with ``ritz``    the inverse of a Ritz value, see `metalearn_env.krylov`
==========  ===========================  ==============================================

Every mode stays within unit * 10^-6 ... unit * 10^6. Source of the relative modes: Xu et al. 2019, arXiv 1909.09712.

A step size is held for ``interval`` inner steps, up to the next decision; in the ``opening``, the first inner steps of
an episode, each is decided on. The inverse of a Ritz value is taken once: what it removes it removes at the first time,
and what it lets grow would grow each time. The rest of the interval takes the inverse of the largest Ritz value since
the episode began, which lets hardly anything grow that is not noise.

With the strategy "random" the agent decides once, on a mean and a spread, and the environment draws every step of the
inner run by the arcsine law,

    1 / step = (1 + w cos(pi U)) / mean          U uniform on (0, 1), w = (r - 1) / (r + 1), r = 10^spread

so that ``mean``, the step size above, is the harmonic mean of the steps, and r the ratio of the longest to the shortest
there can be. On a quadratic with eigenvalues from mu to L, mean = 2 / (L + mu) and r = L / mu shrink every component of
the error alike, as fast as Chebyshev's steps do on average; the best constant step is that very mean with no spread.
Source: Pronzato, Wynn and Zhigljavsky, Dynamical Search (2000).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from metalearn_env.engine import Learners, Rows
from metalearn_env.family import ONE, Array
from metalearn_env.ranges import as_integer
from metalearn_env.states import numbers

Action = Literal["relative", "absolute", "discrete"]
Strategy = Literal["dynamic", "constant", "random"]

RELATIVE_DECADES = 2.0  # good step sizes alternate between long and short ones that are so far apart
ABSOLUTE_DECADES = 3.0
FACTORS = (0.5, 0.707, 0.9, 1.0, 1.1, 1.414, 2.0)
SPREADS = (0.0, 0.5, 1.0, 2.0)  # decades between the shortest and the longest step there can be
RITZ = 4  # Ritz values to choose from, see `metalearn_env.krylov`
RANGE = 1e6

_STATE = {"center": math.inf, "low": math.inf, "high": math.inf, "rest": math.inf, "width": 1.0}  # the most of each
_MINUS_ONE = -ONE
_RELATIVE_LOG = np.array(RELATIVE_DECADES * np.log(10.0))
_ABSOLUTE_LOG = np.array(ABSOLUTE_DECADES * np.log(10.0))
_HALF_A_DECADE = 0.5 * np.log(10.0)


class ActionMap:
    """Turns the actions of n agents into n step sizes.

    Args:
        n: agents.
        action: "relative", "absolute" or "discrete".
        strategy: "dynamic" (a step size each inner step), "constant" (one for the episode) or "random" (mean and spread
            of all steps of the episode).
        interval: inner steps that a dynamic step size is held for.
        opening: inner steps at the start of an episode that are each decided on, if others are not.
        ritz: inner steps that Ritz values are of, which discrete actions may then choose; 0: none.

    Attributes:
        switches: whether an interval may go on with another step size than it began with, as after a Ritz step.
        choices: for discrete actions, the number of choices of each component; else None.
        size: components of an action.
        decides_once: whether an action is of a whole episode.

    Raises:
        ValueError: another action or strategy; an interval, an opening or a number of inner steps that is none, or of
            what is decided once; an opening where the interval is 1.
    """

    def __init__(
        self,
        n: int,
        action: str = "relative",
        strategy: str = "dynamic",
        interval: int = 1,
        opening: int = 0,
        ritz: int = 0,
    ) -> None:
        for name, value, known in (("action", action, Action), ("strategy", strategy, Strategy)):
            if value not in get_args(known):
                raise ValueError(f"{name} is one of {', '.join(get_args(known))}, not {value!r}")
        self.action, self.strategy, self.interval = action, strategy, as_integer("interval", interval, minimum=1)
        self.size = 2 if strategy == "random" else 1
        self.decides_once = strategy != "dynamic"
        if self.decides_once and self.interval > 1:
            raise ValueError(f"{strategy} steps are decided once, for the whole episode: interval is 1, not {interval}")
        self.opening = as_integer("opening", opening, minimum=0)
        if self.decides_once and self.opening:
            raise ValueError(f"{strategy} steps are decided once, for the whole episode: opening is 0, not {opening}")
        self.ritz = as_integer("ritz", ritz, minimum=0)
        if self.decides_once and self.ritz:
            raise ValueError(f"{strategy} steps are decided once, and see no Ritz values: ritz is 0, not {ritz}")
        if self.opening and self.interval == 1:
            raise ValueError(f"with an interval of 1 every step is decided on: opening is 0, not {opening}")
        choices = (len(FACTORS) + (RITZ if self.ritz else 0), len(SPREADS))
        self.choices = choices[: self.size] if action == "discrete" else None
        self.switches = action == "discrete" and self.ritz > 0
        self._center, self._low, self._high = np.zeros((3, n))  # the last step size; its bounds
        self._rest = np.zeros(n)  # if steps switch: that of an interval after its first inner step
        self._width = np.zeros(n)  # w of the arcsine law

    def begin(self, fresh: Learners, rows: Rows | slice) -> None:
        """Take up the new episodes of ``rows``, at the start of which the engine ``fresh`` stands."""
        self._center[rows] = fresh.step_size
        self._low[rows], self._high[rows] = fresh.unit / RANGE, fresh.unit * RANGE

    def held_for(self, t: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return for how many inner steps, (n,), what is decided after ``t`` of them, (n,), is held."""
        return np.where(t < self.opening, 1, self.interval)

    def decisions(self, horizon: int) -> NDArray[np.int64]:
        """Return after how many inner steps of an episode there are decisions, (D,)."""
        if self.decides_once:
            return np.zeros(1, np.int64)
        opening = min(self.opening, horizon)
        return np.concatenate([np.arange(opening), np.arange(opening, horizon, self.interval)])

    def state(self) -> dict[str, Any]:
        """Return all that changes with time, as plain lists."""
        return {name: getattr(self, f"_{name}").tolist() for name in _STATE}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a `state` of as many agents.

        Raises:
            ValueError: it is of others, or of none that there can be. Nothing has changed.
        """
        shape = self._center.shape
        found = {name: numbers(state, name, shape, least=0.0, most=most) for name, most in _STATE.items()}
        for name, array in found.items():
            setattr(self, f"_{name}", array)

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

    def step_size(self, actions: NDArray[Any], engine: Learners, ritz: Array | None = None) -> Array:
        """Return the step sizes, (n,), of parsed actions; with the strategy "random", the mean of those to be drawn.

        Args:
            actions: parsed, (n, size).
            engine: the learners that are to move.
            ritz: the inverse Ritz values that discrete actions may choose, and that of the largest there has been,
                (n, RITZ + 1), if they may.
        """
        location = actions[:, 0]
        if self.action == "relative":
            step = self._center * np.exp(_RELATIVE_LOG * location)
        elif self.action == "absolute":
            step = engine.unit * np.exp(_ABSOLUTE_LOG * location)
        else:
            step = self._center * np.take(FACTORS, location, mode="clip")
            if self.switches:
                assert ritz is not None
                chosen = location >= len(FACTORS)
                step[chosen] = ritz[chosen, location[chosen] - len(FACTORS)]
                self._rest = self._bounded(np.where(chosen, ritz[:, -1], step))
        self._center = step = self._bounded(step)
        if self.strategy == "random":
            spread = np.take(SPREADS, actions[:, 1]) if self.choices else 0.5 * SPREADS[-1] * (1.0 + actions[:, 1])
            self._width = np.tanh(_HALF_A_DECADE * spread)
        return step

    def switched(self, which: NDArray[np.bool_] | bool = True) -> Array:
        """Return the step sizes, (n,), that intervals go on with, and those of ``which`` are relative to next."""
        self._center = np.where(which, self._rest, self._center)
        return self._rest

    def _bounded(self, step: Array) -> Array:
        return np.minimum(np.maximum(step, self._low), self._high)

    def drawn(self, mean: Array, uniform: Array) -> Array:
        """Return step sizes, (n,), of the ``mean`` and the spread of the last actions, for draws in [0, 1), (n,)."""
        return mean / (1.0 + self._width * np.cos(np.pi * uniform))


def _clipped(array: Array) -> Array:
    """Return finite numbers clipped to [-1, 1], or raise ``ValueError``."""
    if not math.isfinite(np.vdot(array, array)):  # a quick look; only what is truly not finite is refused
        for row in np.flatnonzero(~np.isfinite(array).all(axis=1)):
            raise ValueError(f"an action is finite; row {row} is {array[row].tolist()}")
    return np.minimum(np.maximum(array, _MINUS_ONE), ONE)
