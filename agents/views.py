"""What an agent and its critic are shown, and what they are paid in, where that is not what the environment says.

==============================  =======================================================================================
hyperparameter                  what it does
==============================  =======================================================================================
``hidden: [task, cosine]``      groups and features of the observation that neither the actor nor the critic sees
``privileged: true``            the critic sees the truth, too: the gap, f* and, where they are known, the curvatures
``raw_rewards: true``           rewards of a mixture are not divided by what its families typically pay
==============================  =======================================================================================

What is not to be seen has weight 0 in the first layer, and keeps it. No policy file tells of the truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper

from metalearn_env.engine import Engine
from metalearn_env.knowledge import extreme_curvatures
from metalearn_env.observations import columns, feature_names
from metalearn_env.rewards import log_gap

TRUTHS = 4
TRUTH_BOUND = 10.0


class Privileged(VecEnvWrapper):
    """Observations of a native environment, followed by the truth: `TRUTHS` columns.

    They are log10 of the gap over the first, of f* over the first loss, and, where the curvatures are known, else 0, of
    L in units of the step, and of L / mu.
    """

    def __init__(self, venv: VecEnv) -> None:
        seen, bound = venv.observation_space, np.full(TRUTHS, TRUTH_BOUND, np.float32)
        if not isinstance(seen, spaces.Box):
            raise ValueError(f"a privileged critic observes flat vectors, not a {type(seen).__name__}")
        super().__init__(venv, spaces.Box(np.append(seen.low, -bound), np.append(seen.high, bound), dtype=np.float32))
        self._truth = np.zeros((venv.num_envs, TRUTHS), np.float32)

    def reset(self) -> Any:
        return self._shown(self.venv.reset())

    def step_wait(self) -> Any:
        observations, *others = self.venv.step_wait()
        return self._shown(observations), *others

    def _shown(self, observations: Any) -> NDArray[np.float32]:
        session = self.venv.get_attr("session")[0]
        fresh = np.flatnonzero(session.engine.t == 0)
        for rows, engine, places in session.learners(fresh):
            self._truth[rows, 1:] = np.clip(_of_task(engine, places), -TRUTH_BOUND, TRUTH_BOUND)
        self._truth[:, 0] = np.clip(log_gap(session.engine) / np.log(10.0), -TRUTH_BOUND, TRUTH_BOUND)
        return np.concatenate([observations, self._truth], axis=1)


def _of_task(engine: Engine, places: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return what does not change in the episodes of some learners, (k, TRUTHS - 1)."""
    truth, reference = np.zeros((len(places), TRUTHS - 1)), engine.reference[places]
    truth[:, 0] = np.log10(np.maximum(reference / (reference + engine.initial_gap[places]), 10.0**-TRUTH_BOUND))
    try:
        task = type(engine.task)(*(array[places] for array in engine.task))
        least, largest = extreme_curvatures(engine.family, task)
    except TypeError:  # of a family without curvatures
        return truth
    truth[:, 1], truth[:, 2] = np.log10(largest * engine.unit[places]), np.log10(largest / least)
    return truth


class RawRewards(VecEnvWrapper):
    """Rewards of a mixture in the families' own units."""

    def reset(self) -> Any:
        return self.venv.reset()

    def step_async(self, actions: NDArray[Any]) -> None:
        self._unit = self.venv.get_attr("session")[0].reward_unit.copy()  # before an episode of another family begins
        self.venv.step_async(actions)

    def step_wait(self) -> Any:
        observations, rewards, *others = self.venv.step_wait()
        return observations, (rewards * self._unit).astype(np.float32), *others


def blindfold(model: BaseAlgorithm, hidden: Sequence[str]) -> None:
    """Take from an agent's sight some groups or features, and from that of its actor what is beyond the observation.

    Raises:
        ValueError: there is nothing of that name, or the agent is of no algorithm with an actor and a critic beside it.
    """
    policy, env = model.policy, model.get_env()
    if not isinstance(policy, ActorCriticPolicy) or isinstance(policy, RecurrentActorCriticPolicy):
        raise ValueError(
            "hidden and privileged are for algorithms with a perceptron for actor and critic: ppo, a2c, trpo"
        )
    assert env is not None
    session = env.get_attr("session")[0]
    unseen = [column for name in hidden for column in columns(session.history, name, session.ritz)]
    beyond = range(len(feature_names(session.history, session.ritz)), policy.observation_space.shape[0])  # type: ignore[index]
    parts = policy.mlp_extractor
    _blind(next(iter([*parts.policy_net, policy.action_net])), [*unseen, *beyond])
    _blind(next(iter([*parts.value_net, policy.value_net])), unseen)


def _blind(layer: Any, unseen: Sequence[int]) -> None:
    seen = torch.ones(layer.in_features)
    seen[list(unseen)] = 0.0
    with torch.no_grad():
        layer.weight *= seen
    layer.weight.register_hook(lambda gradient: gradient * seen)
