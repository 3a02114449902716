"""Steps that rules would take from where an agent is, and where the best of all steps has a closed form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from metalearn_env.engine import Engine
from metalearn_env.families.linear_regression import LinearRegression
from metalearn_env.families.tracking import Tracking
from metalearn_env.family import Array
from metalearn_env.knowledge import extreme_curvatures
from metalearn_env.policy import Policy
from metalearn_env.rules import Charged, rule
from metalearn_env.scoring import TaskSet, rollout

SAME = 1e-6  # relative, of eigenvalues


class Advised(NamedTuple):
    """Steps in units of the task, (T, n) each; NaN after the end of a run."""

    learned: Array
    rules: dict[str, Array]


def closed_forms(task_set: TaskSet) -> tuple[str, ...]:
    """Return the rules that are a closed form of the best step sizes on these tasks; the first is so at any time.

    They are the best for the expected loss, where all is normal: of minibatches of inputs whose variance is the same in
    all directions, and of targets that drift.
    """
    family = task_set.family
    if isinstance(family, Tracking) and family.tails == "normal":
        return "kalman", "drift-tracking"
    if isinstance(family, LinearRegression) and family.batch_size and family.dataset is None:
        least, largest = extreme_curvatures(family, task_set.task)
        if family.tails == "normal" and (least > (1.0 - SAME) * largest).all():
            return ("isotropic-lms",)
    return ()


def advised(policy: Policy, task_set: TaskSet, names: Sequence[str]) -> Advised:
    """Return the steps of a policy, and those that rules would take at each of its places."""
    steps = np.full((1 + len(names), task_set.horizon, task_set.tasks), np.nan)

    def watched(engine: Engine) -> Iterator[Array]:
        shadows = [rule(name)(engine) for name in names]
        for t, step in enumerate(policy.step_sizes(engine)):
            for place, chosen in enumerate([step, *map(next, shadows)]):
                taken = chosen.step if isinstance(chosen, Charged) else chosen
                steps[place, t] = np.where(engine.ended, np.nan, taken / engine.unit)
            yield step

    for _ in rollout(task_set.family, task_set.task, task_set.horizon, watched):
        pass
    return Advised(steps[0], dict(zip(names, steps[1:], strict=True)))


def deviation(steps: Advised, name: str) -> Array:
    """Return |h / h' - 1|, (T, n), of the learned steps h from those of a rule, h'."""
    return np.abs(steps.learned / steps.rules[name] - 1.0)


def quartiles(values: Array) -> Array:
    """Return the quartiles over tasks, (3, T), of values (T, n); NaN where none of a row is there."""
    there, found = ~np.isnan(values).all(axis=1), np.full((3, len(values)), np.nan)
    found[:, there] = np.nanquantile(values[there], [0.25, 0.5, 0.75], axis=1)
    return found
