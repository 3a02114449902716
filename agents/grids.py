"""Random grid worlds to train on: ids for ``mdp`` of MetaLearn/QLearning-v0, such as "agents.grids:Grid-train-3-v0".

Garnets never end, and lead from anywhere to anywhere; what people learn in is more often a grid with a goal and traps.
Half of these have a reward at the goal alone, as a frozen lake has, and half have costs: of each step, and larger ones
of traps, which lead back to the start. Half are slippery. Worlds of "validation" are other ones than those of "train".
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

WORLDS = {"train": 12, "validation": 6}
MOVES = ((0, -1), (1, 0), (0, 1), (-1, 0))  # rows, columns
TRAPS = 0.2  # part of the cells


class Grid(gym.Env[Any, Any]):
    """A grid world that lists its outcomes, ``P[state][action]``, as Gymnasium's toy texts do.

    Args:
        split: "train" or "validation".
        index: which world.
    """

    def __init__(self, split: str, index: int) -> None:
        rng = np.random.default_rng([[*WORLDS].index(split), index])
        self.shape = (int(rng.integers(3, 8)), int(rng.integers(3, 8)))
        self._slip, self._costly = 0.0 if index % 2 else float(rng.uniform(0.1, 0.33)), index % 4 >= 2
        self._penalty = -float(np.exp(rng.uniform(np.log(5.0), np.log(100.0))))
        states = self.shape[0] * self.shape[1]
        self._traps = rng.random(states) < TRAPS
        self._traps[[0, states - 1]] = False
        self.observation_space, self.action_space = spaces.Discrete(states), spaces.Discrete(len(MOVES))
        self.initial_state_distrib = np.eye(states)[0] if self._costly else np.full(states, 1.0 / states)
        self.P = {state: {action: self._outcomes(state, action) for action in range(4)} for state in range(states)}

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

    def _outcomes(self, state: int, action: int) -> list[tuple[float, int, float, bool]]:
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


def grid_id(split: str, index: int) -> str:
    """Return the id of a world, for ``mdp``."""
    return f"agents.grids:Grid-{split}-{index}-v0"


for _split, _worlds in WORLDS.items():
    for _index in range(_worlds):
        _id = grid_id(_split, _index).partition(":")[2]
        if _id not in gym.registry:
            gym.register(_id, entry_point="agents.grids:Grid", kwargs={"split": _split, "index": _index})
