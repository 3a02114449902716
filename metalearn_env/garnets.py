"""Garnets: random decision processes (Archibald, McKinnon and Thomas, 1995)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from metalearn_env.family import Array
from metalearn_env.markov import optimal_q_values, state_type
from metalearn_env.processes import Bytes, Integers, ProcessLaw, TabularTask, choose, random_bytes
from metalearn_env.ranges import log_uniform, log_uniform_integer


class GarnetDraw(NamedTuple):
    """The random numbers of n Garnets, those of `CommonDraw` first."""

    discount: Array
    noise: Array
    objective: Array
    epsilon: Array
    levels: NDArray[np.int8]
    explores: NDArray[np.bool_]
    turn: Array
    restart: Array
    states: Integers  # (n,)
    actions: Integers  # (n,)
    branching: Integers  # (n,)
    successors: NDArray[np.float32]  # (n, branches, p) uniform
    cuts: Bytes  # (n, branches - 1, p)
    rewards: Array  # (n, p) standard normal, or zero
    outcomes: Bytes  # (n, steps, p)
    ends: NDArray[np.bool_]  # (n, branches | 0, p) which branches lead to the end


@final
@dataclass(frozen=True, eq=False, kw_only=True)
class Garnet(ProcessLaw):
    """Random processes (Archibald, McKinnon and Thomas, 1995): from each pair to a few states, all different.

    The unit interval is cut at random, into multiples of 1/256, to give the probabilities.
    """

    states: tuple[int, int]
    actions: tuple[int, int]
    branching: tuple[int, int]
    rewarded: tuple[float, float]  # the part of the pairs that have a reward
    ending: tuple[float, float]  # the part of the branches that lead to the end

    @property
    def num_states(self) -> int:
        return self.states[1]

    @property
    def num_actions(self) -> int:
        return self.actions[1]

    @property
    def fewest_actions(self) -> int:
        return self.actions[0]

    def draw(self, rng: np.random.Generator, n: int, horizon: int) -> GarnetDraw:
        p, branches = self.num_pairs, self.branching[1]
        common = self._common(rng, n, horizon + 1)
        uniform = rng.random((4, n))
        has_reward = rng.random((n, p)) < log_uniform(uniform[3], *self.rewarded)[:, None]
        has_reward[:, 0] = True  # not all of them are zero
        return GarnetDraw(
            *common,
            states=log_uniform_integer(uniform[0], *self.states),
            actions=log_uniform_integer(uniform[1], *self.actions),
            branching=log_uniform_integer(uniform[2], *self.branching),
            successors=rng.random((n, branches, p), np.float32),
            cuts=random_bytes(rng, n, branches - 1, p),
            rewards=rng.standard_normal((n, p)) * has_reward,
            outcomes=random_bytes(rng, n, horizon + 1 if branches > 1 else 1, p),
            ends=self._ends(rng, n),
        )

    def _ends(self, rng: np.random.Generator, n: int) -> NDArray[np.bool_]:
        if not self.ending[1]:
            return np.zeros((n, 0, self.num_pairs), np.bool_)
        part = log_uniform(rng.random(n), *self.ending)[:, None, None]
        return rng.random((n, self.branching[1], self.num_pairs), np.float32) < part

    def real_pairs(self, task: TabularTask) -> NDArray[np.bool_]:
        return self._real(np.rint(task.pairs / task.actions), task.actions)

    def _real(self, states: NDArray[Any], actions: NDArray[Any]) -> NDArray[np.bool_]:
        """Return which pairs, (n, p), there are of so many states and actions, (n,)."""
        pair = np.arange(self.num_pairs)
        real: NDArray[np.bool_] = (pair % self.num_states < states[:, None]) & (
            pair // self.num_states < actions[:, None]
        )
        return real

    def build(self, draw: GarnetDraw) -> TabularTask:
        n, p = draw.rewards.shape
        states, actions = draw.states[:, None], draw.actions[:, None]
        real = self._real(draw.states, draw.actions)
        reward, noise = draw.rewards * real, draw.levels
        successors, cuts = self._successors(draw, real), self._cuts(draw)
        pairs = (draw.states * draw.actions).astype(np.float64)
        unit = np.sqrt(np.vecdot(reward, reward) / pairs)
        discount = self._log_discounts(draw.discount)
        if not real.all():
            noise = noise * real[:, None, :]
        task = TabularTask(
            successors=successors,
            probabilities=_probabilities(cuts),
            reward=reward * draw.objective[:, None],
            discount=discount,
            actions=draw.actions,
            pairs=pairs,
            start=(np.arange(self.num_states) < states) / states,
            optimum=reward,  # for the moment
            optimal_value=unit,  # for the moment
            descriptor=self._descriptor(draw.states, draw.actions, discount, draw.epsilon),
            noise_unit=draw.noise * draw.objective * unit / self.noise_levels.spread,
            noise=noise,
            next_state=choose(draw.outcomes, cuts, successors),
            branch=np.zeros((n, 0, p), np.uint8),
            branch_reward=np.zeros((n, 0, p)),
            explores=draw.explores,
            turn=(draw.turn * actions).astype(np.int16),
            restart=(draw.restart * states).astype(np.int16),
        )
        return self._solved(task, optimal_q_values(task.processes, self.num_states))

    def _successors(self, draw: GarnetDraw, real: NDArray[np.bool_]) -> NDArray[Any]:
        """Return distinct states of each pair, (n, branches, p), by Floyd's method; the end where it is not real."""
        branches = range(draw.successors.shape[1])
        successors = np.empty(draw.successors.shape, state_type(self.num_states))
        for k in branches:
            last = np.minimum(draw.states - draw.branching + k, draw.states - 1).astype(np.float32)[:, None]
            pick = np.minimum(draw.successors[:, k] * (last + np.float32(1.0)), last).astype(successors.dtype)
            taken = (successors[:, :k] == pick[:, None, :]).any(axis=1)
            successors[:, k] = np.where(taken, last.astype(successors.dtype), pick)
        if draw.ends.shape[1]:
            np.copyto(successors, self.num_states, where=draw.ends)
        if not real.all():
            np.copyto(successors, self.num_states, where=~real[:, None, :])
        return successors

    def _cuts(self, draw: GarnetDraw) -> Bytes:
        """Return the last byte of every branch but the last, (n, branches - 1, p), in order."""
        cuts = draw.cuts.copy()
        for k in range(cuts.shape[1]):
            np.copyto(cuts[:, k], 255, where=(k >= draw.branching - 1)[:, None])
        for low, high in combinations(range(cuts.shape[1]), 2):
            smaller = np.minimum(cuts[:, low], cuts[:, high])
            np.maximum(cuts[:, low], cuts[:, high], out=cuts[:, high])
            cuts[:, low] = smaller
        return cuts


def _probabilities(cuts: Bytes) -> NDArray[np.float32]:
    """Return those of the branches, (n, branches, p), from the last byte of each but the last."""
    n, others, p = cuts.shape
    probabilities = np.full((n, others + 1, p), 1.0, np.float32)
    np.multiply(cuts + np.float32(1.0), np.float32(1.0 / 256.0), out=probabilities[:, :-1])
    probabilities[:, 1:] -= probabilities[:, :-1].copy()
    return probabilities
