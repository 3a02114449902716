"""Results tables: any controllers on the same tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from metalearn_env.progress import progress
from metalearn_env.scoring.contenders import contender as contender
from metalearn_env.scoring.contenders import contenders as contenders
from metalearn_env.scoring.contenders import known_controllers as known_controllers
from metalearn_env.scoring.contenders import policies as policies
from metalearn_env.scoring.contenders import run_policy as run_policy
from metalearn_env.scoring.formatting import formatted as formatted
from metalearn_env.scoring.measures import Runs, final_gaps, measured, profiles
from metalearn_env.scoring.rows import Contender
from metalearn_env.scoring.statistics import paired_difference
from metalearn_env.scoring.tasks import TaskSet

Done = Sequence[Mapping[str, Runs]]  # for each task set, by name of the contender


def score(
    task_sets: TaskSet | Sequence[TaskSet],
    contenders: Sequence[Contender],
    *,
    against: str | None = None,
    show_progress: bool = False,
) -> dict[str, Any]:
    """Score contenders on the same tasks.

    Args:
        task_sets: tasks, or several sets of them, each of the same weight.
        contenders: see `metalearn_env.scoring.contenders`.
        against: the name of the one of them that all are compared with, task by task.
        show_progress: draw a progress bar.

    Returns:
        In plain JSON ``{"env", "env_kwargs", "split", "tasks", "seed", "dropped", "rows", "profiles"}``, a row for each
        contender with controller, kind, iqm, low, high (95 % interval), diverged (rate), anytime (None if it has no
        run), cvar (mean of the worst 1 % of S), failed (rate of runs that are not finite in the end, or have reached
        the cap on the gap), told and outside; and ``"against"``, if asked for: controller, iqm, low, high of the
        differences of S. For the profiles see `metalearn_env.scoring.measures.profiles`. Of several sets there is a
        list of such tables, ``"parts"``, each with the contenders for its family, beside ``{"split", "tasks", "seed",
        "dropped", "rows"}`` of the contenders for all of them, whose numbers are the mean over sets.

    Raises:
        ValueError: contenders of the same name, one for none of the sets, or one that cannot be run on them; fewer than
            8 tasks of a set count.
    """
    sets = [task_sets] if isinstance(task_sets, TaskSet) else list(task_sets)
    check_contenders(contenders, sets, against)
    runs: list[dict[str, Runs]] = [{} for _ in sets]
    work = [(index, who) for index, task_set in enumerate(sets) for who in contenders if who.is_for(task_set)]
    for index, who in progress(work, f"scoring {sets[0].split} tasks", show=show_progress):
        if not runs[index]:
            sets[index].check_counted()
        runs[index][who.name] = who.runs(sets[index])
    tables = [
        _part(task_set, [who for who in contenders if who.name in of_set], of_set, against)
        for task_set, of_set in zip(sets, runs, strict=True)
    ]
    if len(sets) == 1:
        return tables[0]
    common = [who for who in contenders if all(who.name in of_set for of_set in runs)]
    return {**_table(sets, common, runs, against), "parts": tables}


def check_contenders(contenders: Sequence[Contender], task_sets: Sequence[TaskSet], against: str | None = None) -> None:
    """Raise ``ValueError`` unless contenders can be told apart and each is for a task set and can be run on it.

    All task sets must be for the one that the others are compared with.
    """
    names = [who.name for who in contenders]
    for name, count in Counter(names).items():
        if count > 1:
            raise ValueError(f"contenders have names of their own; {count} are called {name!r}")
    if against is not None and against not in names:
        raise ValueError(f"against is one of {', '.join(names)}, not {against!r}")
    for who in contenders:
        meant = [task_set for task_set in task_sets if who.is_for(task_set)]
        if not meant or (who.name == against and len(meant) < len(task_sets)):
            families = dict.fromkeys(type(task_set.family).__name__ for task_set in task_sets)
            raise ValueError(f"{who.name} is for {', '.join(who.families)}, not for all of {', '.join(families)}")
        for task_set in meant:
            who.check(task_set)


def _part(
    task_set: TaskSet, contenders: Sequence[Contender], runs: Mapping[str, Runs], against: str | None
) -> dict[str, Any]:
    return {
        "env": task_set.env_id,
        "env_kwargs": dict(task_set.env_kwargs or {}),
        **_table([task_set], contenders, [runs], against),
        "profiles": profiles(contenders, task_set, [runs[who.name] for who in contenders]),
    }


def _table(sets: Sequence[TaskSet], contenders: Sequence[Contender], runs: Done, against: str | None) -> dict[str, Any]:
    rows = [measured(who, sets, [of_set[who.name] for of_set in runs]) for who in contenders]
    if against is not None:
        for row in rows:
            row["against"] = _difference(sets, row["controller"], against, runs)
    return {
        "split": sets[0].split,
        "tasks": sum(task_set.tasks for task_set in sets),
        "seed": sets[0].seed,
        "dropped": sum(int((~task_set.counted).sum()) for task_set in sets),
        "rows": rows,
    }


def _difference(sets: Sequence[TaskSet], name: str, against: str, runs: Done) -> dict[str, Any]:
    """Return the interquartile mean, and its interval, of the differences of S between two contenders."""
    ours, theirs = (
        [task_set.scores(final_gaps(of_set[who])) for task_set, of_set in zip(sets, runs, strict=True)]
        for who in (name, against)
    )
    return {"controller": against, **paired_difference(ours, theirs)._asdict()}
