"""Tables of docs/results/agents.md beyond the tasks that agents are trained on: other laws, real data, other scales."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from benchmarks.agent_tables import Trained
from benchmarks.setting import CLUSTERING, MIXTURE, Q_LEARNING, REGRESSION, Setting
from metalearn_env.datasets import load_regression
from metalearn_env.family import Array
from metalearn_env.policy import load
from metalearn_env.rules import RULES, rules_of
from metalearn_env.scoring import LEAST_TASKS, Contender, TaskSet, task_sets
from metalearn_env.scoring.ablations import actions, policy_run
from metalearn_env.scoring.cache import Cache
from metalearn_env.scoring.contenders import contender
from metalearn_env.scoring.measures import final_gaps
from metalearn_env.scoring.statistics import Estimate, estimate, interquartile_mean, paired_difference

REAL = {
    REGRESSION: ("dataset", ("diabetes", "linnerud")),
    CLUSTERING: ("dataset", ("iris", "wine", "digits", "breast_cancer", "china")),
    Q_LEARNING: ("mdp", ("FrozenLake-v1", "CliffWalking-v1", "Taxi-v4")),
}
SCALE = 6.0  # decades up or down, of an objective whichever is drawn for its task
INPUTS = "diabetes"  # the data set whose inputs are scaled
SAME = 1e-6

HEAD = (
    "| tasks | agents | IQM of S | best rule | its IQM | difference | diverged | S > 0 | above the best rule |",
    "|---|---|---|---|---|---|---|---|---|",
)


def out_of_distribution(trained: Sequence[Trained]) -> Iterator[str]:
    """Yield a line for every axis of every family that agents were trained on."""
    yield from HEAD
    for one in trained:
        setting = one.setting
        for task_set in task_sets(setting.env, "ood", one.tasks, 0, setting.options, Cache()):
            yield line(f"{type(task_set.family).__name__}, {task_set.part.axis}", setting, task_set, one.agent)


def real_data(trained: Sequence[Trained]) -> Iterator[str]:
    """Yield a line for every data set and process that agents of its family, or of the mixture, can be scored on."""
    yield from HEAD
    for env, (option, names) in REAL.items():
        for name in names:
            for one in trained:
                if one.setting.env in (env, MIXTURE):
                    task_set = TaskSet(env, "test", one.tasks, 0, {option: name}, Cache())
                    yield line(name, one.setting, task_set, one.agent)


def line(name: str, setting: Setting, task_set: TaskSet, agent: Contender) -> str:
    """Return agents beside the rule that is best on a set of tasks, in hindsight."""
    if task_set.counted.sum() < LEAST_TASKS:
        return f"| {name} | {setting.name} | steps matter on {task_set.counted.sum()} tasks only | | | | | | |"
    names = [rule for rule in rules_of(task_set.family) if not RULES[rule].outside]
    scores = {rule: task_set.scores(final_gaps(contender(rule).runs(task_set))) for rule in names}
    best = max(scores, key=lambda rule: float(interquartile_mean(scores[rule].ravel())))
    gaps = final_gaps(agent.runs(task_set))
    ours = task_set.scores(gaps)
    difference = paired_difference([ours], [scores[best]])
    cells = [name, setting.name, estimate(ours), best, estimate(scores[best]), difference, f"{(gaps > 0.0).mean():.2%}"]
    return f"| {' | '.join(map(str, [*cells, above_zero(estimate(ours)), above_zero(difference)]))} |"


def above_zero(found: Estimate) -> str:
    """Return whether a mean is above 0, in words."""
    return "yes" if found.low > 0.0 else "not clearly" if found.iqm > 0.0 else "no"


def invariance(trained: Sequence[Trained]) -> Iterator[str]:
    """Yield by how much actions change with the scale of the objective, and of inputs, of the same tasks."""
    yield "| tasks | agents | largest change of an action | changed by more than 1e-6 | same |"
    yield "|---|---|---|---|---|"
    for one in trained:
        for name, plain, scaled in (*of_objectives(one), *of_inputs(one)):
            change = np.concatenate([changes(one, plain, other) for other in scaled])
            cells = [name, one.setting.name, f"{change.max():.1e}"]
            yield f"| {' | '.join(cells)} | {(change > SAME).mean():.2%} | {'yes' if change.max() <= SAME else 'no'} |"


def of_objectives(trained: Trained) -> Iterator[tuple[str, TaskSet, list[TaskSet]]]:
    """Yield a name, tasks, and the same with other objectives, for each family that agents were trained on."""
    for task_set in trained.sets:
        plain, scaled = (
            replace(task_set, env_kwargs={**(task_set.env_kwargs or {}), "scale": [by, by]}) for by in (0.0, SCALE)
        )
        yield type(task_set.family).__name__, plain, [scaled]


def of_inputs(trained: Trained) -> Iterator[tuple[str, TaskSet, list[TaskSet]]]:
    """Yield a name, tasks, and the same with other inputs, if agents were trained on regression."""
    if trained.setting.env in (REGRESSION, MIXTURE):
        inputs, targets = load_regression(INPUTS)
        plain, *scaled = (
            TaskSet(REGRESSION, "test", trained.tasks, 0, {"dataset": (10.0**by * inputs, targets)})
            for by in (0.0, SCALE, -SCALE)
        )
        yield f"{INPUTS}, inputs", plain, scaled


def changes(trained: Trained, plain: TaskSet, scaled: TaskSet) -> Array:
    """Return the changes of all actions, logs of step sizes as the agents choose them, between tasks.

    Where a run ends at another step they are infinite.
    """
    found = []
    for file in trained.setting.policy_files(trained.runs):
        policy = load(file)
        one, other = (actions(policy, policy_run(policy, tasks)) for tasks in (plain, scaled))
        there = np.isfinite(one) | np.isfinite(other)
        found.append(np.nan_to_num(np.abs(one - other)[there], nan=np.inf))
    return np.concatenate(found)
