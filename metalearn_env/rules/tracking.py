"""Step sizes for targets that drift, from q, the variance of a step of the target over that of the noise."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from metalearn_env.engine import Engine
from metalearn_env.family import Array
from metalearn_env.knowledge import drift
from metalearn_env.limits import kalman_gains


def drift_tracking(engine: Engine) -> Iterator[Array]:
    r"""The best constant in the long run, (\sqrt{q^2 + 4q} - q) / 2 = 2 / (1 + \sqrt{1 + 4/q}). Told q.

    It is what Kalman's gain tends to (Muth, 1960), however far off the first estimate is.
    """
    step = 2.0 / (1.0 + np.sqrt(1.0 + 4.0 / drift(engine.family, engine.task)))
    while True:
        yield step


def kalman(engine: Engine) -> Iterator[Array]:
    """Kalman's gain (1960) for a first estimate that is worth nothing: 1, then ever less down to the above. Told q."""
    ratio = drift(engine.family, engine.task)
    yield from kalman_gains(ratio, np.full_like(ratio, np.inf))
