"""Moves that are no multiples of the direction: what the class of all step sizes is compared with."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from metalearn_env.engine import Engine
from metalearn_env.family import Array
from metalearn_env.knowledge import extreme_curvatures
from metalearn_env.rules import NOTHING, quotient


def heavy_ball(engine: Engine) -> Iterator[Array]:
    r"""Polyak (1964): h d + beta s, h = 4 / (\sqrt L + \sqrt mu)^2, beta the square of Nesterov's. Told L, mu."""
    least, largest = np.sqrt(extreme_curvatures(engine.family, engine.task))
    step, beta = 4.0 / (largest + least) ** 2, ((largest - least) / (largest + least)) ** 2
    move = np.zeros_like(engine.theta)
    while True:
        move = step[:, None] * engine.direction + beta[:, None] * move
        yield move


def nesterov(engine: Engine) -> Iterator[Array]:
    r"""Nesterov (1983), strongly convex: beta = (\sqrt L - \sqrt mu) / (\sqrt L + \sqrt mu). Told L, mu, T.

        x_new = theta + d(theta) / L,      theta_new = x_new + beta (x_new - x)

    Directions are taken at theta; the last step leaves out its momentum and so ends at x.
    """
    curvatures = extreme_curvatures(engine.family, engine.task)
    least, largest = np.sqrt(curvatures)
    beta, step = (largest - least) / (largest + least), 1.0 / curvatures.largest
    x = engine.theta.copy()
    while True:
        new = engine.theta + step[:, None] * engine.direction
        last = engine.t + 1 >= engine.horizon
        momentum = np.where(last, 0.0, beta)[:, None] * (new - x)
        x = new
        yield new + momentum - engine.theta


def conjugate_gradients(engine: Engine) -> Iterator[Array]:
    """Hestenes and Stiefel (1952), in the form of Fletcher and Reeves: exact line search along conjugate paths.

    Told the curvature along its path. Without re-orthogonalisation, so that rounding delays it beyond the limit.
    """
    path, before = np.zeros_like(engine.theta), np.ones_like(engine.squared_norm)
    while True:
        fall = np.where(before > NOTHING, engine.squared_norm / np.maximum(before, NOTHING), 0.0)
        path = engine.direction + fall[:, None] * path
        before = engine.squared_norm
        further = engine.theta + engine.unit[:, None] * path
        change = engine.direction - engine.family.direction(engine.task, further, engine.t)
        slope = np.maximum(np.vecdot(engine.direction, path), 0.0)
        yield quotient(slope, np.vecdot(path, change) / engine.unit, engine.unit)[:, None] * path
