"""Checkpoints of a run: the whole agent, so that a killed run goes on from the last of them.

``checkpoints/STEPS.zip`` is what Stable-Baselines3 saves, with what it is of. An agent that learns from a replay buffer
has ``STEPS.npz`` beside it, the filled part of the buffer as arrays, and ``STEPS.best`` is the best agent until then.
They are written first: where there is a zip, all is there. Each file is whole or absent. The two last checkpoints are
kept.
"""

from __future__ import annotations

import io
import json
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecEnv

from agents.runs import BEST, CHECKPOINTS, POLICY
from metalearn_env.files import write_whole

OURS = (".zip", ".npz", ".best")
BUFFER = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


class Checkpoint(BaseCallback):
    """Save the whole agent every ``every`` steps.

    Args:
        every: environment steps between checkpoints.
        folder: the run.
        identity: what a checkpoint says it is of, in JSON.
    """

    def __init__(self, every: int, folder: Path, identity: Mapping[str, Any]) -> None:
        super().__init__()
        self._every, self._folder, self._next, self._identity = every, folder, 0, dict(identity)

    def _on_training_start(self) -> None:
        (self._folder / CHECKPOINTS).mkdir(exist_ok=True)
        self.save()

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        if self.num_timesteps >= self._next:
            self.save()

    def _on_training_end(self) -> None:
        self.save()

    def save(self) -> None:
        """Write a checkpoint.

        Raises:
            OSError: it cannot be written; the checkpoints before it are untouched.
        """
        path, best = self._folder / CHECKPOINTS / f"{self.num_timesteps}.zip", best_file(self.model, self._folder)
        try:
            if best.exists():
                write_whole(path.with_suffix(".best"), best.read_bytes())
            save_agent(self.model, path, self._identity)
        except OSError as error:
            kept = checkpoints(self._folder)
            raise OSError(
                error.errno,
                f"{error.strerror}. "
                + (
                    f"The last whole checkpoint is {kept[-1]}; --resume goes on from it" if kept else "Nothing is saved"
                ),
            ) from error
        kept = checkpoints(self._folder)[-2:]
        for path in (self._folder / CHECKPOINTS).iterdir():
            if path.suffix == ".part" or (path.suffix in OURS and path.with_suffix(".zip") not in kept):
                path.unlink()
        self._next = self.num_timesteps + self._every


def is_recurrent(model: BaseAlgorithm) -> bool:
    """Return whether an agent has a memory of its own, and so no policy file."""
    return isinstance(model, RecurrentPPO)


def best_file(model: BaseAlgorithm, folder: Path) -> Path:
    """Return where the best agent of a run is."""
    return folder / (BEST if is_recurrent(model) else POLICY)


def restore_best(model: BaseAlgorithm, folder: Path) -> None:
    """Let the best agent of a run that goes on be the best until its checkpoint, not one that came later."""
    kept = folder / CHECKPOINTS / f"{model.num_timesteps}.best"
    if kept.exists():
        write_whole(best_file(model, folder), kept.read_bytes())


def save_agent(model: BaseAlgorithm, path: Path, identity: Mapping[str, Any]) -> None:
    """Save an agent with its replay buffer and the statistics of its rewards, so that a file at ``path`` is whole."""
    agent: Any = model
    agent.checkpoint_of = dict(identity)
    normalised = model.get_vec_normalize_env()
    if normalised is not None:
        rms = normalised.ret_rms
        agent.return_statistics = [float(rms.mean), float(rms.var), float(rms.count)]
    buffer = getattr(model, "replay_buffer", None)
    if buffer is not None:
        filled = slice(buffer.buffer_size if buffer.full else buffer.pos)
        arrays = {name: getattr(buffer, name)[filled] for name in BUFFER if hasattr(buffer, name)}
        content = io.BytesIO()
        np.savez(content, position=buffer.pos, full=buffer.full, **arrays)
        write_whole(path.with_suffix(".npz"), content.getbuffer())
    content = io.BytesIO()
    model.save(content)
    write_whole(path, content.getbuffer())


def load_agent(
    cls: type[BaseAlgorithm], path: Path, make_env: Callable[[], VecEnv], identity: Mapping[str, Any]
) -> BaseAlgorithm:
    """Load an agent that `save_agent` has saved.

    Raises:
        ValueError: the file is not whole, or of another environment, algorithm or version; with both.
    """
    found = saved_as(path)
    for name, ours in identity.items():
        if found.get(name) != ours:
            raise ValueError(f"{path} is a checkpoint with {name}={found.get(name)!r}, not {ours!r}")
    model = cls.load(path, env=make_env(), device="cpu")
    normalised = model.get_vec_normalize_env()
    if normalised is not None:
        normalised.ret_rms = _statistics(*getattr(model, "return_statistics"))  # noqa: B009  (not known to SB3)
    if getattr(model, "replay_buffer", None) is not None:
        _fill(model, path.with_suffix(".npz"))
    return model


def saved_as(path: Path) -> dict[str, Any]:
    """Return what an agent that `save_agent` has saved says it is of.

    Raises:
        ValueError: the file is not whole, or of something else.
    """
    try:
        with zipfile.ZipFile(path) as file:
            found = json.loads(file.read("data")).get("checkpoint_of")
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise ValueError(f"{path} is not a whole checkpoint: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} is not a checkpoint of agents.train")
    return found


def last_whole(folder: Path) -> Path:
    """Return the last checkpoint of a run that can be read; one that cannot is told on stderr.

    Raises:
        ValueError: there is none.
    """
    for path in reversed(checkpoints(folder)):
        buffer = path.with_suffix(".npz")
        if is_whole(path, "data") and (not buffer.exists() or is_whole(buffer, "position.npy")):
            return path
        print(f"warning: {path} is not whole; trying the one before", file=sys.stderr)
    raise ValueError(f"{folder} holds no whole checkpoint to resume from; begin the run anew, with another --out")


def is_whole(path: Path, member: str) -> bool:
    """Return whether a zip file is whole; one that is cut short may still be read as a zip file within it."""
    try:
        with zipfile.ZipFile(path) as file:
            return member in file.namelist() and file.testzip() is None
    except (zipfile.BadZipFile, OSError):
        return False


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a run, oldest first."""
    found = (path for path in (folder / CHECKPOINTS).glob("*.zip") if path.stem.isdigit())
    return sorted(found, key=lambda path: int(path.stem))


def _fill(model: Any, path: Path) -> None:
    """Put saved transitions into the replay buffer of an agent."""
    buffer = model.replay_buffer
    try:
        with np.load(path, allow_pickle=False) as saved:
            for name in set(saved) & set(BUFFER):
                getattr(buffer, name)[: len(saved[name])] = saved[name]
            buffer.pos, buffer.full = int(saved["position"]), bool(saved["full"])
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(f"{path}, the replay buffer of the checkpoint, cannot be read: {error}") from error


def _statistics(mean: float, variance: float, count: float) -> RunningMeanStd:
    statistics = RunningMeanStd(shape=())
    statistics.mean, statistics.var, statistics.count = np.array(mean), np.array(variance), count
    return statistics
