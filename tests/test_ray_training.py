"""Training on Ray, without Ray: what is kept of a run that goes on."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

pytest.importorskip("stable_baselines3")
pytest.importorskip("tensorboard")
pytest.importorskip("agents")

from agents import ray_training
from agents.ray_training import Interrupt, Training, checkpoints
from agents.runs import CHECKPOINTS, POLICY, read_scores
from metalearn_env.policy import Policy, load

STEPS = 100


class Counting:
    """An agent that learns nothing, but counts its steps."""

    def __init__(self, done: int) -> None:
        self._done = done

    def train(self) -> dict[str, Any]:
        self._done += STEPS
        return {"env_runners": {"num_env_steps_sampled_lifetime": self._done}}

    def get_module(self) -> None:
        return None

    def save_to_path(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "state.json").write_text(json.dumps(self._done))


def test_the_best_policy_of_a_run_that_goes_on_is_of_its_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    untrained = Policy.untrained(history=1, seed=0)
    export = SimpleNamespace(export=lambda module, header: Policy(untrained.layers, dict(header)))
    monkeypatch.setitem(sys.modules, "agents.ray_ppo", cast(Any, export))
    scores = iter((0.0, 1.0, 2.0, 0.5))
    monkeypatch.setattr(ray_training, "mean_score", lambda *_: next(scores))
    args = SimpleNamespace(out=tmp_path, steps=2 * STEPS, validate_every=STEPS, checkpoint_every=STEPS)
    for begun in (0, STEPS):
        shutil.rmtree(tmp_path / CHECKPOINTS / str(2 * STEPS), ignore_errors=True)  # as if it had been killed before
        training = Training(cast(Any, Counting(begun)), args, [], untrained.header)
        assert training.run(begun, Interrupt()) == 2 * STEPS
    assert read_scores(tmp_path) == [(0, 0.0), (STEPS, 1.0), (2 * STEPS, 0.5)]
    told = load(tmp_path / POLICY).header
    assert (told["validation_iqm"], told["steps"]) == (1.0, STEPS)
    assert [path.name for path in checkpoints(tmp_path)] == [str(STEPS), str(2 * STEPS)]
