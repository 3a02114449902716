"""Tabular Q-learning: the inner problem whose noise asks for ever smaller steps, and whose loss nobody sees.

The direction of a pair is its temporal-difference error, of every pair at once or of the one that a trajectory visits:

    d(s, a) = r + gamma max_b Q(s', b) - Q(s, a)

Its natural step is 1; averaging takes 1 / t. Tables are flat, action by action, as in `metalearn_env.markov`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal, NamedTuple, final, get_args

import numpy as np
from numpy.typing import NDArray

from metalearn_env.decision_process import DecisionProcess, from_arrays
from metalearn_env.family import HALF, Array, Evaluation, Kind, TaskFamily
from metalearn_env.garnets import Garnet
from metalearn_env.given_process import GivenProcess
from metalearn_env.gymnasium_processes import load_process
from metalearn_env.identity import TOLD_BY
from metalearn_env.markov import Processes, greedy_values
from metalearn_env.moves import above, axes_of, further
from metalearn_env.pictures import GridPolicy, ValueTable
from metalearn_env.processes import ProcessLaw, TabularTask
from metalearn_env.ranges import Range, as_decades, as_range, zero_or_range
from metalearn_env.tails import NOISE_LEVELS, Tails, check_tails

Sampling = Literal["synchronous", "trajectory"]
MOST_DECADES, MOST_NOISE = 100.0, 1e6
OF_GARNETS = ("states", "actions", "branching", "rewarded", "ending")


class Visit(NamedTuple):
    """The pairs that n trajectories are at."""

    pair: NDArray[np.int64]  # (n,)
    state: NDArray[np.int64]  # (n,)
    next_state: NDArray[np.int64]  # (n,) where the trajectory goes on
    error: Array  # (n,) the temporal-difference error


class Scratch(NamedTuple):
    """Memory for n rows."""

    value: Array  # (n, S + 1), the last one, the end's, zero
    first: NDArray[np.int64]  # (n, 1) where the values of a row begin
    entry: NDArray[np.int64]  # (n, p)
    target: Array  # (n, p)
    noise: Array  # (n, p)

    @classmethod
    def of(cls, n: int, states: int, p: int) -> Scratch:
        first = ((states + 1) * np.arange(n))[:, None]
        return cls(np.zeros((n, states + 1)), first, np.empty((n, p), np.int64), *np.empty((2, n, p)))


@final
@dataclass(frozen=True, eq=False, kw_only=True)
class QLearning(TaskFamily[TabularTask]):
    """Q-learning on Garnets, random processes of random discount, noise and scale, or on a process that is given.

    Args:
        sampling: "synchronous" (a step samples one transition of every pair) or "trajectory" (of one pair, along an
            epsilon-greedy trajectory on the current table; equally good actions take turns at random).
        states, actions, branching: of Garnets; branching is the number of states that a pair may lead to.
        rewarded: the part of their pairs that have a reward, standard normal; the others have none.
        ending: the part of their branches that lead to the end, which is worth 0, and from which a trajectory starts
            anew.
        discount: in [0, 1); 1 - discount is drawn log-uniformly.
        noise: standard deviation of a reward's noise, in units of the root mean square of the rewards.
        tails: of that noise: "normal", or "heavy", those of Student's t with 2 degrees of freedom. Either way it takes
            256 equally likely levels, and ``noise`` is the standard deviation of these.
        scale: rewards are multiplied by 10^U(-scale, scale); a pair (low, high) is of decades up or down.
        epsilon: part of the actions of a trajectory that are random.
        mdp: a Gymnasium id whose environment has a table ``P``, such as "FrozenLake-v1" or "Taxi-v4", or arrays
            (transitions (S, A, S), rewards (S, A) or (S, A, S)). Terminal states absorb.
        split: which stream of tasks.

    A range (low, high) is drawn from log-uniformly; a number is a range of one value. The loss is half the mean squared
    distance to Q* over the pairs that can be reached; the signal half the mean squared temporal-difference error.

    Raises:
        ValueError: a value that cannot be honoured, such as more branches than states.
    """

    kind: ClassVar[Kind] = "reinforcement"
    descriptor_names: ClassVar[tuple[str, ...]] = (
        "log10_states",
        "log10_actions",
        "log10_effective_horizon",
        "synchronous",
        "epsilon",
    )
    final_info_names: ClassVar[tuple[str, ...]] = ("greedy_value", "optimal_value")

    sampling: Sampling = "synchronous"
    states: Range = 16
    actions: Range = 4
    branching: Range = (2, 6)
    rewarded: Range = (0.1, 1.0)
    ending: Range = 0.0
    discount: Range = (0.8, 0.99)
    noise: Range = (0.01, 3.0)
    tails: Tails = "normal"
    scale: Range = 3.0
    epsilon: Range = (0.05, 0.5)
    mdp: str | tuple[Any, Any] | None = field(default=None, metadata={TOLD_BY: "_branches"})

    def __post_init__(self) -> None:
        super().__post_init__()
        self._law  # noqa: B018  (a bad value is found out here)

    @cached_property
    def _law(self) -> ProcessLaw:
        if self.sampling not in get_args(Sampling):
            raise ValueError(f"sampling is one of {', '.join(get_args(Sampling))}, not {self.sampling!r}")
        if not self._visits:
            self._refuse("synchronous sampling", "epsilon")
        check_tails(self.tails)
        noise = zero_or_range("noise", self.noise, maximum=MOST_NOISE)
        if not noise[1]:
            self._refuse("a noise of 0", "tails")
        common: dict[str, Any] = {
            "discount": self._fraction("discount", one=False),
            "noise": noise,
            "noise_levels": NOISE_LEVELS[self.tails],
            "scale": as_decades("scale", self.scale, most=MOST_DECADES),
            "epsilon": zero_or_range("epsilon", self.epsilon, maximum=1.0) if self._visits else None,
        }
        if self.mdp is not None:
            self._refuse("a process that is given", *OF_GARNETS)
            return GivenProcess(process=_given(self.mdp), **common)
        sizes: dict[str, Any] = {
            name: as_range(name, getattr(self, name), minimum=1, integer=True) for name in OF_GARNETS[:3]
        }
        if sizes["branching"][1] > sizes["states"][0]:
            raise ValueError(f"branching is at most the number of states, {sizes['states'][0]}, not {self.branching!r}")
        rewarded, ending = self._fraction("rewarded", zero=False), zero_or_range("ending", self.ending, maximum=1.0)
        return Garnet(**sizes, rewarded=rewarded, ending=ending, **common)

    @property
    def _branches(self) -> tuple[NDArray[Any], ...] | None:
        """What a process that is given does, whatever its name."""
        if not isinstance(self._law, GivenProcess):
            return None
        process = self._law.process
        return process.successors, process.probabilities, process.rewards, process.start

    def _fraction(self, name: str, *, zero: bool = True, one: bool = True) -> tuple[float, float]:
        low, high = as_range(name, getattr(self, name), minimum=0.0)
        if (low == 0.0 and not zero) or high > 1.0 or (high == 1.0 and not one):
            interval = f"{'[' if zero else '('}0, 1{']' if one else ')'}"
            raise ValueError(f"{name} is in {interval}, not {getattr(self, name)!r}")
        return low, high

    def axes(self) -> dict[str, dict[str, Any]]:
        law = self._law
        top = law.discount[1]
        return axes_of(
            dimension=above("states", law.states, 2, 4) if isinstance(law, Garnet) else {},
            noise=above("noise", law.noise, 1, 10, MOST_NOISE),
            discount={"discount": (top, 1.0 - 0.1 * (1.0 - top))},
            scale=further(law.scale, MOST_DECADES),
            heavy_tails={"tails": "heavy"} if law.noise[1] and self.tails == "normal" else {},
        )

    @property
    def _visits(self) -> bool:
        return self.sampling == "trajectory"

    @property
    def num_parameters(self) -> int:
        return self._law.num_pairs + self.num_carried

    @property
    def num_carried(self) -> int:
        return int(self._visits)

    def sample(self, rng: np.random.Generator, n: int, horizon: int) -> Any:
        return self._law.draw(rng, n, horizon)

    def complete(self, draw: Any) -> TabularTask:
        return self._law.build(draw)

    def start(self, task: TabularTask) -> Array:
        theta = np.zeros((len(task.pairs), self.num_parameters))
        if self._visits:
            theta[:, -1] = task.restart[:, 0]
        return theta

    def loss(self, task: TabularTask, theta: Array) -> Array:
        distance = theta[:, : self._law.num_pairs] - task.optimum
        return HALF * np.vecdot(distance, distance) / task.pairs

    def signal(self, task: TabularTask, theta: Array, t: NDArray[np.int64]) -> Array:
        return self.evaluate(task, theta, t).signal

    def direction(self, task: TabularTask, theta: Array, t: NDArray[np.int64]) -> Array:
        return self.evaluate(task, theta, t).direction

    def evaluate(self, task: TabularTask, theta: Array, t: NDArray[np.int64]) -> Evaluation:
        if not self._visits:
            error = self._errors(task, theta, t)
            return Evaluation(self.loss(task, theta), HALF * np.vecdot(error, error) / task.pairs, error)
        visit = self.visit(task, theta, t)
        direction = np.zeros_like(theta)
        direction[np.arange(len(theta)), visit.pair] = visit.error
        direction[:, -1] = visit.next_state - visit.state
        return Evaluation(self.loss(task, theta), HALF * visit.error**2, direction)

    def descriptor(self, task: TabularTask) -> Array:
        return task.descriptor

    def reference_loss(self, task: TabularTask) -> Array:
        return np.zeros(len(task.pairs))

    def final_info(self, task: TabularTask, theta: Array, rows: NDArray[np.int64]) -> dict[str, Array]:
        """Return the exact values, the mean over starts, of the policy greedy in theta and of the best one.

        They are in units of the task's own rewards; of equally good actions the first is taken.
        """
        processes = Processes._make(array[rows] for array in task.processes)
        value = greedy_values(processes, theta[rows, : self._law.num_pairs], self._law.num_states)
        return {"greedy_value": np.vecdot(task.start[rows], value), "optimal_value": task.optimal_value[rows]}

    def picture(self, task: TabularTask, theta: Array, row: int) -> ValueTable | GridPolicy:
        """Return the table of values, or the greedy policy where the states lie on a grid."""
        law = self._law
        real = law.real_pairs(task)[row].reshape(-1, law.num_states)
        value, best = (
            np.where(real, array[row, : law.num_pairs].reshape(real.shape), np.nan) for array in (theta, task.optimum)
        )
        if law.grid is not None:
            return GridPolicy(ValueTable(value, best), law.grid, int(theta[row, -1]) if self._visits else None)
        there = tuple(slice(np.flatnonzero(real.any(axis=axis))[-1] + 1) for axis in (1, 0))
        return ValueTable(value[there], best[there])

    def _errors(self, task: TabularTask, theta: Array, t: NDArray[np.int64]) -> Array:
        """Return the temporal-difference errors of all pairs, (n, p)."""
        states, (value, first, entry, target, noise) = self._law.num_states, self._scratch(len(theta))
        best = value[:, :-1]
        best[:] = theta[:, :states]
        for action in range(1, self._law.num_actions):
            there = True if action < self._law.fewest_actions else (action < task.actions)[:, None]
            np.maximum(best, theta[:, action * states : (action + 1) * states], out=best, where=there)
        best *= task.discount[:, None]
        np.add(_at(task.next_state, t), first, out=entry)
        value.take(entry, out=target, mode="clip")  # nothing is to be clipped; it spares a copy
        target += np.multiply(_at(task.noise, t), task.noise_unit[:, None], out=noise)
        target += self._rewards(task, t)
        return target - theta

    def _scratch(self, n: int) -> Scratch:
        """Return arrays to work in: fresh memory costs more than the arithmetic."""
        if len(self._memory[0].value) < n:
            self._memory[0] = Scratch.of(n, self._law.num_states, self._law.num_pairs)
        memory = self._memory[0]
        return memory if len(memory.value) == n else Scratch._make(array[:n] for array in memory)

    @cached_property
    def _memory(self) -> list[Scratch]:
        return [Scratch.of(0, self._law.num_states, self._law.num_pairs)]

    def transitions(self, task: TabularTask, t: NDArray[np.int64]) -> tuple[NDArray[Any], Array]:
        """Return where all pairs lead to at times t, and the rewards, noise included, (n, p) both."""
        return _at(task.next_state, t), self._rewards(task, t) + task.noise_unit[:, None] * _at(task.noise, t)

    def _rewards(self, task: TabularTask, t: NDArray[np.int64]) -> Array:
        if not task.branch.shape[1]:
            return task.reward
        return np.take_along_axis(task.branch_reward, _at(task.branch, t)[:, None, :], 1)[:, 0]

    def visit(self, task: TabularTask, theta: Array, t: NDArray[np.int64]) -> Visit:
        """Return what the trajectories, whose states are the last column of theta, do at times t."""
        row, states = np.arange(len(theta)), self._law.num_states
        state, turn = theta[:, -1].astype(np.int64), task.turn[row, t].astype(np.int64)
        in_turn = (turn[:, None] + np.arange(self._law.num_actions)) % task.actions[:, None]
        best = theta[row[:, None], in_turn * states + state[:, None]].argmax(axis=1)
        pair = np.where(task.explores[row, t], turn, in_turn[row, best]) * states + state
        next_state, reward = self.transitions(task, t)
        successor = next_state[row, pair].astype(np.int64)
        ends = successor == states
        onward = np.where(ends, 0, successor)
        value = np.where(ends, 0.0, theta[row[:, None], in_turn * states + onward[:, None]].max(axis=1))
        error = reward[row, pair] + task.discount * value - theta[row, pair]
        return Visit(pair, state, np.where(ends, task.restart[row, t + 1], onward), error)


def _at(array: NDArray[Any], t: NDArray[np.int64]) -> NDArray[Any]:
    """Return the steps t, (n, p), of what happens at each of them, (n, steps, p), or at all alike, (n, 1, p)."""
    n, steps, p = array.shape
    if steps == 1:
        return array[:, 0]
    return array.reshape(-1, p).take(steps * np.arange(n) + t, axis=0)


def _given(mdp: Any) -> DecisionProcess:
    if isinstance(mdp, str):
        return load_process(mdp)
    if not isinstance(mdp, (tuple, list)) or len(mdp) != 2:
        raise ValueError(f"mdp is a Gymnasium id or a pair (transitions, rewards), not {type(mdp).__name__}")
    return from_arrays(*mdp)
