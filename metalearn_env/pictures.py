"""What an inner problem looks like, as data: what a family shows, and `metalearn_env.panels` draws. NumPy only."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

TIE = 1e-9  # times the largest value: actions that are so close are equally good


class Fit(NamedTuple):
    """Predictions beside the best ones: they agree on the diagonal."""

    prediction: Array  # (d,)
    best: Array  # (d,)
    names: tuple[str, str] = ("the learner's prediction", "the best prediction")


class Clusters(NamedTuple):
    """Points of the plane, whom they belong to, and the centres."""

    points: Array  # (m, 2)
    owner: Integers  # (m,) which centre
    centres: Array  # (k, 2)
    best: Array  # (k, 2) the best centres known
    names: tuple[str, str]  # of the two axes


class Decisions(NamedTuple):
    """Points of the plane, the classes that they are of, and those that the learner takes them to be of."""

    points: Array  # (m, 2)
    label: Integers  # (m,)
    decided: Integers  # (m,)
    names: tuple[str, str]  # of the two axes


class ValueTable(NamedTuple):
    """A table of the values of A actions in S states, NaN where there is no such action or state."""

    value: Array  # (A, S)
    best: Array  # (A, S) of the best policy


class Grid(NamedTuple):
    """How the states of a process lie in the plane, row by row, the first row on top."""

    shape: tuple[int, int]  # rows, columns
    moves: Array  # (A, 2) where the actions lead to: to the right, up
    labels: tuple[str, ...]  # (S,) what is written on the cells


class GridPolicy(NamedTuple):
    """The same of states that lie on a grid: it shows where the greedy policy goes."""

    table: ValueTable
    grid: Grid
    state: int | None = None  # where the learner stands


Picture = Fit | Clusters | Decisions | ValueTable | GridPolicy


def greedy(table: ValueTable) -> tuple[Integers, NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the greedy action of each state, whether it is a best one, and whether it is distinguished at all.

    Returns:
        (S,) each. Where all actions have the same value, as before a state is seen, none is distinguished.
    """
    there = ~np.isnan(table.best)
    highest = np.where(there, table.value, -np.inf)
    distinguished = highest.max(axis=0) > np.where(there, table.value, np.inf).min(axis=0)
    action, best = highest.argmax(axis=0), np.where(there, table.best, -np.inf)
    tie = TIE * np.abs(table.best[there]).max(initial=0.0)
    good = np.take_along_axis(best, action[None], 0)[0] >= best.max(axis=0) - tie
    return action, distinguished & good, distinguished


def projected(points: Array, *others: Array) -> tuple[list[Array], tuple[str, str]]:
    """Return points (m, d) of mean zero, and others (k, d), on their two principal axes, and the names of these.

    >>> [plane], names = projected(np.array([[3.0, 0.0, 0.0], [-3.0, 0.0, 0.0]]))
    >>> plane.shape, names
    ((2, 2), ('1st principal axis (100 %)', '2nd principal axis (0 %)'))
    """
    _, values, axes = np.linalg.svd(points, full_matrices=False)
    plane, part = np.zeros((2, points.shape[1])), np.zeros(2)
    plane[: len(axes)], part[: len(axes)] = axes[:2], values[:2] ** 2 / max((values**2).sum(), TIE**2)
    first, second = (f"{place} principal axis ({100 * part[i]:.0f} %)" for i, place in enumerate(("1st", "2nd")))
    return [array @ plane.T for array in (points, *others)], (first, second)
