"""What every controller is compared with: nothing, chance, steps tuned for the family, and steps that know the answer.

Tuning sees train and validation tasks only, the same for every control.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from metalearn_env.actions import ActionMap
from metalearn_env.engine import Engine
from metalearn_env.family import Array
from metalearn_env.rules import Rule
from metalearn_env.rules.schedules import SHAPES, schedule, shape
from metalearn_env.scoring import GRID, TaskSet, final_log_gap
from metalearn_env.statistics import interquartile_mean

TUNING_TASKS, TUNING_SEED = 256, 0


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
    """Return the shape and the first step in units that score best on train and validation tasks, and their rule."""
    seen = [replace(task_set, split=split, tasks=TUNING_TASKS, seed=TUNING_SEED) for split in ("train", "validation")]
    horizon, best = task_set.horizon, (-np.inf, "", 0.0)
    for name in shapes:
        for first in GRID:
            rule = schedule(first * shape(name, horizon))
            reached = interquartile_mean(np.concatenate([tasks.scores(run(rule, tasks)) for tasks in seen]))
            best = max(best, (float(reached), name, float(first)))
    _, name, first = best
    return name, first, schedule(first * shape(name, horizon))


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
