"""Laws of decision processes: what random ones (`garnets`) and one that is given (`given_process`) have in common.

All that happens in an inner run is drawn beforehand: for every step and every pair (state, action) the next state and
the noise of the reward. They are bytes, thousands an episode, so drawing them has to be cheap: a byte of noise stands
for one of 256 equally likely levels of a law (`tails`), and the branches of a Garnet are chosen by bytes, too.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metalearn_env.family import Array
from metalearn_env.markov import Processes, best_values
from metalearn_env.pictures import Grid
from metalearn_env.ranges import decades, log_uniform
from metalearn_env.tails import NoiseLevels

Bytes = NDArray[np.uint8]
Integers = NDArray[np.int64]

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
    branch: NDArray[Any]  # (n, horizon + 1 | 0, p) which branch it was, where rewards depend on it
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
    noise_levels: NoiseLevels
    scale: tuple[float, float]
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

    @property
    def grid(self) -> Grid | None:
        """How the states lie in the plane; None if they do not."""
        return None

    @abc.abstractmethod
    def real_pairs(self, task: TabularTask) -> NDArray[np.bool_]:
        """Return which pairs are real, (n, p): their states can be reached, and their actions are there."""

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
            objective=10.0 ** decades(uniform[2], *self.scale),
            epsilon=epsilon,
            levels=self.noise_levels.at(random_bytes(rng, *shape)),
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
        return describe(states, actions, discount, epsilon, synchronous=self.epsilon is None)


def describe(states: Integers, actions: Integers, discount: Array, epsilon: Array, *, synchronous: bool) -> Array:
    """Return the descriptors, (n, 5), of processes; epsilon is 0 where there are no trajectories."""
    known = np.full(len(discount), float(synchronous))
    columns = [np.log10(states), np.log10(actions), -np.log10(1.0 - discount), known, epsilon]
    return np.stack(columns, axis=1)


def random_bytes(rng: np.random.Generator, *shape: int) -> Bytes:
    words = rng.integers(2**64 - 1, endpoint=True, size=-(-prod(shape) // 8), dtype=np.uint64)
    return words.astype("<u8", copy=False).view(np.uint8)[: prod(shape)].reshape(shape)


def choose(outcomes: NDArray[Any], cuts: NDArray[Any], options: NDArray[Any]) -> NDArray[Any]:
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
