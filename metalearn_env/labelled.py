"""Where classification problems come from: linear teachers with noisy labels, and subsamples of real data.

A source first draws all the random numbers of n problems (`draw`) and then does all the algebra (`build`), which is
worth doing for many at once.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from metalearn_env.family import Array
from metalearn_env.ranges import decades, log_uniform, log_uniform_integer
from metalearn_env.softmax import BARRIER, Softmax, loss_of, newton
from metalearn_env.tails import unit_variance

Integers = NDArray[Any]


class ClassificationTask(NamedTuple):
    """n classification problems of up to K classes and D - 1 features, their minibatches, and their optima."""

    inputs: Array  # (n, m, D), the last entry 1
    labels: Integers  # (n, m)
    barrier: Array  # (n, K) zero, or `BARRIER` where a problem has fewer classes
    penalty: Array  # (n,)
    objective: Array  # (n,) what the objective is multiplied by
    optimum: Array  # (n, K * D)
    minimum: Array  # (n,) f*
    descriptor: Array  # (n, 5)
    batches: Integers  # (n, horizon + 1, batch_size) which examples the minibatches hold; empty if a step sees all

    @property
    def problem(self) -> Softmax:
        """The problems that all examples make, of objectives that are multiplied by 1."""
        return Softmax(self.inputs, self.labels, self.barrier, self.penalty)


class Sizes(NamedTuple):
    """The numbers that any n problems are drawn with."""

    classes: Integers  # (n,) K
    dimension: Integers  # (n,) d
    penalty: Array  # (n,)
    objective: Array  # (n,)
    batches: Integers  # (n, horizon + 1, batch_size)


@dataclass(frozen=True, eq=False, kw_only=True)
class Source(abc.ABC):
    """A law of classification problems. Ranges are (low, high); of ``batch_size`` 0 a step sees all examples."""

    classes: tuple[int, int]
    dimension: tuple[int, int]
    examples: int
    penalty: tuple[float, float]
    scale: tuple[float, float]
    batch_size: int

    @property
    def num_parameters(self) -> int:
        return self.classes[1] * (self.dimension[1] + 1)

    @abc.abstractmethod
    def draw(self, rng: np.random.Generator, n: int, horizon: int) -> Any:
        """Draw the random numbers of n problems: a NamedTuple of arrays with leading axis n."""

    @abc.abstractmethod
    def build(self, draw: Any) -> ClassificationTask:
        """Turn random numbers into problems."""

    def _sizes(self, rng: np.random.Generator, n: int, horizon: int) -> Sizes:
        uniform = rng.random((4, n))
        steps = (horizon + 1, self.batch_size) if self.batch_size else (0, 0)
        return Sizes(
            classes=log_uniform_integer(uniform[0], *self.classes),
            dimension=log_uniform_integer(uniform[1], *self.dimension),
            penalty=log_uniform(uniform[2], *self.penalty),
            objective=10.0 ** decades(uniform[3], *self.scale),
            batches=rng.integers(self.examples, size=(n, *steps)).astype(np.min_scalar_type(self.examples - 1)),
        )

    def _task(self, features: Array, labels: Integers, sizes: Sizes) -> ClassificationTask:
        """Return problems of features (n, m, d), zero in the dimensions that are not there, and labels (n, m)."""
        n, most = len(labels), self.classes[1]
        problem = Softmax(
            inputs=np.concatenate([features, np.ones((n, self.examples, 1))], axis=2),
            labels=labels.astype(np.min_scalar_type(most)),
            barrier=np.where(np.arange(most) < sizes.classes[:, None], 0.0, BARRIER),
            penalty=sizes.penalty,
        )
        optimum = newton(problem)
        return ClassificationTask(
            *problem,
            objective=sizes.objective,
            optimum=optimum.reshape(n, -1),
            minimum=sizes.objective * loss_of(problem, optimum),
            descriptor=describe(sizes.classes, sizes.dimension, self.examples, self.batch_size, sizes.penalty),
            batches=sizes.batches,
        )


def describe(classes: Integers, dimension: Integers, examples: int, batch_size: int, penalty: Array) -> Array:
    """Return the descriptors, (n, 5), of problems of so many examples; see `Source`."""
    descriptor = [
        np.log10(classes),
        np.log10(dimension),
        np.log10(examples / (classes * (dimension + 1))),
        np.full(len(penalty), 1.0 / batch_size if batch_size else 0.0),
        np.log10(penalty),
    ]
    return np.stack(descriptor, axis=1)


class TeacherDraw(NamedTuple):
    """The random numbers of n problems of a linear teacher."""

    classes: Integers  # (n,)
    dimension: Integers  # (n,)
    penalty: Array  # (n,)
    objective: Array  # (n,)
    batches: Integers  # (n, horizon + 1, batch_size)
    shape: Array  # (n, 3) conditioning, separation, noise
    position: Array  # (n, d) uniform: where an eigenvalue lies between the extremes
    teacher: Array  # (n, K, d) standard normal
    point: Array  # (n, m, d) of unit variance
    chance: Array  # (n, K, m) standard Gumbel: which class an example is of
    flipped: Array  # (n, 2, m) uniform: whether a label is a random one, and which


@final
@dataclass(frozen=True, eq=False, kw_only=True)
class LinearTeacher(Source):
    """Labels drawn from the softmax of a random linear map of the whitened inputs; some are replaced by random ones."""

    conditioning: tuple[float, float]  # largest / smallest variance of the inputs along a principal axis
    separation: tuple[float, float]  # standard deviation of the teacher's scores
    noise: tuple[float, float]  # the share of labels that are random
    tails: str  # of the inputs

    def draw(self, rng: np.random.Generator, n: int, horizon: int) -> TeacherDraw:
        classes, d, m = self.classes[1], self.dimension[1], self.examples
        ranges = (self.conditioning, self.separation, self.noise)
        shape = [log_uniform(uniform, *limits) for uniform, limits in zip(rng.random((3, n)), ranges, strict=True)]
        return TeacherDraw(
            *self._sizes(rng, n, horizon),
            shape=np.stack(shape, axis=1),
            position=rng.random((n, d)),
            teacher=rng.standard_normal((n, classes, d)),
            point=unit_variance(rng, self.tails, (n, m, d)),
            chance=rng.gumbel(size=(n, classes, m)),
            flipped=rng.random((n, 2, m)),
        )

    def build(self, draw: TeacherDraw) -> ClassificationTask:
        d = self.dimension[1]
        kappa, separation, noise = draw.shape.T[:, :, None]
        inside = np.arange(d) < draw.dimension[:, None]
        position = draw.position.copy()
        position[:, :1], position[:, 1:2] = 1.0, 0.0  # the extremes are there, so kappa is what it says
        deviation = kappa ** (0.5 * (position - 1.0)) * inside
        teacher = draw.teacher * (inside * separation / np.sqrt(draw.dimension)[:, None])[:, None, :]
        scores = np.matmul(teacher, draw.point.swapaxes(1, 2)) + draw.chance
        scores[np.arange(self.classes[1]) >= draw.classes[:, None]] = -np.inf
        flip, which = draw.flipped.swapaxes(0, 1)
        labels = np.where(flip < noise, (which * draw.classes[:, None]).astype(np.int64), scores.argmax(axis=1))
        return self._task(draw.point * deviation[:, None, :], labels, Sizes(*draw[: len(Sizes._fields)]))


class SampleDraw(NamedTuple):
    """The random numbers of n subsamples of a data set."""

    classes: Integers  # (n,)
    dimension: Integers  # (n,)
    penalty: Array  # (n,)
    objective: Array  # (n,)
    batches: Integers  # (n, horizon + 1, batch_size)
    rows: Integers  # (n, m) of the data set, all different
    features: Integers  # (n, d) of the data set, all different


@final
@dataclass(frozen=True, eq=False, kw_only=True)
class SampledExamples(Source):
    """Random rows and features of a data set, with all of its classes."""

    data: Array  # (rows, features)
    targets: Integers  # (rows,)

    def draw(self, rng: np.random.Generator, n: int, horizon: int) -> SampleDraw:
        rows, features = self.data.shape
        return SampleDraw(
            *self._sizes(rng, n, horizon),
            rows=np.stack([rng.choice(rows, self.examples, replace=False) for _ in range(n)]),
            features=np.stack([rng.choice(features, self.dimension[1], replace=False) for _ in range(n)]),
        )

    def build(self, draw: SampleDraw) -> ClassificationTask:
        features = self.data[draw.rows[:, :, None], draw.features[:, None, :]]
        features *= (np.arange(self.dimension[1]) < draw.dimension[:, None])[:, None, :]
        return self._task(features, self.targets[draw.rows], Sizes(*draw[: len(Sizes._fields)]))
