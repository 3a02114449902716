"""The command line: ``python -m metalearn_env list``, ``score`` and ``watch``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from metalearn_env.commandline import INTERRUPTED, check_writable, key_value, run, told_once
from metalearn_env.families import FAMILIES, MIXTURE, id_of
from metalearn_env.files import write_whole
from metalearn_env.scoring import task_sets
from metalearn_env.scoring.cache import FOLDER, Cache
from metalearn_env.scoring.contenders import contenders, known_ablations, known_controllers
from metalearn_env.scoring.table import formatted, score
from metalearn_env.watch import add_command as add_watch


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status, 2 after an error in what was asked."""
    options = _parser().parse_args(arguments)
    return run(lambda: options.run(options), INTERRUPTED)


def _list(_: argparse.Namespace) -> None:
    print("environments:", *map(id_of, [*FAMILIES, MIXTURE]), sep="\n  ")
    print("controllers:", *known_controllers(), sep="\n  ")
    print("controllers that take something from a policy:", *known_ablations(), sep="\n  ")


def _score(options: argparse.Namespace) -> None:
    if options.json is not None:
        check_writable(options.json)
    cache, env_kwargs = None if options.no_cache else Cache(), told_once(options.env_kwargs)
    sets = task_sets(options.env, options.split, options.tasks, options.seed, env_kwargs, cache)
    names = list(dict.fromkeys([*(options.controllers or known_controllers(sets)), *options.against]))
    found = contenders(names)
    against = found[names.index(options.against[0])].name if options.against else None
    scores = score(sets, found, against=against, show_progress=True)
    result = {"env": options.env, "env_kwargs": env_kwargs, **scores}
    print(formatted(result))
    if options.json is not None:
        write_whole(options.json, (json.dumps(result, indent=1) + "\n").encode())


_NAMES = """default: every control, rule and limit for the family; FILE is a policy, or the name of a shipped one,
without its .safetensors, or one with something taken from it, such as shuffled:FILE (see list)"""
_KWARGS = """what gym.make takes; action, strategy, interval, opening, averaged, ritz, resolution and history must be a
policy's own"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m metalearn_env", description=__doc__)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("list", help="print the environments and the controllers")
    command.set_defaults(run=_list)
    command = commands.add_parser("score", help="score controllers on the same tasks")
    command.set_defaults(run=_score)
    command.add_argument("--env", required=True, help="a registered id, or module:id")
    command.add_argument("--controllers", nargs="+", metavar="NAME|FILE", help=_NAMES)
    command.add_argument(
        "--against", nargs=1, default=[], metavar="NAME|FILE", help="compare all with it, task by task"
    )
    command.add_argument("--env-kwargs", nargs="+", type=key_value, default=[], metavar="KEY:VALUE", help=_KWARGS)
    command.add_argument("--split", default="test")
    command.add_argument("--tasks", type=int, default=256)
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--json", type=Path, metavar="FILE")
    command.add_argument("--no-cache", action="store_true", help=f"use and keep no results (${FOLDER})")
    add_watch(commands)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
