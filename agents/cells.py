"""On which tables policies with feedback are trained and chosen: Garnets, grid worlds and errands, along trajectories.

Runs are from much too short to cover the table to long ones. What a run is worth is the log gap at its end by its log,

    -log(.1 - log gap)       below 0, and from there on as steep as at 0

so that a tenth on a hopeless task counts as much as a decade on an easy one, and ending above the start counts
heavily.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch

from agents.feedback import FeedbackMap
from agents.grids import WORLDS, grid_id
from agents.slopes import shortened
from agents.tables import BLOCK, Asked, Cell, Chooser, Constant, run
from agents.worlds import World, garnet, world_of
from metalearn_env.decision_process import DecisionProcess
from metalearn_env.families.q_learning import QLearning
from metalearn_env.family import Array
from metalearn_env.gymnasium_processes import load_process
from metalearn_env.policy import Policy
from metalearn_env.pool import draw_tasks

KINDS = ("Garnet", "Garnet", "Grid", "LargeGrid", "Errand", "Errand")
GARNETS: dict[str, Any] = {
    "sampling": "trajectory",
    "branching": (1, 6),
    "rewarded": (0.02, 1.0),
    "ending": (0.01, 0.5),
    "noise": (0.01, 3.0),
    "scale": 0.0,
}
GARNETS_KEPT, LEVELS, EPSILON = 256, 8, (0.05, 0.5)  # of training; discounts of a world; random part of actions
LEARNERS, VALIDATED = 16, 8  # in one cell
SWEEPS, MOST_SWEEPS = (1.5, 400.0), 100  # of a run, in table sizes; and how often the policy is asked, at most
LONGEST = 24_000  # updates
REACHED = 10  # states, at least: there are grids whose traps leave no way
NEAR = 0.1
WEIGHT = 0.3  # of the worth of tables, beside that of tasks
DEFAULT = 0.1  # the constant step that libraries and textbooks take
VALIDATION_SEED, VALIDATION_SWEEPS = 1, (2.5, 10.0, 40.0, 160.0)


class Judged(NamedTuple):
    """What a chooser came to on validation tables."""

    score: float  # how much more it is worth than the default constant step, the mean over cells
    risen: float  # part of the runs that end above their start
    worse: float  # part of the cells where it is worth less than the default


def worth(log_gap: Array) -> tuple[Array, Array]:
    """Return what log gaps are worth, to be small, and its derivatives."""
    below = np.maximum(NEAR - log_gap, NEAR)
    return np.maximum(log_gap, 0.0) / NEAR - np.log(below), 1.0 / below


def drawn(rng: np.random.Generator, count: int, split: str = "train") -> list[Cell]:
    """Return cells for training."""
    return [_cell(rng, split, KINDS[int(rng.integers(len(KINDS)))]) for _ in range(count)]


def followed(step_map: FeedbackMap, cells: Sequence[Cell], seed: int) -> float:
    """Add to the gradient of a map's weights `WEIGHT` times that of the mean worth of the runs of cells; return it."""
    policy = step_map.policy(step_map.interface())
    runs = run(cells, lambda cell: Asked(policy, cell), seed, slopes=True)
    values, weights = zip(*(worth(one.log_gap) for one in runs), strict=True)
    longest = max(len(one.slopes) for one in runs)
    learners = sum(len(value) for value in values)
    together = np.concatenate([_padded(one.slopes, longest) for one in runs], axis=1)
    found = shortened(np.where(np.isfinite(together).all(axis=0), together, 0.0)) * np.concatenate(weights)
    found *= WEIGHT / learners
    taken = np.concatenate([_padded(one.step_size, longest) for one in runs], axis=1)
    most = np.concatenate([np.full(cell.learners, cell.most) for cell in cells])
    found[(taken >= most) & (found < 0.0)] = 0.0  # a larger step than the largest is not taken
    seen = np.concatenate([_padded(one.observations, longest) for one in runs], axis=1)
    rows = np.concatenate([_padded(np.ones(one.slopes.shape), longest) for one in runs], axis=1).astype(np.bool_)
    observations = torch.from_numpy(seen[rows].astype(np.float64))
    step_map.log_factor(observations).backward(torch.from_numpy(found[rows]))
    return float(np.concatenate(values).mean())


def observed(policy: Policy, count: int, seed: int) -> Array:
    """Return the lowest and the highest value, (2, columns), of what a policy sees in so many cells for training."""
    runs = run(drawn(np.random.default_rng(seed), count), lambda cell: Asked(policy, cell), seed)
    seen = [one.observations.reshape(-1, one.observations.shape[2]) for one in runs]
    return np.stack([np.min([each.min(axis=0) for each in seen], 0), np.max([each.max(axis=0) for each in seen], 0)])


def judged(policy: Policy) -> Judged:
    """Return what a policy comes to on validation tables."""
    return compared(lambda cell: Asked(policy, cell))


def compared(choose: Chooser) -> Judged:
    """Return what a chooser comes to on validation tables."""
    ours, default = reached(choose), _of_default()
    gain = np.array([worth(there)[0].mean() - worth(here)[0].mean() for here, there in zip(ours, default, strict=True)])
    return Judged(float(gain.mean()), float(np.mean(np.concatenate(ours) > 0.0)), float((gain < 0.0).mean()))


def reached(choose: Chooser) -> list[Array]:
    """Return the log gaps of the cells of `validation`."""
    return [one.log_gap for one in run(validation(), choose, VALIDATION_SEED)]


@cache
def validation() -> list[Cell]:
    """Return the cells that policies are chosen on."""
    cells = []
    for kind in dict.fromkeys(KINDS):
        for index in range(WORLDS["validation"]):
            for place, sweeps in enumerate(VALIDATION_SWEEPS):
                world = _world("validation", kind, index, (index + place) % LEVELS).explored(0.1)
                horizon = round(sweeps * world.entries)
                if world.real.any(axis=1).sum() >= REACHED and horizon <= LONGEST:
                    cells.append(Cell(world, VALIDATED, horizon, MOST_SWEEPS))
    return cells


@cache
def _of_default() -> list[Array]:
    return reached(lambda cell: Constant(np.full(cell.learners, DEFAULT)))


def _cell(rng: np.random.Generator, split: str, kind: str) -> Cell:
    while True:
        index, level = int(rng.integers(GARNETS_KEPT if kind == "Garnet" else WORLDS[split])), int(rng.integers(LEVELS))
        world = _world(split, kind, index, level)
        if world.real.any(axis=1).sum() >= REACHED:
            break
    low, high = SWEEPS[0], min(SWEEPS[1], LONGEST / world.entries)
    horizon = round(float(np.exp(rng.uniform(np.log(low), np.log(high)))) * world.entries)
    epsilon = float(np.exp(rng.uniform(np.log(EPSILON[0]), np.log(EPSILON[1]))))
    return Cell(world.explored(epsilon), LEARNERS, horizon, MOST_SWEEPS)


@cache
def _world(split: str, kind: str, index: int, level: int) -> World:
    """Return a world of one of some discounts; a Garnet has one of its own."""
    if kind == "Garnet":
        rng = np.random.default_rng([[*WORLDS].index(split), index])
        states, actions = (int(np.exp(rng.uniform(*np.log(sizes)))) for sizes in ((10, 60), (2, 7)))
        family = QLearning(**GARNETS, states=states, actions=actions, split=split)
        return garnet(draw_tasks(family, index, 1, BLOCK))
    discount = 1.0 - float(np.geomspace(0.01, 0.2, LEVELS)[level])
    return world_of(_process(grid_id(split, index, kind)), discount, epsilon=0.1)


@cache
def _process(mdp: str) -> DecisionProcess:
    return load_process(mdp)


def _padded(array: Array, length: int) -> Array:
    return np.concatenate([array, np.zeros((length - len(array), *array.shape[1:]))])
