"""Step sizes from the last directions, all at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from metalearn_env.actions import RANGE
from metalearn_env.engine import Engine
from metalearn_env.family import Array
from metalearn_env.krylov import Krylov

MEMORY = 20


def limited_memory(engine: Engine, memory: int = MEMORY) -> Iterator[Array]:
    """1 / theta, of the Ritz value theta along whose vector is most of the curvature d'A d. Told nothing.

    Source: Fletcher (2012), who takes all Ritz values of a sweep in turn, the largest first. Here they are renewed at
    every step, from the last 20 directions, and the one is taken that has most to remove. The first step is the unit of
    the task; where no Ritz value is positive, the last step size is kept. Steps stay in the range of those of agents.
    """
    n, family = len(engine.t), engine.family
    krylov = Krylov(n, family.num_parameters, memory)
    krylov.begin(engine, np.arange(n))
    yield engine.unit
    while True:
        krylov.passed(engine)
        krylov.look()
        yield np.clip(krylov.steps[:, 1], engine.unit / RANGE, engine.unit * RANGE)
