"""What an agent that decides every few inner steps sees at a decision: what has changed since the one before.

Signals, step sizes and norms are compared by the observer itself. What is left are the directions: that at a decision,
and that at the decision before.
"""

from __future__ import annotations

import numpy as np

from metalearn_env.engine import PER_LEARNER, Engine, Learners, Rows, scaled_columns
from metalearn_env.mixed_engine import MixedEngine


class Decisions:
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
