"""Clustering by minibatch k-means: an inner learner whose direction is the gradient of nothing.

The loss is half the mean squared distance of all points to their nearest centre. A centre moves towards the mean of
the points that it owns, of all points or of the step's minibatch, so that a step of 1 on all points is Lloyd's
algorithm, and a step of b_k / N_k (points owned now / so far) that of scikit-learn's ``MiniBatchKMeans``. Direction
times the share of the points that a centre owns is the negative gradient of the loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, final, get_args

import numpy as np
from numpy.typing import NDArray

from metalearn_env import datasets
from metalearn_env.clusters import ClusteringTask, GaussianMixture, SampledPoints, Source
from metalearn_env.family import Array, Evaluation, Kind, TaskFamily
from metalearn_env.kmeans import distances, distortion, pieces, step
from metalearn_env.moves import above, axes_of, further, smaller_batch
from metalearn_env.pictures import Clusters, projected
from metalearn_env.ranges import Range, as_decades, as_dimension, as_integer, as_range, zero_or_range

Init = Literal["random", "k-means++"]

POINTS = 200
MOST_DECADES = 30.0
MOST = 10.0**MOST_DECADES


@final
@dataclass(frozen=True, eq=False, kw_only=True)
class Clustering(TaskFamily[ClusteringTask]):
    """Mixtures of Gaussians of random number, dimension, separation, imbalance and spread, or subsamples of real data.

    Args:
        clusters: centres k; synthetic tasks have as many clusters.
        dimension: features d. Default: 2 to 8; for a data set, half of its features to all of them; for an image, 3.
        points: points m of a task. Default: 200; for a data set at most three quarters of the rows of the split.
        separation: standard deviation of the clusters' centres over that of the points about them.
        imbalance: the largest cluster's share of the points over the smallest one's.
        spread: the widest cluster's standard deviation over the narrowest one's, at most.
        outliers: share of points that lie five times further out.
        scale: the points are multiplied by 10^U(-scale, scale); a pair (low, high) is of decades up or down.
        batch_size: points that a step sees, drawn with replacement; None: all of them.
        init: where centres start: at k "random" points, or as "k-means++" says.
        restarts: runs of k-means++ and Lloyd's algorithm to convergence; the best gives the reference loss.
        dataset: "iris", "wine", "digits", "breast_cancer", an image whose colours are to be reduced ("china",
            "flower"), or an array (m, d): tasks are subsamples of its rows and features.
        split: which stream of tasks, or which rows of the data set (which has none for "ood").

    A range (low, high) is drawn from log-uniformly; a number is a range of one value.

    Raises:
        ValueError: a value that cannot be honoured, such as more clusters than points.
    """

    kind: ClassVar[Kind] = "unsupervised"
    descriptor_names: ClassVar[tuple[str, ...]] = (
        "log10_clusters",
        "log10_dimension",
        "log10_points_per_cluster",
        "inverse_batch_size",
        "spread_of_norms",
    )

    clusters: Range = (2, 5)
    dimension: Range | None = None
    points: int | None = None
    separation: Range = (1.0, 10.0)
    imbalance: Range = (1.0, 10.0)
    spread: Range = (1.0, 3.0)
    outliers: Range = (1e-3, 0.05)
    scale: Range = 3.0
    batch_size: int | None = 32
    init: Init = "random"
    restarts: int = 5
    dataset: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._source  # noqa: B018  (a bad value is found out here)

    @cached_property
    def _source(self) -> Source:
        if self.init not in get_args(Init):
            raise ValueError(f"init is one of {', '.join(get_args(Init))}, not {self.init!r}")
        ratios: dict[str, Any] = {name: self._ratio(name, minimum=1.0) for name in ("imbalance", "spread")}
        ratios |= {name: self._ratio(name, minimum=0.0) for name in ("separation", "outliers")}
        if ratios["outliers"][1] > 1.0:
            raise ValueError(f"outliers is a share of at most 1, not {self.outliers!r}")
        common: dict[str, Any] = {
            "clusters": as_range("clusters", self.clusters, minimum=1, integer=True),
            "scale": as_decades("scale", self.scale, most=MOST_DECADES),
            "batch_size": 0 if self.batch_size is None else as_integer("batch_size", self.batch_size, minimum=1),
            "restarts": as_integer("restarts", self.restarts, minimum=1),
            "spread_start": self.init == "k-means++",
        }
        if self.dataset is None:
            points = self._points(common["clusters"][1], POINTS)
            return GaussianMixture(dimension=as_dimension(self.dimension, (2, 8)), points=points, **common, **ratios)
        self._refuse("a data set", *ratios)
        data, image = datasets.load_points(self.dataset)
        rows = datasets.rows_of(data, self.split) if image else datasets.standardised(data, self.split)
        most, features = rows.shape
        dimension = as_dimension(self.dimension, (features if image else (features + 1) // 2, features))
        if dimension[1] > features:
            raise ValueError(f"dimension is at most {features}, the features of the data set, not {dimension[1]}")
        points = self._points(common["clusters"][1], min(POINTS, -(-3 * most // 4)))
        if points > most:
            raise ValueError(f"points is at most {most}, the rows of the data set's split {self.split!r}, not {points}")
        return SampledPoints(dimension=dimension, points=points, data=rows, **common)

    def _ratio(self, name: str, minimum: float) -> tuple[float, float]:
        return zero_or_range(name, getattr(self, name), minimum=minimum, maximum=MOST)

    def _points(self, clusters: int, default: int) -> int:
        points = as_integer("points", default if self.points is None else self.points, minimum=1)
        if clusters > points:
            raise ValueError(f"clusters is at most {points}, the points of a task, not {clusters}")
        return points

    def axes(self) -> dict[str, dict[str, Any]]:
        source = self._source
        if not isinstance(source, GaussianMixture):
            return {}
        most, (low, _) = source.clusters[1], source.separation
        more = (most + 1, min(2 * most, source.points))
        return axes_of(
            dimension=above("dimension", source.dimension, 2, 4),
            clusters={"clusters": more} if more[0] <= more[1] else {},
            imbalance=above("imbalance", source.imbalance, 1, 10, MOST),
            separation={"separation": (0.1 * low, low)} if low else {},
            start={"init": "random" if self.init == "k-means++" else "k-means++"},
            batch_size=smaller_batch(self.batch_size),
            scale=further(source.scale, MOST_DECADES),
            heavy_tails=above("outliers", source.outliers, 1, 4, 1.0),
        )

    @property
    def num_parameters(self) -> int:
        return self._source.clusters[1] * self._source.dimension[1]

    def sample(self, rng: np.random.Generator, n: int, horizon: int) -> Any:
        return self._source.draw(rng, n, horizon)

    def complete(self, draw: Any) -> ClusteringTask:
        return self._source.build(draw)

    def start(self, task: ClusteringTask) -> Array:
        return task.first.copy()

    def loss(self, task: ClusteringTask, theta: Array) -> Array:
        centres = theta.reshape(*task.barrier.shape, -1)
        n, m, _ = task.points.shape
        nearest = np.empty((n, m))
        for cut in pieces(n, m * centres.shape[1]):
            _, nearest[cut] = distances(task.points[cut], centres[cut], task.barrier[cut], task.scatter[cut])
        return distortion(nearest)

    def signal(self, task: ClusteringTask, theta: Array, t: NDArray[np.int64]) -> Array:
        return self.evaluate(task, theta, t).signal

    def direction(self, task: ClusteringTask, theta: Array, t: NDArray[np.int64]) -> Array:
        return self.evaluate(task, theta, t).direction

    def evaluate(self, task: ClusteringTask, theta: Array, t: NDArray[np.int64]) -> Evaluation:
        if self.batch_size is None:
            signal, direction = step(task.points, theta, task.barrier, task.scatter)
            return Evaluation(signal, signal, direction)
        n, m, width = task.points.shape
        rows = np.arange(n)
        seen = np.take(task.points.reshape(n * m, width), task.batches[rows, t] + m * rows[:, None], axis=0)
        return Evaluation(self.loss(task, theta), *step(seen, theta, task.barrier, task.scatter))

    def descriptor(self, task: ClusteringTask) -> Array:
        return task.descriptor

    def reference_loss(self, task: ClusteringTask) -> Array:
        return task.minimum

    def picture(self, task: ClusteringTask, theta: Array, row: int) -> Clusters:
        """Return points and centres on the two principal axes of the points."""
        here, present = slice(row, row + 1), task.barrier[row] == 0.0
        centres, best = (array[here].reshape(1, len(present), -1)[:, present] for array in (theta, task.optimum))
        distance, _ = distances(task.points[here], centres, task.barrier[here, present], task.scatter[here])
        arrays, names = projected(task.points[row, :, :-2], centres[0], best[0])
        points, centres, best = arrays
        return Clusters(points, distance[0].argmin(axis=0), centres, best, names)
