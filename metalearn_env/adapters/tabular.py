"""A learned step size alpha for tabular learners in a loop of one's own. NumPy only.

`LearnedAlpha` chooses alpha for any learner that moves one entry of a table by temporal-difference errors,
``Q[state, action] += alpha * error``; `QLearner` is a whole Q-learner around it.

A single error says little. As many updates as the table has entries, a *sweep*, do about what a synchronous step of
`MetaLearn/QLearning-v0` does, and so the policy is asked once a sweep (or as many sweeps as its interval says), for the
mean errors of the entries that it met, and alpha is held through the next. Before the first it is asked, too, knowing
the sizes of table and run alone. With ``sweep=1`` it is asked at each update, and is shown what trajectories of the
environment show, by the same code.

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
from metalearn_env.policy import Policy, as_policy
from metalearn_env.processes import describe
from metalearn_env.ranges import as_integer, is_number
from metalearn_env.states import POSITIVE, number, number_or_none, numbers
from metalearn_env.stepper import Stepper

FULL = 20.0  # sweeps of a run whose steps may be 1
_MET: dict[str, dict[str, Any]] = {"sums": {}, "counts": {"least": 0.0}, "before": {}}
_RUN = ("shape", "horizon", "sweep")


class LearnedAlpha:
    """The step sizes of a tabular learner, by a policy.

    Args:
        num_states, num_actions: of the table.
        policy: a policy, the name of a shipped one, or the path of a file.
        horizon: updates of the run.
        discount: in [0, 1).
        epsilon: part of the actions that are random.
        most: no step size is larger; up to 1, no value leaves the range of what returns can be. The policy is shown
            the step that was taken. None: 1, and less in runs that are short for their table, see `largest_step`.
        sweep: updates that make a step of the policy, which decides every ``interval`` steps of its own. None: as many
            as the table has entries, and at least so many that there are no more steps than in the longest run that
            the policy met in training. The run begins with the first sweep that has an error: what comes before
            changes nothing.

    Attributes:
        t: the number of updates.

    Raises:
        FileNotFoundError: there is no such policy.
        ValueError: a value that cannot be honoured.
    """

    def __init__(
        self,
        num_states: int,
        num_actions: int,
        policy: Policy | str | Path = "q-learning",
        *,
        horizon: int,
        discount: float,
        epsilon: float = 0.1,
        most: float | None = None,
        sweep: int | None = None,
    ) -> None:
        horizon = as_integer("horizon", horizon, minimum=1)
        num_states = as_integer("num_states", num_states, minimum=1)
        num_actions = as_integer("num_actions", num_actions, minimum=1)
        if not is_number(discount) or not 0.0 <= discount < 1.0:
            raise ValueError(f"discount is in [0, 1), not {discount!r}")
        if not is_number(epsilon) or not 0.0 <= epsilon <= 1.0:
            raise ValueError(f"epsilon is in [0, 1], not {epsilon!r}")
        most = largest_step(num_states * num_actions, horizon) if most is None else most
        if most != math.inf and not (is_number(most) and most > 0.0):
            raise ValueError(f"most is above 0, not {most!r}")
        self._policy = as_policy(policy)
        if sweep is None:
            sweep = max(num_states * num_actions, math.ceil(horizon / longest_horizon(self._policy)))
        self._sweep, self._horizon = as_integer("sweep", sweep, minimum=1), horizon
        self._shape = [num_states, num_actions]
        sizes = (np.array([value]) for value in (num_states, num_actions, discount, epsilon))
        known = describe(*sizes, synchronous=False)
        self._descriptor, self._most = known[0].tolist(), most
        self._taken: float | None  # the step that was taken, where another was chosen
        self._sums, self._counts, self._before = np.zeros((3, num_states * num_actions))
        self.t = 0
        self._stepper = self._begun(horizon)
        self._take(self._stepper.observe(1.0, 1.0) if self._sweep > 1 else 1.0)  # of the first errors no policy is told

    def __call__(self, error: float, state: int, action: int) -> float:
        """Return alpha for the update of an entry by a temporal-difference error.

        Raises:
            ValueError: the error, or its square, is not finite, or there is no such entry. Nothing has changed.
        """
        if not math.isfinite(float(error) * float(error)):
            raise ValueError(f"a temporal-difference error, and its square, is finite, not {error!r}")
        actions = self._shape[1]
        whole = all(isinstance(place, (int, np.integer)) for place in (state, action))
        if not (whole and 0 <= action < actions and 0 <= (entry := state * actions + action) < len(self._sums)):
            raise ValueError(f"there is no entry ({state!r}, {action!r}) in a table of {len(self._sums)} entries")
        self._sums[entry] += error
        self._counts[entry] += 1.0
        self.t += 1
        if self.t % self._sweep == 0:
            self._swept()
        return self._alpha

    def _swept(self) -> None:
        """Show the policy what the sweep has met, if a decision is due, and take the step size that it chooses."""
        first = self._sweep > 1 and self._stepper.t == 1
        if not (first or self._stepper.looks):
            self._stepper.hold()
            self._sums[:], self._counts[:] = 0.0, 0.0
            return
        met = self._counts > 0.0
        means = np.divide(self._sums, self._counts, out=np.zeros(len(met)), where=met)
        direction = means / math.sqrt(met.sum())  # its square is a mean over what was met
        squared, alignment = float(direction @ direction), float(direction @ self._before)
        self._sums[:], self._counts[:], self._before = 0.0, 0.0, direction
        if first:
            begun = self._begun(self._horizon - self.t + (self._sweep if squared else 0))
            chosen, self._stepper = begun.observe(0.5 * squared, squared), begun
            if not squared:
                return self._take(chosen)
            if not begun.decides:
                if begun.looks:
                    begun.observe(0.5 * squared, squared, 0.0, self._alpha)
                else:
                    begun.hold()
                return
            alignment, self._taken = 0.0, self._alpha
        self._take(self._stepper.observe(0.5 * squared, squared, alignment, self._taken))

    def _begun(self, updates: int) -> Stepper:
        """Return the stepper of a run of so many updates."""
        steps = max(1, math.ceil(updates / self._sweep))
        return Stepper(self._policy, unit=1.0, horizon=steps, kind="reinforcement", descriptor=self._descriptor)

    def _take(self, chosen: float) -> None:
        self._alpha = min(chosen, self._most)
        self._taken = None if self._alpha == chosen else self._alpha

    def state_dict(self) -> dict[str, Any]:
        """Return all that changes with time, as plain JSON values."""
        values = {name: getattr(self, f"_{name}") for name in ("alpha", "taken")}
        met = {name: getattr(self, f"_{name}").tolist() for name in _MET}
        run = {name: getattr(self, f"_{name}") for name in _RUN}
        return {"t": self.t, "stepper": self._stepper.state_dict(), **run, **values, **met}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to what `state_dict` told of one of the same policy and table.

        Raises:
            ValueError: something is missing, or cannot be, or is of another table or of other features. Nothing has
                changed.
        """
        if missing := {"t", "stepper", "alpha", "taken", *_RUN, *_MET} - set(state):
            raise ValueError(f"the state has {', '.join(sorted(missing))}; it has {sorted(state)}")
        for name in _RUN:
            if state[name] != (own := getattr(self, f"_{name}")):
                raise ValueError(f"the state is of a run of the {name} {state[name]}, not {own}")
        met = [numbers(state, name, self._sums.shape, **limits) for name, limits in _MET.items()]
        t, alpha = number(state, "t", least=0, whole=True), number(state, "alpha", least=POSITIVE)
        taken = number_or_none(state, "taken", least=POSITIVE)
        self._stepper.load_state_dict(state["stepper"])
        self.t, self._alpha, self._taken = t, alpha, taken
        self._sums, self._counts, self._before = met


class QLearner:
    """Q-learning with a learned step size, along epsilon-greedy trajectories.

    Args:
        num_states, num_actions, policy, horizon, discount, epsilon, most, sweep: see `LearnedAlpha`.
        seed: of random actions.

    Attributes:
        table: (num_states, num_actions) zero at first.
        alpha: the `LearnedAlpha`.
    """

    def __init__(
        self,
        num_states: int,
        num_actions: int,
        policy: Policy | str | Path = "q-learning",
        *,
        horizon: int,
        discount: float,
        epsilon: float = 0.1,
        most: float | None = None,
        sweep: int | None = None,
        seed: int | None = None,
    ) -> None:
        known: dict[str, Any] = {"horizon": horizon, "discount": discount, "epsilon": epsilon, "most": most}
        self.alpha = LearnedAlpha(num_states, num_actions, policy, **known, sweep=sweep)
        self.table: Array = np.zeros((int(num_states), int(num_actions)))
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


def largest_step(entries: int, horizon: int) -> float:
    """Return how large steps are at most in a run of so many updates of a table: a twentieth of its sweeps, up to 1.

    What a run that is too short to cover the table meets first is not what the table is to tell in the end: a goal that
    is far has not been found, and costs have.
    """
    return min(1.0, horizon / (FULL * entries))


def longest_horizon(policy: Policy) -> float:
    """Return how long the longest run was that a policy met in training; infinity if it does not tell."""
    if (observed := policy.header.get("observed")) is None:
        return math.inf
    return float(10.0 ** observed[1][list(policy.header["feature_names"]).index("log10_horizon")])
