"""Softmax regression in a batch: losses, gradients, curvature, and the optimum by damped Newton. NumPy only.

A problem has inputs x_i of D entries, the last of which is a constant, labels y_i among K classes, and a vector
theta_k for each class:

    f(theta) = mean_i (log sum_k exp(theta_k . x_i) - theta_{y_i} . x_i) + penalty |theta|^2 / 2

With two classes it is logistic regression for w = theta_1 - theta_0, with half the penalty. A class that a problem does
not have lies behind a `BARRIER`, and takes no part.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metalearn_env.family import HALF, Array

BARRIER = -1e200  # added to the scores of classes that there are not
DECREMENT = 1e-20  # Newton's last step promises less than this
MOST_STEPS, MOST_HALVINGS = 60, 40
ROUNDING = 1e-12  # times a gradient: what is left of it outside a space, below which it lies within
REFINEMENTS = 2
DECREASE = 1e-4  # of what the gradient promises, at least

Integers = NDArray[Any]


class Softmax(NamedTuple):
    """n problems, or n minibatches of their examples."""

    inputs: Array  # (n, m, D)
    labels: Integers  # (n, m)
    barrier: Array  # (n, K) zero, or `BARRIER`
    penalty: Array  # (n,)


def log_odds(problem: Softmax, theta: Array) -> Array:
    """Return the scores of the classes less the highest one, (n, K, m)."""
    scores: Array = np.matmul(theta, problem.inputs.swapaxes(1, 2))
    scores += problem.barrier[:, :, None]
    scores -= scores.max(axis=1, keepdims=True)
    return scores


def loss_of(problem: Softmax, theta: Array) -> Array:
    """Return f, (n,), at theta (n, K, D)."""
    scores = log_odds(problem, theta)
    return _loss(problem, theta, scores, np.exp(scores).sum(axis=1), _one_hot(problem))


def loss_and_gradient(problem: Softmax, theta: Array) -> tuple[Array, Array]:
    """Return f, (n,), and its gradient, (n, K, D), at theta (n, K, D)."""
    scores, own = log_odds(problem, theta), _one_hot(problem)
    error = np.exp(scores)
    total = error.sum(axis=1)
    loss = _loss(problem, theta, scores, total, own)
    error /= total[:, None, :]
    error -= own
    error /= own.shape[2]
    gradient: Array = np.matmul(error, problem.inputs)
    gradient += problem.penalty[:, None, None] * theta
    return loss, gradient


def probabilities(problem: Softmax, theta: Array) -> Array:
    """Return the probabilities of the classes, (n, K, m)."""
    odds = np.exp(log_odds(problem, theta))
    odds /= odds.sum(axis=1, keepdims=True)
    return odds


def curvature(problem: Softmax, theta: Array, vector: Array) -> Array:
    """Return the product, (n, K, D), of the Hessian of f at theta and a vector (n, K, D)."""
    share = probabilities(problem, theta)
    change = np.matmul(vector, problem.inputs.swapaxes(1, 2))
    change -= (share * change).sum(axis=1, keepdims=True)
    change *= share
    change /= share.shape[2]
    product: Array = np.matmul(change, problem.inputs)
    product += problem.penalty[:, None, None] * vector
    return product


def newton(problem: Softmax) -> Array:
    """Return the optimum, (n, K, D), by Newton's method from zero, steps halved until f falls.

    A problem that is solved goes on no longer, so that what is found does not depend on the others.
    """
    n, classes = problem.barrier.shape
    theta = np.zeros((n, classes, problem.inputs.shape[2]))
    going = np.arange(n)
    for _ in range(MOST_STEPS):
        part, here = Softmax._make(array[going] for array in problem), theta[going]
        loss, gradient = loss_and_gradient(part, here)
        flat = gradient.reshape(len(going), -1)
        step = np.asarray(np.linalg.solve(_hessian(part, here), flat[:, :, None])[:, :, 0], np.float64)
        promise = np.vecdot(flat, step)
        moved, fell = _halved(part, here, loss, step.reshape(here.shape), promise)
        theta[going] = moved
        going = going[fell & (promise > DECREMENT)]
        if not going.size:
            break
    return theta


def best_in_the_span(problem: Softmax, gradients: int) -> Array:
    """Return the best point, (n, K, D), of the space that so many gradients span, each taken at the best point before.

    On a quadratic these are conjugate gradients. The best point is where `REFINEMENTS` damped Newton steps in that
    space lead, from the best point before.
    """
    n, classes = problem.barrier.shape
    theta = np.zeros((n, classes, problem.inputs.shape[2]))
    p = classes * problem.inputs.shape[2]
    basis = np.zeros((n, min(gradients, p), p))
    for t in range(basis.shape[1]):
        vector = loss_and_gradient(problem, theta)[1].reshape(n, p)
        scale = np.sqrt(np.vecdot(vector, vector))
        for _ in range(2):
            vector -= np.matmul(np.matmul(basis[:, :t], vector[:, :, None])[:, None, :, 0], basis[:, :t])[:, 0]
        norm = np.sqrt(np.vecdot(vector, vector))
        there = norm > ROUNDING * scale
        basis[:, t] = np.divide(vector, norm[:, None], out=np.zeros_like(vector), where=there[:, None])
        for _ in range(REFINEMENTS):
            theta = _newton_in(problem, theta, basis[:, : t + 1])
    return theta


def _newton_in(problem: Softmax, theta: Array, basis: Array) -> Array:
    """Return where a damped Newton step in the span of orthonormal vectors (n, t, p), or of zeros, leads."""
    loss, gradient = loss_and_gradient(problem, theta)
    slope = np.matmul(basis, gradient.reshape(len(theta), -1, 1))
    inside = np.matmul(np.matmul(basis, _hessian(problem, theta)), basis.swapaxes(1, 2))
    absent = np.vecdot(basis, basis) == 0.0
    inside[:, range(basis.shape[1]), range(basis.shape[1])] += absent
    step = np.asarray(np.linalg.solve(inside, slope), np.float64)
    moved = np.matmul(step.swapaxes(1, 2), basis)
    promise = np.vecdot(slope[:, :, 0], step[:, :, 0])
    return _halved(problem, theta, loss, moved.reshape(theta.shape), promise)[0]


def _halved(
    problem: Softmax, theta: Array, loss: Array, step: Array, promise: Array
) -> tuple[Array, NDArray[np.bool_]]:
    """Return where each problem goes, and whether f falls there; one whose f falls nowhere stays."""
    moved, fell = theta.copy(), np.zeros(len(theta), np.bool_)
    size, waiting = 1.0, np.arange(len(theta))
    for _ in range(MOST_HALVINGS):
        tried = theta[waiting] - size * step[waiting]
        part = Softmax._make(array[waiting] for array in problem)
        good = loss_of(part, tried) <= loss[waiting] - DECREASE * size * promise[waiting]
        moved[waiting[good]], fell[waiting[good]] = tried[good], True
        waiting, size = waiting[~good], 0.5 * size
        if not waiting.size:
            break
    return moved, fell


def _hessian(problem: Softmax, theta: Array) -> Array:
    """Return the Hessian of f, (n, K * D, K * D), a block for each pair of classes."""
    share = probabilities(problem, theta)
    (n, classes, m), width = share.shape, problem.inputs.shape[2]
    hessian = np.empty((n, classes, width, classes, width))
    turned = problem.inputs.swapaxes(1, 2)
    for a in range(classes):
        for b in range(a + 1):
            weight = share[:, a] * ((1.0 if a == b else 0.0) - share[:, b]) / m
            block = np.matmul(turned * weight[:, None, :], problem.inputs)
            hessian[:, a, :, b], hessian[:, b, :, a] = block, block
    flat = hessian.reshape(n, classes * width, classes * width)
    flat[:, range(classes * width), range(classes * width)] += problem.penalty[:, None]
    return flat


def _loss(problem: Softmax, theta: Array, scores: Array, total: Array, own: NDArray[np.bool_]) -> Array:
    missed = np.log(total) - np.where(own, scores, 0.0).sum(axis=1)
    flat = theta.reshape(len(theta), -1)
    loss: Array = missed.mean(axis=1) + HALF * problem.penalty * np.vecdot(flat, flat)
    return loss


def _one_hot(problem: Softmax) -> NDArray[np.bool_]:
    """Return whether an example is of a class, (n, K, m)."""
    classes = np.arange(problem.barrier.shape[1], dtype=problem.labels.dtype)
    owned: NDArray[np.bool_] = problem.labels[:, None, :] == classes[:, None]
    return owned
