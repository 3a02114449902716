"""Profiles: how many evaluations a controller needs, and how its scores are spread, over all tasks at once.

A profile is a distribution function over tasks, so nothing is clipped or averaged away (Dolan and More 2002, Math.
Program. 91, 201-213). Arrays only; what they are of, `metalearn_env.scoring.table` says.
"""

from __future__ import annotations

import numpy as np

from metalearn_env.family import Array
from metalearn_env.scoring.runs import Run

ALPHAS = 2.0 ** np.arange(0.0, 6.25, 0.25)  # 1 to 64


def by_evaluations(run: Run) -> Array:
    """Return the log gap after 0, ..., T evaluations of the direction, (T + 1, n): what charged steps cost is seen.

    NaN where no evaluations are known, as of the limit.
    """
    spent = run.evaluations[None] <= np.arange(len(run.evaluations))[:, None, None]
    steps = spent.sum(axis=1) - 1
    return np.where(steps >= 0, np.take_along_axis(run.log_gap, steps, axis=0), np.nan)


def evaluations_to(run: Run, log_target: Array | float) -> Array:
    """Return the evaluations, (n,), after which the log gap is first at or below a target, (n,); infinite if never."""
    reached = run.log_gap <= log_target
    first = np.take_along_axis(run.evaluations, reached.argmax(axis=0)[None], axis=0)[0]
    return np.where(reached.any(axis=0), first, np.inf)


def performance_profile(evaluations: list[Array], alphas: Array = ALPHAS) -> Array:
    r"""Return the share of tasks that controllers solve within alpha times the evaluations of the best of them.

        \rho_c(\alpha) = |{tasks: N_c <= \alpha \min_c' N_c'}| / n

    Args:
        evaluations: N of each controller, (runs, n); infinite where a task is not solved.
        alphas: (k,), at least 1.

    Returns:
        (controllers, k), the mean over runs. A task that none solves counts for none.
    """
    needed = [np.maximum(of_one, 1.0) for of_one in evaluations]  # a target may be met before the first step
    best = np.min([of_one.min(axis=0) for of_one in needed], axis=0)
    ratios = [np.where(np.isfinite(best), of_one, np.inf) / np.where(np.isfinite(best), best, 1.0) for of_one in needed]
    return np.array([share_at_most(ratio, alphas) for ratio in ratios])


def score_profile(scores: Array, taus: Array) -> Array:
    """Return the share of scores, of any shape, that are at least tau, for each of taus, (k,).

    >>> score_profile(np.array([0.0, 0.5, 1.0, 1.0]), np.array([-1.0, 0.5, 1.0, 2.0])).tolist()
    [1.0, 0.75, 0.5, 0.0]
    """
    return 1.0 - np.searchsorted(np.sort(scores.ravel()), taus, side="left") / scores.size


def share_at_most(values: Array, bounds: Array) -> Array:
    """Return the share of values, of any shape, that are at most each bound, (k,)."""
    return np.searchsorted(np.sort(values.ravel()), bounds, side="right") / values.size
