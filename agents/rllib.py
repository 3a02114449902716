"""Train PPO on Ray RLlib, on this machine or on a cluster, to the same policy file as `agents.train`.

``python -m agents.rllib --env MetaLearn/Mixture-v0 --steps 1_000_000 --out runs/ray``

The learner runs here, the environments in ``--workers`` processes: those of a Ray that begins and ends with the
command, or of the cluster at ``--ray-address``. RLlib pins Gymnasium to a version of its own, so that it wants a
virtual environment of its own: ``pip install ".[distributed]"``.
"""

from __future__ import annotations

import csv
import json
import shlex
import shutil
import signal
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
import torch
import tyro
from tqdm import tqdm

from agents.export import versions
from agents.train import write_run
from agents.training import CHECKPOINTS, POLICY, RUN, SCORES, mean_score, new_logger, read_scores
from metalearn_env.commandline import key_value, run
from metalearn_env.policy import Policy, load
from metalearn_env.ranges import as_integer
from metalearn_env.scoring import TaskSet, task_sets
from metalearn_env.table import run_policy

if TYPE_CHECKING:
    from ray.rllib.algorithms.ppo import PPO

WHOLE_NUMBERS = (
    *("steps", "num_envs", "n_steps", "batch_size", "n_epochs", "width", "checkpoint_every", "validate_every"),
    "workers",
)
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

    options = dict(key_value(text) for text in args.env_kwargs)
    record = check_run(args)
    validation = task_sets(args.env, "validation", args.validation_tasks, 0, options)
    policy = header(record, options)
    done = int(checkpoints(args.out)[-1].name) if args.resume else 0
    with cluster(args.ray_address, args.workers), Interrupt() as interrupt:
        algorithm = new_algorithm(args, options, stream_seed(args.seed, done))
        if args.resume:
            algorithm.restore_from_path(checkpoints(args.out)[-1].absolute())
            record["resumed_at"].append(done)
        write_run(args.out, record)
        done = Training(algorithm, args, validation, policy).run(done, interrupt)
        algorithm.stop()
    if done < args.steps:
        raise KeyboardInterrupt
    print(f"best policy on validation tasks: {args.out / POLICY}")


class Interrupt:
    """Ctrl-C is kept until an update is through; a second one is not."""

    asked = False

    def __enter__(self) -> Interrupt:
        self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *_: Any) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _ask(self, *_: Any) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, self._before)
        print("\rending this update; Ctrl-C again to lose it", file=sys.stderr)


class Training:
    """Updates of an agent, with a bar, a log, checkpoints, and scores on validation tasks on the way."""

    def __init__(self, algorithm: PPO, args: Args, validation: list[TaskSet], policy: dict[str, Any]) -> None:
        self._algorithm, self._args, self._validation, self._header = algorithm, args, validation, policy
        self._best = -np.inf
        if (args.out / POLICY).exists():
            self._best = load(args.out / POLICY).header["validation_iqm"]

    def run(self, done: int, interrupt: Interrupt) -> int:
        """Train from ``done`` steps on, until all are done or the user interrupts; return how many are."""
        args, logger = self._args, new_logger(self._args.out, done)
        bar = tqdm(total=args.steps, initial=done, desc="training", unit="step", unit_scale=True)
        keep_scores(args.out, done)
        saved = scored = done
        if not done:
            self._save(done)
            self._score(done)
        while done < args.steps and not interrupt.asked:
            result = self._algorithm.train()["env_runners"]
            done = int(result["num_env_steps_sampled_lifetime"])
            bar.update(done - bar.n)
            logger.record("time/total_timesteps", done)
            if "episode_return_mean" in result:
                logger.record("rollout/ep_rew_mean", result["episode_return_mean"])
                bar.set_postfix_str(f"return {result['episode_return_mean']:.1f}")
            logger.dump(done)
            ending = done >= args.steps or interrupt.asked
            if ending or done >= scored + args.validate_every:
                self._score(done)
                scored = done
            if ending or done >= saved + args.checkpoint_every:
                self._save(done)
                saved = done
        bar.close()
        logger.close()
        return done

    def _score(self, done: int) -> None:
        """Score the agent on validation tasks, and write it down if it is the best so far."""
        policy = self._policy(done)
        iqm = mean_score(self._validation, lambda tasks: run_policy(policy, tasks))
        if iqm > self._best:
            policy.header["validation_iqm"], self._best = round(iqm, 4), iqm
            policy.save(self._args.out / POLICY)
        with (self._args.out / SCORES).open("a", newline="") as file:
            csv.writer(file).writerow([done, iqm])

    def _policy(self, done: int) -> Policy:
        from agents.ray_ppo import export

        return export(self._algorithm.get_module(), {**self._header, "steps": done})

    def _save(self, done: int) -> None:
        """Save all there is of the agent: each checkpoint is whole or absent, and the two last are kept."""
        folder = self._args.out / CHECKPOINTS
        unfinished = folder / f"{done}.part"
        shutil.rmtree(unfinished, ignore_errors=True)
        self._algorithm.save_to_path(unfinished.absolute())
        unfinished.replace(folder / str(done))
        for old in [*checkpoints(self._args.out)[:-2], *folder.glob("*.part")]:
            shutil.rmtree(old)


def check_run(args: Args) -> dict[str, Any]:
    """Return what is recorded of the run to be resumed, or what is to be recorded of a new one.

    Raises:
        ValueError: an option out of its range, or the folder holds a run already, or, to be resumed, none that was
            begun with the same options.
    """
    for name in WHOLE_NUMBERS:
        as_integer(name, getattr(args, name), minimum=1)
    as_integer("seed", args.seed, minimum=0)
    if args.num_envs % args.workers:
        raise ValueError(
            f"every worker has as many rows: num_envs is a multiple of {args.workers}, not {args.num_envs}"
        )
    if args.batch_size > args.num_envs * args.n_steps:
        raise ValueError(f"batch_size is at most num_envs * n_steps = {args.num_envs * args.n_steps}")
    begun, asked = checkpoints(args.out), json.loads(json.dumps(asdict(args), default=str))
    if not args.resume:
        if begun:
            raise ValueError(f"{args.out} holds a run already; give another --out, or --resume it")
        return {
            **asked,
            "command": f"python -m agents.rllib {shlex.join(sys.argv[1:])}",
            "algo": "ppo",
            "resumed_at": [],
        }
    if not begun:
        raise ValueError(f"{args.out} holds no checkpoint to resume from; begin the run without --resume")
    recorded: dict[str, Any] = json.loads((args.out / RUN).read_text())
    for name in asked.keys() - MAY_CHANGE:
        if recorded.get(name) != asked[name]:
            raise ValueError(f"the run was begun with {name}={recorded.get(name)!r}, not {asked[name]!r}")
    if int(begun[-1].name) >= args.steps:
        raise ValueError(f"all {begun[-1].name} steps of the run are done")
    return recorded


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a run, oldest first."""
    return sorted((path for path in (folder / CHECKPOINTS).glob("*") if path.name.isdigit()), key=lambda p: int(p.name))


def keep_scores(folder: Path, done: int) -> None:
    """Forget the scores that a resumed run took after its checkpoint; they will be taken again."""
    kept = [row for row in read_scores(folder) if row[0] <= done]
    with (folder / SCORES).open("w", newline="") as file:
        csv.writer(file).writerows(kept)


def stream_seed(seed: int, done: int) -> int:
    """Return the seed of what a run draws from ``done`` steps on, far from those of other runs."""
    return int(np.random.SeedSequence([seed, done]).generate_state(1)[0])


def header(record: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Return what the policy file says of itself."""
    import ray

    env = gym.make(record["env"], **options).unwrapped
    session = env.get_wrapper_attr("session")
    return {
        "env": record["env"],
        "env_kwargs": options,
        "action": session.actions.action,
        "strategy": session.actions.strategy,
        "history": session.history,
        "feature_names": list(env.get_wrapper_attr("feature_names")),
        "algorithm": "ppo",
        "seed": record["seed"],
        "command": record["command"],
        "resumed_at": record["resumed_at"],
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "versions": {**versions(), "ray": ray.__version__},
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    arguments = tyro.cli(Args)
    raise SystemExit(run(lambda: main(arguments), "interrupted; --resume goes on from the last checkpoint"))
