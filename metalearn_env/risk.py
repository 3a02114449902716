r"""The exact risk of gradient descent on a stream of Gaussian examples, and the schedule that makes it least.

With e the distance to the optimum in the eigenbasis of the inputs' second moments, whose eigenvalues are \lambda_i, and
c_i = E e_i^2 over streams, a step h on a minibatch of b examples with noise of variance s^2 makes of it

    c_i <- c_i (1 - 2 h \lambda_i + h^2 \lambda_i^2 (1 + 1/b)) + (h^2 / b) \lambda_i (\sum_j \lambda_j c_j + s^2)

and the expected gap is \sum_i \lambda_i c_i / 2: fourth moments of Gaussian inputs are sums of products of second ones.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from metalearn_env.family import TINY, Array

SWEEPS = 30


class Risk(NamedTuple):
    """n streams, and where learners start."""

    eigenvalues: Array  # (n, p)
    squared_error: Array  # (n, p) c at t = 0
    noise: Array  # (n,) variance s^2
    inverse_batch: float  # 1 / b; zero for all examples at once


def expected_gaps(risk: Risk, step_size: Array) -> Array:
    """Return the expected gaps, (T + 1, n), of a schedule (T, n)."""
    errors = [risk.squared_error]
    for step in step_size:
        errors.append(_after(risk, errors[-1], step))
    return 0.5 * np.vecdot(np.stack(errors), risk.eigenvalues)


def least_risk(risk: Risk, horizon: int, sweeps: int = SWEEPS) -> Array:
    """Return the schedule, (horizon, n), of the least expected gap at its end, as far as coordinate descent finds it.

    The last gap is linear in the c of any step, with weights a, and so a parabola in that step alone. Sweeps from the
    last step to the first, which update a, and back, which update c, put one step after the other at the vertex: no
    sweep makes the gap larger. They begin with the steps that are best for the next gap.
    """
    weights = [0.5 * risk.eigenvalues] * (horizon + 1)
    errors, steps = [risk.squared_error] * (horizon + 1), [np.zeros(0)] * horizon
    for sweep in range(sweeps):
        for t in range(horizon):
            steps[t] = _vertex(risk, errors[t], weights[t + 1])
            errors[t + 1] = _after(risk, errors[t], steps[t])
        if sweep + 1 < sweeps:
            for t in reversed(range(horizon)):
                steps[t] = _vertex(risk, errors[t], weights[t + 1])
                weights[t] = _before(risk, weights[t + 1], steps[t])
    return np.stack(steps)


def _after(risk: Risk, error: Array, step: Array) -> Array:
    part, spread = _parts(risk, step)
    return part * error + spread * (np.vecdot(risk.eigenvalues, error) + risk.noise)[:, None]


def _before(risk: Risk, weight: Array, step: Array) -> Array:
    """Return the weights of the c before a step, given those of the c after it; the largest is made 1."""
    part, spread = _parts(risk, step)
    before = part * weight + risk.eigenvalues * np.vecdot(spread, weight)[:, None]
    return before / np.maximum(before.max(axis=1, keepdims=True), TINY)


def _parts(risk: Risk, step: Array) -> tuple[Array, Array]:
    shrunk = step[:, None] * risk.eigenvalues
    part = 1.0 - 2.0 * shrunk + shrunk**2 * (1.0 + risk.inverse_batch)
    return part, (risk.inverse_batch * step)[:, None] * shrunk


def _vertex(risk: Risk, error: Array, weight: Array) -> Array:
    """Return the step, (n,), that makes the weighted sum of the c after it least."""
    gaps, noise = risk.eigenvalues * error, risk.inverse_batch * risk.noise
    slope = np.vecdot(weight, gaps)
    excess = risk.inverse_batch * gaps.sum(axis=1) + noise
    curvature = (1.0 + risk.inverse_batch) * np.vecdot(weight, risk.eigenvalues * gaps)
    curvature += excess * np.vecdot(weight, risk.eigenvalues)
    return slope / np.maximum(curvature, TINY)
