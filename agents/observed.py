"""Tell a policy the range of what it meets on training tasks: ``python -m agents.observed FILE``.

What lies beyond is then taken for the nearest (`metalearn_env.policy.Policy`). `agents.train` tells it of itself; this
is for policies that were trained by something else.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import gymnasium as gym
import numpy as np
import tyro
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from agents.options import parsed
from metalearn_env.commandline import run
from metalearn_env.policy import Policy, load
from metalearn_env.ranges import as_integer


@dataclass(frozen=True)
class Args:
    """Play training tasks with policies, and write into their files the range of every feature that they met."""

    files: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """policy files, which tell the environment that they were trained on"""
    rows: int = 1024
    """tasks at a time"""
    steps: int = 200
    """steps of each row, through one episode after the other"""
    seed: int = 0
    """of the tasks"""


def main(args: Args) -> None:
    """Do what ``args`` ask for.

    Raises:
        ValueError: no files, one that is no policy, or does not tell its environment. Nothing has been written.
        FileNotFoundError: there is no such file.
    """
    if not args.files:
        raise ValueError("name at least one policy file")
    as_integer("rows", args.rows, minimum=1)
    as_integer("steps", args.steps, minimum=1)
    for file in args.files:
        if not file.is_file():
            raise FileNotFoundError(f"there is no file {file} to be written into")
    trained = [load(file) for file in args.files]
    for file, policy in zip(args.files, trained, strict=True):
        if missing := {"env", "env_kwargs"} - policy.header.keys():
            raise ValueError(f"{file} does not tell its {', '.join(sorted(missing))}")
    for file, policy in zip(args.files, trained, strict=True):
        found = met(policy, args.rows, args.steps, args.seed)
        replace(policy, header={**policy.header, "observed": found.tolist()}).save(file)
        print(file)


def met(policy: Policy, rows: int, steps: int, seed: int) -> NDArray[np.float64]:
    """Return the lowest and the highest value, (2, width), of every feature that a policy meets on training tasks."""
    header = policy.header
    trained_on = header.get("trained_on", header)
    options = {**trained_on["env_kwargs"], **policy.options}
    kwargs = {**options, "split": "train", "autoreset_mode": AutoresetMode.SAME_STEP}  # nothing is decided at an end
    env = gym.make_vec(trained_on["env"], rows, "vector_entry_point", **kwargs)
    observations, _ = env.reset(seed=seed)
    low, high = observations.min(axis=0), observations.max(axis=0)
    for _ in range(steps):
        observations, *_ = env.step(policy(observations))
        low, high = np.minimum(low, observations.min(axis=0)), np.maximum(high, observations.max(axis=0))
    env.close()
    return np.stack([low, high]).astype(np.float64)


if __name__ == "__main__":
    raise SystemExit(run(lambda: main(parsed(Args))))
