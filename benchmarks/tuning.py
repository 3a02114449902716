"""A study of hyperparameters, and what its best are worth: ``python -m benchmarks.tuning``.

It runs ``python -m agents.tune`` (a study that was cut goes on), trains agents anew with the best hyperparameters and
with those of agents/hyperparameters, and writes docs/results/tuning.md.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from agents.runs import POLICY
from agents.zoo import FOLDER, read
from benchmarks.pages import publish
from benchmarks.setting import REGRESSION
from benchmarks.trainings import Training, arguments, run_all
from metalearn_env.commandline import check_writable, run, whole
from metalearn_env.scoring import task_sets
from metalearn_env.scoring.cache import Cache
from metalearn_env.scoring.contenders import policies
from metalearn_env.scoring.measures import final_gaps
from metalearn_env.scoring.statistics import Estimate, estimate, paired_difference

PRESENT, BEST = "present", "best of the study"
WORTH = 0.05  # of S: what a change of all runs is to gain
SPLIT, SEED = "validation", 1  # not the tasks of the study, which are of seed 0

INTRODUCTION = """# Tuning

`python -m benchmarks.tuning` wrote this page. The study, whose trials are pruned below the median of those before:

    {command}

What it found is compared with the hyperparameters of agents/hyperparameters/{algo}.yml: {steps:,} environment steps
each, training seeds {seeds} (the study had 0); IQM of S on {tasks} other validation tasks, 95 % bootstrap interval over
seeds and tasks. {verdict}
"""


def study_command(options: argparse.Namespace) -> list[str]:
    """Return the command of the study."""
    told = {"--algo": options.algo, "--env": options.env, "--trials": options.trials, "--steps": options.trial_steps}
    return ["-m", "agents.tune", *(str(part) for pair in told.items() for part in pair), "--out", str(study(options))]


def study(options: argparse.Namespace) -> Path:
    folder: Path = options.runs / "study"
    return folder


def trainings(options: argparse.Namespace) -> dict[str, list[Training]]:
    """Return the trainings of both, by name."""
    files = {PRESENT: FOLDER / f"{options.algo}.yml", BEST: study(options) / f"{options.algo}.yml"}
    return {
        name: [
            Training(
                options.runs / name.split()[0] / f"seed-{seed}",
                (*arguments(options.env, algo=options.algo, seed=seed), "--conf-file", str(file)),
                options.steps,
            )
            for seed in options.seeds
        ]
        for name, file in files.items()
    }


def changed(options: argparse.Namespace) -> Iterator[str]:
    """Yield a line for every hyperparameter that the best has another value of."""
    present, best = (read(folder / f"{options.algo}.yml", options.env) for folder in (FOLDER, study(options)))
    yield "| hyperparameter | present | best of the study |"
    yield "|---|---|---|"
    for name in sorted(best):
        if best[name] != present.get(name) and name != "n_timesteps":
            yield f"| {name} | {_text(present.get(name))} | {_text(best[name])} |"


def _text(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("\n...\n").strip()


def compared(options: argparse.Namespace) -> tuple[list[str], Estimate]:
    """Return the lines of the comparison, and by how much the best of the study is above the present ones."""
    sets = task_sets(options.env, SPLIT, options.tasks, SEED, {}, Cache())
    scores = {}
    for name, runs in trainings(options).items():
        who = policies(name, [one.out / POLICY for one in runs])
        scores[name] = [one.scores(final_gaps(who.runs(one))) for one in sets]
    gain = paired_difference(scores[BEST], scores[PRESENT])
    lines = ["| hyperparameters | IQM of S | above the present ones |", "|---|---|---|"]
    lines += [f"| {name} | {estimate(*of)} | {gain if name == BEST else ''} |" for name, of in scores.items()]
    return lines, gain


def verdict(gain: Estimate) -> str:
    """Return what the comparison says, in words."""
    if gain.low > 0.0:
        small = gain.iqm < WORTH
        return (
            f"The best of the study is better{f', but by less than {WORTH}: the present ones stay' if small else ''}."
        )
    if gain.high < 0.0:
        return "The best of the study is clearly worse: what a short training ranks first is not best for a longer one."
    return "The best of the study is not clearly better than the present ones, which stay."


def page(options: argparse.Namespace) -> str:
    """Return the page."""
    lines, gain = compared(options)
    says = {"command": f"python {shlex.join(study_command(options))}", "algo": options.algo, "steps": options.steps}
    says |= {"seeds": ", ".join(map(str, options.seeds)), "tasks": options.tasks, "verdict": verdict(gain)}
    table = (study(options) / "trials.md").read_text().rstrip()
    parts = [INTRODUCTION.format(**says), *lines, "", *changed(options), "", "## The study", "", table, ""]
    return "\n".join(parts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study and the trainings, print and write the page; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default=REGRESSION)
    parser.add_argument("--algo", default="ppo")
    parser.add_argument("--trials", type=whole, default=12)
    parser.add_argument("--trial-steps", type=whole, default=200_000, help="environment steps of a trial")
    parser.add_argument("--steps", type=whole, default=500_000, help="environment steps of what is compared")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--tasks", type=whole, default=256)
    parser.add_argument("--runs", type=Path, default=Path("runs/tuning"))
    parser.add_argument("--jobs", type=whole, default=1, help="trainings at a time")
    parser.add_argument("--out", type=Path, default=Path("docs/results/tuning.md"))
    options = parser.parse_args(arguments)
    return run(lambda: write(options))


def write(options: argparse.Namespace) -> None:
    """Run what has not been run, and write the page."""
    check_writable(options.out)
    if status := subprocess.run([sys.executable, *study_command(options)], check=False).returncode:
        raise OSError(f"python {shlex.join(study_command(options))} ended with status {status}")
    run_all([one for runs in trainings(options).values() for one in runs], options.jobs)
    text = page(options)
    publish(options.out, text)


if __name__ == "__main__":
    sys.exit(main())
