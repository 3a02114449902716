"""Step sizes from the change of the direction over the last step (Barzilai and Borwein, 1988)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from metalearn_env.engine import Engine
from metalearn_env.family import TINY, Array


def bb1(engine: Engine) -> Iterator[Array]:
    """Barzilai-Borwein: s's / s'y, with s the last step and y the change of the gradient. Told nothing.

    The first step is the unit of the task; where s'y is not positive, the last step size is kept.
    """
    yield engine.unit
    while True:
        change = engine.previous_squared_norm - engine.alignment  # s'y / h_prev
        step = engine.step_size * engine.previous_squared_norm
        yield np.divide(step, change, out=engine.step_size.copy(), where=change > TINY)
