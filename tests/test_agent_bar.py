"""S of Q-learning by both limits and both laws of discounts."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("stable_baselines3")
pytest.importorskip("tensorboard")
pytest.importorskip("tyro")
pytest.importorskip("matplotlib")
pytest.importorskip("agents")
pytest.importorskip("benchmarks")

from test_policy import untrained

from agents.runs import write_run
from benchmarks import agent_bar
from benchmarks.agent_tables import Trained
from benchmarks.setting import Q_LEARNING, Setting


def test_the_table_has_both_limits(tmp_path: Path) -> None:
    setting = Setting("q-learning", Q_LEARNING, ("states:4", "actions:2", "horizon:8", "branching:2"))
    for seed in (0, 1):
        folder = setting.folder(tmp_path, seed)
        folder.mkdir(parents=True)
        untrained("absolute", history=2).save(folder / "policy.safetensors")
        write_run(folder, {"wall_seconds": 60.0})
    text = "\n".join(agent_bar.as_measured(Trained(setting, tmp_path, 16), 96))
    for words in (
        "uniform, plain (",
        "log-uniform, best multiple (",
        "| agents | ",
        "| wainwright | ",
        "oracle harmonic",
    ):
        assert words in text
    assert len({line.count("|") for line in text.split("\n") if line.startswith("|")}) == 1
