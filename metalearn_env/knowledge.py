"""What rules are told of a task, beyond what every learner sees: curvatures, inputs, noise, counts, discounts, drift.

Each function is known for the families that it is registered for. It is told by a family and its task, so that no rule
looks into a family itself.
"""

from __future__ import annotations

from functools import singledispatch
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metalearn_env.clusters import ClusteringTask
from metalearn_env.designs import RegressionTask
from metalearn_env.families.clustering import Clustering
from metalearn_env.families.linear_regression import LinearRegression
from metalearn_env.families.q_learning import QLearning
from metalearn_env.families.tracking import Tracking, TrackingTask
from metalearn_env.family import Array, TaskFamily
from metalearn_env.kmeans import displacement, distances, ownership
from metalearn_env.processes import TabularTask
from metalearn_env.risk import Risk

Integers = NDArray[np.int64]


class Stream(NamedTuple):
    """The law of the examples that a learner sees."""

    eigenvalues: Array  # (n, p) of their second moments, ascending; zero beyond the dimension
    dimension: Array  # (n,) d
    noise: Array  # (n,) variance of the noise
    inverse_batch: float  # 1 / b; zero where a step sees all examples


class Extremes(NamedTuple):
    """The extreme eigenvalues of the Hessian."""

    least: Array  # (n,) mu, of those that are not zero
    largest: Array  # (n,) L


def _nobody_knows(what: str, family: TaskFamily) -> Any:
    raise TypeError(f"{what} of a task of {type(family).__name__} is not known")


@singledispatch
def stream(family: TaskFamily, task: Any) -> Stream:
    """Return the law of the examples."""
    return _nobody_knows("the law of the examples", family)


@stream.register
def _(family: LinearRegression, task: RegressionTask) -> Stream:
    singular = np.linalg.svd(_dense(task), compute_uv=False)
    dimension = np.round(10.0 ** task.descriptor[:, 0])
    return Stream(np.asarray(singular[:, ::-1] ** 2, np.float64), dimension, 2.0 * task.minimum, _inverse_batch(family))


@singledispatch
def risk(family: TaskFamily, task: Any) -> Risk:
    """Return the law of the risk of learners that start now."""
    return Risk(*_nobody_knows("the risk", family))


@risk.register
def _(family: LinearRegression, task: RegressionTask) -> Risk:
    _, singular, basis = np.linalg.svd(_dense(task))
    error = np.matmul(basis, (task.optimum - family.start(task))[:, :, None])[:, :, 0]
    return Risk(np.asarray(singular**2, np.float64), error**2, 2.0 * task.minimum, _inverse_batch(family))


def _dense(task: RegressionTask) -> Array:
    """Return the bidiagonal factors as matrices, (n, p, p)."""
    factor = task.diagonal[:, :, None] * np.eye(task.diagonal.shape[1])
    index = np.arange(task.superdiagonal.shape[1])
    factor[:, index, index + 1] = task.superdiagonal
    return factor


def _inverse_batch(family: LinearRegression) -> float:
    return 0.0 if family.batch_size is None else 1.0 / family.batch_size


def extreme_curvatures(family: TaskFamily, task: Any) -> Extremes:
    """Return the extreme eigenvalues of the Hessian; one that is zero but for rounding does not count."""
    eigenvalues = stream(family, task).eigenvalues
    largest = eigenvalues[:, -1]
    rounding = (eigenvalues.shape[1] * np.finfo(np.float64).eps) ** 2 * largest[:, None]
    least = np.where(eigenvalues > rounding, eigenvalues, np.inf).min(axis=1)
    return Extremes(np.minimum(least, largest), largest)


@singledispatch
def squared_inputs(family: TaskFamily, task: Any, t: Integers) -> Array:
    """Return the mean squares, (n, p), of the inputs that a step sees at times t."""
    return np.asarray(_nobody_knows("the inputs", family))


@squared_inputs.register
def _(family: LinearRegression, task: RegressionTask, t: Integers) -> Array:
    if family.batch_size is not None:
        return (task.inputs[np.arange(len(t)), t] ** 2).mean(axis=1)
    squares = task.diagonal**2
    squares[:, 1:] += task.superdiagonal**2
    return squares


@singledispatch
def points_owned(family: TaskFamily, task: Any, theta: Array, t: Integers) -> Array:
    """Return how many of the points that a step sees at times t each parameter's centre owns, (n, p)."""
    return np.asarray(_nobody_knows("the centres", family))


@points_owned.register
def _(family: Clustering, task: ClusteringTask, theta: Array, t: Integers) -> Array:
    points = task.points
    if family.batch_size is not None:
        rows = np.arange(len(theta))[:, None]
        points = points[rows, task.batches[rows[:, 0], t]]
    centres = theta.reshape(*task.barrier.shape, -1)
    own = ownership(*distances(points, centres, task.barrier, task.scatter))
    return own.sum(axis=2).repeat(centres.shape[2], axis=1)


@singledispatch
def direction_of_all(family: TaskFamily, task: Any, theta: Array) -> Array:
    """Return the direction, (n, p), that all points give, and not just those of a minibatch."""
    return np.asarray(_nobody_knows("all points", family))


@direction_of_all.register
def _(family: Clustering, task: ClusteringTask, theta: Array) -> Array:
    centres = theta.reshape(*task.barrier.shape, -1)
    own = ownership(*distances(task.points, centres, task.barrier, task.scatter))
    return displacement(task.points, own, centres).reshape(theta.shape)


@singledispatch
def discount(family: TaskFamily, task: Any) -> Array:
    """Return gamma, (n,)."""
    return np.asarray(_nobody_knows("the discount", family))


@discount.register
def _(family: QLearning, task: TabularTask) -> Array:
    return task.discount


@singledispatch
def pairs_updated(family: TaskFamily, task: Any, theta: Array, t: Integers) -> NDArray[np.bool_]:
    """Return which pairs (state, action) a step updates at times t, (n, p), carried columns excepted."""
    return np.asarray(_nobody_knows("the pairs", family))


@pairs_updated.register
def _(family: QLearning, task: TabularTask, theta: Array, t: Integers) -> NDArray[np.bool_]:
    updated = np.full(task.optimum.shape, family.num_carried == 0)
    if family.num_carried:
        updated[np.arange(len(theta)), family.visit(task, theta, t).pair] = True
    return updated


@singledispatch
def drift(family: TaskFamily, task: Any) -> Array:
    """Return q, the variance of a step of the target over that of the noise, (n,)."""
    return np.asarray(_nobody_knows("the drift", family))


@drift.register
def _(family: Tracking, task: TrackingTask) -> Array:
    return task.drift
