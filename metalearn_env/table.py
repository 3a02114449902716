"""Results tables: any controllers on one set of tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metalearn_env.controls import CONTROLS, LIMIT, run
from metalearn_env.family import Array
from metalearn_env.observations import feature_names
from metalearn_env.policy import Policy, check_features, load
from metalearn_env.progress import progress
from metalearn_env.rules import RULES, rule
from metalearn_env.scoring import TaskSet, score_row

Contender = tuple[str, str, Callable[[TaskSet], Array]]  # name, kind, final log gaps (n,) or (runs, n)


def known_controllers() -> list[str]:
    """Return the names of all controllers that need no file, in the order of a table."""
    return [*CONTROLS, *RULES, *LIMIT]


def contender(name: str) -> Contender:
    """Return the controller of a name of `known_controllers`, of a shipped policy, or of a policy file.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the file is not a policy.
    """
    if name in CONTROLS or name in LIMIT:
        kind, reach = {**CONTROLS, **LIMIT}[name]
        return name, kind, reach
    if name in RULES:
        found = rule(name)
        return name, "rule", lambda task_set: run(found, task_set)
    try:
        policy = load(name)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no controller {name!r}; known: {', '.join(known_controllers())}; {error}") from None
    return Path(name).stem, "policy", lambda task_set: run_policy(policy, task_set)


def policies(name: str, paths: Sequence[str | Path]) -> Contender:
    """Return one contender of several policy files, such as those of several training seeds."""
    loaded = [load(path) for path in paths]
    return name, "policy", lambda task_set: np.stack([run_policy(policy, task_set) for policy in loaded])


def run_policy(policy: Policy, task_set: TaskSet) -> Array:
    """Return the final log gaps, (n,), of a policy.

    Raises:
        ValueError: the environment is asked for with another action, strategy or history than it was trained with.
    """
    asked = dict(task_set.env_kwargs or {})
    if "history" in asked:
        check_features(policy.header["feature_names"], feature_names(asked["history"]))
    for option in ("action", "strategy"):
        if asked.get(option, policy.header[option]) != policy.header[option]:
            raise ValueError(f"the policy was trained with {option}={policy.header[option]!r}, not {asked[option]!r}")
    return run(policy.step_sizes, task_set)


def score(
    task_sets: TaskSet | Sequence[TaskSet], contenders: Sequence[Contender], *, show_progress: bool = False
) -> dict[str, Any]:
    """Score contenders on the same tasks.

    Args:
        task_sets: tasks, or several sets of them, each of the same weight.
        contenders: see `contender` and `policies`.
        show_progress: draw a progress bar.

    Returns:
        ``{"env", "env_kwargs", "split", "tasks", "seed", "dropped", "rows"}``, a row for each contender with
        controller, kind, iqm, low, high (95 % interval) and diverged (rate). Of several sets there is a list of such
        tables, ``"parts"``, beside ``{"split", "tasks", "seed", "dropped", "rows"}`` of all, whose iqm is the mean.
    """
    sets = [task_sets] if isinstance(task_sets, TaskSet) else list(task_sets)
    gaps: list[list[Array]] = [[] for _ in contenders]
    work = [(index, task_set) for task_set in sets for index in range(len(contenders))]
    for index, task_set in progress(work, f"scoring {sets[0].split} tasks", show=show_progress):
        gaps[index].append(np.atleast_2d(contenders[index][2](task_set)))
    tables = [
        {
            "env": task_set.env_id,
            "env_kwargs": dict(task_set.env_kwargs or {}),
            **_table([task_set], contenders, [[of_sets[index]] for of_sets in gaps]),
        }
        for index, task_set in enumerate(sets)
    ]
    return tables[0] if len(sets) == 1 else {**_table(sets, contenders, gaps), "parts": tables}


def _table(sets: Sequence[TaskSet], contenders: Sequence[Contender], gaps: Sequence[Sequence[Array]]) -> dict[str, Any]:
    rows = [score_row(name, kind, sets, of_sets) for (name, kind, _), of_sets in zip(contenders, gaps, strict=True)]
    return {
        "split": sets[0].split,
        "tasks": sum(task_set.tasks for task_set in sets),
        "seed": sets[0].seed,
        "dropped": sum(int((~task_set.counted).sum()) for task_set in sets),
        "rows": [row._asdict() for row in rows],
    }


def formatted(result: dict[str, Any]) -> str:
    """Return a score as text: a table for each set of tasks, and one of their means if there are several."""
    parts = result.get("parts", [])
    options = " ".join(f"{key}:{value}" for key, value in result.get("env_kwargs", {}).items())
    mean = f"mean of {len(parts)} tables" if parts else ""
    counts = f"({result['split']}, {result['tasks']} tasks, {result['dropped']} dropped)"
    title = f"{result.get('env', '')} {options} {mean} {counts}"
    lines = [
        " ".join(title.split()),
        f"{'controller':<20} {'kind':<8} {'IQM':>7}   {'95 % interval':<18} {'diverged':>8}",
    ]
    for row in result["rows"]:
        interval = f"[{row['low']:.3f}, {row['high']:.3f}]"
        lines.append(
            f"{row['controller']:<20} {row['kind']:<8} {row['iqm']:>7.3f}   {interval:<18} {row['diverged']:>7.1%}"
        )
    return "\n\n".join([*map(formatted, parts), "\n".join(lines)])
