"""Files that are whole or absent, whenever the process is killed and however full the disk is."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """Write a file under another name first, so that at ``path`` there is all of it or what was there before.

    A link is followed; a device or a pipe is written to as it is.

    Raises:
        OSError: it cannot be written, with the reason (such as a full disk).
    """
    target = path.resolve()
    unfinished = target.with_name(target.name + ".part")
    try:
        if target.is_char_device() or target.is_fifo():
            target.write_bytes(content)
            return
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(target)
    except OSError as error:
        with suppress(OSError):
            unfinished.unlink()
        raise OSError(error.errno, f"cannot write {path}: {error.strerror}") from error
