"""One decision process that is given, in many guises: with random discount, noise and scale."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from metalearn_env.decision_process import DecisionProcess
from metalearn_env.family import Array
from metalearn_env.pictures import Grid
from metalearn_env.processes import ProcessLaw, TabularTask, choose

DISCOUNTS = 33  # so that the optimum is worked out so many times at most


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

    @property
    def grid(self) -> Grid | None:
        return self.process.grid

    def real_pairs(self, task: TabularTask) -> NDArray[np.bool_]:
        return np.broadcast_to(np.tile(self.process.real, self.num_actions), task.reward.shape)

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
        branch = choose(
            draw.outcomes,
            cuts[None],
            np.arange(len(process.rewards), dtype=np.min_scalar_type(len(process.rewards) - 1))[None, :, None],
        )
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
            noise_unit=draw.noise * draw.objective * unit / self.noise_levels.spread,
            noise=draw.levels * real,
            next_state=choose(draw.outcomes, cuts[None], process.successors[None]),
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
        discount = self._log_discounts((level + 0.5) / levels)
        for index in set(level.tolist()) - self._optima.keys():
            one = self._log_discounts(np.array([(index + 0.5) / levels]))
            self._optima[index] = self.process.q_values(one)[0]
        return discount, np.stack([self._optima[index] for index in level.tolist()])

    @cached_property
    def _optima(self) -> dict[int, Array]:
        return {}


def _repeated(array: NDArray[Any], n: int) -> NDArray[Any]:
    return np.repeat(array[None], n, axis=0)
