"""Moves beyond what is configured: what the axes of the split "ood" have in common in all families.

A move is the options that make it; it is ``{}`` where there is nowhere to move to.
"""

from __future__ import annotations

from math import inf
from typing import Any

Move = dict[str, Any]

LEAST_DECADES = 6.0


def above(name: str, limits: tuple[float, float], low: float, high: float, most: float = inf) -> Move:
    """Move a range to between ``low`` and ``high`` times its upper end, at most to ``most``.

    >>> above("noise", (0.1, 2.0), 1, 10), above("outliers", (0.1, 0.5), 1, 4, most=1.0), above("noise", (0, 0), 1, 10)
    ({'noise': (2.0, 20.0)}, {'outliers': (0.5, 1.0)}, {})
    """
    top = limits[1]
    start, end = low * top, min(high * top, most)
    return {name: (start, end)} if top < end and start <= end else {}


def below(name: str, limits: tuple[float, float], low: float, least: float) -> Move:
    """Move a range to between ``low`` times its lower end and that end itself, at least to ``least``.

    >>> below("drift", (0.1, 2.0), 0.1, 0.05), below("drift", (0.1, 2.0), 0.1, 0.1)
    ({'drift': (0.05, 0.1)}, {})
    """
    bottom = limits[0]
    return {name: (start, bottom)} if (start := max(low * bottom, least)) < bottom else {}


def further(decades: tuple[float, float], most: float) -> Move:
    """Move the scale to between the most decades and twice as many, 6 at least.

    >>> further((0.0, 3.0), most=30.0)
    {'scale': (3.0, 6.0)}
    """
    top = decades[1]
    moved = min(max(2.0 * top, LEAST_DECADES), most)
    return {"scale": (top, moved)} if moved > top else {}


def smaller_batch(batch_size: int | None) -> Move:
    """Move to minibatches of a quarter, of 1 at least; there is no move from 1, nor from all examples (None).

    >>> smaller_batch(32), smaller_batch(2), smaller_batch(1)
    ({'batch_size': 8}, {'batch_size': 1}, {})
    """
    return {"batch_size": max(1, batch_size // 4)} if batch_size is not None and batch_size > 1 else {}


def axes_of(**moves: Move) -> dict[str, Move]:
    """Return the moves by the names of their axes, without those that there are not."""
    return {axis: move for axis, move in moves.items() if move}
