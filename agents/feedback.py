"""Policies with feedback in torch, so that the gradient through a whole inner run trains them.

What a policy observes after a step depends on the step, and the gradient flows through that, too: the arithmetic is
that of `metalearn_env.observations.Observer` and of actions once more, in terms that can be differentiated. Or it takes
what was observed as given (`agents.slopes`), which is steadier and, on the environment's own arithmetic, faster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.evolution import evolved
from agents.inner_loops import final_log_gap
from agents.slopes import recorded, shortened, slopes
from agents.worth import Worth
from metalearn_env.actions import ABSOLUTE_DECADES, RANGE, RELATIVE_DECADES
from metalearn_env.engine import Engine, scaled_columns
from metalearn_env.family import TINY, Array
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
DECADES = {"relative": RELATIVE_DECADES, "absolute": ABSOLUTE_DECADES}
LEAK = 0.01  # part of the gradient that actions beyond the box keep


class FeedbackMap(torch.nn.Module):
    """A perceptron with tanh units from the flat observation to a relative or an absolute action.

    Args:
        history: inner steps in the observation.
        action: "relative" or "absolute", see `metalearn_env.actions`.
        width: units of each of the two hidden layers.
        seed: of the first weights. The first actions are close to 0: steps that stay what they are, or the unit.
        layers: weights and biases to begin with instead, as a policy file has them.
        decides: ``interval``, ``opening``, ``averaged`` and ``resolution``, if they are not as an environment has them
            by default; `gaps` are of a map for which they are.
    """

    def __init__(
        self,
        history: int,
        *,
        action: str = "relative",
        width: int = 64,
        seed: int = 0,
        layers: Sequence[tuple[Any, Any]] | None = None,
        decides: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.history, self.action, self.decides = history, action, dict(decides or {})
        self._decades = DECADES[action]
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
        low, high, unit = (torch.from_numpy(start.unit * factor) for factor in (1.0 / RANGE, RANGE, 1.0))
        step = torch.from_numpy(start.step_size.copy())

        def choose(t: int, signal: Tensor, direction: Tensor) -> Tensor:
            nonlocal step
            factor = self.log_factor(view.observed(t, signal, direction, step)).exp()
            step = torch.minimum(torch.maximum((step if self.action == "relative" else unit) * factor, low), high)
            return step

        return final_log_gap(start, choose)

    def log_factor(self, observation: Tensor) -> Tensor:
        """Return the logs, (n,), of what the last steps, or the units, are multiplied by."""
        action = self(observation)
        inside = action.clamp(-1.0, 1.0)
        return np.log(10.0) * self._decades * (inside + LEAK * (action - inside))

    def followed(self, start: Engine, worth: Worth) -> Array:
        """Add to the gradient of the weights that of the mean worth of final log gaps, observations taken as given.

        Args:
            start: n episodes at their start; they are run to the end.
            worth: of final log gaps (n,), to be made small: its values (n,) and its derivatives (n,).

        Returns:
            The values.
        """
        policy = self.policy(self.interface())
        run = recorded(policy, policy.header, start)
        value, slope = worth(run.log_gap)
        found = shortened(slopes(start, run)) * slope / len(slope)
        found = np.add.reduceat(found, run.decisions, axis=0)  # what is decided on is held
        if self.action == "relative":
            found = found[::-1].cumsum(axis=0)[::-1].copy()  # an action moves all later steps
        seen = torch.from_numpy(run.observations.reshape(found.size, -1).astype(np.float64))
        self.log_factor(seen).backward(torch.from_numpy(found.ravel()))
        return value

    def interface(self) -> dict[str, Any]:
        """Return what a driver has to know of the map as a policy."""
        return {
            "action": self.action,
            "strategy": "dynamic",
            "history": self.history,
            **self.decides,
            "feature_names": feature_names(self.history),
            "activation": "tanh",
            "output": "clip",
        }

    def evolve(self, start: Engine, worth: Worth, sigma: float, rng: np.random.Generator) -> None:
        """Add an estimate of the gradient of the mean worth of final log gaps, see `agents.evolution.evolved`."""
        layers = [(weight.astype(np.float32), bias.astype(np.float32)) for weight, bias in self._layers()]
        found = evolved(layers, self.interface(), start, worth, sigma, rng)
        for parameters, slopes_of in zip((self.weights, self.biases), zip(*found, strict=True), strict=True):
            for parameter, slope in zip(parameters, slopes_of, strict=True):
                added = torch.from_numpy(slope.astype(np.float64))
                parameter.grad = added if parameter.grad is None else parameter.grad + added

    def policy(self, header: dict[str, Any]) -> Policy:
        """Return the map as a policy, equal to it but for rounding."""
        return Policy(tuple(self._layers()), dict(header))

    def _layers(self) -> list[tuple[Array, Array]]:
        return [
            (weight.detach().numpy().copy(), bias.detach().numpy().copy())
            for weight, bias in zip(self.weights, self.biases, strict=True)
        ]


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
