"""A learned step size alpha for tabular learners in a loop of one's own. NumPy only.

`LearnedAlpha` chooses alpha for any learner that moves one entry of a table by temporal-difference errors,
``Q[state, action] += alpha * error``; `QLearner` is a whole Q-learner around it. The policy is shown what trajectories
of `MetaLearn/QLearning-v0` would show, by the same code.

>>> learner = QLearner(4, 2, Policy.untrained(history=1, seed=0), horizon=100, discount=0.9, seed=0)
>>> error = learner.update(state=0, action=1, reward=1.0, next_state=2, terminated=False)
>>> error, bool(0.0 < learner.table[0, 1] <= 1.0)
(1.0, True)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from metalearn_env.family import Array
from metalearn_env.policy import Policy
from metalearn_env.processes import describe
from metalearn_env.ranges import as_integer, is_number
from metalearn_env.stepper import Stepper


class LearnedAlpha:
    """The step sizes of a tabular learner, by a policy.

    Args:
        num_states, num_actions: of the table.
        policy: a policy, the name of a shipped one, or the path of a file.
        horizon: updates of the run.
        discount: in [0, 1).
        epsilon: part of the actions that are random.
        most: no step size is larger; up to 1, no value leaves the range of what returns can be. The policy is shown
            the step that was taken.

    Raises:
        FileNotFoundError: there is no such policy.
        ValueError: a value that cannot be honoured.
    """

    def __init__(
        self,
        num_states: int,
        num_actions: int,
        policy: Policy | str | Path = "q-learning-wide",
        *,
        horizon: int,
        discount: float,
        epsilon: float = 0.1,
        most: float = 1.0,
    ) -> None:
        sizes = [np.array([as_integer("num_states", num_states, minimum=1)])]
        sizes.append(np.array([as_integer("num_actions", num_actions, minimum=1)]))
        if not is_number(discount) or not 0.0 <= discount < 1.0:
            raise ValueError(f"discount is in [0, 1), not {discount!r}")
        if not is_number(epsilon) or not 0.0 <= epsilon <= 1.0:
            raise ValueError(f"epsilon is in [0, 1], not {epsilon!r}")
        if not most > 0.0:
            raise ValueError(f"most is above 0, not {most!r}")
        known = describe(sizes[0], sizes[1], np.array([discount]), np.array([epsilon]), synchronous=False)
        self._stepper = Stepper(policy, unit=1.0, horizon=horizon, kind="reinforcement", descriptor=known[0].tolist())
        self._most = most
        self._taken: float | None = None  # the last step size, where it was not the policy's
        self._last: tuple[int, int, float] | None = None  # state, action and error of the last update

    def __call__(self, error: float, state: int, action: int) -> float:
        """Return alpha for the update of an entry by a temporal-difference error.

        Raises:
            ValueError: the error, or its square, is not finite. Nothing has changed.
        """
        squared = float(error) * float(error)
        if not math.isfinite(squared):
            raise ValueError(f"a temporal-difference error, and its square, is finite, not {error!r}")
        again = self._last is not None and self._last[:2] == (state, action)
        alignment = float(error) * self._last[2] if again and self._last is not None else 0.0
        chosen = self._stepper.observe(0.5 * squared, squared, alignment, self._taken)
        self._last, taken = (int(state), int(action), float(error)), min(chosen, self._most)
        self._taken = None if taken == chosen else taken
        return taken

    @property
    def t(self) -> int:
        """The number of steps chosen."""
        return self._stepper.t

    def state_dict(self) -> dict[str, Any]:
        """Return all that changes with time, as plain JSON values."""
        last = None if self._last is None else list(self._last)
        return {"stepper": self._stepper.state_dict(), "taken": self._taken, "last": last}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to what `state_dict` told of one of the same policy.

        Raises:
            ValueError: something is missing, or the policy sees other features. Nothing has changed.
        """
        if missing := {"stepper", "taken", "last"} - set(state):
            raise ValueError(f"the state has {', '.join(sorted(missing))}; it has {sorted(state)}")
        self._stepper.load_state_dict(state["stepper"])
        self._taken, self._last = state["taken"], None if state["last"] is None else tuple(state["last"])


class QLearner:
    """Q-learning with a learned step size, along epsilon-greedy trajectories.

    Args:
        num_states, num_actions, policy, horizon, discount, epsilon, most: see `LearnedAlpha`.
        seed: of random actions.

    Attributes:
        table: (num_states, num_actions) zero at first.
        alpha: the `LearnedAlpha`.
    """

    def __init__(
        self,
        num_states: int,
        num_actions: int,
        policy: Policy | str | Path = "q-learning-wide",
        *,
        horizon: int,
        discount: float,
        epsilon: float = 0.1,
        most: float = 1.0,
        seed: int | None = None,
    ) -> None:
        self.alpha = LearnedAlpha(
            num_states, num_actions, policy, horizon=horizon, discount=discount, epsilon=epsilon, most=most
        )
        self.table: Array = np.zeros((num_states, num_actions))
        self._discount, self._epsilon, self._rng = discount, epsilon, np.random.default_rng(seed)

    def act(self, state: int) -> int:
        """Return a random action with probability epsilon, else a best one; equally good ones take turns at random."""
        values = self.table[self._known("state", state)]
        if self._rng.random() < self._epsilon:
            return int(self._rng.integers(len(values)))
        return int(self._rng.choice(np.flatnonzero(values == values.max())))

    def update(self, state: int, action: int, reward: float, next_state: int, terminated: bool) -> float:
        """Learn from a transition and return its temporal-difference error.

        Raises:
            ValueError: a state or action that does not exist, a reward that is not finite. Nothing has changed.
        """
        entry = self._known("state", state), self._known("action", action)
        value = 0.0 if terminated else float(self.table[self._known("next_state", next_state)].max())
        if not math.isfinite(reward):
            raise ValueError(f"reward is finite, not {reward!r}")
        error = float(reward + self._discount * value - self.table[entry])
        self.table[entry] += self.alpha(error, *entry) * error
        return error

    def _known(self, name: str, value: int) -> int:
        number = as_integer(name, value, minimum=0)
        most = self.table.shape[name == "action"]
        if number >= most:
            raise ValueError(f"{name} is below {most}, not {number}")
        return number
