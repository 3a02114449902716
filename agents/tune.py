"""Search hyperparameters: ``python -m agents.tune --algo ppo --env MetaLearn/QLearning-v0 --out runs/tuned``.

Every trial is a run of `agents.train` in ``OUT/trials``, scored on validation tasks at its end, and ended early where
it is behind the median of the trials before it. The study is kept in ``OUT/study.db`` (SQLite): the same command goes
on with a study that was killed, and what was being tried is tried again. One process works on a study at a time.
``OUT/trials.csv`` and ``trials.md`` have the table of all trials, ``OUT/ALGO.yml`` the best, for
``agents.train --conf-file`` and rl-zoo. No test task is met.
"""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml

from agents import train
from agents.algorithms import algorithm, new_model
from agents.locks import held
from agents.options import parsed
from agents.runs import check_own, read_scores
from agents.settings import Settings, known_names
from agents.training import stream_seed, validation_sets
from agents.zoo import FOLDER, override, read, written
from metalearn_env.commandline import key_values, run
from metalearn_env.files import write_whole
from metalearn_env.ranges import as_integer

try:
    import optuna
    from sqlalchemy.exc import SQLAlchemyError  # which Optuna brings along
except ImportError as error:
    raise ImportError('tuning needs Optuna: pip install "metalearn-env[agents]"') from error

NETS = {"32": [32, 32], "64": [64, 64], "128": [128, 128]}
Suggest = Callable[[optuna.Trial], Any]


@dataclass(frozen=True)
class Args:
    """Search the hyperparameters of an algorithm for an environment."""

    out: Path
    """folder of the study"""
    env: str = "MetaLearn/LinearRegression-v0"
    """id of the environment"""
    env_kwargs: tuple[str, ...] = ()
    """options of the environment, as key:value"""
    algo: str = "ppo"
    """an algorithm of agents.train"""
    hyperparams: tuple[str, ...] = ()
    """hyperparameters that are not searched, as name:value"""
    conf_file: Path | None = None
    """file of hyperparameters, for those that are not searched; agents/hyperparameters/ALGO.yml if none is given"""
    trials: int = 20
    """trials of the study in all"""
    steps: int = 500_000
    """environment steps of a trial"""
    seed: int = 0
    """of the search and of every trial"""
    validate_every: int = 50_000
    """environment steps between scores on validation tasks"""
    validation_tasks: int = 128
    """how many of them, of each family"""


def rate(trial: optuna.Trial) -> str:
    return f"lin_{trial.suggest_float('learning_rate', 1e-4, 1e-2, log=True):.6g}"


def gamma(trial: optuna.Trial) -> float:
    return float(trial.suggest_categorical("gamma", [0.95, 0.98, 0.99, 0.995, 1.0]))


#: how a hyperparameter is drawn; those that an algorithm has, and that are not given, are searched
SPACE: dict[str, Suggest] = {
    "learning_rate": rate,
    "gamma": gamma,
    "gae_lambda": lambda trial: trial.suggest_float("gae_lambda", 0.8, 1.0),
    "n_epochs": lambda trial: trial.suggest_int("n_epochs", 1, 12),
    "clip_range": lambda trial: trial.suggest_float("clip_range", 0.1, 0.4),
    "target_kl": lambda trial: trial.suggest_float("target_kl", 0.003, 0.05, log=True),
    "tau": lambda trial: trial.suggest_float("tau", 0.002, 0.1, log=True),
    "gradient_steps": lambda trial: trial.suggest_categorical("gradient_steps", [1, 2, 4, 8]),
    "exploration_fraction": lambda trial: trial.suggest_float("exploration_fraction", 0.05, 0.5),
    "target_update_interval": lambda trial: trial.suggest_int("target_update_interval", 1000, 20_000, log=True),
    "noise_std": lambda trial: trial.suggest_float("noise_std", 0.05, 0.5, log=True),
    "delta_std": lambda trial: trial.suggest_float("delta_std", 0.005, 0.2, log=True),
}
#: what differs from algorithm to algorithm, and is left as the file has it
LEFT = {"ppo": ("target_kl",), "sac": ("target_update_interval",), "tqc": ("target_update_interval",)}


def main(args: Args) -> None:
    """Run the study that ``args`` ask for, or go on with it.

    Raises:
        ValueError, TypeError: an option that cannot be honoured; nothing has been written.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for name in ("trials", "steps", "validate_every"):
        as_integer(name, getattr(args, name), minimum=1)
    check_own(args.out)
    algorithm(args.algo)
    record = train.new_record(trial_run(args, 0, {}))
    validation_sets(record)
    new_model(args.algo, args.env, record["options"], Settings(**record["settings"]), args.seed)  # or it is refused
    asked = {name: value for name, value in train.config(train_args(args)).items() if name not in ("out", "resume")}
    asked["settings"] = record["settings"]  # of the file of hyperparameters, which may change
    asked["space"] = space(args)
    with held(args.out):
        study = open_study(args, asked)
        finished = [trial for trial in study.trials if trial.state.is_finished() and trial.state.name != "FAIL"]
        for _ in range(len(finished), args.trials):
            study.optimize(lambda trial: objective(args, trial), n_trials=1)
            write_table(args, study)
        write_table(args, study)
    print(f"best of {len(study.trials)} trials: {study.best_value:.3f} with {args.out / f'{args.algo}.yml'}")


def open_study(args: Args, asked: dict[str, Any]) -> optuna.Study:
    """Return the study of a folder; what was being tried when it was killed is tried again.

    Raises:
        ValueError: it was begun with other options.
    """
    asked = json.loads(json.dumps(asked, default=str))
    file, name = args.out / "study.db", f"{args.algo} on {args.env}"
    pruner = optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=args.steps // 4)
    if file.exists():
        try:
            known = optuna.get_all_study_names(f"sqlite:///{file}")
        except SQLAlchemyError as error:
            raise ValueError(f"{file} is no study: {error}") from error
        if known and known != [name]:
            raise ValueError(f"{args.out} holds a study of {', '.join(known)}, not of {name}")
    study = optuna.create_study(
        storage=f"sqlite:///{file}", study_name=name, direction="maximize", load_if_exists=True, pruner=pruner
    )
    begun = study.user_attrs.get("asked", asked)
    if begun != asked:
        differing = sorted(key for key in asked if begun.get(key) != asked[key])
        raise ValueError(f"the study was begun with other options: {', '.join(differing)}")
    study.set_user_attr("asked", asked)
    study.sampler = optuna.samplers.TPESampler(seed=stream_seed(args.seed, len(study.trials)))
    for trial in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        study.enqueue_trial(trial.params)
    return study


def objective(args: Args, trial: optuna.Trial) -> float:
    """Train, and return the score on validation tasks at the end.

    Raises:
        optuna.TrialPruned: it was behind the others on the way.
    """
    pruned = False

    def watch(steps: int, iqm: float) -> bool:
        nonlocal pruned
        trial.report(iqm, steps)
        pruned = pruned or (steps < args.steps and trial.should_prune())
        return not pruned

    sampled = suggested(args, trial)
    trial.set_user_attr("hyperparameters", sampled)
    one = trial_run(args, trial.number, sampled)
    shutil.rmtree(one.out, ignore_errors=True)  # of a process that was killed before it told the study
    train.main(one, watch)
    if pruned:
        raise optuna.TrialPruned
    score = read_scores(one.out)[-1][1]
    return score if math.isfinite(score) else -math.inf


def suggested(args: Args, trial: optuna.Trial) -> dict[str, Any]:
    """Return what a trial tries, as it is written in a file."""
    known = known_names(algorithm(args.algo).cls)
    fixed = {name for name, _ in map(override, args.hyperparams)} | set(LEFT.get(args.algo, ()))
    if "noise_type" not in given(args):
        fixed.add("noise_std")
    sampled = {name: draw(trial) for name, draw in SPACE.items() if name in known and name not in fixed}
    if args.algo != "ars" and "policy_kwargs" not in fixed:
        net = NETS[str(trial.suggest_categorical("net_arch", list(NETS)))]
        of_file = given(args).get("policy_kwargs") or {}
        old = of_file.get("net_arch")
        sampled["policy_kwargs"] = {**of_file, "net_arch": {**old, "pi": net} if isinstance(old, dict) else net}
    return sampled


def space(args: Args) -> dict[str, str]:
    """Return from what each hyperparameter that is searched is drawn; Optuna would mix the trials of several spaces."""
    trial = optuna.create_study().ask()
    suggested(args, trial)
    return {name: str(drawn_from) for name, drawn_from in trial.distributions.items()}


def given(args: Args) -> dict[str, Any]:
    """Return the hyperparameters of the file, and what goes before them."""
    file = args.conf_file or FOLDER / f"{args.algo}.yml"
    return {**read(file, args.env), **dict(map(override, args.hyperparams))}


def train_args(args: Args) -> train.Args:
    """Return what all trials have in common."""
    return train.Args(
        out=args.out / "trials",
        env=args.env,
        env_kwargs=args.env_kwargs,
        algo=args.algo,
        hyperparams=args.hyperparams,
        conf_file=args.conf_file,
        steps=args.steps,
        seed=args.seed,
        checkpoint_every=args.steps,
        validate_every=args.validate_every,
        validation_tasks=args.validation_tasks,
    )


def trial_run(args: Args, number: int, sampled: dict[str, Any]) -> train.Args:
    """Return the run of a trial."""
    text = (f"{name}:{json.dumps(value)}" for name, value in sampled.items())
    return replace(train_args(args), out=args.out / "trials" / str(number), hyperparams=(*args.hyperparams, *text))


def write_table(args: Args, study: optuna.Study) -> None:
    """Write the table of the trials, best first, and the best as a file of hyperparameters."""
    order = sorted(study.trials, key=lambda trial: -math.inf if trial.value is None else trial.value, reverse=True)
    names = sorted({name for trial in order for name in trial.params})
    rows: list[list[Any]] = [["trial", "state", "validation_iqm", "steps", "seconds", *names]]
    for trial in order:
        last = max(trial.intermediate_values, default=0)
        score = trial.value if trial.value is not None else trial.intermediate_values.get(last)
        seconds = trial.duration.total_seconds() if trial.duration else 0.0
        state = trial.state.name.lower()
        rows.append([trial.number, state, score, last, round(seconds, 1), *(trial.params.get(name) for name in names)])
    table = io.StringIO()
    csv.writer(table).writerows(rows)
    write_whole(args.out / "trials.csv", table.getvalue().encode())
    lines = [" | ".join(f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row) for row in rows]
    lines.insert(1, " | ".join("---" for _ in rows[0]))
    write_whole(args.out / "trials.md", "".join(f"| {line} |\n" for line in lines).encode())
    if any(trial.state.name == "COMPLETE" for trial in order):
        best = {**given(args), **study.best_trial.user_attrs["hyperparameters"], "n_timesteps": args.steps}
        if options := {**(best.get("env_kwargs") or {}), **key_values(args.env_kwargs)}:
            best["env_kwargs"] = options
        text = yaml.safe_dump({args.env: written(best)}, sort_keys=False)
        write_whole(args.out / f"{args.algo}.yml", text.encode())


if __name__ == "__main__":
    torch.set_num_threads(1)
    raise SystemExit(run(lambda: main(parsed(Args)), "interrupted; the same command goes on with the study"))
