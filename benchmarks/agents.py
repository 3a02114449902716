"""Agents of several training seeds on every setting: trained, and scored beside all that a sceptic asks for.

    python -m benchmarks.agents train --settings gaussian log-uniform --seeds 0 1 2 3 4 --out runs/agents --jobs 2
    python -m benchmarks.agents table --runs runs/agents --tasks 256
    python -m benchmarks.agents table --only gaussian

The first runs ``python -m agents.train`` and ``agents.schedules`` (runs that are through are skipped, those that were
cut are resumed); the second writes docs/results/agents.md, or renews some settings in it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.agent_merge import merged
from benchmarks.agent_settings import SETTINGS
from benchmarks.pages import publish
from benchmarks.setting import SCHEDULE_STEPS
from benchmarks.trainings import run_all
from metalearn_env.commandline import check_writable, run, whole


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status."""
    options = _parser().parse_args(arguments)
    return run(lambda: options.run(options))


def train(options: argparse.Namespace) -> None:
    """Train the agents and the controls of settings."""
    settings = [SETTINGS[name] for name in options.settings]
    if options.hyperparams:
        settings = [replace(setting, hyperparams=(*setting.hyperparams, *options.hyperparams)) for setting in settings]
    trainings = [
        training
        for setting in settings
        for training in setting.agent_trainings(options.out, options.seeds, options.steps)
    ]
    if options.schedule_steps:
        trainings += [
            training
            for setting in settings
            for training in setting.control_trainings(options.out, options.schedule_steps)
        ]
    run_all(trainings, options.jobs)


def table(options: argparse.Namespace) -> None:
    """Score the agents that there are, print and write the page."""
    from benchmarks.agent_page import page  # and with it all that makes tables

    check_writable(options.out)
    settings = [SETTINGS[name] for name in options.only or options.settings]
    there = [setting for setting in settings if setting.policy_files(options.runs)]
    text = page(there, options.runs, options.tasks)
    if options.only:
        text = merged(options.out.read_text(), text, [setting.name for setting in there], [*SETTINGS])
    publish(options.out, text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("train", help="train agents, open-loop schedules and static maps")
    command.set_defaults(run=train)
    command.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS), metavar="NAME")
    command.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    command.add_argument("--out", type=Path, default=Path("runs/agents"))
    command.add_argument("--jobs", type=whole, default=1, help="trainings at a time")
    command.add_argument("--steps", type=whole, help="of the environment; default: those of the setting")
    command.add_argument("--hyperparams", nargs="+", default=[], help="name:value, before those of the setting")
    command.add_argument("--schedule-steps", type=int, default=SCHEDULE_STEPS, help="of controls; 0: train none")
    command = commands.add_parser("table", help="score them and write the page")
    command.set_defaults(run=table)
    command.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS), metavar="NAME")
    command.add_argument(
        "--only", nargs="+", choices=SETTINGS, metavar="NAME", help="renew these in the page, and leave the others"
    )
    command.add_argument("--runs", type=Path, default=Path("runs/agents"))
    command.add_argument("--tasks", type=whole, default=256, help="of each kind")
    command.add_argument("--out", type=Path, default=Path("docs/results/agents.md"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
