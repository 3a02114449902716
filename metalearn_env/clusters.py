"""Where clustering problems come from: mixtures of Gaussians, and subsamples of real data.

A source first draws all the random numbers of n problems (`draw`) and then does all the algebra (`build`), which is
worth doing for many at once. The points of a problem are in random order, so that its first k are k random ones.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from metalearn_env.family import TINY, Array
from metalearn_env.kmeans import BARRIER, distances, distortion, lifted, lloyd, pieces, plus_plus, rescaled, search
from metalearn_env.ranges import decades, log_uniform, log_uniform_integer

OUTLYING = 5.0  # outliers are so many times further from their centre
LEAST_GAP = 1e-9  # the first gap, at least, as a part of the mean squared distance to the centre of all points

Integers = NDArray[Any]


class ClusteringTask(NamedTuple):
    """n clustering problems of up to k centres in d dimensions, their minibatches, and their best known solutions."""

    points: Array  # (n, m, d + 2) lifted, see `metalearn_env.kmeans`; their mean is zero
    barrier: Array  # (n, k) zero, or `BARRIER` where a problem has fewer centres
    first: Array  # (n, k * d) the centres to start from; zero where there are none
    optimum: Array  # (n, k * d) the best centres known
    minimum: Array  # (n,) f*
    scatter: Array  # (n,) the mean squared norm of the points
    descriptor: Array  # (n, 5)
    batches: Integers  # (n, horizon + 1, batch_size) which points the minibatches hold; empty if a step sees all


class Sizes(NamedTuple):
    """The numbers that any n problems are drawn with."""

    clusters: Integers  # (n,) k
    dimension: Integers  # (n,) d
    unit: Array  # (n,) what the points are multiplied by
    starts: Array  # (n, restarts + 1, k) uniform, for k-means++
    batches: Integers  # (n, horizon + 1, batch_size)


@dataclass(frozen=True, eq=False, kw_only=True)
class Source(abc.ABC):
    """A law of clustering problems. Ranges are (low, high); ``batch_size`` 0 means that a step sees all points."""

    clusters: tuple[int, int]
    dimension: tuple[int, int]
    points: int
    scale: tuple[float, float]
    batch_size: int
    restarts: int
    spread_start: bool  # start from k-means++, not from random points

    @abc.abstractmethod
    def draw(self, rng: np.random.Generator, n: int, horizon: int) -> Any:
        """Draw the random numbers of n problems: a NamedTuple of arrays with leading axis n."""

    @abc.abstractmethod
    def build(self, draw: Any) -> ClusteringTask:
        """Turn random numbers into problems."""

    def _sizes(self, rng: np.random.Generator, n: int, horizon: int) -> Sizes:
        uniform = rng.random((3, n))
        steps = (horizon + 1, self.batch_size) if self.batch_size else (0, 0)
        return Sizes(
            clusters=log_uniform_integer(uniform[0], *self.clusters),
            dimension=log_uniform_integer(uniform[1], *self.dimension),
            unit=10.0 ** decades(uniform[2], *self.scale),
            starts=rng.random((n, self.restarts + 1, self.clusters[1])),
            batches=self._indices(rng.random((n, *steps), dtype=np.float32)),
        )

    def _indices(self, uniform: NDArray[np.float32]) -> Integers:
        index = np.minimum(uniform * np.float32(self.points), np.float32(self.points - 1))
        return index.astype(np.min_scalar_type(self.points - 1))

    def _task(self, points: Array, sizes: Sizes) -> ClusteringTask:
        """Return problems of points (n, m, d), zero in the dimensions that are not there."""
        n, most = len(points), self.clusters[1]
        points -= points.mean(axis=1, keepdims=True)
        points *= sizes.unit[:, None, None]
        points, present = lifted(points), np.arange(most) < sizes.clusters[:, None]
        barrier = np.where(present, 0.0, BARRIER)
        scatter = points[:, :, -1].mean(axis=1)
        first, optimum = np.zeros((2, n, most, points.shape[2] - 2))
        for k in np.unique(sizes.clusters):
            (alike,) = np.nonzero(sizes.clusters == k)
            for rows in pieces(len(alike), (self.restarts + 1) * int(k) * self.points):
                each = alike[rows]
                first[each, :k], optimum[each, :k] = self._solved(
                    points[each], scatter[each], sizes.starts[each, :, :k]
                )
        best, begun = (distortion(distances(points, centres, barrier, scatter)[1]) for centres in (optimum, first))
        return ClusteringTask(
            points=points,
            barrier=barrier,
            first=first.reshape(n, -1),
            optimum=optimum.reshape(n, -1),
            minimum=np.minimum(best, begun - LEAST_GAP * scatter),
            scatter=scatter,
            descriptor=describe(points, sizes.clusters, sizes.dimension, self.batch_size),
            batches=sizes.batches,
        )

    def _solved(self, points: Array, scatter: Array, uniform: Array) -> tuple[Array, Array]:
        """Return where to start, (n, k, d), and the best of all runs of Lloyd's algorithm to convergence.

        The run from the task's own start is among them, so that f* is not above where that leads. All runs are in
        single precision; the best one ends in double.
        """
        coarse = rescaled(points, scatter)
        starts = plus_plus(coarse, uniform)
        if not self.spread_start:
            starts[:, 0] = np.arange(starts.shape[2])
        first = points[np.arange(len(points))[:, None], starts[:, 0], :-2]
        found = search(coarse, starts) * np.sqrt(scatter)[:, None, None]
        return first, lloyd(points, found, np.zeros(first.shape[:2]), scatter)


def _sizes(draw: Any) -> Sizes:
    return Sizes(*draw[: len(Sizes._fields)])


def describe(points: Array, clusters: Integers, dimension: Integers, batch_size: int) -> Array:
    """Return the descriptors, (n, 5), of problems of lifted points (n, m, d + 2) whose mean is zero; see `Source`."""
    squared = points[:, :, -1]
    norm, scatter = np.sqrt(squared).mean(axis=1), squared.mean(axis=1)
    descriptor = [
        np.log10(clusters),
        np.log10(dimension),
        np.log10(points.shape[1] / clusters),
        np.full(len(points), 1.0 / batch_size if batch_size else 0.0),
        np.sqrt(np.maximum(scatter / np.maximum(norm**2, TINY) - 1.0, 0.0)),
    ]
    return np.stack(descriptor, axis=1)


class MixtureDraw(NamedTuple):
    """The random numbers of n mixtures of Gaussians."""

    clusters: Integers  # (n,)
    dimension: Integers  # (n,)
    unit: Array  # (n,)
    starts: Array  # (n, restarts + 1, k)
    batches: Integers  # (n, horizon + 1, batch_size)
    shape: Array  # (n, 4) separation, imbalance, spread, share of outliers
    cluster: Array  # (n, 2, k) uniform: the share and the spread of a cluster
    point: Array  # (n, 2, m) uniform: which cluster a point is of, and whether it is an outlier
    centre: Array  # (n, k, d) standard normal
    offset: NDArray[np.float32]  # (n, m, d) standard normal: where a point lies about its centre


@final
@dataclass(frozen=True, eq=False, kw_only=True)
class GaussianMixture(Source):
    """k Gaussian clusters, as many as there are centres that look for them."""

    separation: tuple[float, float]  # standard deviation of the centres / of the points about them
    imbalance: tuple[float, float]  # the largest share of the points / the smallest
    spread: tuple[float, float]  # the largest standard deviation of a cluster / the smallest, at most
    outliers: tuple[float, float]  # the share of the points that lie far out

    def draw(self, rng: np.random.Generator, n: int, horizon: int) -> MixtureDraw:
        k, d = self.clusters[1], self.dimension[1]
        ranges = (self.separation, self.imbalance, self.spread, self.outliers)
        shape = [log_uniform(uniform, *limits) for uniform, limits in zip(rng.random((4, n)), ranges, strict=True)]
        return MixtureDraw(
            *self._sizes(rng, n, horizon),
            shape=np.stack(shape, axis=1),
            cluster=rng.random((n, 2, k)),
            point=rng.random((n, 2, self.points)),
            centre=rng.standard_normal((n, k, d)),
            offset=rng.standard_normal((n, self.points, d), dtype=np.float32),
        )

    def build(self, draw: MixtureDraw) -> ClusteringTask:
        n, k, d = draw.centre.shape
        separation, imbalance, spread, outliers = draw.shape[:, :, None].swapaxes(0, 1)
        rank = draw.cluster[:, 0].copy()
        rank[:, :2] = np.arange(min(k, 2))  # the extremes are there, so that the imbalance is what it says
        share = imbalance**-rank * (np.arange(k) < draw.clusters[:, None])
        ends = share.cumsum(axis=1)
        ends /= ends[:, -1:]
        which, far = draw.point.swapaxes(0, 1)
        label = k * np.arange(n)[:, None] + np.count_nonzero(which[:, None, :] >= ends[:, :-1, None], axis=1)
        width = np.take(spread ** (draw.cluster[:, 1] - 0.5), label) * np.where(far < outliers, OUTLYING, 1.0)
        inside = np.arange(d) < draw.dimension[:, None]
        points = draw.offset * width[:, :, None]
        points += np.take((draw.centre * separation[:, :, None]).reshape(n * k, d), label, axis=0)
        points *= inside[:, None, :]
        return self._task(points, _sizes(draw))


class SampleDraw(NamedTuple):
    """The random numbers of n subsamples of a data set."""

    clusters: Integers  # (n,)
    dimension: Integers  # (n,)
    unit: Array  # (n,)
    starts: Array  # (n, restarts + 1, k)
    batches: Integers  # (n, horizon + 1, batch_size)
    rows: Integers  # (n, m) of the data set, all different
    features: Integers  # (n, d) of the data set, all different


@final
@dataclass(frozen=True, eq=False, kw_only=True)
class SampledPoints(Source):
    """Random rows and features of a data set."""

    data: Array  # (rows, features)

    def draw(self, rng: np.random.Generator, n: int, horizon: int) -> SampleDraw:
        rows, features = self.data.shape
        return SampleDraw(
            *self._sizes(rng, n, horizon),
            rows=np.stack([rng.choice(rows, self.points, replace=False) for _ in range(n)]),
            features=np.stack([rng.choice(features, self.dimension[1], replace=False) for _ in range(n)]),
        )

    def build(self, draw: SampleDraw) -> ClusteringTask:
        points = self.data[draw.rows[:, :, None], draw.features[:, None, :]]
        points *= (np.arange(self.dimension[1]) < draw.dimension[:, None])[:, None, :]
        return self._task(points, _sizes(draw))
