"""Aggregates of scores: interquartile means and their bootstrap intervals (Agarwal et al. 2021, arXiv 2108.13264)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from metalearn_env.family import Array

LEVEL = 0.95
REPLICATES = 2000
CHUNK = 100
WORST = 0.01  # the share of scores whose mean is reported as the tail


class Estimate(NamedTuple):
    """An interquartile mean and its 95 % interval.

    >>> print(Estimate(0.5, 0.25, 0.75))
    0.500 [0.250, 0.750]
    """

    iqm: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.iqm:.3f} [{self.low:.3f}, {self.high:.3f}]"


def interquartile_mean(scores: Array) -> Array:
    """Return the mean of the middle half, over the last axis: a quarter is cut off at each end.

    >>> float(interquartile_mean(np.array([-1000.0, 1.0, 3.0, 1000.0])))
    2.0
    """
    cut = scores.shape[-1] // 4
    kept = np.sort(scores, axis=-1)[..., cut : scores.shape[-1] - cut]
    return kept.mean(axis=-1)


def worst_mean(scores: Array) -> float:
    """Return the mean of the worst 1 % of scores of any shape, the conditional value at risk: at least of one score.

    >>> worst_mean(np.arange(200.0))
    0.5
    """
    count = max(1, math.ceil(WORST * scores.size))
    return float(np.partition(scores.ravel(), count - 1)[:count].mean())


def bootstrap_interval(*scores: Array, level: float = LEVEL, seed: int = 0) -> tuple[float, float]:
    """Return the percentile interval of the interquartile mean of scores (runs, tasks), or of the mean of several.

    Runs and tasks are both resampled, so the interval speaks of new training seeds and new tasks; each of several sets
    of scores keeps its number of tasks.
    """
    runs = len(scores[0])

    def replicate(rng: np.random.Generator) -> list[Array]:
        run = rng.integers(runs, size=(CHUNK, runs, 1))
        return [of_set[run, _tasks(rng, of_set)] for of_set in scores]

    return _interval(replicate, level, seed)


def estimate(*scores: Array) -> Estimate:
    """Return the interquartile mean of scores (runs, tasks), or the mean of those of several sets of tasks."""
    iqm = np.mean([interquartile_mean(of_set.ravel()) for of_set in scores])
    return Estimate(float(iqm), *bootstrap_interval(*scores))


def paired_difference(ours: list[Array], theirs: list[Array], seed: int = 0) -> Estimate:
    """Return by how much one controller's scores are above another's on the same tasks, task by task.

    Args:
        ours: scores (runs, tasks) on each of some sets of tasks, all of the same weight.
        theirs: scores (other runs, tasks) on the same sets. Every run of ours is compared with every run of theirs.
        seed: of the resampling, of our runs, of theirs, and of tasks, each by itself.
    """
    runs, others = len(ours[0]), len(theirs[0])

    def differences(one: Array, other: Array) -> Array:
        return one[..., :, None, :] - other[..., None, :, :]

    def replicate(rng: np.random.Generator) -> list[Array]:
        run, other = rng.integers(runs, size=(CHUNK, runs, 1)), rng.integers(others, size=(CHUNK, others, 1))
        return [
            differences(mine[run, tasks], their[other, tasks])
            for mine, their in zip(ours, theirs, strict=True)
            for tasks in [_tasks(rng, mine)]
        ]

    pairs = zip(ours, theirs, strict=True)
    iqm = np.mean([interquartile_mean(differences(mine, their).ravel()) for mine, their in pairs])
    return Estimate(float(iqm), *_interval(replicate, LEVEL, seed))


def _tasks(rng: np.random.Generator, scores: Array) -> np.ndarray:
    n = scores.shape[1]
    return rng.integers(n, size=(CHUNK, 1, n))


def _interval(replicate: Callable[[np.random.Generator], list[Array]], level: float, seed: int) -> tuple[float, float]:
    """Return the quantiles of the mean, over sets, of the interquartile means of replicates, CHUNK at a time."""
    rng, means = np.random.default_rng(seed), []
    for _ in range(REPLICATES // CHUNK):
        parts = replicate(rng)
        means.append(np.mean([interquartile_mean(part.reshape(CHUNK, -1)) for part in parts], axis=0))
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
