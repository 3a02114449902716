"""The contract of a task family: what an inner problem must answer so that an agent can choose its step sizes.

A family says in which *direction* an inner learner moves; the agent says *how far*:

    theta[i] += step_size[i] * direction[i]          i = 1..n tasks, side by side

Every method works on a batch of n tasks at once. `sample` is the only one given a generator: the noise of a whole
episode (minibatches, environment draws) is part of the task, so all other methods are pure and row-wise, and the
state of an inner run is ``(task, theta, t)``. Out-of-tree families subclass `TaskFamily` and are used by name,
``gym.make(id, family="package.module:Class")`` or `metalearn_env.register_family`.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, NamedTuple, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from metalearn_env.pictures import Picture
from metalearn_env.splits import check_split

Array = NDArray[np.float64]
Kind = Literal["supervised", "unsupervised", "reinforcement"]
KINDS: tuple[str, ...] = get_args(Kind)
MAX_DESCRIPTORS = 8

# Zero-dimensional arrays: NumPy works with them twice as fast as with Python numbers.
TINY = np.array(np.finfo(np.float64).tiny)
HALF = np.array(0.5)
ONE = np.array(1.0)

TaskT = TypeVar("TaskT", bound=tuple[Any, ...])


class Evaluation(NamedTuple):
    """What a family says of n iterates."""

    loss: Array  # (n,) exact; what the reward measures
    signal: Array  # (n,) the loss a learner would really see
    direction: Array  # (n, p) where the learner moves, before the step size


@dataclass(frozen=True, eq=False, kw_only=True)
class TaskFamily(abc.ABC, Generic[TaskT]):
    """A distribution over inner problems. ``TaskT`` is a `NamedTuple` of arrays, each with leading axis n.

    Subclasses are final, frozen dataclasses whose keyword-only fields, with defaults, are their configuration.
    """

    kind: ClassVar[Kind]
    descriptor_names: ClassVar[tuple[str, ...]]
    final_info_names: ClassVar[tuple[str, ...]] = ()  # what `final_info` tells
    parameters_at_once: ClassVar[int] = 0  # n * p of large batches that are evaluated at a time; 0: as NumPy is fastest

    split: str = "train"

    def __post_init__(self) -> None:
        check_split(self.split)
        if self.kind not in KINDS:
            raise ValueError(f"kind is one of {', '.join(KINDS)}, not {self.kind!r}")
        if len(self.descriptor_names) > MAX_DESCRIPTORS:
            raise ValueError(f"descriptor_names has at most {MAX_DESCRIPTORS} names, not {len(self.descriptor_names)}")

    def axes(self) -> dict[str, dict[str, Any]]:
        """Return what lies beyond the configured ranges: for each axis of the split "ood", the options that lead there.

        An axis is one word or snake_case, and the same for all families where it means the same: dimension, noise, ...
        Its move is relative to what is configured and strictly beyond it, and of plain JSON; an axis along which there
        is nowhere to go is left out. `metalearn_env.families.beyond` makes the family of an axis. Default: none.
        """
        return {}

    @property
    @abc.abstractmethod
    def num_parameters(self) -> int:
        """The length p of theta, the same for every task of the family."""

    @property
    def num_carried(self) -> int:
        """The last so many columns of theta are state that is carried along, such as where a process stands.

        They move by their direction whatever the step size, and no norm or inner product sees them. Default: none.
        """
        return 0

    @abc.abstractmethod
    def sample(self, rng: np.random.Generator, n: int, horizon: int) -> Any:
        """Draw n tasks, each with the noise of its times t = 0, ..., horizon: a NamedTuple of arrays (n, ...).

        It may be the tasks themselves, or only their random numbers, which `complete` turns into tasks.
        """

    def complete(self, draw: Any) -> TaskT:
        """Turn what `sample` drew into tasks: costly algebra (optima, spectra), for many at once. Default: nothing."""
        return draw

    @abc.abstractmethod
    def start(self, task: TaskT) -> Array:
        """Return the first iterate, (n, p), as a new array."""

    @abc.abstractmethod
    def loss(self, task: TaskT, theta: Array) -> Array:
        """Return the exact loss, (n,)."""

    def signal(self, task: TaskT, theta: Array, t: NDArray[np.int64]) -> Array:
        """Return the loss that a learner would really see at times t, (n,). Default: the exact loss."""
        return self.loss(task, theta)

    @abc.abstractmethod
    def direction(self, task: TaskT, theta: Array, t: NDArray[np.int64]) -> Array:
        """Return the direction at times t, (n, p), as a new array. It need not be the gradient of anything."""

    def evaluate(self, task: TaskT, theta: Array, t: NDArray[np.int64]) -> Evaluation:
        """Return loss, signal and direction together. Override it where they share work; the values stay the same."""
        return Evaluation(self.loss(task, theta), self.signal(task, theta, t), self.direction(task, theta, t))

    @abc.abstractmethod
    def descriptor(self, task: TaskT) -> Array:
        """Return what an agent may know of the task, (n, k) with k = len(descriptor_names), each entry of order one."""

    def step_unit(self, task: TaskT, first: Evaluation) -> Array:
        """Return the natural step size of the task, (n,), from what is visible at t = 0. Default: 1."""
        return np.ones(len(first.loss))

    @abc.abstractmethod
    def reference_loss(self, task: TaskT) -> Array:
        """Return f*, the loss from which gaps are measured, (n,); the optimum where that is cheap."""

    def final_info(self, task: TaskT, theta: Array, rows: NDArray[np.int64]) -> dict[str, Array]:
        """Return what a user asks of learners that have ended, ``rows`` (k,) of n: a (k,) for each of the names."""
        return {}

    def picture(self, task: TaskT, theta: Array, row: int) -> Picture | None:
        """Return what the inner problem of one row looks like, one of `metalearn_env.pictures`. Default: nothing."""
        return None

    def _refuse(self, reason: str, *options: str) -> None:
        """Raise ``ValueError`` if one of ``options``, of which ``reason`` leaves no choice, is not its default."""
        for option in options:
            if _plain(getattr(self, option)) != _plain(getattr(type(self), option)):
                raise ValueError(f"{reason} leaves no choice of {option}: {getattr(self, option)!r} cannot be honoured")


def ratio_or_one(numerator: Array, denominator: Array) -> Array:
    """Return numerator / denominator, and 1 where the denominator is none above zero, (n,)."""
    return np.divide(numerator, denominator, out=np.ones_like(denominator), where=denominator > TINY)


def _plain(value: Any) -> Any:
    """Return a list as the tuple that it was before it went through JSON."""
    return tuple(value) if isinstance(value, list) else value
