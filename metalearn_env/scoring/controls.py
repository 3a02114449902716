"""What every controller is compared with: nothing, chance, steps tuned for the family, and steps that know the answer.

Tuning sees 256 train and 256 validation tasks only, `metalearn_env.scoring.TaskSet.tuning`, the same for every control,
and maximises the interquartile mean of their scores. Every shape of a schedule has the same budget: of the 65 first
steps of `metalearn_env.scoring.GRID`, 8 a decade, every fourth is tried, then those two places and those one place
beside the best so far. Unlike the gap of a single task, that mean has one maximum over the first step: trying all 65
gave the same step for every shape on every family here.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from metalearn_env.actions import ActionMap
from metalearn_env.engine import Engine
from metalearn_env.family import Array
from metalearn_env.rules import RULES, Rule, rule, rules_of
from metalearn_env.rules.schedules import SHAPES, schedule, shape
from metalearn_env.scoring.rows import Contender
from metalearn_env.scoring.runs import GRID, Run, final_log_gap
from metalearn_env.scoring.statistics import interquartile_mean
from metalearn_env.scoring.tasks import TaskSet

STRIDES = (4, 2, 1)  # in places of the grid
HINDSIGHT = "the task, in hindsight"
TUNED = "train, validation tasks"


def do_nothing(engine: Engine) -> Iterator[Array]:
    """Steps of size zero."""
    while True:
        yield np.zeros_like(engine.unit)


def random_steps(engine: Engine, seed: int = 0) -> Iterator[Array]:
    """Step sizes uniform between 0 and the unit of the task."""
    rng = np.random.default_rng(seed)
    while True:
        yield engine.unit * rng.random(len(engine.unit))


def random_actions(engine: Engine, seed: int = 0) -> Iterator[Array]:
    """Uniformly random relative actions: the sampled action space of the default environment."""
    n, rng = len(engine.t), np.random.default_rng(seed)
    actions = ActionMap(n)
    actions.begin(engine, np.arange(n))
    while True:
        yield actions.step_size(rng.uniform(-1.0, 1.0, (n, 1)), engine)


def tuned(task_set: TaskSet, shapes: list[str]) -> tuple[str, float, Rule]:
    """Return the shape and the first step in units that score best on the tuning tasks, and their rule."""
    _, first, name = max((*best_first_step(task_set, name), name) for name in shapes)
    return name, first, schedule(first * shape(name, task_set.horizon))


def best_first_step(task_set: TaskSet, name: str) -> tuple[float, float]:
    """Return the interquartile mean of S on the tuning tasks that a shape reaches at its best, and the first step."""
    seen = task_set.tuning

    def reached(index: int) -> float:
        rule = schedule(GRID[index] * shape(name, seen[0].horizon))
        gaps = [final_log_gap(tasks.family, tasks.task, tasks.horizon, rule) for tasks in seen]
        return float(interquartile_mean(np.concatenate(list(map(TaskSet.scores, seen, gaps)))))

    def search() -> dict[str, Array]:
        for tasks in seen:
            tasks.check_counted()
        tried = {index: reached(index) for index in range(0, len(GRID), STRIDES[0])}
        for stride in STRIDES[1:]:
            best = max(tried, key=tried.__getitem__)
            tried |= {index: reached(index) for index in (best - stride, best + stride) if 0 <= index < len(GRID)}
        best = max(tried, key=tried.__getitem__)
        return {"best": np.array([tried[best], GRID[best]])}

    iqm, first = seen[0].recall(f"the best first step: {name}", (__name__,), search)["best"]
    return float(iqm), float(first)


def rule_run(task_set: TaskSet, name: str) -> Run:
    """Return what the rule of a name of `metalearn_env.rules.RULES` does."""
    return task_set.run(f"rule {name}", (RULES[name].path.partition(":")[0],), lambda: rule(name))


def best_rule_run(task_set: TaskSet) -> Run:
    """Return, for each task, the run of the rule that leaves the smallest gap; rules outside the class do not count."""
    names = [name for name in rules_of(task_set.family) if not RULES[name].outside]
    runs = [rule_run(task_set, name) for name in names]
    best = np.array([run.log_gap[-1] for run in runs]).argmin(axis=0)
    return Run(*(np.stack(of_rules)[best, :, np.arange(len(best))].T for of_rules in zip(*runs, strict=True)))


def limit_run(task_set: TaskSet) -> Run:
    """Return the only two ends of the limit that are known."""
    run = Run(*np.full((3, task_set.horizon + 1, task_set.tasks), np.nan))
    run.log_gap[0], run.log_gap[-1] = 0.0, task_set.limit
    return run._replace(step_size=run.step_size[1:])


def _simple(name: str, control: Rule) -> Contender:
    def runs(task_set: TaskSet) -> list[Run]:
        return [task_set.run(f"control {name}", (__name__,), lambda: control)]

    return Contender(name, "control", runs)


def _tuned(name: str, shapes: list[str]) -> Contender:
    def runs(task_set: TaskSet) -> list[Run]:
        return [task_set.run(f"control {name}", (__name__,), lambda: tuned(task_set, shapes)[2])]

    return Contender(name, "control", runs, TUNED)


#: controls that are told of no task, by name
PLAIN: dict[str, Rule] = {"do-nothing": do_nothing, "random-actions": random_actions, "random-steps": random_steps}
#: the shapes of schedules of which the best is tuned, by the name of the control
TUNED_SHAPES = {"tuned-constant": ["constant"], "tuned-decay": [name for name in SHAPES if name != "constant"]}
#: what every table has before its rules, by name, in its order
CONTROLS: dict[str, Contender] = {
    control.name: control
    for control in (
        *(_simple(name, control) for name, control in PLAIN.items()),
        *(_tuned(name, shapes) for name, shapes in TUNED_SHAPES.items()),
        Contender("oracle-constant", "control", lambda task_set: [task_set.oracle_run], HINDSIGHT),
    )
}
#: and after them
BOUNDS: dict[str, Contender] = {
    bound.name: bound
    for bound in (
        Contender("best-rule-per-task", "control", lambda task_set: [best_rule_run(task_set)], HINDSIGHT),
        Contender("limit", "limit", lambda task_set: [limit_run(task_set)], HINDSIGHT),
    )
}
