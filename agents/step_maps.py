r"""Maps without feedback, from what is known before an inner run to its step sizes, as one hidden layer of tanh units.

    log(step_t / unit) = table_t + W_2 tanh(W_1 x_t + b_1) + b_2

x_t are some columns of the observation (descriptors of the task, log10 of the horizon, progress t / T), and none of the
history. Either part may be left out: the table alone is an open-loop schedule, the network of the descriptors alone a
constant. As a policy file a table is hidden units, too, T of them, of progress alone: the i-th one changes from -1 to 1
between t = i - 1 and t = i, so steeply that it is one or the other at every t / T. Over any other horizon the table is
stretched.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metalearn_env.actions import ABSOLUTE_DECADES, SPREADS
from metalearn_env.engine import Engine
from metalearn_env.observations import Observer, feature_names
from metalearn_env.policy import Policy

PROGRESS = feature_names(0).index("progress")
STATIC = (*range(PROGRESS), feature_names(0).index("log10_horizon"))  # columns that are the same all the time
LOG_BOUND = ABSOLUTE_DECADES * np.log(10.0)  # of log(step / unit): absolute actions reach no further
STEEPNESS = 40.0  # tanh of half of it is 1 in float64


class StepMap(torch.nn.Module):
    """A map to log(step / unit) and, for random steps, to the action that is their spread.

    Args:
        horizon: inner steps, the entries of a table.
        columns: of the observation, those that the network reads.
        width: hidden units of the network; 0: there is no network.
        table: whether there is a table.
        random: whether steps are drawn, see `metalearn_env.actions`.
        log_multiple: log(step / unit) to begin with.
        seed: of the first weights; a table begins with deviations of ``scatter``, or equal entries would stay equal.
    """

    def __init__(
        self,
        horizon: int,
        *,
        columns: Sequence[int] = (),
        width: int = 0,
        table: bool = False,
        random: bool = False,
        log_multiple: float = 0.0,
        seed: int = 0,
        scatter: float = 0.3,
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.horizon, self.columns = horizon, list(columns) if width else []
        inputs, outputs = len(self.columns), 2 if random else 1
        first = torch.randn(width, inputs, generator=generator, dtype=torch.float64) / max(inputs, 1) ** 0.5
        self.weight = torch.nn.Parameter(first)
        self.bias = torch.nn.Parameter(torch.zeros(width, dtype=torch.float64))
        self.last_weight = torch.nn.Parameter(torch.zeros(outputs, width, dtype=torch.float64))
        self.last_bias = torch.nn.Parameter(torch.zeros(outputs, dtype=torch.float64))
        self.last_bias.data[0] = log_multiple
        entries = scatter * torch.randn(horizon, generator=generator, dtype=torch.float64)
        self.table = torch.nn.Parameter(entries) if table else None

    def forward(self, observations: Tensor) -> Tensor:
        """Return log(step / unit), and the action of the spread if there is one: (T, n, 1 | 2).

        Args:
            observations: (T, n, columns of the flat observation)
        """
        hidden = torch.tanh(observations[..., self.columns] @ self.weight.T + self.bias)
        output = hidden @ self.last_weight.T + self.last_bias
        location, spread = output[..., :1], output[..., 1:]
        if self.table is not None:
            location = location + self._table_at(observations[:, 0, PROGRESS])[:, None, None]
        return torch.cat([location.clamp(-LOG_BOUND, LOG_BOUND), spread.clamp(-1.0, 1.0)], -1)

    def _table_at(self, progress: Tensor) -> Tensor:
        """Return the table at some progress, (T,), by the hidden units that it is in a policy."""
        assert self.table is not None
        switches = torch.tanh(STEEPNESS * (self.horizon * progress[:, None] - torch.arange(self.horizon) + 0.5))
        halves = 0.5 * torch.diff(self.table, prepend=self.table[:1])
        return switches @ halves + 0.5 * (self.table[0] + self.table[-1])

    def step_sizes(self, observations: Tensor, unit: Tensor, noise: Tensor) -> Tensor:
        """Return step sizes (T, n) in the units (n,), drawn with uniform ``noise`` (T, n) if they are random."""
        output = self(observations)
        steps = unit * output[..., 0].exp()
        if output.shape[-1] == 1:
            return steps
        half_log_ratio = 0.25 * np.log(10.0) * SPREADS[-1] * (1.0 + output[..., 1])
        return steps / (1.0 + half_log_ratio.tanh() * (np.pi * noise).cos())

    def policy(self, header: dict[str, Any]) -> Policy:
        """Return the map as a policy of absolute actions, equal to it but for rounding."""
        width = len(header["feature_names"])
        weight = np.zeros((len(self.bias), width))
        weight[:, self.columns] = _array(self.weight)
        bias, last, last_bias = _array(self.bias), _array(self.last_weight), _array(self.last_bias)
        if self.table is not None:
            table, t = _array(self.table), np.arange(self.horizon)
            switches, halves = np.zeros((self.horizon, width)), np.zeros((len(last), self.horizon))
            switches[:, PROGRESS] = STEEPNESS * self.horizon
            halves[0] = 0.5 * np.diff(table, prepend=table[0])
            weight, bias = np.concatenate([weight, switches]), np.concatenate([bias, STEEPNESS * (0.5 - t)])
            last = np.concatenate([last, halves], axis=1)
            last_bias[0] += 0.5 * (table[0] + table[-1])
        last[0], last_bias[0] = last[0] / LOG_BOUND, last_bias[0] / LOG_BOUND
        return Policy(((weight, bias), (last, last_bias)), dict(header))


def observed(start: Engine, history: int) -> Tensor:
    """Return the observations, (T, n, columns), of n episodes as far as they are known at the start; history is 0."""
    n, horizon = len(start.t), int(start.horizon[0])
    observer = Observer(n, history)
    observer.begin(start, np.arange(n))
    columns = np.repeat(observer.observation()[None], horizon, axis=0)
    columns[..., PROGRESS] = (np.arange(horizon) / horizon)[:, None]
    return torch.from_numpy(columns.astype(np.float64))


def _array(parameter: Tensor) -> NDArray[np.float64]:
    array: NDArray[np.float64] = parameter.detach().numpy().copy()
    return array
