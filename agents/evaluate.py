"""Score trained agents beside every rule, control and limit, and draw them.

``python -m agents.evaluate runs/demo --json runs/demo/score.json --plot runs/demo/training.png``
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from agents.colours import AGENT
from agents.options import parsed
from agents.pictures import check_drawn, draw_episode, draw_training
from agents.runs import POLICY, check_runs
from metalearn_env.commandline import INTERRUPTED, check_writable, key_values, run
from metalearn_env.files import write_whole
from metalearn_env.policy import Policy, load
from metalearn_env.scoring import Contender, TaskSet, task_sets
from metalearn_env.scoring.cache import Cache
from metalearn_env.scoring.contenders import ablation, contender, known_controllers, policies
from metalearn_env.scoring.table import formatted, score

SYNTHETIC = ("spectrum", "dimension", "conditioning", "noise")  # of which a data set leaves no choice


@dataclass(frozen=True)
class Args:
    """Score the agents of one or several runs (training seeds) on held-out tasks."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """folders of runs: the same agent trained with different seeds"""
    env: str | None = None
    """id of the environment; default: the one trained on"""
    env_kwargs: tuple[str, ...] = ()
    """options of the environment, as key:value; default: those trained on, or none if --env is given"""
    datasets: tuple[str, ...] = ()
    """score on tasks of these data sets, too"""
    split: str = "test"
    """train, validation, test or ood"""
    tasks: int = 256
    """tasks of each kind"""
    seed: int = 0
    """of the tasks"""
    json: Path | None = None
    """file for the tables"""
    plot: Path | None = None
    """file for a picture of the training, with rules on its validation tasks"""
    episode: Path | None = None
    """file for a picture of an episode"""
    controllers: tuple[str, ...] = ()
    """what they are compared with; default: every control, rule and limit"""
    ablations: tuple[str, ...] = ()
    """score what is left of the agent, too: marginal, shuffled, mean-schedule, without-history, ..."""
    against: str | None = None
    """a controller that all are compared with, task by task; trained-agent is one"""
    cache: bool = True
    """keep results for the next call, and use those that are kept"""


def main(args: Args) -> None:
    """Print a table for each kind of task; write what ``args`` ask for.

    Raises:
        ValueError: no runs, runs of different agents, or a picture of an unknown format; nothing has been done.
        FileNotFoundError: a run has no policy.
    """
    for path in (args.json, args.plot, args.episode):
        if path is not None:
            check_writable(path)
    for path in (args.plot, args.episode):
        if path is not None and path.suffix != ".png":
            raise ValueError(f"a picture is a .png file, not {path}")
    files = [folder / POLICY for folder in args.runs]
    trained = loaded_alike(args.runs)
    if args.plot is not None:
        check_drawn(args.runs)
    kinds = kinds_of_tasks(args, trained[0])
    agents = [policies(AGENT, files), *(ablation(kind, f"{AGENT}, {kind}", files) for kind in args.ablations)]
    env = args.env or trained[0].header["env"]
    results = [
        {
            "env": env,
            "env_kwargs": {},
            **score(sets, beside(agents, sets, args.controllers), against=args.against, show_progress=True),
        }
        for sets in kinds
    ]
    print("\n\n".join(map(formatted, results)))
    if args.json is not None:
        write_whole(args.json, (json.dumps(results, indent=1) + "\n").encode())
    if args.plot is not None:
        draw_training(args.runs, args.plot)
    if args.episode is not None:
        draw_episode(trained[0], kinds[0], args.episode)


def beside(agents: Sequence[Contender], sets: Sequence[TaskSet], names: Sequence[str] = ()) -> list[Contender]:
    """Return what agents are compared with on some tasks, by default all there is, and themselves before the last."""
    *others, last = map(contender, names or known_controllers(sets))
    return [*others, *agents, last]


def loaded_alike(runs: Sequence[Path]) -> list[Policy]:
    """Return the policies of runs.

    Raises:
        ValueError: no runs, one twice, or runs on different environments.
        FileNotFoundError: a run has no policy.
    """
    check_runs(runs)
    trained = [load(folder / POLICY) for folder in runs]
    for name in ("env", "env_kwargs", "action", "strategy", "history"):
        values = [policy.header[name] for policy in trained]
        if any(value != values[0] for value in values):
            raise ValueError(f"the runs are of one agent, trained with other seeds; their {name} differ: {values}")
    return trained


def kinds_of_tasks(args: Args, policy: Policy) -> list[list[TaskSet]]:
    """Return the tasks of the environment, and those of each data set with the same options as far as it has them.

    A kind is several sets of tasks if the environment has several families.
    """
    options = key_values(args.env_kwargs) or (policy.header["env_kwargs"] if not args.env else {})
    of_data = {name: value for name, value in options.items() if name not in SYNTHETIC}
    kinds = [options, *({**of_data, "dataset": name} for name in args.datasets)]
    env, cache = args.env or policy.header["env"], Cache() if args.cache else None
    return [task_sets(env, args.split, args.tasks, args.seed, kind, cache) for kind in kinds]


if __name__ == "__main__":
    raise SystemExit(run(lambda: main(parsed(Args)), INTERRUPTED))
