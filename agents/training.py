"""What happens while an agent trains: a progress bar, checkpoints, and a score on validation tasks."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger, make_output_format
from tqdm import tqdm

from agents.export import export
from metalearn_env.family import Array
from metalearn_env.policy import load
from metalearn_env.scoring import TaskSet
from metalearn_env.scoring.statistics import interquartile_mean
from metalearn_env.scoring.table import run_policy

SCORES = "validation.csv"
POLICY = "policy.safetensors"
CHECKPOINTS = "checkpoints"
RUN = "run.json"


class ProgressBar(BaseCallback):
    """A bar with the mean return of the last episodes."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self._steps = steps

    def _on_training_start(self) -> None:
        self._bar = tqdm(total=self._steps, initial=self.num_timesteps, desc="training", unit="step", unit_scale=True)

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self._bar.update(self.num_timesteps - self._bar.n)
        if self.model.ep_info_buffer:
            self._bar.set_postfix_str(f"return {np.mean([info['r'] for info in self.model.ep_info_buffer]):.1f}")

    def _on_training_end(self) -> None:
        self._bar.update(self.num_timesteps - self._bar.n)
        self._bar.close()


class Validation(BaseCallback):
    """Score the agent on validation tasks every ``every`` steps, and export the best so far.

    Args:
        sets: what to score on; of several sets the mean counts.
        every: environment steps between scores.
        folder: the run; ``validation.csv`` and ``policy.safetensors`` are written there.
        header: what the policy file is to say of itself.
    """

    def __init__(self, sets: Sequence[TaskSet], every: int, folder: Path, header: dict[str, Any]) -> None:
        super().__init__()
        self._sets, self._every, self._folder, self._header = sets, every, folder, header
        self._next, self._best = 0, -np.inf
        if (folder / POLICY).exists():
            self._best = load(folder / POLICY).header["validation_iqm"]

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        if self.num_timesteps >= self._next:
            self._score()

    def _on_training_start(self) -> None:
        """Forget the scores that a resumed run took after its checkpoint; they will be taken again."""
        kept = [row for row in read_scores(self._folder) if row[0] <= self.num_timesteps]
        with (self._folder / SCORES).open("w", newline="") as file:
            csv.writer(file).writerows(kept)
        self._next = kept[-1][0] + self._every if kept else 0

    def _on_training_end(self) -> None:
        scored = read_scores(self._folder)
        if not scored or scored[-1][0] < self.num_timesteps:
            self._score()

    def _score(self) -> None:
        policy = export(self.model, self._header)
        iqm = mean_score(self._sets, lambda tasks: run_policy(policy, tasks))
        if iqm > self._best:
            policy.header["validation_iqm"], policy.header["steps"] = round(iqm, 4), self.num_timesteps
            policy.save(self._folder / POLICY)
        self._best = max(self._best, iqm)
        self.logger.record("validation/iqm", iqm)
        with (self._folder / SCORES).open("a", newline="") as file:
            csv.writer(file).writerow([self.num_timesteps, iqm])
        self._next = self.num_timesteps + self._every


class Checkpoint(BaseCallback):
    """Save the whole agent every ``every`` steps: each file is whole or absent, and the two last are kept."""

    def __init__(self, every: int, folder: Path) -> None:
        super().__init__()
        self._every, self._folder, self._next = every, folder / CHECKPOINTS, 0

    def _on_training_start(self) -> None:
        self._folder.mkdir(exist_ok=True)
        self.save()

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        if self.num_timesteps >= self._next:
            self.save()

    def _on_training_end(self) -> None:
        self.save()

    def save(self) -> None:
        save_whole(self.model, self._folder / f"{self.num_timesteps}.zip")
        for old in [*checkpoints(self._folder.parent)[:-2], *self._folder.glob("*.part")]:
            old.unlink()
        self._next = self.num_timesteps + self._every


def mean_score(sets: Sequence[TaskSet], reach: Callable[[TaskSet], Array]) -> float:
    """Return the interquartile mean of S, the mean over ``sets``, of what leaves final log gaps (n,) on each."""
    return float(np.mean([interquartile_mean(tasks.scores(reach(tasks))) for tasks in sets]))


def new_logger(folder: Path, steps: int) -> Logger:
    """Return a logger to TensorBoard and to a CSV file of its own, so that a resumed run adds to what there is."""
    formats = [make_output_format("tensorboard", str(folder)), make_output_format("csv", str(folder), f"-{steps}")]
    return Logger(str(folder), formats)


def read_returns(folder: Path) -> list[tuple[int, float]]:
    """Return (steps, mean return of the last episodes) of a run, in the order of the steps."""
    returns: dict[int, float] = {}
    for begun, path in sorted((int(path.stem.split("-")[1]), path) for path in folder.glob("progress-*.csv")):
        returns = {steps: value for steps, value in returns.items() if steps <= begun}
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                if row.get("rollout/ep_rew_mean"):
                    returns[int(row["time/total_timesteps"])] = float(row["rollout/ep_rew_mean"])
    return list(returns.items())


def save_whole(model: BaseAlgorithm, path: Path) -> None:
    """Save an agent under another name first, so that a file at ``path`` is always whole."""
    unfinished = path.with_suffix(".part")
    with unfinished.open("wb") as file:
        model.save(file)
    unfinished.replace(path)


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a run, oldest first."""
    return sorted((folder / CHECKPOINTS).glob("[0-9]*.zip"), key=lambda path: int(path.stem))


def read_scores(folder: Path) -> list[tuple[int, float]]:
    """Return (steps, IQM on validation tasks) of a run, in the order they were taken."""
    path = folder / SCORES
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [(int(steps), float(iqm)) for steps, iqm in csv.reader(file)]
