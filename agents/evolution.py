r"""Evolution strategies: the gradient of a policy's weights from inner runs alone, whose arithmetic may be anything.

Every task meets two policies, theta + sigma e and theta - sigma e, from the same start and with the same noise. What
their final log gaps differ by is due to e alone, and

    E[(f(theta + sigma e) - f(theta - sigma e)) / (2 sigma) e]

is the gradient of f smoothed over sigma (Salimans et al. 2017): it exists where inner runs are chaotic and the gradient
through them is of no use. Each task has perturbations of its own. Those of weight matrices are of rank one, e = b a^T,
so that a whole batch of policies costs little more than one, since W x + sigma b (a . x) needs no matrix of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.worth import Worth
from metalearn_env.driving import driven
from metalearn_env.engine import Engine
from metalearn_env.family import TINY, Array
from metalearn_env.scoring import final_log_gap

MOST_DIFFERENCE = 3.0  # times the median: a larger difference of two runs says little, and loudly

Layer = tuple[NDArray[np.float32], NDArray[np.float32]]  # weight (out, in), bias (out,)


class Perturbation(NamedTuple):
    """What n policies' layer differs by from the common one: weights by b a^T, biases by c; times sigma."""

    a: NDArray[np.float32]  # (n, in)
    b: NDArray[np.float32]  # (n, out)
    c: NDArray[np.float32]  # (n, out)

    @classmethod
    def drawn(cls, layer: Layer, n: int, rng: np.random.Generator) -> Perturbation:
        out, into = layer[0].shape
        return cls(*(rng.standard_normal((n, size), np.float32) for size in (into, out, out)))


def evolved(
    layers: Sequence[Layer],
    header: Mapping[str, Any],
    start: Engine,
    worth: Worth,
    sigma: float,
    rng: np.random.Generator,
) -> list[tuple[Array, Array]]:
    """Return an estimate of the gradient of the mean worth of final log gaps, for weight and bias of each layer.

    Args:
        layers: of a perceptron with tanh units.
        header: what a `metalearn_env.driving.Driver` has to know of it.
        start: n episodes at their start; they are left there.
        worth: of final log gaps (n,), to be made small: its values come first.
        sigma: of the perturbations.
        rng: draws them.
    """
    n, horizon = len(start.t), int(start.horizon[0])
    perturbations = [Perturbation.drawn(layer, n, rng) for layer in layers]

    def value(signed: float) -> Array:
        act = _acting(layers, perturbations, np.float32(signed))
        return worth(final_log_gap(start.family, start.task, horizon, lambda engine: driven(act, header, engine)))[0]

    difference = value(sigma) - value(-sigma)
    most = MOST_DIFFERENCE * np.median(np.abs(difference)) + TINY
    slope = (np.clip(difference, -most, most) / (2.0 * sigma * n)).astype(np.float32)[:, None]
    return [((slope * b).T @ a, (slope * c).sum(axis=0)) for a, b, c in perturbations]


def _acting(
    layers: Sequence[Layer], perturbations: Sequence[Perturbation], sigma: np.float32
) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Return n perturbed policies, as one that acts on their n observations."""
    transposed = [
        (np.ascontiguousarray(weight.T), bias + sigma * c)
        for (weight, bias), (*_, c) in zip(layers, perturbations, strict=True)
    ]

    def act(observations: NDArray[Any]) -> NDArray[Any]:
        output, last = observations, len(layers) - 1
        for index, ((matrix, bias), (a, b, _)) in enumerate(zip(transposed, perturbations, strict=True)):
            along = sigma * np.vecdot(output, a)[:, None]
            output = output @ matrix + bias + along * b
            output = np.clip(output, -1.0, 1.0) if index == last else np.tanh(output, out=output)
        return output

    return act
