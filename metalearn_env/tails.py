"""Random numbers with normal and with heavy tails: real ones of unit variance, and bytes that stand for levels.

Heavy tails are those of Student's t distribution with few degrees of freedom. Its second moment is the last one that
there is: what is worked out from second moments alone, such as the risk of a linear regression, stays exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import sqrt
from statistics import NormalDist
from typing import Any, Literal, final, get_args

import numpy as np
from numpy.typing import NDArray

from metalearn_env.family import Array

Tails = Literal["normal", "heavy"]

FREEDOM = 3  # degrees of freedom of the heavy tails of real numbers, whose variance is FREEDOM / (FREEDOM - 2)


def check_tails(tails: str) -> None:
    """Raise ``ValueError`` unless ``tails`` is "normal" or "heavy"."""
    if tails not in get_args(Tails):
        raise ValueError(f"tails is one of {', '.join(get_args(Tails))}, not {tails!r}")


def unit_variance(rng: np.random.Generator, tails: str, shape: int | tuple[int, ...]) -> Array:
    """Draw numbers of mean 0 and variance 1: standard normal, or Student's t with 3 degrees of freedom, rescaled."""
    if tails == "normal":
        return rng.standard_normal(shape)
    return rng.standard_t(FREEDOM, shape) / np.sqrt(FREEDOM / (FREEDOM - 2.0))


@final
@dataclass(frozen=True, eq=False)
class NoiseLevels:
    """256 equally likely levels of a law, as signed bytes, so that a random byte is a draw from it."""

    levels: NDArray[np.int8]  # (256,) ascending

    @cached_property
    def spread(self) -> float:
        """The standard deviation of the levels."""
        return float(self.levels.std(dtype=np.float64))

    def at(self, drawn: NDArray[np.uint8]) -> NDArray[Any]:
        """Return the levels that random bytes stand for, signed bytes of the same shape."""
        return np.frombuffer(drawn.tobytes().translate(self._table), np.int8).reshape(drawn.shape)

    @cached_property
    def _table(self) -> bytes:
        return self.levels.tobytes()


def _levels(quantile: Callable[[float], float], steps: float) -> NoiseLevels:
    """Return the levels of a law in so many steps a unit that they fit into signed bytes."""
    return NoiseLevels(np.array([round(steps * quantile((i + 0.5) / 256)) for i in range(256)], np.int8))


def _t_quantile(u: float) -> float:
    """Return the quantile of Student's t with 2 degrees of freedom, which has a closed form."""
    return (2.0 * u - 1.0) / sqrt(2.0 * u * (1.0 - u))


NOISE_LEVELS: dict[str, NoiseLevels] = {
    "normal": _levels(NormalDist().inv_cdf, 43.0),
    "heavy": _levels(_t_quantile, 7.9),
}
