"""Pages of results, which take long to make: printed first, and then written whole or not at all."""

from __future__ import annotations

from collections.abc import Sized
from pathlib import Path

from metalearn_env.files import write_whole


def publish(path: Path | None, page: str) -> None:
    """Print a page, so that it is not lost if it cannot be written, and write it if there is a path."""
    print(page)
    if path is not None:
        write_whole(path, page.encode())


def fewer(through: int, seeds: Sized) -> str:
    """Return how many seeds are through, for the cell of a table, if that is not all of them."""
    return "" if through == len(seeds) else f", {through} of the seeds"
