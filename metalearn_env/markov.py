r"""Finite Markov decision processes, n side by side: the exact values of policies, and of the best one.

A process is kept by its branches: pair (s, a) goes to ``successors[j]`` with ``probabilities[j]``. State S, one more
than there are, is the end of an episode: its value is 0. Tables of pairs are flat and lie action by action, pair
a S + s, so that the best of each state is an elementwise maximum of A long slices:

    Q(s, a) = r(s, a) + \gamma \sum_j p_j(s, a) V(s_j(s, a)),      V(s) = max_a Q(s, a),      V(S) = 0

What is said of a process does not depend on those beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metalearn_env.family import Array

SWEEPS = 8  # of value iteration, from which policy iteration starts
AT_ONCE = 2**13  # entries of the matrices of processes that are solved at once: more would leave the cache

Integers = NDArray[np.int64]


class Processes(NamedTuple):
    """n processes of S states and A actions; p = S A."""

    successors: NDArray[Any]  # (n, branches, p) whole numbers 0, ..., S
    probabilities: NDArray[Any]  # (n, branches, p)
    reward: Array  # (n, p) expected
    discount: Array  # (n,)
    actions: Integers  # (n,) those that there are, at most A


def state_type(num_states: int) -> type[np.unsignedinteger[Any]]:
    """Return the smallest type that holds the states and the end."""
    return np.uint8 if num_states <= np.iinfo(np.uint8).max else np.uint16


def optimal_q_values(processes: Processes, num_states: int) -> Array:
    """Return Q*, (n, p)."""
    return np.concatenate([_policy_iteration(part, num_states) for part, _ in _parts(processes, num_states)])


def greedy_values(processes: Processes, q: Array, num_states: int) -> Array:
    """Return the exact values, (n, S), of the policies that are greedy in ``q``, (n, p)."""
    values = []
    for part, rows in _parts(processes, num_states):
        pair = greedy_policy(q[rows], part.actions, num_states) * num_states + np.arange(num_states)
        n, p = part.reward.shape
        reward = part.reward.take(pair + p * np.arange(n)[:, None])
        values.append(policy_values(discounted_moves(part, pair, num_states), reward))
    return np.concatenate(values)


def discounted_moves(processes: Processes, pair: Integers, num_states: int) -> Array:
    """Return gamma times the probabilities of the next states, (n, m, S), of pairs (n, m)."""
    n, branches, p = processes.successors.shape
    taken = (np.arange(n * branches) * p).reshape(n, branches, 1) + pair[:, None, :]
    entry = np.arange(pair.size).reshape(n, 1, -1) * (num_states + 1) + processes.successors.take(taken)
    weight = processes.probabilities.take(taken) * processes.discount[:, None, None]
    entries = pair.size * (num_states + 1)
    moves = np.bincount(entry.ravel(), weight.ravel(), entries).astype(np.float64, copy=False)
    return moves.reshape(*pair.shape, num_states + 1)[:, :, :num_states]


def policy_values(moves: Array, reward: Array) -> Array:
    """Return the values (n, S) where the moves are (n, S, S) and the rewards (n, S): of (I - gamma P) V = r."""
    return np.asarray(np.linalg.solve(np.eye(moves.shape[1]) - moves, reward[:, :, None])[:, :, 0], np.float64)


def greedy_policy(q: Array, actions: Integers, num_states: int) -> Integers:
    """Return the best action of each state in ``q``, (n, p), the first one of several: (n, S)."""
    return _by_action(q, actions, num_states).argmax(axis=1)


def best_values(q: Array, actions: Integers, num_states: int) -> Array:
    """Return the value of the best action of each state in ``q``, (n, p): (n, S)."""
    best: Array = _by_action(q, actions, num_states).max(axis=1)
    return best


def _by_action(q: Array, actions: Integers, num_states: int) -> Array:
    """Return tables as (n, A, S), with nothing to be gained from actions that are not there."""
    table = q.reshape(len(q), -1, num_states)
    if actions.min() == table.shape[1]:
        return table
    return np.where(np.arange(table.shape[1])[:, None] < actions[:, None, None], table, -np.inf)


def _policy_iteration(processes: Processes, num_states: int) -> Array:
    """Return Q*, (n, p) (Howard, 1960).

    It begins with the policy of a few sweeps of value iteration, and ends when no action is better than that of the
    policy by more than rounding.
    """
    reward, actions = processes.reward, processes.actions
    n, p = reward.shape
    moves = discounted_moves(processes, np.broadcast_to(np.arange(p), (n, p)), num_states)
    by_pair = moves.reshape(n * p, num_states)
    own_pair = np.arange(n)[:, None] * p + np.arange(num_states)
    rounding = 1e-14 / (1.0 - processes.discount[:, None])
    q = reward
    for _ in range(SWEEPS):
        q = reward + np.matmul(moves, best_values(q, actions, num_states)[:, :, None])[:, :, 0]
    policy, rows = greedy_policy(q, actions, num_states), np.arange(n)
    while rows.size:
        whole = len(rows) == n  # then there is no need to copy
        pair = (own_pair + policy * num_states)[rows]
        value = policy_values(by_pair.take(pair, axis=0), reward.take(pair))
        table = reward[rows] + np.matmul(moves if whole else moves[rows], value[:, :, None])[:, :, 0]
        q[rows] = table
        gain = best_values(table, actions[rows], num_states) - q.take(pair)
        better = gain > rounding[rows] * np.abs(table).max(axis=1, keepdims=True)
        policy[rows] = np.where(better, greedy_policy(table, actions[rows], num_states), policy[rows])
        rows = rows[better.any(axis=1)]
    return q


def _parts(processes: Processes, num_states: int) -> Iterator[tuple[Processes, slice]]:
    size = max(1, AT_ONCE // num_states**2)
    for first in range(0, len(processes.reward), size):
        rows = slice(first, first + size)
        yield Processes._make(array[rows] for array in processes), rows
