"""What every controller is compared with: nothing, chance, steps tuned for the family, and steps that know the answer.

Tuning sees 256 train and 256 validation tasks only, `metalearn_env.scoring.TaskSet.tuning`, the same for every control,
and maximises the interquartile mean of their scores. Every shape of a schedule has the same budget: of the 65 first
steps of `metalearn_env.scoring.GRID`, 8 a decade, every fourth is tried, then those two places and those one place
beside the best so far. Unlike the gap of a single task, that mean has one maximum over the first step: trying all 65
gave the same step for every shape on every family here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from metalearn_env.actions import ActionMap
from metalearn_env.engine import Engine
from metalearn_env.family import Array
from metalearn_env.rules import Rule
from metalearn_env.rules.schedules import SHAPES, schedule, shape
from metalearn_env.scoring import GRID, TaskSet, final_log_gap
from metalearn_env.statistics import interquartile_mean

STRIDES = (4, 2, 1)  # in places of the grid


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

    def reached(index: int) -> float:
        seen = task_set.tuning
        rule = schedule(GRID[index] * shape(name, seen[0].horizon))
        return float(interquartile_mean(np.concatenate([tasks.scores(run(rule, tasks)) for tasks in seen])))

    tried = {index: reached(index) for index in range(0, len(GRID), STRIDES[0])}
    for stride in STRIDES[1:]:
        best = max(tried, key=tried.__getitem__)
        tried |= {index: reached(index) for index in (best - stride, best + stride) if 0 <= index < len(GRID)}
    best = max(tried, key=tried.__getitem__)
    return tried[best], float(GRID[best])


def run(rule: Rule, task_set: TaskSet) -> Array:
    """Return the final log gaps, (n,), of a rule."""
    return final_log_gap(task_set.family, task_set.task, task_set.horizon, rule)


def _tuned(shapes: list[str], task_set: TaskSet) -> Array:
    return run(tuned(task_set, shapes)[2], task_set)


#: name -> (kind, the final log gaps (n,) it leaves on a task set), in the order of a table
CONTROLS: dict[str, tuple[str, Callable[[TaskSet], Array]]] = {
    "do-nothing": ("control", partial(run, do_nothing)),
    "random-actions": ("control", partial(run, random_actions)),
    "random-steps": ("control", partial(run, random_steps)),
    "tuned-constant": ("control", partial(_tuned, ["constant"])),
    "tuned-decay": ("control", partial(_tuned, [name for name in SHAPES if name != "constant"])),
    "oracle-constant": ("control", lambda task_set: task_set.oracle[1]),
}
LIMIT = {"limit": ("limit", lambda task_set: task_set.limit)}
