"""Inner learners of several families side by side: an engine for each family, and what is known of all of them.

A row belongs to the family of its episode. The learners of a family sit side by side, without gaps, so that its
arithmetic costs what it would cost alone; which row sits where changes as episodes end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metalearn_env.engine import PER_LEARNER, PER_PARAMETER, Engine, Learners, Rows, indexed
from metalearn_env.family import Array

MOVING = tuple(name for name in PER_LEARNER if name not in ("horizon", "unit", "reference", "initial_gap"))

Mask = NDArray[np.bool_]


class MixedEngine(Learners):
    """n learners, each of one of ``families`` families; see `metalearn_env.engine.Engine`."""

    def __init__(self, n: int, families: int) -> None:
        super().__init__(**{name: np.zeros(n, int if name in ("horizon", "t") else float) for name in PER_LEARNER})
        self._parts = [_Part(n) for _ in range(families)]

    def put(self, fresh: Iterable[tuple[int, Rows, Engine]]) -> None:
        """Replace learners by new ones: of the family with that index, in those rows, (k,), an engine of k."""
        joining = {family: (rows, engine) for family, rows, engine in fresh}
        leaving = np.zeros(len(self.t), np.bool_)
        for rows, engine in joining.values():
            here = indexed(rows)
            leaving[here] = True
            for name in PER_LEARNER:
                getattr(self, name)[here] = getattr(engine, name)
        for family, part in enumerate(self._parts):
            part.exchange(self, leaving, *joining.get(family, (np.zeros(0, np.int64), None)))

    def advance(self, step_size: Array) -> None:
        """Take one inner step of ``step_size``, (n,), with every learner."""
        for part in self._occupied:
            part.engine.advance(step_size[part.rows])
        self._look()

    def advance_only(self, active: Mask, step_size: Array, *, keep: bool = True) -> None:
        """Take one inner step with the ``active`` learners, (n,); see `Engine.advance_only`."""
        for part in self._occupied:
            part.engine.advance_only(active[part.rows], step_size[part.rows], keep=keep)
        self._look()

    def final_info(self, rows: Rows) -> Iterator[tuple[Rows, dict[str, Array]]]:
        """Yield rows among ``rows`` and what their family tells of their ends, name -> (k,); see `TaskFamily`."""
        for of_family, engine, places in self.learners(rows):
            yield from ((of_family, info) for _, info in engine.final_info(places))

    def learners(self, rows: Rows) -> Iterator[tuple[Rows, Engine, Rows]]:
        """Yield rows among ``rows``, (k,), the engine of their family, and their places in it, (k,)."""
        wanted = np.zeros(len(self.t), np.bool_)
        wanted[rows] = True
        for part in self._occupied:
            there = np.flatnonzero(wanted[part.rows])
            if there.size:
                yield part.rows[there], part.engine, there

    @property
    def _occupied(self) -> Iterator[_Part]:
        return (part for part in self._parts if part.rows.size)

    def _look(self) -> None:
        for part in self._occupied:
            for name in MOVING:
                getattr(self, name)[part.rows] = getattr(part.engine, name)


class _Part:
    """The learners of one family, at places 0, ..., k - 1 of an engine of k."""

    def __init__(self, n: int) -> None:
        self.rows = np.zeros(0, np.int64)  # (k,) whose place it is
        self.engine: Engine
        self._room = n
        self._tasks: Any = None  # arrays with leading axis n, of which the engine's task is the beginning

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copy, whose engine is to look at its own tasks."""
        self.__dict__ = state
        self._show_tasks()

    def exchange(self, known: Learners, leaving: Mask, rows: Rows, fresh: Engine | None) -> None:
        """Let the rows that are ``leaving``, (n,), go, and take in ``rows``, (j,), at the start of which fresh is.

        What is known of the learners of all rows, (n,), is that of the new ones already.
        """
        leaves = leaving[self.rows]
        (gone,) = leaves.nonzero()
        if fresh is None and not gone.size:
            return
        before, size = len(self.rows), len(self.rows) - len(gone) + len(rows)
        if size == before and fresh is not None:
            self.rows[gone] = rows
            return self.engine.put([(0, gone, fresh)])  # as many come as go
        free = np.concatenate([gone[gone < size], np.arange(before, size)])
        beyond = size + (~leaves[size:]).nonzero()[0]  # places of those who stay, to be given up
        moves = _Moves(size, indexed(free[: len(rows)]), indexed(free[len(rows) :]), indexed(beyond))
        if self._tasks is None:
            assert fresh is not None  # the first to come
            self.engine = replace(fresh)
            self._tasks = fresh.task._make(np.empty((self._room, *a.shape[1:]), a.dtype) for a in fresh.task)
        for index, array in enumerate(self._tasks):
            moves.refill(array, None if fresh is None else fresh.task[index])
        self.rows = moves.refilled(self.rows, rows)
        for name in PER_PARAMETER:
            old, joining = getattr(self.engine, name), None if fresh is None else getattr(fresh, name)
            setattr(self.engine, name, moves.refilled(old[:before], joining))
        for name in PER_LEARNER:
            setattr(self.engine, name, getattr(known, name)[self.rows])
        self.engine.scratch = np.empty_like(self.engine.theta)
        self._show_tasks()

    def _show_tasks(self) -> None:
        if self._tasks is not None:
            self.engine.task = self._tasks._make(array[: len(self.rows)] for array in self._tasks)


class _Moves(NamedTuple):
    """Where learners go, as some leave and others join."""

    size: int  # learners that there are then
    new: Rows | slice  # places of those who join
    moved: Rows | slice  # places of those who stay and lay beyond
    beyond: Rows | slice  # where they lay

    def refill(self, array: NDArray[Any], joining: NDArray[Any] | None) -> None:
        """Move the entries of an array in, and put those of ``joining`` in."""
        array[self.moved] = array[self.beyond]
        if joining is not None:
            array[self.new] = joining

    def refilled(self, array: NDArray[Any], joining: NDArray[Any] | None) -> NDArray[Any]:
        """Return the entries that there are then, of an array of those that there were, which may be changed."""
        if joining is not None and (added := self.size - len(array)) > 0:
            array = np.concatenate([array, joining[-added:]])
        self.refill(array, joining)
        return array[: self.size]
