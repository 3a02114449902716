"""PPO of Ray RLlib, its new API stack, on the native vector environment, and its actor as a policy file.

`agents.rllib` is the command; this is all that needs ray, and what runs in its workers.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

try:
    import ray
    from ray.rllib.algorithms.ppo import PPO, PPOConfig
    from ray.rllib.algorithms.ppo.torch.default_ppo_torch_rl_module import DefaultPPOTorchRLModule
    from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
    from ray.rllib.core.rl_module.rl_module import RLModuleSpec
except ImportError as error:
    raise ImportError('training on Ray needs RLlib: pip install "metalearn-env[distributed]"') from error

import agents
import metalearn_env
from metalearn_env.policy import Policy

OBJECT_STORE = 256 * 2**20  # bytes; a batch of an update takes a few MB


class Perceptron(DefaultPPOTorchRLModule):
    """RLlib's perceptrons, one for actions and one for values, that begins with small actions."""

    def setup(self) -> None:
        """Build the perceptrons; the spread of the actions is ``log_std`` of the configuration."""
        super().setup()
        with torch.no_grad():
            linear_layers(self.pi)[-1].weight.mul_(0.01)
            if hasattr(self.pi, "log_std"):
                self.pi.log_std.fill_(self.model_config["log_std"])


def perceptron(env: gym.Env[Any, Any], width: int, log_std: float) -> RLModuleSpec:
    """Return what an agent is made of: two hidden layers of tanh units, and for boxes a standard deviation."""
    model = DefaultModelConfig(
        fcnet_hiddens=[width, width],
        fcnet_activation="tanh",
        free_log_std=isinstance(env.action_space, gym.spaces.Box),
        vf_share_layers=False,
    )
    return RLModuleSpec(
        Perceptron, env.observation_space, env.action_space, model_config={**asdict(model), "log_std": log_std}
    )


def linear_layers(part: torch.nn.Module) -> list[torch.nn.Linear]:
    """Return the linear layers of a part of a module, in the order in which they are applied."""
    return [layer for layer in part.modules() if isinstance(layer, torch.nn.Linear)]


def export(module: Perceptron, header: dict[str, Any]) -> Policy:
    """Return the actor as a `Policy`: its most likely action, observation by observation."""
    layers = tuple(
        (layer.weight.detach().cpu().numpy().copy(), layer.bias.detach().cpu().numpy().copy())
        for layer in [*linear_layers(module.encoder.actor_encoder), *linear_layers(module.pi)]
    )
    return Policy(layers, dict(header))


def new_algorithm(args: Any, options: dict[str, Any], seed: int) -> PPO:
    """Return an untrained agent with its workers.

    Args:
        args: see `agents.rllib.Args`.
        options: of the environment.
        seed: of weights, actions and tasks.
    """
    env_id = args.env if ":" in args.env else f"metalearn_env:{args.env}"  # a worker knows no ids but by their package
    env = gym.make(env_id, **options)
    config = (
        PPOConfig()
        .environment(env_id, env_config=options, normalize_actions=False, clip_actions=True)
        .env_runners(
            num_env_runners=args.workers,
            num_envs_per_env_runner=args.num_envs // max(1, args.workers),
            gym_env_vectorize_mode="vector_entry_point",
        )
        .callbacks(on_environment_created=partial(_seed_worker, seed))
        .fault_tolerance(restart_failed_env_runners=args.ray_address is not None)
        .rl_module(rl_module_spec=perceptron(env, args.width, args.log_std))
        .training(
            lr=[[0, args.learning_rate], [args.steps, 0.0]],
            gamma=args.gamma,
            lambda_=args.gae_lambda,
            entropy_coeff=args.ent_coef,
            train_batch_size_per_learner=args.num_envs * args.n_steps,
            minibatch_size=args.batch_size,
            num_epochs=args.n_epochs,
            use_kl_loss=False,
            clip_param=0.2,
            vf_loss_coeff=0.5,
            vf_clip_param=float("inf"),
            grad_clip=0.5,
            grad_clip_by="global_norm",
        )
    )
    torch.manual_seed(seed)
    return config.build_algo()


def _seed_worker(seed: int, *, env: Any, env_context: Any, **_: Any) -> None:
    """Give each worker's rows tasks of their own: RLlib's seeds of workers are neighbours, as are those of rows."""
    tasks, actions = np.random.SeedSequence([seed, env_context.worker_index]).generate_state(2)
    env.reset(seed=int(tasks))
    torch.manual_seed(int(actions))


@contextmanager
def cluster(address: str | None, workers: int) -> Iterator[None]:
    """Connect to a cluster, which is given the code of the checkout; None: to one of this process, gone with it."""
    logging.getLogger("ray.rllib").setLevel(logging.ERROR)
    if address is None:
        ray.init(
            "local",
            num_cpus=workers,
            object_store_memory=OBJECT_STORE,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="error",
        )
    else:
        code = [str(Path(str(package.__file__)).parent) for package in (metalearn_env, agents)]
        ray.init(address, runtime_env={"py_modules": code}, log_to_driver=False, logging_level="error")
    try:
        yield
    finally:
        ray.shutdown()
