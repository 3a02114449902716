"""The algorithms of Stable-Baselines3 and sb3-contrib: what actions each takes, and how one is built from settings."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

import torch
from gymnasium import spaces
from sb3_contrib import ARS
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecEnv, VecMonitor, VecNormalize

from agents.export import begin_from
from agents.settings import Settings, default
from agents.views import Privileged, RawRewards, blindfold
from metalearn_env.adapters.sb3 import make_sb3_env
from metalearn_env.policy import Policy

ANY = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete)


class Algorithm(NamedTuple):
    """An algorithm, and the action spaces that it takes."""

    where: str  # "module:class"
    takes: tuple[type[spaces.Space[Any]], ...]

    @property
    def cls(self) -> type[BaseAlgorithm]:
        module, _, name = self.where.partition(":")
        found: type[BaseAlgorithm] = getattr(import_module(module), name)
        return found


ALGORITHMS = {
    "ppo": Algorithm("stable_baselines3:PPO", ANY),
    "a2c": Algorithm("stable_baselines3:A2C", ANY),
    "trpo": Algorithm("sb3_contrib:TRPO", ANY),
    "ppo_lstm": Algorithm("sb3_contrib:RecurrentPPO", ANY),
    "ars": Algorithm("agents.algorithms:PairedARS", (spaces.Box, spaces.Discrete)),
    "sac": Algorithm("stable_baselines3:SAC", (spaces.Box,)),
    "td3": Algorithm("stable_baselines3:TD3", (spaces.Box,)),
    "ddpg": Algorithm("stable_baselines3:DDPG", (spaces.Box,)),
    "tqc": Algorithm("sb3_contrib:TQC", (spaces.Box,)),
    "crossq": Algorithm("sb3_contrib:CrossQ", (spaces.Box,)),
    "dqn": Algorithm("stable_baselines3:DQN", (spaces.Discrete,)),
    "qrdqn": Algorithm("sb3_contrib:QRDQN", (spaces.Discrete,)),
}
#: the options of an environment that give each kind of action space
OPTIONS = {
    spaces.Box: "action:relative or action:absolute",
    spaces.Discrete: "action:discrete with strategy:dynamic or strategy:constant",
    spaces.MultiDiscrete: "action:discrete with strategy:random",
}


class PairedARS(ARS):
    """Augmented random search on many rows: every candidate of an update meets the same tasks.

    Counts the steps of each row once (sb3-contrib counts the steps of all rows for each), and lets the learning rate
    fall over the whole of a run that goes on.
    """

    def evaluate_candidates(
        self, candidate_weights: torch.Tensor, callback: BaseCallback, async_eval: Any = None
    ) -> torch.Tensor:
        returns, candidate, env = torch.zeros(len(candidate_weights)), copy.deepcopy(self.policy), self.env
        assert env is not None
        seed = int(torch.randint(2**31, ()))
        self.ep_info_buffer = deque()
        callback.on_rollout_start()
        for index, weights in enumerate(candidate_weights):
            candidate.load_from_vector(weights.numpy())
            env.seed(seed)
            episodes: Any = evaluate_policy(
                candidate,
                env,
                self.n_eval_episodes,
                callback=lambda *_: self._trigger_callback({}, {}, callback, 1),
                return_episode_rewards=True,
                warn=False,
            )
            rewards, lengths = episodes
            returns[index] = sum(rewards) + self.alive_bonus_offset * sum(lengths)
            self._mimic_monitor_wrapper(rewards, lengths)
        callback.on_rollout_end()
        return returns

    def _update_current_progress_remaining(self, num_timesteps: int, total_timesteps: int) -> None:
        self._current_progress_remaining = 1.0 - num_timesteps / self._total_timesteps


def algorithm(name: str) -> Algorithm:
    """Return an algorithm by its name, or raise ``ValueError`` with the names."""
    if name not in ALGORITHMS:
        raise ValueError(f"algo is one of {', '.join(ALGORITHMS)}, not {name!r}")
    return ALGORITHMS[name]


def check_space(name: str, space: spaces.Space[Any]) -> None:
    """Raise ``ValueError`` unless an algorithm takes an action space; the message names what would fit."""
    takes = algorithm(name).takes
    if not isinstance(space, takes):
        fitting = [other for other, entry in ALGORITHMS.items() if isinstance(space, entry.takes)]
        raise ValueError(
            f"{name} cannot take the action space {space}; it takes "
            f"{', or '.join(f'{kind.__name__} ({OPTIONS[kind]})' for kind in takes)}. "
            f"{type(space).__name__} is taken by {', '.join(fitting)}"
        )


def make_env(env_id: str, options: Mapping[str, Any], settings: Settings, gamma: float | None = None) -> VecEnv:
    """Return the native vector environment, with monitor and, if asked for, normalised rewards; it is not seeded."""
    env: VecEnv = VecMonitor(make_sb3_env(env_id, settings.n_envs, **options))
    if settings.raw_rewards:
        env = RawRewards(env)
    if settings.normalize:
        given = {} if gamma is None else {"gamma": gamma}
        env = VecNormalize(env, **{**given, **settings.normalize})
    return Privileged(env) if settings.privileged else env


def new_model(
    name: str,
    env_id: str,
    options: Mapping[str, Any],
    settings: Settings,
    seed: int,
    init: Policy | None = None,
) -> BaseAlgorithm:
    """Return an untrained agent, or one whose actor has the weights of the policy ``init``.

    Raises:
        ValueError, TypeError: an option, or a hyperparameter, that cannot be honoured.
    """
    cls = algorithm(name).cls
    gamma = settings.arguments.get("gamma", default(cls, "gamma"))
    env = make_env(env_id, options, settings, gamma)
    check_space(name, env.action_space)
    if not isinstance(env.observation_space, spaces.Box):
        raise ValueError("agents observe flat vectors; observation:dict cannot be honoured")
    try:
        built: Any = cls
        arguments = {**settings.constructed(env.action_space), "policy": settings.policy, "env": env}
        model: BaseAlgorithm = built(**arguments, seed=seed, device="cpu")
    except (AssertionError, AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{name} does not take these hyperparameters: {error} ({settings.arguments})") from error
    if init is not None:
        begin_from(model, init)
    if settings.hidden or settings.privileged:
        blindfold(model, settings.hidden)
    return model
