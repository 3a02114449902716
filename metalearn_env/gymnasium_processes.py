"""Decision processes of Gymnasium environments that list them, such as its toy texts. Imports Gymnasium where used."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from metalearn_env.decision_process import DecisionProcess, Outcome
from metalearn_env.family import Array
from metalearn_env.pictures import Grid

Table = Sequence[Sequence[Sequence[Outcome]]]


def load_process(env_id: str) -> DecisionProcess:
    """Return the process of a Gymnasium id whose environment has ``P[state][action]``, the list of its outcomes.

    Args:
        env_id: such as "FrozenLake-v1", "FrozenLake8x8-v1", "CliffWalking-v1", "CliffWalkingSlippery-v1", "Taxi-v4".

    Raises:
        ValueError: there is no such id, or its environment has no ``P``, or one of another form.
        ModuleNotFoundError: there is no module of an id ``"module:id"``.
    """
    import gymnasium as gym

    try:
        env = gym.make(env_id).unwrapped
    except gym.error.Error as error:
        raise ValueError(f"mdp {env_id!r} cannot be made: {error}") from error
    outcomes, start = getattr(env, "P", None), getattr(env, "initial_state_distrib", None)
    env.close()
    if outcomes is None:
        raise ValueError(f"mdp is the id of an environment with a table P of outcomes, and {env_id!r} has none")
    try:
        table = [
            [
                [(float(p), int(state), float(reward), bool(ends)) for p, state, reward, ends in of_state[action]]
                for action in range(len(of_state))
            ]
            for of_state in (outcomes[state] for state in range(len(outcomes)))
        ]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        form = "P[state][action] is a list of (probability, next state, reward, whether it ends), states from 0 on"
        raise ValueError(f"{form}; that of mdp {env_id!r} is not: {type(error).__name__}: {error}") from error
    return DecisionProcess(table, start, _grid(env, table, start))


def _grid(env: Any, table: Table, start: Any) -> Grid | None:
    """Return how the states of an environment lie in the plane: it has a ``desc`` or a ``shape`` of as many cells.

    Its cells are labelled as its own description does, or S where episodes start and E where they end.
    """
    letters = np.asarray(getattr(env, "desc", ()))
    shape = letters.shape if letters.size == len(table) else getattr(env, "shape", ())
    if not isinstance(shape, tuple) or len(shape) != 2 or prod(shape) != len(table):
        return None
    ends = {state for of_state in table for of_pair in of_state for _, state, _, ends in of_pair if ends}
    starts = set() if start is None else set(np.flatnonzero(start).tolist())
    labels = ["E" if state in ends else "S" if state in starts else "" for state in range(len(table))]
    if letters.size == len(table) and letters.dtype.kind == "S":
        labels = [letter.decode().replace("F", "") for letter in letters.ravel().tolist()]
    return Grid(shape, _moves(table, shape), tuple(labels))


def _moves(table: Table, shape: tuple[int, int]) -> Array:
    """Return where each action is meant to lead to, (A, 2), to the right and up: where it mostly does, off by a cell.

    An action that slips goes to both sides alike.
    """
    total = np.zeros((len(table[0]), 2))
    for state, of_state in enumerate(table):
        for action, of_pair in enumerate(of_state):
            for probability, successor, *_ in of_pair:
                (row, column), (next_row, next_column) = divmod(state, shape[1]), divmod(successor, shape[1])
                move = (next_column - column, row - next_row)
                if abs(move[0]) + abs(move[1]) == 1:
                    total[action] += probability * np.array(move)
    mostly = np.abs(total) == np.abs(total).max(axis=1, keepdims=True)
    return np.sign(total) * mostly
