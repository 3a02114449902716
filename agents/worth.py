"""What policies with feedback are trained for: the log gap at the end, or the score that it comes to.

Scores need the best constant step and the limit of every training task, a hundred inner runs each, so their tasks are a
pool that is drawn from again and again. A low score counts by its log beyond one span below the best constant step, so
that no single task outweighs the others, and ending above the start counts once more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from metalearn_env.engine import Engine
from metalearn_env.family import Array
from metalearn_env.scoring import TaskSet

Worth = Callable[[Array], tuple[Array, Array]]  # final log gaps (n,) -> what is to be small, and its derivative, (n,)
Batch = Sequence[tuple[Engine, Worth]]  # tasks of each family at their start

RISEN = 0.2  # what a unit of log gap above the start counts beside


def of_gaps(weight: float) -> Worth:
    """Return the worth that is proportional to the log gap."""
    return lambda log_gap: (weight * log_gap, np.full(len(log_gap), weight))


@dataclass(frozen=True)
class OfScores:
    """The worth by scores, for tasks of the best constant step's log gaps ``zero`` and the limit's ``one``, (n,)."""

    zero: Array
    one: Array

    def __call__(self, log_gap: Array) -> tuple[Array, Array]:
        span = self.zero - self.one
        below = (log_gap - self.zero) / span  # -S
        beyond = np.maximum(below, 1.0)
        value = np.minimum(below, 1.0) + np.log(beyond) + RISEN * np.maximum(log_gap, 0.0)
        return value, 1.0 / (beyond * span) + RISEN * (log_gap > 0.0)


def scored_batches(pools: Sequence[Sequence[TaskSet]], n: int, rng: np.random.Generator) -> Iterator[Batch]:
    """Yield n tasks of each family for ever, from one of some pools (a set for each family) at a time."""
    while True:
        pool = pools[int(rng.integers(len(pools)))]
        yield [_drawn(tasks, rng.choice(np.flatnonzero(tasks.counted), n)) for tasks in pool]


def _drawn(tasks: TaskSet, rows: Array) -> tuple[Engine, Worth]:
    drawn = tasks.task
    task = type(drawn)(*(array[rows] for array in drawn))
    return Engine.start(tasks.family, task, tasks.horizon), OfScores(tasks.oracle[1][rows], tasks.limit[rows])
