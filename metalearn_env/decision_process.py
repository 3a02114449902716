"""One finite decision process that is given: as arrays, or as the outcomes that a Gymnasium environment lists.

Everything is checked here, once. A transition that ends the episode leads to the end, state S, and so does one into a
state that is never left and never pays.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metalearn_env.datasets import real_numbers
from metalearn_env.family import Array
from metalearn_env.markov import Processes, optimal_q_values, state_type
from metalearn_env.pictures import Grid

Outcome = tuple[float, int, float, bool]  # probability, next state, reward, whether the episode ends
LARGEST_REWARD = 1e30  # and the inverse of the smallest: squares, and 100 decades of scale, are numbers still
TOLERANCE = 1e-6  # by which probabilities may fail to sum to one; they are then made to


class DecisionProcess:
    """A process by its branches; pairs lie action by action, as in `metalearn_env.markov`.

    Args:
        outcomes: for every state, for every action, the outcomes.
        start: probabilities of the first state, (S,); None: all states that are not terminal, equally.
        grid: how the states lie in the plane, for pictures; None if they do not.

    Raises:
        ValueError: probabilities that are negative or do not sum to one, rewards that are not finite or all zero, a
            state that does not exist, states of different numbers of actions.
    """

    def __init__(
        self, outcomes: Sequence[Sequence[Sequence[Outcome]]], start: Any = None, grid: Grid | None = None
    ) -> None:
        num_states, num_actions = len(outcomes), len(outcomes[0]) if len(outcomes) else 0
        if not num_actions or any(len(of_state) != num_actions for of_state in outcomes):
            raise ValueError("a process has at least one state, and as many actions, at least one, in each of them")
        terminal = [_stays(state, of_state) for state, of_state in enumerate(outcomes)]
        merged = [
            _merged(outcomes[state][action], state, action, terminal)
            for action in range(num_actions)
            for state in range(num_states)
        ]
        self.grid = grid
        self.start = _checked_start(start, np.array(terminal))
        self.real = _reachable(merged, self.start)
        shape = (max(map(len, merged)), len(merged))
        self.successors = np.full(shape, num_states, state_type(num_states))  # (branches, p)
        self.probabilities, self.rewards = np.zeros((2, *shape))  # (branches, p) both
        for pair, of_pair in enumerate(merged):
            if not self.real[pair % num_states]:
                of_pair = {(num_states, 0.0): 1.0}
            for branch, ((state, reward), probability) in enumerate(of_pair.items()):
                self.successors[branch, pair], self.rewards[branch, pair] = state, reward
                self.probabilities[branch, pair] = probability
        if not (np.abs(self.reward) >= 1.0 / LARGEST_REWARD).any():
            raise ValueError(
                f"rewards are not all 0, or below {1.0 / LARGEST_REWARD:g}, where a process can get to; then there is "
                "nothing to learn"
            )

    @cached_property
    def reward(self) -> Array:
        """The expected rewards, (p,)."""
        expected: Array = (self.probabilities * self.rewards).sum(axis=0)
        return expected

    @property
    def outcomes_matter(self) -> bool:
        """Whether the reward depends on where a pair leads to."""
        return bool(((self.rewards != self.reward) & (self.probabilities > 0.0)).any())

    def q_values(self, discount: Array) -> Array:
        """Return Q*, (n, p), for discounts (n,)."""
        n, actions = len(discount), self.rewards.shape[1] // len(self.start)
        successors, probabilities, reward = (
            np.repeat(array[None], n, axis=0) for array in (self.successors, self.probabilities, self.reward)
        )
        processes = Processes(successors, probabilities, reward, discount, np.full(n, actions))
        return optimal_q_values(processes, len(self.start))


def from_arrays(transitions: Any, rewards: Any) -> DecisionProcess:
    """Return a process of transitions (S, A, S) and rewards (S, A) or (S, A, S); see `DecisionProcess`."""
    transitions, rewards = real_numbers("transitions", transitions), real_numbers("rewards", rewards)
    if transitions.ndim != 3 or transitions.shape[0] != transitions.shape[2]:
        raise ValueError(f"transitions have shape (states, actions, states), not {transitions.shape}")
    if rewards.shape not in (transitions.shape, transitions.shape[:2]):
        raise ValueError(f"rewards have shape {transitions.shape[:2]} or {transitions.shape}, not {rewards.shape}")
    if rewards.ndim == 2:
        rewards = np.broadcast_to(rewards[:, :, None], transitions.shape)
    return DecisionProcess(
        [
            [
                # a reward that is not finite, and a probability that is not a number, are found out later
                [(row[s], s, pay[s], False) for s in np.flatnonzero((row != 0.0) | ~np.isfinite(pay)).tolist()]
                for row, pay in zip(of_state, pays, strict=True)
            ]
            for of_state, pays in zip(transitions, rewards, strict=True)
        ]
    )


def _stays(state: int, of_state: Sequence[Sequence[Outcome]]) -> bool:
    return all(
        probability == 0.0 or (successor == state and reward == 0.0)
        for of_action in of_state
        for probability, successor, reward, _ in of_action
    )


def _merged(
    of_pair: Sequence[Outcome], state: int, action: int, terminal: list[bool]
) -> dict[tuple[int, float], float]:
    """Return the probability of every (next state, reward) of a pair."""
    where, num_states = f"of state {state}, action {action}", len(terminal)
    merged: dict[tuple[int, float], float] = {}
    for probability, successor, reward, ends in of_pair:
        if not 0.0 <= probability <= 1.0 + TOLERANCE:
            raise ValueError(f"probabilities are between 0 and 1; one {where} is {probability}")
        if not abs(reward) <= LARGEST_REWARD:
            raise ValueError(f"rewards are finite, at most {LARGEST_REWARD:g}; one {where} is {reward}")
        if not 0 <= successor < num_states:
            raise ValueError(f"states are 0, ..., {num_states - 1}; a successor {where} is {successor}")
        if probability > 0.0:
            key = (num_states if ends or terminal[successor] else int(successor), float(reward))
            merged[key] = merged.get(key, 0.0) + float(probability)
    total = sum(merged.values())
    if abs(total - 1.0) > TOLERANCE:
        raise ValueError(f"the probabilities of a pair sum to one; those {where} sum to {total}")
    return {key: probability / total for key, probability in merged.items()}


def _checked_start(start: Any, terminal: NDArray[np.bool_]) -> Array:
    if start is None:
        if terminal.all():
            raise ValueError("a process has a state that is not terminal; here every one is")
        start = ~terminal
    start = np.array(start, np.float64)
    if start.shape != terminal.shape or not (start >= 0.0).all() or not 0.0 < start.sum() < np.inf:
        raise ValueError(f"the first state has {len(terminal)} probabilities, not {start.tolist()}")
    probabilities: Array = start / start.sum()
    return probabilities


def _reachable(merged: list[dict[tuple[int, float], float]], start: Array) -> NDArray[np.bool_]:
    """Return which states can be met, (S,)."""
    num_states = len(start)
    seen, waiting = set(), np.flatnonzero(start).tolist()
    while waiting:
        state = waiting.pop()
        if state not in seen and state < num_states:
            seen.add(state)
            waiting += [successor for pair in merged[state::num_states] for successor, _ in pair]
    return np.isin(np.arange(num_states), list(seen))
