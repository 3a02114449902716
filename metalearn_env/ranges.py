"""Ranges ``(low, high)`` from which a configuration is drawn; a single number is a range of one value."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from metalearn_env.family import Array

Range = float | Sequence[float]
LARGEST = 2**63  # whole numbers are below
MOST_HISTORY = 10_000  # decisions remembered


def as_range(
    name: str, value: Any, *, minimum: float, maximum: float = math.inf, integer: bool = False
) -> tuple[Any, Any]:
    """Return ``value`` as ``(low, high)``.

    Raises:
        ValueError: it is not a number or a pair low <= high of (whole) numbers from ``minimum`` to ``maximum``.

    >>> as_range("horizon", 50, minimum=1, integer=True)
    (50, 50)
    """
    pair = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value, value)
    whole = "whole number" if integer else "number"
    if len(pair) != 2 or not all(is_number(end, integer) and end >= minimum for end in pair) or pair[0] > pair[1]:
        raise ValueError(f"{name} is a {whole} >= {minimum:g}, or a pair (low, high) of them, not {value!r}")
    maximum = min(maximum, LARGEST - 1) if integer else maximum
    if pair[1] > maximum:
        raise ValueError(f"{name} is at most {maximum:g}, not {value!r}")
    kind = int if integer else float
    return kind(pair[0]), kind(pair[1])


def as_dimension(value: Any, default: tuple[int, int]) -> tuple[int, int]:
    """Return a dimension as ``(low, high)``, the ``default`` of None; see `as_range`."""
    return as_range("dimension", default if value is None else value, minimum=1, integer=True)


def zero_or_range(name: str, value: Any, *, maximum: float, minimum: float = 0.0) -> tuple[float, float]:
    """Return ``value`` as ``(low, high)`` that can be drawn from log-uniformly: both are 0, or neither.

    Raises:
        ValueError: see `as_range`, or a range begins at 0.

    >>> zero_or_range("noise", 0, maximum=1.0), zero_or_range("noise", (0.1, 1), maximum=1.0)
    ((0.0, 0.0), (0.1, 1.0))
    """
    low, high = as_range(name, value, minimum=minimum, maximum=maximum)
    if low == 0.0 < high:
        raise ValueError(f"{name} is 0 or a range above 0, not {value!r}")
    return low, high


def as_integer(name: str, value: Any, *, minimum: int) -> int:
    """Return ``value`` as a whole number of at least ``minimum``, or raise ``ValueError``."""
    if not is_number(value, integer=True) or value < minimum:
        raise ValueError(f"{name} is a whole number >= {minimum}, not {value!r}")
    if value >= LARGEST:
        raise ValueError(f"{name} is below 2^63, not {value!r}")
    return int(value)


def as_history(value: Any) -> int:
    """Return how many decisions an observation remembers, or raise ``ValueError``; each takes five numbers a row."""
    history = as_integer("history", value, minimum=0)
    if history > MOST_HISTORY:
        raise ValueError(f"history is at most {MOST_HISTORY}, not {value!r}")
    return history


def as_positive(name: str, value: Any) -> float:
    """Return ``value`` as a finite number above 0, or raise ``ValueError``."""
    if not is_number(value) or value <= 0.0:
        raise ValueError(f"{name} is a number above 0, not {value!r}")
    return float(value)


def as_decades(name: str, value: Any, *, most: float) -> tuple[float, float]:
    """Return ``value`` as the decades (low, high) that something is moved by, up or down; a number is from 0 to it.

    Raises:
        ValueError: they are not between 0 and ``most``.

    >>> as_decades("scale", 3, most=100), as_decades("scale", (3, 6), most=100)
    ((0.0, 3.0), (3.0, 6.0))
    """
    pair = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (0.0, value)
    if len(pair) != 2 or not all(is_number(end) for end in pair) or not 0.0 <= pair[0] <= pair[1] <= most:
        raise ValueError(
            f"{name} is a number of decades from 0 to {most:g}, or a pair (low, high) of them, not {value!r}"
        )
    return float(pair[0]), float(pair[1])


def decades(uniform: Array, low: float, high: float) -> Array:
    """Map uniform numbers of [0, 1) to exponents whose size is uniform in [low, high], as many up as down."""
    signed = 2.0 * uniform - 1.0
    return np.copysign(low + (high - low) * np.abs(signed), signed)


def log_uniform(uniform: Array, low: float, high: float) -> Array:
    """Map uniform numbers of [0, 1) to log-uniform ones of [low, high); a range from 0 to 0 gives zeros."""
    if high == 0.0:
        return np.zeros_like(uniform)
    return low * np.exp(math.log(high / low) * uniform)  # many times faster than a power


def log_uniform_integer(uniform: Array, low: int, high: int) -> np.ndarray:
    """Map uniform numbers of [0, 1) to whole ones of low, ..., high, about equally many in every octave."""
    return np.minimum(log_uniform(uniform, low, high + 1), high).astype(np.int64)


def is_number(value: Any, integer: bool = False) -> bool:
    """Return whether ``value`` is a finite real (whole) number, and no truth value."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        return False
    if isinstance(value, int) and abs(value) > sys.float_info.max:
        return False
    return math.isfinite(value) and (not integer or value == int(value))
