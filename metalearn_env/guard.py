"""When a training run has gone wrong, and how small its steps are to be when it begins anew."""

from __future__ import annotations

import math

from metalearn_env.ranges import is_number

SHRUNK = 0.1


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

        So one whose steps grow until they are too long, time and again, begins ten times lower each time.
        """
        self.most = SHRUNK * min(last, began)
