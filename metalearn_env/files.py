"""Files that are whole or absent, whenever the process is killed and however full the disk is."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """Write a file under another name first, so that at ``path`` there is all of it or what was there before.

    Raises:
        OSError: it cannot be written, with the reason (such as a full disk).
    """
    unfinished = path.with_name(path.name + ".part")
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        with suppress(OSError):
            unfinished.unlink()
        raise OSError(error.errno, f"cannot write {path}: {error.strerror}") from error
