"""Step sizes from the change of the direction over the last step (Barzilai and Borwein, 1988).

With s the last step and y the change of the gradient, BB1 = s's / s'y and BB2 = s'y / y'y, which is never longer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np

from metalearn_env.engine import Engine
from metalearn_env.family import Array
from metalearn_env.rules import NOTHING, quotient

MEMORY, RATIO = 9, 0.8


def bb1(engine: Engine) -> Iterator[Array]:
    """Barzilai-Borwein: s's / s'y. Told nothing.

    The first step is the unit of the task; where s'y is not positive, the last step size is kept.
    """
    yield engine.unit
    while True:
        yield _bb1(engine)


def bb2(engine: Engine) -> Iterator[Array]:
    """Barzilai-Borwein: s'y / y'y. Told nothing.

    The first step is the unit of the task; where s'y is not positive, the last step size is kept.
    """
    yield engine.unit
    while True:
        yield _bb2(engine)


def abb_min(engine: Engine, memory: int = MEMORY) -> Iterator[Array]:
    """ABBmin1: the least BB2 of this step and of up to 9 before where BB2 / BB1 < 0.8, else BB1. Told nothing.

    Source: Frassoldati, Zanghirati and Zanni (2008), with their parameters. The first step is the unit of the task.
    """
    yield engine.unit
    recent: deque[Array] = deque(maxlen=memory + 1)
    while True:
        long, short = _bb1(engine), _bb2(engine)
        recent.append(short)
        yield np.where(short < RATIO * long, np.min(recent, axis=0), long)


def _bb1(engine: Engine) -> Array:
    change = engine.previous_squared_norm - engine.alignment  # s'y / h_prev
    return quotient(engine.step_size * engine.previous_squared_norm, change, engine.step_size)


def _bb2(engine: Engine) -> Array:
    change = engine.previous_squared_norm - engine.alignment  # s'y / h_prev
    squared_change = change - engine.alignment + engine.squared_norm  # y'y
    rising = change > NOTHING
    step = quotient(engine.step_size * np.where(rising, change, 0.0), squared_change, engine.step_size)
    return np.where(rising & (step > 0.0), step, engine.step_size)
