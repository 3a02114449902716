"""What the last inner steps tell of the curvature: Ritz values, and how much of the direction lies along each.

On a quadratic with the Hessian A, a step of size h turns the gradient g into g - h A g. The last m gradients, and the
steps taken from them, therefore tell what A does to the space that they span: its eigenvalues there, the Ritz values,
lie between those of A, and the inverse of one is the step that removes what of the gradient lies along its vector.
Steps taken from them are far better than those of a single difference of gradients, which is one Ritz value: limited
memory steepest descent (Fletcher 2012, Mathematical Programming 135).

All this is up to rounding. Where directions depend on each other but for some 1e-6, as those of many steps in few
dimensions do, there are more Ritz values than the space has dimensions. The surplus is rounding, along vectors of next
to no share: it is hardly ever what is chosen, but it may be the least value, so that ``ritz_longest`` is noise there.
After steps of less than some 1e-5 units, and of noisy directions, the largest value may be, too. What is held after a
Ritz step (`metalearn_env.actions`) is the inverse of the largest value since the episode began, which such a value
keeps short: a run is slower for it, where that of the last directions alone, once these are nothing but rounding, may
be far too long. A step and a learner cost the eigenvalues of a matrix of that size.

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

from collections.abc import Mapping
from typing import Any

import numpy as np

from metalearn_env.actions import RITZ
from metalearn_env.engine import Engine, Learners, Rows, scaled_columns
from metalearn_env.family import TINY, Array
from metalearn_env.mixed_engine import MixedEngine
from metalearn_env.observations import RITZ_FEATURES
from metalearn_env.states import POSITIVE, numbers

RIDGE = 1e-12  # added to the Gram matrix of unit vectors, which may depend on each other but for rounding
NEGLIGIBLE = 1e-9  # of the largest Ritz value

_STATE = ("unit", "norm", "inverse_step", "gram", "newest", "t", "last_step", "largest")
_LIMITS = {"norm": {"least": POSITIVE}, "inverse_step": {"least": 0.0}, "last_step": {"least": POSITIVE}}


class Krylov:
    """The last directions of n learners, and what they tell of the curvature.

    Args:
        n: learners.
        size: the most parameters that one has.
        last: inner steps that are remembered, m; directions are m + 1.

    Attributes:
        features: what a decision sees, (n, `RITZ_FEATURES`), as of the last `look`.
        steps: the inverse Ritz values of k = 0..3, and of the largest since the episode began, (n, 5), as of the last
            `look`; where there is none, the last step.
    """

    def __init__(self, n: int, size: int, last: int) -> None:
        self.size, slots = size, last + 1  # a ring for each learner, in which a direction takes the place of the oldest
        self._rows, self._newest, self._t = np.arange(n), np.zeros(n, np.int64), np.zeros(n, np.int64)
        self._unit = np.zeros((n, slots, size))  # directions over their norms; those that there are not are zero
        self._norm, self._inverse_step = np.ones((n, slots)), np.zeros((n, slots))  # of the step that was taken there
        self._gram = np.zeros((n, slots, slots))
        self._last_step = np.ones(n)
        self._largest = np.zeros(n)  # Ritz value since the episode began
        self.features, self.steps = np.zeros((n, len(RITZ_FEATURES))), np.ones((n, RITZ + 1))

    def begin(self, fresh: Engine, rows: Rows) -> None:
        """Take up the new episodes of ``rows``, at the start of which the engine ``fresh`` stands."""
        self.begin_as(fresh, fresh.direction[:, scaled_columns(fresh.family)], rows)

    def begin_as(self, fresh: Learners, direction: Array, rows: Rows) -> None:
        """Take up the new episodes of ``rows``, at the start of which ``fresh`` stands and ``direction`` is, (k, p)."""
        self._unit[rows], self._gram[rows], self._inverse_step[rows], self._norm[rows] = 0.0, 0.0, 0.0, 1.0
        self._newest[rows], self._t[rows], self._largest[rows] = 0, fresh.t, 0.0
        self._last_step[rows], self.steps[rows] = fresh.step_size, fresh.step_size[:, None]
        self._keep(direction, fresh.squared_norm, rows)

    def passed(self, engine: Engine | MixedEngine) -> None:
        """Take in an inner step, of those that have made one."""
        moved = np.flatnonzero(engine.t > self._t)
        self._t[:] = engine.t
        for rows, part, places in engine.learners(moved):
            direction = part.direction[places, scaled_columns(part.family)]
            self._follow(part.step_size[places], direction, part.squared_norm[places], rows)

    def passed_as(self, learners: Learners, direction: Array) -> None:
        """Take in an inner step of all ``learners``, whose ``direction`` is (n, p) now."""
        self._t[:] = learners.t
        self._follow(learners.step_size, direction, learners.squared_norm, self._rows)

    def look(self) -> None:
        """Find the Ritz values of the directions that there are: ``features`` and ``steps``."""
        value, share = self.ritz()
        self._largest = np.fmax(self._largest, value[:, -1])
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
        shortest = np.divide(1.0, self._largest, out=self._last_step.copy(), where=self._largest > 0.0)
        chosen = self._last_step[:, None] * np.exp(features[:, 0 : 2 * RITZ : 2])
        self.features, self.steps = features, np.column_stack([chosen, shortest])

    def ritz(self) -> tuple[Array, Array]:
        """Return the Ritz values, in ascending order, and the parts of |d|^2 along their vectors, (n, m + 1) each.

        Values of vectors that there are not are zero.
        """
        gram, slots = self._gram, np.arange(self._norm.shape[1])
        there = np.diagonal(gram, axis1=1, axis2=2) > 0.0  # a direction of zero tells nothing
        left = (self._inverse_step > 0.0) & there  # from where a step was taken, of which the outcome is known
        ratio = np.roll(self._norm, -1, axis=1) / self._norm
        image = (gram - np.roll(gram, -1, axis=2) * ratio[:, None]) * (self._inverse_step * left)[:, None]
        image *= left[:, :, None]  # u' A u of unit vectors
        known = gram * left[:, :, None] * left[:, None]
        known[:, slots, slots] = np.where(left, known[:, slots, slots] + RIDGE, 1.0)
        basis = np.linalg.inv(np.linalg.cholesky(known))  # its rows make the vectors orthonormal
        projected = basis @ image @ basis.mT
        value, vector = np.linalg.eigh(0.5 * (projected + projected.mT))
        along = np.take_along_axis(gram, self._newest[:, None, None], axis=2) * left[:, :, None]
        return value, np.square(vector.mT @ (basis @ along))[..., 0]

    def state(self) -> dict[str, Any]:
        """Return all that changes with time, as plain lists."""
        return {name: getattr(self, f"_{name}").tolist() for name in _STATE}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a `state` of as many learners of as many parameters, and as many directions.

        Raises:
            ValueError: it is of others, or of none that there can be. Nothing has changed.
        """
        there = {name: getattr(self, f"_{name}") for name in _STATE}
        whole: dict[str, Any] = {"least": 0, "whole": True}
        limits = {"newest": {**whole, "most": self._norm.shape[1] - 1}, "t": whole, **_LIMITS}
        found = {name: numbers(state, name, array.shape, **limits.get(name, {})) for name, array in there.items()}
        for name, array in there.items():
            array[:] = found[name]

    def _follow(self, step: Array, direction: Array, squared_norm: Array, rows: Rows) -> None:
        """Take in the steps (k,) of ``rows`` and the directions (k, p) where they have led."""
        newest = self._newest[rows]
        self._last_step[rows], self._inverse_step[rows, newest] = step, 1.0 / step
        self._newest[rows] = (newest + 1) % self._norm.shape[1]
        self._keep(direction, squared_norm, rows)

    def _keep(self, direction: Array, squared_norm: Array, rows: Rows) -> None:
        """Take directions (k, p) for the newest of ``rows``."""
        norm, newest = np.sqrt(squared_norm), self._newest[rows]
        known = np.isfinite(norm)
        norm = np.where(known, norm, 1.0)
        unit = np.where(known[:, None], direction, 0.0) / norm[:, None]
        self._norm[rows, newest], self._inverse_step[rows, newest] = norm, 0.0
        self._unit[rows, newest, : unit.shape[1]] = unit
        products = (self._unit[rows, :, : unit.shape[1]] @ unit[..., None])[..., 0]
        self._gram[rows, newest] = self._gram[rows, :, newest] = products
