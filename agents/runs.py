"""The folder of a run: what is in it, whether it may be begun there, and what it says of itself.

run.json             options, command, seconds; written first
validation.csv       steps and score on validation tasks
policy.safetensors   the best agent so far, or best.zip where it is not exported
checkpoints/         of agents, named by their steps
progress-STEPS.csv   the log of the part that began there
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metalearn_env.files import write_whole

RUN = "run.json"
SCORES = "validation.csv"
POLICY = "policy.safetensors"
BEST = "best.zip"
CHECKPOINTS = "checkpoints"


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
    """Raise ``ValueError`` if there are no folders of runs, or one is named twice, which would count as two seeds."""
    if not folders:
        raise ValueError("name at least one folder of a run")
    places = [folder.resolve() for folder in folders]
    if twice := [str(folder) for folder, place in zip(folders, places, strict=True) if places.count(place) > 1]:
        raise ValueError(f"a run is named once, not twice: {', '.join(twice)}")


def write_run(folder: Path, record: dict[str, Any]) -> None:
    """Write what there is to know of a run, all of it or nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / RUN, (json.dumps(record, indent=1) + "\n").encode())


def read_run(folder: Path) -> dict[str, Any]:
    """Return what there is to know of a run, or raise ``FileNotFoundError``."""
    record: dict[str, Any] = json.loads((folder / RUN).read_text())
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
    write_whole(folder / SCORES, "".join(f"{then},{iqm}\n" for then, iqm in kept).encode())
    return kept
