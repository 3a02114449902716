"""One learner in a loop that is not ours, and the policy that chooses its step sizes.

The loop says what it sees where a decision is due, a loss and two inner products of directions; what the policy is
shown of them is what an environment shows, by the same code (`metalearn_env.driving.Driver`). Policies with an interval
of 1 decide at every step; of others `Stepper.hold` gives the steps in between, for which nothing is measured, unless
they see means over all steps, or Ritz values: these look at each, and take what they hold.

>>> from metalearn_env.policy import Policy
>>> stepper = Stepper(Policy.untrained(history=1, seed=0), unit=0.5, horizon=20)
>>> theta, before, step_size = 3.0, 0.0, []
>>> for _ in range(20):
...     direction = -2.0 * theta  # of the loss theta^2
...     if stepper.looks:  # at each step, if the policy's interval is 1
...         step_size.append(stepper.observe(theta**2, direction**2, direction * before))
...         before = direction
...     else:
...         step_size.append(stepper.hold())
...     theta += step_size[-1] * direction
>>> len(step_size), stepper.t
(20, 20)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metalearn_env.decisions import Averaged
from metalearn_env.driving import Driver, averaged, check_features
from metalearn_env.engine import PER_LEARNER, Learners
from metalearn_env.family import KINDS, MAX_DESCRIPTORS, TINY, Array
from metalearn_env.krylov import Krylov
from metalearn_env.policy import Policy, as_policy
from metalearn_env.ranges import as_integer, is_number
from metalearn_env.states import POSITIVE, number

_TINY = float(TINY)
SAME_NORM = 1e-3  # how far the norm of a direction may be from the one that is told, as rounding in single precision is
_STATE: dict[str, dict[str, Any]] = {  # of the learner, and what the numbers can be
    "horizon": {"least": 1, "whole": True},
    "t": {"least": 0, "whole": True},
    "signal": {},
    "squared_norm": {"least": 0.0},
    "previous_squared_norm": {"least": 0.0},
    "step_size": {"least": POSITIVE},
    "unit": {"least": POSITIVE},
}
_DRIVER = ("actions", "observer", "noise", "held", "left", "t")


class Stepper:
    """The step sizes of one learner, by a policy.

    Args:
        policy: a policy, the name of a shipped one, or the path of a file.
        unit: the natural step size of the task, as `TaskFamily.step_unit` has it; what a relative action begins from.
        horizon: inner steps of the run; may be set anew at any time. Steps beyond it are seen as its last one.
        kind: "supervised", "unsupervised" or "reinforcement".
        descriptor: what the policy may know of the task, at most 8 numbers, in the order of a family's.
        directions: `observe` is told directions themselves, as policies need that see Ritz values.

    Attributes:
        t: how often `observe` and `hold` were called: the number of steps chosen.

    Raises:
        FileNotFoundError: there is no such policy.
        ValueError: a value that cannot be honoured.
    """

    def __init__(
        self,
        policy: Policy | str | Path,
        *,
        unit: float,
        horizon: int,
        kind: str = "supervised",
        descriptor: Sequence[float] = (),
        directions: bool = False,
    ) -> None:
        self.policy = as_policy(policy)
        self._check_ritz(directions)
        if kind not in KINDS:
            raise ValueError(f"kind is one of {', '.join(KINDS)}, not {kind!r}")
        if len(descriptor) > MAX_DESCRIPTORS or not all(is_number(value) for value in descriptor):
            raise ValueError(f"descriptor is of at most {MAX_DESCRIPTORS} finite numbers, not {list(descriptor)!r}")
        if not is_number(unit) or unit <= 0.0:
            raise ValueError(f"unit is a number above 0, not {unit!r}")
        self._kind, self._descriptor = kind, np.array(descriptor, np.float64)[None]
        zeros: dict[str, Any] = {name: np.zeros(1, int if name in ("horizon", "t") else float) for name in PER_LEARNER}
        self._learner = Learners(**zeros)
        self._learner.unit[:] = self._learner.step_size[:] = unit
        self._driver = Driver(self.policy, self.policy.header, 1)
        self._averaged = Averaged(1) if averaged(self.policy.header) else None
        self.t = 0
        self.horizon = horizon

    def _check_ritz(self, directions: bool) -> None:
        """Raise ``ValueError`` if the policy sees Ritz values that cannot be told here."""
        sees = self.policy.options
        if sees["ritz"] and not directions:
            raise ValueError(
                f"the policy sees Ritz values of {sees['ritz']} steps; here only inner products of directions are told"
            )
        if sees["ritz"] and sees["interval"] > 1 and not sees["averaged"]:
            raise ValueError(
                "a policy that sees Ritz values is told of every step, and here compares decisions with the step "
                f"before, not with the decision before, unless it sees means: interval is 1, not {sees['interval']}"
            )

    @property
    def horizon(self) -> int:
        """Inner steps of the run."""
        return int(self._learner.horizon[0])

    @horizon.setter
    def horizon(self, horizon: int) -> None:
        self._learner.horizon[:] = as_integer("horizon", horizon, minimum=1)
        self._driver.observer.tell_horizon(self._learner.horizon, np.arange(1))

    @property
    def unit(self) -> float:
        """The natural step size of the task."""
        return float(self._learner.unit[0])

    @property
    def looks(self) -> bool:
        """Whether the next step is told by `observe`; else by `hold`.

        A policy that sees means, or Ritz values, looks at every step.
        """
        return self._watches or self.decides

    @property
    def sees_directions(self) -> bool:
        """Whether `observe` is to be told directions, since the policy sees Ritz values."""
        return self._driver.actions.ritz > 0

    @property
    def _watches(self) -> bool:
        return self._averaged is not None or self.sees_directions

    @property
    def decides(self) -> bool:
        """Whether the next step is a new one."""
        return self._driver.looks

    def hold(self) -> float:
        """Return the next step size, between two decisions: that of the last.

        Raises:
            RuntimeError: a decision is due, or the policy looks at every step. Nothing has changed.
        """
        if self.looks:
            why = "a decision is due" if self.decides else "the policy looks at every step, and so"
            raise RuntimeError(f"{why} at step {self.t}: observe() tells the step size, not hold()")
        self.t += 1
        return float(self._driver.hold()[0])

    def decide_again(self) -> None:
        """Take the last step size, where a decision is due, for as long once more; nothing is looked at.

        Raises:
            RuntimeError: there is no last step size. Nothing has changed.
        """
        if not self.t:
            raise RuntimeError("observe() tells the first step size: there is none to be taken once more")
        self._driver.decide_again()
        self.t += 1

    def observe(
        self,
        signal: float,
        squared_norm: float,
        alignment: float = 0.0,
        step_size: float | None = None,
        direction: Array | None = None,
    ) -> float:
        """Return the next step size, for what is seen where the last step has led.

        Args:
            signal: the loss that the learner sees there.
            squared_norm: |d|^2 of the direction there, which is not yet multiplied by a step size.
            alignment: the inner product of that direction and the one that was told before; of the first there is
                none.
            step_size: the step that was taken, if it is another one than was chosen. Actions are relative to it.
            direction: that direction itself, (p,), for policies that see Ritz values; others have no use for it.

        Raises:
            ValueError: a number is not finite, a norm is negative, a step size not above 0, or there is no direction
                that is as long as the first. Nothing has changed.
            RuntimeError: no decision is due. Nothing has changed.
        """
        if not self.looks:
            raise RuntimeError(f"no decision is due at step {self.t}: hold() tells the step size, not observe()")
        if not (math.isfinite(signal) and math.isfinite(squared_norm) and math.isfinite(alignment)):
            for name, value in (("signal", signal), ("squared_norm", squared_norm), ("alignment", alignment)):
                if not math.isfinite(value):
                    raise ValueError(f"{name} is finite, not {value!r}")
        if squared_norm < 0.0:
            raise ValueError(f"squared_norm is at least 0, not {squared_norm!r}")
        if step_size is not None and not 0.0 < step_size < math.inf:
            raise ValueError(f"step_size is above 0 and finite, not {step_size!r}")
        learner, driver, t = self._learner, self._driver, self.t
        row = self._row(direction, squared_norm)
        if step_size is not None:
            learner.step_size = np.array([step_size], np.float64)
        if step_size is not None or self._watches:
            driver.actions.begin(learner, np.arange(1))  # what actions are relative to is the last step taken
        learner.previous_squared_norm, learner.squared_norm = learner.squared_norm, learner.previous_squared_norm
        learner.signal[0], learner.squared_norm[0] = signal, squared_norm + _TINY
        if t:
            learner.alignment[0] = alignment
            self._update(row)
        else:
            learner.alignment[0], learner.previous_squared_norm[0] = 0.0, _TINY
            self._begin(row)
        self.t = t + 1
        learner.step_size = driver.step_size(learner) if driver.looks else driver.hold()
        return float(learner.step_size[0])

    def _row(self, direction: Array | None, squared_norm: float) -> Array | None:
        """Return a direction as (1, p), if the policy needs it.

        Raises:
            ValueError: it is not there, or of another shape, or not that of the norm. Nothing has changed.
        """
        if not self.sees_directions:
            return None
        row = np.asarray(direction)
        krylov = self._driver.krylov  # from the first direction on
        size = krylov.size if krylov is not None and self.t else max(1, row.size)
        if direction is None or row.dtype.kind not in "fiu" or row.shape != (size,):
            what = "None" if direction is None else f"{row.dtype} of shape {row.shape}"
            wanted = f"({size},)" if self.t else "(p,)"
            raise ValueError(f"the policy sees Ritz values: direction is an array {wanted} of numbers, not {what}")
        row = row.astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            own = float(np.vecdot(row, row))
        if not math.isclose(own, squared_norm, rel_tol=SAME_NORM, abs_tol=_TINY):
            raise ValueError(f"squared_norm is that of the direction, {own!r}, not {squared_norm!r}")
        return row[None]

    def _begin(self, row: Array | None) -> None:
        """Take up a run."""
        self._learner.t[0] = 0
        krylov = None if row is None else Krylov(1, row.shape[1], self._driver.actions.ritz)
        if krylov is not None and row is not None:
            krylov.begin_as(self._learner, row, np.arange(1))
        self._driver.begin(self._kind, self._descriptor, self._learner, krylov)
        if self._averaged is not None:
            self._averaged.begin(self._learner, np.arange(1))

    def _update(self, row: Array | None) -> None:
        """Take in what is seen where a step has led."""
        learner, seen = self._learner, self._learner
        learner.t[0] = self.t
        if self._averaged is not None:
            self._averaged.passed(learner)
        if self._driver.krylov is not None and row is not None:
            self._driver.krylov.passed_as(learner, row)
        if self._driver.looks:
            learner.t[0] = min(self.t, self.horizon)
            if self._averaged is not None:
                seen = self._averaged.seen(learner)
            self._driver.update(seen)

    def state_dict(self) -> dict[str, Any]:
        """Return all that changes with time, as plain JSON values; the policy is not among them."""
        learner, krylov = {name: getattr(self._learner, name)[0].item() for name in _STATE}, self._driver.krylov
        features = list(self.policy.header["feature_names"])
        return {
            "t": self.t,
            "policy": self.policy.digest,
            "feature_names": features,
            "learner": learner,
            "driver": self._driver.state(),
            "averaged": None if self._averaged is None else self._averaged.state(),
            "krylov": None if krylov is None else krylov.state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to what `state_dict` told of a stepper of the same policy.

        Raises:
            ValueError: something is missing, or cannot be, or the policy sees other features. Nothing has changed.
        """
        for known, part in (
            (("t", "policy", "feature_names", "learner", "driver", "averaged"), state),
            (_STATE, state.get("learner", {})),
            (_DRIVER, state.get("driver", {})),
        ):
            if missing := set(known) - set(part):
                raise ValueError(f"the state of a stepper has {', '.join(sorted(missing))}; it has {sorted(part)}")
        check_features(state["feature_names"], self.policy.header["feature_names"])
        if state["policy"] != self.policy.digest:
            raise ValueError(f"the state is of the policy {state['policy']}, not of {self.policy.digest}")
        t = number(state, "t", least=0, whole=True)
        learner = {name: number(state["learner"], name, **limits) for name, limits in _STATE.items()}
        averaged = None if self._averaged is None else Averaged(1)
        if averaged is not None:
            averaged.restore(state["averaged"])
        krylov = self._krylov_of(state.get("krylov"), t)
        self._driver.restore(state["driver"])
        self._averaged, self._driver.krylov = averaged, krylov
        for name, value in learner.items():
            setattr(self._learner, name, np.array([value]))
        self.t = t

    def _krylov_of(self, state: Any, t: int) -> Krylov | None:
        """Return what a state after ``t`` steps tells of the last directions.

        Raises:
            ValueError: it tells of none, or of others. Nothing has changed.
        """
        if not t or not self.sees_directions:
            return None
        last = self._driver.actions.ritz
        try:
            krylov = Krylov(1, len(state["unit"][0][0]), last)
            krylov.restore(state)
        except (KeyError, TypeError, IndexError, ValueError) as error:
            raise ValueError(f"the state of directions is not one of {last} steps: {error}") from error
        return krylov
