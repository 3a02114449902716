"""Tracking: what is seen and what moves, and the answers known in advance."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import pytest

from metalearn_env.engine import Engine
from metalearn_env.families import make_family
from metalearn_env.family import Array
from metalearn_env.limits import kalman_gains, limit_loss
from metalearn_env.pool import draw_tasks
from metalearn_env.rules import rule
from metalearn_env.rules.schedules import schedule
from metalearn_env.scoring import final_log_gap, rollout
from metalearn_env.testing import check_family

LONG = {"dimension": 32, "distance": 1.0}


def closed_form(q: Any) -> Any:
    return (np.sqrt(q**2 + 4 * q) - q) / 2


def long_run_risk(h: Any, q: Any) -> Any:
    """Return E |x - estimate|^2 over that of the noise, the fixed point of (1 - h)^2 (E + q) + h^2."""
    return ((1 - h) ** 2 * q + h**2) / (h * (2 - h))


def last_risk(step_size: float, n: int = 400, horizon: int = 120, **options: Any) -> Array:
    """Return squared distances at the end over those of the noise, (n,), of learners of one step size."""
    family = make_family("Tracking", **{**LONG, **options})
    task = draw_tasks(family, 0, n, horizon)
    *_, engine = rollout(family, task, horizon, schedule(np.full(horizon, step_size)))
    return 2.0 * engine.loss / (32 * task.deviation**2)


@pytest.mark.parametrize(
    "options",
    [{}, {"dimension": 1}, {"tails": "heavy", "scale": (3, 6)}, {"drift": 1e-9, "distance": 1e9, "drift_told": True}],
    ids=str,
)
def test_it_keeps_the_contract(options: dict[str, Any]) -> None:
    check_family("Tracking", **options)


def test_a_step_by_hand() -> None:
    """The target moves, is seen, and the estimate goes part of the way to what was seen."""
    family = make_family("Tracking", dimension=(1, 3))
    task = draw_tasks(family, 0, 4, 2)
    engine = Engine.start(family, task, 2)
    assert np.array_equal(engine.theta, np.hstack([np.zeros((4, 3)), task.first]))
    engine.advance(np.array([0.0, 0.25, 1.0, 2.0]))
    target = task.first + task.walk[:, 0]
    seen = target + task.noise[:, 0]
    estimate = np.array([[0.0], [0.25], [1.0], [2.0]]) * seen
    assert engine.theta == pytest.approx(np.hstack([estimate, target]))
    assert engine.loss == pytest.approx(0.5 * ((target - estimate) ** 2).sum(axis=1))
    innovation = target + task.walk[:, 1] + task.noise[:, 1] - estimate
    assert engine.signal == pytest.approx(0.5 * (innovation**2).sum(axis=1))
    assert engine.squared_norm == pytest.approx((innovation**2).sum(axis=1))


def test_variances_are_what_they_are_called() -> None:
    for tails in ("normal", "heavy"):
        task = draw_tasks(make_family("Tracking", drift=0.25, distance=4.0, dimension=64, tails=tails), 0, 100, 200)
        noise = task.noise / task.deviation[:, None, None]
        assert noise.std() == pytest.approx(1.0, rel=0.02)
        assert (task.walk / task.deviation[:, None, None]).std() == pytest.approx(0.5, rel=0.02)
        assert (task.first / task.deviation[:, None]).std() == pytest.approx(2.0, rel=0.1)


def test_the_agent_is_told_the_drift_only_if_asked() -> None:
    hidden, told = (make_family("Tracking", drift_told=told) for told in (False, True))
    task = draw_tasks(hidden, 0, 9, 5)
    assert (hidden.descriptor(task)[:, 1] == 0.0).all()
    task = draw_tasks(told, 0, 9, 5)
    assert told.descriptor(task)[:, 1] == pytest.approx(np.log10(task.drift))


@pytest.mark.parametrize("distance", [1e-3, 1.0, np.inf])
def test_kalmans_gains_tend_to_the_closed_form(distance: float) -> None:
    q = np.logspace(-3, 2, 11)
    gains = list(islice(kalman_gains(q, np.full(11, distance)), 400))
    assert gains[-1] == pytest.approx(closed_form(q), rel=1e-6)
    assert gains[0] == pytest.approx(1.0 if distance == np.inf else (distance + q) / (distance + q + 1.0))
    family = make_family("Tracking", drift=0.01)
    engine = Engine.start(family, draw_tasks(family, 0, 3, 5), 5)
    assert next(rule("drift-tracking")(engine)) == pytest.approx(closed_form(0.01))


def test_without_drift_the_gain_is_the_mean() -> None:
    gains = np.array(list(islice(kalman_gains(np.zeros(1), np.full(1, np.inf)), 5)))
    assert gains[:, 0] == pytest.approx(1.0 / np.arange(1, 6))


@pytest.mark.parametrize(("h", "q"), [(0.2, 0.01), (0.5, 0.3), (1.0, 2.0), (1.5, 0.1)])
@pytest.mark.parametrize("tails", ["normal", "heavy"])
def test_the_risk_of_a_constant_step_is_its_formula(h: float, q: float, tails: str) -> None:
    reached = last_risk(h, drift=q, tails=tails)
    error = reached.std() / 20.0
    assert error < 0.06 * long_run_risk(h, q)
    assert reached.mean() == pytest.approx(long_run_risk(h, q), abs=4 * error)


@pytest.mark.parametrize("q", [0.01, 0.1, 1.0])
def test_the_closed_form_is_the_best_constant_in_the_long_run(q: float) -> None:
    """On the same draws, and by the formula, whose least value is the closed form itself."""
    best = closed_form(q)
    steps = best * np.array([0.7, 0.85, 1.0, 1.15, 1.3])
    reached = [last_risk(step, drift=q).mean() for step in steps]
    assert int(np.argmin(reached)) in (1, 2, 3)
    assert reached[2] < min(reached[0], reached[4])
    fine = np.linspace(0.5, 1.5, 1001) * best
    assert fine[np.argmin(long_run_risk(fine, q))] == pytest.approx(best, rel=2e-3)
    assert long_run_risk(best, q) == pytest.approx(best)


def test_innovations_are_uncorrelated_at_the_best_step_only() -> None:
    q = 0.1
    family = make_family("Tracking", drift=q, distance=1.0, dimension=64)
    task = draw_tasks(family, 0, 200, 60)
    cosines = []
    for multiple in (0.5, 1.0, 2.0):
        *_, engine = rollout(family, task, 60, schedule(np.full(60, multiple * closed_form(q))))
        cosines.append(np.mean(engine.alignment / np.sqrt(engine.squared_norm * engine.previous_squared_norm)))
    assert cosines[0] > 0.1
    assert abs(cosines[1]) < 0.03
    assert cosines[2] < -0.1


def test_the_limit_is_the_filter_and_nothing_comes_near_without_its_start() -> None:
    family = make_family("Tracking", drift=1e-4)
    task = draw_tasks(family, 0, 200, 40)
    first = Engine.start(family, task, 40).initial_gap
    limit = np.log(limit_loss(family, task, 40) / first)
    told, constant = (final_log_gap(family, task, 40, rule(name)) for name in ("kalman", "drift-tracking"))
    assert told == pytest.approx(limit, abs=0.05)  # a first estimate that is worth next to nothing
    gains = np.stack(list(islice(kalman_gains(task.drift, task.distance), 40)))
    assert final_log_gap(family, task, 40, schedule(gains)) == pytest.approx(limit)
    assert np.median(constant - limit) > 2.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"drift": 0.0}, "drift"),
        ({"distance": (2.0, 1.0)}, "distance"),
        ({"dimension": 1.5}, "dimension"),
        ({"tails": "fat"}, "tails"),
        ({"drift_told": 1}, "drift_told"),
        ({"scale": 1e9}, "scale"),
    ],
)
def test_what_cannot_be_honoured_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_family("Tracking", **options)
