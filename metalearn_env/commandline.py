"""What the command lines share: options as text, files to be written, and errors without a traceback."""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym

INTERRUPTED = "interrupted; what was computed is kept, unless without a cache, and the same command goes on from there"


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


def key_values(texts: Iterable[str]) -> dict[str, Any]:
    """Parse several ``key:value``, no two of the same key; see `told_once`."""
    return told_once([key_value(text) for text in texts])


def told_once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return pairs of key and value as a dictionary, or raise ``ValueError`` if two have the same key."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"{', '.join(key for key in found if keys.count(key) > 1)} is given more than once")
    return found


def whole(text: str) -> int:
    """Parse a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"it is a whole number >= 1, not {text!r}")
    return int(text)


def check_writable(path: Path) -> None:
    """Raise ``OSError`` unless a file can be written at ``path``; found out before the work, not after it."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: there is no folder {path.parent}")
    existed = path.exists()
    with path.open("a"):
        pass
    if not existed:
        path.unlink()


def run(command: Callable[[], Any], interrupted: str = "interrupted") -> int:
    """Run a command and return its exit status: 2, with a message, if what was asked for cannot be; 130 after Ctrl-C.

    Args:
        command: what to do.
        interrupted: the line that is printed after Ctrl-C.
    """
    try:
        with warnings.catch_warnings():
            warnings.showwarning = partial(_show, warnings.showwarning)
            command()
    except (ValueError, TypeError, ImportError, OSError, argparse.ArgumentTypeError, gym.error.Error) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except MemoryError as error:
        print(f"error: there is not enough memory for what was asked: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        return 130
    return 0


def _show(otherwise: Callable[..., None], message: Warning | str, category: type[Warning], *where: Any) -> None:
    """Print a warning of this package as a line, over that of a progress bar, without the code that gave it."""
    if category.__module__.partition(".")[0] == __name__.partition(".")[0]:
        print(f"\rwarning: {message}", file=sys.stderr)
    else:
        otherwise(message, category, *where)
