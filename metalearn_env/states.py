"""Checks of a saved state: all of it is looked at before anything goes back to it.

>>> numbers({"count": [1, 2]}, "count", (2,), least=0, whole=True)
array([1, 2])
>>> number({"t": -1}, "t", least=0, whole=True)
Traceback (most recent call last):
    ...
ValueError: the state's t is of numbers from 0 to 1.79769e+308, not -1
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGEST = sys.float_info.max
POSITIVE = math.ulp(0.0)  # the least number above 0


def numbers(
    state: Mapping[str, Any],
    name: str,
    shape: tuple[int, ...] | None = None,
    *,
    least: float = -LARGEST,
    most: float = LARGEST,
    whole: bool = False,
) -> NDArray[Any]:
    """Return a part of a state as a new array of its own: int64 if they are ``whole`` numbers, else float64.

    Raises:
        ValueError: it is not there, of no (whole) numbers, of another shape than ``shape`` if one is told, or a number
            is NaN, or not from ``least`` to ``most``.
    """
    try:
        found = np.array(state[name])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the state has {name}, of numbers; it has none: {error!r}") from error
    if found.dtype.kind not in ("iu" if whole else "iuf") and found.size:
        raise ValueError(f"the state's {name} is of {'whole ' * whole}numbers, not of {found.dtype}")
    if shape is not None and found.shape != shape:
        raise ValueError(f"the state's {name} is of shape {shape}, not {found.shape}")
    within = (found >= least) & (found <= most)  # which NaN is not
    if not within.all():
        raise ValueError(f"the state's {name} is of numbers from {least:g} to {most:g}, not {found[~within][0]}")
    return found.astype(np.int64 if whole else np.float64)


def number(state: Mapping[str, Any], name: str, **limits: Any) -> Any:
    """Return a part of a state as a number; see `numbers`."""
    return numbers(state, name, (), **limits).item()


def number_or_none(state: Mapping[str, Any], name: str, **limits: Any) -> Any:
    """Return a part of a state as a number, or None if it is None; see `numbers`."""
    return None if name in state and state[name] is None else number(state, name, **limits)
