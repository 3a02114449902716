"""Open-loop step sizes: fixed before the run as a function of t / T, in units of the task."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from metalearn_env.engine import Engine
from metalearn_env.family import Array
from metalearn_env.rules import Rule

#: name -> step size at t = 0, ..., T - 1 as a part of the first one, given t (an array) and T
SHAPES: dict[str, Callable[[Array, int], Array]] = {
    "constant": lambda t, T: np.ones(T),
    "inverse": lambda t, T: 1.0 / (1.0 + t),
    "inverse, slow": lambda t, T: 1.0 / (1.0 + 10.0 * t / T),
    "square root": lambda t, T: 1.0 / np.sqrt(1.0 + t),
    "linear": lambda t, T: 1.0 - t / T,
    "cosine": lambda t, T: 0.5 * (1.0 + np.cos(np.pi * t / T)),
    "exponential, to 1/10": lambda t, T: 0.1 ** (t / T),
    "exponential, to 1/100": lambda t, T: 0.01 ** (t / T),
}


def shape(name: str, horizon: int) -> Array:
    """Return the schedule of a name of `SHAPES`, (horizon,), starting at 1."""
    return SHAPES[name](np.arange(horizon, dtype=np.float64), horizon)


def schedule(multiples: Array) -> Rule:
    """Return the rule that steps ``multiples[t]`` units at time t. Told nothing."""

    def run(engine: Engine) -> Iterator[Array]:
        for multiple in multiples:
            yield multiple * engine.unit

    return run
