"""What a results table says of runs beyond the score S at the end: the way there, the worst, and what failed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from metalearn_env.engine import DIVERGED_AT
from metalearn_env.family import Array
from metalearn_env.scoring.profiles import ALPHAS, by_evaluations, evaluations_to, performance_profile, score_profile
from metalearn_env.scoring.rows import Contender, score_row
from metalearn_env.scoring.runs import Run
from metalearn_env.scoring.statistics import interquartile_mean, worst_mean
from metalearn_env.scoring.tasks import TaskSet

FAILED = np.log(DIVERGED_AT)
TARGETS = {"0.1": np.log(1e-1), "0.001": np.log(1e-3)}  # of the first gap
ORACLE = "oracle-constant"  # the target that is the final gap of the best constant step
ROUNDING = 1e-9  # in log gap
NUM_TAUS = 101

Runs = Sequence[Run]  # of one controller on one set of tasks, a run for each training seed


def measured(contender: Contender, sets: Sequence[TaskSet], runs: Sequence[Runs]) -> dict[str, Any]:
    """Return the line of a table for a contender's runs on each of some task sets, all of the same weight."""
    gaps = [final_gaps(of_set) for of_set in runs]
    pairs = [*zip(sets, runs, strict=True)]
    means = [float(interquartile_mean(anytime_scores(task_set, of_set).ravel())) for task_set, of_set in pairs]
    scores = [task_set.scores(of_set) for task_set, of_set in zip(sets, gaps, strict=True)]
    return {
        **score_row(contender.name, contender.kind, sets, gaps)._asdict(),
        "anytime": None if np.isnan(means).any() else float(np.mean(means)),
        "cvar": float(np.mean([worst_mean(of_set) for of_set in scores])),
        "failed": float(np.mean([(of_set >= FAILED).mean() for of_set in gaps])),
        "told": contender.told,
        "outside": contender.outside,
    }


def final_gaps(runs: Runs) -> Array:
    """Return the final log gaps, (runs, n)."""
    return np.stack([run.log_gap[-1] for run in runs])


def anytime_scores(task_set: TaskSet, runs: Runs) -> Array:
    r"""Return the anytime scores of the tasks that count, (runs, counted).

    With \bar G the geometric mean over e = 1, ..., T evaluations of the gap after e of them,

        (\log \bar G_0 - \log \bar G) / (\log G_0 - \log G_1)

    where \bar G_0 belongs to the run of the constant step that is best for the *final* gap, which scores 0. The unit is
    that of S; 1 is no bound, for nobody knows the limit's way there. NaN for what has no run, as the limit.
    """
    zero, *means = (by_evaluations(run)[1:, task_set.counted].mean(axis=0) for run in (task_set.oracle_run, *runs))
    return (zero - np.stack(means)) / (task_set.oracle[1] - task_set.limit)[task_set.counted]


def profiles(contenders: Sequence[Contender], task_set: TaskSet, runs: Sequence[Runs]) -> dict[str, Any]:
    """Return the profiles of all contenders that have runs, on the tasks that count, in plain JSON.

    Returns:
        ``"evaluations"``, for each target its name, ``alphas``, and by controller the ``profile`` over them, the share
        ``solved``, and the ``median`` of the evaluations needed, None if most tasks are not solved; and ``"scores"``,
        the share of tasks by controller with S at or above ``taus``, from the lowest S of all to the highest.
    """
    known = [(who, of_one) for who, of_one in zip(contenders, runs, strict=True) if who.kind != "limit"]
    names, gaps = [who.name for who, _ in known], [final_gaps(of_one) for _, of_one in known]
    scores = [task_set.scores(of_one) for of_one in gaps]
    if not known:
        return {"evaluations": [], "scores": {"taus": [], "profile": {}}}
    taus = np.quantile(np.concatenate([of_one.ravel() for of_one in scores]), np.linspace(0.0, 1.0, NUM_TAUS))
    return {
        "evaluations": [
            _evaluations(name, target, names, task_set, [of_one for _, of_one in known])
            for name, target in {**TARGETS, ORACLE: task_set.oracle[1] + ROUNDING}.items()
        ],
        "scores": {
            "taus": taus.tolist(),
            "profile": {name: score_profile(of_one, taus).tolist() for name, of_one in zip(names, scores, strict=True)},
        },
    }


def _evaluations(
    name: str, log_target: Any, names: Sequence[str], task_set: TaskSet, runs: Sequence[Runs]
) -> dict[str, Any]:
    counted = task_set.counted
    needed = [np.stack([evaluations_to(run, log_target)[counted] for run in of_one]) for of_one in runs]
    shares = performance_profile(needed)
    medians = [float(np.median(of_one)) for of_one in needed]
    return {
        "target": name,
        "alphas": ALPHAS.tolist(),
        "profile": {who: share.tolist() for who, share in zip(names, shares, strict=True)},
        "solved": {who: float(np.isfinite(of_one).mean()) for who, of_one in zip(names, needed, strict=True)},
        "median": {who: m if np.isfinite(m) else None for who, m in zip(names, medians, strict=True)},
    }
