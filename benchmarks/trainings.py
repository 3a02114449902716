"""Trainings as commands: those that are through are skipped, those that were cut are resumed."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from agents.locks import held
from agents.runs import POLICY, RUN, SCORES, finished, reached, read_run

TRAIN, SCHEDULES, DISTIL = "agents.train", "agents.schedules", "agents.distil"
LOG = "log.txt"


@dataclass(frozen=True)
class Training:
    """A run of ``python -m agents.train``, ``agents.schedules`` or ``agents.distil``.

    Args:
        out: folder of the run.
        arguments: of the command, but for ``--out``, ``--steps`` and ``--resume``.
        steps: of the environment, or of the optimiser, or rounds.
        module: which of the three; only the first goes on with a run that was cut.
    """

    out: Path
    arguments: tuple[str, ...]
    steps: int
    module: str = TRAIN

    @property
    def done(self) -> bool:
        """Whether the run is through, and is of this command."""
        return finished(self.out) and self.other is None

    @property
    def other(self) -> str | None:
        """The command that a run in the folder was begun by, if that or its hyperparameters are not of this one."""
        if not (self.out / RUN).exists():
            return None
        record = read_run(self.out)
        if _without_out(shlex.split(record["command"])[1:]) != _without_out(self.first):
            return str(record["command"])
        # the hyperparameters of an agent, some of which are in files that may have changed
        settings = record.get("settings") if self.module == TRAIN else None
        same = settings is None or settings == self._settings
        return None if same else f"{record['command']} with {settings}"

    @property
    def _settings(self) -> dict[str, Any]:
        from agents.train import Args, new_record  # and with it all that trains

        settings: dict[str, Any] = new_record(tyro.cli(Args, args=self.first[2:]))["settings"]
        return settings

    @property
    def first(self) -> list[str]:
        """The command that begins the run."""
        steps = "--rounds" if self.module == DISTIL else "--steps"
        return ["-m", self.module, *self.arguments, steps, str(self.steps), "--out", str(self.out)]

    @property
    def command(self) -> list[str]:
        """The command that begins the run, or goes on with it."""
        return [*self.first, *(["--resume"] if self.module == TRAIN and reached(self.out) >= 0 else [])]


def arguments(
    env: str, env_kwargs: Sequence[str] = (), hyperparams: Sequence[str] = (), *, algo: str = "ppo", seed: int = 0
) -> tuple[str, ...]:
    """Return what ``python -m agents.train`` is told."""
    told = ["--env", env, "--algo", algo, "--seed", str(seed)]
    for name, values in (("--env-kwargs", env_kwargs), ("--hyperparams", hyperparams)):
        told += [name, *values] if values else []
    return tuple(told)


def networks(width: int = 64, *, spread: float = -1.7, units: str = "tanh") -> str:
    """Return the hyperparameter of networks with two layers, and of the log deviation that actions begin with.

    Actions relative to the last step make a random walk of the step: a long run is to begin with small ones.
    """
    other = "" if units == "tanh" else f", activation_fn: {units}"
    return f"policy_kwargs:{{net_arch: [{width}, {width}], log_std_init: {spread}{other}}}"


def followed(env: str, env_kwargs: Sequence[str], options: Sequence[str], *, seed: int) -> tuple[str, ...]:
    """Return what ``python -m agents.schedules`` is told, to train a policy with feedback along the slopes of runs."""
    told = ("--kind", "feedback", "--through", "steps", "--env", env, "--seed", str(seed))
    return (*told, *(("--env-kwargs", *env_kwargs) if env_kwargs else ()), *options)


def _without_out(command: Sequence[str]) -> list[str]:
    """Return a command without where its run lies, which may be told in other words."""
    place = command.index("--out") if "--out" in command else len(command)
    return [*command[:place], *command[place + 2 :]]


def run_all(trainings: Sequence[Training], jobs: int) -> None:
    """Run what is not through, ``jobs`` at a time, each on one thread; what it prints goes to OUT/log.txt.

    Students come after all others, some of which may be their teachers, and not at all if one of these failed.

    Raises:
        ValueError: two have the same folder, before any is run; some failed, after all but students have been run.
    """
    folders = Counter(one.out.resolve() for one in trainings)
    if twice := [str(folder) for folder, times in folders.items() if times > 1]:
        raise ValueError(f"a folder is for one training; asked for twice: {', '.join(twice)}")
    failed: list[str] = []
    with ThreadPoolExecutor(jobs) as pool:
        for students in (False, True):
            if not failed:
                turn = [one for one in trainings if (one.module == DISTIL) == students]
                failed = [name for name in pool.map(_run, turn) if name]
    if failed:
        raise ValueError(f"{len(failed)} of {len(trainings)} trainings failed: {', '.join(failed)}")


def _run(training: Training) -> str:
    """Run a training and return nothing, or where to read why it failed."""
    if training.done:
        print(f"done before: {training.out}", flush=True)
        return ""
    if training.other is not None:
        print(f"{training.out} holds the run of another command: {training.other}", flush=True)
        return str(training.out / RUN)
    print(f"python {shlex.join(training.command)}", flush=True)
    log = training.out / LOG
    try:
        clear(training)
    except ValueError as error:  # another process trains there
        print(error, flush=True)
        return str(training.out)
    with log.open("a") as file:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, *training.command]
        status = subprocess.run(command, env=environment, stdout=file, stderr=file, check=False).returncode
    print(f"{'done' if status == 0 else f'failed ({status})'}: {training.out}", flush=True)
    return "" if status == 0 else str(log)


def clear(training: Training) -> None:
    """Remove what a run that was cut has left, if it has no checkpoints and begins again.

    Raises:
        ValueError: another process trains there.
    """
    with held(training.out):
        if training.module != TRAIN and not training.done:  # which another process may have come to meanwhile
            for name in (RUN, SCORES, POLICY):
                (training.out / name).unlink(missing_ok=True)
