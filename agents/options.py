"""The options of commands, each told once, and of environments: some are of their tasks, the others of agents."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import tyro

from metalearn_env.commandline import told_once
from metalearn_env.session import SESSION_OPTIONS

OF_AGENTS = set(SESSION_OPTIONS) - {"horizon"}  # of the options of a session, those that leave the tasks as they are
Args = TypeVar("Args")


def parsed(args: Callable[..., Args]) -> Args:
    """Return what the command line says.

    Raises:
        ValueError: an option is there more than once, of which all but the last would be lost.
    """
    words = [word.partition("=")[0] for word in sys.argv[1:] if word.startswith("--")]
    told_once([(word.replace("_", "-"), None) for word in words])
    return tyro.cli(args)


def task_options(env_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return those options of an environment, of all that it has, that its tasks depend on."""
    return {name: value for name, value in env_kwargs.items() if name not in OF_AGENTS}


def check_of_tasks(what: str, options: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` if ``what`` has options that tasks do not depend on, and that would be ignored."""
    if others := sorted(options.keys() & OF_AGENTS):
        raise ValueError(f"{what} has options of tasks, not {', '.join(others)}")
