"""The command line: ``python -m metalearn_env list``, ``score`` and ``watch``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from metalearn_env.commandline import check_writable, key_value, run
from metalearn_env.families import FAMILIES, MIXTURE, id_of
from metalearn_env.scoring import task_sets
from metalearn_env.table import contender, formatted, known_controllers, score
from metalearn_env.watch import add_command as add_watch


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status, 2 after an error in what was asked."""
    options = _parser().parse_args(arguments)
    return run(lambda: options.run(options))


def _list(_: argparse.Namespace) -> None:
    print("environments:", *map(id_of, [*FAMILIES, MIXTURE]), sep="\n  ")
    print("controllers:", *known_controllers(), sep="\n  ")


def _score(options: argparse.Namespace) -> None:
    if options.json is not None:
        check_writable(options.json)
    sets = task_sets(options.env, options.split, options.tasks, options.seed, dict(options.env_kwargs))
    contenders = [contender(name) for name in options.controllers or known_controllers()]
    result = {"env": options.env, "env_kwargs": dict(options.env_kwargs), **score(sets, contenders, show_progress=True)}
    print(formatted(result))
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


_KWARGS = "what gym.make takes; action, strategy and history must be those that a policy was trained with"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m metalearn_env", description=__doc__)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("list", help="print the environments and the controllers")
    command.set_defaults(run=_list)
    command = commands.add_parser("score", help="score controllers on the same tasks")
    command.set_defaults(run=_score)
    command.add_argument("--env", required=True, help="a registered id, or module:id")
    command.add_argument("--controllers", nargs="+", metavar="NAME|FILE", help="default: every rule, control and limit")
    command.add_argument("--env-kwargs", nargs="+", type=key_value, default=[], metavar="KEY:VALUE", help=_KWARGS)
    command.add_argument("--split", default="test")
    command.add_argument("--tasks", type=int, default=256)
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--json", type=Path, metavar="FILE")
    add_watch(commands)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
