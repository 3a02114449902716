"""Train an agent: ``python -m agents.train --algo ppo --env MetaLearn/LinearRegression-v0 --out runs/mine``.

The hyperparameters are those of ``agents/hyperparameters/ALGO.yml``, or another ``--conf-file``; ``--hyperparams`` goes
before them: ``--hyperparams learning_rate:lin_3e-4 n_steps:50 "policy_kwargs:{net_arch: [32, 32]}"``.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import CallbackList

from agents.algorithms import algorithm, make_env, new_model
from agents.checkpoints import Checkpoint, best_file, checkpoints, is_recurrent, last_whole, load_agent
from agents.export import begun_from, export, versions
from agents.locks import held
from agents.options import check_of_tasks, parsed
from agents.runs import RUN, check_new, reached, read_run, write_run
from agents.settings import Settings, default, settings
from agents.training import (
    Clock,
    Logs,
    Observed,
    ProgressBar,
    Validation,
    new_logger,
    policy_header,
    stream_seed,
    validation_sets,
)
from agents.views import blindfold
from agents.zoo import FOLDER, override, read
from metalearn_env.commandline import key_values, run
from metalearn_env.policy import load
from metalearn_env.ranges import as_integer

LOGS = 10  # between two scores on validation tasks
#: what is recorded of a run beside its options, by which it goes on
RECORDED = {"steps": int, "settings": dict, "options": dict, "command": str, "resumed_at": list}


@dataclass(frozen=True)
class Args:
    """Train an agent on the native vector environment."""

    out: Path
    """folder of the run"""
    env: str = "MetaLearn/LinearRegression-v0"
    """id of the environment"""
    env_kwargs: tuple[str, ...] = ()
    """options of the environment, as key:value; they go before those of the file of hyperparameters"""
    algo: str = "ppo"
    """ppo, a2c, trpo, ppo_lstm, ars, sac, td3, ddpg, tqc, crossq, dqn or qrdqn"""
    hyperparams: tuple[str, ...] = ()
    """hyperparameters, as name:value, which go before those of the file; of two of one name the last counts"""
    conf_file: Path | None = None
    """file of hyperparameters; agents/hyperparameters/ALGO.yml if none is given"""
    steps: int | None = None
    """environment steps in all; n_timesteps of the file if none are given"""
    seed: int = 0
    """of weights, actions and tasks"""
    init: Path | None = None
    """a policy file, of as many units and the same actions and history, whose weights the actor begins from"""
    resume: bool = False
    """go on with the run in --out from its last checkpoint"""
    checkpoint_every: int = 200_000
    """environment steps between checkpoints"""
    validate_every: int = 100_000
    """environment steps between scores on validation tasks"""
    validation_tasks: int = 128
    """how many of them, of each family"""
    validation_kwargs: tuple[str, ...] = ()
    """options of the environment of validation tasks, which go before those that it is trained on"""


def main(args: Args, watch: Callable[[int, float], bool] | None = None) -> None:
    """Run the training that ``args`` ask for.

    Args:
        args: the options.
        watch: is told the steps and each score on validation tasks; training ends when it returns False.

    Raises:
        ValueError, TypeError: an option that cannot be honoured; nothing has been written.
        OSError: something cannot be written; what was written before is whole.
        KeyboardInterrupt: training was interrupted; the last checkpoint is whole.
    """
    begun, found = check_run(args), reached(args.out)
    record = begun or new_record(args)
    options, chosen = record["options"], Settings(**record["settings"])
    steps = args.steps or record["steps"]
    validation = validation_sets(record)
    identity = {"algo": args.algo, "env": args.env, "env_kwargs": options, "metalearn_env": versions()["metalearn_env"]}
    if begun:
        model = resumed(args, options, chosen, identity)
        record["resumed_at"].append(model.num_timesteps)
    else:
        init = None if args.init is None else load(args.init)
        model = new_model(args.algo, args.env, options, chosen, args.seed, init)
    if steps <= model.num_timesteps:
        raise ValueError(f"steps is above the {model.num_timesteps} that are done, not {steps}")
    record["steps"] = steps
    says = header(record, model)
    if not is_recurrent(model):
        export(model, says)  # which refuses what it cannot export
    model.set_random_seed(stream_seed(args.seed, model.num_timesteps))
    parts = [
        ProgressBar(steps),
        observed := Observed(len(says["feature_names"]), args.init),
        Validation(validation, args.validate_every, observed, args.out, says, watch),
        Logs(max(1, args.validate_every // LOGS)),
        Checkpoint(args.checkpoint_every, args.out, identity),
        clock := Clock(args.out, record),
    ]
    todo: dict[str, Any] = {"callback": CallbackList(parts), "reset_num_timesteps": False, "log_interval": None}
    with held(args.out):
        if reached(args.out) != found:
            raise ValueError(f"another process has trained in {args.out} meanwhile; --resume goes on from there")
        write_run(args.out, record)
        model.set_logger(new_logger(args.out, model.num_timesteps))
        try:
            model.learn(steps - model.num_timesteps, **todo)
        finally:
            clock.write()
            model.logger.close()
    print(f"best agent on validation tasks: {best_file(model, args.out)}")


def check_run(args: Args) -> dict[str, Any] | None:
    """Return what is recorded of the run to be resumed; None for a new one.

    Raises:
        ValueError: the folder holds a run already, or, to be resumed, none that was begun with the same options, or
            whose record is not whole.
    """
    for name in ("checkpoint_every", "validate_every", *(("steps",) if args.steps is not None else ())):
        as_integer(name, getattr(args, name), minimum=1)
    as_integer("seed", args.seed, minimum=0)
    check_of_tasks("validation_kwargs", key_values(args.validation_kwargs))
    algorithm(args.algo)
    if not args.resume:
        check_new(args.out)
        return None
    if not checkpoints(args.out):
        raise ValueError(f"{args.out} holds no checkpoint to resume from; begin the run without --resume")
    recorded, asked = read_run(args.out, RECORDED), config(args)
    for name in asked.keys() - {"resume", "steps", "out"}:
        if recorded.get(name) != asked[name]:
            raise ValueError(f"the run was begun with {name}={recorded.get(name)!r}, not {asked[name]!r}")
    if differing := recorded["settings"].keys() ^ {field.name for field in fields(Settings)}:
        raise ValueError(f"{args.out / RUN} is not the whole record of a run: settings differ in {sorted(differing)}")
    return recorded


def new_record(args: Args) -> dict[str, Any]:
    """Return what there is to know of a run that begins: its options and its hyperparameters.

    Raises:
        ValueError: a hyperparameter that cannot be honoured.
        OSError: there is no such file of hyperparameters.
    """
    given = read(args.conf_file or FOLDER / f"{args.algo}.yml", args.env)
    given |= dict(map(override, args.hyperparams))
    chosen = settings(algorithm(args.algo).cls, given)
    record = {
        **config(args),
        "steps": args.steps or chosen.n_timesteps,
        "settings": asdict(chosen),
        "options": {**chosen.env_kwargs, **key_values(args.env_kwargs)},
        "command": f"python -m agents.train {shlex.join(sys.argv[1:])}",
        "resumed_at": [],
        "wall_seconds": 0.0,
    }
    as_json: dict[str, Any] = json.loads(json.dumps(record))
    return as_json


def config(args: Args) -> dict[str, Any]:
    """Return the options of a run as JSON has them."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(args), default=str))
    return values


def resumed(args: Args, options: dict[str, Any], chosen: Settings, identity: dict[str, Any]) -> BaseAlgorithm:
    """Return the agent of the last whole checkpoint."""
    cls = algorithm(args.algo).cls
    gamma = chosen.arguments.get("gamma", default(cls, "gamma"))
    model = load_agent(cls, last_whole(args.out), lambda: make_env(args.env, options, chosen, gamma), identity)
    if chosen.hidden or chosen.privileged:
        blindfold(model, chosen.hidden)
    return model


def header(record: dict[str, Any], model: BaseAlgorithm) -> dict[str, Any]:
    """Return what the policy file says of itself."""
    vector = model.get_env()
    assert vector is not None
    says = policy_header(record, record["options"], vector.get_attr("session")[0])
    before = {"begun_from": begun_from(Path(record["init"]))} if record.get("init") else {}
    return {**says, **before, "hyperparameters": record["settings"]["arguments"]}


if __name__ == "__main__":
    torch.set_num_threads(1)
    raise SystemExit(run(lambda: main(parsed(Args)), "interrupted; --resume goes on from the last checkpoint"))
