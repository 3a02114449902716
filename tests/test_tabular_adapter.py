"""Learned step sizes for tables in loops of one's own: those of the environment to 1e-6, on the same transitions."""

from __future__ import annotations

import json
import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from states import spoilt
from test_policy import untrained

from metalearn_env.adapters.tabular import LearnedAlpha, QLearner
from metalearn_env.engine import Engine
from metalearn_env.families.q_learning import QLearning
from metalearn_env.policy import Policy
from metalearn_env.pool import draw_tasks
from metalearn_env.processes import describe
from metalearn_env.stepper import Stepper

HORIZON = 60


def tame(shift: float = -0.1, interval: int = 1, averaged: bool = False) -> Policy:
    """Return a policy of random weights whose steps are about 1000^shift."""
    policy = untrained("absolute", history=2, interval=interval, averaged=averaged)
    weight, bias = policy.layers[-1]
    return Policy((*policy.layers[:-1], (0.03 * weight, 0.03 * bias + np.float32(shift))), policy.header)


def describe_table(states: int, actions: int, discount: float, epsilon: float) -> list[float]:
    values = (np.array([value]) for value in (states, actions, discount, epsilon))
    found: list[float] = describe(*values, synchronous=False)[0].tolist()
    return found


CLIFF = "CliffWalking-v1" if "CliffWalking-v1" in gym.registry else "CliffWalking-v0"


@pytest.mark.parametrize(
    ("mdp", "interval", "averaged"),
    [
        (None, 1, False),
        (None, 4, False),
        (None, 4, True),
        ("FrozenLake-v1", 1, False),
        (CLIFF, 1, False),
        (CLIFF, 7, False),
        (CLIFF, 7, True),
    ],
)
def test_steps_and_tables_are_those_of_the_family(mdp: str | None, interval: int, averaged: bool) -> None:
    family = QLearning(sampling="trajectory", mdp=mdp)
    task = draw_tasks(family, seed=5, n=1, horizon=HORIZON)
    engine, expected, policy = Engine.start(family, task, HORIZON), [], tame(interval=interval, averaged=averaged)
    log_states, log_actions, _, _, epsilon = task.descriptor[0]
    states = round(10.0**log_states)
    alpha = LearnedAlpha(
        states,
        round(10.0**log_actions),
        policy,
        horizon=HORIZON,
        discount=float(task.discount[0]),
        epsilon=float(epsilon),
        most=math.inf,
        sweep=1,
    )
    table = np.zeros(family.num_parameters - 1)
    for t, step in zip(range(HORIZON), policy.step_sizes(engine), strict=False):
        visit = family.visit(task, engine.theta, np.array([t]))
        (pair,), (error,) = visit.pair, visit.error
        expected.append(float(step[0]))
        chosen = alpha(error, int(visit.state[0]), int(pair) // family._law.num_states)
        assert chosen == pytest.approx(expected[-1], rel=1e-6)
        table[pair] += chosen * error
        engine.advance(step)
        assert np.allclose(engine.theta[0, :-1], table, rtol=1e-6, atol=1e-6 * np.abs(table).max())
    assert len(set(expected)) > HORIZON / interval / 2
    assert alpha.t == HORIZON


def test_a_step_size_is_held_for_a_sweep() -> None:
    """The policy is shown the mean errors of the entries that a sweep has met; a run begins with the first errors."""

    def stepper(horizon: int) -> Stepper:
        known = describe_table(3, 2, 0.9, 0.1)
        return Stepper(tame(), unit=1.0, horizon=horizon, kind="reinforcement", descriptor=known)

    alpha, begun = LearnedAlpha(3, 2, tame(), horizon=32, discount=0.9, sweep=4, most=math.inf), stepper(7)
    errors = [(0.0, 0, 0)] * 4 + [(1.0, 0, 1), (3.0, 0, 1), (0.0, 2, 0), (-1.0, 1, 1)]
    errors += [(0.5, 0, 1), (0.5, 0, 1), (0.2, 2, 1), (0.2, 2, 1)]
    found = [alpha(*error) for error in errors]
    before, first = stepper(8).observe(1.0, 1.0), begun.observe(0.5 * 5.0 / 3.0, 5.0 / 3.0)
    second = begun.observe(0.5 * 5.0 / 3.0, 5.0 / 3.0)
    third = begun.observe(0.5 * 0.29 / 2.0, 0.29 / 2.0, 0.5 * 2.0 / math.sqrt(2.0 * 3.0))
    assert found == pytest.approx([before] * 3 + [first] * 4 + [second] * 4 + [third], rel=1e-12)
    assert len({before, first, second, third}) == 4
    assert alpha.t == 12


@pytest.mark.parametrize("sweep", [1, 4, 12])
def test_inner_products_are_those_of_directions_whatever_sweeps_meet(sweep: int, monkeypatch: Any) -> None:
    """A cosine is at most 1, also where one sweep meets six entries, and the next that alone whose error is large."""
    told: list[tuple[float, float]] = []
    observe = Stepper.observe

    def recorded(stepper: Stepper, signal: float, squared: float, alignment: float = 0.0, *rest: Any) -> float:
        told.append((squared, alignment))
        return observe(stepper, signal, squared, alignment, *rest)

    monkeypatch.setattr(Stepper, "observe", recorded)
    alpha, rng = LearnedAlpha(3, 2, tame(), horizon=100 * sweep, discount=0.9, sweep=sweep), np.random.default_rng(0)
    for places in [6, 1, 1, 6, 3, *rng.integers(1, 7, 60)]:
        for t in range(sweep):
            entry = t % int(places)
            alpha(0.1 if entry else 1.0, *divmod(entry, 2))
    products, norms = np.array([alignment for _, alignment in told]), np.sqrt([squared for squared, _ in told])
    cosines = products[1:] / (norms[1:] * norms[:-1])
    assert (cosines <= 1.0 + 1e-12).all()
    assert cosines.max() == pytest.approx(1.0)


def test_the_first_interval_holds_what_the_first_sweep_took_whatever_is_seen() -> None:
    """A policy that sees means is told of every sweep, and does with it what one that does not look does."""
    taken = []
    for averaged in (False, True):
        alpha = LearnedAlpha(3, 2, tame(interval=3, averaged=averaged), horizon=99, discount=0.9, most=math.inf)
        taken.append([alpha(1.0, t % 3, t % 2) for t in range(3 * 6 - 1)])
    assert taken[0] == taken[1]
    assert len(set(taken[0])) == 1


def test_an_interval_is_of_sweeps() -> None:
    """The policy is shown what the last of them has met, beside what that before the last decision had."""
    options: dict[str, Any] = {"horizon": 32, "discount": 0.9, "sweep": 2, "most": math.inf}
    alpha = LearnedAlpha(3, 2, tame(interval=3), **options)
    known: dict[str, Any] = {"kind": "reinforcement", "descriptor": describe_table(3, 2, 0.9, 0.1)}
    stepper = Stepper(tame(interval=3), unit=1.0, horizon=16, **known)
    errors = [(1.0, 0, 1), (3.0, 0, 1), *[(9.0, 2, 0)] * 4, (0.5, 0, 1), (0.5, 2, 1)]
    found = [alpha(*error) for error in errors]
    first = stepper.observe(0.5 * 4.0, 4.0)
    assert [stepper.hold(), stepper.hold()] == [first, first]
    second = stepper.observe(0.5 * 81.0, 81.0, 0.0)
    assert found == pytest.approx([*[first] * 5, *[second] * 3], rel=1e-12)


def test_there_are_no_more_decisions_than_in_training() -> None:
    names = list(tame().header["feature_names"])
    observed = np.array([[-9.0] * len(names), [9.0] * len(names)])
    observed[1, names.index("log10_horizon")] = np.log10(50.0)
    known = Policy(tame().layers, {**tame().header, "observed": observed.tolist()})
    table: dict[str, Any] = {"num_states": 3, "num_actions": 2, "discount": 0.9}
    asked = {horizon: LearnedAlpha(policy=known, horizon=horizon, **table) for horizon in (100, 10_000)}
    for horizon, alpha in asked.items():
        sizes = [alpha(math.sin(t), 0, 0) for t in range(horizon)]
        assert len(set(sizes)) <= 1 + horizon // max(6, horizon // 50)
        assert len(set(sizes)) > 8
    with pytest.raises(ValueError, match="sweep is a whole number >= 1"):
        LearnedAlpha(policy=known, horizon=10, sweep=0, **table)
    with pytest.raises(ValueError, match=r"no entry \(3, 0\)"):
        asked[100](1.0, 3, 0)


def test_short_runs_take_small_steps() -> None:
    sizes = [LearnedAlpha(5, 2, tame(0.3), horizon=horizon, discount=0.9)(1.0, 0, 0) for horizon in (20, 100, 200, 400)]
    assert sizes == pytest.approx([0.1, 0.5, 1.0, 1.0])


def test_a_learner_makes_the_errors_of_the_family() -> None:
    family = QLearning(sampling="trajectory", mdp="FrozenLake-v1", discount=0.9, epsilon=0.2, noise=0.1, scale=0)
    task, states = draw_tasks(family, seed=5, n=1, horizon=HORIZON), family._law.num_states
    engine, policy = Engine.start(family, task, HORIZON), tame()
    learner = QLearner(
        round(10 ** task.descriptor[0, 0]),
        4,
        policy,
        horizon=HORIZON,
        discount=0.9,
        epsilon=0.2,
        most=math.inf,
        sweep=1,
    )
    learner.table = np.zeros((states, 4))  # which has room for the holes
    for t, step in zip(range(HORIZON), policy.step_sizes(engine), strict=False):
        visit = family.visit(task, engine.theta, np.array([t]))
        successor, reward = (array[0, visit.pair[0]] for array in family.transitions(task, np.array([t])))
        ends = successor == states
        action, state = divmod(int(visit.pair[0]), states)
        error = learner.update(state, action, float(reward), 0 if ends else int(successor), bool(ends))
        assert error == pytest.approx(float(visit.error[0]), rel=1e-6, abs=1e-9)
        engine.advance(step)
    assert np.allclose(learner.table.T.ravel(), engine.theta[0, :-1], rtol=1e-6)


def test_an_untrained_policy_learns_frozen_lake_without_errors() -> None:
    env, steps = gym.make("FrozenLake-v1", is_slippery=False), 2_000
    learner = QLearner(16, 4, Policy.untrained(history=3, seed=1), horizon=steps, discount=0.95, epsilon=0.3, seed=0)
    state, _ = env.reset(seed=0)
    for _ in range(steps):
        action = learner.act(state)
        next_state, reward, terminated, truncated, _ = env.step(action)
        learner.update(state, action, float(reward), next_state, terminated)
        state = env.reset()[0] if terminated or truncated else next_state
    assert np.isfinite(learner.table).all()
    assert 0.0 <= learner.table.min() <= learner.table.max() <= 1.0
    assert learner.alpha.t == steps


def test_random_actions_are_taken_now_and_then_and_equally_good_ones_in_turn() -> None:
    def acts(seed: int, epsilon: float) -> np.ndarray:
        one = QLearner(2, 4, tame(), horizon=9, discount=0.9, epsilon=epsilon, seed=seed)
        one.table[1, 2] = 1.0
        return np.array([[one.act(1), one.act(0)] for _ in range(1000)])

    best, equal = acts(0, 0.2).T
    assert np.mean(best != 2) == pytest.approx(0.2 * 3 / 4, abs=0.05)
    assert np.bincount(equal, minlength=4) == pytest.approx(250, abs=60)
    assert np.array_equal(acts(0, 0.2).T, [best, equal])
    assert not np.array_equal(acts(1, 0.2).T, [best, equal])
    assert (acts(0, 0.0)[:, 0] == 2).all()


@pytest.mark.parametrize(
    ("sweep", "interval", "averaged"), [(1, 1, False), (3, 1, False), (1, 3, False), (1, 3, True), (2, 3, True)]
)
def test_what_is_saved_goes_on_bit_for_bit(sweep: int, interval: int, averaged: bool) -> None:
    def made() -> LearnedAlpha:
        return LearnedAlpha(5, 2, tame(0.1, interval, averaged), horizon=9, discount=0.9, sweep=sweep, most=1.0)

    whole, first, second = made(), made(), made()
    errors = [(1.0, 0, 1), (0.5, 0, 1), (-0.2, 3, 0), (0.1, 3, 0)]
    expected = [whole(*error) for error in errors]
    assert max(expected) == 1.0  # the largest step there may be
    begun = [first(*error) for error in errors[:2]]
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert begun + [second(*error) for error in errors[2:]] == expected
    with pytest.raises(ValueError, match="stepper"):
        second.load_state_dict({})
    for changed in ({"num_states": 2, "num_actions": 5}, {"horizon": 10}, {"sweep": 4}):
        known = {"num_states": 5, "num_actions": 2, "horizon": 9, "sweep": sweep, **changed}
        other = LearnedAlpha(policy=tame(0.1, interval, averaged), discount=0.9, most=1.0, **known)
        with pytest.raises(ValueError, match=r"the state is of a run of the (shape|horizon|sweep)"):
            other.load_state_dict(first.state_dict())


def test_numbers_that_cannot_be_are_refused_and_change_nothing() -> None:
    first, second = (LearnedAlpha(3, 2, tame(), horizon=9, discount=0.9, sweep=2) for _ in range(2))
    for t in range(5):
        first(1.0, t % 3, 0)
    before, state = second.state_dict(), first.state_dict()
    negative = [{**state, name: -1} for name in ("t", "alpha", "taken")]
    for wrong in [*(bad for _, bad in spoilt(state)), *negative, {**state, "counts": [-1.0] * 6}]:
        with pytest.raises(ValueError, match=r"the state|noise is"):
            second.load_state_dict(wrong)
        assert second.state_dict() == before


def learner() -> QLearner:
    return QLearner(3, 2, tame(), horizon=9, discount=0.9, seed=0)


def test_sizes_may_be_whole_floating_numbers() -> None:
    one = QLearner(3.0, 2.0, tame(), horizon=9.0, discount=0.9, seed=0)  # type: ignore[arg-type]
    one.update(0, one.act(0), 1.0, 2, False)
    assert one.table.shape == (3, 2)


@pytest.mark.parametrize(
    ("transition", "words"),
    [
        ((3, 0, 1.0, 0), "state is below 3, not 3"),
        ((-1, 0, 1.0, 0), "state is a whole number >= 0"),
        ((0, 2, 1.0, 0), "action is below 2, not 2"),
        ((0, 0, 1.0, 3), "next_state is below 3"),
        ((0, 0, math.nan, 0), "reward is finite, not nan"),
        ((0, 0, 1e200, 0), "square, is finite"),
    ],
)
def test_bad_transitions_change_nothing(transition: tuple[Any, ...], words: str) -> None:
    one = learner()
    one.update(0, 1, 1.0, 2, False)
    before, table = one.alpha.state_dict(), one.table.copy()
    with pytest.raises(ValueError, match=words):
        one.update(*transition, False)
    assert one.alpha.state_dict() == before
    assert np.array_equal(one.table, table)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"discount": 1.0}, r"discount is in \[0, 1\), not 1.0"),
        ({"epsilon": 2.0}, r"epsilon is in \[0, 1\], not 2.0"),
        ({"most": 0.0}, "most is above 0"),
        ({"most": True}, "most is above 0"),
        ({"num_states": 0}, "num_states is a whole number >= 1"),
        ({"horizon": 0}, "horizon is a whole number >= 1"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        QLearner(**{"num_states": 3, "num_actions": 2, "policy": tame(), "horizon": 9, "discount": 0.9, **options})


def test_a_policy_that_does_not_fit_is_refused_with_both_lists() -> None:
    old = Policy(tame().layers, {**tame().header, "feature_names": ["loss"]})
    with pytest.raises(ValueError, match=r"(?s)\['loss'\].*but these are.*kind_supervised"):
        LearnedAlpha(3, 2, old, horizon=9, discount=0.9)
