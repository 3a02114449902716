"""The search of hyperparameters: what a study leaves, that it goes on after a kill, and what it refuses."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("stable_baselines3")
pytest.importorskip("optuna")
pytest.importorskip("tyro")
pytest.importorskip("yaml")
pytest.importorskip("agents")

import optuna
import yaml

from agents import train, tune
from agents.algorithms import ALGORITHMS, algorithm
from agents.locks import held
from agents.runs import read_scores
from agents.settings import settings
from agents.zoo import FOLDER, read
from metalearn_env.commandline import key_value

ROOT = Path(__file__).parent.parent
ENV = "MetaLearn/LinearRegression-v0"
TINY = ("spectrum:log-uniform", "dimension:2", "conditioning:10", "horizon:10")
SMALL = ("n_envs:16", "n_steps:10", "batch_size:160", "n_epochs:1", "policy_kwargs:{net_arch: [8, 8]}")


def arguments(out: Path, **options: Any) -> Any:
    every = {"trials": 3, "steps": 480, "validate_every": 160, "validation_tasks": 16}
    return tune.Args(out=out, env_kwargs=TINY, hyperparams=SMALL, **{**every, **options})


def table(out: Path) -> list[dict[str, str]]:
    with (out / "trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Any:
    args = arguments(tmp_path_factory.mktemp("studies") / "one")
    tune.main(args)
    return args


def test_a_study_leaves_its_table_and_the_best(studied: Any) -> None:
    rows = table(studied.out)
    assert [row["state"] for row in rows] == ["complete"] * 3
    scores = [float(row["validation_iqm"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert len({row["learning_rate"] for row in rows}) == 3
    for row in rows:  # the score is of the end of the trial
        assert read_scores(studied.out / "trials" / row["trial"])[-1] == (480, float(row["validation_iqm"]))
    assert len((studied.out / "trials.md").read_text().splitlines()) == 5


def test_the_best_trains_as_it_did_in_the_study(studied: Any, tmp_path: Path) -> None:
    file = studied.out / "ppo.yml"
    best = table(studied.out)[0]
    given = read(file, ENV)
    assert given["n_envs"] == 16  # what was not searched is in the file, too
    assert given["learning_rate"] == f"lin_{float(best['learning_rate']):.6g}"
    assert given["env_kwargs"] == dict(map(key_value, TINY))
    train.main(train.Args(tmp_path / "run", conf_file=file, validate_every=160, validation_tasks=16))
    assert read_scores(tmp_path / "run") == read_scores(studied.out / "trials" / best["trial"])


def test_units_of_the_best_are_named_as_rl_zoo_names_them(tmp_path: Path) -> None:
    networks = "dict(net_arch=[8, 8], activation_fn=nn.ReLU)"
    small = (*SMALL[:-1], f"policy_kwargs:{networks}")
    tune.main(replace(arguments(tmp_path / "study", trials=1, steps=160), hyperparams=small))
    assert yaml.safe_load((tmp_path / "study" / "ppo.yml").read_text())[ENV]["policy_kwargs"] == networks


def test_a_study_that_is_through_is_not_done_again(studied: Any) -> None:
    before = table(studied.out)
    tune.main(studied)
    assert table(studied.out) == before
    tune.main(replace(studied, trials=4))
    assert len(table(studied.out)) == 4


def test_a_study_does_not_go_on_with_other_options(studied: Any) -> None:
    with pytest.raises(ValueError, match=r"other options: .*steps"):
        tune.main(replace(studied, steps=960))
    with pytest.raises(ValueError, match="holds a study of ppo on"):
        tune.main(replace(studied, algo="a2c", hyperparams=()))


@pytest.mark.parametrize(
    "options",
    [
        {"trials": 0},
        {"algo": "genetic"},
        {"hyperparams": ("tau:3",)},
        {"hyperparams": ("batch_size:1",)},
        {"validation_tasks": 3},
    ],
)
def test_a_study_that_cannot_be_leaves_no_trace(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"trials|algo is one of|no hyperparameter 'tau'|ppo does not take|tasks is a"):
        tune.main(replace(arguments(tmp_path / "study"), **options))
    assert not list(tmp_path.iterdir())


def test_a_study_does_not_go_on_with_hyperparameters_that_have_changed(
    studied: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = train.new_record

    def changed(args: Any) -> dict[str, Any]:
        record = begun(args)
        return {**record, "settings": {**record["settings"], "n_envs": 32}}

    monkeypatch.setattr(train, "new_record", changed)
    with pytest.raises(ValueError, match=r"other options: settings"):
        tune.main(studied)


def test_a_study_does_not_go_on_in_another_space(studied: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of which Optuna would make one."""
    monkeypatch.setitem(tune.SPACE, "gae_lambda", lambda trial: trial.suggest_float("gae_lambda", 0.5, 1.0))
    with pytest.raises(ValueError, match=r"other options: space"):
        tune.main(replace(studied, trials=5))


def test_one_epoch_may_be_found() -> None:
    found = tune.space(tune.Args(Path("study")))
    assert found["n_epochs"] == str(optuna.distributions.IntDistribution(1, 12))
    assert "policy_kwargs" not in found
    assert {"learning_rate", "net_arch"} <= found.keys()


def test_a_study_is_of_one_process(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    args = arguments(tmp_path / "study")
    with held(args.out), pytest.raises(ValueError, match="another process works in"):
        tune.main(args)
    assert not (args.out / "study.db").exists()


def test_what_is_no_study_is_refused(tmp_path: Path) -> None:
    (tmp_path / "study.db").write_bytes(b"no database" * 100)
    with pytest.raises(ValueError, match=r"study\.db is no study"):
        tune.main(arguments(tmp_path))


def test_a_trial_behind_the_others_is_ended_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optuna.Trial, "should_prune", lambda trial: trial.number == 1)
    tune.main(arguments(tmp_path / "study"))
    ended = {row["trial"]: (row["state"], row["steps"]) for row in table(tmp_path / "study")}
    assert ended["1"][0] == "pruned"
    assert int(ended["1"][1]) < 480
    assert ended["0"] == ended["2"] == ("complete", "480")


def test_a_killed_study_goes_on(tmp_path: Path) -> None:
    args = arguments(tmp_path / "study", trials=2)
    line = [sys.executable, "-m", "agents.tune", "--out", str(args.out), "--env-kwargs", *TINY]
    for name in ("steps", "validate_every", "validation_tasks"):
        line += [f"--{name.replace('_', '-')}", str(getattr(args, name))]
    line += ["--trials", "100000", "--hyperparams", *SMALL]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(line, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 100
        while not (args.out / "trials" / "2" / "run.json").exists():
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    study = optuna.load_study(study_name=f"ppo on {ENV}", storage=f"sqlite:///{args.out / 'study.db'}")
    before = {trial.number: (trial.state.name, trial.params) for trial in study.trials}
    running = [params for state, params in before.values() if state == "RUNNING"]
    done = sum(state == "COMPLETE" for state, _ in before.values())
    assert done >= 2
    tune.main(replace(args, trials=done + 1))
    rows = {int(row["trial"]): row for row in table(args.out)}
    assert sum(row["state"] == "complete" for row in rows.values()) == done + 1
    for params in running:  # what was being tried when it was killed
        assert any(float(rows[max(rows)][name]) == value for name, value in params.items())


@pytest.mark.parametrize("name", ALGORITHMS)
def test_what_is_searched_is_known_to_the_algorithm(name: str) -> None:
    args, study = tune.Args(Path("none"), algo=name), optuna.create_study()
    sampled = tune.suggested(args, study.ask())
    assert len(sampled) >= 2
    assert settings(algorithm(name).cls, {**read(FOLDER / f"{name}.yml", ENV), **sampled})
