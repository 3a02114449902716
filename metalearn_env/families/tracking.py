r"""Tracking a target that drifts: the inner problem whose best step size has a closed form.

A target x makes a random walk, is seen with noise, and the estimate follows what is seen:

    x <- x + w,    z = x + v,    estimate <- estimate + h (z - estimate),    q = Var w / Var v

In the long run no step size is better than a = (\sqrt{q^2 + 4q} - q) / 2, which the gain of Kalman's filter tends to. A
learner sees innovations z - estimate: at the best step they are uncorrelated, at shorter ones alike from step to step.
Where the target is now is carried in the last columns of theta.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from metalearn_env.family import HALF, Array, Evaluation, Kind, TaskFamily
from metalearn_env.moves import above, axes_of, below, further
from metalearn_env.pictures import Fit
from metalearn_env.ranges import Range, as_decades, as_range, decades, log_uniform, log_uniform_integer
from metalearn_env.tails import Tails, check_tails, unit_variance

LEAST, MOST, MOST_DECADES = 1e-9, 1e9, 100.0


class TrackingTask(NamedTuple):
    """n targets and what is seen of them; entries beyond a target's own dimension are zero."""

    first: Array  # (n, d) the target at the start
    walk: Array  # (n, horizon + 1, d) w
    noise: Array  # (n, horizon + 1, d) v
    drift: Array  # (n,) q
    distance: Array  # (n,) the variance of the first target over that of v
    deviation: Array  # (n,) the root of the variance of v
    descriptor: Array  # (n, k)


@final
@dataclass(frozen=True, eq=False, kw_only=True)
class Tracking(TaskFamily[TrackingTask]):
    """Estimates that follow random walks of random dimension, drift and scale.

    Args:
        dimension: of the target.
        drift: variance of a step of the target over that of the noise with which it is seen, q.
        distance: variance of the first target around the first estimate, zero, over that of the noise.
        tails: "normal", or "heavy", those of Student's t with 3 degrees of freedom; variances stay what they are.
        scale: lengths are multiplied by 10^U(-scale, scale); a pair (low, high) is of decades up or down.
        drift_told: whether the agent is told log10 q; else it has to find out, and the descriptor is zero.
        split: which stream of tasks.

    A range (low, high) is drawn from log-uniformly; a number is a range of one value. The loss is half the squared
    distance to where the target is now, the signal half the squared innovation; the natural step is 1. It is the way
    from the first estimate that asks for steps that change: where q is large it is short, and a constant does as well.

    Raises:
        ValueError: a value that cannot be honoured.
    """

    kind: ClassVar[Kind] = "supervised"
    descriptor_names: ClassVar[tuple[str, ...]] = ("log10_dimension", "log10_drift_if_told")

    dimension: Range = (8, 64)
    drift: Range = (1e-4, 1.0)
    distance: Range = (100.0, 1e6)
    tails: Tails = "normal"
    scale: Range = 3.0
    drift_told: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_tails(self.tails)
        self._ranges  # noqa: B018  (a bad value is found out here)
        if not isinstance(self.drift_told, bool):
            raise ValueError(f"drift_told is True or False, not {self.drift_told!r}")

    @cached_property
    def _ranges(self) -> dict[str, tuple[Any, Any]]:
        return {
            "dimension": as_range("dimension", self.dimension, minimum=1, integer=True),
            "drift": as_range("drift", self.drift, minimum=LEAST, maximum=MOST),
            "distance": as_range("distance", self.distance, minimum=LEAST, maximum=MOST),
            "scale": as_decades("scale", self.scale, most=MOST_DECADES),
        }

    def axes(self) -> dict[str, dict[str, Any]]:
        ranges = self._ranges
        return axes_of(
            dimension=above("dimension", ranges["dimension"], 2, 4),
            drift=above("drift", ranges["drift"], 1, 10, MOST),
            noise=below("drift", ranges["drift"], 0.1, LEAST) | below("distance", ranges["distance"], 0.1, LEAST),
            start=above("distance", ranges["distance"], 1, 100, MOST),
            scale=further(ranges["scale"], MOST_DECADES),
            heavy_tails={"tails": "heavy"} if self.tails == "normal" else {},
        )

    @property
    def num_parameters(self) -> int:
        return 2 * self.num_carried

    @property
    def num_carried(self) -> int:
        return int(self._ranges["dimension"][1])

    def sample(self, rng: np.random.Generator, n: int, horizon: int) -> TrackingTask:
        ranges, uniform, most = self._ranges, rng.random((4, n)), self.num_carried
        dimension = log_uniform_integer(uniform[0], *ranges["dimension"])
        drift, distance = log_uniform(uniform[1], *ranges["drift"]), log_uniform(uniform[2], *ranges["distance"])
        deviation = 10.0 ** decades(uniform[3], *ranges["scale"])
        there = (np.arange(most) < dimension[:, None]) * deviation[:, None]
        first = unit_variance(rng, self.tails, (n, most)) * there * np.sqrt(distance)[:, None]
        walk, noise = (unit_variance(rng, self.tails, (n, horizon + 1, most)) * there[:, None] for _ in range(2))
        walk *= np.sqrt(drift)[:, None, None]
        descriptor = np.stack([np.log10(dimension), np.log10(drift) * self.drift_told], axis=1)
        return TrackingTask(first, walk, noise, drift, distance, deviation, descriptor)

    def start(self, task: TrackingTask) -> Array:
        return np.concatenate([np.zeros_like(task.first), task.first], axis=1)

    def loss(self, task: TrackingTask, theta: Array) -> Array:
        distance = np.subtract(*np.split(theta, 2, axis=1))
        return HALF * np.vecdot(distance, distance)

    def signal(self, task: TrackingTask, theta: Array, t: NDArray[np.int64]) -> Array:
        return self.evaluate(task, theta, t).signal

    def direction(self, task: TrackingTask, theta: Array, t: NDArray[np.int64]) -> Array:
        return self.evaluate(task, theta, t).direction

    def evaluate(self, task: TrackingTask, theta: Array, t: NDArray[np.int64]) -> Evaluation:
        rows, (estimate, target) = np.arange(len(theta)), np.split(theta, 2, axis=1)
        distance, walk = target - estimate, task.walk[rows, t]
        innovation = distance + walk + task.noise[rows, t]
        signal, direction = HALF * np.vecdot(innovation, innovation), np.concatenate([innovation, walk], axis=1)
        return Evaluation(HALF * np.vecdot(distance, distance), signal, direction)

    def descriptor(self, task: TrackingTask) -> Array:
        return task.descriptor

    def reference_loss(self, task: TrackingTask) -> Array:
        return np.zeros(len(task.drift))

    def picture(self, task: TrackingTask, theta: Array, row: int) -> Fit:
        """Return the estimate, less the way that the target has come, beside where the target came from."""
        there = task.first[row] != 0.0
        best, (estimate, target) = task.first[row, there], theta[row].reshape(2, -1)[:, there]
        return Fit(best + estimate - target, best, ("the estimate, less the walk", "the first target"))
