"""The hyperparameters of a run, checked: those that its algorithm has, of the run itself, and of `agents.views`.

How they are written, in files and on the command line: `agents.zoo`.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args, get_origin

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.noise import NormalActionNoise, OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.vec_env import VecNormalize

from agents.zoo import ACTIVATIONS
from metalearn_env.ranges import as_integer, is_number

OF_A_RUN = ("n_timesteps", "n_envs", "policy", "env_kwargs", "normalize", "hidden", "privileged", "raw_rewards")
OF_NOISE = ("noise_type", "noise_std")
NOISES = {"normal": NormalActionNoise, "ornstein-uhlenbeck": OrnsteinUhlenbeckActionNoise}
SCHEDULED = ("learning_rate", "clip_range", "clip_range_vf", "delta_std")
#: what a run sets itself, or what is code
NOT_SETTINGS = ("self", "env", "seed", "device", "verbose", "tensorboard_log", "action_noise", "_init_setup_model")
#: least and greatest value of hyperparameters that the algorithms themselves do not check
BOUNDS = {
    "learning_rate": (0.0, 1.0),
    "gamma": (0.0, 1.0),
    "gae_lambda": (0.0, 1.0),
    "tau": (0.0, 1.0),
    "delta_std": (0.0, 100.0),
    "clip_range": (0.0, 10.0),
    "clip_range_vf": (0.0, 1e6),
    "max_grad_norm": (0.0, 1e6),
    "target_kl": (0.0, 10.0),
    "exploration_fraction": (0.0, 1.0),
    "exploration_initial_eps": (0.0, 1.0),
    "exploration_final_eps": (0.0, 1.0),
    "noise_std": (0.0, 10.0),
    "vf_coef": (0.0, 1e6),
    "cg_damping": (0.0, 1e6),
    "line_search_shrinking_factor": (0.0, 1.0),
    "target_policy_noise": (0.0, 10.0),
    "target_noise_clip": (0.0, 10.0),
    "clip_reward": (0.0, 1e6),
    "epsilon": (0.0, 1.0),
}
#: least value of whole numbers, where it is not 1
LEAST = {"learning_starts": 0, "top_quantiles_to_drop_per_net": 0, "gradient_steps": -1, "sde_sample_freq": -1}


@dataclass(frozen=True)
class Linear:
    """A value that falls linearly from ``first`` to 0 over a run.

    A last rollout may reach beyond the steps that were asked for, where ``remaining`` is below 0 and the value is not.
    """

    first: float

    def __call__(self, remaining: float) -> float:
        return self.first * max(remaining, 0.0)


@dataclass(frozen=True)
class Settings:
    """The hyperparameters of a run, checked.

    Args:
        n_timesteps: environment steps.
        n_envs: rows of the vector environment.
        policy: name of the kind of network.
        env_kwargs: options of the environment.
        normalize: arguments of `VecNormalize` for rewards; empty: rewards are as they come.
        arguments: of the algorithm, as they are written in a file.
        hidden, privileged, raw_rewards: see `agents.views`.
    """

    n_timesteps: int
    n_envs: int
    policy: str
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    normalize: dict[str, Any] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)
    hidden: list[str] = field(default_factory=list)
    privileged: bool = False
    raw_rewards: bool = False

    def constructed(self, space: spaces.Space[Any]) -> dict[str, Any]:
        """Return the arguments of the algorithm as objects: schedules, noise on the actions of ``space``, classes."""
        arguments = copy.deepcopy(self.arguments)
        for name in set(SCHEDULED) & arguments.keys():
            if isinstance(arguments[name], str):
                arguments[name] = Linear(_linear(name, arguments[name]))
        if isinstance(arguments.get("train_freq"), list):
            arguments["train_freq"] = tuple(arguments["train_freq"])
        noise, std = (arguments.pop(name, None) for name in OF_NOISE)
        if noise is not None:
            size = int(np.prod(space.shape or ()))
            arguments["action_noise"] = NOISES[noise](np.zeros(size), std * np.ones(size))
        if "activation_fn" in arguments.get("policy_kwargs", {}):
            arguments["policy_kwargs"]["activation_fn"] = ACTIVATIONS[arguments["policy_kwargs"]["activation_fn"]]
        return arguments


def settings(cls: type[BaseAlgorithm], given: Mapping[str, Any]) -> Settings:
    """Return the settings of an algorithm.

    Raises:
        ValueError: a hyperparameter that it has not (the message lists those it has), or a value that is out of range
            or not of the type that its constructor declares.
    """
    known = known_names(cls)
    for name in given:
        if name not in known:
            raise ValueError(f"{cls.__name__} has no hyperparameter {name!r}; it has {', '.join(sorted(known))}")
    arguments = {name: value for name, value in _checked(cls, given).items() if name not in OF_A_RUN}
    policy = given.get("policy", "MlpPolicy")
    networks = _networks(cls, policy, arguments.get("policy_kwargs") or {})
    if networks:
        arguments["policy_kwargs"] = networks
    if len(set(OF_NOISE) & {name for name in arguments if arguments[name] is not None}) == 1:
        raise ValueError("noise_type and noise_std go together")
    normalize = _normalize(cls, given.get("normalize") or {})
    if cls.__name__.endswith("ARS") and (normalize or given.get("raw_rewards")):
        raise ValueError("ARS compares whole returns as they are paid; normalize and raw_rewards would change nothing")
    rows = as_integer("n_envs", given.get("n_envs", given.get("n_eval_episodes", 1)), minimum=1)
    if isinstance(arguments.get("n_steps"), int) and "n_epochs" in known and rows * arguments["n_steps"] < 2:
        raise ValueError("an update needs at least 2 steps: n_envs * n_steps is 1")
    return Settings(
        as_integer("n_timesteps", given.get("n_timesteps", 1_000_000), minimum=1),
        rows,
        policy,
        dict(given.get("env_kwargs") or {}),
        normalize,
        arguments,
        list(given.get("hidden") or []),
        given.get("privileged", False),
        given.get("raw_rewards", False),
    )


def default(cls: type, name: str) -> Any:
    """Return the default of an argument of a constructor; None if there is no such argument."""
    parameter = inspect.signature(cls).parameters.get(name)
    return None if parameter is None else parameter.default


def known_names(cls: type[BaseAlgorithm]) -> set[str]:
    """Return the names of the hyperparameters of an algorithm."""
    own = inspect.signature(cls).parameters
    names = {name for name in own if name not in NOT_SETTINGS and not name.endswith("_class")}
    return names | set(OF_A_RUN) | (set(OF_NOISE) if "action_noise" in own else set())


def _checked(owner: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments of a constructor, or raise ``ValueError`` for one out of range or not of the declared type."""
    declared = inspect.signature(owner).parameters
    found = dict(given)
    for name, value in given.items():
        if value is not None or default(owner, name) is not None:
            _check_value(name, value)
            found[name] = _as_declared(name, value, declared[name].annotation) if name in declared else value
    return found


def _check_value(name: str, value: Any) -> None:
    if name in BOUNDS:
        low, high = BOUNDS[name]
        number = _linear(name, value) if name in SCHEDULED and isinstance(value, str) else value
        if not (is_number(number) and low <= number <= high):
            raise ValueError(f"{name} is between {low:g} and {high:g}, not {value!r}")
    elif name == "noise_type" and value not in [*NOISES]:
        raise ValueError(f"noise_type is one of {', '.join(NOISES)}, not {value!r}")
    elif name in ("privileged", "raw_rewards") and not isinstance(value, bool):
        raise ValueError(f"{name} is a truth value, not {value!r}")
    elif name == "train_freq" and isinstance(value, list):
        if value[1:] != ["step"]:
            raise ValueError(f"train_freq is of steps, as rows end at different times: a number, not {value!r}")
        as_integer(name, value[0], minimum=1)
    elif name == "hidden" and not (isinstance(value, list) and all(isinstance(one, str) for one in value)):
        raise ValueError(f"hidden is a list of names such as [task, cosine], not {value!r}")
    elif name.endswith("_kwargs") and not isinstance(value, Mapping):
        example = "{action: discrete}" if name == "env_kwargs" else "{net_arch: [64, 64]}"
        raise ValueError(f"{name} is a mapping such as {example}, not {value!r}; code is not run")


def _as_declared(name: str, value: Any, annotation: Any) -> Any:
    """Return a value that is declared as a truth value or a number as what is declared, others as they are.

    Raises:
        ValueError: it is neither that nor a text that stands for it.
    """
    kinds = get_args(annotation) or (annotation,)
    if bool in kinds and not isinstance(value, bool):
        raise ValueError(f"{name} is a truth value, not {value!r}")
    as_list = isinstance(value, list) and any(get_origin(kind) is tuple for kind in kinds)
    if int in kinds and not as_list:
        return as_integer(name, value, minimum=LEAST.get(name, 1))
    as_text = isinstance(value, str) and (str in kinds or name in SCHEDULED)
    if float in kinds and not (is_number(value) or as_text):
        raise ValueError(f"{name} is a number, not {value!r}")
    return value


def _linear(name: str, text: str) -> float:
    kind, _, first = text.partition("_")
    try:
        if kind == "lin":
            return float(first)
    except ValueError:
        pass
    raise ValueError(f"{name} is a number, or lin_NUMBER, which falls linearly to 0; not {text!r}")


def _networks(cls: type[BaseAlgorithm], policy: Any, policy_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of the networks of a policy, checked."""
    aliases = {name: kind for name, kind in cls.policy_aliases.items() if name.startswith(("Mlp", "Linear"))}
    if policy not in [*aliases]:
        raise ValueError(f"the policy of {cls.__name__} is one of {', '.join(aliases)}, not {policy!r}")
    known = set(inspect.signature(aliases[policy]).parameters) - {"observation_space", "action_space", "lr_schedule"}
    for name, value in policy_kwargs.items():
        if name not in known or name.endswith("_class"):
            raise ValueError(f"{policy} of {cls.__name__} has no {name!r} in policy_kwargs; it has {sorted(known)}")
        if name == "net_arch":
            _check_widths(value)
        if name == "activation_fn" and value not in [*ACTIVATIONS]:
            raise ValueError(f"activation_fn is one of {', '.join(ACTIVATIONS)}, not {value!r}")
    return _checked(aliases[policy], policy_kwargs)


def _check_widths(net_arch: Any) -> None:
    """Raise ``ValueError`` unless the widths of a network, or of those of its actor and critic, are whole numbers."""
    if isinstance(net_arch, Mapping):
        for widths in net_arch.values():
            _check_widths(widths)
    elif isinstance(net_arch, (list, tuple)):
        for width in net_arch:
            as_integer("a width in net_arch", width, minimum=1)
    elif net_arch is not None:
        raise ValueError(f"net_arch is a list of widths, or {{pi: [...], vf: [...]}}, not {net_arch!r}")


def _normalize(cls: type[BaseAlgorithm], value: Any) -> dict[str, Any]:
    """Return the arguments of `VecNormalize`: rewards may be normalised; observations are bounded by construction."""
    if not value:
        return {}
    known = set(inspect.signature(VecNormalize).parameters) - {"venv", "training", "norm_obs_keys"}
    if not isinstance(value, Mapping) or value.get("norm_obs", True) or not value.keys() <= known:
        raise ValueError(
            "observations are free of units and bounded, and are not normalised; for rewards write normalize: "
            f"{{norm_obs: false, norm_reward: true}} (known: {', '.join(sorted(known))}), not {value!r}"
        )
    return _checked(VecNormalize, value)
