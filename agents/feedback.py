"""Policies with feedback in torch, so that the gradient through a whole inner run trains them.

What a policy observes after a step depends on the step, and the gradient flows through that, too. The arithmetic is
that of `metalearn_env.observations.Observer` and of relative actions once more, in terms that can be differentiated.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.inner_loops import final_log_gap
from metalearn_env.actions import RANGE, RELATIVE_DECADES
from metalearn_env.engine import Engine, scaled_columns
from metalearn_env.family import TINY
from metalearn_env.observations import (
    NUM_LEVELS,
    NUM_STATIC,
    PER_DECADE,
    STEP_FEATURES,
    Observer,
    bounds,
    feature_names,
)
from metalearn_env.policy import Policy

LEAST = float(TINY)
PROGRESS = feature_names(0).index("progress")
LEAK = 0.01  # part of the gradient that actions beyond the box keep


class FeedbackMap(torch.nn.Module):
    """A perceptron with tanh units from the flat observation to a relative action.

    Args:
        history: inner steps in the observation.
        width: units of each of the two hidden layers.
        seed: of the first weights. The first actions are close to 0: steps that stay what they are.
        layers: weights and biases to begin with instead, as a policy file has them.
    """

    action = "relative"

    def __init__(
        self, history: int, *, width: int = 64, seed: int = 0, layers: Sequence[tuple[Any, Any]] | None = None
    ) -> None:
        super().__init__()
        self.history = history
        self.weights, self.biases = torch.nn.ParameterList(), torch.nn.ParameterList()
        for weight, bias in layers or _first_layers((len(feature_names(history)), width, width, 1), seed):
            self.weights.append(torch.tensor(np.asarray(weight, np.float64)))
            self.biases.append(torch.tensor(np.asarray(bias, np.float64)))

    def forward(self, observation: Tensor) -> Tensor:
        """Return actions (n,) for observations (n, columns)."""
        *hidden, last = zip(self.weights, self.biases, strict=True)
        for weight, bias in hidden:
            observation = torch.tanh(observation @ weight.T + bias)
        return (observation @ last[0].T + last[1])[:, 0]

    def gaps(self, start: Engine) -> Tensor:
        """Return log(gap_T / gap_0), (n,), of n episodes from their start, with a gradient."""
        view = _View(start, self.history)
        low, high = (torch.from_numpy(start.unit * factor) for factor in (1.0 / RANGE, RANGE))
        step = torch.from_numpy(start.step_size.copy())

        def choose(t: int, signal: Tensor, direction: Tensor) -> Tensor:
            nonlocal step
            action = self(view.observed(t, signal, direction, step))
            inside = action.clamp(-1.0, 1.0)
            factor = torch.exp(np.log(10.0) * RELATIVE_DECADES * (inside + LEAK * (action - inside)))
            step = torch.minimum(torch.maximum(step * factor, low), high)
            return step

        return final_log_gap(start, choose)

    def policy(self, header: dict[str, Any]) -> Policy:
        """Return the map as a policy, equal to it but for rounding."""
        layers = [
            (weight.detach().numpy().copy(), bias.detach().numpy().copy())
            for weight, bias in zip(self.weights, self.biases, strict=True)
        ]
        return Policy(tuple(layers), dict(header))


class _View:
    """What n learners show, step by step, from their start on."""

    def __init__(self, start: Engine, history: int) -> None:
        observer = Observer(len(start.t), history)
        observer.begin(start, np.arange(len(start.t)))
        columns = torch.from_numpy(observer.observation().astype(np.float64))
        self._static, self._past = columns[:, :NUM_STATIC], columns[:, NUM_STATIC + NUM_LEVELS :]
        limits = [torch.from_numpy(bound.astype(np.float64)[NUM_STATIC:]) for bound in bounds(1)]
        self._level_bound, self._low, self._high = limits[1][:NUM_LEVELS], *(limit[NUM_LEVELS:] for limit in limits)
        self._horizon, self._scaled = torch.from_numpy(start.horizon), scaled_columns(start.family)
        self._unit = torch.from_numpy(start.unit).log()

    def observed(self, t: int, signal: Tensor, direction: Tensor, step: Tensor) -> Tensor:
        """Return the observations, (n, columns), at time t, which the ``step`` has led to."""
        direction = direction[:, self._scaled]
        logs = [signal.clamp(min=LEAST).log(), step.log(), (direction.square().sum(1) + LEAST).log()]
        if t == 0:
            self._first = logs
        elif self._past.shape[1]:
            self._past = torch.cat([self._newest(logs, direction), self._past[:, : -len(STEP_FEATURES)]], 1)
        self._before, self._direction = logs, direction
        level = [logs[1] - self._unit, logs[0] - self._first[0], 0.5 * (logs[2] - self._first[2])]
        levels = (PER_DECADE * torch.stack(level, 1)).clamp(-self._level_bound, self._level_bound)
        progress = (t / self._horizon)[:, None]
        static = torch.cat([self._static[:, :PROGRESS], progress, self._static[:, PROGRESS + 1 :]], 1)
        return torch.cat([static, levels, self._past], 1)

    def _newest(self, logs: list[Tensor], direction: Tensor) -> Tensor:
        signal, step, square = (now - before for now, before in zip(logs, self._before, strict=True))
        projection = (direction * self._direction).sum(1) / self._before[2].exp()
        curvature = (1.0 - projection).clamp(min=LEAST).log()
        features = [signal, step, 0.5 * square, projection / (0.5 * square).exp(), curvature]
        return torch.minimum(torch.maximum(torch.stack(features, 1), self._low), self._high)


def _first_layers(sizes: Sequence[int], seed: int) -> list[tuple[Any, Any]]:
    rng, layers = np.random.default_rng(seed), []
    for inputs, outputs in pairwise(sizes):
        scale = 0.01 if outputs == sizes[-1] else 1.0
        layers.append((scale * rng.standard_normal((outputs, inputs)) / inputs**0.5, np.zeros(outputs)))
    return layers
