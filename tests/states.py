"""What tests do to saved states: each number in turn is one that there cannot be."""

from __future__ import annotations

import math
from collections.abc import Iterator
from copy import deepcopy
from typing import Any


def spoilt(state: Any, value: float = math.nan) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield the way to each number of a state, and a copy with ``value`` in its place."""
    for place in _places(state):
        copy = deepcopy(state)
        part = copy
        for key in place[:-1]:
            part = part[key]
        part[place[-1]] = value
        yield place, copy


def _places(state: Any) -> Iterator[tuple[Any, ...]]:
    """Yield the way to each number; of a list, to the first of them alone."""
    if isinstance(state, (int, float)) and not isinstance(state, bool):
        yield ()
    keys = state if isinstance(state, dict) else range(min(1, len(state))) if isinstance(state, list) else ()
    for key in keys:
        yield from ((key, *rest) for rest in _places(state[key]))
