"""The inner learners of the families on data that are given, with a policy for their step sizes.

A task of a family is a subsample with an exact optimum, for scores. Somebody who wants a model has neither use for
subsamples nor an optimum: here a learner works on all rows and columns and computes no more than it is shown. Losses,
directions, first steps and descriptors are those of the families, by the same functions.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from metalearn_env import clusters, designs, kmeans, labelled
from metalearn_env.engine import DIVERGED_AT
from metalearn_env.family import TINY, Array, Kind, ratio_or_one
from metalearn_env.least_squares import of_examples
from metalearn_env.policy import Policy, as_policy
from metalearn_env.softmax import Softmax, curvature, loss_and_gradient
from metalearn_env.stepper import Stepper

Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Problem(abc.ABC):
    """What a learner works on. Signals are (1,); parameters and directions (1, p)."""

    batches: Rows | None  # (steps, batch_size) the rows that the steps see, or None: all of them

    kind: ClassVar[Kind]

    @property
    def batch_size(self) -> int:
        """Rows that a step sees, 0: all of them."""
        return 0 if self.batches is None else self.batches.shape[1]

    def _seen(self, t: int | None) -> Rows | slice:
        return slice(None) if self.batches is None or t is None else self.batches[t]

    @abc.abstractmethod
    def start(self) -> Array:
        """Return the first parameters."""

    @abc.abstractmethod
    def look(self, theta: Array, t: int | None) -> tuple[Array, Array]:
        """Return the signal and the direction of step t, or those of all rows."""

    @abc.abstractmethod
    def unit(self, signal: Array, direction: Array) -> Array:
        """Return the natural step size, (1,), for what is seen at t = 0."""

    @abc.abstractmethod
    def descriptor(self) -> Array:
        """Return what the policy may know of the task, (1, k)."""


@final
@dataclass(frozen=True, eq=False)
class LeastSquares(Problem):
    """That of the family LinearRegression, in the coordinates of the inputs."""

    inputs: Array  # (m, d)
    targets: Array  # (m,)

    kind = "supervised"

    def start(self) -> Array:
        return np.zeros((1, self.inputs.shape[1]))

    def look(self, theta: Array, t: int | None) -> tuple[Array, Array]:
        seen = self._seen(t)
        return of_examples(self.inputs[seen][None], self.targets[seen][None], theta)

    def unit(self, signal: Array, direction: Array) -> Array:
        return ratio_or_one(signal, np.vecdot(direction, direction))

    def descriptor(self) -> Array:
        m, d = self.inputs.shape
        flatness = np.zeros(1) if self.batch_size else self._flatness()
        return designs.describe(np.array([d]), np.array([m]), self.batch_size, flatness)

    def _flatness(self) -> Array:
        """Return tr(H)^2 / (d tr(H^2)) of H = X^T X / m, from the smaller of the two Gram matrices."""
        m, d = self.inputs.shape
        gram = (self.inputs.T @ self.inputs if d <= m else self.inputs @ self.inputs.T) / m
        squared = np.array([d * np.vdot(gram, gram)])
        return np.divide(np.trace(gram) ** 2, squared, out=np.zeros(1), where=squared > 0.0)


@final
@dataclass(frozen=True, eq=False)
class SoftmaxRegression(Problem):
    """That of the family Classification. Parameters are a vector for each class, whose last entry is its intercept."""

    inputs: Array  # (m, d)
    labels: Rows  # (m,) 0, ..., K - 1
    classes: int
    penalty: float

    kind = "supervised"

    @cached_property
    def _lengthened(self) -> Array:
        return np.column_stack([self.inputs, np.ones(len(self.inputs))])

    def start(self) -> Array:
        return np.zeros((1, self.classes * self._lengthened.shape[1]))

    def look(self, theta: Array, t: int | None) -> tuple[Array, Array]:
        signal, gradient = loss_and_gradient(self._problem(t), self._vectors(theta))
        return signal, -gradient.reshape(theta.shape)

    def unit(self, signal: Array, direction: Array) -> Array:
        curved = curvature(self._problem(0), self._vectors(self.start()), self._vectors(direction))
        return ratio_or_one(np.vecdot(direction, direction), np.vecdot(direction, curved.reshape(direction.shape)))

    def descriptor(self) -> Array:
        m, d = self.inputs.shape
        classes, penalty = np.array([self.classes]), np.array([self.penalty])
        return labelled.describe(classes, np.array([d]), m, self.batch_size, penalty)

    def _problem(self, t: int | None) -> Softmax:
        seen = self._seen(t)
        barrier, penalty = np.zeros((1, self.classes)), np.array([self.penalty])
        return Softmax(self._lengthened[seen][None], self.labels[seen][None], barrier, penalty)

    def _vectors(self, theta: Array) -> Array:
        return theta.reshape(1, self.classes, -1)


@final
@dataclass(frozen=True, eq=False)
class KMeans(Problem):
    """That of the family Clustering. Parameters are the centres, one after the other."""

    points: Array  # (m, d) of mean zero
    first: Array  # (k, d) the centres to start from

    kind = "unsupervised"

    @cached_property
    def _lifted(self) -> Array:
        return kmeans.lifted(self.points)

    @cached_property
    def _scatter(self) -> Array:
        return np.array([self._lifted[:, -1].mean()])

    def start(self) -> Array:
        return self.first.reshape(1, -1).copy()

    def look(self, theta: Array, t: int | None) -> tuple[Array, Array]:
        return kmeans.step(self._lifted[self._seen(t)][None], theta, np.zeros((1, len(self.first))), self._scatter)

    def unit(self, signal: Array, direction: Array) -> Array:
        return np.ones(1)

    def descriptor(self) -> Array:
        k, d = self.first.shape
        return clusters.describe(self._lifted[None], np.array([k]), np.array([d]), self.batch_size)


class Run(NamedTuple):
    """What a learner did."""

    theta: Array  # (p,)
    step_sizes: Array  # (steps,)
    signals: Array  # (steps,) the losses that it saw, each before its step
    diverged: bool  # if so, theta is that of the lowest signal


def spread_points(points: Array, k: int, rng: np.random.Generator) -> Array:
    """Return k of the points (m, d), as k-means++ draws them."""
    lifted = kmeans.lifted(points)[None]
    coarse = kmeans.rescaled(lifted, lifted[:, :, -1].mean(axis=1))
    return points[kmeans.plus_plus(coarse, rng.random((1, 1, k)))[0, 0]]


def descend(policy: Policy | str | Path, problem: Problem, horizon: int) -> Run:
    """Run a learner for ``horizon`` steps, or until its signal is not finite, or 10^6 times the first loss of all rows.

    Where the first loss is nothing but rounding, beside that of parameters of 0, so are directions: no step is taken.

    Args:
        policy: a policy, or the name or path of one.
        problem: with a batch for each step, if it has batches.
        horizon: steps.

    Raises:
        FileNotFoundError, ValueError, TypeError: see `metalearn_env.stepper.Stepper`.
    """
    policy, theta = as_policy(policy), problem.start()
    lowest, best, before = np.inf, theta.copy(), np.zeros_like(theta)
    steps, signals = np.zeros(horizon), np.zeros(horizon)
    first, at_zero = (float(problem.look(place, None)[0][0]) for place in (theta, np.zeros_like(theta)))
    rounding, most = np.finfo(np.float64).eps * at_zero, DIVERGED_AT * max(first, float(TINY))
    with np.errstate(over="ignore", invalid="ignore"):
        for t in range(horizon):
            signal, direction = problem.look(theta, t)
            if not t:
                unit = float(problem.unit(signal, direction)[0])
                known = problem.descriptor()[0].tolist()
                stepper = Stepper(
                    policy, unit=unit, horizon=horizon, kind=problem.kind, descriptor=known, directions=True
                )
                if first <= rounding:
                    return Run(theta[0], steps, np.full(horizon, first), diverged=False)
            value, norm = float(signal[0]), float(np.vecdot(direction, direction)[0])
            if not np.isfinite(norm) or not value <= most:
                return Run(best[0], steps[:t], signals[:t], diverged=True)
            if value < lowest:
                lowest, best = value, theta.copy()
            signals[t] = value
            if stepper.looks:
                seen = direction[0] if stepper.sees_directions else None
                steps[t] = stepper.observe(value, norm, float(np.vecdot(direction, before)[0]), direction=seen)
                before = direction
            else:
                steps[t] = stepper.hold()
            theta += steps[t] * direction
    finite = bool(np.isfinite(theta).all())
    return Run((theta if finite else best)[0], steps, signals, diverged=not finite)
