"""The complete results table of every environment, and what it costs: ``python -m benchmarks.scores``.

It writes docs/results/scores.md and, beside it, scores/NAME.json for each environment: what ``python -m metalearn_env
score`` prints and writes for it, with every rule, control and limit. Each command runs in a process and with a cache of
its own, empty at the start, on one thread. What counts is the CPU time of its own code, as others may be at work on the
machine, and the most memory that it ever had resident (which is at least that of the process that starts it).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any, NamedTuple

from benchmarks.pages import publish
from metalearn_env.commandline import check_writable, run, whole
from metalearn_env.families import FAMILIES, MIXTURE, id_of
from metalearn_env.scoring.cache import FOLDER

MOST_SECONDS, MOST_MEGABYTES = 60, 2000  # of the table of one family
SLOW = "NeuralNetwork"  # whose table takes many minutes
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class Measured(NamedTuple):
    """One command: what it printed, and what it took."""

    env_id: str
    command: str
    text: str
    result: dict[str, Any]  # as `metalearn_env.scoring.table.score` returns it
    seconds: float  # of user CPU time
    megabytes: float

    @property
    def families(self) -> int:
        return len(self.result.get("parts", [self.result]))


def measure(env_id: str, path: Path, tasks: int, *more: str) -> Measured:
    """Run the command that scores all there is on an environment, and return what it took.

    Args:
        env_id: a registered id.
        path: file for its JSON.
        tasks: of each family.
        more: arguments of the command.

    Raises:
        OSError: the command failed; its own message is printed above.
    """
    arguments = ["score", "--env", env_id, "--split", "test", "--tasks", str(tasks), "--json", str(path), *more]
    with TemporaryDirectory() as cache, TemporaryFile("w+") as printed:
        child = subprocess.Popen(
            [sys.executable, "-m", "metalearn_env", *arguments],
            stdout=printed,
            env={**os.environ, **THREADS, FOLDER: cache},
        )
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)  # nobody is to wait for it again
        printed.seek(0)
        text = printed.read()
    command = f"python -m metalearn_env {' '.join(arguments)}"
    if child.returncode:
        raise OSError(f"{command} ended with status {child.returncode}")
    return Measured(env_id, command, text, json.loads(path.read_text()), usage.ru_utime, usage.ru_maxrss / 1000)


def cost(measured: Measured) -> str:
    """Return the line of the first table that tells what a command took, beside what it may."""
    families = measured.families
    reached = measured.seconds < MOST_SECONDS * families and measured.megabytes < MOST_MEGABYTES
    bars = f"< {MOST_SECONDS * families} s, < {MOST_MEGABYTES:,} MB"
    controllers = len(measured.result["rows"]) if families == 1 else "those of its families"
    figures = f"{measured.seconds:.1f} s | {measured.megabytes:.0f} MB | {bars} | {'yes' if reached else '**no**'}"
    return f"| {measured.env_id} | {controllers} | {figures} |"


def page(all_measured: list[Measured]) -> str:
    """Return the page."""
    lines = [
        "# Scores",
        "",
        "`python -m benchmarks.scores` wrote this page: a complete table of each environment that it names: rules,",
        "controls and limits, as the command above it prints it; its JSON, with profiles, is in [`scores`](scores).",
        "S is 0 for the best constant step of each task in hindsight and 1 for the limit; IQM: its interquartile mean",
        "over tasks, with the 95 % interval of 2,000 bootstrap replicates; the other columns: README, *Results*. An",
        "asterisk marks rules whose moves are no multiples of the direction.",
        "",
        "What it costs on one thread, with an empty cache, drawing and tuning included: user CPU time and the most",
        f"memory resident. The bar is {MOST_SECONDS} s for the table of one family.",
        "",
        "| environment | controllers | user time | memory | bars | reached |",
        "|---|---|---|---|---|---|",
        *map(cost, all_measured),
        "",
    ]
    for measured in all_measured:
        lines += [
            f"## {measured.env_id}",
            "",
            f"    {measured.command}",
            "",
            "```text",
            measured.text.strip(),
            "```",
            "",
        ]
    return "\n".join(lines)


def main() -> None:
    """Score all that is asked for and write the page.

    Raises:
        ValueError: a name that is not registered.
        OSError: a file that cannot be written; nothing has been run.
    """
    known = [*FAMILIES, MIXTURE]
    usual = [name for name in known if name != SLOW]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(known)}; default: all but {SLOW}")
    parser.add_argument("--tasks", type=whole, default=256, help="of each family")
    parser.add_argument("--out", type=Path, default=Path("docs/results/scores.md"))
    options = parser.parse_args()
    names = options.names or usual
    for name in names:
        if name not in known:
            raise ValueError(f"a name is one of {', '.join(known)}, not {name!r}")
    check_writable(options.out)
    folder = options.out.with_suffix("")
    folder.mkdir(exist_ok=True)
    found = []
    for name in names:
        found.append(measure(id_of(name), folder / f"{name}.json", options.tasks))
        print(cost(found[-1]), file=sys.stderr)
    publish(options.out, page(found))


if __name__ == "__main__":
    raise SystemExit(run(main))
