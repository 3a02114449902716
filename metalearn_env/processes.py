"""Where decision processes come from: random ones (Garnets), and one given process in many guises.

All that happens in an inner run is drawn beforehand: for every step and every pair (state, action) the next state and
the noise of the reward. They are bytes, thousands an episode, so drawing them has to be cheap: a byte of noise stands
for one of 256 equally likely levels of a normal law, and the branches of a Garnet are chosen by bytes, too.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from math import prod
from statistics import NormalDist
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from metalearn_env.decision_process import DecisionProcess
from metalearn_env.family import Array
from metalearn_env.markov import Processes, best_values, optimal_q_values, state_type
from metalearn_env.ranges import log_uniform, log_uniform_integer

Bytes = NDArray[np.uint8]
Integers = NDArray[np.int64]

# Of a standard normal law in steps of 1/43, so that they fit into signed bytes.
NOISE_LEVELS = np.array([round(43.0 * NormalDist().inv_cdf((i + 0.5) / 256)) for i in range(256)], np.int8)
_LEVELS = NOISE_LEVELS.tobytes()
NOISE_SPREAD = float(NOISE_LEVELS.std(dtype=np.float64))
DISCOUNTS = 33  # of a given process, so that its optimum is worked out so many times at most
AT_ONCE = 16  # tasks whose transitions are worked out at once: the temporary arrays of more would leave the cache


class TabularTask(NamedTuple):
    """n processes and all that happens in them; tables are as in `metalearn_env.markov`, with S the end.

    What is the same at all steps has one step; what there is no need of has none.
    """

    successors: NDArray[Any]  # (n, branches, p)
    probabilities: NDArray[Any]  # (n, branches, p)
    reward: Array  # (n, p) expected
    discount: Array  # (n,)
    actions: Integers  # (n,)
    pairs: Array  # (n,) how many pairs are real: their states can be reached, and their actions are there
    start: Array  # (n, S) probabilities of the first state
    optimum: Array  # (n, p) Q*, zero where a pair is not real
    optimal_value: Array  # (n,) its value, the mean over first states
    descriptor: Array  # (n, k)
    noise_unit: Array  # (n,) what one unit of the noise is worth
    noise: NDArray[np.int8]  # (n, horizon + 1 | 1, p)
    next_state: NDArray[Any]  # (n, horizon + 1 | 1, p)
    branch: Bytes  # (n, horizon + 1 | 0, p) which branch it was, where rewards depend on it
    branch_reward: Array  # (n, branches | 0, p)
    explores: NDArray[np.bool_]  # (n, horizon + 1 | 0) whether the action of a trajectory is random
    turn: NDArray[np.int16]  # (n, horizon + 1 | 0) that action; of a greedy one, which is the first of equally good
    restart: NDArray[np.int16]  # (n, horizon + 2 | 0) where a trajectory starts, and where it starts anew

    @property
    def processes(self) -> Processes:
        return Processes(self.successors, self.probabilities, self.reward, self.discount, self.actions)


class CommonDraw(NamedTuple):
    """The random numbers that n processes of any law need."""

    discount: Array  # (n,) uniform
    noise: Array  # (n,) standard deviation of a reward's noise / root mean square of the rewards
    objective: Array  # (n,) what the rewards are multiplied by
    epsilon: Array  # (n,)
    levels: NDArray[np.int8]  # (n, steps, p) noise
    explores: NDArray[np.bool_]  # (n, steps)
    turn: Array  # (n, steps) uniform
    restart: Array  # (n, steps + 1) uniform


@dataclass(frozen=True, eq=False, kw_only=True)
class ProcessLaw(abc.ABC):
    """A law of processes. Ranges are (low, high); ``epsilon`` is None where there are no trajectories."""

    discount: tuple[float, float]
    noise: tuple[float, float]
    scale: float
    epsilon: tuple[float, float] | None

    @property
    @abc.abstractmethod
    def num_states(self) -> int: ...

    @property
    @abc.abstractmethod
    def num_actions(self) -> int: ...

    @property
    def fewest_actions(self) -> int:
        return self.num_actions

    @property
    def num_pairs(self) -> int:
        return self.num_states * self.num_actions

    @abc.abstractmethod
    def draw(self, rng: np.random.Generator, n: int, horizon: int) -> Any:
        """Draw the random numbers of n processes: a NamedTuple of arrays with leading axis n."""

    @abc.abstractmethod
    def build(self, draw: Any) -> TabularTask:
        """Turn random numbers into processes."""

    def _common(self, rng: np.random.Generator, n: int, steps: int) -> CommonDraw:
        uniform = rng.random((4, n))
        epsilon = np.zeros(n) if self.epsilon is None else log_uniform(uniform[3], *self.epsilon)
        moves = 0 if self.epsilon is None else steps
        shape = (n, steps if self.noise[1] else 1, self.num_pairs)
        return CommonDraw(
            discount=uniform[0],
            noise=log_uniform(uniform[1], *self.noise),
            objective=10.0 ** (self.scale * (2.0 * uniform[2] - 1.0)),
            epsilon=epsilon,
            levels=np.frombuffer(_random_bytes(rng, *shape).tobytes().translate(_LEVELS), np.int8).reshape(shape),
            explores=rng.random((n, moves)) < epsilon[:, None],
            turn=rng.random((n, moves)),
            restart=rng.random((n, moves + 1 if moves else 0)),
        )

    def _solved(self, task: TabularTask, optimum: Array) -> TabularTask:
        value = np.vecdot(task.start, best_values(optimum, task.actions, self.num_states))
        return task._replace(optimum=optimum, optimal_value=value)

    def _log_discounts(self, position: Array) -> Array:
        """Return discounts, evenly spread in log(1 - gamma), at positions in [0, 1]."""
        low, high = self.discount
        return 1.0 - log_uniform(position, 1.0 - low, 1.0 - high)

    def _descriptor(self, states: Integers, actions: Integers, discount: Array, epsilon: Array) -> Array:
        synchronous = np.full(len(discount), float(self.epsilon is None))
        columns = [np.log10(states), np.log10(actions), -np.log10(1.0 - discount), synchronous, epsilon]
        return np.stack(columns, axis=1)


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
            cuts=_random_bytes(rng, n, branches - 1, p),
            rewards=rng.standard_normal((n, p)) * has_reward,
            outcomes=_random_bytes(rng, n, horizon + 1 if branches > 1 else 1, p),
        )

    def build(self, draw: GarnetDraw) -> TabularTask:
        n, p = draw.rewards.shape
        states, actions = draw.states[:, None], draw.actions[:, None]
        real = (np.arange(p) % self.num_states < states) & (np.arange(p) // self.num_states < actions)
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
            noise_unit=draw.noise * draw.objective * unit / NOISE_SPREAD,
            noise=noise,
            next_state=_choose(draw.outcomes, cuts, successors),
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


class GivenDraw(NamedTuple):
    """The random numbers of n guises of a process, those of `CommonDraw` first."""

    discount: Array
    noise: Array
    objective: Array
    epsilon: Array
    levels: NDArray[np.int8]
    explores: NDArray[np.bool_]
    turn: Array
    restart: Array
    outcomes: Array  # (n, steps | 1, p) uniform


@final
@dataclass(frozen=True, eq=False, kw_only=True)
class GivenProcess(ProcessLaw):
    """One process with random discount, noise and scale. Its discounts are evenly spaced in log(1 - gamma)."""

    process: DecisionProcess

    @property
    def num_states(self) -> int:
        return len(self.process.start)

    @property
    def num_actions(self) -> int:
        return self.process.rewards.shape[1] // self.num_states

    def draw(self, rng: np.random.Generator, n: int, horizon: int) -> GivenDraw:
        branches, p = self.process.rewards.shape
        common = self._common(rng, n, horizon + 1)
        return GivenDraw(*common, outcomes=rng.random((n, horizon + 1 if branches > 1 else 1, p)))

    def build(self, draw: GivenDraw) -> TabularTask:
        n, process = len(draw.discount), self.process
        discount, optimum = self._discounts(draw.discount)
        states, actions = np.full(n, process.real.sum()), np.full(n, self.num_actions)
        pairs = (states * actions).astype(np.float64)
        unit = np.sqrt(np.vecdot(process.reward, process.reward) / pairs)
        real = np.tile(process.real, self.num_actions)
        cuts = np.cumsum(process.probabilities, axis=0)[:-1]
        branch = _choose(draw.outcomes, cuts[None], np.arange(len(process.rewards), dtype=np.uint8)[None, :, None])
        objective = draw.objective[:, None]
        rewards = process.rewards if process.outcomes_matter else process.rewards[:0]
        task = TabularTask(
            successors=_repeated(process.successors, n),
            probabilities=_repeated(process.probabilities, n),
            reward=process.reward * objective,
            discount=discount,
            actions=actions,
            pairs=pairs,
            start=_repeated(process.start, n),
            optimum=optimum,  # for the moment
            optimal_value=discount,  # for the moment
            descriptor=self._descriptor(states, actions, discount, draw.epsilon),
            noise_unit=draw.noise * draw.objective * unit / NOISE_SPREAD,
            noise=draw.levels * real,
            next_state=_choose(draw.outcomes, cuts[None], process.successors[None]),
            branch=branch if process.outcomes_matter else branch[:, :0],
            branch_reward=_repeated(rewards, n) * objective[:, :, None],
            explores=draw.explores,
            turn=(draw.turn * self.num_actions).astype(np.int16),
            restart=np.searchsorted(np.cumsum(process.start)[:-1], draw.restart, side="right").astype(np.int16),
        )
        return self._solved(task, optimum * objective)

    def _discounts(self, uniform: Array) -> tuple[Array, Array]:
        """Return discounts (n,) and the optima (n, p) that belong to them."""
        low, high = self.discount
        levels = DISCOUNTS if high > low else 1
        level = (uniform * levels).astype(np.int64)
        discount = self._log_discounts(level / max(levels - 1, 1))
        for index in set(level.tolist()) - self._optima.keys():
            one = self._log_discounts(np.array([index / max(levels - 1, 1)]))
            self._optima[index] = self.process.q_values(one)[0]
        return discount, np.stack([self._optima[index] for index in level.tolist()])

    @cached_property
    def _optima(self) -> dict[int, Array]:
        return {}


def _random_bytes(rng: np.random.Generator, *shape: int) -> Bytes:
    words = rng.integers(2**64 - 1, endpoint=True, size=-(-prod(shape) // 8), dtype=np.uint64)
    return words.astype("<u8", copy=False).view(np.uint8)[: prod(shape)].reshape(shape)


def _probabilities(cuts: Bytes) -> NDArray[np.float32]:
    """Return those of the branches, (n, branches, p), from the last byte of each but the last."""
    n, others, p = cuts.shape
    probabilities = np.full((n, others + 1, p), 1.0, np.float32)
    np.multiply(cuts + np.float32(1.0), np.float32(1.0 / 256.0), out=probabilities[:, :-1])
    probabilities[:, 1:] -= probabilities[:, :-1].copy()
    return probabilities


def _choose(outcomes: NDArray[Any], cuts: NDArray[Any], options: NDArray[Any]) -> NDArray[Any]:
    """Return for every outcome (n, steps, p) the option (n | 1, branches, p | 1) between whose cuts it lies.

    Options are whole numbers, and cuts (n | 1, branches - 1, p) ascend: the choice is the exclusive or of all steps
    from one option to the next that are passed, which takes no look-up.
    """
    n, steps, p = outcomes.shape
    options = np.broadcast_to(options, (n, options.shape[1], p))
    cuts = np.broadcast_to(cuts, (n, *cuts.shape[1:]))
    chosen = np.repeat(options[:, :1], steps, axis=1)
    changes = options[:, 1:] ^ options[:, :-1]
    passed = np.empty((min(n, AT_ONCE), steps, p), np.uint8)
    change = np.empty(passed.shape, chosen.dtype)
    for first in range(0, n, AT_ONCE):
        rows = slice(first, min(n, first + AT_ONCE))
        part = slice(rows.stop - first)
        for k in range(changes.shape[1]):
            np.greater(outcomes[rows], cuts[rows, k, None, :], out=passed[part].view(np.bool_))
            np.multiply(passed[part], changes[rows, k, None, :], out=change[part])
            chosen[rows] ^= change[part]
    return chosen


def _repeated(array: NDArray[Any], n: int) -> NDArray[Any]:
    return np.repeat(array[None], n, axis=0)
