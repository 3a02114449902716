"""One policy of many."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("stable_baselines3")
pytest.importorskip("tyro")
pytest.importorskip("agents")

from agents import distil
from agents.locks import LOCK, held
from agents.runs import POLICY, RUN, read_scores
from agents.teachers import Teacher
from metalearn_env.driving import driven
from metalearn_env.engine import Engine
from metalearn_env.observations import NUM_STATIC, feature_names
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


def test_a_student_of_choices_takes_what_comes_next_to_its_teachers_steps(
    tmp_path: Path, teachers: tuple[str, str]
) -> None:
    """And chooses Ritz values where a teacher does; all decide as the student does."""
    policy = Policy.untrained(history=HISTORY, seed=0)
    names = feature_names(HISTORY, 2)
    weights = (np.zeros((4, len(names)), np.float32), np.zeros((11, 4), np.float32))
    says = {**policy.header, "ritz": 2, "action": "discrete", "feature_names": list(names)}
    says |= {
        "env": "MetaLearn/LinearRegression-v0",
        "env_kwargs": {**QUADRATICS, "dimension": 5},
        "command": "",
        "steps": 0,
    }
    biases = (np.zeros(4, np.float32), np.eye(11, dtype=np.float32)[8])
    Policy(tuple(zip(weights, biases, strict=True)), says).save(tmp_path / "ritz.safetensors")
    of_choices, out = (str(tmp_path / "ritz.safetensors"), teachers[1]), tmp_path / "run"
    asked = ("action:discrete", "ritz:2", "interval:3", "opening:4", "averaged:true", "resolution:0.0625")
    distil.main(distil.Args(of_choices, out, env_kwargs=asked, rounds=40, updates=20, **SMALL))
    student = load(out / POLICY)
    told = {"action": "discrete", "strategy": "dynamic", "interval": 3, "opening": 4, "averaged": True, "ritz": 2}
    told |= {"resolution": 0.0625}
    assert student.options == {"history": HISTORY, **told}
    tasks = TaskSet("MetaLearn/LinearRegression-v0", "test", 32, 0, {**QUADRATICS, "dimension": 5})
    engine = Engine.start(tasks.family, tasks.task, 8)
    asked_of: list[np.ndarray] = []

    def act(observations: np.ndarray) -> np.ndarray:
        asked_of.append(student(observations))
        return asked_of[-1]

    for _, step in zip(range(8), driven(act, student.header, engine), strict=False):
        engine.advance_only(~engine.ended, step)
    assert len(asked_of) == 6
    assert np.mean(np.concatenate(asked_of) == 8) > 0.95


@pytest.mark.parametrize(
    ("decades", "choice"),
    [(-2.0, 0), (-0.3, 0), (-0.2, 1), (-0.01, 3), (0.0, 3), (0.03, 4), (0.2, 5), (0.24, 6), (2.0, 6)],
)
@pytest.mark.parametrize("action", ["relative", "absolute"])
def test_of_a_step_size_the_factor_next_to_it_is_taken(
    tmp_path: Path, action: str, decades: float, choice: int
) -> None:
    level = 0.5 if action == "absolute" else 0.0
    said = (decades + level) / (3.0 if action == "absolute" else 2.0)
    file = teacher(tmp_path / "a.safetensors", "MetaLearn/LinearRegression-v0", QUADRATICS, action, said)
    seen = np.zeros((1, len(feature_names(HISTORY, 2))), np.float32)
    seen[:, feature_names(HISTORY).index("log10_step")] = level
    one = Teacher.named(file)
    assert one.lesson(seen, "discrete").tolist() == [choice]
    assert one.lesson(seen, "relative").ravel() == pytest.approx([decades / 2.0], abs=1e-6)


def test_a_teacher_is_shown_what_it_would_see(tmp_path: Path) -> None:
    policy = Policy.untrained(history=HISTORY, seed=0)
    says = {"env": "MetaLearn/LinearRegression-v0", "env_kwargs": QUADRATICS, "resolution": 0.5}
    replace(policy, header={**policy.header, **says}).save(tmp_path / "a.safetensors")
    one, seen = (
        Teacher.named(str(tmp_path / "a.safetensors")),
        np.full((1, len(feature_names(HISTORY))), 0.3, np.float32),
    )
    finer, coarser = seen.copy(), seen.copy()
    finer[:, NUM_STATIC:], coarser[:, NUM_STATIC:] = 0.4, 0.5
    assert one.lesson(finer, "relative") == one.lesson(coarser, "relative") == policy(coarser)
    assert one.lesson(finer, "relative") != policy(finer)
    assert finer[0, -1] == np.float32(0.4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("action:absolute",), "a student has relative or discrete actions, not 'absolute'"),
        (
            ("horizon:9",),
            "a student has the options action, interval, opening, averaged, ritz, resolution, not horizon",
        ),
        (("opening:3",), "opening is 0, not 3"),
        (("averaged:true",), "averaged is False, not True"),
        (("ritz:-1",), "ritz is a whole number >= 0, not -1"),
        (("resolution:0.1",), r"resolution is 0 or a power of two from 2\^-20 to 1, not 0.1"),
    ],
)
def test_a_student_that_cannot_be_is_refused(
    tmp_path: Path, teachers: tuple[str, str], options: tuple[str, ...], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        distil.main(distil.Args(teachers, tmp_path / "run", env_kwargs=options))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "options", [{"validation_tasks": 3}, {"learning_rate": -1.0}, {"seed": -1}, {"env": "MetaLearn/Nonsense-v0"}]
)
def test_what_cannot_be_done_leaves_no_trace(
    tmp_path: Path, teachers: tuple[str, str], options: dict[str, Any]
) -> None:
    with pytest.raises((ValueError, gym.error.Error), match=r"tasks is|learning_rate is|seed is|Nonsense"):
        distil.main(distil.Args(teachers, tmp_path / "run", **options))
    assert not (tmp_path / "run").exists()


def test_a_teacher_may_teach_on_other_tasks_than_those_it_was_trained_on(tmp_path: Path) -> None:
    file = teacher(tmp_path / "a.safetensors", "MetaLearn/LinearRegression-v0", QUADRATICS, "relative", -0.05)
    one = Teacher.named(f"MetaLearn/QLearning-v0 states:7 horizon:[3,9]={file}")
    assert (one.env, one.env_kwargs) == ("MetaLearn/QLearning-v0", {"states": 7, "horizon": [3, 9]})
    batches = one.batches(8, np.random.default_rng(0))
    assert {int(engine.horizon[0]) for _ in range(60) for engine in next(batches)} == set(range(3, 10))


def test_a_teacher_teaches_on_train_tasks_and_is_scored_on_validation_tasks(teachers: tuple[str, str]) -> None:
    known = [Teacher.named(file) for file in teachers]
    for one in known:
        assert {engine.family.split for engine in next(one.batches(8, np.random.default_rng(0)))} == {"train"}
    assert {tasks.split for tasks in distil.validation(known, 8)} == {"validation"}


def test_what_a_teacher_was_trained_on_is_what_it_teaches_on(tmp_path: Path) -> None:
    trained_on = {"env": "MetaLearn/QLearning-v0", "env_kwargs": TABLES}
    env, options = "MetaLearn/LinearRegression-v0", QUADRATICS
    one = Teacher.named(teacher(tmp_path / "a.safetensors", env, options, "relative", -0.05, trained_on=trained_on))
    assert (one.env, one.env_kwargs) == ("MetaLearn/QLearning-v0", TABLES)


def test_the_tasks_of_a_round_are_divided_among_families(tmp_path: Path) -> None:
    file = teacher(tmp_path / "a.safetensors", "MetaLearn/Mixture-v0", {"horizon": 4}, "relative", -0.05)
    batch = next(Teacher.named(file).batches(9, np.random.default_rng(0)))
    assert [len(engine.t) for engine in batch] == [3, 3, 3]


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ("MetaLearn/QLearning-v0 action:discrete", "has options of tasks, not action"),
        ("MetaLearn/QLearning-v0 states:-1", "states is a whole number >= 1"),
        ("MetaLearn/QLearning-v0 horizon:0", "horizon is a whole number >= 1"),
        ("MetaLearn/QLearning-v0 split:test", "split is not among env_kwargs"),
        (" ", "before = there is the id of an environment, not nothing"),
    ],
)
def test_lessons_that_cannot_be_are_refused(tmp_path: Path, teachers: tuple[str, str], told: str, words: str) -> None:
    with pytest.raises((ValueError, TypeError), match=words):
        distil.main(distil.Args((f"{told}={teachers[0]}",), tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_what_another_process_trains_is_left_alone(tmp_path: Path, teachers: tuple[str, str]) -> None:
    pytest.importorskip("fcntl")
    out = tmp_path / "run"
    with held(out), pytest.raises(ValueError, match="another process works in"):
        distil.main(distil.Args(teachers, out, rounds=2, updates=2, **SMALL))
    assert [path.name for path in out.iterdir()] == [LOCK]


def test_a_run_is_repeatable(tmp_path: Path, teachers: tuple[str, str]) -> None:
    for name in ("one", "two"):
        distil.main(distil.Args(teachers, tmp_path / name, rounds=2, updates=2, **SMALL))
    one, two = (load(tmp_path / name / POLICY) for name in ("one", "two"))
    for (weight, bias), (other, its) in zip(one.layers, two.layers, strict=True):
        np.testing.assert_array_equal(weight, other)
        np.testing.assert_array_equal(bias, its)


def test_of_equal_scores_the_latest_student_is_kept(
    tmp_path: Path, teachers: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter((1.0, 1.0, 0.5))
    monkeypatch.setattr(distil, "mean_score", lambda *_: next(scores))
    distil.main(distil.Args(teachers, tmp_path / "run", rounds=3, updates=1, **{**SMALL, "validate_every": 1}))
    assert load(tmp_path / "run" / POLICY).header["steps"] == 2


def test_teachers_lead_less_and_less(
    tmp_path: Path, teachers: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    led: list[float] = []
    play = distil.Lessons.play
    monkeypatch.setattr(distil.Lessons, "play", lambda *of, **told: (led.append(told["led"]), play(*of, **told))[1])
    distil.main(distil.Args(teachers, tmp_path / "run", rounds=4, updates=1, **SMALL))
    assert led == pytest.approx([1.0, 0.5, 0.0, -0.5])


def test_lessons_are_of_what_was_decided_before_the_end_in_any_of_the_last_rounds(tmp_path: Path) -> None:
    options, args = {"dimension": 2, "horizon": 30}, distil.Args((), tmp_path, tasks=8, memory=3)
    file = teacher(tmp_path / "a.safetensors", "MetaLearn/LinearRegression-v0", options, "relative", 1.0)
    diverges = load(file)
    lessons = distil.Lessons([Teacher.named(file)], args, diverges.header)
    for _ in range(5):
        lessons.play(diverges, led=1.0)
    (kept,) = lessons._kept
    assert len(kept) == 3
    assert max(len(decisions.actions) for decisions in kept) < 8 * 30
    flatness = feature_names(HISTORY).index("descriptor_3")  # of spectra, which no two tasks share
    drawn = np.concatenate([lessons.drawn(64)[0].numpy()[:, flatness] for _ in range(20)])
    assert min(np.isin(drawn, decisions.observations[:, flatness]).mean() for decisions in kept) > 0.1


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"action": "discrete"}, "a teacher has action relative or absolute, not 'discrete'"),
        ({"strategy": "constant"}, "a teacher has strategy dynamic, not 'constant'"),
        ({"interval": 2}, "a teacher has interval 1, not 2"),
        ({"ritz": 2}, "a teacher has ritz 0, not 2"),
    ],
)
def test_who_cannot_teach_is_refused(
    tmp_path: Path, teachers: tuple[str, str], header: dict[str, Any], words: str
) -> None:
    policy = load(teachers[0])
    outputs = 7 if header.get("action") == "discrete" else 1
    layers = (*policy.layers[:-1], (np.zeros((outputs, 16), np.float32), np.zeros(outputs, np.float32)))
    if ritz := header.get("ritz", 0):
        header = {**header, "feature_names": list(feature_names(HISTORY, ritz))}
        layers = ((np.zeros((16, len(header["feature_names"])), np.float32), layers[0][1]), *layers[1:])
    replace(policy, layers=layers, header={**policy.header, **header}).save(tmp_path / "c.safetensors")
    with pytest.raises(ValueError, match=words):
        distil.main(distil.Args((teachers[0], str(tmp_path / "c.safetensors")), tmp_path / "run"))
    with pytest.raises(ValueError, match="name at least one policy file"):
        distil.main(distil.Args((), tmp_path / "run"))
    with pytest.raises(ValueError, match="rounds is a whole number >= 1, not 0"):
        distil.main(distil.Args(teachers, tmp_path / "run", rounds=0))
    assert not (tmp_path / "run").exists()


def test_a_teacher_of_unknown_tasks_is_to_be_told_some(tmp_path: Path, teachers: tuple[str, str]) -> None:
    policy = load(teachers[0])
    header = {name: value for name, value in policy.header.items() if name not in ("env_kwargs", "trained_on")}
    replace(policy, header=header).save(tmp_path / "c.safetensors")
    with pytest.raises(ValueError, match=r"c\.safetensors does not say what it was trained on"):
        distil.main(distil.Args((str(tmp_path / "c.safetensors"),), tmp_path / "run"))
    assert not (tmp_path / "run").exists()
