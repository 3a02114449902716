"""Rules on tasks of some kind, beside numbers that were measured before with other code.

The earlier table has one seed of 400 tasks and no intervals. Its own is taken to be as wide as ours would be on 400
tasks, and two numbers agree if they differ by less than both together, and than rounding.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np

from metalearn_env.engine import Engine
from metalearn_env.family import Array
from metalearn_env.knowledge import stream
from metalearn_env.rules import Rule, rule
from metalearn_env.rules.line_search import dai_yuan
from metalearn_env.rules.schedules import schedule, shape
from metalearn_env.rules.spectral import inverse_l
from metalearn_env.scoring import LEAST_SPAN, TaskSet, final_log_gap
from metalearn_env.scoring.statistics import estimate, interquartile_mean

Chooser = Callable[["Setting"], Callable[[TaskSet], Array]]  # setting -> what gives the last log gaps

EARLIER_TASKS, ROUNDING = 400, 0.005


@dataclass(frozen=True, eq=False)
class Setting:
    """Tasks of one kind: what they are drawn with, which of them are kept, and their limit if not the usual one."""

    env_id: str
    env_kwargs: Sequence[dict[str, Any]]
    tasks: int  # of each
    seed: int = 0
    keep: Callable[[Any], Array] | None = None  # task -> the probability of being kept, (n,)
    limit: Callable[[TaskSet], Array] | None = None

    @cached_property
    def sets(self) -> list[TaskSet]:
        return [TaskSet(self.env_id, "test", self.tasks, self.seed, kwargs) for kwargs in self.env_kwargs]

    @cached_property
    def tuning(self) -> list[TaskSet]:
        return [tasks for of_kind in self.sets for tasks in of_kind.tuning]

    def scores(self, task_set: TaskSet, log_gap: Array) -> Array:
        """Return S on the tasks that are kept and count."""
        one = task_set.limit if self.limit is None else self.limit(task_set)
        zero = task_set.oracle[1]
        counted = self.kept(task_set) & (zero - one >= LEAST_SPAN)
        return (zero - log_gap)[counted] / (zero - one)[counted]

    def kept(self, task_set: TaskSet) -> Array:
        n = len(task_set.family.reference_loss(task_set.task))
        if self.keep is None:
            return np.ones(n, np.bool_)
        return np.random.default_rng(0).random(n) < self.keep(task_set.task)


def best_of(candidates: Sequence[Rule]) -> Chooser:
    """Choose the rule with the best interquartile mean on train and validation tasks."""

    def choose(setting: Setting) -> Callable[[TaskSet], Array]:
        def reached(candidate: Rule) -> float:
            scores = [setting.scores(tasks, gaps(candidate, tasks)) for tasks in setting.tuning]
            return float(interquartile_mean(np.concatenate(scores)))

        return partial(gaps, max(candidates, key=reached))

    return choose


def oracle_of(candidates: Sequence[Rule]) -> Chooser:
    """Choose the rule with the least last gap for each task, in hindsight."""
    return lambda _: lambda tasks: np.min([gaps(candidate, tasks) for candidate in candidates], axis=0)


def one(name: str | Rule) -> Chooser:
    found = rule(name) if isinstance(name, str) else name
    return lambda _: partial(gaps, found)


def gaps(candidate: Rule, tasks: TaskSet) -> Array:
    """Return the last log gaps, (n,)."""
    return final_log_gap(tasks.family, tasks.task, tasks.horizon, candidate)


# Rules that are no rules of the package: tuned ones, and one that explains


def shapes(names: Sequence[str], firsts: Array) -> list[Rule]:
    def run(name: str, first: float, engine: Engine) -> Iterator[Array]:
        return schedule(first * shape(name, int(engine.horizon.max())))(engine)

    return [partial(run, name, first) for name in names for first in firsts]


def multiples_of_inverse_l(multiples: Array) -> list[Rule]:
    def run(multiple: float, engine: Engine) -> Iterator[Array]:
        return (multiple * step for step in inverse_l(engine))

    return [partial(run, multiple) for multiple in multiples]


def harmonics(firsts: Array, half_lives: Array, unit: Callable[[Engine], Array]) -> list[Rule]:
    def run(first: float, half_life: float, engine: Engine) -> Iterator[Array]:
        step = first * unit(engine)
        while True:
            yield step * half_life / (half_life + engine.t)

    return [partial(run, first, half_life) for first in firsts for half_life in half_lives]


def inverse_energy(engine: Engine) -> Array:
    """Return 1 / tr H = 1 / E|x|^2, (n,)."""
    return 1.0 / stream(engine.family, engine.task).eigenvalues.sum(axis=1)


def dai_yuan_held(engine: Engine) -> Iterator[Array]:
    """Dai-Yuan with the first of its two steps of Yuan taken twice (De Asmundis and others, 2014)."""
    held = engine.unit
    for t, step in enumerate(dai_yuan(engine)):
        held = held if t % 4 == 3 else step
        yield held


@dataclass(frozen=True, eq=False)
class Group:
    """One part of the page."""

    title: str
    setting: Setting
    rows: dict[str, tuple[Chooser, float | None]]  # and the earlier number
    excess: bool = False  # the loss above f* as a part of f*, and not S


class Line(NamedTuple):
    """One rule's result."""

    name: str
    value: float
    low: float
    high: float
    earlier: float | None
    agrees: str


def measured(group: Group) -> tuple[list[Line], int]:
    """Return the lines of a group, and how many tasks they are of."""
    lines, count = [], 0
    for name, (choose, earlier) in group.rows.items():
        reach = choose(group.setting)
        if group.excess:
            values = np.concatenate([excess(tasks, reach(tasks)) for tasks in group.setting.sets])
        else:
            values = np.concatenate([group.setting.scores(tasks, reach(tasks)) for tasks in group.setting.sets])
        (value, low, high), count = estimate(values[None]), len(values)
        lines.append(Line(name, value, low, high, earlier, agreement(value, low, high, earlier, count, group.excess)))
        print(f"{group.title}: {lines[-1]}", file=sys.stderr)
    return lines, count


def excess(tasks: TaskSet, log_gap: Array) -> Array:
    """Return the last loss above f*, as a part of f*, (n,)."""
    start = Engine.start(tasks.family, tasks.task, tasks.horizon)
    return np.exp(log_gap) * start.initial_gap / start.reference


def agreement(value: float, low: float, high: float, earlier: float | None, count: int, percent: bool) -> str:
    if earlier is None:
        return ""
    width = 0.5 * (high - low) * np.sqrt(1.0 + count / EARLIER_TASKS)
    return "yes" if abs(value - earlier) <= width + (0.1 * ROUNDING if percent else ROUNDING) else "**no**"


def table(lines: list[Line], excess: bool) -> Iterator[str]:
    """Yield the lines of a table."""
    yield f"| rule | {'excess' if excess else 'IQM of S'} | earlier | agrees |"
    yield "|---|---|---|---|"
    for line in lines:
        form = "{:.1%}".format if excess else "{:.3f}".format
        earlier = "" if line.earlier is None else (f"{line.earlier:.1%}" if excess else f"{line.earlier:.2f}")
        yield (
            f"| {line.name} | {form(line.value)} [{form(line.low)}, {form(line.high)}] | {earlier} | {line.agrees} |"
        )
