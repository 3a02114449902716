"""A progress bar where tqdm is installed, and none where it is not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

ItemT = TypeVar("ItemT")


def progress(items: Sequence[ItemT], description: str, *, show: bool = True) -> Iterable[ItemT]:
    """Return ``items`` to iterate over, with a bar on standard error if ``show``."""
    try:
        from tqdm import tqdm
    except ImportError:
        return items
    bar: Iterable[ItemT] = tqdm(items, desc=description, disable=not show, leave=False)
    return bar
