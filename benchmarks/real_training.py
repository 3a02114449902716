"""Learned step sizes in real training loops, beside what else one would use: ``python -m benchmarks.real_training``.

It writes docs/results/real_training.md, with a picture of each problem beside it. Runs are kept in --runs, so that a
command that was stopped goes on, and a new policy costs its own runs alone. The contenders of other packages need
``pip install "metalearn-env[benchmarks]"``; without them they are left out, and the page says so.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.pages import publish
from benchmarks.real_clusters import CLUSTERS
from benchmarks.real_figures import drawn
from benchmarks.real_gradients import GRADIENTS
from benchmarks.real_optimisers import EXTRA, missing
from benchmarks.real_page import page
from benchmarks.real_runs import Problem, measured
from benchmarks.real_tables import TABLES
from metalearn_env import commandline
from metalearn_env.policy import load
from metalearn_env.ranges import as_integer

PROBLEMS: dict[str, Problem] = {problem.name: problem for problem in (*GRADIENTS, *CLUSTERS, *TABLES)}
PAGE = Path("docs/results/real_training.md")


def run(problems: Sequence[Problem], seeds: int, policy: str | None, runs: Path, out: Path | None, command: str) -> str:
    """Measure, write the page and its pictures, and return the page.

    Args:
        problems: what is trained.
        seeds: how many, at least 2.
        policy: the name or file of one for all of the problems; None: to each its own.
        runs: the folder where runs are kept.
        out: the page, beside which a folder of its name has the pictures; None: neither is written.
        command: what the page says wrote it.

    Raises:
        FileNotFoundError: there is no such policy, or no folder for the page.
        ValueError: fewer seeds.
    """
    as_integer("seeds", seeds, minimum=2)
    policies = [load(policy or problem.policy) for problem in problems]
    if out is not None:
        commandline.check_writable(out)
    for package in missing():
        print(f"warning: {package} is not installed and left out; {EXTRA}", file=sys.stderr)
    torch.set_num_threads(1)
    runs.mkdir(parents=True, exist_ok=True)
    found = [measured(problem, its, seeds, runs) for problem, its in zip(problems, policies, strict=True)]
    text = page(found, command, [name for name in PROBLEMS if name not in {one.problem.name for one in found}])
    publish(out, text)
    if out is not None:
        folder = out.with_suffix("")
        folder.mkdir(exist_ok=True)
        for results in found:
            drawn(results).savefig(folder / f"{results.problem.name}.png")
    return text


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", choices=PROBLEMS, help="problems; the page is then only printed", default=[]
    )
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--policy", help="the name or file of one in the place of those that are shipped")
    parser.add_argument("--runs", type=Path, default=Path("runs/real_training"), help="where runs are kept")
    parser.add_argument("--out", type=Path, help=f"the page; default: {PAGE}, or, with --only, none")
    options = parser.parse_args(arguments)
    out = options.out or (None if options.only else PAGE)
    problems = [problem for name, problem in PROBLEMS.items() if not options.only or name in options.only]
    command = " ".join(["python -m benchmarks.real_training", *(sys.argv[1:] if arguments is None else arguments)])
    return commandline.run(
        lambda: run(problems, options.seeds, options.policy, options.runs, out, command),
        "interrupted; what was run is kept, and the same command goes on from there",
    )


if __name__ == "__main__":
    sys.exit(main())
