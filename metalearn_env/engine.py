"""Inner learners at work: n of them side by side, each moving a chosen step along its family's direction.

An engine is the state of the learners and the few inner products that step-size rules and observations are made of.
It draws nothing and decides nothing. NumPy only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metalearn_env.family import TINY, Array, Evaluation, TaskFamily

DIVERGED_AT = np.array(1e6)  # times the initial gap
SMALLEST_GAP = np.array(1e-12)  # times the initial gap; smaller ones count as this

CHUNK = 2**13  # parameters evaluated at once: the temporary arrays of a larger batch would leave the cache

_ONE_STEP = np.array(1)

Rows = NDArray[np.int64]


def indexed(rows: Rows) -> Rows | slice:
    """Return ``rows``, (k,), as an index: a slice if they are one or none, at a fraction of the cost of an array."""
    if len(rows) > 1:
        return rows
    first = int(rows[0]) if len(rows) else 0
    return slice(first, first + len(rows))


@dataclass
class Learners:
    """What is known of n inner learners, a number for each."""

    horizon: NDArray[np.int64]  # (n,) inner steps of an episode
    t: NDArray[np.int64]  # (n,) inner steps taken
    loss: Array  # (n,)
    signal: Array  # (n,)
    squared_norm: Array  # (n,) |d|^2, and never zero
    previous_squared_norm: Array  # (n,) |d_prev|^2
    alignment: Array  # (n,) the inner product of d and d_prev
    step_size: Array  # (n,) the last step size taken; before the first, the one to start from
    unit: Array  # (n,) the natural step size of the task
    reference: Array  # (n,) f*
    initial_gap: Array  # (n,) the gap, loss - f*, at t = 0
    gap_ratio: Array  # (n,) gap / initial gap

    @property
    def ended(self) -> NDArray[np.bool_]:
        """Whether the horizon is reached or the run has diverged, (n,)."""
        return (self.t >= self.horizon) | ~(self.gap_ratio <= DIVERGED_AT)

    @property
    def diverged(self) -> NDArray[np.bool_]:
        """Whether a gap has exploded or is not a number, (n,)."""
        return ~(self.gap_ratio <= DIVERGED_AT)


@dataclass
class Engine(Learners):
    """The state of n inner learners of one family; to be read by all, changed by `advance` and `put` alone.

    The arrays of directions are used again two steps later: keep a copy, not the array.

    >>> from metalearn_env.families import make_family
    >>> from metalearn_env.pool import draw_tasks
    >>> family = make_family("LinearRegression", dimension=1)
    >>> engine = Engine.start(family, draw_tasks(family, seed=0, n=3, horizon=10), horizon=10)
    >>> engine.advance(1.0 / engine.task.diagonal[:, 0] ** 2)  # the inverse of the only eigenvalue
    >>> bool(np.all(engine.gap_ratio < 1e-12))
    True
    """

    family: TaskFamily
    task: Any  # a NamedTuple of arrays with leading axis n
    theta: Array  # (n, p)
    direction: Array  # (n, p); norms and inner products are of the columns that step sizes scale
    scratch: Array  # (n, p) room for the next direction

    @classmethod
    def start(
        cls, family: TaskFamily, task: Any, horizon: int | NDArray[np.int64], first: Array | float = 1.0
    ) -> Engine:
        """Put learners at the start of n tasks, with ``first``, (n,) or one number, the first step size in units."""
        theta = family.start(task)
        n = len(theta)
        t = np.zeros(n, np.int64)
        loss, signal, direction = evaluation = family.evaluate(task, theta, t)
        scaled = direction[:, scaled_columns(family)]
        unit, reference = family.step_unit(task, evaluation), np.array(family.reference_loss(task))
        return cls(
            family=family,
            task=task,
            horizon=np.full(n, horizon) if np.ndim(horizon) == 0 else np.asarray(horizon),
            t=t,
            theta=theta,
            loss=loss,
            signal=signal,
            direction=direction,
            scratch=np.empty_like(theta),
            squared_norm=np.vecdot(scaled, scaled) + TINY,
            previous_squared_norm=np.full(n, TINY),
            alignment=np.zeros(n),
            step_size=unit * first,
            unit=unit,
            reference=reference,
            initial_gap=(initial_gap := np.maximum(loss - reference, TINY)),
            gap_ratio=(loss - reference) / initial_gap,
        )

    def __post_init__(self) -> None:
        self._carried = self.family.num_carried

    def contiguous(self) -> Engine:
        """Return a copy whose arrays are contiguous and its own."""
        task = self.task._make([array.copy() for array in self.task])
        return replace(self, task=task, **{name: getattr(self, name).copy() for name in STATE})

    def put(self, fresh: Iterable[tuple[int, Rows, Engine]]) -> None:
        """Replace the learners of some rows, (k,), by those of an engine of k; the number is of their family, 0."""
        for _, rows, engine in fresh:
            places = indexed(rows)
            for mine, new in zip(self.task, engine.task, strict=True):
                mine[places] = new
            for name in STATE:
                getattr(self, name)[places] = getattr(engine, name)

    def advance(self, step_size: Array) -> None:
        """Take one inner step of ``step_size``, (n,), with every learner, or one that is no multiple of the direction.

        Such a move, (n, p), is what momentum makes; its step size is not a number.
        """
        previous, spare = self.direction, self.scratch
        if step_size.ndim == 1:
            move = np.multiply(previous, step_size[:, None], out=spare)
        else:
            move, step_size = step_size.copy(), np.full(len(step_size), np.nan)
        if self._carried:
            move[:, -self._carried :] = previous[:, -self._carried :]
        self.theta += move
        self.t += _ONE_STEP
        self.step_size = step_size.copy()  # rules may give the very array of the units
        self.loss, self.signal, self.direction = self.evaluate(spare)
        self.gap_ratio = (self.loss - self.reference) / self.initial_gap
        self.scratch, self.previous_squared_norm = previous, self.squared_norm
        direction = self.direction
        if self._carried:
            direction, previous = direction[:, : -self._carried], previous[:, : -self._carried]
        self.squared_norm = np.vecdot(direction, direction) + TINY
        self.alignment = np.vecdot(direction, previous)

    def advance_only(self, active: NDArray[np.bool_], step_size: Array, *, keep: bool = True) -> None:
        """Take one inner step with the ``active`` learners, (n,), and leave the others as they are.

        Without ``keep`` the others are left in any state, for new ones to be put in their place.
        """
        held = np.flatnonzero(~active)
        if not held.size:
            return self.advance(step_size)
        if 2 * held.size > len(active):
            return self._advance_few(np.flatnonzero(active), step_size)
        kept = {name: getattr(self, name)[held] for name in STATE} if keep else {}
        self.t[held] -= 1
        self.advance(np.where(active if step_size.ndim == 1 else active[:, None], step_size, 0.0))
        for name, values in kept.items():
            getattr(self, name)[held] = values

    def _advance_few(self, rows: Rows, step_size: Array) -> None:
        """Take one inner step with the learners in ``rows``, (k,), at the cost of k."""
        if not rows.size:
            return
        task = self.task._make([array[rows] for array in self.task])
        few = replace(
            self, task=task, scratch=self.scratch[rows], **{name: getattr(self, name)[rows] for name in STATE}
        )
        few.advance(step_size[rows])
        for name in STATE:
            getattr(self, name)[rows] = getattr(few, name)

    def evaluate(self, spare: Array) -> Evaluation:
        """Evaluate all learners, a chunk of rows at a time, with ``spare`` (n, p) to put the directions in."""
        n, p = self.theta.shape
        at_once = self.family.parameters_at_once or CHUNK
        if n * p <= at_once:
            return self.family.evaluate(self.task, self.theta, self.t)
        loss, signal, size = np.empty(n), np.empty(n), max(1, at_once // p)
        for first in range(0, n, size):
            rows = slice(first, first + size)
            task = self.task._make([array[rows] for array in self.task])
            loss[rows], signal[rows], spare[rows] = self.family.evaluate(task, self.theta[rows], self.t[rows])
        return Evaluation(loss, signal, spare)

    def learners(self, rows: Rows) -> Iterator[tuple[Rows, Engine, Rows]]:
        """Yield ``rows``, (k,), this engine, and their places in it: the same."""
        yield rows, self, rows

    def final_info(self, rows: Rows) -> Iterator[tuple[Rows, dict[str, Array]]]:
        """Yield rows among ``rows`` and what their family tells of their ends, name -> (k,); see `TaskFamily`."""
        if self.family.final_info_names:
            yield rows, self.family.final_info(self.task, self.theta, rows)


def scaled_columns(family: TaskFamily) -> slice:
    """Return the columns of theta that step sizes scale: all but those that are carried along."""
    return slice(family.num_parameters - family.num_carried)


PER_LEARNER = tuple(field.name for field in fields(Learners))
PER_PARAMETER = ("theta", "direction")
STATE = (*PER_LEARNER, *PER_PARAMETER)
