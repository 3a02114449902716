"""Directions that optimisers move along, as `torch.optim` has them, with their state carried from step to step."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from metalearn_env.family import Array

OPTIMIZERS = ("sgd", "momentum", "adam")
KEPT, SQUARES_KEPT, UNSURE = 0.9, 0.999, 1e-8  # Adam's beta_1, beta_2, epsilon


def num_carried(optimizer: str, p: int) -> int:
    """Return how many numbers the state of p parameters takes."""
    return p * OPTIMIZERS.index(optimizer)


def descent(optimizer: str, momentum: float, gradient: Array, state: Array, t: NDArray[np.int64]) -> Array:
    """Return the direction of p parameters and the change of the state, (n, p + carried), together.

    Args:
        optimizer: "sgd": -g. "momentum": -b, where b <- momentum b + g (Polyak, 1964). "adam" (Kingma and Ba, 2015).
        momentum: of "momentum".
        gradient: (n, p)
        state: (n, carried) zero at t = 0: b; of Adam the means of g and of g^2.
        t: (n,)
    """
    if optimizer == "sgd":
        return -gradient
    if optimizer == "momentum":
        change = gradient - (1.0 - momentum) * state
        return np.concatenate([-(state + change), change], axis=1)
    mean, square = np.split(state, 2, axis=1)
    changes = (1.0 - KEPT) * (gradient - mean), (1.0 - SQUARES_KEPT) * (gradient**2 - square)
    step = (t + 1.0)[:, None]
    unbiased = (mean + changes[0]) / (1.0 - KEPT**step)
    root = np.sqrt(np.maximum(square + changes[1], 0.0) / (1.0 - SQUARES_KEPT**step))
    return np.concatenate([-unbiased / (root + UNSURE), *changes], axis=1)
