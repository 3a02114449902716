"""Schedules that are chosen beforehand, on other draws of the same tasks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("benchmarks")
pytest.importorskip("torch")
pytest.importorskip("stable_baselines3")

from benchmarks import beforehand
from benchmarks.setting import CLUSTERING, Q_LEARNING
from metalearn_env.scoring import TaskSet

SMALL = {"states": 4, "actions": 2, "horizon": 8, "branching": 2}


@pytest.fixture(scope="module")
def tasks() -> TaskSet:
    return TaskSet(Q_LEARNING, "train", 48, 0, SMALL)


@pytest.mark.parametrize("tails", ["normal", "heavy"])
def test_a_process_is_drawn_anew(tails: str) -> None:
    tasks = TaskSet(Q_LEARNING, "train", 16, 0, {**SMALL, "states": [2, 5], "branching": [1, 2], "tails": tails})
    task, count = tasks.task, 400
    other = beforehand.several(tasks, count, np.random.default_rng(0))
    np.testing.assert_array_equal(other.optimum[-tasks.tasks :], task.optimum)
    drawn = other.next_state.reshape(count, *task.next_state.shape)
    assert other.next_state.dtype == task.next_state.dtype
    for branch in range(task.successors.shape[1]):
        there = drawn == task.successors[:, branch, None]
        same = task.successors == task.successors[:, branch, None]
        np.testing.assert_allclose(there.mean(axis=(0, 2)), (task.probabilities * same).sum(axis=1), atol=0.05)
    noise = other.noise.reshape(count, *task.noise.shape).astype(np.float64)
    real = tasks.family._law.real_pairs(task)  # type: ignore[attr-defined]
    spread = tasks.family._law.noise_levels.spread  # type: ignore[attr-defined]
    assert not real.all()
    assert (noise.std(axis=(0, 2))[~real] == 0.0).all()
    np.testing.assert_allclose(noise.std(axis=(0, 2))[real], spread, rtol=0.25)
    np.testing.assert_allclose(noise.mean(axis=(0, 2))[real] / spread, 0.0, atol=0.08)


def test_minibatches_are_drawn_anew() -> None:
    tasks = TaskSet(CLUSTERING, "train", 8, 0, {"batch_size": 5, "horizon": 40})
    task, points = tasks.task, tasks.task.points.shape[1]
    other = beforehand.several(tasks, 3, np.random.default_rng(0))
    np.testing.assert_array_equal(other.points[8:16], task.points)
    assert other.batches.dtype == task.batches.dtype
    assert (other.batches[:8] != task.batches).any(axis=(1, 2)).all()
    assert len(np.unique(other.batches)) == points
    assert other.batches.max() == points - 1


@pytest.mark.parametrize(
    ("env", "options", "words"),
    [
        (Q_LEARNING, {"sampling": "trajectory"}, "not drawn anew"),
        (Q_LEARNING, {"mdp": "FrozenLake-v1"}, "not drawn anew"),
        ("MetaLearn/LinearRegression-v0", {}, "how LinearRegression is drawn anew is not known"),
    ],
)
def test_what_cannot_be_drawn_anew_is_refused(env: str, options: dict[str, str], words: str) -> None:
    tasks = TaskSet(env, "train", 8, 0, {"horizon": 4, **options})
    with pytest.raises(ValueError, match=words):
        beforehand.several(tasks, 1, np.random.default_rng(0))


def test_the_best_member_is_the_best_on_average(tasks: TaskSet) -> None:
    members = np.array([[0.1] * 8, [0.5] * 8, [1.0] * 8])
    two = beforehand.several(tasks, 2, np.random.default_rng(1))
    means = [beforehand.mean_gaps(tasks, two, member[:, None]) for member in members]
    steps, gap = beforehand.best_member(members, tasks, two)
    np.testing.assert_array_equal(gap, np.min(means, axis=0))
    np.testing.assert_array_equal(steps[0], members[np.argmin(means, axis=0), 0])
    assert len(np.unique(steps[0])) > 1


def test_a_free_schedule_is_better_where_it_was_chosen(tasks: TaskSet) -> None:
    draws = beforehand.Draws(tasks.task, tasks.task)
    steps, gap = beforehand.best_member(beforehand.families(8)["constant"], tasks, tasks.task)
    free = beforehand.free_schedule(tasks, draws, steps, 10)
    found = beforehand.mean_gaps(tasks, tasks.task, free)
    assert (found <= gap + 1e-12).all()
    assert np.mean(found) < np.mean(gap) - 0.05


def test_knots_are_interpolated() -> None:
    basis = beforehand.interpolation(50)
    np.testing.assert_allclose(basis.sum(axis=1), 1.0)
    assert (basis[[0, -1], [0, -1]] == 1.0).all()


def test_hindsight_is_the_better(tasks: TaskSet) -> None:
    text = beforehand.page(tasks, "some tasks", 2, 4)
    rows = [line.strip("| ").split(" | ") for line in text.split("\n") if line.startswith("| ")]
    assert [row[0] for row in rows[1:]] == ["constant", "linear decay", "harmonic", "free"]
    for _, before, after, *_ in rows[1:]:
        assert float(before.split()[0]) < float(after.split()[0])
    assert "some tasks" in text
    assert f" {beforehand.interpolation(8).shape[1]} knots" in text
    assert "{" not in text


def test_an_axis_is_a_line() -> None:
    small = {Q_LEARNING: {"states": 4, "actions": 2, "horizon": 4, "branching": 2}, CLUSTERING: {"horizon": 3}}
    for (env, options), axis in zip(small.items(), ("discount", "start"), strict=True):
        text = beforehand.line(TaskSet(env, "ood", 8, 0, {**options, "ood": axis}), 2)
        assert text.startswith(f"| {env[10:-3]}, {axis} | ")
        assert text.count("|") == 7


def test_the_axes_are_those_that_some_agent_misses() -> None:
    lines = (Path(__file__).parents[1] / "docs/results/agents.md").read_text().split("\n")
    cells = [line.strip("| ").split(" | ") for line in lines if line.startswith(("| Clustering, ", "| QLearning, "))]
    missed = {row[0] for row in cells if row[7] != "yes"}
    listed = {f"{env[10:-3]}, {axis}" for env, axes in beforehand.AXES.items() for axis in axes}
    assert missed == listed


@pytest.mark.parametrize(
    ("option", "value", "error"),
    [(f"--{name}", "0", SystemExit) for name in ("draws", "axis-draws", "iterations")] + [("--tasks", "3", ValueError)],
)
def test_what_cannot_be_is_refused_at_once(
    option: str,
    value: str,
    error: type[BaseException],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.argv", ["beforehand", option, value, "--out", str(tmp_path / "page.md")])
    with pytest.raises(error) as refused:
        beforehand.main()
    assert option[2:] in f"{refused.value} {capsys.readouterr().err}"
    assert not (tmp_path / "page.md").exists()
