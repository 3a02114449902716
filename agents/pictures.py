"""Pictures of a training run, and of an episode beside what the agent is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from agents.runs import RUN, read_returns, read_run, read_scores
from agents.training import validation_sets
from metalearn_env.policy import Policy
from metalearn_env.rendering import draw_curves
from metalearn_env.scoring import TaskSet
from metalearn_env.scoring.ablations import policy_run
from metalearn_env.scoring.controls import rule_run
from metalearn_env.scoring.table import contender, score

SHOWN = ("tuned-constant", "oracle-constant", "bb1", "dai-yuan")


def check_drawn(runs: Sequence[Path]) -> None:
    """Raise ``ValueError`` unless there is a training to be drawn: that of `agents.train`."""
    for folder in runs:
        if not (folder / RUN).exists() or "options" not in read_run(folder):
            raise ValueError(f"a picture of a training is of runs of agents.train, which {folder} is not")


def draw_training(runs: Sequence[Path], path: Path) -> None:
    """Draw return and validation score over environment steps, and the scores of SHOWN on the same validation tasks."""
    figure = Figure(figsize=(10, 4), dpi=100, layout="constrained")
    left, right = figure.subplots(1, 2)
    for run in runs:
        left.plot(*zip(*read_returns(run), strict=True), label=run.name)
        right.plot(*zip(*read_scores(run), strict=True), marker=".", label=run.name)
    left.set(title="training", xlabel="environment steps", ylabel="mean return of an episode")
    right.set(title="score on validation tasks", xlabel="environment steps", ylabel="interquartile mean of S")
    validation = validation_sets(read_run(runs[0]))
    for index, row in enumerate(score(validation, [contender(name) for name in SHOWN])["rows"]):
        right.axhline(row["iqm"], color=f"C{index + 1}", linestyle="--", linewidth=1, label=row["controller"])
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=6)
    figure.savefig(path)


def draw_episode(policy: Policy, sets: Sequence[TaskSet], path: Path) -> None:
    """Draw gaps and step sizes on one task of each set, the one on which the agent's score is the median."""
    figure = Figure(figsize=(8.0, 3.6 * len(sets)), dpi=100, layout="constrained")
    panels = figure.subplots(len(sets), 2, squeeze=False)
    for (left, right), task_set in zip(panels, sets, strict=True):
        draw_curves(left, right, _curves(policy, task_set), task_set.horizon, "gap / first gap")
        left.set_title(f"{type(task_set.family).__name__}: {left.get_title()}")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.savefig(path)


def _curves(policy: Policy, task_set: TaskSet) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return name -> (gaps, step sizes in units), each (T + 1,), on the task of the agent's median score."""
    runs = {
        "trained agent": policy_run(policy, task_set),
        "best constant in hindsight": task_set.oracle_run,
        "Barzilai-Borwein": rule_run(task_set, "bb1"),
        "Dai-Yuan": rule_run(task_set, "dai-yuan"),
    }
    scores = task_set.scores(runs["trained agent"].log_gap[-1])
    row = np.flatnonzero(task_set.counted)[np.argsort(scores)[len(scores) // 2]]
    return {name: (np.exp(run.log_gap[:, row]), _from_the_start(run.step_size[:, row])) for name, run in runs.items()}


def _from_the_start(step_size: np.ndarray) -> np.ndarray:
    """Return step sizes with the first one, one unit, before them."""
    return np.concatenate([[1.0], step_size])
