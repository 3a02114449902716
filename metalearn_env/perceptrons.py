"""Perceptrons of various shapes in a batch, behind masks; gradients by hand, as autograd takes several times as long.

All have as many layers, as wide, as the largest; units that a smaller one does not have are multiplied by 0, and layers
that it does not have are passed by. Activations are tanh, relu, and gelu as it is approximated by tanh, all of them

    alpha T + beta x (1 + T) + gamma max(x, 0)    with T = tanh(x (a + b x^2))
"""

from __future__ import annotations

from math import pi, sqrt
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from metalearn_env.family import Array
from metalearn_env.networks import Networks, back

ACTIVATIONS = ("tanh", "relu", "gelu")
CURVES = np.array(
    [[1.0, 0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 1.0, 1.0, 0.0], [0.0, 0.5, 0.0, sqrt(2.0 / pi), 0.044715 * sqrt(2.0 / pi)]]
)  # alpha, beta, gamma, a, b
ABSENT = -1e30  # the score of a class that there is not

Layers = tuple[tuple[int, int], ...]


class Shape(NamedTuple):
    """The shapes of n perceptrons."""

    there: Array  # (n, hidden layers) 1, or 0 where a network has fewer
    units: Array  # (n, width) 1, or 0 where a layer has fewer
    activation: Array  # (n, 5) of `CURVES`
    missing: Array  # (n, outputs) 0, or `ABSENT` where there are fewer classes


@final
class Perceptrons(Networks):
    """n perceptrons, whose losses are mean cross-entropies.

    Args:
        layers: the numbers of inputs and outputs of each, those of the hidden ones all of the same width.
        precision, device: see `Networks`.
    """

    def __init__(self, layers: Layers, precision: str, device: str) -> None:
        super().__init__(precision, device)
        self._layers = layers
        self.num_parameters = sum(wide * high + high for wide, high in layers)

    def outputs(self, theta: Array, inputs: Array, shape: tuple[Array, ...]) -> Array:
        with self.torch.no_grad():
            return back(self._forward(self._taken_apart(theta), self.real(inputs), self._placed(shape))[0])

    def losses(self, theta: Array, inputs: Array, targets: NDArray[Any], shape: tuple[Array, ...]) -> Array:
        with self.torch.no_grad():
            scores, _ = self._forward(self._taken_apart(theta), self.real(inputs), self._placed(shape))
            return back(self._losses(scores.log_softmax(2), self._labels(targets)))

    def losses_and_gradients(
        self, theta: Array, inputs: Array, targets: NDArray[Any], shape: tuple[Array, ...]
    ) -> tuple[Array, Array]:
        with self.torch.no_grad():
            parts, placed, labels = self._taken_apart(theta), self._placed(shape), self._labels(targets)
            scores, path = self._forward(parts, self.real(inputs), placed)
            logs = scores.log_softmax(2)
            error = logs.exp()
            error.scatter_add_(2, labels, error.new_full((1, 1, 1), -1.0).expand(labels.shape))
            error /= error.shape[1]
            return back(self._losses(logs, labels)), back(self._backward(parts, path, error, placed))

    def _forward(self, parts: Any, hidden: Any, shape: Any) -> tuple[Any, Any]:
        """Return the scores, (n, b, outputs), and what went into each layer and came out, with its curve."""
        there, units, (alpha, beta, gamma, a, b), missing = shape
        path: list[Any] = []
        for index, (weight, bias) in enumerate(parts[:-1]):
            x = self.torch.baddbmm(bias, hidden, weight.mT)
            squared = x * x
            curve = (x * (a + b * squared)).tanh()
            found = (curve * (alpha + beta * x) + beta * x + gamma * x.relu()) * units
            path.append((hidden, x, squared, curve))
            hidden = self.torch.where(there[index], found, hidden) if index else found
        weight, bias = parts[-1]
        path.append((hidden,))
        return self.torch.baddbmm(bias, hidden, weight.mT) + missing, path

    def _backward(self, parts: Any, path: Any, error: Any, shape: Any) -> Any:
        there, units, (alpha, beta, gamma, a, b), _ = shape
        slopes = [error.sum(1), (error.mT @ path[-1][0]).flatten(1)]
        change = error @ parts[-1][0]
        for index in reversed(range(len(path) - 1)):
            hidden, x, squared, curve = path[index]
            steep = (alpha + beta * x) * (1.0 - curve * curve) * (a + 3.0 * b * squared)
            inner = change * units * (steep + beta * (1.0 + curve) + gamma * (x > 0.0))
            if index:
                inner = self.torch.where(there[index], inner, 0.0)
            slopes += [inner.sum(1), (inner.mT @ hidden).flatten(1)]
            if index:
                change = self.torch.where(there[index], inner @ parts[index][0], change)
        return self.torch.cat(slopes[::-1], 1)

    def _losses(self, logs: Any, labels: Any) -> Any:
        return -logs.gather(2, labels)[:, :, 0].mean(1)

    def _taken_apart(self, theta: Array) -> list[Any]:
        """Return weights (n, high, wide) and biases (n, 1, high) of each layer."""
        flat, first, found = self.real(theta[:, : self.num_parameters]), 0, []
        for wide, high in self._layers:
            middle = first + wide * high
            weight = flat[:, first:middle].reshape(-1, high, wide)
            found.append((weight, flat[:, middle : middle + high].reshape(-1, 1, high)))
            first = middle + high
        return found

    def _placed(self, shape: tuple[Array, ...]) -> tuple[Any, ...]:
        there, units, activation, missing = map(self.real, shape)
        hidden = [column[:, None, None] > 0.0 for column in there.T]
        return hidden, units[:, None, :], [column[:, None, None] for column in activation.T], missing[:, None, :]

    def _labels(self, targets: NDArray[Any]) -> Any:
        return self.torch.tensor(targets, device=self.device).long()[:, :, None]


def present(layers: Layers, inputs: NDArray[np.bool_], shape: Shape) -> tuple[NDArray[np.bool_], Array]:
    """Return which parameters, (n, p), are there where inputs (n, d) are, and how many inputs their units have."""
    there, fans = [], []
    before, units, n = inputs, shape.units > 0.0, len(inputs)
    for index, (wide, high) in enumerate(layers):
        last = index == len(layers) - 1
        after = shape.missing == 0.0 if last else units
        exists = np.ones(n, np.bool_) if last else shape.there[:, index] > 0.0
        fan = np.maximum(before.sum(axis=1), 1)[:, None]
        weights = after[:, :, None] & before[:, None, :] & exists[:, None, None]
        there += [weights.reshape(n, wide * high), after & exists[:, None]]
        fans.append(np.broadcast_to(fan, (n, wide * high + high)))
        before = units
    return np.concatenate(there, axis=1), np.concatenate(fans, axis=1).astype(np.float64)
