"""From a trained Stable-Baselines3 agent to a policy file that NumPy runs: its most likely action.

Every actor but a recurrent one is a perceptron, or becomes one: the batch normalisation of CrossQ is folded into the
linear layer behind it, and the mean over the quantiles of QR-DQN into the last layer.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import sb3_contrib
import stable_baselines3
import torch
from numpy.typing import NDArray
from sb3_contrib import RecurrentPPO
from sb3_contrib.ars.policies import ARSPolicy
from sb3_contrib.common.torch_layers import BatchRenorm
from sb3_contrib.qrdqn.policies import QRDQNPolicy
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.dqn.policies import DQNPolicy
from torch import nn

import metalearn_env
from metalearn_env.policy import Policy, load

Layer = tuple[NDArray[Any], NDArray[Any]]
ACTIVATIONS = {nn.Tanh: "tanh", nn.ReLU: "relu"}


def export(model: BaseAlgorithm, header: dict[str, Any]) -> Policy:
    """Return the actor of an agent as a `Policy` with its most likely action, observation by observation.

    Raises:
        ValueError: the actor is no perceptron with tanh or ReLU units on the flat observation.
    """
    modules, squashed = _actor(model)
    layers, activation, tanh_at_end = _perceptron(modules)
    layers[0] = (layers[0][0][:, : len(header["feature_names"])], layers[0][1])  # without what is a critic's alone
    if isinstance(model.policy, QRDQNPolicy):
        weight, bias = layers[-1]
        quantiles = model.policy.n_quantiles
        layers[-1] = (weight.reshape(quantiles, -1, weight.shape[1]).mean(0), bias.reshape(quantiles, -1).mean(0))
    single = tuple((weight.astype(np.float32), bias.astype(np.float32)) for weight, bias in layers)
    output = "tanh" if squashed or tanh_at_end else "clip"
    return Policy(single, {**header, "activation": activation, "output": output})


def begin_from(model: BaseAlgorithm, policy: Policy) -> None:
    """Give the actor of an agent the weights of a policy, which may have decided at another interval.

    Raises:
        ValueError: the actor is none of PPO, A2C or TRPO, another perceptron, or of other actions or another history.
    """
    if not isinstance(model.policy, ActorCriticPolicy) or isinstance(model, RecurrentPPO):
        raise ValueError(f"agents that begin from a policy are of ppo, a2c or trpo, not {type(model).__name__}")
    env = model.get_env()
    assert env is not None
    session = env.get_attr("session")[0]
    own = {"action": session.actions.action, "strategy": session.actions.strategy}
    policy.check_options({**own, "history": session.history, "ritz": session.ritz})
    modules = [*model.policy.mlp_extractor.policy_net, model.policy.action_net]
    layers, activation, _ = _perceptron(modules)
    theirs = [weight.shape for weight, _ in policy.layers], policy.header.get("activation", "tanh")
    if policy.header.get("output", "clip") != "clip":
        raise ValueError(f"an actor clips its actions to their box; the policy has output {policy.header['output']!r}")
    if theirs != ([weight.shape for weight, _ in layers], activation):
        raise ValueError(
            f"the policy has layers and units {theirs}, the actor {[w.shape for w, _ in layers], activation}"
        )
    linear = [module for module in modules if isinstance(module, nn.Linear)]
    with torch.no_grad():
        for module, (weight, bias) in zip(linear, policy.layers, strict=True):
            module.weight.copy_(torch.tensor(weight))
            module.bias.copy_(torch.tensor(bias))


def begun_from(path: Path) -> str:
    """Return the command that a policy file is from, after those that it was itself begun from."""
    header = load(path).header
    earlier = [header["begun_from"]] if "begun_from" in header else []
    return "; ".join([*earlier, header.get("command", str(path))])


def versions() -> dict[str, str]:
    """Return the versions of what agents are trained with."""
    modules = (metalearn_env, gymnasium, np, stable_baselines3, sb3_contrib, torch)
    return {"python": platform.python_version(), **{module.__name__: module.__version__ for module in modules}}


def _actor(model: BaseAlgorithm) -> tuple[Iterable[nn.Module], bool]:
    """Return the modules from the observation to the action, in order, and whether tanh comes after them."""
    if isinstance(model, RecurrentPPO):
        raise ValueError(
            "a recurrent agent is not exported: policy files have no memory. Its checkpoints (.zip) are run by "
            "sb3_contrib.RecurrentPPO.load"
        )
    policy: Any = model.policy
    network = getattr(policy, "actor", None) or policy
    if isinstance(policy, DQNPolicy):
        network = policy.q_net
    elif isinstance(policy, QRDQNPolicy):
        network = policy.quantile_net
    if not isinstance(network.features_extractor, FlattenExtractor):
        raise ValueError(f"agents are exported from flat observations, not {type(network.features_extractor).__name__}")
    if isinstance(policy, ActorCriticPolicy):
        return [*policy.mlp_extractor.policy_net, policy.action_net], policy.squash_output
    if isinstance(policy, DQNPolicy):
        return network.q_net, False
    if isinstance(policy, QRDQNPolicy):
        return network.quantile_net, False
    if isinstance(policy, ARSPolicy):
        return policy.action_net, False
    if hasattr(network, "latent_pi"):  # SAC, TQC, CrossQ
        return [*network.latent_pi, network.mu], True
    return network.mu, False  # TD3, DDPG


def _perceptron(modules: Iterable[nn.Module]) -> tuple[list[Layer], str, bool]:
    """Return the linear layers in double precision, the name of the units between them, and whether tanh ends them."""
    layers: list[Layer] = []
    kinds: list[type[nn.Module]] = []  # of what follows each layer
    factor, shift = np.ones(1), np.zeros(1)  # of the normalisation before the next layer
    for module in modules:
        if isinstance(module, nn.Linear):
            weight = _array(module.weight)
            bias = np.zeros(len(weight)) if module.bias is None else _array(module.bias)
            layers.append((weight * factor, weight @ np.broadcast_to(shift, weight.shape[1]) + bias))
            factor, shift = np.ones(1), np.zeros(1)
        elif isinstance(module, BatchRenorm):
            buffers: Any = module
            factor = _array(buffers.scale) / np.sqrt(_array(buffers.ra_var) + module.eps)
            shift = _array(buffers.bias) - factor * _array(buffers.ra_mean)
        elif type(module) in ACTIVATIONS and len(kinds) < len(layers):
            kinds.append(type(module))
        else:
            raise ValueError(f"units are tanh or ReLU, after each linear layer; {module} is not exported")
    ends, between = kinds[len(layers) - 1 :], {ACTIVATIONS[kind] for kind in kinds[: len(layers) - 1]}
    if len(between) > 1 or ends not in ([], [nn.Tanh]):
        raise ValueError(f"hidden units are of one kind, and only tanh follows the last layer, not {kinds}")
    return layers, between.pop() if between else "tanh", bool(ends)


def _array(parameter: torch.Tensor) -> NDArray[np.float64]:
    array: NDArray[np.float64] = parameter.detach().cpu().numpy().astype(np.float64)
    return array
