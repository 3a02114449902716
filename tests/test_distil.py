"""One policy of many."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("stable_baselines3")
pytest.importorskip("tyro")
pytest.importorskip("agents")

from agents import distil
from agents.training import POLICY, RUN, read_scores
from metalearn_env.observations import feature_names
from metalearn_env.policy import Policy, load
from metalearn_env.scoring import TaskSet
from metalearn_env.scoring.table import run_policy

HISTORY = 1
QUADRATICS: dict[str, Any] = {"dimension": 4, "spectrum": "log-uniform", "horizon": 8}
TABLES: dict[str, Any] = {"states": 4, "actions": 2, "branching": 2, "horizon": [4, 8]}
SMALL: dict[str, Any] = {"tasks": 16, "batch": 256, "width": 16, "validation_tasks": 16, "validate_every": 20}


def teacher(path: Path, env: str, options: dict[str, Any], action: str, level: float, **header: Any) -> str:
    """Write a policy that always gives one action."""
    policy = Policy.untrained(history=HISTORY, seed=0)
    *hidden, (weight, _) = policy.layers
    layers = (*hidden, (0.0 * weight, np.full(1, level, np.float32)))
    says = {
        "env": env,
        "env_kwargs": {**options, "action": action},
        "action": action,
        "command": f"teach {path.stem}",
        "steps": 100,
        **header,
    }
    replace(policy, layers=layers, header={**policy.header, **says}).save(path)
    return str(path)


@pytest.fixture
def teachers(tmp_path: Path) -> tuple[str, str]:
    """One that makes steps shorter by a factor, and one that always takes a tenth of the unit."""
    return (
        teacher(tmp_path / "a.safetensors", "MetaLearn/LinearRegression-v0", QUADRATICS, "relative", -0.05),
        teacher(tmp_path / "b.safetensors", "MetaLearn/QLearning-v0", TABLES, "absolute", -1.0 / 3.0),
    )


def test_a_student_does_what_its_teachers_do(tmp_path: Path, teachers: tuple[str, str]) -> None:
    out = tmp_path / "run"
    distil.main(distil.Args(teachers, out, rounds=40, updates=20, **SMALL))
    student, sets = load(out / POLICY), [TaskSet("MetaLearn/LinearRegression-v0", "test", 32, 0, QUADRATICS)]
    sets.append(TaskSet("MetaLearn/QLearning-v0", "test", 32, 0, {**TABLES, "horizon": 8}))
    for file, tasks in zip(teachers, sets, strict=True):
        theirs, ours = (np.median(run_policy(one, tasks)) for one in (load(file), student))
        assert ours == pytest.approx(theirs, abs=0.15)
    header = student.header
    assert header["teachers"] == [["teach a", 100], ["teach b", 100]]
    assert header["validation_iqm"] == pytest.approx(max(score for _, score in read_scores(out)), abs=1e-4)
    assert np.array(header["observed"]).shape == (2, len(feature_names(HISTORY)))
    assert '"wall_seconds"' in (out / RUN).read_text()


def test_a_run_is_repeatable(tmp_path: Path, teachers: tuple[str, str]) -> None:
    for name in ("one", "two"):
        distil.main(distil.Args(teachers, tmp_path / name, rounds=2, updates=2, **SMALL))
    one, two = (load(tmp_path / name / POLICY) for name in ("one", "two"))
    for (weight, bias), (other, its) in zip(one.layers, two.layers, strict=True):
        np.testing.assert_array_equal(weight, other)
        np.testing.assert_array_equal(bias, its)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"action": "discrete"}, "a teacher has action relative or absolute, not 'discrete'"),
        ({"strategy": "constant"}, "a teacher has strategy dynamic, not 'constant'"),
        ({"interval": 2}, "a teacher has interval 1, not 2"),
    ],
)
def test_who_cannot_teach_is_refused(
    tmp_path: Path, teachers: tuple[str, str], header: dict[str, Any], words: str
) -> None:
    policy = load(teachers[0])
    outputs = 7 if header.get("action") == "discrete" else 1
    layers = (*policy.layers[:-1], (np.zeros((outputs, 16), np.float32), np.zeros(outputs, np.float32)))
    replace(policy, layers=layers, header={**policy.header, **header}).save(tmp_path / "c.safetensors")
    with pytest.raises(ValueError, match=words):
        distil.main(distil.Args((teachers[0], str(tmp_path / "c.safetensors")), tmp_path / "run"))
    with pytest.raises(ValueError, match="name at least one policy file"):
        distil.main(distil.Args((), tmp_path / "run"))
    with pytest.raises(ValueError, match="rounds is a whole number >= 1, not 0"):
        distil.main(distil.Args(teachers, tmp_path / "run", rounds=0))
    assert not (tmp_path / "run").exists()
