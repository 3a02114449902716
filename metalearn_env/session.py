"""Episodes as an agent meets them, n side by side: engine, tasks, actions, observations and rewards put together.

Both environments, and everything that replays an agent, are thin coats over this; it knows no Gymnasium.
"""

from __future__ import annotations

import difflib
from dataclasses import fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metalearn_env.actions import ActionMap
from metalearn_env.engine import CHUNK, Engine, Rows
from metalearn_env.families import family_class, make_family
from metalearn_env.family import Array, TaskFamily
from metalearn_env.observations import Observer
from metalearn_env.pool import TaskPool
from metalearn_env.ranges import Range, as_integer, as_range
from metalearn_env.rewards import check_reward, potential

HORIZON = 50
SESSION_OPTIONS = ("horizon", "history", "action", "strategy", "reward")
ENV_OPTIONS = (*SESSION_OPTIONS, "observation", "render_mode")


class Outcome(NamedTuple):
    """What n steps brought."""

    reward: Array  # (n,)
    terminated: NDArray[np.bool_]  # (n,) the horizon is reached, or the inner run has diverged


class Trace:
    """The losses and step sizes of n episodes, (n, longest horizon + 1) each, NaN where there are none yet."""

    def __init__(self, n: int, longest: int) -> None:
        self.loss, self.step_size = np.full((2, n, longest + 1), np.nan)

    def begin(self, engine: Engine, rows: Rows) -> None:
        self.loss[rows] = self.step_size[rows] = np.nan
        self.update(engine)

    def update(self, engine: Engine) -> None:
        row = np.arange(len(engine.t))
        self.loss[row, engine.t], self.step_size[row, engine.t] = engine.loss, engine.step_size


class Session:
    """n rows of episodes.

    Args:
        family: the inner problems.
        n: rows.
        horizon: inner steps of an episode, or a range of them.
        history: inner steps in the observation.
        action, strategy: see `metalearn_env.actions`.
        reward: "log" or "linear".
        trace: keep the losses and step sizes of every episode, to be drawn.

    Raises:
        ValueError: an option that cannot be honoured.
    """

    def __init__(
        self,
        family: TaskFamily,
        n: int,
        *,
        horizon: Range = HORIZON,
        history: int = 5,
        action: str = "relative",
        strategy: str = "dynamic",
        reward: str = "log",
        trace: bool = False,
    ) -> None:
        low, high = as_range("horizon", horizon, minimum=1, integer=True)
        self.history = as_integer("history", history, minimum=0)
        check_reward(reward)
        self.family, self.n, self.reward = family, n, reward
        self.actions = ActionMap(n, action, strategy)
        self.pool = TaskPool(family, n, (low, high), vary_first_step=strategy != "constant", noise=strategy == "random")
        self.observer = Observer(family, n, self.history)
        self.trace = Trace(n, high) if trace else None
        self._potential = np.zeros(n)
        self.begun = False  # whether there is an engine
        self.engine: Engine
        self._noise: Array  # (n, longest horizon) or (n, 0)

    def begin(self, rows: Rows) -> None:
        """Begin a new episode in each of ``rows``, sorted; all of them at the first call."""
        at_once = max(1, CHUNK // self.family.num_parameters) if self.begun else self.n
        for first in range(0, len(rows), at_once):
            self._begin(rows[first : first + at_once])

    def _begin(self, rows: Rows) -> None:
        task, horizon, first_step, noise = self.pool.take(rows)
        if self.begun and self.n > 1:
            fresh = Engine.start(self.family, task, horizon, first_step)
            self.engine.put(rows, fresh)
            self._noise[rows] = noise
        else:
            task = task._make(map(np.ascontiguousarray, task))
            self.engine = fresh = Engine.start(self.family, task, horizon.copy(), first_step)
            self._noise = noise.copy()
        self.actions.begin(fresh, rows)
        self.observer.begin(fresh, rows)
        self._potential[rows] = potential(fresh, self.reward)
        if self.trace is not None:
            self.trace.begin(self.engine, rows)
        self.begun = True

    def step(self, actions: NDArray[Any], active: NDArray[np.bool_] | None = None) -> Outcome:
        """Make one step with every row, or with the ``active`` ones, of parsed actions (n, size).

        Rows that are not active are to begin anew: what is said of them until then means nothing.
        """
        if self.actions.strategy == "constant":
            self._run_to_the_end(actions, active)
        else:
            self._advance(self.actions.step_size(actions, self.engine, self._draw()), active, keep=False)
        self.observer.update(self.engine)
        before, self._potential = self._potential, potential(self.engine, self.reward)
        return Outcome(before - self._potential, self.engine.ended)

    def info(self) -> dict[str, Array]:
        """Return loss, signal, last step size and gap, (n,) each, as new arrays."""
        engine = self.engine
        return {
            "loss": engine.loss.copy(),
            "signal": engine.signal.copy(),
            "step_size": engine.step_size.copy(),
            "gap": engine.loss - engine.reference,
        }

    def final_info(self, rows: Rows) -> dict[str, Array]:
        """Return what the family tells of the inner runs of ``rows``, (k,), in their end: new arrays (k,)."""
        if not self.family.final_info_names:
            return {}
        return self.family.final_info(self.engine.task, self.engine.theta, rows)

    def _draw(self) -> Array | None:
        if self.actions.strategy != "random":
            return None
        return self._noise[np.arange(self.n), np.minimum(self.engine.t, self._noise.shape[1] - 1)]

    def _run_to_the_end(self, actions: NDArray[Any], active: NDArray[np.bool_] | None) -> None:
        engine = self.engine
        step_size = self.actions.step_size(actions, engine)
        going = np.ones(self.n, np.bool_) if active is None else active
        while going.any():
            self._advance(step_size, going)
            going = going & ~engine.ended

    def _advance(self, step_size: Array, active: NDArray[np.bool_] | None, *, keep: bool = True) -> None:
        if active is None:
            self.engine.advance(step_size)
        else:
            self.engine.advance_only(active, step_size, keep=keep)
        if self.trace is not None:
            self.trace.update(self.engine)


def make_session(family: str | type[TaskFamily], n: int, options: dict[str, Any], *, trace: bool) -> Session:
    """Return a session of ``n`` rows from the options of an environment: `SESSION_OPTIONS`, and those of the family.

    Raises:
        TypeError: an option that neither has.
        ValueError: a value that cannot be honoured.
    """
    known = [*ENV_OPTIONS, *(field.name for field in fields(family_class(family)) if field.init)]
    for name in options:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            guess = f"; did you mean {close[0]!r}?" if close else ""
            raise TypeError(f"there is no option {name!r}{guess} (options: {', '.join(known)})")
    ours = {name: options[name] for name in SESSION_OPTIONS if name in options}
    theirs = {name: value for name, value in options.items() if name not in SESSION_OPTIONS}
    return Session(make_family(family, **theirs), n, **ours, trace=trace)
