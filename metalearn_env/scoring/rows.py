"""Who is scored, and the line of a results table that it comes to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from metalearn_env.family import Array
from metalearn_env.scoring.runs import Run
from metalearn_env.scoring.statistics import estimate
from metalearn_env.scoring.tasks import TaskSet


class Row(NamedTuple):
    """One line of a results table."""

    controller: str
    kind: str  # "rule", "control", "policy" or "limit"
    iqm: float
    low: float
    high: float
    diverged: float


def _fits_all(task_set: TaskSet) -> None:
    """Refuse no tasks."""


class Contender(NamedTuple):
    """Whatever is to be scored."""

    name: str
    kind: str  # "rule", "control", "policy" or "limit"
    runs: Callable[[TaskSet], list[Run]]  # one for each training seed
    told: str = "nothing"  # beyond what an agent observes
    outside: bool = False  # whether it makes moves that are no multiples of the direction
    families: tuple[str, ...] = ()  # the class names of those it is for; empty: any
    check: Callable[[TaskSet], None] = _fits_all  # raises ``ValueError`` for tasks that it cannot be run on

    def is_for(self, task_set: TaskSet) -> bool:
        """Return whether it is meant for the family of some tasks."""
        return not self.families or type(task_set.family).__name__ in self.families


def score_row(controller: str, kind: str, sets: Sequence[TaskSet], final_log_gaps: Sequence[Array]) -> Row:
    """Return the line of a table for the final log gaps (runs, n) on each of some task sets, all of the same weight.

    Raises:
        ValueError: fewer than 8 tasks of a set count.
    """
    for task_set in sets:
        task_set.check_counted()
    scores = [task_set.scores(gaps) for task_set, gaps in zip(sets, final_log_gaps, strict=True)]
    diverged = np.mean([(gaps > 0.0).mean() for gaps in final_log_gaps])
    return Row(controller, kind, *estimate(*scores), float(diverged))
