"""Episodes as an agent meets them, n side by side: engine, tasks, actions, observations and rewards put together.

Both environments, and everything that replays an agent, are thin coats over this; it knows no Gymnasium.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metalearn_env.actions import ActionMap
from metalearn_env.decisions import check_averaged, seen_at_decisions
from metalearn_env.engine import CHUNK, Engine, Learners, Rows, indexed
from metalearn_env.families import family_class
from metalearn_env.family import Array, TaskFamily
from metalearn_env.krylov import Krylov
from metalearn_env.mixed_engine import MixedEngine
from metalearn_env.mixture import Part, make_parts, typical_return
from metalearn_env.observations import Observer
from metalearn_env.pool import BLOCK_BYTES, Episodes, MixedPool, TaskPool
from metalearn_env.ranges import Range, as_decades, as_history, as_range
from metalearn_env.rewards import check_reward, potential

HORIZON = 50
MOST_DECADES = 5.0  # of the first step: actions reach six
SESSION_OPTIONS = (
    *("horizon", "history", "action", "strategy", "interval", "opening", "averaged", "ritz"),
    *("resolution", "reward", "first_step_decades"),
)
PART_OPTIONS = ("split", "ood", "weights")
ENV_OPTIONS = (*SESSION_OPTIONS, "observation", "render_mode")


class Outcome(NamedTuple):
    """What a decision of each of n agents brought."""

    reward: Array  # (n,)
    terminated: NDArray[np.bool_]  # (n,) the horizon is reached, or the inner run has diverged


class Trace:
    """The losses and step sizes of n episodes, (n, longest horizon + 1) each, NaN where there are none yet."""

    def __init__(self, n: int, longest: int) -> None:
        self.loss, self.step_size = np.full((2, n, longest + 1), np.nan)
        self.episode = np.zeros(n, np.int64)  # how many each row has begun

    def begin(self, engine: Learners, rows: Rows) -> None:
        self.episode[rows] += 1
        self.loss[rows] = self.step_size[rows] = np.nan
        self.update(engine)

    def update(self, engine: Learners) -> None:
        row = np.arange(len(engine.t))
        self.loss[row, engine.t], self.step_size[row, engine.t] = engine.loss, engine.step_size


class Session:
    """n rows of episodes.

    Args:
        parts: what the episodes are of: a family, or several parts.
        n: rows.
        horizon: inner steps of an episode, or a range of them.
        history: decisions in the observation, at most 10,000.
        action, strategy, interval, opening: see `metalearn_env.actions`.
        averaged: decisions see means over the inner steps since the one before, see `metalearn_env.decisions`.
        ritz: inner steps that Ritz values are of, see `metalearn_env.krylov`; 0: none are seen.
        resolution: what of the past is seen is rounded to multiples of it, see `metalearn_env.observations`; 0: not.
        reward: "log" or "linear".
        first_step_decades: in the train split the first step is the unit times 10^U(-x, x); a pair (low, high) is of
            decades up or down.
        trace: keep the losses and step sizes of every episode, to be drawn.

    Attributes:
        engine: the inner learners, from the first `begin` on.
        reward_unit: what rewards are divided by, (n,): 1, or what the families of a mixture typically pay.

    Raises:
        ValueError: an option that cannot be honoured.
    """

    def __init__(
        self,
        parts: TaskFamily | Sequence[Part],
        n: int,
        *,
        horizon: Range = HORIZON,
        history: int = 5,
        action: str = "relative",
        strategy: str = "dynamic",
        interval: int = 1,
        opening: int = 0,
        averaged: bool = False,
        ritz: int = 0,
        resolution: float = 0.0,
        reward: str = "log",
        first_step_decades: Range = 0.0,
        trace: bool = False,
    ) -> None:
        self._horizon = as_range("horizon", horizon, minimum=1, integer=True)
        self.history = as_history(history)
        check_reward(reward)
        self._decades = as_decades("first_step_decades", first_step_decades, most=MOST_DECADES)
        if any(self._decades) and strategy != "dynamic":
            raise ValueError(f"{strategy} steps have no first step to vary: first_step_decades={first_step_decades!r}")
        self.parts = (Part(parts, parts),) if isinstance(parts, TaskFamily) else tuple(parts)
        self.n, self.reward = n, reward
        self.actions = ActionMap(n, action, strategy, interval, opening, ritz)
        self.ritz = self.actions.ritz
        self.averaged = check_averaged(averaged, self.actions.interval)
        self.pool = self._pool()
        self.observer = Observer(n, self.history, self.ritz, resolution)
        for part in self.parts:
            if part.stretch != 1.0 and part.horizon(self._horizon) == self._horizon:
                raise ValueError(f"ood {part.axis!r} does not move a horizon of {horizon!r}")
        longest = max(part.horizon(self._horizon)[1] for part in self.parts)
        size = max(part.family.num_parameters for part in self.parts)
        self._decisions, self._longest = seen_at_decisions(n, size, interval, self.averaged), longest
        self._krylov = Krylov(n, size, self.ritz) if self.ritz else None
        self.trace = Trace(n, longest) if trace else None
        self.reward_unit = np.ones(n)
        self.begun = False  # whether there is an engine
        self.engine: Engine | MixedEngine
        self._potential = np.zeros(n)
        self._noise = np.zeros((n, longest if strategy == "random" else 0))
        self._mixed = len(self.parts) > 1 and n > 1  # at one time
        self._units: Array  # (parts,) of rewards

    def _pool(self) -> TaskPool | MixedPool:
        strategy, share = self.actions.strategy, BLOCK_BYTES // len(self.parts)
        pools = [
            TaskPool(
                part.family,
                self.n,
                part.horizon(self._horizon),
                first_step_decades=self._decades,
                noise=strategy == "random",
                block_bytes=share,
            )
            for part in self.parts
        ]
        return pools[0] if len(pools) == 1 else MixedPool(pools, [part.weight for part in self.parts], self.n)

    def _measured_units(self) -> Array:
        """Return what the rewards of each part are divided by; 1 where all parts are of one family."""
        origins = {id(part.origin): part.origin for part in self.parts}
        if len(origins) == 1:
            return np.ones(len(self.parts))
        horizon, reward = self._horizon[1], self.reward
        units = {key: typical_return(family, horizon, reward) for key, family in origins.items()}
        return np.array([units[id(part.origin)] for part in self.parts])

    def begin(self, rows: Rows) -> None:
        """Begin a new episode in each of ``rows``, sorted; all of them at the first call."""
        p = max(part.family.num_parameters for part in self.parts)
        at_once = max(1, CHUNK // p) if self.begun else self.n
        if not self.begun:
            self._units = self._measured_units()
        for first in range(0, len(rows), at_once):
            self._begin(rows[first : first + at_once])
        if self.trace is not None:
            self.trace.begin(self.engine, rows)

    def _begin(self, rows: Rows) -> None:
        fresh = []
        for part, some, (engine, noise) in self._episodes(rows):
            fresh.append((part, some, engine.contiguous() if self._keeps else engine))
            self._noise[some, : noise.shape[1]] = noise
        for part, some, engine in fresh:
            here = indexed(some)
            self.actions.begin(engine, here)
            self.observer.begin(engine, here)
            self._decisions.begin(engine, some)
            if self._krylov is not None:
                self._krylov.begin(engine, some)
            self._potential[here] = potential(engine, self.reward)
            self.reward_unit[here] = self._units[part]
        if self._mixed:
            self.engine = self.engine if self.begun else MixedEngine(self.n, len(self.parts))
            self.engine.put(fresh)
        elif self._keeps:
            self.engine = fresh[0][2]
        else:
            self.engine.put(fresh)
        self.begun = True

    @property
    def _keeps(self) -> bool:
        """Whether fresh learners are to be kept themselves, not to be put in the place of others."""
        return self.n == 1 or not (self.begun or self._mixed)

    def _episodes(self, rows: Rows) -> Iterator[tuple[int, Rows, Episodes]]:
        if isinstance(self.pool, MixedPool):
            yield from self.pool.take(rows)
        else:
            yield 0, rows, self.pool.take(rows)

    def step(self, actions: NDArray[Any], active: NDArray[np.bool_] | None = None) -> Outcome:
        """Make the inner steps of one decision with every row, or the ``active`` ones, of parsed actions (n, size).

        Rows that are not active are to begin anew: what is said of them until then means nothing.
        """
        krylov = self._krylov
        step_size = self.actions.step_size(actions, self.engine, None if krylov is None else krylov.steps)
        if self.actions.interval == 1 and not self.actions.decides_once:
            self._advance(step_size, active, keep=False)
        else:
            self._hold(step_size, active)
        if krylov is not None:
            krylov.look()
        self.observer.update(self._decisions.seen(self.engine), None if krylov is None else krylov.features)
        before, self._potential = self._potential, potential(self.engine, self.reward)
        reward = before - self._potential
        return Outcome(reward / self.reward_unit if len(self.parts) > 1 else reward, self.engine.ended)

    def info(self) -> dict[str, Array]:
        """Return loss, signal, last step size and gap, (n,) each, as new arrays."""
        engine = self.engine
        return {
            "loss": engine.loss.copy(),
            "signal": engine.signal.copy(),
            "step_size": engine.step_size.copy(),
            "gap": engine.loss - engine.reference,
        }

    def final_info(self, rows: Rows) -> Iterator[tuple[Rows, dict[str, Array]]]:
        """Yield rows among ``rows``, (k,), and what their family tells of their ends: new arrays (k,)."""
        return self.engine.final_info(rows)

    def learners(self, rows: Rows) -> Iterator[tuple[Rows, Engine, Rows]]:
        """Yield rows among ``rows``, (k,), the engine of their family, and their places in it, (k,)."""
        return self.engine.learners(rows)

    def _hold(self, step_size: Array, active: NDArray[np.bool_] | None) -> None:
        """Make the inner steps of one decision, each with the rows that have not ended."""
        going = np.ones(self.n, np.bool_) if active is None else active
        once = self.actions.decides_once
        held_for = np.full(self.n, self._longest) if once else self.actions.held_for(self.engine.t)
        for passed in range(held_for.max()):
            going = going & (held_for > passed)
            if not going.any():
                break
            if passed and self.actions.switches:
                step_size = self.actions.switched(going)
            self._advance(self._drawn(step_size) if self.actions.strategy == "random" else step_size, going)
            going = going & ~self.engine.ended

    def _drawn(self, mean: Array) -> Array:
        now = np.minimum(self.engine.t, self._noise.shape[1] - 1)
        return self.actions.drawn(mean, self._noise[np.arange(self.n), now])

    def _advance(self, step_size: Array, active: NDArray[np.bool_] | None, *, keep: bool = True) -> None:
        if active is None:
            self.engine.advance(step_size)
        else:
            self.engine.advance_only(active, step_size, keep=keep)
        self._decisions.passed(self.engine)
        if self._krylov is not None:
            self._krylov.passed(self.engine)
        if self.trace is not None:
            self.trace.update(self.engine)


def make_session(family: Any, families: Any, n: int, options: dict[str, Any], *, trace: bool) -> Session:
    """Return a session of ``n`` rows.

    Args:
        family: one family, or None.
        families: several, or None; see `metalearn_env.mixture.make_parts`.
        n: rows.
        options: `SESSION_OPTIONS`, `PART_OPTIONS`, and of one family its own.
        trace: see `Session`.

    Raises:
        TypeError: an option that there is not.
        ValueError: a value that cannot be honoured.
    """
    ours = {name: options[name] for name in SESSION_OPTIONS if name in options}
    theirs = {name: value for name, value in options.items() if name not in SESSION_OPTIONS}
    return Session(resolved(family, families, theirs), n, **ours, trace=trace)


def resolved(family: Any, families: Any, options: dict[str, Any]) -> tuple[Part, ...]:
    """Return the parts of an environment from all its options but `SESSION_OPTIONS`; see `make_session`."""
    if (family is None) == (families is None):
        raise ValueError(f"an environment has a family or families, not family={family!r} and families={families!r}")
    own = ["weights"] if family is None else [field.name for field in fields(family_class(family)) if field.init]
    accepted = {"split", "ood", *own}
    for name in options:
        if name not in accepted:
            known = [*dict.fromkeys((*ENV_OPTIONS, "split", "ood", *own))]
            close = difflib.get_close_matches(name, known, n=1)
            guess = f"; did you mean {close[0]!r}?" if close else ""
            raise TypeError(f"there is no option {name!r} here{guess} (options: {', '.join(known)})")
    shared = {name: value for name, value in options.items() if name in PART_OPTIONS}
    if family is not None:
        families = [{"family": family, **{name: value for name, value in options.items() if name not in shared}}]
    return make_parts(families, **shared)
