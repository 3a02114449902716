"""Step sizes for a known spectrum, most of them for its ends L and mu alone: schedules and random steps."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from metalearn_env.engine import Engine
from metalearn_env.family import Array
from metalearn_env.knowledge import extreme_curvatures, risk
from metalearn_env.limits import ritz_values
from metalearn_env.risk import least_risk

SILVER_RATIO = 1.0 + np.sqrt(2.0)


def inverse_l(engine: Engine) -> Iterator[Array]:
    """1 / L. Told L."""
    step = 1.0 / extreme_curvatures(engine.family, engine.task).largest
    while True:
        yield step


def silver(engine: Engine) -> Iterator[Array]:
    """Silver step sizes: (1 + rho^(nu(t) - 1)) / L at t = 1, 2, ..., rho = 1 + sqrt 2, 2^nu the power in t. Told L.

    Source: Altschuler and Parrilo (2023). They are made for horizons 2^k - 1; others take the first of the sequence.
    """
    largest, t = extreme_curvatures(engine.family, engine.task).largest, 1
    while True:
        yield (1.0 + SILVER_RATIO ** (_twos(t) - 1)) / largest
        t += 1


def chebyshev(engine: Engine) -> Iterator[Array]:
    r"""Chebyshev steps, 1/h = (L + mu)/2 + (L - mu)/2 cos((2 k - 1) pi / 2 T), k in fractal order. Told L, mu, T.

    Sources: Young (1953); Lebedev and Finogenov (1971), and Agarwal, Goel and Zhang (2021) for the order.
    """
    (least, largest), horizon = extreme_curvatures(engine.family, engine.task), int(engine.horizon.max())
    for k in fractal_order(horizon):
        node = np.cos((2 * k - 1) * np.pi / (2 * horizon))
        yield 2.0 / (largest + least + (largest - least) * node)


def arcsine(engine: Engine, seed: int = 0) -> Iterator[Array]:
    """Random steps, 1/h = (L + mu)/2 + (L - mu)/2 cos(pi U): the mean of log|1 - lambda h| is that of Chebyshev's.

    It is the same for every eigenvalue lambda. Told L, mu. Source: Kalousek (2017), Pronzato, Wynn and Zhigljavsky.
    """
    least, largest = extreme_curvatures(engine.family, engine.task)
    rng = np.random.default_rng(seed)
    while True:
        yield 2.0 / (largest + least + (largest - least) * np.cos(np.pi * rng.random(len(largest))))


def best_schedule(engine: Engine) -> Iterator[Array]:
    """The best of all schedules that are fixed beforehand. Told the spectrum, the first error, noise, b and T.

    All examples at once: the inverse Ritz values, the shortest steps first, which end where conjugate gradients do but
    for rounding, which grows with the horizon. Minibatches of Gaussian inputs: the schedule of the least expected gap
    over streams, see `metalearn_env.risk`.
    """
    horizon, law = int(engine.horizon.max()), risk(engine.family, engine.task)
    if law.inverse_batch:
        yield from least_risk(law, horizon)
        return
    ritz = ritz_values(engine.task, engine.theta, horizon)
    yield from np.divide(1.0, ritz, out=np.zeros_like(ritz), where=ritz > 0.0)


def fractal_order(horizon: int) -> NDArray[np.int64]:
    """Return 1, ..., horizon in an order in which every step that expands is followed by one that makes up for it.

    Twice as many: each k of the order of half as many, and 2 T + 1 - k after it; of an odd number, the middle one last.

    >>> fractal_order(8).tolist()
    [1, 8, 4, 5, 2, 7, 3, 6]
    """
    if horizon < 2:
        return np.arange(1, horizon + 1)
    half = fractal_order(horizon // 2)
    order = np.stack([half, horizon + 1 - half], axis=1).ravel()
    return np.append(order, horizon // 2 + 1) if horizon % 2 else order


def _twos(t: int) -> int:
    """Return how often 2 divides t."""
    return (t & -t).bit_length() - 1
