"""The limit of each family: a loss that no choice of step sizes from what was seen can be expected to beat.

It marks the score 1. A family without one here is measured against its reference loss.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import singledispatch
from typing import Any

import numpy as np

from metalearn_env.clusters import ClusteringTask
from metalearn_env.descents import descent
from metalearn_env.designs import RegressionTask
from metalearn_env.engine import scaled_columns
from metalearn_env.families.classification import Classification
from metalearn_env.families.clustering import Clustering
from metalearn_env.families.linear_regression import LinearRegression
from metalearn_env.families.neural_network import NeuralNetwork
from metalearn_env.families.q_learning import QLearning
from metalearn_env.families.tracking import Tracking, TrackingTask
from metalearn_env.family import TINY, Array, TaskFamily
from metalearn_env.kmeans import lloyd
from metalearn_env.labelled import ClassificationTask
from metalearn_env.least_squares import product, transposed_product
from metalearn_env.markov import Processes, optimal_q_values, state_type
from metalearn_env.network_tasks import NetworkTask
from metalearn_env.processes import TabularTask
from metalearn_env.softmax import best_in_the_span, newton

MODEL_ENTRIES = 2**23  # of the empirical models that are held at once
NETWORK_STEPS, NETWORK_SIZES = 4, (0.01, 0.03, 0.1)  # of Adam
CONVERGED = 1e-15  # |residual| / |first residual|
RESIDUAL = 1e-13  # |what is left of a vector| / |vector|, below which it is rounding


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
def _(family: Classification, task: ClassificationTask, horizon: int) -> Array:
    """Of all examples: the best point of the span of as many gradients, which conjugate gradients are on a quadratic.

    It is no bound where f is not quadratic, but no schedule here comes near it before it is at the optimum. Of
    minibatches: the optimum of the examples that they showed, as often as they were shown. A schedule that is chosen in
    hindsight makes use of their very noise, and is better still.
    """
    problem = task.problem
    if family.batch_size is None:
        best = best_in_the_span(problem, horizon)
    else:
        row, seen = np.arange(len(task.penalty))[:, None], task.batches[:, :horizon].reshape(len(task.penalty), -1)
        best = newton(problem._replace(inputs=task.inputs[row, seen], labels=task.labels[row, seen]))
    return family.loss(task, best.reshape(task.optimum.shape))


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


@limit_loss.register
def _(family: NeuralNetwork, task: NetworkTask, horizon: int) -> Array:
    """The least loss that Adam with all examples comes by in `NETWORK_STEPS` times the steps, of the best size.

    There is no bound for networks that is of use: 0, which no learner reaches, is one. This is a line far ahead of what
    as many steps reach; a controller may cross it.
    """
    least, examples = family.loss(task, family.start(task)), np.arange(family.num_examples)
    which = np.broadcast_to(examples, (len(task.objective), len(examples)))
    for size in NETWORK_SIZES:
        theta, state = task.first.copy(), np.zeros((len(task.first), 2 * task.first.shape[1]))
        for t in range(NETWORK_STEPS * horizon):
            loss, gradient = family.losses_and_gradients(task, theta, which)
            gradient /= task.objective[:, None]
            move = descent("adam", 0.0, gradient, state, np.full(len(theta), t))
            theta += size * move[:, : theta.shape[1]]
            state += move[:, theta.shape[1] :]
            least = np.minimum(least, loss if family.of_all_examples else family.loss(task, theta))
    return least


@limit_loss.register
def _(family: QLearning, task: TabularTask, horizon: int) -> Array:
    n = len(task.pairs)
    size = max(1, MODEL_ENTRIES // (task.reward.shape[1] * (task.start.shape[1] + 1)))
    parts = [TabularTask._make(array[first : first + size] for array in task) for first in range(0, n, size)]
    return np.concatenate([family.loss(part, best_multiple(family, part, horizon)) for part in parts])


def best_multiple(family: QLearning, task: TabularTask, horizon: int) -> Array:
    """Return the multiple of the certainty-equivalent table that is closest to Q*, as an iterate (n, p).

    The score 0 belongs to a number that was chosen in hindsight, and so does this: most of Q* is its mean, and half of
    the best constant steps, on tasks of high discount, hit that better by chance than certainty equivalence does.
    """
    theta = certainty_equivalence(family, task, horizon)
    table = theta[:, : task.optimum.shape[1]]
    table *= (np.vecdot(table, task.optimum) / np.maximum(np.vecdot(table, table), TINY))[:, None]
    return theta


def certainty_equivalence(family: QLearning, task: TabularTask, horizon: int) -> Array:
    """Return the optimal tables, as iterates (n, p), of the empirical model of the transitions of ``horizon`` steps.

    Synchronous sampling: of all transitions that the learner sees (for its rate see Azar, Munos and Kappen, 2013). As
    they are a sample, it may be beaten. Trajectories depend on the learner: here they are those of the learner that
    knows Q* from the start and explores as all do; pairs that they do not visit keep their value, 0.
    """
    theta = family.start(task)
    states, p = task.start.shape[1], task.reward.shape[1]
    theta[:, :p] = task.optimum
    row, pair = np.arange(len(theta))[:, None], np.arange(p)[None, :]
    counts, rewards = np.zeros((len(theta), states + 1, p)), np.zeros((len(theta), p))
    for t in range(horizon):
        times = np.full(len(theta), t)
        next_state, reward = family.transitions(task, times)
        if family.num_carried:
            visit = family.visit(task, theta, times)
            theta[:, -1], pair = visit.next_state, visit.pair[:, None]
        counts[row, next_state[row, pair], pair] += 1.0
        rewards[row, pair] += reward[row, pair]
    visits = np.maximum(counts.sum(axis=1), 1.0)
    successors = np.broadcast_to(np.arange(states + 1, dtype=state_type(states))[:, None], counts.shape)
    model = Processes(successors, counts / visits[:, None, :], rewards / visits, task.discount, task.actions)
    theta[:, :p] = optimal_q_values(model, states)
    return theta


@limit_loss.register
def _(family: Tracking, task: TrackingTask, horizon: int) -> Array:
    theta, scaled = family.start(task), scaled_columns(family)
    for t, gain in zip(range(horizon), kalman_gains(task.drift, task.distance), strict=False):
        move = family.direction(task, theta, np.full(len(theta), t))
        move[:, scaled] *= gain[:, None]
        theta += move
    return family.loss(task, theta)


def kalman_gains(drift: Array, distance: Array) -> Iterator[Array]:
    r"""Yield the gains of Kalman's filter (1960) for a random walk, (n,): at any time the best steps there are.

    With P the variance of what the estimate lacks, over that of the noise, at the start ``distance``, and q the drift,

        P <- P + q,    gain = P / (P + 1),    P <- P - gain P

    That is the Bayes estimate where all is normal, and the best linear one elsewhere. The gains tend to
    (\sqrt{q^2 + 4q} - q) / 2. An infinite distance makes the first of them 1.
    """
    variance = distance
    while True:
        variance = 1.0 / (1.0 + 1.0 / (variance + drift))  # after the step it is the gain itself
        yield variance


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


def ritz_values(task: RegressionTask, theta: Array, horizon: int) -> Array:
    """Return the Ritz values, (horizon, n), of the Krylov space of the first gradient, from the largest to the least.

    Their inverses are step sizes that lead, in any order, to the iterate of conjugate gradients. Where the space ends
    before, in no more dimensions than there are different eigenvalues, the values that there are not are zero. Lanczos'
    vectors are orthogonalised against all earlier ones, twice.
    """
    vector = transposed_product(task, product(task, task.optimum - theta))
    basis, image = np.zeros((2, horizon, *theta.shape))
    least = CONVERGED * np.sqrt(np.vecdot(vector, vector))
    for t in range(horizon):
        norm = np.sqrt(np.vecdot(vector, vector))[:, None]
        basis[t] = np.divide(vector, norm, out=basis[t], where=norm > np.maximum(least, TINY)[:, None])
        image[t] = product(task, basis[t])
        vector = transposed_product(task, image[t])
        least = RESIDUAL * np.sqrt(np.vecdot(vector, vector))
        for _ in range(2):
            overlap = np.einsum("tnp,np->tn", basis[: t + 1], vector)
            vector -= np.einsum("tnp,tn->np", basis[: t + 1], overlap)
    values = np.linalg.eigvalsh(np.einsum("snp,tnp->nst", image, image))
    return np.asarray(np.where(values > RESIDUAL * values[:, -1:], values, 0.0).T[::-1], np.float64)


def recursive_least_squares(task: RegressionTask, horizon: int) -> Array:
    """Return the posterior mean of the optimum, (n, p), given the examples of the first ``horizon`` minibatches.

    The prior, standard normal, and the variance of the noise are those that synthetic tasks are drawn with, so that
    there it is the Bayes estimate, and what Kalman's recursive least squares arrives at. Where tails are heavy, and on
    minibatches of a data set, it is a strong line, not a limit.
    """
    n, p = task.optimum.shape
    inputs = task.inputs[:, :horizon].reshape(n, -1, p)
    targets = task.targets[:, :horizon].reshape(n, -1)
    precision = np.einsum("nmp,nmq->npq", inputs, inputs)
    least = 1e-12 * np.trace(precision, axis1=1, axis2=2) + TINY
    precision += np.maximum(2.0 * task.minimum, least)[:, None, None] * np.eye(p)
    return np.linalg.solve(precision, np.einsum("nmp,nm->np", inputs, targets)[..., None])[..., 0]
