"""The folder of a run: what is in it, whether it may be begun there, and what it says of itself.

run.json             options, command, seconds; written first
validation.csv       steps and score on validation tasks
policy.safetensors   the best agent so far, or best.zip where it is not exported
checkpoints/         of agents, named by their steps
progress-STEPS.csv   the log of the part that began there
lock                 held by the process that trains there
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metalearn_env.files import write_whole

RUN = "run.json"
SCORES = "validation.csv"
POLICY = "policy.safetensors"
BEST = "best.zip"
CHECKPOINTS = "checkpoints"


class Scores:
    """The scores of a run on validation tasks, and which is the best; of equal ones the latest.

    Args:
        folder: the run.
        steps: that a resumed run goes on after; the scores it took later are forgotten.
    """

    def __init__(self, folder: Path, steps: int = 0) -> None:
        self._folder = folder
        self.taken = keep_scores(folder, steps)  # (steps, score), in the order they were taken
        self.best = max([-np.inf, *(iqm for _, iqm in self.taken)])

    def add(self, steps: int, iqm: float, keep: Callable[[dict[str, Any]], None]) -> None:
        """Write down a score, and ``keep`` the agent if there is no better one, with what its file says of that."""
        if iqm >= self.best:
            self.best = iqm
            keep({"validation_iqm": iqm, "steps": steps})
        self.taken.append((steps, iqm))
        with (self._folder / SCORES).open("a", newline="") as file:
            csv.writer(file).writerow((steps, iqm))


def check_new(folder: Path) -> None:
    """Raise ``ValueError`` if a run, of whatever kind, has left something in the folder that a new one would lose.

    A record alone is of a run that had not come to anything.
    """
    check_own(folder)
    if any((folder / name).exists() for name in (SCORES, POLICY, BEST)) or reached(folder) >= 0:
        raise ValueError(f"{folder} holds a run already; give another --out, or --resume it if it has checkpoints")


def check_own(folder: Path) -> None:
    """Raise ``ValueError`` if a folder is that in which the command was called, as an empty name is."""
    if folder == Path():
        raise ValueError("out is a folder of its own, not that in which the command is called")


def check_runs(folders: Sequence[Path]) -> None:
    """Raise ``ValueError`` unless there are runs, each named once, as two would count as two seeds, and exported."""
    if not folders:
        raise ValueError("name at least one folder of a run")
    places = [folder.resolve() for folder in folders]
    if twice := [str(folder) for folder, place in zip(folders, places, strict=True) if places.count(place) > 1]:
        raise ValueError(f"a run is named once, not twice: {', '.join(twice)}")
    for folder in folders:
        if (folder / BEST).exists():
            raise ValueError(
                f"{folder} has an agent with a memory of its own, {BEST}, which is not exported to a policy file; "
                f"its scores on validation tasks are in {SCORES}"
            )


def write_run(folder: Path, record: dict[str, Any]) -> None:
    """Write what there is to know of a run, all of it or nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / RUN, (json.dumps(record, indent=1) + "\n").encode())


def read_run(folder: Path, kinds: Mapping[str, type] | None = None) -> dict[str, Any]:
    """Return what there is to know of a run.

    Args:
        folder: the run.
        kinds: of what is needed of it.

    Raises:
        FileNotFoundError: there is no record.
        ValueError: it is not whole, or something in it is missing or of another kind.
    """
    file = folder / RUN
    try:
        record: dict[str, Any] = json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file} is not the whole record of a run: {error}") from error
    if not isinstance(record, dict):
        raise ValueError(f"{file} is not the whole record of a run: it is {record!r}")
    for name, kind in (kinds or {}).items():
        if not isinstance(record.get(name), kind):
            raise ValueError(f"{file} is not the whole record of a run: {name} is {record.get(name)!r}")
    return record


def finished(folder: Path) -> bool:
    """Return whether a run is through: it has a policy, and its last checkpoint, if it has any, is of all steps."""
    record = read_run(folder) if (folder / RUN).exists() else {}
    has_policy = any((folder / name).exists() for name in (POLICY, BEST))
    return has_policy and bool(record.get("wall_seconds")) and not 0 <= reached(folder) < record["steps"]


def reached(folder: Path) -> int:
    """Return the environment steps of the last checkpoint; -1 if there is none."""
    return max((int(path.stem) for path in (folder / CHECKPOINTS).glob("*") if path.stem.isdigit()), default=-1)


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


def read_scores(folder: Path) -> list[tuple[int, float]]:
    """Return (steps, IQM on validation tasks) of a run, in the order they were taken; a last row cut short is not."""
    path = folder / SCORES
    if not path.exists():
        return []
    whole, _, _ = path.read_text().rpartition("\n")
    return [(int(steps), float(iqm)) for steps, iqm in csv.reader(whole.splitlines())]


def keep_scores(folder: Path, steps: int) -> list[tuple[int, float]]:
    """Forget the scores that a resumed run took after its checkpoint of so many steps, and return the others."""
    kept = [row for row in read_scores(folder) if row[0] <= steps]
    if (folder / SCORES).exists():
        write_whole(folder / SCORES, "".join(f"{then},{iqm}\n" for then, iqm in kept).encode())
    return kept
