"""Tabular learners side by side: those of the adapter, with slopes that are those of finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("stable_baselines3")
pytest.importorskip("tensorboard")
pytest.importorskip("tyro")
pytest.importorskip("agents")

import torch
from test_tabular_adapter import tame

from agents import cells, tables
from agents.feedback import FeedbackMap
from agents.grids import grid_id
from agents.tables import Asked, Cell, Constant, run
from agents.worlds import World, garnet, world_of
from metalearn_env.adapters.tabular import LearnedAlpha
from metalearn_env.families.q_learning import QLearning
from metalearn_env.family import Array
from metalearn_env.gymnasium_processes import load_process
from metalearn_env.pool import draw_tasks


def grid(epsilon: float, kind: str = "Grid", index: int = 3) -> World:
    return world_of(load_process(grid_id("train", index, kind)), 0.9, epsilon)


def random_process(epsilon: float, **options: Any) -> World:
    family = QLearning(sampling="trajectory", states=6, actions=3, epsilon=epsilon, **options)
    return garnet(draw_tasks(family, 0, 1, 64))


class Given(Constant):
    """Step sizes, (decisions, m), in the place of a policy."""

    def __init__(self, steps: Array) -> None:
        super().__init__(steps[0])
        self._given = steps

    def swept(self, means: Array, met: Array) -> None:
        self.steps.append(self._given[min(len(self.steps), len(self._given) - 1)])


def test_slopes_are_those_of_finite_differences() -> None:
    """Where all actions are random, trajectories do not depend on the tables."""
    learners = [Cell(grid(1.0), 2, 500), Cell(random_process(1.0, ending=0.1), 3, 130, most_sweeps=4)]
    rng = np.random.default_rng(0)
    steps = [10.0 ** rng.uniform(-2.0, -0.3, (cell.decisions, cell.learners)) for cell in learners]

    def gaps(which: int, decision: int, factor: float) -> Array:
        moved = [array.copy() for array in steps]
        moved[which][decision] *= factor
        return run(learners, lambda cell: Given(moved[learners.index(cell)]), 0)[which].log_gap

    found = run(learners, lambda cell: Given(steps[learners.index(cell)]), 0, slopes=True)
    for which, cell in enumerate(learners):
        assert found[which].slopes.shape == (cell.decisions, cell.learners)
        for decision in (0, cell.decisions // 2, cell.decisions - 1):
            expected = (gaps(which, decision, np.exp(1e-6)) - gaps(which, decision, np.exp(-1e-6))) / 2e-6
            np.testing.assert_allclose(found[which].slopes[decision], expected, atol=1e-7)
        assert np.abs(found[which].slopes).max() > 1e-3


@pytest.mark.parametrize(("kind", "index"), [("Grid", 1), ("Errand", 10)])
def test_a_learner_has_the_steps_of_the_adapter(kind: str, index: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a grid whose only reward is at its goal the first sweeps have no errors at all."""
    world, stretches = grid(0.1, kind, index), []
    cell, policy = Cell(world, 1, 12 * world.entries + 7), tame(-0.2)
    one = tables._Runs._stretch

    def noted(self: Any, *arguments: Any) -> Any:
        stretches.append(one(self, *arguments))
        return stretches[-1]

    monkeypatch.setattr(tables._Runs, "_stretch", noted)
    (found,) = run([cell], lambda cell: Asked(policy, cell), 0)
    shown = {"horizon": cell.horizon, "discount": 0.9, "epsilon": 0.1}
    alpha, taken = LearnedAlpha(*world.real.shape, policy, **shown), []
    for stretch in stretches:
        for entry, error in zip(stretch.entry[:, 0], stretch.error[:, 0], strict=True):
            taken.append(alpha._alpha)  # that of the update is chosen before its error is known, but at a sweep's end
            alpha(float(error), *(int(place) for place in divmod(entry, world.real.shape[1])))
    np.testing.assert_allclose(taken[:: cell.sweep], found.step_size[:, 0], rtol=1e-5)
    assert len(set(taken)) > 5


def test_constant_steps_are_those_of_the_family() -> None:
    """Of a process without noise, along random actions, a step of 1 leads to Q*."""
    world = random_process(1.0, branching=1, noise=0.0, ending=0.5, discount=0.8)
    (found,) = run([Cell(world, 2, 4_000)], lambda cell: Constant(np.ones(cell.learners)), 0)
    assert (found.log_gap < -20.0).all()


def test_what_a_run_is_worth() -> None:
    log_gap = np.array([-9.0, -0.1, 0.0, 0.5])
    value, slope = cells.worth(log_gap)
    step = 1e-6
    np.testing.assert_allclose(
        slope[[0, 1, 3]], ((cells.worth(log_gap + step)[0] - value) / step)[[0, 1, 3]], rtol=1e-4
    )
    assert (np.diff(value) > 0.0).all()
    assert slope[2] == slope[3] == 1.0 / cells.NEAR


def test_cells_of_training_are_new_ones_each_time() -> None:
    rng = np.random.default_rng(0)
    first, second = cells.drawn(rng, 8), cells.drawn(rng, 8)
    assert [cell.horizon for cell in first] != [cell.horizon for cell in second]
    for cell in (*first, *second):
        assert cells.SWEEPS[0] <= cell.horizon / cell.world.entries + 1.0
        assert cell.horizon <= cells.LONGEST
        assert cell.decisions <= cells.MOST_SWEEPS
        assert cell.world.real.any(axis=1).sum() >= cells.REACHED


def test_following_tables_makes_them_better() -> None:
    """The gradient of the weights leads to steps that leave less."""
    step_map = FeedbackMap(2, action="absolute", width=8)
    drawn = [Cell(random_process(0.3, ending=0.1, noise=noise), 8, 300) for noise in (1.0, 10.0)]
    optimizer, values = torch.optim.Adam(step_map.parameters(), 0.01), []
    for _ in range(8):
        optimizer.zero_grad()
        values.append(cells.followed(step_map, drawn, 0))
        optimizer.step()
    assert values[-1] < values[0] - 0.2
