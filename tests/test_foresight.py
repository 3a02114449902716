"""Schedules that are chosen beforehand, on other draws of the same processes."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("benchmarks")
pytest.importorskip("torch")
pytest.importorskip("stable_baselines3")

from benchmarks import foresight
from benchmarks.agent_settings import CLUSTERING, Q_LEARNING, Setting
from metalearn_env.scoring import TaskSet

SETTING = Setting("few", Q_LEARNING, ("states:4", "actions:2", "horizon:8", "branching:2"))


@pytest.fixture(scope="module")
def tasks() -> TaskSet:
    return TaskSet(SETTING.env, "train", 32, 0, SETTING.options)


def test_a_process_is_drawn_anew(tasks: TaskSet) -> None:
    task = tasks.task
    other = foresight.several(task, 200, np.random.default_rng(0))
    assert len(other.discount) == 200 * tasks.tasks
    np.testing.assert_array_equal(other.optimum[-tasks.tasks :], task.optimum)
    drawn = other.next_state.reshape(200, *task.next_state.shape)
    for branch in range(task.successors.shape[1]):
        there = drawn == task.successors[:, branch, None]
        said = sum(
            task.probabilities[:, b] * (task.successors[:, b] == task.successors[:, branch])
            for b in range(task.successors.shape[1])
        )
        np.testing.assert_allclose(there.mean(axis=(0, 2)), said, atol=0.06)
    noise = other.noise.reshape(200, tasks.tasks, -1)
    np.testing.assert_allclose(noise.std(axis=(0, 2)), task.noise.reshape(tasks.tasks, -1).std(axis=1), rtol=0.05)
    assert (noise != task.noise.reshape(tasks.tasks, -1)).any(axis=(1, 2)).all()


def test_minibatches_are_drawn_anew() -> None:
    tasks = TaskSet(CLUSTERING, "train", 8, 0, {"batch_size": 5, "horizon": 40})
    task, points = tasks.task, tasks.task.points.shape[1]
    other = foresight.several(task, 3, np.random.default_rng(0))
    np.testing.assert_array_equal(other.points[8:16], task.points)
    assert other.batches.dtype == task.batches.dtype
    assert (other.batches[:8] != task.batches).any(axis=(1, 2)).all()
    assert len(np.unique(other.batches)) == points
    assert other.batches.max() == points - 1


def test_the_best_member_is_the_best_on_average(tasks: TaskSet) -> None:
    members = np.array([[0.1] * 8, [0.5] * 8, [1.0] * 8])
    two = foresight.several(tasks.task, 2, np.random.default_rng(1))
    means = [foresight.gaps(tasks, two, member[:, None]) for member in members]
    steps, gap = foresight.best_member(members, tasks, two)
    np.testing.assert_array_equal(gap, np.min(means, axis=0))
    np.testing.assert_array_equal(steps[0], members[np.argmin(means, axis=0), 0])
    assert len(np.unique(steps[0])) > 1


def test_a_free_schedule_is_better_where_it_was_chosen(tasks: TaskSet) -> None:
    draws = foresight.Draws(tasks.task, tasks.task)
    members = foresight.families(8)["constant"]
    steps, gap = foresight.best_member(members, tasks, tasks.task)
    free = foresight.free_schedule(tasks, draws, steps, 10)
    found = foresight.gaps(tasks, tasks.task, free)
    assert (found <= gap + 1e-12).all()
    assert np.mean(found) < np.mean(gap) - 0.05


def test_knots_are_interpolated() -> None:
    basis = foresight.interpolation(50)
    np.testing.assert_allclose(basis.sum(axis=1), 1.0)
    assert (basis[[0, -1], [0, -1]] == 1.0).all()


def test_what_could_be_known_is_a_page() -> None:
    text = foresight.page(48, 2, 2, SETTING)
    rows = [line for line in text.split("\n") if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows[1:]] == ["| constant", "| linear decay", "| harmonic", "| free"]
    assert "`states:4` `actions:2`" in text
    assert "{" not in text


def test_an_axis_is_a_line() -> None:
    small = {Q_LEARNING: {"states": 4, "actions": 2, "horizon": 4, "branching": 2}, CLUSTERING: {"horizon": 3}}
    for (env, options), axis in zip(small.items(), ("discount", "start"), strict=True):
        text = foresight.line(TaskSet(env, "ood", 8, 0, {**options, "ood": axis}), 2)
        assert text.startswith(f"| {env[10:-3]}, {axis} | ")
        assert text.count("|") == 7


def test_all_axes_are_there() -> None:
    for env, axes in foresight.AXES.items():
        for axis in axes:
            assert TaskSet(env, "ood", 8, 0, {"ood": axis}).part.axis == axis
