"""Train an agent: ``python -m agents.train --env MetaLearn/LinearRegression-v0 --steps 2_000_000 --out runs/mine``."""

from __future__ import annotations

import json
import shlex
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import CallbackList
from stable_baselines3.common.vec_env import VecMonitor

from agents.export import versions
from agents.training import POLICY, RUN, Checkpoint, ProgressBar, Validation, checkpoints, new_logger
from metalearn_env.adapters.sb3 import make_sb3_env
from metalearn_env.commandline import key_value, run
from metalearn_env.observations import feature_names
from metalearn_env.ranges import as_integer
from metalearn_env.scoring import task_sets

#: option, least, greatest value
BOUNDS = (
    ("learning_rate", 0.0, 1.0),
    ("gamma", 0.0, 1.0),
    ("gae_lambda", 0.0, 1.0),
    ("ent_coef", 0.0, 100.0),
    ("log_std", -20.0, 2.0),
)


@dataclass(frozen=True)
class Args:
    """Train an agent on the native vector environment."""

    out: Path
    """folder of the run"""
    env: str = "MetaLearn/LinearRegression-v0"
    """id of the environment"""
    env_kwargs: tuple[str, ...] = ()
    """options of the environment, as key:value"""
    algo: str = "ppo"
    """algorithm: ppo"""
    steps: int = 1_000_000
    """environment steps in all"""
    seed: int = 0
    """of weights, actions and tasks"""
    resume: bool = False
    """go on with the run in --out from its last checkpoint"""
    checkpoint_every: int = 200_000
    """environment steps between checkpoints"""
    validate_every: int = 100_000
    """environment steps between scores on validation tasks"""
    validation_tasks: int = 128
    """how many of them, of each family"""
    num_envs: int = 256
    """rows of the vector environment"""
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
        ValueError, TypeError: an option that cannot be honoured; nothing has been written.
        SystemExit: training is interrupted.
    """
    options = dict(key_value(text) for text in args.env_kwargs)
    begun = check_run(args)
    validation = task_sets(args.env, "validation", args.validation_tasks, 0, options)
    model = resumed(args, options) if args.resume else new_model(args, options)
    if args.steps <= model.num_timesteps:
        raise ValueError(f"steps is above the {model.num_timesteps} that are done, not {args.steps}")
    model.set_random_seed(stream_seed(args.seed, model.num_timesteps))
    record = begun or {
        **config(args),
        "command": f"python -m agents.train {shlex.join(sys.argv[1:])}",
        "resumed_at": [],
    }
    if args.resume:
        record["resumed_at"].append(model.num_timesteps)
    write_run(args.out, record)
    parts = [
        ProgressBar(args.steps),
        Validation(validation, args.validate_every, args.out, header(record, options, model)),
        Checkpoint(args.checkpoint_every, args.out),
    ]
    model.set_logger(new_logger(args.out, model.num_timesteps))
    try:
        model.learn(args.steps - model.num_timesteps, callback=CallbackList(parts), reset_num_timesteps=False)
    except KeyboardInterrupt:
        raise SystemExit(f"interrupted; --resume goes on from {checkpoints(args.out)[-1]}") from None
    finally:
        model.logger.close()
    print(f"best policy on validation tasks: {args.out / POLICY}")


def stream_seed(seed: int, steps: int) -> int:
    """Return the seed of the tasks and actions that a run meets from ``steps`` on, far from those of other runs."""
    return int(np.random.SeedSequence([seed, steps]).generate_state(1)[0])


def check_run(args: Args) -> dict[str, Any] | None:
    """Return what is recorded of the run to be resumed; None for a new one.

    Raises:
        ValueError: the folder holds a run already, or, to be resumed, none that was begun with the same options.
    """
    for name in (
        "steps",
        "num_envs",
        "n_steps",
        "batch_size",
        "n_epochs",
        "width",
        "checkpoint_every",
        "validate_every",
    ):
        as_integer(name, getattr(args, name), minimum=1)
    as_integer("seed", args.seed, minimum=0)
    for name, low, high in BOUNDS:
        if not low <= getattr(args, name) <= high:
            raise ValueError(f"{name} is between {low:g} and {high:g}, not {getattr(args, name)}")
    if args.num_envs * args.n_steps < 2:
        raise ValueError("an update needs at least 2 steps: num_envs * n_steps is 1")
    if args.algo != "ppo":
        raise ValueError(f"algo is ppo, not {args.algo}")
    path, begun = args.out / RUN, bool(checkpoints(args.out))
    if not args.resume:
        if begun:
            raise ValueError(f"{args.out} holds a run already; give another --out, or --resume it")
        return None
    if not begun:
        raise ValueError(f"{args.out} holds no checkpoint to resume from; begin the run without --resume")
    recorded: dict[str, Any] = json.loads(path.read_text())
    asked = config(args)
    for name in asked.keys() - {"resume", "steps", "out"}:
        if recorded.get(name) != asked[name]:
            raise ValueError(f"the run was begun with {name}={recorded.get(name)!r}, not {asked[name]!r}")
    return recorded


def config(args: Args) -> dict[str, Any]:
    """Return the options of a run as JSON has them."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(args), default=str))
    return values


def write_run(folder: Path, record: dict[str, Any]) -> None:
    """Write what there is to know of a run, all of it or nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f"{RUN}.part"
    unfinished.write_text(json.dumps(record, indent=1) + "\n")
    unfinished.replace(folder / RUN)


def make_env(args: Args, options: dict[str, Any]) -> VecMonitor:
    """Return the native vector environment; `main` seeds it."""
    return VecMonitor(make_sb3_env(args.env, args.num_envs, **options))


def new_model(args: Args, options: dict[str, Any]) -> PPO:
    """Return an untrained agent."""
    first_rate = args.learning_rate
    return PPO(
        "MlpPolicy",
        make_env(args, options),
        seed=args.seed,
        n_steps=args.n_steps,
        batch_size=args.batch_size,
        n_epochs=args.n_epochs,
        learning_rate=lambda remaining: first_rate * remaining,
        gamma=args.gamma,
        gae_lambda=args.gae_lambda,
        ent_coef=args.ent_coef,
        policy_kwargs={"net_arch": [args.width, args.width], "log_std_init": args.log_std},
        device="cpu",
    )


def resumed(args: Args, options: dict[str, Any]) -> PPO:
    """Return the agent of the last checkpoint."""
    return PPO.load(checkpoints(args.out)[-1], env=make_env(args, options), device="cpu")


def header(record: dict[str, Any], options: dict[str, Any], model: PPO) -> dict[str, Any]:
    """Return what the policy file says of itself."""
    vector = model.get_env()
    assert vector is not None
    session = vector.get_attr("session")[0]
    return {
        "env": record["env"],
        "env_kwargs": options,
        "action": session.actions.action,
        "strategy": session.actions.strategy,
        "history": session.history,
        "feature_names": feature_names(session.history),
        "algorithm": record["algo"],
        "seed": record["seed"],
        "command": record["command"],
        "resumed_at": record["resumed_at"],
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "versions": versions(),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    arguments = tyro.cli(Args)
    raise SystemExit(run(lambda: main(arguments)))
