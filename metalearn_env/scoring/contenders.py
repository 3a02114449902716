"""Whatever can be scored, by name: controls, rules, bounds, policy files, and what is left of these."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from metalearn_env.family import Array
from metalearn_env.observations import groups
from metalearn_env.policy import Policy, load
from metalearn_env.rules import RULES
from metalearn_env.scoring.ablations import ABLATIONS, WITHOUT, ablation_run, check_ablation, policy_run
from metalearn_env.scoring.controls import BOUNDS, CONTROLS, rule_run
from metalearn_env.scoring.rows import Contender
from metalearn_env.scoring.runs import Run, final_log_gap
from metalearn_env.scoring.tasks import TaskSet


def known_controllers(task_sets: Sequence[TaskSet] = ()) -> list[str]:
    """Return the names of all controllers that need no file, in the order of a table; or of those for some tasks."""
    names = [*CONTROLS, *RULES, *BOUNDS]
    return [name for name in names if not task_sets or any(map(contender(name).is_for, task_sets))]


def known_ablations() -> list[str]:
    """Return how controllers are called that take something from a policy, see `metalearn_env.scoring.ablations`."""
    return [f"{name}:FILE" for name in (*ABLATIONS, *(WITHOUT + group for group in (*groups(0, 1), "FEATURE")))]


def contender(name: str) -> Contender:
    """Return the controller of a name.

    Args:
        name: one of `known_controllers`, a shipped policy, a policy file, or one of these policies with something taken
            from it, such as ``"shuffled:FILE"``; see `metalearn_env.scoring.ablations`.

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
    """Return the contender of what is left of several policies, see `metalearn_env.scoring.ablations`.

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
            policy.check_options(task_set.env_kwargs or {})

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
        ValueError: see `Policy.check_options`.
    """
    policy.check_options(task_set.env_kwargs or {})
    return final_log_gap(task_set.family, task_set.task, task_set.horizon, policy.step_sizes)
