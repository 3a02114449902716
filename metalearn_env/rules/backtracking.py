"""Step sizes that are tried before they are taken, which costs evaluations."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from metalearn_env.engine import Engine, scaled_columns
from metalearn_env.rules import Charged

DECREASE = 0.5  # c
GROWTH, SHRINKAGE = 2.0, 0.5
TRIALS = 10
ROUNDING = 1e-15


def armijo(engine: Engine, decrease: float = DECREASE) -> Iterator[Charged]:
    """Armijo (1966): halve h until f(theta - h g) <= f - c h |g|^2, c = 1/2. Told nothing; every trial is charged.

    The first trial is twice the step before, or the unit of the task; after ten the step is taken as it is.
    """
    columns, growth = scaled_columns(engine.family), 1.0
    while True:
        step, trials = growth * engine.step_size, np.zeros(len(engine.t))
        growth, going = GROWTH, np.ones(len(trials), np.bool_)
        for _ in range(TRIALS):
            tried = engine.theta.copy()
            tried[:, columns] += step[:, None] * engine.direction[:, columns]
            signal = engine.family.signal(engine.task, tried, engine.t)
            trials += going
            most = engine.signal * (1.0 + ROUNDING) - decrease * step * engine.squared_norm
            going = going & ~(signal <= most)
            if not going.any():
                break
            step = np.where(going, SHRINKAGE * step, step)
        yield Charged(step, trials)
