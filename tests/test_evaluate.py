"""Evaluating runs: the tables, the pictures, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from test_policy import untrained

pytest.importorskip("stable_baselines3")
pytest.importorskip("tensorboard")
pytest.importorskip("tyro")
pytest.importorskip("matplotlib")
pytest.importorskip("agents")

from agents import evaluate, train
from agents.runs import BEST, POLICY
from metalearn_env.scoring import TaskSet
from metalearn_env.scoring.table import known_controllers

TINY = ("spectrum:log-uniform", "dimension:[4,8]", "conditioning:30", "horizon:8")
PNG = b"\x89PNG\r\n"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """Return the folders of two training seeds."""
    folders = tuple(tmp_path_factory.mktemp("runs") / name for name in ("one", "two"))
    for seed, folder in enumerate(folders):
        small = ("n_envs:16", "n_steps:10", "batch_size:160", "policy_kwargs:{net_arch: [8, 8]}")
        train.main(train.Args(folder, env_kwargs=TINY, hyperparams=small, steps=320, seed=seed, validation_tasks=16))
    return folders


def test_a_run_of_an_agent_with_a_memory_is_refused(runs: tuple[Path, ...], tmp_path: Path) -> None:
    """Which has no policy file; agents.report and agents.ship say so, too."""
    (folder := tmp_path / "run").mkdir()
    (folder / BEST).touch()
    with pytest.raises(ValueError, match=r"run has an agent with a memory of its own, best\.zip, .*validation\.csv"):
        evaluate.main(evaluate.Args(runs=(*runs, folder)))


def test_tables_and_pictures(runs: tuple[Path, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    files = {"json": tmp_path / "score.json", "plot": tmp_path / "training.png", "episode": tmp_path / "episode.png"}
    evaluate.main(evaluate.Args(runs=runs, tasks=16, seed=2, datasets=("diabetes",), **files))
    trained_on, diabetes = json.loads(files["json"].read_text())
    assert trained_on["env_kwargs"] == {
        "spectrum": "log-uniform",
        "dimension": [4, 8],
        "conditioning": 30,
        "horizon": 8,
    }
    assert diabetes["env_kwargs"]["dataset"] == "diabetes"
    printed = capsys.readouterr().out
    for result in (trained_on, diabetes):
        assert (result["split"], result["tasks"], result["seed"]) == ("test", 16, 2)
        names = [row["controller"] for row in result["rows"]]
        *known, limit = known_controllers([TaskSet("MetaLearn/LinearRegression-v0")])
        assert names == [*known, "trained-agent", limit]
        assert all(printed.count(f"{row['iqm']:.3f}") for row in result["rows"])
    for name in ("plot", "episode"):
        assert files[name].read_bytes().startswith(PNG)
        assert files[name].stat().st_size > 5_000


def test_other_tasks_than_those_trained_on(runs: tuple[Path, ...], tmp_path: Path) -> None:
    path = tmp_path / "score.json"
    options = {"env_kwargs": ("dimension:12", "horizon:6"), "split": "validation"}
    evaluate.main(evaluate.Args(runs=runs[:1], tasks=16, json=path, **options))
    (result,) = json.loads(path.read_text())
    assert (result["env_kwargs"], result["split"]) == ({"dimension": 12, "horizon": 6}, "validation")


def test_what_is_left_of_the_agent(runs: tuple[Path, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "score.json"
    options = {"ablations": ("shuffled", "without-history"), "against": "trained-agent"}
    evaluate.main(evaluate.Args(runs=runs, tasks=16, json=path, **options))
    (result,) = json.loads(path.read_text())
    rows = {row["controller"]: row for row in result["rows"]}
    assert [*rows][-4:] == [
        "trained-agent",
        "trained-agent, shuffled",
        "trained-agent, without-history",
        "limit",
    ]
    assert all(row["against"]["controller"] == "trained-agent" for row in rows.values())
    assert "gain over trained-agent" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"env": "MetaLearn/NoSuch-v0"}, gym.error.Error, "NoSuch"),
        ({"env_kwargs": ("spectrum:flat",)}, ValueError, "spectrum"),
        ({"json": Path("no/such/folder/score.json")}, FileNotFoundError, "no/such/folder"),
        ({"plot": Path("no/such/folder/score.png")}, FileNotFoundError, "no/such/folder"),
        ({"tasks": 3}, ValueError, "tasks"),
        ({"ablations": ("without-colour",)}, ValueError, "colour"),
        ({"against": "nobody"}, ValueError, "nobody"),
    ],
)
def test_what_is_wrong_is_said(
    runs: tuple[Path, ...],
    options: dict[str, Any],
    error: type[Exception],
    named: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(error, match=named):
        evaluate.main(evaluate.Args(runs=runs, **{"tasks": 16, **options}))
    assert capsys.readouterr().out == ""


def test_a_run_does_not_count_as_two_seeds(runs: tuple[Path, ...]) -> None:
    with pytest.raises(ValueError, match="a run is named once, not twice"):
        evaluate.main(evaluate.Args(runs=(*runs, runs[0]), tasks=16))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("env", "MetaLearn/QLearning-v0"),
        ("env_kwargs", {"horizon": 9}),
        ("action", "absolute"),
        ("strategy", "constant"),
        ("history", 5),
    ],
)
def test_runs_of_different_agents_are_refused(tmp_path: Path, name: str, value: Any) -> None:
    folders = tmp_path / "one", tmp_path / "other"
    for folder, header in zip(folders, ({}, {name: value}), strict=True):
        folder.mkdir()
        untrained(**{"env_kwargs": {}, **header}).save(folder / POLICY)
    with pytest.raises(ValueError, match=f"their {name} differ"):
        evaluate.main(evaluate.Args(runs=folders))


def test_a_training_that_is_not_there_is_not_drawn(
    runs: tuple[Path, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder := tmp_path / "copied").mkdir()
    shutil.copy(runs[0] / "policy.safetensors", folder)
    with pytest.raises(ValueError, match=r"of runs of agents\.train, which .*copied is not"):
        evaluate.main(evaluate.Args(runs=(folder,), tasks=16, plot=tmp_path / "training.png"))
    assert capsys.readouterr().out == ""


def test_a_folder_without_a_policy_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        evaluate.main(evaluate.Args(runs=(tmp_path,), tasks=16))
