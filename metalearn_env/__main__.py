"""The command line: ``python -m metalearn_env list`` and ``python -m metalearn_env score``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym

from metalearn_env.families import FAMILIES
from metalearn_env.scoring import TaskSet
from metalearn_env.table import contender, formatted, known_controllers, score


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status, 2 after an error in what was asked."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options) or 0)
    except (ValueError, TypeError, FileNotFoundError, ImportError, OSError, gym.error.Error) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _list(_: argparse.Namespace) -> None:
    print("environments:", *(f"MetaLearn/{name}-v0" for name in FAMILIES), sep="\n  ")
    print("controllers:", *known_controllers(), sep="\n  ")


def _score(options: argparse.Namespace) -> None:
    if options.json is not None:
        check_writable(options.json)
    task_set = TaskSet(options.env, options.split, options.tasks, options.seed, dict(options.env_kwargs))
    contenders = [contender(name) for name in options.controllers or known_controllers()]
    result = score(task_set, contenders, show_progress=True)
    print(formatted(result))
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


def check_writable(path: Path) -> None:
    """Raise ``OSError`` unless a file can be written at ``path``; found out before the work, not after it."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: there is no folder {path.parent}")
    existed = path.exists()
    with path.open("a"):
        pass
    if not existed:
        path.unlink()


def key_value(text: str) -> tuple[str, Any]:
    """Parse ``key:value``, the value as JSON where it is JSON and else as text.

    >>> key_value("dimension:[8,16]"), key_value("spectrum:gaussian")
    (('dimension', [8, 16]), ('spectrum', 'gaussian'))
    """
    key, colon, value = text.partition(":")
    if not colon:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form key:value")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m metalearn_env", description=__doc__)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("list", help="print the environments and the controllers")
    command.set_defaults(run=_list)
    command = commands.add_parser("score", help="score controllers on the same tasks")
    command.set_defaults(run=_score)
    command.add_argument("--env", required=True, help="a registered id")
    command.add_argument("--controllers", nargs="+", metavar="NAME|FILE", help="default: every rule, control and limit")
    command.add_argument("--env-kwargs", nargs="+", type=key_value, default=[], metavar="KEY:VALUE")
    command.add_argument("--split", default="test")
    command.add_argument("--tasks", type=int, default=256)
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--json", type=Path, metavar="FILE")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
