"""Pages of results, which take long to make: printed first, and then written whole or not at all."""

from __future__ import annotations

from pathlib import Path

from metalearn_env.files import write_whole


def publish(path: Path | None, page: str) -> None:
    """Print a page, so that it is not lost if it cannot be written, and write it if there is a path."""
    print(page)
    if path is not None:
        write_whole(path, page.encode())
