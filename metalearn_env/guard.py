"""The step sizes of a run that begins anew, with smaller steps, whenever its losses explode."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from metalearn_env.policy import Policy
from metalearn_env.ranges import is_number
from metalearn_env.session import HORIZON
from metalearn_env.states import POSITIVE, number, number_or_none
from metalearn_env.stepper import Stepper

SHRUNK = 0.1
_SMALLEST = sys.float_info.min
STATE = ("horizon", "highest", "most", "last", "stepper")


class Guard:
    """Watches the losses of a run that is begun anew whenever they explode.

    Args:
        explodes_at: times the first loss, above which a loss is none to go on from.

    Attributes:
        highest: a loss that is just good enough; 0 before the first.
        most: the most that the next run may begin from; infinite before the first.

    Raises:
        ValueError: a value that cannot be honoured.
    """

    def __init__(self, explodes_at: float) -> None:
        if not is_number(explodes_at) or explodes_at <= 1.0:
            raise ValueError(f"explodes_at is a number above 1, not {explodes_at!r}")
        self._explodes_at, self.highest, self.most = explodes_at, 0.0, math.inf

    def accepts(self, loss: float, *, begins: bool) -> bool:
        """Return whether one can go on from a loss; from where a run ``begins`` one has to, if it is finite.

        >>> guard = Guard(10.0)
        >>> guard.accepts(2.0, begins=True), guard.accepts(20.0, begins=False), guard.accepts(20.1, begins=False)
        (True, True, False)
        >>> guard.accepts(30.0, begins=True), guard.accepts(30.0, begins=False), guard.accepts(30.1, begins=False)
        (True, True, False)
        """
        if begins and math.isfinite(loss):
            self.highest = max(self.highest, loss) if self.highest else self._explodes_at * loss
        return -math.inf < loss <= self.highest

    def shrink(self, last: float, began: float) -> None:
        """Let the next run begin from no more than a tenth of the ``last`` step, or of where this one ``began``.

        So one whose steps grow until they are too long, time and again, begins ten times lower each time, down to the
        smallest step there can be.
        """
        self.most = max(SHRUNK * min(last, began), _SMALLEST)


class GuardedStepper:
    """The step sizes of one learner, by a policy, in a run that may have to begin anew, each time with a new stepper.

    How many updates have been made, ``t``, those that were left out among them, is for the loop to know.

    Args:
        policy: a policy.
        horizon: updates of the run, beyond which the step size stays; None: unknown.
        descriptor: what the policy may know of the task, see `Stepper`.
        explodes_at: times the first loss, above which a loss is none to go on from.
        last: the step size before the first.

    Attributes:
        horizon: may be set before the first step. Of an unknown one the policy is told 50, and twice as many whenever
            they have passed.
        last: the last step size.

    Raises:
        ValueError: a value that cannot be honoured.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        horizon: int | None,
        descriptor: Sequence[float],
        explodes_at: float,
        last: float = 1.0,
    ) -> None:
        self.horizon, self.last = horizon, last
        self._policy, self._descriptor, self._guard = policy, descriptor, Guard(explodes_at)
        self._new(1.0, 0)  # whatever cannot be honoured is found out here
        self._stepper: Stepper | None = None  # of the run as it was last begun

    @property
    def most(self) -> float:
        """The longest step that a run may begin with; infinite where none has gone wrong."""
        return self._guard.most

    @property
    def looks(self) -> bool:
        """Whether the next step size is told by `choose`, else by `hold`."""
        return self._stepper is None or self._stepper.looks

    def accepts(self, loss: float) -> bool:
        """Return whether one can go on from a loss; if not, `retreat`."""
        return self._guard.accepts(loss, begins=self._stepper is None)

    def hold(self) -> float:
        """Return the next step size, between two decisions: that of the last."""
        assert self._stepper is not None  # which looks where it begins
        return self._stepper.hold()

    def choose(self, t: int, loss: float, squared_norm: float, alignment: float, natural: Callable[[], float]) -> float:
        """Return the step size of update ``t``, for what is seen where it starts.

        Args:
            t: updates before it.
            loss, squared_norm, alignment: see `Stepper.observe`.
            natural: returns the natural step size there, with which a run begins unless it is too long.
        """
        if self._stepper is None:
            self._stepper = self._new(min(natural(), self._guard.most), t)
        elif self.horizon is not None and t >= self.horizon:
            self._stepper.decide_again()
            return self.last
        while self._stepper.t >= self._stepper.horizon:
            self._stepper.horizon *= 2
        self.last = self._stepper.observe(loss, squared_norm, alignment)
        return self.last

    def retreat(self) -> None:
        """Let the run begin anew, with smaller steps than this time."""
        if self._stepper is not None:
            self._guard.shrink(self.last, self._stepper.unit)
        self._stepper = None

    def state_dict(self) -> dict[str, Any]:
        """Return all that changes with time, as plain JSON values."""
        stepper = None if self._stepper is None else self._stepper.state_dict()
        return dict(zip(STATE, (self.horizon, self._guard.highest, self.most, self.last, stepper), strict=True))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to what `state_dict` told, with the same policy.

        Raises:
            ValueError: it is of another policy, or of none that there can be. Nothing has changed.
        """
        horizon = number_or_none(state, "horizon", least=1, whole=True)
        highest, last = number(state, "highest", least=0.0), number(state, "last", least=POSITIVE)
        most = number(state, "most", least=POSITIVE, most=math.inf)
        stepper = None
        if state["stepper"] is not None:
            stepper = self._new(1.0, 0)
            stepper.load_state_dict(state["stepper"])
        self._stepper, self.horizon, self.last = stepper, horizon, last
        self._guard.highest, self._guard.most = highest, most

    def _new(self, unit: float, t: int) -> Stepper:
        """Return a stepper for the updates that are left."""
        left = HORIZON if self.horizon is None else max(1, self.horizon - t)
        return Stepper(self._policy, unit=unit, horizon=left, descriptor=self._descriptor)
