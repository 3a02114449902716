"""How good a controller is, on a scale where 0 is the best constant step in hindsight and 1 the limit of the family.

For each task, with G = gap_T / gap_0 (at least 1e-12),

    S = (log G_0 - log G) / (log G_0 - log G_1)

where G_0 belongs to the best constant step size for that very task, and G_1 to the limit (`metalearn_env.limits`).
All controllers meet the same tasks, starts and noise. Tasks with log G_0 - log G_1 < 0.1 are dropped, and counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from metalearn_env.engine import Engine
from metalearn_env.families import FAMILIES, id_of
from metalearn_env.family import Array, TaskFamily
from metalearn_env.limits import limit_loss
from metalearn_env.mixture import Entry, Part
from metalearn_env.observations import check_observation
from metalearn_env.pool import draw_tasks
from metalearn_env.ranges import as_integer, as_range
from metalearn_env.rewards import SMALLEST_GAP, log_gap
from metalearn_env.rules import Charged, Rule
from metalearn_env.rules.schedules import schedule
from metalearn_env.session import HORIZON, SESSION_OPTIONS, Session, resolved
from metalearn_env.statistics import bootstrap_interval, interquartile_mean

LEAST_SPAN = 0.1
LEAST_TASKS = 8
NOT_OF_PARTS = (*SESSION_OPTIONS, "observation")
GRID = np.logspace(-5, 3, 65)  # step sizes in units
ZOOM = np.array([-0.75, -0.5, -0.25, 0.25, 0.5, 0.75])  # between a point and its neighbours, whose gaps are known
ZOOMS = 5
TUNING_SPLITS, TUNING_TASKS, TUNING_SEED = ("train", "validation"), 256, 0


class Row(NamedTuple):
    """One line of a results table."""

    controller: str
    kind: str  # "rule", "control", "policy" or "limit"
    iqm: float
    low: float
    high: float
    diverged: float


@dataclass(frozen=True, eq=False)
class TaskSet:
    """Tasks of one family to score on.

    Args:
        env_id: a registered id, or ``"module:id"``.
        split: "train", "validation", "test" or, with an axis ``ood`` among ``env_kwargs``, "ood".
        tasks: how many, at least 8.
        seed: of the tasks.
        env_kwargs: what ``gym.make`` takes for the id.

    Raises:
        ValueError: fewer tasks, or an option that cannot be honoured.
    """

    env_id: str
    split: str = "test"
    tasks: int = 256
    seed: int = 0
    env_kwargs: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        as_integer("tasks", self.tasks, minimum=LEAST_TASKS)
        as_integer("seed", self.seed, minimum=0)
        options = self.env_kwargs or {}
        if "split" in options:
            raise ValueError(f"split is not among env_kwargs; it is {self.split!r} here")
        check_observation(options.get("observation", "flat"))
        Session([self.part], 1, **{name: options[name] for name in SESSION_OPTIONS if name in options})

    @property
    def horizon(self) -> int:
        """The inner steps of an episode, the most there are if the environment has a range of them."""
        asked = (self.env_kwargs or {}).get("horizon", HORIZON)
        return self.part.horizon(as_range("horizon", asked, minimum=1, integer=True))[1]

    @cached_property
    def part(self) -> Part:
        """The only part of the environment, see `metalearn_env.mixture`."""
        parts = _parts(self.env_id, self.split, self.env_kwargs)
        if len(parts) > 1:
            raise ValueError(f"tasks are of one family and axis; {self.env_id} has {len(parts)}: take `task_sets`")
        return parts[0]

    @property
    def family(self) -> TaskFamily:
        return self.part.family

    @cached_property
    def task(self) -> Any:
        return draw_tasks(self.family, self.seed, self.tasks, self.horizon)

    @cached_property
    def oracle(self) -> tuple[Array, Array]:
        """The best constant step of each task in units, (n,), and the final log gap it leaves, (n,)."""
        return best_constant(self.family, self.task, self.horizon)

    @cached_property
    def limit(self) -> Array:
        """The final log gap of the limit, (n,)."""
        start = Engine.start(self.family, self.task, self.horizon)
        gap = limit_loss(self.family, self.task, self.horizon) - start.reference
        return np.log(np.maximum(gap / start.initial_gap, SMALLEST_GAP))

    @cached_property
    def tuning(self) -> tuple[TaskSet, ...]:
        """The tasks that controls are tuned on, the same for all of them; none is of the test split or moved."""
        kwargs = {name: value for name, value in (self.env_kwargs or {}).items() if name != "ood"}
        tasks = replace(self, tasks=TUNING_TASKS, seed=TUNING_SEED, split=TUNING_SPLITS[0], env_kwargs=kwargs)
        return tuple(replace(tasks, split=split) for split in TUNING_SPLITS)

    @cached_property
    def counted(self) -> NDArray[np.bool_]:
        """The tasks on which step sizes matter, (n,); the others are dropped."""
        return self.oracle[1] - self.limit >= LEAST_SPAN

    def scores(self, final_log_gap: Array) -> Array:
        """Return S on the tasks that count, from log gaps (..., n)."""
        zero, one = self.oracle[1][self.counted], self.limit[self.counted]
        return (zero - final_log_gap[..., self.counted]) / (zero - one)


def task_sets(
    env_id: str, split: str = "test", tasks: int = 256, seed: int = 0, env_kwargs: Mapping[str, Any] | None = None
) -> list[TaskSet]:
    """Return the tasks to score on for an environment of any number of families: a set for each, and for each axis.

    Raises:
        ValueError, TypeError: see `TaskSet`.
    """
    kwargs = dict(env_kwargs or {})
    parts, families = _parts(env_id, split, kwargs), _options(env_id, kwargs).get("families")
    if len(parts) == 1:
        return [TaskSet(env_id, split, tasks, seed, kwargs)]
    if families is None or len(families) == 1:
        return [TaskSet(env_id, split, tasks, seed, {**kwargs, "ood": part.axis}) for part in parts]
    shared = {name: value for name, value in kwargs.items() if name not in ("families", "weights")}
    sets = []
    for entry in families:
        alone, own = _alone(env_id, entry)
        sets += task_sets(alone, split, tasks, seed, {**shared, **own})
    return sets


def score_row(controller: str, kind: str, sets: Sequence[TaskSet], final_log_gaps: Sequence[Array]) -> Row:
    """Return the line of a table for the final log gaps (runs, n) on each of some task sets, all of the same weight.

    Raises:
        ValueError: fewer than 8 tasks of a set count.
    """
    for task_set in sets:
        if (counted := task_set.counted.sum()) < LEAST_TASKS:
            raise ValueError(
                f"{counted} of {task_set.tasks} tasks of {task_set.env_id} have a limit {LEAST_SPAN} in log gap below "
                f"their best constant step; a score needs {LEAST_TASKS}"
            )
    scores = [task_set.scores(gaps) for task_set, gaps in zip(sets, final_log_gaps, strict=True)]
    iqm = np.mean([interquartile_mean(of_set.ravel()) for of_set in scores])
    diverged = np.mean([(gaps > 0.0).mean() for gaps in final_log_gaps])
    return Row(controller, kind, float(iqm), *bootstrap_interval(*scores), float(diverged))


def _options(env_id: str, env_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return all keyword arguments that an environment is made with, those of its registration included."""
    module, _, name = env_id.rpartition(":")
    if module:
        import_module(module)
    options = {**gym.spec(name).kwargs, **env_kwargs}
    if "family" not in options and "families" not in options:
        raise ValueError(f"{env_id} is not an environment of a task family")
    return options


def _parts(env_id: str, split: str, env_kwargs: Mapping[str, Any] | None) -> tuple[Part, ...]:
    options = {**_options(env_id, env_kwargs or {}), "split": split}
    family, families = options.pop("family", None), options.pop("families", None)
    return resolved(family, families, {name: options[name] for name in options if name not in NOT_OF_PARTS})


def _alone(env_id: str, entry: Entry) -> tuple[str, dict[str, Any]]:
    """Return the id and the options of an environment of one entry of a mixture."""
    options = dict(entry) if isinstance(entry, Mapping) else {"family": entry}
    family = options.pop("family")
    if isinstance(family, str) and family in FAMILIES:
        return id_of(family), options
    return env_id, {"families": [entry]}


def rollout(family: TaskFamily, task: Any, horizon: int, controller: Rule) -> Iterator[Engine]:
    """Run a controller on all tasks; yield the engine at t = 0, ..., horizon; see `charged_rollout`."""
    return (engine for engine, _ in charged_rollout(family, task, horizon, controller))


def charged_rollout(family: TaskFamily, task: Any, horizon: int, controller: Rule) -> Iterator[tuple[Engine, Array]]:
    """Run a controller on all tasks, each with a budget of ``horizon`` evaluations of the direction.

    Yields:
        The engine at t = 0, ..., horizon, and the evaluations spent by then, (n,). Learners that have diverged, or
        whose next step would cost more than is left, stay where they are.
    """
    engine = Engine.start(family, task, horizon)
    steps, spent = controller(engine), np.zeros(len(engine.t))
    yield engine, spent
    for _ in range(horizon):
        step, extra = chosen if isinstance(chosen := next(steps), Charged) else (chosen, 0.0)
        active = ~engine.ended & (spent + extra < horizon)
        engine.advance_only(active, step)
        spent = np.where(active, spent + extra + 1.0, spent)
        yield engine, spent


def final_log_gap(family: TaskFamily, task: Any, horizon: int, controller: Rule) -> Array:
    """Return log(gap_T / gap_0), (n,), after a controller's run."""
    for engine in rollout(family, task, horizon, controller):
        if engine.ended.all():
            break
    return log_gap(engine)


class Run(NamedTuple):
    """What a controller did on n tasks, from t = 0 to T."""

    log_gap: Array  # (T + 1, n) log(gap / first gap), within [log 1e-12, log 1e6]; of a limit NaN but for its two ends
    step_size: Array  # (T, n) in units of the task; NaN where there was none, or a move of another direction
    evaluations: Array  # (T + 1, n) of the direction, spent by then


def recorded(family: TaskFamily, task: Any, horizon: int, controller: Rule) -> Run:
    """Run a controller on all tasks and return what it did."""
    n = len(family.reference_loss(task))
    run = Run(*np.full((3, horizon + 1, n), np.nan))
    for t, (engine, spent) in enumerate(charged_rollout(family, task, horizon, controller)):
        run.log_gap[t], run.evaluations[t] = log_gap(engine), spent
        run.step_size[t] = np.where(engine.t == t, engine.step_size / engine.unit, np.nan)
    return run._replace(step_size=run.step_size[1:])


def best_constant(family: TaskFamily, task: Any, horizon: int) -> tuple[Array, Array]:
    """Return the best constant step size of each task in units, (n,), and the final log gap it leaves, (n,).

    A grid of 8 points a decade from 10^-5 to 10^3, then five times a finer grid around each task's best point. The gap
    may have several minima over the step size (k-means falls into another optimum, a trajectory takes another way), so
    the first grid cannot be thinned out, and what is found is the best of these points, not of all numbers: on
    minibatches of Clustering a grid 8 times as dense finds a lower gap for 9 % of the tasks, worth .005 of mean S.
    """

    def run(multiple: Array) -> Array:
        return final_log_gap(family, task, horizon, schedule(np.broadcast_to(multiple, (horizon, *multiple.shape))))

    n = len(family.reference_loss(task))
    gaps = np.stack([run(np.full(n, multiple)) for multiple in GRID])
    best, lowest = GRID[gaps.argmin(axis=0)], gaps.min(axis=0)
    width = np.log(GRID[1] / GRID[0])
    for _ in range(ZOOMS):
        candidates = best * np.exp(width * ZOOM)[:, None]
        gaps = np.stack([run(candidate) for candidate in candidates])
        better = gaps.min(axis=0) < lowest
        best = np.where(better, np.take_along_axis(candidates, gaps.argmin(axis=0)[None], 0)[0], best)
        lowest = np.minimum(gaps.min(axis=0), lowest)
        width *= ZOOM[-1] - ZOOM[-2]
    return best, lowest
