"""Random grid worlds to train on: ids for ``mdp`` of MetaLearn/QLearning-v0, such as "agents.grids:Grid-train-3-v0".

Garnets never end, and lead from anywhere to anywhere; what people learn in is more often a grid with a goal and traps.
Half of these have a reward at the goal alone, as a frozen lake has, and half have costs: of each step, and larger ones
of traps, which lead back to the start. Half are slippery. An "Errand" is a grid with walls on which something is to be
done at one place and then at another, which each episode names anew: it has many states, costs at each step, and a
penalty for doing anything anywhere else.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

WORLDS = 24  # of each kind
MOVES = ((0, -1), (1, 0), (0, 1), (-1, 0))  # rows, columns
SIDES = 3, 7  # the shortest and the longest
TRAPS = 0.2  # part of the cells
WALLS = 0.2  # part of the sides between cells

Outcome = tuple[float, int, float, bool]  # as in `metalearn_env.decision_process`


class World(gym.Env[Any, Any]):
    """A world that lists its outcomes, ``P[state][action]``, as Gymnasium's toy texts do."""

    P: dict[int, dict[int, list[Outcome]]]
    initial_state_distrib: np.ndarray

    def _set_up(self, states: int, actions: int, start: np.ndarray) -> None:
        self.observation_space, self.action_space = spaces.Discrete(states), spaces.Discrete(actions)
        self.initial_state_distrib = start
        self.P = {
            state: {action: self._outcomes(state, action) for action in range(actions)} for state in range(states)
        }

    def _outcomes(self, state: int, action: int) -> list[Outcome]:
        raise NotImplementedError

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[int, dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=seed)
        self._state = int(self.np_random.choice(len(self.P), p=self.initial_state_distrib))
        return self._state, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """Move."""
        outcomes = self.P[self._state][int(action)]
        chosen = self.np_random.choice(len(outcomes), p=[probability for probability, *_ in outcomes])
        _, self._state, reward, ends = outcomes[chosen]
        return self._state, reward, ends, False, {}


class Grid(World):
    """A grid with a goal and traps.

    Args:
        index: which world.
    """

    def __init__(self, index: int) -> None:
        rng = np.random.default_rng([0, index])
        self.shape = (int(rng.integers(SIDES[0], SIDES[1] + 1)), int(rng.integers(SIDES[0], SIDES[1] + 1)))
        self._slip, self._costly = 0.0 if index % 2 else float(rng.uniform(0.1, 0.33)), index % 4 >= 2
        self._penalty = -float(np.exp(rng.uniform(np.log(5.0), np.log(100.0))))
        states = self.shape[0] * self.shape[1]
        self._traps = rng.random(states) < TRAPS
        self._traps[[0, states - 1]] = False
        self._set_up(states, len(MOVES), np.eye(states)[0] if self._costly else np.full(states, 1.0 / states))

    def _outcomes(self, state: int, action: int) -> list[Outcome]:
        turns = ((action, 1.0 - 2.0 * self._slip), (action - 1, self._slip), (action + 1, self._slip))
        return [(part, *self._moved(state, turn % 4)) for turn, part in turns if part > 0.0]

    def _moved(self, state: int, action: int) -> tuple[int, float, bool]:
        if state == len(self._traps) - 1 or (self._traps[state] and not self._costly):
            return state, 0.0, True
        cell = [
            min(max(place + by, 0), size - 1)
            for place, by, size in zip(divmod(state, self.shape[1]), MOVES[action], self.shape, strict=True)
        ]
        onto = cell[0] * self.shape[1] + cell[1]
        goal, trap = onto == len(self._traps) - 1, bool(self._traps[onto])
        if not self._costly:
            return onto, float(goal), goal or trap
        return (0 if trap else onto), self._penalty if trap else -1.0, goal


class Errand(World):
    """A grid with walls, where something is to be done at one place and then at another.

    A state is a cell, whether the first half is done, and which of some places the second half is for. Both halves take
    the same action, or each has its own.

    Args:
        index: which world.
    """

    def __init__(self, index: int) -> None:
        rng = np.random.default_rng([0, index, 1])
        rows, columns = (int(side) for side in rng.integers(3, 8, 2))
        self._size, self._walls = (rows, columns), rng.random((rows, columns, 2)) < WALLS  # to the right, below
        self._cells, places = rows * columns, int(rng.integers(1, 5))
        self._first, *self._second = (int(cell) for cell in rng.permutation(self._cells)[: places + 1])
        self._penalty, self._reward = -float(rng.uniform(2.0, 20.0)), float(rng.uniform(0.0, 40.0))
        self._acts = int(rng.integers(1, 3))
        states = 2 * places * self._cells
        start = np.zeros(states)
        start[: places * self._cells] = 1.0 / (places * self._cells)
        self._set_up(states, len(MOVES) + self._acts, start)

    def _outcomes(self, state: int, action: int) -> list[Outcome]:
        (done, place), cell = divmod(state // self._cells, len(self._second)), state % self._cells
        if action < len(MOVES):
            return [(1.0, state - cell + self._beside(cell, MOVES[action]), -1.0, False)]
        right = action - len(MOVES) == done * (self._acts - 1)
        if right and done and cell == self._second[place]:
            return [(1.0, state, self._reward, True)]
        if right and not done and cell == self._first:
            return [(1.0, state + len(self._second) * self._cells, -1.0, False)]
        return [(1.0, state, self._penalty, False)]

    def _beside(self, cell: int, move: tuple[int, int]) -> int:
        """Return the cell that a move leads to: the same one where there is a wall."""
        (row, column), (down, right) = divmod(cell, self._size[1]), move
        if not (0 <= row + down < self._size[0] and 0 <= column + right < self._size[1]):
            return cell
        if self._walls[min(row, row + down), min(column, column + right), int(down != 0)]:
            return cell
        return cell + down * self._size[1] + right


def grid_id(index: int, kind: str = "Grid") -> str:
    """Return the id of a world, for ``mdp``."""
    return f"agents.grids:{kind}-train-{index}-v0"


KINDS = ("Grid", "Errand")

for _kind in KINDS:
    for _index in range(WORLDS):
        _id = grid_id(_index, _kind).partition(":")[2]
        if _id not in gym.registry:
            gym.register(_id, entry_point=f"agents.grids:{_kind}", kwargs={"index": _index})
