"""A policy in a loop that is not ours sees and chooses what it sees and chooses in an environment."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from states import spoilt
from test_policy import untrained

from metalearn_env.engine import Engine, scaled_columns
from metalearn_env.families import make_family
from metalearn_env.observations import feature_names
from metalearn_env.policy import Policy
from metalearn_env.pool import draw_tasks
from metalearn_env.stepper import Stepper

HORIZON = 12
FAMILIES: dict[str, dict[str, Any]] = {
    "LinearRegression": {"batch_size": 4},
    "Classification": {},
    "Clustering": {},
    "QLearning": {"sampling": "trajectory"},
}
INTERVALS = [(2, 0, False), (5, 0, False), (4, 3, False), (3, 0, True), (4, 2, True)]  # opening, averaged
ONCE = (1, 0, False)


def tame(
    action: str, strategy: str, interval: int = 1, opening: int = 0, averaged: bool = False, ritz: int = 0
) -> Policy:
    """Return a policy of random weights that keeps off the bounds of step sizes."""
    policy = untrained(action, strategy, history=3, interval=interval, opening=opening, averaged=averaged, ritz=ritz)
    weight, bias = policy.layers[-1]
    return Policy((*policy.layers[:-1], (0.1 * weight, 0.1 * bias)), policy.header)


def engine_of(name: str) -> Engine:
    """Return one learner at its start."""
    family = make_family(name, **FAMILIES[name])
    return Engine.start(family, draw_tasks(family, seed=3, n=1, horizon=HORIZON), HORIZON)


def stepper_of(policy: Policy, engine: Engine) -> Stepper:
    """Return a stepper that is told of the task what the family tells."""
    family = engine.family
    descriptor = family.descriptor(engine.task)[0].tolist()
    told: dict[str, Any] = {"unit": float(engine.unit[0]), "horizon": HORIZON, "kind": family.kind}
    return Stepper(policy, **told, descriptor=descriptor, directions=True)


def outside(engine: Engine, stepper: Stepper, steps: int) -> list[float]:
    """Step through a loop of one's own, with the family for its directions and nothing else.

    The engine keeps theta, and in ``direction`` that of the last decision.
    """
    family, theta, before, chosen = engine.family, engine.theta, engine.direction, []
    scaled = scaled_columns(family)
    for t in range(stepper.t, stepper.t + steps):
        _, signal, direction = family.evaluate(engine.task, theta, np.array([t]))
        if stepper.looks:
            d, d_before = direction[0, scaled], before[0, scaled]
            seen = d if stepper.sees_directions else None
            chosen.append(stepper.observe(float(signal[0]), float(d @ d), float(d @ d_before), direction=seen))
            engine.direction = before = direction
        else:
            chosen.append(stepper.hold())
        theta[:, scaled] += chosen[-1] * direction[:, scaled]
        if family.num_carried:
            theta[:, -family.num_carried :] += direction[:, -family.num_carried :]
    return chosen


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("action", ["relative", "absolute", "discrete"])
@pytest.mark.parametrize(
    ("strategy", "interval", "opening", "averaged", "ritz"),
    [
        *((strategy, *ONCE, 0) for strategy in ("dynamic", "constant", "random")),
        *(("dynamic", *on, ritz) for on in INTERVALS for ritz in ((0, 2) if on[-1] else (0,))),
        ("dynamic", *ONCE, 3),
    ],
)
def test_steps_are_those_of_the_environment(
    name: str, action: str, strategy: str, interval: int, opening: int, averaged: bool, ritz: int
) -> None:
    policy, engine = tame(action, strategy, interval, opening, averaged, ritz), engine_of(name)
    inside = []
    for _, step in zip(range(HORIZON), policy.step_sizes(engine), strict=False):
        inside.append(float(step[0]))
        engine.advance(step)
    fresh = engine_of(name)
    chosen = outside(fresh, stepper_of(policy, fresh), HORIZON)
    assert np.allclose(chosen, inside, rtol=1e-6, atol=0.0)
    assert strategy == "constant" or len(set(inside)) > HORIZON / interval / 2 or action == "discrete"


@pytest.mark.parametrize(
    ("strategy", "interval", "opening", "averaged", "ritz", "saved"),
    [
        *((strategy, *ONCE, 0, saved) for strategy, saved in [("random", 1), ("constant", 1), ("dynamic", 3)]),
        *(("dynamic", 3, opening, False, 0, saved) for opening in (0, 2, 5) for saved in (4, 5, 6)),
        *(("dynamic", 3, 2, True, ritz, saved) for saved in (4, 5, 6, 7) for ritz in (0, 2)),
        *(("dynamic", *ONCE, 3, saved) for saved in (1, 2, 7)),
    ],
)
def test_what_is_saved_goes_on_bit_for_bit(
    strategy: str, interval: int, opening: int, averaged: bool, ritz: int, saved: int
) -> None:
    policy = tame("discrete" if ritz else "relative", strategy, interval, opening, averaged, ritz)
    whole, engine = engine_of("LinearRegression"), engine_of("LinearRegression")
    expected = outside(whole, stepper_of(policy, whole), HORIZON)
    first = stepper_of(policy, engine)
    begun = outside(engine, first, saved)
    second = stepper_of(policy, engine_of("LinearRegression"))
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert second.t == saved
    assert begun + outside(engine, second, HORIZON - saved) == expected


@pytest.mark.parametrize("saved", [1, 2, 3])
def test_a_step_that_was_told_is_what_the_next_decision_is_relative_to_and_not_what_is_held(saved: int) -> None:
    policy = Policy.untrained(history=1, seed=0)
    zero = tuple((0.0 * weight, 0.0 * bias) for weight, bias in policy.layers)
    policy = Policy(zero, {**policy.header, "interval": 3, "averaged": True})
    for told, after in (({1: 0.25}, 1.0), ({3: 0.25}, 0.25)):
        first, chosen = Stepper(policy, unit=1.0, horizon=8), []
        for t in range(4):
            if t == saved:
                state, first = first.state_dict(), Stepper(policy, unit=1.0, horizon=8)
                first.load_state_dict(json.loads(json.dumps(state)))
            chosen.append(first.observe(0.9**t, 0.9**t, 0.9**t, step_size=told.get(t)))
        assert chosen == [1.0, 1.0, 1.0, after]


@pytest.mark.parametrize(
    "averaged",
    [
        None,
        {},
        {"totals": [[0.0]] * 4, "count": [1]},
        {"totals": "x", "count": [1], "t": [1]},
        {"totals": [[0.0, 0.0]] * 4, "count": [1, 1], "t": [1, 1]},
    ],
)
def test_means_that_are_none_are_refused_and_change_nothing(averaged: Any) -> None:
    policy = tame("relative", "dynamic", 3, averaged=True)
    first, second = (Stepper(policy, unit=0.1, horizon=5) for _ in range(2))
    run(first, [1.0, 0.5])
    run(second, [1.0])
    before, state = second.state_dict(), first.state_dict()
    with pytest.raises(ValueError, match=r"the state('s| has) (totals|count|t)\b"):
        second.load_state_dict({**state, "averaged": averaged})
    del state["averaged"]
    with pytest.raises(ValueError, match="the state of a stepper has averaged"):
        second.load_state_dict(state)
    assert second.state_dict() == before


def test_directions_are_told_to_a_policy_that_sees_ritz_values() -> None:
    policy = tame("discrete", "dynamic", ritz=2)
    with pytest.raises(ValueError, match="Ritz values of 2 steps; here only inner products of directions are told"):
        Stepper(policy, unit=0.1, horizon=5)
    with pytest.raises(ValueError, match="unless it sees means: interval is 1, not 2"):
        Stepper(tame("discrete", "dynamic", 2, ritz=2), unit=0.1, horizon=5, directions=True)
    stepper = Stepper(policy, unit=0.1, horizon=5, directions=True)
    for odd in (None, np.ones((2, 2)), np.ones(0), ["x", "y"], 1.0, [None, 1.0], [1j, 1.0]):
        with pytest.raises(ValueError, match=r"direction is an array \(p,\) of numbers, not"):
            stepper.observe(1.0, 2.0, direction=odd)
    for odd in ([np.nan, 1.0], [np.inf, 1.0], [1e200, 1.0], [1.0, 2.0], [0.0, 0.0]):
        with pytest.raises(ValueError, match="squared_norm is that of the direction"):
            stepper.observe(1.0, 2.0, direction=np.array(odd))
    assert stepper.t == 0
    stepper.observe(1.0, 2.0, direction=np.ones(2))
    before = json.loads(json.dumps(stepper.state_dict()))
    for odd in (np.ones(3), np.ones((1, 2)), np.ones(0)):
        with pytest.raises(ValueError, match=r"direction is an array \(2,\) of numbers, not float64 of shape"):
            stepper.observe(1.0, 2.0, direction=odd)
    assert stepper.looks
    wrong: dict[str, Any] = {"gram": [[1.0]], "unit": [[]], "newest": [3], "norm": [[np.nan] * 3]}
    for odd in (None, {}, "x", *({**before["krylov"], name: value} for name, value in wrong.items())):
        with pytest.raises(ValueError, match="the state of directions is not one of 2 steps"):
            stepper.load_state_dict({**before, "krylov": odd})
    assert stepper.state_dict() == before


def test_what_is_held_after_a_ritz_step_is_saved() -> None:
    policy = tame("discrete", "dynamic", 3, averaged=True, ritz=2)
    one, other = (Stepper(policy, unit=0.1, horizon=12, directions=True) for _ in range(2))
    for t in range(4):
        one.observe(1.0 / (t + 1), 2.0, 0.5 if t else 0.0, direction=np.array([1.0, 1.0]))
    other.load_state_dict(json.loads(json.dumps(one.state_dict())))
    for stepper in (one, other):
        stepper.decide_again()
    held = [stepper.observe(0.1, 2.0, 0.5, direction=np.array([1.0, 1.0])) for stepper in (one, other)]
    assert held[0] == held[1] > 0.0


def test_a_state_of_before_there_were_ritz_values_is_loaded() -> None:
    stepper = Stepper(tame("discrete", "dynamic"), unit=0.1, horizon=5)
    stepper.observe(1.0, 2.0)
    state = stepper.state_dict()
    assert state.pop("krylov") is None
    other = Stepper(tame("discrete", "dynamic"), unit=0.1, horizon=5)
    other.load_state_dict(state)
    assert other.state_dict() == stepper.state_dict()


def test_a_policy_that_sees_means_looks_at_every_step_and_decides_now_and_then() -> None:
    stepper = Stepper(tame("relative", "dynamic", 3, averaged=True), unit=0.1, horizon=12)
    chosen = []
    for t in range(12):
        assert stepper.looks
        chosen.append(stepper.observe(0.9**t, 0.9**t, 0.9**t if t else 0.0))
    assert [len(set(chosen[at : at + 3])) for at in range(0, 12, 3)] == [1, 1, 1, 1]
    assert len(set(chosen)) == 4
    with pytest.raises(RuntimeError, match=r"a decision is due at step 12: observe\(\) tells"):
        stepper.hold()
    stepper.observe(0.2, 0.2)
    with pytest.raises(RuntimeError, match=r"the policy looks at every step, and so at step 13: observe\(\) tells"):
        stepper.hold()


def test_what_is_not_due_is_an_error_and_changes_nothing() -> None:
    stepper = Stepper(tame("relative", "dynamic", 2), unit=0.1, horizon=5)
    with pytest.raises(RuntimeError, match=r"a decision is due at step 0: observe\(\) tells"):
        stepper.hold()
    first = stepper.observe(1.0, 1.0)
    assert not stepper.looks
    before = stepper.state_dict()
    with pytest.raises(RuntimeError, match=r"no decision is due at step 1: hold\(\) tells"):
        stepper.observe(1.0, 1.0)
    assert stepper.state_dict() == before
    assert stepper.hold() == first
    assert stepper.looks
    assert stepper.t == 2


def run(stepper: Stepper, losses: list[float]) -> list[float]:
    return [stepper.observe(loss, loss, 0.5 * loss) for loss in losses]


def fixed(value: float) -> Policy:
    """Return a policy whose action is always the same."""
    names = feature_names(1)
    layers = ((np.zeros((1, len(names)), np.float32), np.array([value], np.float32)),)
    return Policy(layers, {"history": 1, "action": "relative", "strategy": "dynamic", "feature_names": list(names)})


def test_steps_are_relative_to_what_was_taken() -> None:
    stepper = Stepper(fixed(0.5), unit=0.1, horizon=5)  # times 10
    assert stepper.observe(1.0, 1.0) == pytest.approx(1.0)
    assert stepper.observe(1.0, 1.0, 0.5, step_size=0.01) == pytest.approx(0.1)
    assert Stepper(fixed(0.5), unit=0.1, horizon=5).observe(1.0, 1.0, step_size=0.3) == pytest.approx(3.0)


def test_another_horizon_is_seen() -> None:
    policy = Policy.untrained(history=1, seed=0)
    short, long = (Stepper(policy, unit=1.0, horizon=horizon) for horizon in (4, 8))
    assert run(short, [1.0, 0.5]) != run(long, [1.0, 0.5])
    moved = Stepper(policy, unit=1.0, horizon=4)
    moved.horizon = 8
    assert run(moved, [1.0, 0.5]) == run(Stepper(policy, unit=1.0, horizon=8), [1.0, 0.5])
    assert moved.horizon == 8


def test_a_run_may_be_longer_than_its_horizon() -> None:
    """All steps beyond it are seen as the end, here by a policy whose action is a tenth of the progress."""
    names = list(feature_names(1))
    weight = 0.1 * np.eye(1, len(names), names.index("progress"), dtype=np.float32)
    policy = Policy(((weight, np.zeros(1, np.float32)),), {**fixed(0.0).header, "action": "absolute"})
    stepper = Stepper(policy, unit=1.0, horizon=3)
    progress = 10.0 * np.log(run(stepper, [1.0] * 6)) / np.log(1000.0)
    assert progress == pytest.approx([0.0, 1.0 / 3.0, 2.0 / 3.0, 1.0, 1.0, 1.0], abs=1e-6)
    assert stepper.t == 6


def test_an_opening_ends_beyond_the_horizon_too() -> None:
    stepper, decided = Stepper(tame("relative", "dynamic", 4, opening=6), unit=0.1, horizon=3), []
    for t in range(16):
        if stepper.looks:
            decided.append(t)
            stepper.observe(1.0, 1.0)
        else:
            stepper.hold()
    assert decided == [0, 1, 2, 3, 4, 5, 6, 10, 14]


NEVER_NEGATIVE = {"t", "left", "count", "horizon", "unit", "step_size", "squared_norm", "norm", "center", "newest"}


@pytest.mark.parametrize(("value", "of"), [(math.nan, None), (math.inf, {"t", "signal"}), (-1, NEVER_NEGATIVE)])
def test_numbers_that_cannot_be_are_refused_and_change_nothing(value: float, of: set[str] | None) -> None:
    first, second = (
        Stepper(tame("discrete", "dynamic", 3, averaged=True, ritz=2), unit=0.1, horizon=5, directions=True)
        for _ in range(2)
    )
    for _ in range(3):
        first.observe(1.0, 2.0, 0.5, direction=np.array([1.0, 1.0]))
    second.observe(1.0, 2.0, direction=np.array([1.0, 1.0]))
    before, refused = second.state_dict(), set()
    for place, state in spoilt(first.state_dict(), value):
        name = [key for key in place if isinstance(key, str)][-1]
        if of is None or (name in of and place[:2] != ("krylov", "unit")):
            with pytest.raises(ValueError, match=r"state|horizon"):
                second.load_state_dict(state)
            assert second.state_dict() == before, place
            refused.add(name)
    assert len(refused) >= (2 if of else 10)


@pytest.mark.parametrize("interval", [1, 4])
def test_there_is_no_first_step_to_be_taken_again(interval: int) -> None:
    stepper = Stepper(tame("relative", "dynamic", interval), unit=1.0, horizon=3)
    with pytest.raises(RuntimeError, match="none to be taken once more"):
        stepper.decide_again()
    assert stepper.looks
    assert stepper.t == 0


BAD: list[tuple[Callable[[Stepper], Any], str]] = [
    (lambda stepper: stepper.observe(float("nan"), 1.0), "signal is finite, not nan"),
    (lambda stepper: stepper.observe(1.0, float("inf")), "squared_norm is finite"),
    (lambda stepper: stepper.observe(1.0, -1.0), "squared_norm is at least 0"),
    (lambda stepper: stepper.observe(1.0, 1.0, float("nan")), "alignment is finite"),
    (lambda stepper: stepper.observe(1.0, 1.0, 0.0, 0.0), "step_size is above 0"),
    (lambda stepper: setattr(stepper, "horizon", 0), "horizon is a whole number >= 1"),
    (lambda stepper: stepper.load_state_dict({"t": 1}), "learner"),
    (lambda stepper: setattr(stepper, "horizon", 10**400), "horizon is a whole number >= 1"),
    (lambda stepper: setattr(stepper, "horizon", 2**63), r"horizon is below 2\^63"),
    (lambda stepper: stepper.load_state_dict(other(seed=1)), "the state is of the policy"),
    (lambda stepper: stepper.load_state_dict(other(action="absolute")), "the state is of the policy"),
    (lambda stepper: stepper.load_state_dict(other(interval=2)), "the state is of the policy"),
    (lambda stepper: stepper.load_state_dict(other_state()), "features(.|\n)*but these are"),
]


def other(seed: int = 0, **header: Any) -> dict[str, Any]:
    """Return the state of a policy of other weights, or of the same whose actions mean something else."""
    policy = Policy.untrained(history=1, seed=seed)
    stepper = Stepper(Policy(policy.layers, {**policy.header, **header}), unit=1.0, horizon=3)
    stepper.observe(1.0, 1.0)
    return stepper.state_dict()


def other_state() -> dict[str, Any]:
    """Return the state of a policy with a longer memory."""
    stepper = Stepper(Policy.untrained(history=2, seed=0), unit=1.0, horizon=3)
    stepper.observe(1.0, 1.0)
    return stepper.state_dict()


@pytest.mark.parametrize(("call", "words"), BAD)
def test_bad_input_is_refused_and_changes_nothing(call: Callable[[Stepper], Any], words: str) -> None:
    stepper = Stepper(Policy.untrained(history=1, seed=0), unit=1.0, horizon=3)
    run(stepper, [1.0, 0.5])
    before = stepper.state_dict()
    with pytest.raises(ValueError, match=words):
        call(stepper)
    assert stepper.state_dict() == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"unit": 0.0}, "unit is a number above 0, not 0.0"),
        ({"unit": float("nan")}, "unit"),
        ({"kind": "deep"}, "kind is one of"),
        ({"descriptor": [0.0] * 9}, "at most 8"),
        ({"descriptor": [float("nan")]}, "finite"),
        ({"horizon": 0.5}, "horizon"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Stepper(Policy.untrained(history=1, seed=0), **{"unit": 1.0, "horizon": 3, **options})


def test_a_policy_is_a_name_a_path_or_a_policy(tmp_path: Any) -> None:
    policy = Policy.untrained(history=1, seed=0)
    policy.save(tmp_path / "mine.safetensors")
    assert run(Stepper(tmp_path / "mine.safetensors", unit=1.0, horizon=3), [1.0]) == run(
        Stepper(policy, unit=1.0, horizon=3), [1.0]
    )
    with pytest.raises(FileNotFoundError, match="neither a file nor a shipped policy"):
        Stepper("no-such-policy", unit=1.0, horizon=3)
    with pytest.raises(TypeError, match="policy is a Policy"):
        Stepper(3, unit=1.0, horizon=3)  # type: ignore[arg-type]
