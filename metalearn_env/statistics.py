"""Aggregates of scores: interquartile means and their bootstrap intervals (Agarwal et al. 2021, arXiv 2108.13264)."""

from __future__ import annotations

import numpy as np

from metalearn_env.family import Array

REPLICATES = 2000
CHUNK = 100


def interquartile_mean(scores: Array) -> Array:
    """Return the mean of the middle half, over the last axis: a quarter is cut off at each end.

    >>> float(interquartile_mean(np.array([-1000.0, 1.0, 3.0, 1000.0])))
    2.0
    """
    cut = scores.shape[-1] // 4
    kept = np.sort(scores, axis=-1)[..., cut : scores.shape[-1] - cut]
    return kept.mean(axis=-1)


def bootstrap_interval(*scores: Array, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Return the percentile interval of the interquartile mean of scores (runs, tasks), or of the mean of several.

    Runs and tasks are both resampled, so the interval speaks of new training seeds and new tasks; each of several sets
    of scores keeps its number of tasks.
    """
    rng = np.random.default_rng(seed)
    runs, means = len(scores[0]), []
    for _ in range(REPLICATES // CHUNK):
        run = rng.integers(runs, size=(CHUNK, runs, 1))
        parts = [of_set[run, rng.integers(of_set.shape[1], size=(CHUNK, 1, of_set.shape[1]))] for of_set in scores]
        means.append(np.mean([interquartile_mean(part.reshape(CHUNK, -1)) for part in parts], axis=0))
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
