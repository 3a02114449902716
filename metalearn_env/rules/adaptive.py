"""Step sizes that follow what the norms and angles of past directions say."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from metalearn_env.engine import Engine, scaled_columns
from metalearn_env.family import TINY, Array
from metalearn_env.rules import NOTHING, quotient

BETA = 0.5  # of the hypergradient
FIRST_MOVE = 1e-6  # r_epsilon of DoG: the first move / (1 + |theta_0|)


def adaptive_gd(engine: Engine) -> Iterator[Array]:
    r"""Adaptive gradient descent: min(\sqrt{1 + r} h_prev, |s| / 2|y|), r = h_prev / h_prev_prev. Told nothing.

    Source: Malitsky and Mishchenko (2020). The first step is the unit of the task, and r infinite after it.
    """
    yield (before := engine.unit)
    growth = np.full(len(before), np.inf)
    while True:
        squared_change = engine.previous_squared_norm - 2.0 * engine.alignment + engine.squared_norm
        moved, changed = np.sqrt(engine.previous_squared_norm), np.sqrt(np.maximum(squared_change, 0.0))
        local = quotient(engine.step_size * moved, 2.0 * changed, engine.step_size)
        local = np.where(engine.previous_squared_norm > NOTHING, local, engine.step_size)
        step = np.minimum(np.sqrt(1.0 + growth) * engine.step_size, local)
        growth = step / engine.step_size
        yield step


def hypergradient(engine: Engine, beta: float = BETA) -> Iterator[Array]:
    """Multiplicative hypergradient: h_prev (1 + beta cos(g, g_prev)), from the unit of the task. Told nothing.

    Source: Baydin, Cornish, Martinez Rubio, Schmidt and Wood (2018).
    """
    yield engine.unit
    while True:
        norms = np.sqrt(engine.squared_norm) * np.sqrt(engine.previous_squared_norm)
        yield engine.step_size * (1.0 + beta * np.clip(engine.alignment / np.maximum(norms, TINY), -1.0, 1.0))


def dog(engine: Engine) -> Iterator[Array]:
    r"""Distance over gradients: max_i |theta_i - theta_0| / \sqrt{\sum_i |g_i|^2}. Told nothing.

    Source: Ivgi, Hinder and Carmon (2023). The first move has the length 10^-6 (1 + |theta_0|), as they advise.
    """
    columns = scaled_columns(engine.family)
    start, squares = engine.theta[:, columns].copy(), np.zeros(len(engine.t))
    distance = FIRST_MOVE * (1.0 + np.linalg.norm(start, axis=1))
    while True:
        distance = np.maximum(distance, np.linalg.norm(engine.theta[:, columns] - start, axis=1))
        squares = squares + engine.squared_norm
        yield quotient(distance, np.sqrt(squares), engine.unit)


def adagrad_norm(engine: Engine, first: Array | float = 1.0) -> Iterator[Array]:
    r"""AdaGrad-norm: eta / \sqrt{\sum_i |g_i|^2}, with eta such that the first step is the unit. Told nothing.

    Source: Ward, Wu and Bottou (2019).
    """
    squares = np.zeros(len(engine.t))
    eta = first * engine.unit * np.sqrt(engine.squared_norm)
    while True:
        squares = squares + engine.squared_norm
        yield eta / np.sqrt(squares)
