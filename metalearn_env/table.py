"""Results tables: any controllers on the same tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from metalearn_env.ablations import ABLATIONS, WITHOUT, ablation_run, check_ablation, policy_run
from metalearn_env.controls import BOUNDS, CONTROLS, rule_run
from metalearn_env.family import Array
from metalearn_env.formatting import formatted as formatted
from metalearn_env.measures import Runs, final_gaps, measured, profiles
from metalearn_env.observations import feature_names
from metalearn_env.policy import Policy, check_features, load
from metalearn_env.progress import progress
from metalearn_env.rules import RULES
from metalearn_env.runs import Run, final_log_gap
from metalearn_env.scoring import Contender, TaskSet
from metalearn_env.statistics import paired_interval

Done = Sequence[Mapping[str, Runs]]  # for each task set, by name of the contender


def known_controllers(task_sets: Sequence[TaskSet] = ()) -> list[str]:
    """Return the names of all controllers that need no file, in the order of a table; or of those for some tasks."""
    names = [*CONTROLS, *RULES, *BOUNDS]
    return [name for name in names if not task_sets or any(map(contender(name).is_for, task_sets))]


def contender(name: str) -> Contender:
    """Return the controller of a name.

    Args:
        name: one of `known_controllers`, a shipped policy, a policy file, or one of these policies with something taken
            from it, such as ``"shuffled:FILE"``; see `metalearn_env.ablations`.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the file is not a policy, or the policy does not observe what is to be taken from it.
    """
    if found := {**CONTROLS, **BOUNDS}.get(name):
        return found
    if name in RULES:
        entry = RULES[name]
        return Contender(
            name, "rule", lambda task_set: [rule_run(task_set, name)], entry.told, entry.outside, entry.families
        )
    before, colon, rest = name.partition(":")
    if colon and (before in ABLATIONS or before.startswith(WITHOUT)):
        return ablation(before, f"{before}:{Path(rest).stem}", [rest])
    return policies(Path(name).stem, [name])


def contenders(names: Sequence[str]) -> list[Contender]:
    """Return the controllers of several names, see `contender`; policy files of the same name are told by their path.

    Raises:
        FileNotFoundError, ValueError: see `contender`.
    """
    names = list(dict.fromkeys(names))
    found = [contender(name) for name in names]
    count = Counter(who.name for who in found)
    return [who if count[who.name] == 1 else who._replace(name=name) for name, who in zip(names, found, strict=True)]


def policies(name: str, paths: Sequence[str | Path]) -> Contender:
    """Return one contender of several policy files, such as those of several training seeds.

    Raises:
        FileNotFoundError, ValueError: see `contender`.
    """
    return _of_policies(name, "policy", paths, policy_run)


def ablation(kind: str, name: str, paths: Sequence[str | Path]) -> Contender:
    """Return the contender of what is left of several policies, see `metalearn_env.ablations`.

    Raises:
        FileNotFoundError, ValueError: see `contender`.
    """
    found = _of_policies(name, "control", paths, partial(ablation_run, kind))
    for path in paths:
        check_ablation(kind, load(path))
    return found


def _of_policies(name: str, kind: str, paths: Sequence[str | Path], run: Callable[[Policy, TaskSet], Run]) -> Contender:
    loaded = [_loaded(path) for path in paths]

    def check(task_set: TaskSet) -> None:
        for policy in loaded:
            check_fits(policy, task_set)

    return Contender(name, kind, lambda task_set: [run(policy, task_set) for policy in loaded], check=check)


def _loaded(name: str | Path) -> Policy:
    try:
        return load(name)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"no controller {str(name)!r}; known: {', '.join(known_controllers())}; {error}"
        ) from None


def run_policy(policy: Policy, task_set: TaskSet) -> Array:
    """Return the final log gaps, (n,), of a policy, which is not kept.

    Raises:
        ValueError: see `check_fits`.
    """
    check_fits(policy, task_set)
    return final_log_gap(task_set.family, task_set.task, task_set.horizon, policy.step_sizes)


def check_fits(policy: Policy, task_set: TaskSet) -> None:
    """Raise ``ValueError`` if the environment is asked for with another action, strategy or history than a policy."""
    asked = dict(task_set.env_kwargs or {})
    if "history" in asked:
        check_features(policy.header["feature_names"], feature_names(asked["history"]))
    for option in ("action", "strategy"):
        if asked.get(option, policy.header[option]) != policy.header[option]:
            raise ValueError(f"the policy was trained with {option}={policy.header[option]!r}, not {asked[option]!r}")


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
        contenders: see `contender` and `policies`.
        against: the name of the one of them that all are compared with, task by task.
        show_progress: draw a progress bar.

    Returns:
        In plain JSON ``{"env", "env_kwargs", "split", "tasks", "seed", "dropped", "rows", "profiles"}``, a row for each
        contender with controller, kind, iqm, low, high (95 % interval), diverged (rate), anytime (None if it has no
        run), cvar (mean of the worst 1 % of S), failed (rate of runs that are not finite in the end, or have reached
        the cap on the gap), told and outside; and ``"against"``, if asked for: controller, iqm, low, high of the
        differences of S. For the profiles see `metalearn_env.measures.profiles`. Of several sets there is a list of
        such tables, ``"parts"``, each with the contenders for its family, beside ``{"split", "tasks", "seed",
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
    iqm, low, high = paired_interval(ours, theirs)
    return {"controller": against, "iqm": iqm, "low": low, "high": high}
