"""Step sizes from the exact curvature along the direction, which costs one more evaluation of it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from metalearn_env.engine import Engine, scaled_columns
from metalearn_env.family import Array
from metalearn_env.rules import NOTHING, quotient


def exact_line_search(engine: Engine) -> Iterator[Array]:
    """Cauchy's step, g'g / g'Hg: exact line search along the gradient. Told the curvature along it."""
    while True:
        yield cauchy_step(engine)


def relaxed_line_search(engine: Engine, seed: int = 0) -> Iterator[Array]:
    """Relaxed steepest descent (Raydan and Svaiter, 2002): U(0, 2) times Cauchy's step. Told the curvature along g."""
    rng = np.random.default_rng(seed)
    while True:
        yield 2.0 * rng.random(len(engine.unit)) * cauchy_step(engine)


def dai_yuan(engine: Engine) -> Iterator[Array]:
    r"""Dai and Yuan (2005): two Cauchy steps C, then two steps Y of Yuan, and so on. Told the curvature along g.

    With C_prev of the inner step before and s the step it took,

        Y = 2 / (\sqrt{(1/C_prev - 1/C)^2 + 4 |g|^2 / |s|^2} + 1/C_prev + 1/C)
    """
    t, previous = 0, np.ones(0)
    while True:
        cauchy = cauchy_step(engine)
        if t % 4 < 2:
            yield cauchy
        else:
            moved = engine.step_size * np.sqrt(np.maximum(engine.previous_squared_norm, NOTHING))
            a, b = 1.0 / previous, 1.0 / cauchy
            yield 2.0 / (np.hypot(a - b, 2.0 * np.sqrt(engine.squared_norm) / moved) + a + b)
        t, previous = t + 1, cauchy


def cauchy_step(engine: Engine) -> Array:
    """Return g'g / g'Hg, (n,), with Hg from the direction one unit further."""
    columns = scaled_columns(engine.family)
    direction, further = engine.direction[:, columns], engine.theta.copy()
    further[:, columns] += engine.unit[:, None] * direction
    change = direction - engine.family.direction(engine.task, further, engine.t)[:, columns]
    return quotient(engine.squared_norm, np.vecdot(direction, change) / engine.unit, engine.unit)
