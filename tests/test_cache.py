"""Results kept between calls: found again, never out of date, and lost only one at a time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from metalearn_env import families, identity
from metalearn_env.__main__ import main
from metalearn_env.families import make_family
from metalearn_env.identity import closure, described
from metalearn_env.policy import Policy
from metalearn_env.rules import RULES, Entry
from metalearn_env.scoring import TaskSet, cache
from metalearn_env.scoring.ablations import ablation_run, policy_run
from metalearn_env.scoring.cache import FOLDER, Cache, CacheWarning, default_folder
from metalearn_env.scoring.controls import CONTROLS, rule_run
from metalearn_env.scoring.table import contender, score

ENV = "MetaLearn/LinearRegression-v0"
OPTIONS = {"spectrum": "log-uniform", "dimension": [4, 8], "conditioning": 30, "horizon": 8}
SMALL = ["--env-kwargs", "spectrum:log-uniform", "dimension:[4,8]", "conditioning:30", "horizon:8", "--tasks", "16"]
COMMAND = ["score", "--env", ENV, *SMALL]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(FOLDER, str(tmp_path / "cache"))
    return tmp_path / "cache"


def entries(folder: Path) -> dict[str, Path]:
    """Return the names of results -> their files."""
    return {json.loads(np.load(file)["identity"].tobytes())["result"]: file for file in folder.rglob("*.npz")}


def no_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no task be drawn from now on."""

    def refused(*_: Any) -> None:
        raise AssertionError("a task was drawn")

    monkeypatch.setattr("metalearn_env.scoring.tasks.draw_tasks", refused)


# What is kept


def test_a_second_call_draws_no_task_and_says_the_same(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, uncached = (tmp_path / name for name in ("first.json", "second.json", "uncached.json"))
    assert main([*COMMAND, "--json", str(first)]) == 0
    assert main([*COMMAND, "--json", str(uncached), "--no-cache"]) == 0
    no_tasks(monkeypatch)
    assert main([*COMMAND, "--json", str(second)]) == 0
    assert first.read_text() == second.read_text() == uncached.read_text()
    with pytest.raises(AssertionError, match="drawn"):
        main([*COMMAND, "--no-cache"])


def test_without_a_cache_nothing_is_written(folder: Path) -> None:
    assert main([*COMMAND, "--controllers", "bb1", "--no-cache"]) == 0
    assert not folder.exists()


@pytest.mark.parametrize(
    "other",
    [
        ["--seed", "1"],
        ["--tasks", "17"],
        ["--split", "validation"],
        ["--env-kwargs", "spectrum:log-uniform", "dimension:[4,8]", "conditioning:31", "horizon:8"],
        ["--env-kwargs", "spectrum:log-uniform", "dimension:[4,8]", "conditioning:30", "horizon:9"],
        ["--env", "MetaLearn/QLearning-v0", "--env-kwargs", "horizon:8"],
    ],
)
def test_what_is_asked_for_decides(folder: Path, monkeypatch: pytest.MonkeyPatch, other: list[str]) -> None:
    assert main([*COMMAND, "--controllers", "bb1"]) == 0
    no_tasks(monkeypatch)
    with pytest.raises(AssertionError, match="drawn"):
        main([*COMMAND, "--controllers", "bb1", *other])


def test_tuned_steps_serve_other_tasks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main([*COMMAND, "--controllers", "tuned-constant"]) == 0
    tuned = entries(folder)["the best first step: constant"].stat().st_mtime_ns
    assert main([*COMMAND, "--controllers", "tuned-constant", "--seed", "5"]) == 0
    assert entries(folder)["the best first step: constant"].stat().st_mtime_ns == tuned


# What is changed


RULE = """
import numpy as np
def mine(engine):
    while True:
        yield {multiple} * engine.unit
"""


def test_a_changed_rule_is_recomputed_and_no_other(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "rule_of_mine.py"
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(RULES, "mine", Entry("rule_of_mine:mine"))

    def iqm(multiple: float) -> dict[str, float]:
        module.write_text(RULE.format(multiple=multiple))
        sys.modules.pop("rule_of_mine", None)
        for remembered in (identity._file, identity._source, identity._imported):
            remembered.cache_clear()
        sets = TaskSet(ENV, tasks=16, env_kwargs=OPTIONS, cache=Cache())
        return {row["controller"]: row["iqm"] for row in score(sets, [contender("mine"), contender("bb1")])["rows"]}

    first, files = iqm(0.5), entries(folder)
    assert iqm(0.5) == first
    kept = {name: file.stat().st_mtime_ns for name, file in files.items()}
    changed = iqm(0.75)
    assert changed["mine"] != first["mine"]
    assert changed["bb1"] == first["bb1"]
    assert {name: file.stat().st_mtime_ns for name, file in files.items()} == kept
    assert len(list(folder.rglob("*.npz"))) == len(kept) + 1
    assert iqm(0.5) == first


POLICY = Policy.untrained(history=1, seed=0)
RESULTS: dict[str, Callable[[TaskSet], Any]] = {
    "limit": lambda tasks: tasks.limit,
    "oracle": lambda tasks: tasks.oracle,
    "seen": lambda tasks: tasks.seen,
    "policy": lambda tasks: policy_run(POLICY, tasks),
    "shuffled": lambda tasks: ablation_run("shuffled", POLICY, tasks),
    "control": lambda tasks: CONTROLS["random-steps"].runs(tasks),
    "rule": lambda tasks: rule_run(tasks, "bb1"),
}
COME_OF = [
    *product(RESULTS, ("families.linear_regression", "engine", "pool")),
    ("limit", "limits"),
    ("policy", "policy"),
    ("policy", "observations"),
    ("shuffled", "policy"),
    ("shuffled", "scoring.ablations"),
    ("control", "scoring.controls"),
    ("rule", "rules.barzilai_borwein"),
]


@pytest.mark.parametrize(("name", "changed"), COME_OF)
def test_what_comes_of_a_changed_module_is_computed_again(
    name: str, changed: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kept() -> int:
        RESULTS[name](TaskSet(ENV, tasks=8, env_kwargs={"dimension": 3, "horizon": 4}, cache=Cache()))
        return len(list(folder.rglob("*.npz")))

    before, source = kept(), identity._source
    assert kept() == before
    monkeypatch.setattr(
        identity, "_source", lambda module: source(module) + b"#" * (module == f"metalearn_env.{changed}")
    )
    assert kept() > before


def test_a_changed_policy_is_another(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mine.safetensors"
    arguments = [*COMMAND, "--controllers", str(file)]
    Policy.untrained(history=2, seed=0).save(file)
    assert main(arguments) == 0
    Policy.untrained(history=2, seed=1).save(file)
    with monkeypatch.context() as patch:
        no_tasks(patch)
        with pytest.raises(AssertionError, match="drawn"):
            main(arguments)
    Policy.untrained(history=2, seed=0).save(tmp_path / "copy.safetensors")
    no_tasks(monkeypatch)
    assert main([*COMMAND, "--controllers", str(tmp_path / "copy.safetensors")]) == 0


def test_sources_are_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through packages, relative imports, and imports inside functions; not into other packages."""
    package = tmp_path / "of_mine"
    (package / "inner").mkdir(parents=True)
    for name, text in {
        "__init__": "",
        "family": "import json, numpy\nfrom .helper import x\nfrom metalearn_env.ranges import as_range\n",
        "helper": "def f():\n    from of_mine.inner import deep\n",
        "unused": "",
        "inner/__init__": "from . import deep\nfrom .. import other\n",
        "inner/deep": "",
        "other": "",
    }.items():
        (package / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    found = closure(("of_mine.family",))
    assert {name for name in found if name.startswith("of_mine.")} == {
        f"of_mine.{name}" for name in ("family", "helper", "inner", "inner.deep", "other")
    }
    assert "metalearn_env.ranges" in found
    assert "of_mine.family" not in sys.modules
    assert not found & {"json", "numpy"}


def test_what_presents_results_is_no_part_of_them() -> None:
    found = closure(tuple(f"metalearn_env.{name}" for name in ("scoring.runs", "pool", "limits", "scoring.controls")))
    shown = {"progress", "commandline", "rendering", "__main__", "vector", "envs", "policy", "scoring"}
    shown |= {f"scoring.{name}" for name in ("table", "formatting", "measures", "contenders")}
    assert not found & {f"metalearn_env.{name}" for name in shown}
    behind = {
        "engine",
        "family",
        "rewards",
        "kmeans",
        "markov",
        "rules.schedules",
        "scoring.tasks",
        "scoring.statistics",
    }
    assert {f"metalearn_env.{name}" for name in behind} <= found


@pytest.mark.parametrize("name", families.FAMILIES)
def test_a_family_depends_on_its_own_module_and_no_other_family(name: str) -> None:
    module = families.FAMILIES[name].partition(":")[0]
    found = closure((module, "metalearn_env.scoring.runs"))
    assert [other for other in found if other.startswith("metalearn_env.families.")] == [module]


def test_descriptions_are_of_content() -> None:
    array = np.arange(6.0)
    assert described({"X": array}) == described({"X": array.copy()}) != described({"X": array.reshape(2, 3)})
    assert described(array) != described(array.astype(np.float32))
    assert described((1, [2.5, None], "x")) == [1, [2.5, None], "x"]
    with pytest.raises(TypeError, match="object"):
        described({"what": object()})
    with pytest.raises(TypeError, match="the class Path has no description by content"):
        described({"what": Path})


def test_data_of_ones_own_are_told_apart(folder: Path) -> None:
    rng = np.random.default_rng(0)
    inputs, targets = rng.normal(size=(200, 6)), rng.normal(size=200)

    def files(targets: Any) -> int:
        task_set = TaskSet(ENV, tasks=8, env_kwargs={"dataset": (inputs, targets), "horizon": 5}, cache=Cache())
        contender("bb1").runs(task_set)
        return len(list(folder.rglob("*.npz")))

    assert [files(targets), files(targets.copy()), files(targets + 1e-9)] == [1, 1, 2]


def test_a_process_is_told_by_what_it_does_and_not_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def told(mdp: Any) -> Any:
        return described(make_family("QLearning", mdp=mdp))

    named = told("FrozenLake-v1")
    moves, rewards = np.array([[[0.0, 1.0]], [[0.0, 1.0]]]), np.array([[1.0], [0.0]])
    given = told((moves, rewards))
    assert given == told((moves.copy(), rewards.copy())) != told((moves, 2.0 * rewards))
    spec = gym.spec("FrozenLake-v1")
    monkeypatch.setattr(spec, "kwargs", {**spec.kwargs, "map_name": "8x8"})
    assert told("FrozenLake-v1") != named


# What goes wrong


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "garbage", "pickle", "of another"])
def test_a_corrupted_entry_is_computed_again(folder: Path, damage: str) -> None:
    def once() -> dict[str, Any]:
        return score(TaskSet(ENV, tasks=16, env_kwargs=OPTIONS, cache=Cache()), [contender("bb1")])

    first = once()
    file = entries(folder)["rule bb1"]
    whole = file.read_bytes()
    if damage == "pickle":
        np.savez(file, allow_pickle=True, log_gap=np.array([{}], dtype=object))
    elif damage == "of another":
        file.write_bytes(entries(folder)["the limit"].read_bytes())
    else:
        flipped = bytearray(whole)
        flipped[len(whole) // 2] ^= 1
        damaged = {"empty": b"", "cut": whole[: len(whole) // 2], "flipped": bytes(flipped), "garbage": b"garbage" * 9}
        file.write_bytes(damaged[damage])
    with pytest.warns(CacheWarning, match=str(file)):
        assert once() == first
    assert entries(folder)["rule bb1"] == file
    assert once() == first


def test_a_folder_that_cannot_be_written_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(FOLDER, str(tmp_path / "file"))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main([*COMMAND, "--controllers", "bb1", "dai-yuan"]) == 0
    printed = capsys.readouterr()
    (warning,) = [line for line in printed.err.replace("\r", "\n").splitlines() if "warning" in line.lower()]
    assert warning.startswith("warning: results are not kept")
    assert FOLDER in warning
    assert "dai-yuan" in printed.out


def test_an_entry_is_written_whole_or_not_at_all(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(file: Any, **_: Any) -> None:
        file.write(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(cache.np, "savez", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Cache().recall("one", lambda: {"x": np.ones(3)})
    assert [file for file in folder.rglob("*") if file.is_file()] == []


def test_what_was_computed_before_an_interruption_is_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from metalearn_env.scoring import contenders

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        ran = contenders.rule_run
        patch.setattr(
            contenders, "rule_run", lambda tasks, name: interrupted() if name == "dai-yuan" else ran(tasks, name)
        )
        assert main([*COMMAND, "--controllers", "bb1", "dai-yuan"]) == 130
    assert (
        "interrupted; what was computed is kept" in capsys.readouterr().err.splitlines()[-1]
    )  # behind what bars leave
    assert {"rule bb1", "the limit"} <= entries(folder).keys()
    assert "rule dai-yuan" not in entries(folder)
    kept = {file: file.stat().st_mtime_ns for file in entries(folder).values()}
    assert main([*COMMAND, "--controllers", "bb1", "dai-yuan"]) == 0
    assert {file: file.stat().st_mtime_ns for file in kept} == kept
    assert "rule dai-yuan" in entries(folder)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_ctrl_c_ends_the_command_with_one_line(folder: Path) -> None:
    arguments = [sys.executable, "-m", "metalearn_env", "score", "--env", "MetaLearn/Clustering-v0"]
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # what runs in the background of a shell ignores it
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(arguments, **pipes, preexec_fn=heard)
    deadline = time.monotonic() + 60
    while not list(folder.rglob("*.npz")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert "Traceback" not in error
    assert error.strip().splitlines()[-1].startswith("interrupted")
    assert list(folder.rglob("*.npz"))
    assert not list(folder.rglob("*.part"))


def test_where_results_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FOLDER, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "metalearn_env"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_folder() == tmp_path / ".cache" / "metalearn_env"
    monkeypatch.setenv(FOLDER, str(tmp_path / "elsewhere"))
    assert default_folder() == Cache().folder == tmp_path / "elsewhere"


def test_without_a_home_the_folder_is_to_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv(FOLDER, raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nobody)
    with pytest.raises(ValueError, match=r"no home folder to keep results in: set \$METALEARN_ENV_CACHE"):
        default_folder()
