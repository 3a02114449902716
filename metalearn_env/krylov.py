"""What the last inner steps tell of the curvature: Ritz values, and how much of the direction lies along each.

On a quadratic with the Hessian A, a step of size h turns the gradient g into g - h A g. The last m gradients, and the
steps taken from them, therefore tell what A does to the space that they span: its eigenvalues there, the Ritz values,
lie between those of A, and the inverse of one is the step that removes what of the gradient lies along its vector.
Steps taken from them are far better than those of a single difference of gradients, which is one Ritz value: limited
memory steepest descent (Fletcher 2012, Mathematical Programming 135). Multiplying the objective or theta by a constant
changes none of the features.

=================  ==================================================================================================
ritz_step[k]       natural log of 1 / Ritz value over the last step size, of the Ritz vector with the largest
                   share * value^k; k = 0..3, the inverses being what discrete actions may choose
ritz_share[k]      natural log of its share, the part of |d|^2 that lies along it
ritz_longest       as ritz_step, of the least Ritz value,
ritz_shortest      and of the largest
=================  ==================================================================================================

The largest share is most of the direction itself, with k = 1 most of the curvature along it, d'A d; the larger k, the
more a step takes of what a longer step would let grow. Where there is no positive Ritz value, as before the first step,
a feature is 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from metalearn_env.actions import RITZ
from metalearn_env.engine import Engine, Rows, scaled_columns
from metalearn_env.family import TINY, Array
from metalearn_env.mixed_engine import MixedEngine
from metalearn_env.observations import RITZ_FEATURES

RIDGE = 1e-12  # added to the Gram matrix of unit vectors, which may depend on each other but for rounding
NEGLIGIBLE = 1e-9  # of the largest Ritz value


class Krylov:
    """The last directions of n learners, and what they tell of the curvature.

    Args:
        n: learners.
        size: the most parameters that one has.
        last: inner steps that are remembered, m; directions are m + 1.
    """

    def __init__(self, n: int, size: int, last: int) -> None:
        slots = last + 1  # a ring for each learner, in which a direction takes the place of the oldest
        self._rows, self._newest, self._t = np.arange(n), np.zeros(n, np.int64), np.zeros(n, np.int64)
        self._unit = np.zeros((n, slots, size))  # directions over their norms; those that there are not are zero
        self._norm, self._inverse_step = np.ones((n, slots)), np.zeros((n, slots))  # of the step that was taken there
        self._gram = np.zeros((n, slots, slots))
        self._last_step = np.ones(n)
        self.steps = np.ones((n, RITZ))  # the inverse Ritz values of k = 0..3; where there is none, the last step

    def begin(self, fresh: Engine, rows: Rows) -> None:
        """Take up the new episodes of ``rows``, at the start of which the engine ``fresh`` stands."""
        self._unit[rows], self._gram[rows], self._inverse_step[rows], self._norm[rows] = 0.0, 0.0, 0.0, 1.0
        self._newest[rows], self._t[rows] = 0, fresh.t
        self._last_step[rows], self.steps[rows] = fresh.step_size, fresh.step_size[:, None]
        self._keep(fresh, rows, np.arange(len(rows)))

    def passed(self, engine: Engine | MixedEngine) -> None:
        """Take in an inner step, of those that have made one."""
        moved = np.flatnonzero(engine.t > self._t)
        self._t[:] = engine.t
        for rows, part, places in engine.learners(moved):
            newest = self._newest[rows]
            self._last_step[rows] = step = part.step_size[places]
            self._inverse_step[rows, newest] = 1.0 / step
            self._newest[rows] = (newest + 1) % self._norm.shape[1]
            self._keep(part, rows, places)

    def features(self) -> NDArray[np.float64]:
        """Return what a decision sees, (n, `RITZ_FEATURES`)."""
        value, share = self.ritz()
        there = value > NEGLIGIBLE * value[:, -1:]
        found = there.any(axis=1)
        logs = np.log(np.where(there, value, 1.0))
        shares = np.where(there, np.log(np.maximum(share, TINY)), -np.inf)
        steps = np.where(there, -np.log(self._last_step)[:, None] - logs, 0.0)
        features = np.zeros((len(steps), len(RITZ_FEATURES)))
        for power in range(RITZ):
            most = (shares + power * logs).argmax(axis=1)[:, None]
            features[:, 2 * power] = np.take_along_axis(steps, most, axis=1)[:, 0]
            features[:, 2 * power + 1] = np.where(found, np.take_along_axis(shares, most, axis=1)[:, 0], 0.0)
        features[:, -2] = np.where(found, np.where(there, steps, -np.inf).max(axis=1), 0.0)
        features[:, -1] = steps[:, -1]
        self.steps = self._last_step[:, None] * np.exp(features[:, 0 : 2 * RITZ : 2])
        return features

    def ritz(self) -> tuple[Array, Array]:
        """Return the Ritz values, in ascending order, and the parts of |d|^2 along their vectors, (n, m + 1) each.

        Values of vectors that there are not are zero.
        """
        gram, slots = self._gram, np.arange(self._norm.shape[1])
        left = self._inverse_step > 0.0  # from where a step was taken, of which the outcome is known
        ratio = np.roll(self._norm, -1, axis=1) / self._norm
        image = (gram - np.roll(gram, -1, axis=2) * ratio[:, None]) * self._inverse_step[:, None]
        image *= left[:, :, None]  # u' A u of unit vectors
        known = gram * left[:, :, None] * left[:, None]
        known[:, slots, slots] = np.where(left, known[:, slots, slots] + RIDGE, 1.0)
        basis = np.linalg.inv(np.linalg.cholesky(known))  # its rows make the vectors orthonormal
        projected = basis @ image @ basis.mT
        value, vector = np.linalg.eigh(0.5 * (projected + projected.mT))
        along = np.take_along_axis(gram, self._newest[:, None, None], axis=2) * left[:, :, None]
        return value, np.square(vector.mT @ (basis @ along))[..., 0]

    def _keep(self, engine: Engine, rows: Rows, places: Rows) -> None:
        """Take the directions of an engine's ``places`` for the newest of ``rows``."""
        scaled, newest = scaled_columns(engine.family), self._newest[rows]
        norm = np.sqrt(engine.squared_norm[places])
        known = np.isfinite(norm)
        norm = np.where(known, norm, 1.0)
        unit = np.where(known[:, None], engine.direction[places, scaled], 0.0) / norm[:, None]
        self._norm[rows, newest], self._inverse_step[rows, newest] = norm, 0.0
        self._unit[rows, newest] = 0.0
        self._unit[rows, newest, : unit.shape[1]] = unit
        products = (self._unit[rows, :, : unit.shape[1]] @ unit[..., None])[..., 0]
        self._gram[rows, newest] = self._gram[rows, :, newest] = products
