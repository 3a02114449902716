"""What an agent that decides every few inner steps sees at a decision: what has changed since the one before.

Signals, step sizes and norms are compared by the observer itself. What is left are the directions: that at a decision,
and that at the decision before (`Apart`). In between nothing need be looked at. Or a decision sees the means over all
inner steps since the one before (`Averaged`), which say more where directions are noisy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from metalearn_env.engine import PER_LEARNER, Engine, Learners, Rows, scaled_columns
from metalearn_env.mixed_engine import MixedEngine
from metalearn_env.states import numbers

MEANS = ("signal", "squared_norm", "previous_squared_norm", "alignment")


def check_averaged(averaged: bool, interval: int) -> bool:
    """Return whether decisions see means.

    Raises:
        ValueError: it is no truth value, or there is but one inner step to take the mean of.
    """
    if not isinstance(averaged, (bool, np.bool_)):
        raise ValueError(f"averaged is True or False, not {averaged!r}")
    if averaged and interval == 1:
        raise ValueError("with an interval of 1 there is nothing to take means of: averaged is False, not True")
    return bool(averaged)


def seen_at_decisions(n: int, size: int, interval: int, averaged: bool) -> Apart | Averaged:
    """Return what tells the decisions of n learners, of at most ``size`` parameters, what they see."""
    return Averaged(n) if averaged else Apart(n, size, interval)


class Apart:
    """The directions of n learners at their last decisions, if these are several inner steps apart.

    Args:
        n: learners.
        size: the most parameters that one has.
        interval: inner steps from a decision to the next; of 1 the engine itself knows the direction before.
    """

    def __init__(self, n: int, size: int, interval: int) -> None:
        self._apart = interval > 1
        self._rows = np.arange(n)
        self._direction = np.zeros((n, size) if self._apart else (0, 0))
        self._squared_norm = np.ones(n)

    def begin(self, fresh: Engine, rows: Rows) -> None:
        """Take up the new episodes of ``rows``, at the start of which the engine ``fresh`` stands: a first decision."""
        if self._apart:
            self._keep(fresh, rows, np.arange(len(rows)))
            self._squared_norm[rows] = fresh.squared_norm

    def passed(self, learners: Learners) -> None:
        """Take in an inner step: nothing of it is seen."""

    def seen(self, engine: Engine | MixedEngine) -> Learners:
        """Return the learners at a decision, ``alignment`` and ``previous_squared_norm`` being of the one before."""
        if not self._apart:
            return engine
        learners = Learners(**{name: getattr(engine, name) for name in PER_LEARNER})
        learners.previous_squared_norm, self._squared_norm = self._squared_norm, engine.squared_norm.copy()
        learners.alignment = np.zeros(len(self._rows))
        for rows, part, places in engine.learners(self._rows):
            scaled = part.direction[places, scaled_columns(part.family)]
            learners.alignment[rows] = np.vecdot(scaled, self._direction[rows, : scaled.shape[1]])
            self._keep(part, rows, places)
        return learners

    def _keep(self, engine: Engine, rows: Rows, places: Rows) -> None:
        scaled = scaled_columns(engine.family)
        self._direction[rows, scaled] = engine.direction[places, scaled]


class Averaged:
    """The means, over the inner steps since their last decisions, of what n learners show.

    They are of the signal, of |d|^2, and of |d_before|^2 and d.d_before, where "before" is at the inner step before.

    Args:
        n: learners.
    """

    def __init__(self, n: int) -> None:
        self._totals = np.zeros((len(MEANS), n))
        self._count, self._t = np.zeros((2, n), np.int64)

    def begin(self, fresh: Learners, rows: Rows) -> None:
        """Take up the new episodes of ``rows``, at the start of which ``fresh`` stands: a first decision.

        Those before ended at a decision, and have left nothing.
        """
        self._t[rows] = fresh.t

    def passed(self, learners: Learners) -> None:
        """Take in an inner step, of those that have made one."""
        moved = learners.t > self._t
        self._t[:] = learners.t
        self._count += moved
        for total, name in zip(self._totals, MEANS, strict=True):
            np.add(total, getattr(learners, name), out=total, where=moved)

    def seen(self, learners: Learners) -> Learners:
        """Return the learners at a decision, as the inner steps since the one before were on average."""
        told = Learners(**{name: getattr(learners, name) for name in PER_LEARNER})
        for total, name in zip(self._totals, MEANS, strict=True):
            now = getattr(learners, name).copy()
            setattr(told, name, np.divide(total, self._count, out=now, where=self._count > 0))
        self._totals[:], self._count[:] = 0.0, 0
        return told

    def state(self) -> dict[str, Any]:
        """Return all that changes with time, as plain lists."""
        return {"totals": self._totals.tolist(), "count": self._count.tolist(), "t": self._t.tolist()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a `state` of as many learners.

        Raises:
            ValueError: it is none. Nothing has changed.
        """
        totals = numbers(state, "totals", self._totals.shape)
        count, t = (numbers(state, name, self._t.shape, least=0, whole=True) for name in ("count", "t"))
        self._totals, self._count, self._t = totals, count, t
