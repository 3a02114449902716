"""Ritz values of the last directions, apart from environments."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from metalearn_env.engine import Engine
from metalearn_env.families import make_family
from metalearn_env.krylov import Krylov
from metalearn_env.pool import draw_tasks
from metalearn_env.rules import limited_memory, rule

P, LAST = 8, 3


def started(n: int = 4) -> Engine:
    """Return learners at their start."""
    family = make_family("LinearRegression", dimension=P, conditioning=20)
    return Engine.start(family, draw_tasks(family, seed=0, n=n, horizon=12), 12)


def followed(engine: Engine, steps: int) -> Krylov:
    """Return what is kept of so many steps of the unit, shorter and longer in turn."""
    krylov = Krylov(len(engine.t), P, LAST)
    krylov.begin(engine, np.arange(len(engine.t)))
    for t in range(steps):
        engine.advance(engine.unit * (0.7, 1.1, 0.3)[t % 3])
        krylov.passed(engine)
    krylov.look()
    return krylov


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7])
def test_they_lie_between_the_eigenvalues_and_shares_add_up(steps: int) -> None:
    engine = started()
    value, share = followed(engine, steps).ritz()
    eigenvalues = engine.task.diagonal**2
    there = value > 0.0
    assert (there.sum(axis=1) == min(steps, LAST)).all()
    low, high = eigenvalues.min(axis=1)[:, None], eigenvalues.max(axis=1)[:, None]
    assert ((value >= low * (1 - 1e-6)) & (value <= high * (1 + 1e-6)))[there].all()
    assert (share.sum(axis=1) <= 1.0 + 1e-9).all()


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_scale_of_the_objective_changes_no_feature(scale: float) -> None:
    engine, rows = started(), np.arange(4)
    one, other = Krylov(4, P, LAST), Krylov(4, P, LAST)
    one.begin_as(engine, engine.direction, rows)
    scaled = replace(engine, squared_norm=engine.squared_norm * scale**2, step_size=engine.step_size / scale)
    other.begin_as(scaled, engine.direction * scale, rows)
    for t in range(5):
        engine.advance(engine.unit * (0.7, 1.1, 0.3)[t % 3])
        one.passed_as(engine, engine.direction)
        scaled = replace(engine, squared_norm=engine.squared_norm * scale**2, step_size=engine.step_size / scale)
        other.passed_as(scaled, engine.direction * scale)
    one.look()
    other.look()
    assert one.features.all()
    assert other.features == pytest.approx(one.features, abs=1e-6)
    assert other.steps * scale == pytest.approx(one.steps, rel=1e-6)


def test_an_episode_begins_with_nothing_of_the_one_before() -> None:
    krylov, fresh = followed(started(), 5), started()
    krylov.begin(fresh, np.arange(4))
    krylov.look()
    assert not krylov.features.any()
    assert (krylov.steps == fresh.unit[:, None]).all()
    fresh.advance(fresh.unit)
    krylov.passed(fresh)
    krylov.look()
    assert ((krylov.ritz()[0] > 0.0).sum(axis=1) == 1).all()


def test_the_shortest_step_is_that_of_the_largest_ritz_value_since_the_episode_began() -> None:
    engine, krylov, rows = started(), Krylov(4, P, LAST), np.arange(4)
    krylov.begin(engine, rows)
    largest, fell = np.zeros(4), False
    for t in range(10):
        engine.advance(engine.unit * (0.7, 1.1, 0.3)[t % 3])
        krylov.passed(engine)
        krylov.look()
        now = krylov.ritz()[0][:, -1]
        largest, fell = np.maximum(largest, now), fell or bool((now < 0.99 * largest).any())
        assert krylov.steps[:, -1] == pytest.approx(1.0 / largest, rel=1e-12)
    assert fell


@pytest.mark.parametrize("odd", [np.inf, np.nan])
def test_a_direction_that_is_not_finite_counts_as_none(odd: float) -> None:
    engine = started()
    krylov = followed(engine, 2)
    engine.advance(engine.unit)
    engine.direction[0], engine.squared_norm[0] = odd, odd
    krylov.passed(engine)
    krylov.look()
    assert np.isfinite(krylov.features).all()
    assert np.isfinite(krylov.steps).all()
    assert krylov.features[1:].any(axis=1).all()


def test_limited_memory_takes_what_most_of_the_curvature_lies_along() -> None:
    engine, own = started(), started()
    krylov = Krylov(4, P, 20)
    krylov.begin(own, np.arange(4))
    for t, step in zip(range(6), rule("limited-memory")(engine), strict=False):
        engine.advance(step)
        if t:
            value, share = krylov.ritz()
            assert step == pytest.approx(
                1.0 / np.take_along_axis(value, (share * value).argmax(axis=1)[:, None], 1)[:, 0]
            )
        else:
            assert step == pytest.approx(engine.unit)
        own.advance(step)
        krylov.passed(own)


def test_limited_memory_looks_back_on_twenty_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(limited_memory, "Krylov", lambda n, p, last: (asked.append(last), Krylov(n, p, last))[1])
    next(rule("limited-memory")(started()))
    assert asked == [20]


def test_a_direction_of_zero_tells_nothing() -> None:
    """On a trajectory without noise many an error is exactly 0."""
    engine = started()
    krylov = Krylov(len(engine.t), P, LAST)
    krylov.begin(engine, np.arange(len(engine.t)))
    for t in range(6):
        engine.advance(0.5 * engine.unit)
        if t == 2:
            engine.direction[:] = 0.0
        krylov.passed(engine)
        krylov.look()
        value, _ = krylov.ritz()
        assert np.abs(value * engine.unit[:, None]).max() < 1e6
