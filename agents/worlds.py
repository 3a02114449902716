"""Decision processes that are known, as tabular learners meet them (`agents.tables`), with Q*."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from metalearn_env.decision_process import DecisionProcess
from metalearn_env.family import Array
from metalearn_env.processes import TabularTask, describe

Integers = NDArray[np.int64]


class World(NamedTuple):
    """A process, what a learner is told of it, and Q*. Pairs lie state by state; state S is the end."""

    successors: Integers  # (S, A, branches)
    cuts: Array  # (S, A, branches) cumulative probabilities
    rewards: Array  # (S, A, branches)
    start: Array  # (S,) cumulative probabilities of the first state
    real: NDArray[np.bool_]  # (S, A) pairs that can be met
    optimum: Array  # (S, A)
    discount: float
    epsilon: float
    noise: float  # standard deviation of that of rewards

    @property
    def entries(self) -> int:
        return self.real.size

    def explored(self, epsilon: float) -> World:
        """Return the same world with another part of random actions."""
        return self._replace(epsilon=epsilon)

    @property
    def descriptor(self) -> Array:
        states, actions = (np.array([size]) for size in self.real.shape)
        return describe(states, actions, np.array([self.discount]), np.array([self.epsilon]), synchronous=False)[0]


def world_of(process: DecisionProcess, discount: float, epsilon: float) -> World:
    """Return a process that is given as a world."""
    states = len(process.start)
    shape = (-1, process.rewards.shape[1] // states, states)
    successors, probabilities, rewards = (
        array.reshape(shape).transpose(2, 1, 0)
        for array in (process.successors.astype(np.int64), process.probabilities, process.rewards)
    )
    optimum = process.q_values(np.array([discount]))[0].reshape(shape[1:]).T
    real = np.repeat(process.real[:, None], shape[1], axis=1)
    known = (process.start.cumsum(), real, optimum, discount, epsilon, 0.0)
    return World(successors, probabilities.cumsum(axis=2), rewards, *known)


def garnet(task: TabularTask) -> World:
    """Return a process that `metalearn_env.families.q_learning` has drawn, (1, ...), as a world."""
    states = task.start.shape[1]
    shape = (-1, int(task.actions[0]), states)
    successors, probabilities = (
        np.asarray(array[0], np.float64).reshape(shape).transpose(2, 1, 0)
        for array in (task.successors, task.probabilities)
    )
    rewards, optimum = (array[0].reshape(shape[1:]).T for array in (task.reward, task.optimum))
    return World(
        successors.astype(np.int64),
        probabilities.cumsum(axis=2),
        np.repeat(rewards[:, :, None], successors.shape[2], axis=2),
        task.start[0].cumsum(),
        np.ones(rewards.shape, np.bool_),
        optimum,
        float(task.discount[0]),
        float(task.descriptor[0, 4]),
        float(task.noise_unit[0] * np.std(task.noise[0].astype(np.float64))),
    )
