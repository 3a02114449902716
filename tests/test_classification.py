"""Softmax regression: the optimum, its gradient, two classes, padding, limits, real data, and bad input."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from metalearn_env import TaskFamily
from metalearn_env.datasets import load_classes, standardised
from metalearn_env.engine import Engine
from metalearn_env.families import make_family
from metalearn_env.labelled import ClassificationTask
from metalearn_env.limits import limit_loss
from metalearn_env.rules import rule
from metalearn_env.scoring import final_log_gap
from metalearn_env.softmax import Softmax, best_in_the_span, loss_and_gradient, loss_of, newton
from metalearn_env.splits import ROW_SPLITS, split_rows
from metalearn_env.testing import check_family

CASES: dict[str, dict[str, Any]] = {
    "minibatch": {"batch_size": 3},
    "two classes": {"classes": 2, "tails": "heavy"},
    "no noise": {"noise": 0, "separation": 100, "penalty": 1e-5},
    "iris": {"dataset": "iris", "split": "validation"},
    "digits": {"dataset": "digits", "batch_size": 4, "dimension": 5},
    "wine": {"dataset": "wine", "split": "test"},
    "breast_cancer": {"dataset": "breast_cancer", "dimension": 6},
}
cases = pytest.mark.parametrize("options", CASES.values(), ids=CASES.keys())


def classification(**options: Any) -> TaskFamily:
    if isinstance(options.get("dataset"), str):
        pytest.importorskip("sklearn")
    return make_family("Classification", **options)


def tasks(family: TaskFamily, n: int = 6, horizon: int = 6, seed: int = 0) -> ClassificationTask:
    task: ClassificationTask = family.complete(family.sample(np.random.default_rng(seed), n, horizon))
    return task


def points(task: ClassificationTask) -> np.ndarray:
    return np.random.default_rng(1).normal(size=task.optimum.shape)


@cases
def test_the_contract_is_kept(options: dict[str, Any]) -> None:
    classification(**options)
    check_family("Classification", **options)


# Losses and directions


@cases
def test_the_direction_is_the_falling_gradient_of_the_signal(options: dict[str, Any]) -> None:
    family = classification(**options)
    task = tasks(family)
    theta, t = points(task), np.array([0, 5, 2, 3, 1, 4])
    width = 1e-5
    slopes = [
        (family.signal(task, theta + width * unit, t) - family.signal(task, theta - width * unit, t)) / (2 * width)
        for unit in np.eye(theta.shape[1])
    ]
    scale = task.objective[:, None]
    assert family.direction(task, theta, t) / scale == pytest.approx(-np.stack(slopes, axis=1) / scale, abs=1e-7)


def test_the_curvature_is_the_change_of_the_direction() -> None:
    family = classification(batch_size=5, scale=0)
    task = tasks(family)
    theta, vector, t = points(task), points(task)[::-1].copy(), np.array([0, 5, 2, 3, 1, 4])
    ahead, behind = (family.direction(task, theta + width * vector, t) for width in (1e-6, -1e-6))
    assert family.curvature(task, theta, t, vector) == pytest.approx((behind - ahead) / 2e-6, abs=1e-7)  # type: ignore[attr-defined]


def test_minibatches_are_right_on_average() -> None:
    horizon = 4000
    family = classification(batch_size=4, scale=0)
    task = tasks(family, 1, horizon)
    theta = points(task)
    exact = replace(family, batch_size=None).direction(task, theta, np.zeros(1, np.int64))[0]
    drawn = np.array([family.direction(task, theta, np.array([t]))[0] for t in range(horizon)])
    assert (np.abs(drawn.mean(axis=0) - exact) <= 4.5 * drawn.std(axis=0) / horizon**0.5 + 1e-12).all()


def test_two_classes_are_logistic_regression() -> None:
    """A softmax of two vectors is the logistic regression of their difference, at half the penalty, twice the step."""
    family = classification(classes=2, scale=0)
    task = tasks(family)
    engine, w = Engine.start(family, task, 5), np.zeros((6, task.inputs.shape[2]))
    sign = 2.0 * task.labels - 1.0
    for _ in range(5):
        margin = sign * np.einsum("nmd,nd->nm", task.inputs, w)
        half = 0.5 * task.penalty
        loss = np.log1p(np.exp(-margin)).mean(axis=1) + 0.5 * half * np.vecdot(w, w)
        assert engine.loss == pytest.approx(loss)
        slope = -np.einsum("nm,nmd->nd", sign / (1.0 + np.exp(margin)), task.inputs) / task.labels.shape[1]
        step = 0.5 * engine.unit
        w = w - 2.0 * step[:, None] * (slope + half[:, None] * w)
        engine.advance(step)
        first, second = engine.theta.reshape(6, 2, -1).swapaxes(0, 1)
        assert second - first == pytest.approx(w)
        assert second + first == pytest.approx(np.zeros_like(w), abs=1e-12)


def test_what_is_not_there_changes_nothing() -> None:
    task = tasks(classification(classes=(2, 5), dimension=(1, 8), scale=0), 40)
    theta, (n, most) = points(task), task.barrier.shape
    loss, gradient = loss_and_gradient(task.problem, theta.reshape(n, most, -1))
    for row in range(n):
        classes, d = np.rint(10 ** task.descriptor[row, :2]).astype(int)
        assert np.count_nonzero(task.barrier[row] == 0.0) == classes
        used = [*range(d), 8]
        small = Softmax(
            task.inputs[row : row + 1][:, :, used], task.labels[row : row + 1], np.zeros((1, classes)), np.zeros(1)
        )
        own = theta.reshape(n, most, -1)[row : row + 1, :classes][:, :, used]
        alone, slope = loss_and_gradient(small, own)
        assert loss[row] == pytest.approx(alone[0] + 0.5 * task.penalty[row] * theta[row] @ theta[row])
        assert gradient[row, :classes][:, used] - task.penalty[row] * own[0] == pytest.approx(slope[0], abs=1e-12)
        found = task.optimum.reshape(n, most, -1)[row]
        assert not found[classes:].any()
        assert not found[:, [column for column in range(9) if column not in used]].any()


def test_the_unit_is_the_exact_line_search_at_the_start() -> None:
    family = classification(batch_size=7)
    task = tasks(family, 10)
    engine = Engine.start(family, task, 1)
    slopes = [
        np.vecdot(engine.direction, family.direction(task, size * engine.unit[:, None] * engine.direction, engine.t))
        for size in (0.0, 1e-4)
    ]
    assert slopes[1] / slopes[0] == pytest.approx(np.full(10, 1.0 - 1e-4), abs=1e-6)
    still = task._replace(inputs=np.zeros_like(task.inputs))
    assert (Engine.start(family, still, 1).unit == 1.0).all()


# The optimum


@cases
def test_the_optimum_is_that_of_scikit_learn(options: dict[str, Any]) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    family = classification(**options, scale=0)
    task = tasks(family)
    for row in range(6):
        X, y = task.inputs[row], task.labels[row]
        classes = int((task.barrier[row] == 0.0).sum())
        strength = 1.0 / (task.penalty[row] * len(y))
        present = np.unique(y)
        if classes == 2 or len(present) < classes:
            continue  # scikit-learn's binary model is another parametrisation; a class that is missing is unknown to it
        model = linear_model.LogisticRegression(C=strength, fit_intercept=False, tol=1e-10, max_iter=10_000)
        found = model.fit(X, y).coef_
        optimum = task.optimum[row].reshape(len(task.barrier[row]), -1)[:classes]
        assert optimum == pytest.approx(found, abs=1e-4 * np.abs(found).max())


def test_the_logistic_optimum_is_that_of_scikit_learn() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    task = tasks(classification(classes=2, scale=0))
    for row in range(6):
        X, y = task.inputs[row], task.labels[row]
        strength = 2.0 / (task.penalty[row] * len(y))  # half the penalty
        model = linear_model.LogisticRegression(C=strength, fit_intercept=False, tol=1e-10, max_iter=10_000)
        first, second = task.optimum[row].reshape(2, -1)
        assert second - first == pytest.approx(model.fit(X, y).coef_[0], abs=1e-4)


@cases
def test_nothing_is_below_the_reference(options: dict[str, Any]) -> None:
    family = classification(**options)
    task = tasks(family, 20)
    reference = family.reference_loss(task)
    assert np.array_equal(family.loss(task, task.optimum), reference)
    whole = replace(family, batch_size=None)
    slope = whole.direction(task, task.optimum, np.zeros(20, np.int64)) / task.objective[:, None]
    assert np.abs(slope).max() < 1e-10
    for width in (1e-6, 1e-2):
        moved = family.loss(task, task.optimum + width * points(task))
        assert (moved >= reference).all()


def test_newton_is_damped_where_classes_are_far_apart() -> None:
    X = np.random.default_rng(0).normal(size=(1, 60, 3)) * 1e3
    y = (X[:, :, 0] > 0).astype(np.int64)
    problem = Softmax(X, y, np.zeros((1, 2)), np.full(1, 1e-8))
    optimum = newton(problem)
    assert loss_of(problem, optimum)[0] < 1e-3
    assert np.abs(loss_and_gradient(problem, optimum)[1]).max() < 1e-8


# Limits


def test_the_span_of_all_gradients_holds_the_optimum() -> None:
    task = tasks(classification(dimension=(2, 4), classes=2, scale=0))
    best = best_in_the_span(task.problem, 10)
    assert loss_of(task.problem, best) == pytest.approx(task.minimum, rel=1e-12)
    losses = [loss_of(task.problem, best_in_the_span(task.problem, gradients)) for gradients in range(6)]
    assert (np.diff(losses, axis=0) <= 1e-15).all()


@pytest.mark.parametrize("name", ["dai-yuan", "exact-line-search", "abb-min"])
def test_no_rule_is_below_the_limit_of_all_examples(name: str) -> None:
    family = classification(split="test")
    task = tasks(family, 60, 12)
    first = family.loss(task, family.start(task)) - task.minimum
    limit = np.log(np.maximum((limit_loss(family, task, 12) - task.minimum) / first, 1e-12))
    assert (final_log_gap(family, task, 12, rule(name)) >= limit - 1e-6).all()


def test_the_limit_of_minibatches_is_what_they_showed() -> None:
    family = classification(batch_size=9, examples=40)
    task = tasks(family, 4, 6)
    before = limit_loss(family, task, 4)
    batches = task.batches.copy()
    batches[:, 4:] = 0  # what is not seen any more
    assert np.array_equal(limit_loss(family, task._replace(batches=batches), 4), before)
    whole = tasks(replace(family, examples=45), 4, 6)
    whole = whole._replace(batches=np.arange(45).reshape(1, 5, 9).repeat(4, axis=0))
    assert limit_loss(replace(family, examples=45), whole, 5) == pytest.approx(whole.minimum, rel=1e-12)


def test_the_scale_of_the_objective_is_not_seen() -> None:
    family = classification(scale=0, batch_size=8)
    task = tasks(family, 20)
    for factor in (1e-6, 1e6):
        scaled = task._replace(objective=task.objective * factor, minimum=task.minimum * factor)
        one, other = Engine.start(family, task, 6), Engine.start(family, scaled, 6)
        for _ in range(6):
            one.advance(0.3 * one.unit)
            other.advance(0.3 * other.unit)
        assert other.gap_ratio == pytest.approx(one.gap_ratio)
        assert limit_loss(family, scaled, 6) == pytest.approx(factor * limit_loss(family, task, 6))


# Data


@pytest.mark.parametrize("split", ROW_SPLITS)
def test_tasks_of_a_split_are_of_its_rows(split: str) -> None:
    rng = np.random.default_rng(0)
    X, y = np.column_stack([np.arange(60.0), rng.normal(size=60)]), np.array(["b", "a", "c"])[rng.integers(3, size=60)]
    family = classification(dataset=(X, y), split=split, dimension=2, examples=8)
    task = tasks(family, 30)
    inputs, labels = load_classes((X, y))
    known = standardised(inputs, split)[:, 0]
    place = {round(value, 9): row for value, row in zip(known, split_rows(60, split), strict=True)}
    met = set()
    for features, own in zip(task.inputs, task.labels, strict=True):
        first = next(c for c in (0, 1) if round(features[0, c], 9) in place and round(features[1, c], 9) in place)
        rows = [place[round(value, 9)] for value in features[:, first]]
        assert len(set(rows)) == 8
        assert np.array_equal(own, labels[rows])
        met |= set(rows)
    assert met == set(split_rows(60, split))
    assert y[0] == "abc"[labels[0]]


def test_heavy_tails_and_noise_are_what_they_say() -> None:
    options: dict[str, Any] = {"dimension": 4, "classes": 3, "examples": 1000, "conditioning": 1, "separation": 100}
    normal, heavy = (
        tasks(classification(tails=tails, **options), 20).inputs[:, :, :4] for tails in ("normal", "heavy")
    )
    assert (heavy**4).mean() > 2 * (normal**4).mean()
    assert normal.var() == pytest.approx(1.0, abs=0.05)
    clean, noisy = (tasks(classification(noise=noise, penalty=1e-4, **options), 10) for noise in (0, 0.4))
    assert np.median(clean.minimum / clean.objective) < 0.1 < 0.5 < np.median(noisy.minimum / noisy.objective)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 1}, "classes is a whole number >= 2"),
        ({"penalty": 0}, "penalty is a number >= 1e-12"),
        ({"noise": 1.5}, "noise is a share of at most 1"),
        ({"noise": (0, 0.5)}, "noise is 0 or a range above 0"),
        ({"conditioning": 0.5}, "conditioning is a number >= 1"),
        ({"batch_size": 0}, "batch_size is a whole number >= 1"),
        ({"scale": 31}, "scale is a number of decades from 0 to 30"),
        ({"tails": "fat"}, "tails is one of"),
        ({"dataset": "diabetes"}, "dataset is one of iris"),
        ({"dataset": "iris", "noise": 0.1}, "a data set leaves no choice of noise"),
        ({"dataset": "iris", "dimension": 5}, "dimension is at most 4"),
        ({"dataset": "iris", "examples": 91}, "examples is at most 90"),
        ({"dataset": (np.ones((4, 2)), [0, 1, 1])}, r"got shapes \(4, 2\) and \(3,\)"),
        ({"dataset": (np.eye(4), [1, 1, 1, 1])}, "at least 2 classes"),
        ({"dataset": (np.eye(4), [0.5, 1, 1, 2])}, "dataset y is of labels"),
        ({"dataset": (np.eye(4) * np.nan, [0, 1, 1, 2])}, "dataset X is finite"),
        ({"dataset": [1, 2, 3]}, r"dataset is a name or a pair \(X, y\)"),
    ],
)
def test_bad_input_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        classification(**options)


def test_an_episode_of_ones_own_data() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 3))
    env = gym.make("MetaLearn/Classification-v0", dataset=(X, X[:, 0] > 0), split="validation", horizon=5)
    env.reset(seed=0)
    total = sum(env.step(np.array([-0.05], np.float32))[1] for _ in range(5))
    assert total > 0.0
