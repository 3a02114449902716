"""From a trained Stable-Baselines3 agent to a policy file that NumPy runs."""

from __future__ import annotations

import platform
from typing import Any

import gymnasium
import numpy as np
import stable_baselines3
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy

import metalearn_env
from metalearn_env.policy import Policy


def export(model: BaseAlgorithm, header: dict[str, Any]) -> Policy:
    """Return the actor of an actor-critic agent as a `Policy`: its most likely action, observation by observation.

    Raises:
        ValueError: the actor is not a perceptron with tanh units on the flat observation.
    """
    policy: Any = model.policy
    if not isinstance(model.policy, ActorCriticPolicy) or policy.activation_fn is not torch.nn.Tanh:
        raise ValueError(f"only actor-critic agents with tanh units are exported, not {type(policy).__name__}")
    hidden = [layer for layer in policy.mlp_extractor.policy_net if isinstance(layer, torch.nn.Linear)]
    layers = tuple(
        (layer.weight.detach().cpu().numpy().copy(), layer.bias.detach().cpu().numpy().copy())
        for layer in [*hidden, policy.action_net]
    )
    return Policy(layers, dict(header))


def versions() -> dict[str, str]:
    """Return the versions of what agents are trained with."""
    modules = (metalearn_env, gymnasium, np, stable_baselines3, torch)
    return {"python": platform.python_version(), **{module.__name__: module.__version__ for module in modules}}
