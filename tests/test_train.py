"""Training: what a run leaves, what it refuses, that it survives a kill, and that an agent learns, in seconds."""

from __future__ import annotations

import errno
import gc
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from test_policy import untrained

pytest.importorskip("stable_baselines3")
pytest.importorskip("tensorboard")
pytest.importorskip("tyro")
pytest.importorskip("agents")

from stable_baselines3 import PPO

from agents import train, training
from agents.checkpoints import checkpoints, saved_as
from agents.export import begin_from, begun_from
from agents.locks import held
from agents.options import parsed
from agents.runs import BEST, CHECKPOINTS, POLICY, RUN, read_returns, read_scores
from agents.runs import finished as is_through
from agents.training import Observed
from metalearn_env.adapters.sb3 import make_sb3_env
from metalearn_env.observations import feature_names
from metalearn_env.policy import Policy, load
from metalearn_env.scoring import TaskSet
from metalearn_env.scoring.table import contender, score

ROOT = Path(__file__).parent.parent
ENV = "MetaLearn/LinearRegression-v0"
TINY = {"spectrum": "log-uniform", "dimension": 2, "conditioning": 10, "horizon": 10}
TEXT = tuple(f"{name}:{value}" for name, value in TINY.items())
SMALL = {"n_envs": 16, "n_steps": 10, "batch_size": 160, "n_epochs": 1, "policy_kwargs": {"net_arch": [8, 8]}}
OFF_POLICY = {"n_envs": 16, "learning_starts": 160, "batch_size": 32, "policy_kwargs": {"net_arch": [8, 8]}}


def hyperparams(settings: dict[str, Any]) -> tuple[str, ...]:
    return tuple(f"{name}:{json.dumps(value)}" for name, value in settings.items())


def arguments(out: Path, small: dict[str, Any] = SMALL, **options: Any) -> Any:
    every = {"steps": 960, "validate_every": 320, "checkpoint_every": 320, "validation_tasks": 16}
    return train.Args(out=out, env=ENV, env_kwargs=TEXT, **{**every, "hyperparams": hyperparams(small), **options})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return the arguments of a run that is through."""
    args = arguments(tmp_path_factory.mktemp("runs") / "folder" / "run")
    train.main(args)
    return args


def test_a_run_tells_how_long_it_took_in_all(finished: Any, tmp_path: Path) -> None:
    folder = shutil.copytree(finished.out, tmp_path / "run")
    record = json.loads((folder / RUN).read_text())
    assert record["wall_seconds"] > 0.0
    (folder / RUN).write_text(json.dumps({**record, "wall_seconds": 1000.0}))
    train.main(replace(finished, out=folder, steps=9600, resume=True))
    assert 1000.0 < json.loads((folder / RUN).read_text())["wall_seconds"] < 1100.0


def test_a_run_leaves_what_is_needed(finished: Any) -> None:
    out = finished.out
    begun = json.loads((out / "run.json").read_text())
    assert (begun["env"], begun["env_kwargs"], begun["seed"], begun["steps"]) == (ENV, list(TEXT), 0, 960)
    assert [steps for steps, _ in read_scores(out)] == [0, 320, 640, 960]
    assert [steps for steps, _ in read_returns(out)] == list(range(160, 961, 160))
    assert np.isfinite([value for _, value in (*read_scores(out), *read_returns(out))]).all()
    assert list(out.glob("progress*.csv"))
    assert list(out.glob("events.out.tfevents.*"))
    assert [path.name for path in checkpoints(out)] == ["640.zip", "960.zip"]  # the two last
    assert not [path for path in out.rglob("*") if path.suffix == ".part"]


def test_the_policy_says_where_it_comes_from(finished: Any) -> None:
    policy = load(finished.out / POLICY)
    header = policy.header
    assert (header["env"], header["env_kwargs"], header["seed"], header["algorithm"]) == (ENV, TINY, 0, "ppo")
    assert (header["action"], header["strategy"], header["history"]) == ("relative", "dynamic", 5)
    assert header["interval"] == policy.interval == 1
    assert header["feature_names"] == list(feature_names(5))
    assert {"numpy", "torch", "stable_baselines3", "gymnasium", "metalearn_env"} <= header["versions"].keys()
    scores = dict(read_scores(finished.out))
    assert header["validation_iqm"] == pytest.approx(max(scores.values()), abs=1e-4)
    assert scores[header["steps"]] == max(scores.values())
    tasks = TaskSet(ENV, "validation", 16, 0, TINY)
    row = score(tasks, [contender(str(finished.out / POLICY))])["rows"][0]
    assert row["iqm"] == pytest.approx(header["validation_iqm"], abs=1e-4)


def test_a_policy_tells_its_interval(tmp_path: Path) -> None:
    args = replace(arguments(tmp_path / "run", steps=320), env_kwargs=(*TEXT, "interval:4"))
    train.main(args)
    policy = load(args.out / POLICY)
    assert policy.interval == policy.header["interval"] == 4
    row = score(TaskSet(ENV, "validation", 16, 0, TINY), [contender(str(args.out / POLICY))])["rows"][0]
    assert row["iqm"] == pytest.approx(policy.header["validation_iqm"], abs=1e-4)


def test_a_run_begins_from_a_policy(finished: Any, tmp_path: Path) -> None:
    """Which may have decided at another interval."""
    init = finished.out / POLICY
    args = replace(
        arguments(tmp_path / "run", small={**SMALL, "learning_rate": 1e-12}, steps=320, init=init),
        env_kwargs=(*TEXT, "interval:3"),
    )
    train.main(args)
    then, before = load(args.out / POLICY), load(init)
    seen = np.random.default_rng(0).normal(size=(9, len(feature_names(5)))).astype(np.float32)
    assert replace(then, header=before.header)(seen) == pytest.approx(before(seen), abs=1e-5)
    assert then.header["begun_from"] == before.header["command"]
    assert (before.interval, then.interval) == (1, 3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"env_kwargs": (*TEXT, "history:2")}, "was trained on the features"),
        ({"env_kwargs": (*TEXT, "action:absolute")}, "trained with action='relative', not 'absolute'"),
        ({"hyperparams": hyperparams({**SMALL, "policy_kwargs": {"net_arch": [4, 8]}})}, "the policy has layers"),
        ({"algo": "sac", "hyperparams": hyperparams(OFF_POLICY)}, "are of ppo, a2c or trpo, not SAC"),
    ],
)
def test_a_run_that_cannot_begin_from_a_policy_leaves_no_trace(
    finished: Any, tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        train.main(replace(arguments(tmp_path / "run", init=finished.out / POLICY), **options))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("ritz", "header", "words"),
    [
        (2, {}, "trained with ritz=2, not 3"),
        (3, {"activation": "relu"}, "the policy has layers and units"),
        (3, {"output": "tanh"}, "the policy has output 'tanh'"),
    ],
)
def test_what_an_actor_cannot_begin_from_is_refused(ritz: int, header: dict[str, Any], words: str) -> None:
    env = make_sb3_env(ENV, 2, seed=0, history=2, horizon=4, ritz=3)
    settings: dict[str, Any] = {"n_steps": 4, "batch_size": 8, "policy_kwargs": {"net_arch": [8, 8]}}
    model = PPO("MlpPolicy", env, seed=0, device="cpu", **settings)
    begin_from(model, untrained(ritz=3))
    with pytest.raises(ValueError, match=words):
        begin_from(model, untrained(ritz=ritz, **header))


def test_a_run_begun_from_one_that_was_begun_from_another_tells_both(tmp_path: Path) -> None:
    untrained(begun_from="first", command="second").save(tmp_path / POLICY)
    assert begun_from(tmp_path / POLICY) == "first; second"


def test_a_policy_tells_the_range_of_all_that_was_met(tmp_path: Path) -> None:
    observed, again = Observed(2), Observed(2)
    observed.model = again.model = cast(Any, SimpleNamespace())
    assert observed.header == {}
    for met in ([[0.0, 3.0, 9.0]], [[1.0, 2.0, 9.0], [-1.0, 2.5, 9.0]]):
        observed.locals = {"new_obs": np.array(met, np.float32)}
        assert observed._on_step()
    assert observed.header == {"observed": [[-1.0, 2.0], [1.0, 3.0]]}
    again._on_training_start()  # of the agent that a checkpoint is of
    assert again.header == observed.header
    untrained = Policy.untrained(history=1, seed=0)
    Policy(untrained.layers, {**untrained.header, "observed": [[-2.0] * 21, [2.0] * 21]}).save(tmp_path / POLICY)
    assert Observed(21, tmp_path / POLICY).header == {"observed": [[-2.0] * 21, [2.0] * 21]}


def test_what_was_met_is_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rising = itertools.count()
    monkeypatch.setattr(training, "mean_score", lambda *_: float(next(rising)))
    train.main(arguments(tmp_path / "run", steps=320, validate_every=160))
    low, high = np.array(load(tmp_path / "run" / POLICY).header["observed"])
    horizon, progress = (feature_names(5).index(name) for name in ("log10_horizon", "progress"))
    assert low[horizon] == high[horizon] == pytest.approx(np.log10(TINY["horizon"]))
    assert (low[progress], high[progress]) == pytest.approx((0.0, 1.0 - 1.0 / TINY["horizon"]))


def test_of_equal_scores_the_latest_agent_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter((0.0, 1.0, 1.0, 0.5))
    monkeypatch.setattr(training, "mean_score", lambda *_: next(scores))
    train.main(arguments(tmp_path / "run", steps=480, validate_every=160))
    header = load(tmp_path / "run" / POLICY).header
    assert (header["validation_iqm"], header["steps"]) == (1.0, 320)


def test_validation_tasks_may_be_others(finished: Any, tmp_path: Path) -> None:
    train.main(replace(finished, out=tmp_path / "other", steps=160, validation_kwargs=("horizon:4",)))
    (first, *_), (other, *_) = read_scores(finished.out), read_scores(tmp_path / "other")
    assert first[0] == other[0] == 0
    assert first[1] != other[1]


def test_the_same_seed_trains_the_same_policy(finished: Any, tmp_path: Path) -> None:
    train.main(replace(finished, out=tmp_path / "again"))
    assert read_scores(tmp_path / "again") == read_scores(finished.out)
    train.main(replace(finished, out=tmp_path / "other", seed=1))
    assert read_scores(tmp_path / "other") != read_scores(finished.out)


def test_a_run_closes_its_files(tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train.main(arguments(tmp_path / "run", steps=160))
        gc.collect()
    assert not [str(one.message) for one in caught if str(tmp_path) in str(one.message)]


def test_a_record_alone_is_of_no_run_that_is_through(finished: Any, tmp_path: Path) -> None:
    shutil.copy(finished.out / "run.json", tmp_path)
    assert is_through(finished.out)
    assert not is_through(tmp_path)


def test_a_run_is_not_overwritten(finished: Any) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.out.rglob("*")}
    with pytest.raises(ValueError, match="holds a run already"):
        train.main(finished)
    assert {path: path.stat().st_mtime_ns for path in finished.out.rglob("*")} == before


def test_a_run_of_another_kind_is_not_overwritten(finished: Any, tmp_path: Path) -> None:
    """What distil, schedules or rllib have left there."""
    for name in (POLICY, "validation.csv"):
        folder = tmp_path / name.partition(".")[0]
        folder.mkdir()
        shutil.copy(finished.out / name, folder)
        with pytest.raises(ValueError, match="holds a run already"):
            train.main(arguments(folder))
        assert [path.name for path in folder.iterdir()] == [name]
    (tmp_path / "ray" / CHECKPOINTS / "640").mkdir(parents=True)
    with pytest.raises(ValueError, match="holds a run already"):
        train.main(arguments(tmp_path / "ray"))


def test_what_is_no_checkpoint_is_left_alone(finished: Any, tmp_path: Path) -> None:
    folder = shutil.copytree(finished.out, tmp_path / "run")
    (folder / CHECKPOINTS / "960 copy.zip").touch()
    (folder / CHECKPOINTS / "notes").mkdir()
    train.main(replace(finished, out=folder, steps=1280, resume=True))
    assert (folder / CHECKPOINTS / "notes").is_dir()


def test_a_score_that_was_cut_short_is_taken_again(finished: Any, tmp_path: Path) -> None:
    folder = shutil.copytree(finished.out, tmp_path / "run")
    with (folder / "validation.csv").open("a") as file:
        file.write("12")
    assert read_scores(folder) == read_scores(finished.out)
    train.main(replace(finished, out=folder, steps=1280, resume=True))
    assert [steps for steps, _ in read_scores(folder)][-1] == 1280


@pytest.mark.parametrize(
    ("option", "value"),
    [("hyperparams", hyperparams({**SMALL, "n_envs": 4})), ("seed", 7), ("env_kwargs", TEXT[:-1]), ("algo", "a2c")],
)
def test_a_run_does_not_go_on_with_other_options(finished: Any, option: str, value: Any) -> None:
    with pytest.raises(ValueError, match=option):
        train.main(replace(finished, resume=True, **{option: value}))


def test_there_must_be_something_to_resume(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no checkpoint"):
        train.main(arguments(tmp_path / "nothing", resume=True))
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"algo": "genetic"}, ValueError),
        ({"env": "MetaLearn/NoSuch-v0"}, Exception),
        ({"env_kwargs": ("spectrum:flat",)}, ValueError),
        ({"env_kwargs": ("bogus:1",)}, TypeError),
        ({"env_kwargs": ("action:bogus",)}, ValueError),
        ({"env_kwargs": ("observation:dict",)}, ValueError),
        ({"validation_tasks": 3}, ValueError),
        ({"validation_kwargs": ("history:3",)}, ValueError),
        ({"hyperparams": hyperparams({**SMALL, "n_epochs": 1.5})}, ValueError),
        ({"conf_file": Path("no-such-file.yml")}, FileNotFoundError),
        ({"conf_file": ROOT / "Makefile"}, ValueError),
    ],
)
def test_a_run_that_cannot_be_leaves_no_trace(tmp_path: Path, options: dict[str, Any], error: type) -> None:
    with pytest.raises(error):
        train.main(replace(arguments(tmp_path / "run"), **options))
    assert not (tmp_path / "run").exists()


def test_a_run_has_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which an empty name does not give."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="a folder of its own"):
        train.main(arguments(Path("")))
    assert not list(tmp_path.iterdir())


def test_an_option_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two, only the last would count."""
    told = ["train", "--out", "run", "--hyperparams", "n_epochs:2", "gamma:0.9"]
    monkeypatch.setattr(sys, "argv", [*told, "--validation-tasks", "8"])
    assert parsed(train.Args).hyperparams == ("n_epochs:2", "gamma:0.9")
    for again in (["--hyperparams", "n_steps:5"], ["--out=other"]):
        monkeypatch.setattr(sys, "argv", [*told, *again])
        with pytest.raises(ValueError, match=r"--(hyperparams|out) is given more than once"):
            parsed(train.Args)


@pytest.mark.parametrize(
    ("damaged", "words"),
    [
        (lambda text: "", "Expecting value"),
        (lambda text: text[:-9], "Unterminated string"),
        (lambda text: "[]", r"it is \[\]"),
        (lambda text: text.replace("resumed_at", "resumed"), "resumed_at is None"),
        (lambda text: text.replace('"steps": 960', '"steps": "960"'), "steps is '960'"),
        (lambda text: text.replace('"normalize"', '"norm"'), r"settings differ in \['norm', 'normalize'\]"),
    ],
)
def test_a_run_whose_record_is_damaged_does_not_go_on(
    finished: Any, tmp_path: Path, damaged: Callable[[str], str], words: str
) -> None:
    folder = shutil.copytree(finished.out, tmp_path / "run")
    (folder / RUN).write_text(damaged((folder / RUN).read_text()))
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=rf"run\.json is not the whole record of a run: {words}"):
        train.main(replace(finished, out=folder, steps=1280, resume=True))
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_is_of_one_process(finished: Any, tmp_path: Path, resume: bool) -> None:
    pytest.importorskip("fcntl")
    args = arguments(tmp_path / "run", steps=1280, resume=resume)
    if resume:
        shutil.copytree(finished.out, args.out)
    with held(args.out), pytest.raises(ValueError, match="another process works in"):
        train.main(args)
    train.main(args)


def test_a_run_that_another_process_has_begun_meanwhile_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at the folder and the training."""
    args, found = arguments(tmp_path / "run", steps=160), train.validation_sets

    def meanwhile(record: dict[str, Any]) -> Any:
        monkeypatch.undo()
        train.main(args)
        return found(record)

    monkeypatch.setattr(train, "validation_sets", meanwhile)
    with pytest.raises(ValueError, match=r"another process has trained in .* meanwhile"):
        train.main(args)
    assert json.loads((args.out / RUN).read_text())["resumed_at"] == []
    assert [path.stem for path in checkpoints(args.out)] == ["0", "160"]


@pytest.mark.parametrize("algo", ["ppo", "ppo_lstm"])
def test_the_best_agent_of_a_run_that_goes_on_is_of_its_scores(
    algo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not one from after the checkpoint, whose score is forgotten."""
    policy_kwargs = {"net_arch": [8], **({"lstm_hidden_size": 8} if algo == "ppo_lstm" else {})}
    kind = {"policy": "MlpLstmPolicy"} if algo == "ppo_lstm" else {}
    args = arguments(tmp_path / "run", {**SMALL, **kind, "policy_kwargs": policy_kwargs}, algo=algo)
    scores = iter((0.0, 1.0, 2.0, 3.0, 1.5))
    monkeypatch.setattr(training, "mean_score", lambda *_: next(scores))
    train.main(args)
    checkpoints(args.out)[-1].unlink()  # as if it had been killed before
    train.main(replace(args, resume=True))
    assert read_scores(args.out) == [(0, 0.0), (320, 1.0), (640, 2.0), (960, 1.5)]
    told = saved_as(args.out / BEST) if algo == "ppo_lstm" else load(args.out / POLICY).header
    assert (told["validation_iqm"], told["steps"]) == (2.0, 640)


def begun_on_the_command_line(args: Any, tmp_path: Path, ready: Callable[[], bool]) -> None:
    """Begin a run in a process of its own, and kill it as soon as it is ``ready``."""
    line = [sys.executable, "-m", "agents.train", "--out", str(args.out), "--env", ENV, "--env-kwargs", *TEXT]
    for name in ("algo", "steps", "seed", "validate_every", "checkpoint_every", "validation_tasks"):
        line += [f"--{name.replace('_', '-')}", str(getattr(args, name))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [*line, "--hyperparams", *args.hyperparams], cwd=ROOT, env=environment, stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + 100
        while not ready():
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    """Begun on the command line, killed between two checkpoints, and resumed to its end."""
    out = tmp_path / "run"
    args = arguments(out, steps=10_000_000, seed=3)
    begun_on_the_command_line(args, tmp_path, lambda: len(checkpoints(out)) == 2 and len(read_returns(out)) > 2)
    begun, logs = int(checkpoints(out)[-1].stem), set(out.glob("progress*.csv"))
    kept = [row for row in read_returns(out) if row[0] <= begun]
    train.main(replace(args, resume=True, steps=begun + 960))
    assert int(checkpoints(out)[-1].stem) == begun + 960
    assert all(log.exists() for log in logs)
    returns, scores = read_returns(out), read_scores(out)
    assert returns[: len(kept)] == kept
    assert returns[-1][0] == begun + 960
    for rows in (returns, scores):
        steps = [step for step, _ in rows]
        assert steps == sorted(set(steps))
    assert scores[-1][0] == begun + 960
    assert load(out / POLICY).header["validation_iqm"] >= max(iqm for _, iqm in scores) - 1e-4
    assert (out / CHECKPOINTS).is_dir()


def test_a_killed_run_with_a_replay_buffer_goes_on(tmp_path: Path) -> None:
    args = arguments(tmp_path / "run", OFF_POLICY, algo="sac", steps=10_000_000)
    begun_on_the_command_line(args, tmp_path, lambda: len(checkpoints(args.out)) == 2)
    begun = int(checkpoints(args.out)[-1].stem)
    train.main(replace(args, resume=True, steps=begun + 320))
    last = checkpoints(args.out)[-1]
    assert int(last.stem) == begun + 320
    with np.load(last.with_suffix(".npz")) as buffer:
        assert int(buffer["position"]) * OFF_POLICY["n_envs"] == begun + 320  # nothing that was met is lost
    assert {path.stem for path in last.parent.iterdir()} == {path.stem for path in checkpoints(args.out)}


def test_a_full_disk_leaves_the_last_whole_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    args, sync = arguments(tmp_path / "run"), os.fsync

    def full(descriptor: int) -> None:
        if list((args.out / CHECKPOINTS).glob("640.zip.part")):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left.*320\.zip; --resume") as caught:
        train.main(args)
    assert caught.value.errno == errno.ENOSPC
    assert not list(args.out.rglob("*.part"))
    monkeypatch.undo()
    train.main(replace(args, resume=True))
    assert int(checkpoints(args.out)[-1].stem) == 960


def test_a_checkpoint_that_is_cut_short_is_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = arguments(tmp_path / "run")
    train.main(args)
    last = checkpoints(args.out)[-1]
    last.write_bytes(last.read_bytes()[:-1000])
    train.main(replace(args, resume=True, steps=1120))
    assert "960.zip is not whole" in capsys.readouterr().err
    assert json.loads((args.out / RUN).read_text())["resumed_at"] == [640]


@pytest.mark.parametrize(
    ("name", "value"), [("algo", "sac"), ("env", "MetaLearn/QLearning-v0"), ("metalearn_env", "0.0.1")]
)
def test_a_foreign_checkpoint_is_refused(tmp_path: Path, finished: Any, name: str, value: str) -> None:
    args = replace(finished, out=tmp_path / "run", resume=True, steps=2000)
    shutil.copytree(finished.out, args.out)
    last = checkpoints(args.out)[-1]
    with zipfile.ZipFile(last) as file:
        members = {member: file.read(member) for member in file.namelist()}
    data = json.loads(members["data"])
    data["checkpoint_of"][name] = value
    with zipfile.ZipFile(last, "w") as file:
        for member, content in {**members, "data": json.dumps(data).encode()}.items():
            file.writestr(member, content)
    record = (args.out / RUN).read_bytes()
    with pytest.raises(ValueError, match=rf"960\.zip is a checkpoint with {name}='{value}', not"):
        train.main(args)
    assert (args.out / RUN).read_bytes() == record


def test_an_agent_learns(tmp_path: Path) -> None:
    """In two dimensions, on held-out tasks: better than the constant step that is best in hindsight."""
    settings: dict[str, Any] = {"n_envs": 64, "n_epochs": 6, "learning_rate": "lin_3e-3"}
    settings["policy_kwargs"] = {"net_arch": [32, 32], "log_std_init": -1.7}
    args = arguments(tmp_path / "run", {**SMALL, **settings}, steps=60_000)
    train.main(replace(args, validation_tasks=64, validate_every=15_000, checkpoint_every=60_000))
    tasks = TaskSet(ENV, "test", 128, 1, TINY)
    untrained = tmp_path / "untrained.safetensors"
    Policy.untrained(history=5, seed=0).save(untrained)
    names = (str(untrained), "tuned-constant", str(args.out / POLICY))
    before, constant, trained = score(tasks, [contender(name) for name in names])["rows"]
    assert trained["low"] > constant["high"]
    assert trained["low"] > before["high"]
    assert trained["low"] > 0.0, trained  # which is S of that constant step
    assert trained["diverged"] == 0.0


def test_a_resumed_run_and_another_seed_meet_other_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No task is met twice: neither by a run that goes on, nor by one with the next seed."""
    begun = arguments(tmp_path / "begun")
    train.main(begun)
    met: list[float] = []

    def look_at_the_tasks(model: Any, *_: Any, **__: Any) -> None:
        model.get_env().reset()
        met.extend(model.get_env().get_attr("session")[0].engine.loss)

    monkeypatch.setattr("stable_baselines3.PPO.learn", look_at_the_tasks)
    train.main(replace(begun, resume=True, steps=2 * begun.steps))
    for seed in (begun.seed, begun.seed + 1):
        train.main(arguments(tmp_path / str(seed), seed=seed))
    assert len(set(met)) == len(met) == 3 * SMALL["n_envs"]
