"""Score trained agents beside every rule, control and limit, and draw them.

``python -m agents.evaluate runs/demo --json runs/demo/score.json --plot runs/demo/training.png``
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from agents.pictures import draw_episode, draw_training
from agents.training import POLICY
from metalearn_env.__main__ import check_writable, key_value
from metalearn_env.policy import Policy, load
from metalearn_env.scoring import TaskSet
from metalearn_env.table import contender, formatted, known_controllers, policies, score


@dataclass(frozen=True)
class Args:
    """Score the agents of one or several runs (training seeds) on held-out tasks."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """folders of runs: the same agent trained with different seeds"""
    env: str | None = None
    """id of the environment; default: the one trained on"""
    env_kwargs: tuple[str, ...] = ()
    """options of the environment, as key:value; default: those trained on"""
    datasets: tuple[str, ...] = ()
    """score on tasks of these data sets, too"""
    split: str = "test"
    """train, validation or test"""
    tasks: int = 256
    """tasks of each kind"""
    seed: int = 0
    """of the tasks"""
    json: Path | None = None
    """file for the tables"""
    plot: Path | None = None
    """file for a picture of the training"""
    episode: Path | None = None
    """file for a picture of an episode"""


def main(args: Args) -> None:
    """Print a table for each kind of task; write what ``args`` ask for."""
    for path in (args.json, args.plot, args.episode):
        if path is not None:
            check_writable(path)
    files = [run / POLICY for run in args.runs]
    trained = [load(file) for file in files]
    sets = task_sets(args, trained[0])
    names = known_controllers()
    contenders = [*map(contender, names[:-1]), policies("trained-agent", files), contender(names[-1])]
    results = [score(task_set, contenders, show_progress=True) for task_set in sets]
    print("\n\n".join(map(formatted, results)))
    if args.json is not None:
        args.json.write_text(json.dumps(results, indent=1) + "\n")
    if args.plot is not None:
        draw_training(args.runs, results[0], args.plot)
    if args.episode is not None:
        draw_episode(trained[0], sets[0], args.episode)


def task_sets(args: Args, policy: Policy) -> list[TaskSet]:
    """Return the tasks of the environment, and those of each data set."""
    env = args.env or policy.header["env"]
    options = dict(key_value(text) for text in args.env_kwargs) or (policy.header["env_kwargs"] if not args.env else {})
    kinds = [options, *({"dataset": name} for name in args.datasets)]
    return [TaskSet(env, args.split, args.tasks, args.seed, kind) for kind in kinds]


if __name__ == "__main__":
    main(tyro.cli(Args))
