"""Train PPO on Ray RLlib, on this machine or on a cluster, to the same policy file as `agents.train`.

``python -m agents.rllib --env MetaLearn/Mixture-v0 --steps 1_000_000 --out runs/ray``

The learner runs here, the environments in ``--workers`` processes: those of a Ray that begins and ends with the
command, or of the cluster at ``--ray-address``. RLlib pins Gymnasium to a version of its own, so that it wants a
virtual environment of its own: ``pip install ".[distributed]"``.
"""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch

from agents.locks import held
from agents.options import parsed
from agents.ray_training import Interrupt, Training, checkpoints
from agents.runs import POLICY, check_new, read_run, write_run
from agents.training import policy_header, stream_seed
from metalearn_env.commandline import key_values, run
from metalearn_env.ranges import as_integer
from metalearn_env.scoring import task_sets

WHOLE_NUMBERS = (
    *("steps", "num_envs", "n_steps", "batch_size", "n_epochs", "width", "checkpoint_every", "validate_every"),
    "workers",
)
SHARES = ("learning_rate", "gamma", "gae_lambda")
RECORDED = {"command": str, "algo": str, "resumed_at": list}
MAY_CHANGE = {"out", "resume", "steps", "ray_address"}


@dataclass(frozen=True)
class Args:
    """Train PPO of Ray RLlib on the native vector environment."""

    out: Path
    """folder of the run"""
    env: str = "MetaLearn/LinearRegression-v0"
    """id of the environment"""
    env_kwargs: tuple[str, ...] = ()
    """options of the environment, as key:value"""
    steps: int = 1_000_000
    """environment steps in all"""
    seed: int = 0
    """of weights, actions and tasks"""
    resume: bool = False
    """go on with the run in --out from its last checkpoint"""
    ray_address: str | None = None
    """of a cluster, as host:port; its token, if it has one, is $RAY_AUTH_TOKEN; default: this machine alone"""
    workers: int = 2
    """processes that play"""
    checkpoint_every: int = 100_000
    """environment steps between checkpoints"""
    validate_every: int = 100_000
    """environment steps between scores on validation tasks"""
    validation_tasks: int = 128
    """how many of them, of each family"""
    num_envs: int = 256
    """rows of the vector environments of all workers"""
    n_steps: int = 50
    """steps of each row between updates"""
    batch_size: int = 1600
    """steps in a minibatch of an update"""
    n_epochs: int = 6
    """passes over the steps of an update"""
    learning_rate: float = 1e-3
    """at the start; it falls linearly to 0"""
    gamma: float = 1.0
    """discount; 1, since a horizon is part of the problem"""
    gae_lambda: float = 0.9
    """bias against variance of the advantages"""
    ent_coef: float = 0.0
    """weight of the entropy"""
    log_std: float = -1.7
    """logarithm of the first standard deviation of the actions"""
    width: int = 64
    """units in each of the two hidden layers"""


def main(args: Args) -> None:
    """Run the training that ``args`` ask for.

    Raises:
        ImportError: there is no ray here.
        ValueError, TypeError: an option that cannot be honoured; nothing has been written.
        KeyboardInterrupt: training was interrupted; all of it is in the last checkpoint.
    """
    from agents.ray_ppo import cluster, new_algorithm

    options = key_values(args.env_kwargs)
    record = check_run(args)
    validation = task_sets(args.env, "validation", args.validation_tasks, 0, options)
    policy = header(record, options)
    done = int(checkpoints(args.out)[-1].name) if args.resume else 0
    with cluster(args.ray_address, args.workers), Interrupt() as interrupt:
        algorithm = new_algorithm(args, options, stream_seed(args.seed, done))
        if args.resume:
            algorithm.restore_from_path(checkpoints(args.out)[-1].absolute())
            record["resumed_at"].append(done)
        with held(args.out):
            write_run(args.out, record)
            done = Training(algorithm, args, validation, policy).run(done, interrupt)
        algorithm.stop()
    if done < args.steps:
        raise KeyboardInterrupt
    print(f"best policy on validation tasks: {args.out / POLICY}")


def check_run(args: Args) -> dict[str, Any]:
    """Return what is recorded of the run to be resumed, or what is to be recorded of a new one.

    Raises:
        ValueError: an option out of its range, or the folder holds a run already, or, to be resumed, none that was
            begun with the same options.
    """
    for name in WHOLE_NUMBERS:
        as_integer(name, getattr(args, name), minimum=1)
    as_integer("seed", args.seed, minimum=0)
    for name in SHARES:
        if not 0.0 <= getattr(args, name) <= 1.0:
            raise ValueError(f"{name} is between 0 and 1, not {getattr(args, name)}")
    if args.num_envs % args.workers:
        raise ValueError(
            f"every worker has as many rows: num_envs is a multiple of {args.workers}, not {args.num_envs}"
        )
    if args.batch_size > args.num_envs * args.n_steps:
        raise ValueError(f"batch_size is at most num_envs * n_steps = {args.num_envs * args.n_steps}")
    begun, asked = checkpoints(args.out), json.loads(json.dumps(asdict(args), default=str))
    if not args.resume:
        check_new(args.out)
        return {
            **asked,
            "command": f"python -m agents.rllib {shlex.join(sys.argv[1:])}",
            "algo": "ppo",
            "resumed_at": [],
        }
    if not begun:
        raise ValueError(f"{args.out} holds no checkpoint to resume from; begin the run without --resume")
    recorded = read_run(args.out, RECORDED)
    for name in asked.keys() - MAY_CHANGE:
        if recorded.get(name) != asked[name]:
            raise ValueError(f"the run was begun with {name}={recorded.get(name)!r}, not {asked[name]!r}")
    if int(begun[-1].name) >= args.steps:
        raise ValueError(f"all {begun[-1].name} steps of the run are done")
    return recorded


def header(record: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Return what the policy file says of itself."""
    env = gym.make(record["env"], **options).unwrapped
    if not isinstance(env.observation_space, gym.spaces.Box):
        raise ValueError(f"a policy takes flat observations, not a {type(env.observation_space).__name__}")
    says = policy_header(record, options, env.get_wrapper_attr("session"))
    return {**says, "versions": {**says["versions"], "ray": metadata.version("ray")}}


if __name__ == "__main__":
    torch.set_num_threads(1)
    raise SystemExit(run(lambda: main(parsed(Args)), "interrupted; --resume goes on from the last checkpoint"))
