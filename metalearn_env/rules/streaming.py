"""Step sizes of adaptive filters: regression on a stream of examples."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from metalearn_env.engine import Engine
from metalearn_env.family import Array
from metalearn_env.knowledge import squared_inputs, stream
from metalearn_env.rules import NOTHING, quotient

META_STEP = 0.01  # of IDBD, times the first loss seen
FIRST_PART = 0.1  # of IDBD's first step sizes, in units


def nlms(engine: Engine, part: float = 0.3) -> Iterator[Array]:
    """Normalised LMS: 0.3 / |x|^2, with the mean of |x|^2 over the minibatch. Told the inputs.

    Source: Nagumo and Noda (1967); Albert and Gardner (1967).
    """
    while True:
        energy = squared_inputs(engine.family, engine.task, engine.t).sum(axis=1)
        yield quotient(np.full(len(energy), part), energy, engine.unit)


def isotropic_lms(engine: Engine) -> Iterator[Array]:
    r"""The exact optimum for Gaussian inputs of equal variance lambda. Told lambda, noise s^2, d, b and the first E.

        lambda h = E / (E (1 + (d + 1)/b) + d s^2/b)
        E <- E (1 - 2 lambda h + (lambda h)^2 (1 + (d + 1)/b)) + (lambda h)^2 d s^2/b

    E is twice the expected gap, d lambda where the optimum has unit variance. For other inputs lambda is their mean
    variance: a plug-in.
    """
    law = stream(engine.family, engine.task)
    excess = law.eigenvalues.sum(axis=1)
    variance = excess / law.dimension
    growth = 1.0 + (law.dimension + 1.0) * law.inverse_batch
    noise = law.dimension * law.noise * law.inverse_batch
    while True:
        part = excess / (excess * growth + noise)
        excess = np.maximum(excess * (1.0 - 2.0 * part + part**2 * growth) + part**2 * noise, NOTHING)
        yield part / variance


def idbd(engine: Engine, meta_step: float = META_STEP) -> Iterator[Array]:
    """Incremental delta-bar-delta (Sutton, 1992): a step size a_i for every coordinate. Told the inputs x.

        log a_i += m d_i h_i,   move a_i d_i,   h_i <- h_i max(0, 1 - a_i x_i^2) + a_i d_i

    with d the direction, x_i^2 the mean over the minibatch, m = 0.01 / first signal, as the loss has a unit, and
    a_i a tenth of the unit of the task to begin with. A logarithm changes by at most 1 a step.
    """
    log_step = np.log(FIRST_PART * engine.unit)[:, None] * np.ones_like(engine.theta)
    trace, ceiling = np.zeros_like(engine.theta), np.log(engine.unit)[:, None] + np.log(1e3)
    rate = quotient(np.full(len(engine.t), meta_step), engine.signal, np.full(len(engine.t), meta_step))[:, None]
    while True:
        change = np.clip(rate * engine.direction * trace, -1.0, 1.0)
        log_step = np.minimum(log_step + change, ceiling)
        step = np.exp(log_step)
        move = step * engine.direction
        squares = squared_inputs(engine.family, engine.task, engine.t)
        trace = trace * np.maximum(0.0, 1.0 - step * squares) + move
        yield move
