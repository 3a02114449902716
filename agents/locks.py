"""A folder is worked on by one process: another one is told so, and writes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

LOCK = "lock"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a folder, which is made if there is none, so that no other process writes there what this one does.

    It is let go of when the process ends, however it ends. On a system without such locks nothing is held.

    Raises:
        ValueError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a") as file:
        if not _locked(file):
            raise ValueError(f"another process works in {folder}; wait for it, or give another --out")
        yield


def _locked(file: IO[str]) -> bool:
    """Return whether no other process has locked a file."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):  # of Windows, or a file system without locks
        return True
    return True
