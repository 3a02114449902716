"""The limit of each family: a loss that no choice of step sizes from what was seen can be expected to beat.

It marks the score 1. A family without one here is measured against its reference loss.
"""

from __future__ import annotations

from functools import singledispatch
from typing import Any

import numpy as np

from metalearn_env.clusters import ClusteringTask
from metalearn_env.designs import RegressionTask
from metalearn_env.families.clustering import Clustering
from metalearn_env.families.linear_regression import LinearRegression
from metalearn_env.family import TINY, Array, TaskFamily
from metalearn_env.kmeans import lloyd
from metalearn_env.least_squares import product, transposed_product

CONVERGED = 1e-15  # |residual| / |first residual|


@singledispatch
def limit_loss(family: TaskFamily, task: Any, horizon: int) -> Array:
    """Return the loss, (n,), that marks the score 1 for inner runs of ``horizon`` steps."""
    return family.reference_loss(task)


@limit_loss.register
def _(family: LinearRegression, task: RegressionTask, horizon: int) -> Array:
    if family.batch_size is not None:
        return family.loss(task, recursive_least_squares(task, horizon))
    return family.loss(task, conjugate_gradient(task, family.start(task), horizon))


@limit_loss.register
def _(family: Clustering, task: ClusteringTask, horizon: int) -> Array:
    if family.batch_size is None:
        return family.reference_loss(task)
    return family.loss(task, centres_of_the_seen(task, horizon))


def centres_of_the_seen(task: ClusteringTask, horizon: int) -> Array:
    """Return the best centres for what the first ``horizon`` minibatches showed, (n, k * d), as often as it was shown.

    Lloyd's algorithm begins at the best centres for all points, so that no bad local minimum is in its way: what is
    left of the loss is the price of having seen a sample only.
    """
    (n, k), m = task.barrier.shape, task.points.shape[1]
    seen = task.batches[:, :horizon].reshape(n, -1) + m * np.arange(n)[:, None]
    counts = np.bincount(seen.ravel(), minlength=n * m).reshape(n, m).astype(np.float64)
    start = task.optimum.reshape(n, k, -1)
    return lloyd(task.points, start, task.barrier, task.scatter, counts).reshape(n, -1)


def conjugate_gradient(task: RegressionTask, theta: Array, horizon: int) -> Array:
    """Return the iterates of conjugate gradients after ``horizon`` steps, (n, p).

    On a quadratic they are the best point of the Krylov space, which every sequence of step sizes stays in, and which
    the inverse Ritz values reach as step sizes (Hestenes and Stiefel, 1952). Residuals are orthogonalised against all
    earlier ones, twice, so that rounding does not delay convergence: O(n p T^2).
    """
    residual = transposed_product(task, product(task, task.optimum - theta))
    squared = first = np.vecdot(residual, residual)
    search, theta = residual, theta.copy()
    basis = np.zeros((horizon, *residual.shape))
    for t in range(horizon):
        going = squared > CONVERGED**2 * first
        basis[t] = residual / np.sqrt(np.maximum(squared, TINY))[:, None] * going[:, None]
        image = product(task, search)
        step = np.where(going, squared / np.maximum(np.vecdot(image, image), TINY), 0.0)
        theta += step[:, None] * search
        residual = residual - step[:, None] * transposed_product(task, image)
        for _ in range(2):
            overlap = np.einsum("tnp,np->tn", basis[: t + 1], residual)
            residual -= np.einsum("tnp,tn->np", basis[: t + 1], overlap)
        before, squared = squared, np.where(going, np.vecdot(residual, residual), 0.0)
        search = residual + (squared / np.maximum(before, TINY))[:, None] * search
    return theta


def recursive_least_squares(task: RegressionTask, horizon: int) -> Array:
    """Return the posterior mean of the optimum, (n, p), given the examples of the first ``horizon`` minibatches.

    The prior, standard normal, and the variance of the noise are those that synthetic tasks are drawn with, so that
    there it is the Bayes estimate, and what Kalman's recursive least squares arrives at.
    """
    n, p = task.optimum.shape
    inputs = task.inputs[:, :horizon].reshape(n, -1, p)
    targets = task.targets[:, :horizon].reshape(n, -1)
    noise = np.maximum(2.0 * task.minimum, TINY)[:, None]
    precision = np.einsum("nmp,nmq->npq", inputs, inputs) + noise[:, :, None] * np.eye(p)
    return np.linalg.solve(precision, np.einsum("nmp,nm->np", inputs, targets)[..., None])[..., 0]
