"""What a policy is told of somebody's network, as the family NeuralNetwork tells it of its own.

>>> told = describe_model([(3, 8), (8, 2)], parameters=42, optimizer="adam", batch_size=10, told={"relu": 1.0})
>>> [round(value, 2) for value in told]
[0.48, 1.62, 1.0, 0.3, 0.1, 1.0, 0.0, 1.0]
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from metalearn_env.descents import OPTIMIZERS
from metalearn_env.families.neural_network import NeuralNetwork
from metalearn_env.ranges import as_integer


def describe_model(
    matrices: Sequence[tuple[int, int]],
    *,
    parameters: int,
    optimizer: str,
    batch_size: int | None,
    told: Mapping[str, float],
) -> list[float]:
    """Return the descriptor of a chain of layers.

    Args:
        matrices: inputs and outputs of each layer's matrix, the first layer first.
        parameters: how many there are, all told.
        optimizer: the one of "sgd", "momentum", "adam" that is the most like it.
        batch_size: examples of a minibatch; None: all, or very many.
        told: values, by the names of `NeuralNetwork.descriptor_names`, in place of these.

    Raises:
        ValueError: a name that is not known, a batch size that is no whole number above 0.
    """
    values = {
        "log10_dimension": math.log10(max(1, matrices[0][0])) if matrices else 0.0,
        "log10_parameters": math.log10(max(1, parameters)),
        "hidden_layers": max(0, len(matrices) - 1),
        "log10_classes": math.log10(max(1, matrices[-1][1])) if matrices else 0.0,
        "inverse_batch_size": 0.0 if batch_size is None else 1.0 / as_integer("batch_size", batch_size, minimum=1),
        "relu": 0.0,
        "gelu": 0.0,
        "optimizer": OPTIMIZERS.index(optimizer) / (len(OPTIMIZERS) - 1),
    }
    for name in told:
        if name not in values:
            raise ValueError(f"descriptor has the names {', '.join(values)}, not {name!r}")
    return [float({**values, **told}[name]) for name in NeuralNetwork.descriptor_names]
