"""The examples and models of `benchmarks.real_gradients`."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from metalearn_env.datasets import load_classes, load_regression

HELD_OUT = 0.2
REGRESSION, IMAGES = "diabetes", "digits"


class Instance(NamedTuple):
    """What a seed makes of a problem."""

    x: torch.Tensor  # (m, d) for training
    y: torch.Tensor  # (m,) classes, or (m, 1) targets
    held_x: torch.Tensor
    held_y: torch.Tensor
    batches: np.ndarray | None  # (horizon, batch_size)


def drawn(data: str, seed: int, batches: tuple[int, int] | None, dtype: torch.dtype) -> Instance:
    """Return what a seed makes of a data set, with so many minibatches of so many examples, if there are any."""
    inputs, targets = _data(data)
    rows, rng = np.random.default_rng(seed).permutation(len(inputs)), np.random.default_rng([seed, 1])
    held, kept = np.split(rows, [round(HELD_OUT * len(rows))])
    x, held_x = _standardised(inputs[kept], inputs[held], by_column=data != IMAGES)
    y, held_y = targets[kept], targets[held]
    if data == REGRESSION:
        y, held_y = _standardised(y, held_y, by_column=True)
    kinds = (dtype, dtype if data == REGRESSION else torch.int64)
    tensors = [torch.tensor(array, dtype=kind) for array, kind in zip((x, y, held_x, held_y), kinds * 2, strict=True)]
    return Instance(*tensors, None if batches is None else rng.integers(len(kept), size=batches))


@cache
def _data(name: str) -> tuple[np.ndarray, np.ndarray]:
    return load_regression(name) if name == REGRESSION else load_classes(name)


def _standardised(kept: np.ndarray, held: np.ndarray, *, by_column: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return rows in units of those that are kept, or, of an image, between -1 and 1."""
    mean, spread = (kept.mean(axis=0), kept.std(axis=0)) if by_column else (8.0, 8.0)
    return (kept - mean) / spread, (held - mean) / spread


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))


def convolutions() -> nn.Module:
    first = nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
    return nn.Sequential(
        *first, nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 10)
    )


def softmax() -> nn.Module:
    return nn.Linear(30, 2)


def least_squares() -> nn.Module:
    """Return a model that starts where the estimator does: at zero, of centred data."""
    model = nn.Linear(10, 1, bias=False)
    nn.init.zeros_(model.weight)
    return model
