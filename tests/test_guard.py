"""What a run that begins anew with smaller steps does, time and again."""

from __future__ import annotations

from metalearn_env.guard import GuardedStepper
from metalearn_env.policy import Policy


def test_a_run_may_begin_anew_for_ever() -> None:
    steps = GuardedStepper(Policy.untrained(history=1, seed=0), horizon=None, descriptor=(), explodes_at=10.0)
    chosen, loss = [], 1.0
    for t in range(700):
        assert steps.accepts(loss)
        chosen.append(steps.choose(t, loss, 1.0, 0.0, lambda: 1.0))
        steps.retreat()
        assert steps.most > 0.0
    assert min(chosen) > 0.0
    assert steps.most < 1e-300


def test_a_run_that_begins_anew_is_of_the_steps_that_are_left() -> None:
    steps = GuardedStepper(Policy.untrained(history=1, seed=0), horizon=10, descriptor=(), explodes_at=10.0)
    assert steps.accepts(1.0)
    for t in range(5):
        if t == 4:
            steps.retreat()
        steps.choose(t, 1.0, 1.0, 0.0, lambda: 1.0)
    assert steps.state_dict()["stepper"]["learner"]["horizon"] == 6
