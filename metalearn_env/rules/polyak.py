"""Step sizes that would end at the minimum if the loss fell as fast as its gradient says (Polyak, 1969)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from metalearn_env.engine import Engine
from metalearn_env.family import Array
from metalearn_env.rules import quotient

PART = 0.5  # c


def polyak(engine: Engine) -> Iterator[Array]:
    """Polyak's step, (f - f*) / |g|^2, with the loss that the learner sees; 0 where that is below f*. Told f*."""
    while True:
        yield _step(engine, engine.signal - engine.reference)


def sps(engine: Engine) -> Iterator[Array]:
    """Stochastic Polyak step, f / c|g|^2 with c = 1/2, for minibatch losses that may fall to 0. Told nothing.

    Source: Loizou, Vaswani, Laradji and Lacoste-Julien (2021). For regression on one example a step it is NLMS.
    """
    while True:
        yield _step(engine, engine.signal / PART)


def _step(engine: Engine, gap: Array) -> Array:
    step = quotient(np.maximum(gap, 0.0), engine.squared_norm, engine.unit)
    return np.where(gap > 0.0, step, 0.0)
