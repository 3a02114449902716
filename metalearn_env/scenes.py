"""What is to be drawn of an episode so far, as data; and the same as a few lines of text."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from metalearn_env.engine import DIVERGED_AT, SMALLEST_GAP
from metalearn_env.family import Array, Kind
from metalearn_env.pictures import Picture

BARS = "▁▂▃▄▅▆▇█"
MOST_BARS = 60


class Scene(NamedTuple):
    """An episode after t of its inner steps."""

    family: str
    kind: Kind
    horizon: int
    loss: float
    gaps: Array  # (t + 1,) loss - f* over the first one
    step_sizes: Array  # (t,) in units of the task
    picture: Picture | None = None
    player: str = "agent"

    @property
    def title(self) -> str:
        end = ", diverged" if not self.gaps[-1] < DIVERGED_AT else ""
        return f"{self.family} ({self.kind}): step {len(self.gaps) - 1} of {self.horizon}{end}"


def shown_gaps(ratio: Array) -> Array:
    """Return gaps over the first one as they are drawn: within bounds, one that is not a number at the upper end."""
    bounded: Array = np.clip(np.where(np.isnan(ratio), DIVERGED_AT, ratio), SMALLEST_GAP, DIVERGED_AT)
    return bounded


def described(scene: Scene) -> str:
    """Return an episode as three lines: where it stands, its numbers, and its gaps as bars of their logarithms.

    >>> print(described(Scene("Valley", "supervised", 9, 0.5, np.array([1.0, 0.05, 0.01]), np.array([1.0, 2.0]))))
    Valley (supervised): step 2 of 9
    loss 0.5, gap / first gap 0.01, step size / unit 2
    log gap █▃▁ from 1 to 0.01
    """
    step = f"{scene.step_sizes[-1]:.3g}" if len(scene.step_sizes) else "none yet"
    numbers = f"loss {scene.loss:.4g}, gap / first gap {scene.gaps[-1]:.3g}, step size / unit {step}"
    highest, lowest = scene.gaps.max(), scene.gaps.min()
    return f"{scene.title}\n{numbers}\nlog gap {_bars(np.log(scene.gaps))} from {highest:.3g} to {lowest:.3g}"


def _bars(values: Array) -> str:
    if len(values) > MOST_BARS:
        values = values[np.linspace(0, len(values) - 1, MOST_BARS).round().astype(np.int64)]
    low, high = values.min(), values.max()
    height = (values - low) / (high - low) if high > low else np.ones(len(values))
    return "".join(BARS[index] for index in (height * (len(BARS) - 1)).round().astype(np.int64))
