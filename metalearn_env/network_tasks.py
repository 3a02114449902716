"""Where the problems of networks come from: teachers of the same shape, or subsamples of data; and the first weights.

A teacher is a random network as wide, as deep and as curved as the learner, so that the learner can be the teacher.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from metalearn_env.family import Array
from metalearn_env.networks import Modules, Networks
from metalearn_env.perceptrons import ABSENT, ACTIVATIONS, CURVES, Layers, Shape, present
from metalearn_env.ranges import decades, log_uniform, log_uniform_integer
from metalearn_env.tails import unit_variance

GAIN = {"tanh": 1.0, "relu": 2.0**0.5, "gelu": 2.0**0.5}  # of first weights, over one by the root of a unit's inputs
TEACHER_GAIN, TEACHER_BIAS = 2.0, 0.5

Integers = NDArray[Any]


class NetworkTask(NamedTuple):
    """n problems of networks, their minibatches and first parameters. The first m of e examples are for training."""

    inputs: Array  # (n, e, d), or (n, 0, 0) where they are ``rows`` of a data set
    rows: Integers  # (n, e), or (n, 0)
    targets: NDArray[Any]  # (n, e) classes, or (n, e, q) numbers
    there: Array  # (n, hidden layers), and so on: a `Shape`; all (n, 0) of a user's own module
    units: Array  # (n, width)
    activation: Array  # (n, 5)
    missing: Array  # (n, outputs)
    objective: Array  # (n,) what the objective is multiplied by
    first: Array  # (n, p)
    descriptor: Array  # (n, 7)
    batches: Integers  # (n, horizon + 1, batch_size) which examples the minibatches hold; empty if a step sees all


class NetworkDraw(NamedTuple):
    """The random numbers of n problems of networks."""

    uniform: Array  # (n, 7)
    inputs: Array  # (n, e, d) of unit variance
    flipped: Array  # (n, 2, e) uniform: whether a label is a random one, and which
    weights: Array  # (n, p) standard normal: the learner's first ones
    teacher: Array  # (n, p) standard normal
    rows: Integers  # (n, e)
    seed: Integers  # (n,) of the first parameters of a user's own module
    batches: Integers  # (n, horizon + 1, batch_size)
    spreads: Array  # (n, 3) uniform


class Sizes(NamedTuple):
    """What n problems are drawn to be, (n,) each."""

    width: Integers
    depth: Integers
    dimension: Integers
    classes: Integers
    activation: Integers  # an index of `ACTIVATIONS`


class Initial(NamedTuple):
    """n networks as they are before they learn."""

    shape: Shape
    first: Array  # (n, p) parameters to begin with
    parameters: Array  # (n,) how many of them there are
    hidden_layers: Integers  # (n,)
    curved: Array  # (n, 2) whether units are relu, or gelu
    there: NDArray[np.bool_]  # (n, p) which parameters there are; as what follows (n, 0) of a user's own module
    scale: Array  # (n, p) of a teacher's weights, or the learner's, at a gain of 1


@final
@dataclass(frozen=True, eq=False, kw_only=True)
class NetworkLaw:
    """A law of networks and their problems. Ranges are (low, high); of ``batch_size`` 0 a step sees all examples."""

    networks: Networks
    layers: Layers  # of the perceptron; empty: the module is a user's own
    activations: tuple[str, ...]
    width: tuple[int, int]
    depth: tuple[int, int]
    dimension: tuple[int, int]
    classes: tuple[int, int]
    examples: int
    held_out: int
    monitored: int  # of the examples
    noise: tuple[float, float]
    tails: str
    decay: tuple[float, float]
    offset: tuple[float, float]
    gain: tuple[float, float]
    scale: tuple[float, float]
    batch_size: int
    data: Array | None = None  # (rows, ...)
    targets: NDArray[Any] | None = None  # (rows,) or (rows, q)

    def draw(self, rng: np.random.Generator, n: int, horizon: int) -> NetworkDraw:
        e, p = self.examples + self.held_out, self.networks.num_parameters
        steps = (horizon + 1, self.batch_size) if self.batch_size else (0, 0)
        batches = rng.integers(self.examples, size=(n, *steps)).astype(np.min_scalar_type(self.examples - 1))
        uniform = rng.random((n, 7))
        own = 0 if self.layers else 1
        seed = rng.integers(2**63, size=n) if own else np.zeros(n, np.int64)
        weights = rng.standard_normal((n, 0 if own else p))
        if self.data is not None:
            rows = np.stack([rng.choice(len(self.data), e, replace=False) for _ in range(n)])
            none, spreads = np.zeros((n, 0)), rng.random((n, 3))
            return NetworkDraw(uniform, none[:, :, None], none[:, None], weights, none, rows, seed, batches, spreads)
        inputs, flipped = unit_variance(rng, self.tails, (n, e, self.dimension[1])), rng.random((n, 2, e))
        teacher, none = rng.standard_normal((n, p)), np.zeros((n, 0), np.int64)
        return NetworkDraw(uniform, inputs, flipped, weights, teacher, none, seed, batches, rng.random((n, 3)))

    def build(self, draw: NetworkDraw) -> NetworkTask:
        sizes = self._sizes(draw)
        initial = self._perceptrons(draw, sizes) if self.layers else self._modules(draw)
        inputs, targets = self._examples(draw, sizes, initial)
        descriptor = [
            np.log10(sizes.dimension),
            np.log10(initial.parameters),
            initial.hidden_layers,
            np.log10(sizes.classes),
            np.full(len(inputs), 1.0 / self.batch_size if self.batch_size else 0.0),
            *initial.curved.T,
        ]
        return NetworkTask(
            inputs,
            draw.rows,
            targets,
            *initial.shape,
            objective=10.0 ** decades(draw.uniform[:, 5], *self.scale),
            first=initial.first,
            descriptor=np.stack(descriptor, axis=1).astype(np.float64),
            batches=draw.batches,
        )

    def examples_at(self, task: NetworkTask, which: Integers) -> tuple[Array, NDArray[Any]]:
        """Return inputs (n, b, ...) and targets (n, b, ...) of examples (n, b)."""
        row = np.arange(len(which))[:, None]
        targets = task.targets[row, which]
        if self.data is None:
            return task.inputs[row, which], targets
        return self.data[task.rows[row, which]], targets

    def _sizes(self, draw: NetworkDraw) -> Sizes:
        known = np.array([ACTIVATIONS.index(name) for name in self.activations])
        return Sizes(
            width=log_uniform_integer(draw.uniform[:, 0], *self.width),
            depth=log_uniform_integer(draw.uniform[:, 1], *self.depth),
            dimension=log_uniform_integer(draw.uniform[:, 2], *self.dimension),
            classes=log_uniform_integer(draw.uniform[:, 3], *self.classes),
            activation=known[(draw.uniform[:, 4] * len(known)).astype(np.int64)],
        )

    def _perceptrons(self, draw: NetworkDraw, sizes: Sizes) -> Initial:
        shape = Shape(
            (np.arange(self.depth[1]) < sizes.depth[:, None]).astype(np.float64),
            (np.arange(self.width[1]) < sizes.width[:, None]).astype(np.float64),
            CURVES[sizes.activation],
            np.where(np.arange(self.classes[1]) < sizes.classes[:, None], 0.0, ABSENT),
        )
        there, fans = present(self.layers, self._seen(sizes), shape)
        scale = there / np.sqrt(fans)
        gain = np.array([GAIN[name] for name in ACTIVATIONS])[sizes.activation]
        gain = gain * log_uniform(draw.spreads[:, 2], *self.gain)
        curved = np.stack([sizes.activation == index for index in (1, 2)], axis=1).astype(np.float64)
        first = draw.weights * scale * gain[:, None] * ~self._of_biases
        return Initial(shape, first, there.sum(axis=1), sizes.depth, curved, there, scale)

    def _modules(self, draw: NetworkDraw) -> Initial:
        assert isinstance(self.networks, Modules)
        n, none = len(draw.seed), np.zeros((len(draw.seed), 0))
        return Initial(
            Shape(*(none for _ in Shape._fields)),
            first=np.stack([self.networks.initial(int(seed)) for seed in draw.seed]),
            parameters=np.full(n, self.networks.num_parameters),
            hidden_layers=np.full(n, self.networks.matrices - 1),
            curved=np.zeros((n, 2)),
            there=none.astype(np.bool_),
            scale=none,
        )

    def _examples(self, draw: NetworkDraw, sizes: Sizes, initial: Initial) -> tuple[Array, NDArray[Any]]:
        """Return inputs, (n, e, d), or (n, 0, 0) where they are rows of a data set, and targets."""
        if self.data is not None:
            assert self.targets is not None
            return np.zeros((len(draw.uniform), 0, 0)), self.targets[draw.rows]
        inputs = self._spread(draw, self._seen(sizes))
        size = np.where(self._of_biases, TEACHER_BIAS * initial.there, TEACHER_GAIN * initial.scale)
        return inputs, self._taught(draw.teacher * size, inputs, initial.shape, sizes.classes, draw)

    def _seen(self, sizes: Sizes) -> NDArray[np.bool_]:
        """Return which coordinates of the inputs there are, (n, d)."""
        return np.asarray(np.arange(self.dimension[1]) < sizes.dimension[:, None])

    def _spread(self, draw: NetworkDraw, seen: NDArray[np.bool_]) -> Array:
        """Return the inputs, (n, e, d), whose mean variance over the coordinates that are seen is 1, off their mean."""
        decay, offset = (log_uniform(draw.spreads[:, index], *of) for index, of in enumerate((self.decay, self.offset)))
        variance = np.arange(1.0, seen.shape[1] + 1.0) ** -decay[:, None] * seen
        variance *= seen.sum(axis=1, keepdims=True) / variance.sum(axis=1, keepdims=True)
        inputs = np.sqrt(variance)[:, None, :] * (draw.inputs + offset[:, None, None])
        return np.asarray(inputs)

    def _taught(self, teacher: Array, inputs: Array, shape: Shape, classes: Integers, draw: NetworkDraw) -> Integers:
        """Return the classes, (n, e), whose scores are highest once each varies about 0 as much as the others."""
        scores = self.networks.outputs(teacher, inputs, shape)
        scores -= scores.mean(axis=1, keepdims=True)
        scores /= np.maximum(scores.std(axis=1, keepdims=True), 1e-6)
        decided = np.where(shape.missing[:, None, :] < 0.0, -np.inf, scores).argmax(axis=2)
        noise = log_uniform(draw.uniform[:, 6], *self.noise)[:, None]
        flip, which = draw.flipped.swapaxes(0, 1)
        return np.where(flip < noise, (which * classes[:, None]).astype(np.int64), decided)

    @cached_property
    def _of_biases(self) -> NDArray[np.bool_]:
        """Whether a parameter is a bias, (p,)."""
        parts = [np.repeat([False, True], [wide * high, high]) for wide, high in self.layers]
        return np.concatenate(parts)
