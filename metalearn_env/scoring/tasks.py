"""How good a controller is, on a scale where 0 is the best constant step in hindsight and 1 the limit of the family.

For each task, with G = gap_T / gap_0 (at least 1e-12),

    S = (log G_0 - log G) / (log G_0 - log G_1)

where G_0 belongs to the best constant step size for that very task, and G_1 to the limit (`metalearn_env.limits`).
All controllers meet the same tasks, starts and noise. Tasks with log G_0 - log G_1 < 0.1 are dropped, and counted; so
are those whose gap at the start is so small a part of the optimum's loss, 1e-9, that rounding hides what becomes of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import import_module
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from metalearn_env.engine import SMALLEST_GAP, Engine
from metalearn_env.family import Array, TaskFamily
from metalearn_env.identity import described, sources
from metalearn_env.limits import limit_loss
from metalearn_env.mixture import Part
from metalearn_env.observations import check_observation
from metalearn_env.pool import draw_tasks
from metalearn_env.ranges import as_integer, as_range
from metalearn_env.rules import Rule
from metalearn_env.rules.schedules import schedule
from metalearn_env.scoring.cache import Arrays, Cache
from metalearn_env.scoring.runs import Run, best_constant, recorded
from metalearn_env.session import HORIZON, SESSION_OPTIONS, Session, resolved

LEAST_SPAN = 0.1
LEAST_PART = 1e-9  # of the loss of the optimum, that the gap at the start is
LEAST_TASKS = 8
NOT_OF_PARTS = (*SESSION_OPTIONS, "observation")
#: the modules that every run depends on, beside those of its family
RUNS = ("metalearn_env.scoring.runs", "metalearn_env.pool")
TUNING_SPLITS, TUNING_TASKS, TUNING_SEED = ("train", "validation"), 256, 0


@dataclass(frozen=True, eq=False)
class TaskSet:
    """Tasks of one family to score on.

    Args:
        env_id: a registered id, or ``"module:id"``.
        split: "train", "validation", "test" or, with an axis ``ood`` among ``env_kwargs``, "ood".
        tasks: how many, at least 8.
        seed: of the tasks.
        env_kwargs: what ``gym.make`` takes for the id.
        cache: where results are kept between calls; None: in memory, as long as the object lives.

    Raises:
        ValueError: fewer tasks, or an option that cannot be honoured.
    """

    env_id: str
    split: str = "test"
    tasks: int = 256
    seed: int = 0
    env_kwargs: Mapping[str, Any] | None = None
    cache: Cache | None = field(default=None, repr=False)

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
        parts = parts_of(self.env_id, self.split, self.env_kwargs)
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

        def search() -> Arrays:
            return dict(zip(("step", "log_gap"), best_constant(self.family, self.task, self.horizon), strict=True))

        found = self.recall("the best constant step", (), search)
        return found["step"], found["log_gap"]

    @cached_property
    def oracle_run(self) -> Run:
        """What the best constant step of each task does over time."""
        steps = np.broadcast_to(self.oracle[0], (self.horizon, self.tasks))
        return self.run("oracle-constant", (), lambda: schedule(steps))

    @cached_property
    def limit(self) -> Array:
        """The final log gap of the limit, (n,)."""

        def reach() -> Arrays:
            start = Engine.start(self.family, self.task, self.horizon)
            gap = limit_loss(self.family, self.task, self.horizon) - start.reference
            return {"log_gap": np.log(np.maximum(gap / start.initial_gap, SMALLEST_GAP))}

        return self.recall("the limit", (__name__,), reach)["log_gap"]

    @cached_property
    def seen(self) -> NDArray[np.bool_]:
        """The tasks, (n,), whose gap at the start rounding leaves to be seen."""

        def look() -> Arrays:
            start = Engine.start(self.family, self.task, self.horizon)
            return {"gap": start.initial_gap, "loss": np.abs(start.reference)}

        start = self.recall("the gap at the start", (__name__,), look)
        return start["gap"] >= LEAST_PART * start["loss"]

    def run(self, name: str, modules: Sequence[str], rule: Callable[[], Rule]) -> Run:
        """Return what a controller does, see `recall`; ``rule`` makes it, if need be."""
        made = self.recall(name, modules, lambda: recorded(self.family, self.task, self.horizon, rule())._asdict())
        return Run(**made)

    def recall(self, name: str, modules: Sequence[str], compute: Callable[[], Arrays]) -> Arrays:
        """Return the arrays of a result on these tasks: what was computed before, or is now.

        Args:
            name: of the result; with ``modules`` and the tasks it says all that the result depends on.
            modules: whose source it depends on, beside that of the family and of inner runs.
            compute: how to come by it.
        """
        if name not in self._results:
            identity = self._identity(name, modules) if self.cache is not None else None
            self._results[name] = (
                compute() if self.cache is None or identity is None else self.cache.recall(identity, compute)
            )
        return self._results[name]

    @cached_property
    def _results(self) -> dict[str, Arrays]:
        return {}

    def _identity(self, name: str, modules: Sequence[str]) -> str | None:
        """Return all that a result depends on, as text; None if that cannot be told."""
        options = self.env_kwargs or {}
        asked = {key: value for key, value in options.items() if key in SESSION_OPTIONS}
        try:
            tasks = described([self.family, self.tasks, self.seed, self.horizon])
            code = sources(*RUNS, *modules, type(self.family).__module__)
            parts = {
                "result": name,
                "env": self.env_id.rpartition(":")[2],
                "asked": described(asked),
                "tasks": tasks,
                "sources": code,
            }
        except TypeError:
            return None
        return json.dumps(parts, sort_keys=True)

    @cached_property
    def tuning(self) -> tuple[TaskSet, ...]:
        """The tasks that controls are tuned on, the same for all of them; none is of the test split or moved."""
        kwargs = {name: value for name, value in (self.env_kwargs or {}).items() if name != "ood"}
        tasks = replace(self, tasks=TUNING_TASKS, seed=TUNING_SEED, split=TUNING_SPLITS[0], env_kwargs=kwargs)
        return tuple(replace(tasks, split=split) for split in TUNING_SPLITS)

    @cached_property
    def counted(self) -> NDArray[np.bool_]:
        """The tasks on which step sizes matter, and on which that is seen, (n,); the others are dropped."""
        return (self.oracle[1] - self.limit >= LEAST_SPAN) & self.seen

    def check_counted(self) -> None:
        """Raise ``ValueError`` if fewer than 8 tasks count."""
        asked = f"of {self.tasks} tasks of {self.env_id} with {dict(self.env_kwargs or {})}"
        if (seen := self.seen.sum()) < LEAST_TASKS:
            raise ValueError(
                f"{seen} {asked} have a gap at the start of at least {LEAST_PART:g} of the loss of the optimum; a "
                f"score needs {LEAST_TASKS}"
            )
        if (counted := self.counted.sum()) < LEAST_TASKS:
            raise ValueError(
                f"{counted} {asked} have a limit {LEAST_SPAN} in log gap below their best constant step; a score needs "
                f"{LEAST_TASKS}"
            )

    def scores(self, final_log_gap: Array) -> Array:
        """Return S on the tasks that count, from log gaps (..., n)."""
        zero, one = self.oracle[1][self.counted], self.limit[self.counted]
        return (zero - final_log_gap[..., self.counted]) / (zero - one)


def options_of(env_id: str, env_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return all keyword arguments that an environment is made with, those of its registration included.

    Raises:
        ValueError: it is not an environment of a task family.
    """
    module, _, name = env_id.rpartition(":")
    if module:
        import_module(module)
    options = {**gym.spec(name).kwargs, **env_kwargs}
    if "family" not in options and "families" not in options:
        raise ValueError(f"{env_id} is not an environment of a task family")
    return options


def parts_of(env_id: str, split: str, env_kwargs: Mapping[str, Any] | None) -> tuple[Part, ...]:
    """Return the parts of an environment on a split, see `metalearn_env.mixture`.

    Raises:
        ValueError: an option that cannot be honoured.
    """
    options = {**options_of(env_id, env_kwargs or {}), "split": split}
    if "render_mode" in options:
        raise ValueError(f"no score is drawn: render_mode={options['render_mode']!r} cannot be honoured")
    family, families = options.pop("family", None), options.pop("families", None)
    return resolved(family, families, {name: options[name] for name in options if name not in NOT_OF_PARTS})
