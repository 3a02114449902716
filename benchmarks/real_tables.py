"""The problems of `benchmarks.real_training` that are Q-learning, on episodes of Gymnasium.

Contenders share the learner of the adapter and its seed, which is that of the episodes, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, NamedTuple

import gymnasium as gym
import numpy as np

from benchmarks.real_runs import Contender, Measure, Problem, Record, Recorder
from metalearn_env.adapters.tabular import QLearner
from metalearn_env.decision_process import DecisionProcess
from metalearn_env.family import Array
from metalearn_env.gymnasium_processes import load_process
from metalearn_env.markov import Processes, greedy_values
from metalearn_env.policy import Policy

DISCOUNT = 0.95
GRID = tuple(float(f"{step:.3g}") for step in np.logspace(-3, 0, 7))
DISTANCE, LOST = "distance to Q*", "lost return"
DEFAULT = "constant 0.1"

#: name -> alpha, by the knob, the part of the horizon that has passed, and how often the pair was updated, with this
RULES: dict[str, tuple[Callable[[float, float, int], float], tuple[float, ...]]] = {
    "constant": (lambda knob, part, n: knob, GRID),
    DEFAULT: (lambda knob, part, n: 0.1, ()),
    "linear decay, tuned start": (lambda knob, part, n: knob * (1.0 - part), GRID),
    "n^-w, tuned w": (lambda knob, part, n: n**-knob, (0.5, 0.6, 0.7, 0.8, 0.9)),
    "1 / n": (lambda knob, part, n: 1.0 / n, ()),
    "A / (A + n - 1), tuned A": (lambda knob, part, n: knob / (knob + n - 1.0), (3.0, 10.0, 30.0, 100.0)),
    "1 / (1 + (1 - gamma) n)": (lambda knob, part, n: 1.0 / (1.0 + (1.0 - DISCOUNT) * n), ()),
}


class Rule:
    """Step sizes that are a formula, in the place of `metalearn_env.adapters.tabular.LearnedAlpha`."""

    def __init__(self, formula: Callable[[float, float, int], float], knob: float, table: Array, horizon: int) -> None:
        self._formula, self._knob, self._horizon = formula, knob, horizon
        self._visits, self._t = np.zeros(table.shape, np.int64), 0

    def __call__(self, error: float, state: int, action: int) -> float:
        self._visits[state, action] += 1
        self._t += 1
        return self._formula(self._knob, (self._t - 1) / self._horizon, int(self._visits[state, action]))


class Answer(NamedTuple):
    """What is known of an environment."""

    process: DecisionProcess
    processes: Processes
    optimum: Array  # (p,)
    real: np.ndarray  # (p,) pairs that can be reached
    value: float  # of the best policy

    def distance(self, table: Array) -> float:
        """Return half the mean squared distance of a table (S, A) to Q*, over the pairs that can be reached."""
        return float(0.5 * ((table.T.ravel() - self.optimum)[self.real] ** 2).mean())

    def lost(self, table: Array) -> float:
        """Return by how much the policy that is greedy in a table falls short of the best one, discounted."""
        values = greedy_values(self.processes, table.T.reshape(1, -1), len(self.process.start))
        return self.value - float(self.process.start @ values[0])


@dataclass(frozen=True)
class Tables(Problem):
    """Q-learning along epsilon-greedy episodes."""

    name: str
    told: str
    env_id: str
    horizon: int
    policy: str = "q-learning"
    default: str = DEFAULT

    counted: ClassVar[str] = "transitions"
    measures: ClassVar[tuple[Measure, ...]] = (Measure(DISTANCE), Measure(LOST, ratio=False))

    @property
    def contenders(self) -> tuple[Contender, ...]:
        return tuple(Contender(name, knobs) for name, (_, knobs) in RULES.items())

    def run(self, contender: str, knob: float | None, seed: int) -> Record:
        def rule(learner: QLearner) -> Any:
            return Rule(RULES[contender][0], 0.0 if knob is None else knob, learner.table, self.horizon)

        return self._trained(_still(), self.horizon, seed, rule)

    def learned(self, learner: str, policy: Policy, horizon: int, seed: int) -> Record:
        return self._trained(policy, horizon, seed, lambda learner: learner.alpha)

    def _trained(self, policy: Policy, horizon: int, seed: int, choose: Callable[[QLearner], Any]) -> Record:
        known, env, recorder = answer(self.env_id), gym.make(self.env_id), Recorder(horizon)
        sizes = int(env.observation_space.n), int(env.action_space.n)
        learner = QLearner(*sizes, policy, horizon=horizon, discount=DISCOUNT, seed=seed)
        alpha = choose(learner)

        def noted(error: float, state: int, action: int) -> float:
            size = alpha(error, state, action)
            recorder.step(size)
            return size

        learner.alpha = noted
        state, _ = env.reset(seed=seed)
        for t in range(horizon):
            recorder.see(t, lambda: known.distance(learner.table))
            action = learner.act(state)
            onward, reward, terminated, truncated, _ = env.step(action)
            learner.update(state, action, float(reward), onward, terminated)
            state = env.reset()[0] if terminated or truncated else onward
        env.close()
        recorder.see(horizon, lambda: known.distance(learner.table))
        return recorder.record({DISTANCE: known.distance(learner.table), LOST: known.lost(learner.table)})


@cache
def answer(env_id: str) -> Answer:
    """Return Q* of an environment that lists its outcomes."""
    process = load_process(env_id)
    actions = len(process.reward) // len(process.start)
    fields = (process.successors, process.probabilities, process.reward)
    processes = Processes(*(array[None] for array in fields), np.array([DISCOUNT]), np.array([actions]))
    optimum = process.q_values(processes.discount)
    value = float(process.start @ greedy_values(processes, optimum, len(process.start))[0])
    return Answer(process, processes, optimum[0], np.tile(process.real, actions), value)


@cache
def _still() -> Policy:
    """Return a policy for learners that are not asked for it."""
    return Policy.untrained(history=0, seed=0)


def _installed(*env_ids: str) -> str:
    return next(env_id for env_id in env_ids if env_id in gym.registry)


TABLES = (
    Tables("frozen-lake", "Q-learning on FrozenLake", "FrozenLake-v1", 10_000),
    Tables("cliff-walking", "Q-learning on CliffWalking", _installed("CliffWalking-v1", "CliffWalking-v0"), 5000),
    Tables("taxi", "Q-learning on Taxi", _installed("Taxi-v4", "Taxi-v3"), 30_000),
)
