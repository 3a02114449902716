"""Step sizes of Q-learning from n, how often the pair that a step updates has been updated, this time included.

With synchronous sampling n is t + 1; a trajectory updates a single pair a step, whose own count it is.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from metalearn_env.engine import Engine
from metalearn_env.family import Array
from metalearn_env.knowledge import discount, pairs_updated

POWER = 0.8  # w
HALF_LIFE = 10.0  # A


def one_over_visits(engine: Engine) -> Iterator[Array]:
    """1 / n (Watkins and Dayan, 1992). Told which pairs a step updates."""
    for n in visits(engine):
        yield 1.0 / n


def polynomial(engine: Engine, power: float = POWER) -> Iterator[Array]:
    """n^-w, with w = 0.8 (Even-Dar and Mansour, 2003: between 1/2 and 1). Told which pairs a step updates."""
    for n in visits(engine):
        yield n**-power


def wainwright(engine: Engine) -> Iterator[Array]:
    """1 / (1 + (1 - gamma) n) (Wainwright, 2019). Told gamma, which a learner knows, and which pairs a step updates."""
    rate = 1.0 - discount(engine.family, engine.task)
    for n in visits(engine):
        yield 1.0 / (1.0 + rate * n)


def harmonic(engine: Engine, half_life: Array | float = HALF_LIFE) -> Iterator[Array]:
    """A / (A + n - 1), with A = 10 (George and Powell, 2006). Told which pairs a step updates."""
    for n in visits(engine):
        yield half_life / (half_life + n - 1.0)


def visits(engine: Engine) -> Iterator[Array]:
    """Yield n, (n,), of the pairs that the steps update."""
    count, rows = np.zeros(engine.task.optimum.shape), np.arange(len(engine.t))
    while True:
        updated = pairs_updated(engine.family, engine.task, engine.theta, engine.t)
        count += updated
        yield count[rows, updated.argmax(axis=1)]
