"""Open-loop schedules and static maps on every family: ``python -m benchmarks.schedules``.

It trains them (`agents.schedules`) and writes docs/results/schedules.md, with their scores on test tasks.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch

from agents.schedules import trained
from agents.studies import Args, Study
from benchmarks.pages import publish
from benchmarks.setting import REGRESSION
from metalearn_env.commandline import check_writable, run, whole
from metalearn_env.policy import load
from metalearn_env.progress import progress
from metalearn_env.ranges import as_integer
from metalearn_env.scoring import LEAST_TASKS, TaskSet, score_row
from metalearn_env.scoring.measures import final_gaps
from metalearn_env.scoring.statistics import Estimate
from metalearn_env.scoring.table import contender, run_policy

SPREAD = ("dimension:64", "conditioning:[10,10000]", "horizon:40")
#: what -> (options, figure of an earlier study for c_t / L)
SPECTRA: dict[str, tuple[tuple[str, ...], float]] = {
    "log-uniform": (("spectrum:log-uniform", *SPREAD), 0.19),
    "Gaussian design": (("spectrum:gaussian", "dimension:64", "horizon:20"), 0.715),
    "linear-uniform": (("spectrum:linear-uniform", *SPREAD), 0.32),
}
FAMILIES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (REGRESSION, ()),
    (REGRESSION, ("batch_size:8",)),
    ("MetaLearn/Clustering-v0", ()),
    ("MetaLearn/QLearning-v0", ()),
)
MAPS = (("open-loop", "dynamic"), ("static", "constant"), ("static", "random"), ("static", "dynamic"))
BESIDE = ("tuned-constant", "tuned-decay", "bb1", "dai-yuan")
NOWHERE = Path("nowhere")  # `trained` writes nothing


class Fit(NamedTuple):
    """What one training came to on the test tasks."""

    gaps: np.ndarray  # (n,) final log gaps
    lost: float  # the largest difference of a policy file's log gaps from these


def fit(args: Args) -> Fit:
    """Train a map, export it where it can be, and run it on the test tasks."""
    torch.set_num_threads(1)
    study = Study(args)
    step_map = trained(study, show_progress=False)[0]
    (tasks,) = study.sets("test", args.test_tasks)
    gaps = study.reach(step_map, tasks)
    if args.unit != "task":
        return Fit(gaps, 0.0)
    with TemporaryDirectory() as folder:
        step_map.policy(study.header("")).save(path := Path(folder) / "policy.safetensors")
        return Fit(gaps, float(np.abs(run_policy(load(path), tasks) - gaps).max()))


def line(name: str, args: Args, gaps: Sequence[np.ndarray]) -> str:
    """Return a line of a table for final log gaps of one or several seeds."""
    (tasks,) = Study(args).sets("test", args.test_tasks)
    row = score_row(name, "control", [tasks], [np.atleast_2d(np.stack(gaps))])
    return f"| {name} | {Estimate(row.iqm, row.low, row.high)} | {row.diverged:.1%} |"


def beside(args: Args) -> list[str]:
    """Return lines for what the maps are to be compared with."""
    (tasks,) = Study(args).sets("test", args.test_tasks)
    return [line(name, args, [reached(name, tasks)]) for name in BESIDE]


def reached(name: str, tasks: TaskSet) -> np.ndarray:
    return final_gaps(contender(name).runs(tasks))[0]


def studies(steps: int, tasks: int) -> tuple[dict[str, Args], dict[str, Args]]:
    """Return the trainings of both parts of the page by name."""
    common: dict[str, Any] = {"out": NOWHERE, "steps": steps}
    spectra = {
        f"{unit} {name}": Args(unit=unit, env=REGRESSION, env_kwargs=options, test_tasks=400, **common)
        for name, (options, _) in SPECTRA.items()
        for unit in ("1/L", "task")
    }
    families = {
        f"{kind} {strategy} {env} {options}": Args(
            kind=kind, strategy=strategy, env=env, env_kwargs=options, test_tasks=tasks, **common
        )
        for env, options in FAMILIES
        for kind, strategy in MAPS
    }
    return spectra, families


def page(seeds: int, steps: int, tasks: int, jobs: int) -> str:
    """Return the page."""
    spectra, families = studies(steps, tasks)
    work = [(name, replace(args, seed=seed)) for name, args in spectra.items() for seed in range(seeds)]
    work += families.items()
    fits: dict[str, list[Fit]] = {}
    with ProcessPoolExecutor(jobs) as pool:
        futures = [(name, pool.submit(fit, args)) for name, args in work]
        for name, future in progress(futures, "trainings"):
            fits.setdefault(name, []).append(future.result())
    lost = max(found.lost for of_seeds in fits.values() for found in of_seeds)
    lines = [*introduction(seeds, steps, tasks, lost), *HEAD_SPECTRA]
    for name, (_, earlier) in SPECTRA.items():
        by_unit = [cell(spectra[f"{unit} {name}"], fits[f"{unit} {name}"]) for unit in ("1/L", "task")]
        lines.append(f"| {name} | {earlier} | {' | '.join(by_unit)} |")
    for env, options in FAMILIES:
        names = {f"{kind} {strategy} {env} {options}": f"{kind}, {strategy}" for kind, strategy in MAPS}
        args = families[next(iter(names))]
        lines += ["", f"## {' '.join([env, *map('`{}`'.format, options)])}", "", *HEAD, *beside(args)]
        lines += [line(label, families[name], [found.gaps for found in fits[name]]) for name, label in names.items()]
    return "\n".join([*lines, ""])


def cell(args: Args, fits: Sequence[Fit]) -> str:
    """Return score and interval, and the rate of divergence if there is any."""
    _, _, score, diverged, _ = line("", args, [found.gaps for found in fits]).split("|")
    return score.strip() if diverged.strip() == "0.0%" else f"{score.strip()}, diverged {diverged.strip()}"


HEAD = ["| controller | IQM of S | diverged |", "|---|---|---|"]
HEAD_SPECTRA = [
    "",
    "## Open-loop schedules of quadratics",
    "",
    "d = 64, kappa log-uniform in 10 to 10^4 and T = 40 for the two spectra, examples / d in 1.05 to 2 and T = 20 for",
    "the Gaussian design, objective times 10^-3 to 10^3, noise 10^-3 to 2 (it changes only the task's unit), 400 test",
    "tasks. The earlier study gave no interval.",
    "",
    "| tasks | c_t / L, earlier study | c_t / L, here | c_t in the task's unit |",
    "|---|---|---|---|",
]


def introduction(seeds: int, steps: int, tasks: int, lost: float) -> list[str]:
    """Return the beginning of the page."""
    return [
        "# Schedules and static maps",
        "",
        "`python -m benchmarks.schedules` wrote this page: controls that are trained but learn nothing from feedback",
        f"(`python -m agents.schedules`), {steps} steps of Adam, 64 new tasks a step; {seeds} training seeds of the",
        f"schedules in the first table, one of the maps in the others. IQM of S on test tasks ({tasks} where nothing",
        "else is said), 95 % bootstrap interval over seeds and tasks; diverged: runs that end above the loss they",
        "began with. What is minimised is the mean log gap; the iterate kept is that of the best IQM on 256",
        "validation tasks.",
        "",
        "The step of an open-loop schedule is c_t times a unit: 1 / L, the inverse of the largest eigenvalue, which no",
        "agent is told, or the unit of the environment's actions, f_0 / |g_0|^2 for regression and 1 elsewhere.",
        "A schedule is a free table of T numbers, and a policy file holds it as it is, as T hidden units of progress.",
        f"From the table or the map to its policy file no log gap of a test task changed by more than {lost:.0e}.",
    ]


def main() -> None:
    """Train everything, print and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=whole, default=3)
    parser.add_argument("--steps", type=whole, default=Args.steps)
    parser.add_argument("--tasks", type=whole, default=256)
    parser.add_argument("--jobs", type=whole, default=1, help="trainings at a time")
    parser.add_argument("--out", type=Path, default=Path("docs/results/schedules.md"))
    options = parser.parse_args()
    check_writable(options.out)
    as_integer("tasks", options.tasks, minimum=LEAST_TASKS)
    text = page(options.seeds, options.steps, options.tasks, options.jobs)
    publish(options.out, text)


if __name__ == "__main__":
    raise SystemExit(run(main))
