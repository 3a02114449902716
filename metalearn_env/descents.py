"""Directions that optimisers move along, as `torch.optim` has them, with their state carried from step to step."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from metalearn_env.family import TINY, Array

OPTIMIZERS = ("sgd", "momentum", "adam")
MOVED = 0.1  # of |theta|, by a natural step
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


def natural_step(
    loss: Array | float, slope: Array | float, size: Array | float, norm: Array | float, *, share: float
) -> Array:
    """Return the steps, (n,), to begin with: f / slope, but at most a tenth of |theta| / |d|; 1 where there is none.

    Args:
        loss: f, of which 0 is a lower bound, (n,) as all of these; or they are numbers, and there is one step.
        slope: -g'd, by which it falls.
        size: |theta|; 0 says nothing.
        norm: |d|
        share: of what a gradient moves theta by in the end, what it does at once: 1 - momentum.

    A network whose signals die away from layer to layer has small gradients, and f / slope would throw it far off; that
    steps are to be in proportion to theta is of You, Gitman and Ginsburg (2017).
    """
    loss, slope, size, norm = map(np.asarray, (loss, slope, size, norm))
    linear = np.divide(loss, slope, out=np.full_like(loss, np.inf), where=slope > TINY)
    near = np.divide(MOVED * size, norm, out=np.full_like(loss, np.inf), where=(size > TINY) & (norm > TINY))
    step = share * np.minimum(linear, near)
    return np.where(np.isfinite(step) & (step > 0.0), step, 1.0)
