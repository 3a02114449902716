"""Ship a policy: ``python -m agents.ship mixture runs/agents/mixture/seed-*``.

Of several runs the one with the best score on validation tasks is chosen, or another is taken for a reason that is told
(``--take 1 --because "..."``), such as more validation tasks; test tasks have no part in it.
Its file, with what it reached, goes to metalearn_env/policies, its model card to docs/policies.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from agents.cards import CARDS, write_cards
from agents.evaluate import beside
from agents.options import OF_AGENTS, parsed, task_options
from agents.runs import POLICY, check_runs, finished, read_run
from metalearn_env.commandline import key_values, run
from metalearn_env.policy import SHIPPED, Policy, load
from metalearn_env.scoring import task_sets
from metalearn_env.scoring.cache import Cache
from metalearn_env.scoring.contenders import policies
from metalearn_env.scoring.statistics import Estimate
from metalearn_env.scoring.table import score

SHOWN = ("tuned-constant", "tuned-decay", "best-rule-per-task")  # on a card, with the best rule and the policy
KEPT = ("controller", "iqm", "low", "high", "diverged")


@dataclass(frozen=True)
class Args:
    """Choose among runs by their validation scores, score the choice on test tasks and write policy and card."""

    name: Annotated[str, tyro.conf.Positional]
    """of the policy: small letters, digits and hyphens"""
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """folders of runs"""
    policies: Path = SHIPPED
    """folder for the policy"""
    cards: Path = CARDS
    """folder for its card"""
    env: str | None = None
    """id of the environment whose test tasks it is scored on; those it was trained on if none is given"""
    env_kwargs: tuple[str, ...] = ()
    """options of these tasks, as key:value"""
    tasks: int = 256
    """test tasks, of each family"""
    controllers: tuple[str, ...] = ()
    """what it is scored beside; all there is if none are named, which takes long where an inner step is slow"""
    take: int | None = None
    """training seed of the run to take, in place of the one with the best validation score"""
    because: str = ""
    """why, for the card; never because of test tasks"""
    replace: bool = False
    """put it in the place of a policy of that name"""


def main(args: Args) -> None:
    """Do what ``args`` ask for.

    Raises:
        ValueError: a name that is none, or is taken; runs that cannot be compared. Nothing has been written.
        FileNotFoundError: a run has no policy.
    """
    if args.env_kwargs and args.env is None:
        raise ValueError(f"env_kwargs are of an env, and none is given: {' '.join(args.env_kwargs)}")
    target = args.policies / f"{args.name}.safetensors"
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", args.name):
        raise ValueError(f"a name is of small letters, digits and hyphens, not {args.name!r}")
    if target.exists() and not args.replace:
        raise ValueError(f"{target} is there already; --replace it")
    if (args.take is None) != (not args.because):
        raise ValueError(f"take and because go together, not take={args.take!r} and because={args.because!r}")
    folder, found = chosen(args.runs, args.take)
    elsewhere = (args.env, key_values(args.env_kwargs)) if args.env else None
    policy = scored(args.name, folder, args.tasks, elsewhere, args.controllers)
    args.policies.mkdir(parents=True, exist_ok=True)
    told = {"chosen_from": found, **({"taken_because": args.because} if args.because else {})}
    replace(policy, header={**policy.header, **told}).save(target)
    write_cards(args.cards, args.policies)
    test = policy.header["test"]
    reached = Estimate(test["iqm"], test["low"], test["high"])
    print(f"{folder}: validation {policy.header['validation_iqm']:.3f}, test {reached}")


def chosen(runs: Sequence[Path], take: int | None = None) -> tuple[Path, list[tuple[int, float]]]:
    """Return the run of the best score on validation tasks, or of the seed to ``take``, and (seed, score) of all.

    Raises:
        ValueError: no runs, one twice or not through, runs whose scores are of other tasks, or not one of that seed.
        FileNotFoundError: a run has no policy.
    """
    check_runs(runs)
    headers = [load(folder / POLICY).header for folder in runs]
    for folder in runs:
        if not finished(folder):
            raise ValueError(f"{folder} is a run that is not through; go on with it, or leave it out")
    of_tasks = [
        (header["env"], task_options(header["env_kwargs"]), *validated_by(read_run(folder)))
        for folder, header in zip(runs, headers, strict=True)
    ]
    for folder, other in zip(runs, of_tasks, strict=True):
        if other != of_tasks[0]:
            raise ValueError(f"{folder} was scored on other tasks than {runs[0]}: {other}, not {of_tasks[0]}")
    seeds, scores = ([header[name] for header in headers] for name in ("seed", "validation_iqm"))
    if take is not None and seeds.count(take) != 1:
        raise ValueError(f"take is the seed of one of the runs, which have {', '.join(map(str, seeds))}, not {take}")
    which = scores.index(max(scores)) if take is None else seeds.index(take)
    return runs[which], list(zip(seeds, scores, strict=True))


def validated_by(record: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what of a run its score on validation tasks depends on, beside the environment."""
    on_horizons = record.get("objective") == "score"
    return record["validation_tasks"], record.get("validation_kwargs") or [], on_horizons, record.get("taught_on")


def scored(
    name: str,
    folder: Path,
    tasks: int,
    elsewhere: tuple[str, dict[str, Any]] | None = None,
    controllers: Sequence[str] = (),
) -> Policy:
    """Return the policy of a run, with what it reaches on test tasks in its header.

    Args:
        name: of the policy.
        folder: the run.
        tasks: how many, of each family.
        elsewhere: id and options of the environment that it is for; None: the one that it was trained on.
        controllers: what it is scored beside; empty: all there is.
    """
    policy = load(folder / POLICY)
    if elsewhere:
        policy = replace(policy, header=moved(policy.header, *elsewhere))
    env, options = policy.header["env"], task_options(policy.header["env_kwargs"])
    sets = task_sets(env, "test", tasks, 0, options, Cache())
    result = score(sets, beside([policies(name, [folder / POLICY])], sets, controllers), show_progress=True)
    (row,) = [row for row in result["rows"] if row["controller"] == name]
    header = {
        **policy.header,
        "task_options": options,
        "wall_seconds": read_run(folder).get("wall_seconds"),
        "test": {"tasks": tasks, "seed": 0, **kept(row), "command": command(name, env, options, tasks)},
        "scores": [
            {
                "family": type(task_set.family).__name__,
                "tasks": table["tasks"],
                "dropped": table["dropped"],
                "rows": [kept(row) for row in shown(table["rows"], name)],
            }
            for task_set, table in zip(sets, result.get("parts", [result]), strict=True)
        ],
    }
    return replace(policy, header=header)


def moved(header: Mapping[str, Any], env: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return a header that says that a policy is for other tasks than those it was trained on, and what these were."""
    of_agents = {name: value for name, value in header["env_kwargs"].items() if name in OF_AGENTS}
    trained_on = {"env": header["env"], "env_kwargs": header["env_kwargs"]}
    return {**header, "env": env, "env_kwargs": {**of_agents, **options}, "trained_on": trained_on}


def command(name: str, env: str, options: Mapping[str, Any], tasks: int) -> str:
    """Return the command that scores a shipped policy on the test tasks of its header."""
    kwargs = [f"{key}:{json.dumps(value)}" for key, value in options.items()]
    told = ["--env-kwargs", *kwargs] if kwargs else []
    return shlex.join(
        ["python", "-m", "metalearn_env", "score", "--env", env, *told, "--tasks", str(tasks), "--controllers", name]
    )


def shown(rows: Sequence[Mapping[str, Any]], name: str) -> list[Mapping[str, Any]]:
    """Return the lines of a table that a card has: controls, the best rule and the policy."""
    rules = [row for row in rows if row["kind"] == "rule" and not row["outside"]]
    names = {*SHOWN, name, *([max(rules, key=lambda row: row["iqm"])["controller"]] if rules else [])}
    return [row for row in rows if row["controller"] in names]


def kept(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a header keeps of a line of a table."""
    return {key: row[key] for key in KEPT}


if __name__ == "__main__":
    raise SystemExit(run(lambda: main(parsed(Args))))
