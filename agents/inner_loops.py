"""Inner loops in torch, to train step sizes by the gradient through them.

Families are NumPy; here are the direction and the loss of each once more, in terms that can be differentiated, float64.
What is piecewise constant (which centre owns a point, which pair a trajectory visits) is asked of the family itself, at
the same iterate, and gradients flow through the rest: through the positions of centres and, where Q-learning takes a
maximum, through the value of the best action.

A family of one's own joins by ``@inner_loop.register``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatch
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from metalearn_env.clusters import ClusteringTask
from metalearn_env.designs import RegressionTask
from metalearn_env.engine import DIVERGED_AT, SMALLEST_GAP, Engine
from metalearn_env.families.clustering import Clustering
from metalearn_env.families.linear_regression import LinearRegression
from metalearn_env.families.q_learning import QLearning
from metalearn_env.families.tracking import Tracking, TrackingTask
from metalearn_env.family import Array, TaskFamily
from metalearn_env.kmeans import distances, ownership
from metalearn_env.processes import TabularTask

LEAK = 0.1  # part of the gradient that diverged learners keep


class InnerLoop(Protocol):
    """What a family says of n iterates, as tensors."""

    def loss(self, theta: Tensor) -> Tensor:
        """Return the exact loss, (n,)."""

    def direction(self, theta: Tensor, t: int) -> Tensor:
        """Return the direction at time t, (n, p)."""

    def signal(self, theta: Tensor, t: int, direction: Tensor) -> Tensor:
        """Return the loss that a learner sees at time t, (n,), where it has that direction."""


@singledispatch
def inner_loop(family: TaskFamily, task: Any) -> InnerLoop:
    """Return the inner loop of a family on n tasks.

    Raises:
        ValueError: there is none in torch.
    """
    known = ", ".join(cls.__name__ for cls in inner_loop.registry if cls is not object)
    raise ValueError(f"{type(family).__name__} has no inner loop in torch; these have: {known}")


def check_differentiable(family: TaskFamily) -> None:
    """Raise ``ValueError`` unless the family has an inner loop in torch."""
    if inner_loop.dispatch(type(family)) is inner_loop.dispatch(object):
        inner_loop(family, None)


#: the time, the signals (n,) and the directions (n, p) -> step sizes (n,)
Choice = Callable[[int, Tensor, Tensor], Tensor]


def final_log_gap(start: Engine, steps: Tensor | Choice) -> Tensor:
    """Return log(gap_T / gap_0), (n,), after steps from the start of n episodes, as `Engine.advance` takes them.

    The steps are given, (T, n), or chosen one by one, to the horizon.

    It is clipped as rewards are, and a learner that diverges stays where it is. The gradient of those that diverge is
    `LEAK` times what it would be without the clip: with none of it training may end where all diverge, and with all of
    it a schedule gives up more than it gains to save the last few tasks.
    """
    family, loop = start.family, inner_loop(start.family, start.task)
    scaled = torch.ones(start.theta.shape[1], dtype=torch.bool)
    scaled[family.num_parameters - family.num_carried :] = False
    theta, going = torch.tensor(start.theta), np.ones(len(start.theta), np.bool_)
    for t in range(int(start.horizon[0]) if callable(steps) else len(steps)):
        direction = loop.direction(theta, t)
        step_size = steps(t, loop.signal(theta, t, direction), direction) if callable(steps) else steps[t]
        moved = theta + torch.where(scaled, step_size[:, None], 1.0) * direction
        theta = torch.where(torch.from_numpy(going)[:, None], moved, theta)
        gap = family.loss(start.task, theta.detach().numpy()) - start.reference
        going = going & (gap / start.initial_gap <= DIVERGED_AT)
    ratio = (loop.loss(theta) - torch.from_numpy(start.reference)) / torch.from_numpy(start.initial_gap)
    log_ratio = ratio.nan_to_num(float(DIVERGED_AT)).clamp(min=float(SMALLEST_GAP)).log()
    clipped = log_ratio.clamp(max=float(np.log(DIVERGED_AT)))
    leak = LEAK * (log_ratio - clipped)
    return clipped + leak - leak.detach()


@dataclass(frozen=True)
class _Regression:
    """Full batch, or minibatches if there are inputs."""

    diagonal: Tensor  # (n, p)
    superdiagonal: Tensor  # (n, p - 1)
    optimum: Tensor  # (n, p)
    minimum: Tensor  # (n,)
    inputs: Tensor  # (n, horizon + 1, batch_size, p)
    targets: Tensor  # (n, horizon + 1, batch_size)

    def loss(self, theta: Tensor) -> Tensor:
        residual = self._residual(theta)
        return self.minimum + 0.5 * (residual * residual).sum(1)

    def direction(self, theta: Tensor, t: int) -> Tensor:
        if self.inputs.shape[1]:
            inputs = self.inputs[:, t]
            return (self._error(theta, t)[:, None, :] @ inputs)[:, 0] / inputs.shape[1]
        residual = self._residual(theta)
        return self.diagonal * residual + _shifted(self.superdiagonal * residual[:, :-1], 1, 0)

    def signal(self, theta: Tensor, t: int, direction: Tensor) -> Tensor:
        return 0.5 * self._error(theta, t).square().mean(1) if self.inputs.shape[1] else self.loss(theta)

    def _error(self, theta: Tensor, t: int) -> Tensor:
        return self.targets[:, t] - (self.inputs[:, t] @ theta[:, :, None])[:, :, 0]

    def _residual(self, theta: Tensor) -> Tensor:
        distance = self.optimum - theta
        return self.diagonal * distance + _shifted(self.superdiagonal * distance[:, 1:], 0, 1)


@inner_loop.register
def _(family: LinearRegression, task: RegressionTask) -> InnerLoop:
    arrays = (task.diagonal, task.superdiagonal, task.optimum, task.minimum, task.inputs, task.targets)
    return _Regression(*map(torch.from_numpy, arrays))


def _shifted(columns: Tensor, before: int, after: int) -> Tensor:
    return torch.nn.functional.pad(columns, (before, after))


@dataclass(frozen=True)
class _KMeans:
    task: ClusteringTask

    def loss(self, theta: Tensor) -> Tensor:
        return self._distortion(theta, self.task.points)

    def signal(self, theta: Tensor, t: int, direction: Tensor) -> Tensor:
        return self._distortion(theta, self._seen(t))

    def _distortion(self, theta: Tensor, points: Array) -> Tensor:
        distance = torch.from_numpy(points[..., :-2]) - self._owned(theta, points).mT @ self._centres(theta)
        return 0.5 * (distance * distance).sum((1, 2)) / points.shape[1]

    def _seen(self, t: int) -> Array:
        if not self.task.batches.shape[1]:
            return self.task.points
        return np.take_along_axis(self.task.points, self.task.batches[:, t, :, None].astype(np.int64), 1)

    def direction(self, theta: Tensor, t: int) -> Tensor:
        points = self._seen(t)
        own, centres = self._owned(theta, points), self._centres(theta)
        count = own.sum(2, keepdim=True)
        offset = own @ torch.from_numpy(points[..., :-2]) - count * centres
        return (offset / count.clamp(min=1.0)).reshape(theta.shape)

    def _centres(self, theta: Tensor) -> Tensor:
        return theta.reshape(*self.task.barrier.shape, -1)

    def _owned(self, theta: Tensor, points: Array) -> Tensor:
        """Return 1 where a point belongs to a centre and else 0, (n, k, m)."""
        centres = self._centres(theta).detach().numpy()
        return torch.from_numpy(ownership(*distances(points, centres, self.task.barrier, self.task.scatter)))


@inner_loop.register
def _(family: Clustering, task: ClusteringTask) -> InnerLoop:
    return _KMeans(task)


@dataclass(frozen=True)
class _QLearning:
    family: QLearning
    task: TabularTask

    def loss(self, theta: Tensor) -> Tensor:
        distance = theta[:, : self.task.optimum.shape[1]] - torch.from_numpy(self.task.optimum)
        return 0.5 * (distance * distance).sum(1) / torch.from_numpy(self.task.pairs)

    def direction(self, theta: Tensor, t: int) -> Tensor:
        times = np.full(len(theta), t)
        next_state, reward = self.family.transitions(self.task, times)
        p = reward.shape[1]
        value = self._values(theta[:, :p]).gather(1, torch.from_numpy(next_state.astype(np.int64)))
        error = torch.from_numpy(reward) + torch.from_numpy(self.task.discount)[:, None] * value - theta[:, :p]
        if not self.family.num_carried:
            return error
        visit = self.family.visit(self.task, theta.detach().numpy(), times)
        visited = torch.nn.functional.one_hot(torch.from_numpy(visit.pair), p)
        onward = torch.from_numpy((visit.next_state - visit.state).astype(np.float64))
        return torch.cat([error * visited, onward[:, None]], 1)

    def signal(self, theta: Tensor, t: int, direction: Tensor) -> Tensor:
        errors = direction[:, : self.task.optimum.shape[1]].square().sum(1)
        return 0.5 * (errors if self.family.num_carried else errors / torch.from_numpy(self.task.pairs))

    def _values(self, table: Tensor) -> Tensor:
        """Return the value of the best action of each state, and 0 for the end: (n, S + 1)."""
        by_action = table.reshape(len(table), -1, self.task.start.shape[1])
        there = torch.arange(by_action.shape[1]) < torch.from_numpy(self.task.actions)[:, None]
        best = by_action.masked_fill(~there[:, :, None], -torch.inf).amax(1)
        return _shifted(best, 0, 1)


@inner_loop.register
def _(family: QLearning, task: TabularTask) -> InnerLoop:
    return _QLearning(family, task)


@dataclass(frozen=True)
class _Tracking:
    walk: Tensor  # (n, horizon + 1, d)
    noise: Tensor  # (n, horizon + 1, d)

    def loss(self, theta: Tensor) -> Tensor:
        estimate, target = theta.chunk(2, dim=1)
        return 0.5 * (target - estimate).square().sum(1)

    def direction(self, theta: Tensor, t: int) -> Tensor:
        estimate, target = theta.chunk(2, dim=1)
        return torch.cat([target - estimate + self.walk[:, t] + self.noise[:, t], self.walk[:, t]], 1)

    def signal(self, theta: Tensor, t: int, direction: Tensor) -> Tensor:
        return 0.5 * direction.chunk(2, dim=1)[0].square().sum(1)


@inner_loop.register
def _(family: Tracking, task: TrackingTask) -> InnerLoop:
    return _Tracking(torch.from_numpy(task.walk), torch.from_numpy(task.noise))
