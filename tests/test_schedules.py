"""Controls that learn nothing from feedback: the inner loops in torch, training, and policy files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("stable_baselines3")
pytest.importorskip("tensorboard")
pytest.importorskip("tyro")
pytest.importorskip("agents")

import torch

import metalearn_env
from agents import schedules
from agents.feedback import FeedbackMap
from agents.inner_loops import final_log_gap
from agents.locks import LOCK, held
from agents.runs import POLICY, read_scores
from agents.slopes import Recorded, recorded, shortened, slopes
from agents.step_maps import PROGRESS, STATIC, StepMap
from agents.studies import Args, Study, largest_eigenvalue
from agents.worth import OfScores, of_gaps
from metalearn_env.actions import ActionMap
from metalearn_env.driving import driven
from metalearn_env.engine import Engine
from metalearn_env.families import FAMILIES, make_family
from metalearn_env.family import TaskFamily
from metalearn_env.observations import LEVELS, feature_names, groups
from metalearn_env.policy import load
from metalearn_env.pool import draw_tasks
from metalearn_env.rewards import log_gap
from metalearn_env.scoring import TaskSet
from metalearn_env.scoring.table import contender, run_policy, score

ENV = "MetaLearn/LinearRegression-v0"
TINY = {"spectrum": "log-uniform", "dimension": 2, "conditioning": 10, "horizon": 4}
TEXT = tuple(f"{name}:{value}" for name, value in TINY.items())
NAMES = list(feature_names(0))
SMALL: dict[str, Any] = {"steps": 20, "tasks": 16, "validate_every": 10, "validation_tasks": 16, "width": 8}
MAPS = [("open-loop", "dynamic"), ("static", "constant"), ("static", "dynamic"), ("static", "random")]
LOOPS: list[tuple[str, dict[str, Any]]] = [
    ("LinearRegression", {}),
    ("LinearRegression", {"batch_size": 3}),
    ("LinearRegression", {"spectrum": "gaussian"}),
    ("Tracking", {"dimension": [2, 4]}),
    ("Clustering", {}),
    ("Clustering", {"batch_size": None}),
    ("QLearning", {}),
    ("QLearning", {"actions": [2, 5]}),
    ("QLearning", {"mdp": "FrozenLake-v1"}),
    ("QLearning", {"sampling": "trajectory"}),
    ("QLearning", {"sampling": "trajectory", "mdp": "FrozenLake-v1"}),
]


def arguments(out: Path, **options: Any) -> Args:
    return Args(out=out, **{"env": ENV, "env_kwargs": TEXT, **SMALL, **options})


def started(name: str, options: dict[str, Any], n: int, horizon: int) -> Engine:
    family = make_family(name, **options)
    return Engine.start(family, draw_tasks(family, 0, n, horizon), horizon)


@pytest.mark.parametrize(("name", "options"), LOOPS)
@pytest.mark.parametrize("longest", [0.3, 3.0])
def test_a_loop_in_torch_is_the_engine(name: str, options: dict[str, Any], longest: float) -> None:
    """Steps of 10^-2 to 10^0.3 units leave the same loss; with those up to 10^3 many diverge, and stop there."""
    engine, start = started(name, options, 16, 20), started(name, options, 16, 20)
    steps = engine.unit * 10.0 ** np.random.default_rng(0).uniform(-2.0, longest, (20, 16))
    gap = final_log_gap(start, torch.from_numpy(steps)).exp().numpy()
    for step in steps:
        engine.advance_only(~engine.ended, step)
    np.testing.assert_array_equal(log_gap(engine) > np.log(9e5), gap > 9e5)
    loss, ours = (engine.reference + ratio * engine.initial_gap for ratio in (np.exp(log_gap(engine)), gap))
    np.testing.assert_allclose(ours, loss, rtol=1e-9)


@pytest.mark.parametrize(("name", "options"), [LOOPS[0], LOOPS[1], LOOPS[2], LOOPS[5]])
def test_the_gradient_is_that_of_the_engine(name: str, options: dict[str, Any]) -> None:
    start = started(name, options, 4, 6)
    logs = torch.tensor(np.random.default_rng(0).uniform(-2.0, -1.0, (6, 4)), requires_grad=True)
    unit = torch.from_numpy(start.unit)
    assert torch.autograd.gradcheck(lambda x: final_log_gap(start, unit * x.exp()), (logs,), rtol=1e-4)


def test_diverged_learners_are_told_to_shorten_their_steps() -> None:
    start = started("LinearRegression", {"dimension": 8}, 4, 20)
    multiple = torch.tensor(500.0, dtype=torch.float64, requires_grad=True)
    gaps = final_log_gap(start, multiple * torch.from_numpy(start.unit).repeat(20, 1))
    np.testing.assert_allclose(gaps.detach().numpy(), np.log(1e6))
    gaps.mean().backward()
    assert multiple.grad > 0.0


def test_the_largest_eigenvalue() -> None:
    for options in ({"spectrum": "gaussian"}, {"spectrum": "log-uniform"}):
        task = started("LinearRegression", options, 5, 4).task
        for row, found in enumerate(largest_eigenvalue(task)):
            factor = np.diag(task.diagonal[row]) + np.diag(task.superdiagonal[row], 1)
            assert found == pytest.approx(np.linalg.norm(factor, 2) ** 2)


def test_a_table_is_held_exactly_by_a_policy() -> None:
    step_map = StepMap(7, table=True, log_multiple=0.3, scatter=1.0)
    policy = step_map.policy({"feature_names": feature_names(2), "action": "absolute", "strategy": "dynamic"})
    observations = np.random.default_rng(0).normal(size=(7, len(feature_names(2)))).astype(np.float32)
    observations[:, PROGRESS] = np.arange(7) / 7
    assert step_map.table is not None
    multiples = (step_map.table + 0.3).detach().exp().numpy()
    np.testing.assert_allclose(1000.0 ** policy(observations)[:, 0], multiples, rtol=1e-12)


@pytest.fixture(scope="module", params=MAPS, ids="-".join)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Args:
    kind, strategy = request.param
    args = arguments(tmp_path_factory.mktemp("runs") / "run", kind=kind, strategy=strategy)
    schedules.main(args)
    return args


def test_a_run_leaves_a_policy(run: Args) -> None:
    header = load(run.out / POLICY).header
    assert (header["env"], header["env_kwargs"], header["seed"]) == (ENV, TINY, 0)
    assert (header["action"], header["strategy"], header["history"]) == ("absolute", run.strategy, 5)
    assert header["feature_names"] == list(feature_names(5))
    assert {"numpy", "torch", "metalearn_env"} <= header["versions"].keys()
    scores = dict(read_scores(run.out))
    assert list(scores) == [0, 10, 20]
    assert header["validation_iqm"] == pytest.approx(max(scores.values()), abs=1e-4)
    assert scores[header["steps"]] == max(scores.values())
    row = score(TaskSet(ENV, "validation", 16, 0, TINY), [contender(str(run.out / POLICY))])["rows"][0]
    assert row["iqm"] == pytest.approx(header["validation_iqm"], abs=1e-4)
    assert json.loads((run.out / "run.json").read_text())["kind"] == run.kind


def test_the_file_does_what_the_map_does(run: Args, tmp_path: Path) -> None:
    """Torch, the family run by the map, and the table's own way to run a file, to 1e-6 in the log gap."""
    study = Study(run)
    step_map, _, _ = schedules.trained(study, show_progress=False)
    tasks = TaskSet(ENV, "test", 32, 0, TINY)
    noise = np.random.default_rng(0).random((4, 32))
    in_torch = study.gaps(step_map, Engine.start(tasks.family, tasks.task, 4), noise).detach().numpy()
    np.testing.assert_allclose(study.reach(step_map, tasks), in_torch, atol=1e-6)
    np.testing.assert_allclose(run_policy(load(run.out / POLICY), tasks), in_torch, atol=1e-6)


def test_feedback_changes_nothing(run: Args) -> None:
    """Neither history nor, where it is not read, progress; an open-loop schedule does not read the task, either."""
    policy, rng = load(run.out / POLICY), np.random.default_rng(0)
    observations = rng.normal(size=(8, len(feature_names(5)))).astype(np.float32)
    observations[:, PROGRESS] = rng.random(8)
    others = observations.copy()
    history = groups(5)["history"]
    others[:, history] = rng.normal(size=others[:, history].shape)
    if run.strategy != "dynamic":
        others[:, PROGRESS] = rng.random(8)
    if run.kind == "open-loop":
        others[:, STATIC] = rng.normal(size=(8, len(STATIC)))
    np.testing.assert_array_equal(policy(observations), policy(others))
    assert policy(observations).shape == (8, ActionMap(1, "absolute", run.strategy).size)


def test_a_schedule_beats_the_best_tuned_constant(tmp_path: Path) -> None:
    """Twelve steps on Gaussian designs, from held-out tasks: the whole interval is clear of that of the constant."""
    gaussian = {"spectrum": "gaussian", "dimension": 16, "horizon": 12}
    options = tuple(f"{name}:{value}" for name, value in gaussian.items())
    settings = {"steps": 300, "tasks": 64, "validation_tasks": 64, "validate_every": 100}
    args = arguments(tmp_path / "run", env_kwargs=options, **settings)
    schedules.main(args)
    tasks = TaskSet(ENV, "test", 128, 1, gaussian)
    names = ("tuned-constant", str(args.out / POLICY))
    constant, trained = score(tasks, [contender(name) for name in names])["rows"]
    assert trained["low"] > constant["high"] + 0.1
    assert trained["diverged"] < 0.1


def test_the_same_seed_trains_the_same_map(tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        schedules.main(arguments(tmp_path / name, seed=seed))
    one, two, three = (read_scores(tmp_path / name) for name in ("one", "two", "three"))
    assert one == two != three


def test_of_equal_scores_the_latest_map_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter((0.0, 1.0, 1.0, 0.5))
    monkeypatch.setattr(Study, "score", lambda *_: next(scores))
    schedules.main(arguments(tmp_path / "run", steps=3, validate_every=1))
    assert load(tmp_path / "run" / POLICY).header["steps"] == 2


@pytest.mark.parametrize("env", ["MetaLearn/Clustering-v0", "MetaLearn/QLearning-v0", "MetaLearn/Mixture-v0"])
def test_other_families_and_several(tmp_path: Path, env: str) -> None:
    options = ("horizon:[3,6]", "history:0")
    args = arguments(tmp_path / "run", kind="static", env=env, env_kwargs=options, steps=4, validate_every=2)
    schedules.main(args)
    header = load(args.out / POLICY).header
    assert (header["horizon"], header["history"], header["env"]) == (6, 0, env)


def test_one_over_the_largest_eigenvalue_is_scored_not_exported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    schedules.main(arguments(tmp_path / "run", unit="1/L", test_tasks=16))
    assert "test tasks: " in capsys.readouterr().out
    assert not (tmp_path / "run" / POLICY).exists()


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"kind": "closed-loop"}, ValueError, "closed-loop"),
        ({"kind": "static", "strategy": "sometimes"}, ValueError, "sometimes"),
        ({"strategy": "constant"}, ValueError, "dynamic, not constant"),
        ({"unit": "metre"}, ValueError, "metre"),
        ({"unit": "1/L", "kind": "static"}, ValueError, "1/L"),
        ({"unit": "1/L", "env": "MetaLearn/Clustering-v0", "env_kwargs": ()}, ValueError, "1/L"),
        ({"env_kwargs": ("action:relative",)}, ValueError, "relative"),
        ({"env_kwargs": ("bogus:1",)}, TypeError, "bogus"),
        ({"env": "MetaLearn/NoSuch-v0"}, Exception, "NoSuch"),
        ({"steps": 0}, ValueError, "steps"),
        ({"validation_tasks": 3}, ValueError, "tasks"),
    ],
)
def test_what_cannot_be_leaves_no_trace(tmp_path: Path, options: dict[str, Any], error: type, named: str) -> None:
    with pytest.raises(error, match=named):
        schedules.main(arguments(tmp_path / "run", **options))
    assert not (tmp_path / "run").exists()


class Plain(TaskFamily[Any]):
    """A family that is nothing but that."""

    kind, descriptor_names = "supervised", ()
    num_parameters = 1
    sample = start = loss = direction = descriptor = reference_loss = TaskFamily.complete


def test_a_family_without_a_loop_is_refused(tmp_path: Path) -> None:
    env = metalearn_env.register_family("Plain", f"{__name__}:Plain")
    try:
        with pytest.raises(ValueError, match="Plain has no inner loop in torch; these have: LinearRegression, Clust"):
            schedules.main(arguments(tmp_path / "run", env=env, env_kwargs=()))
    finally:
        gym.registry.pop(env)
        FAMILIES.pop("Plain")
    assert not (tmp_path / "run").exists()


def test_what_another_process_trains_is_left_alone(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    with held(tmp_path), pytest.raises(ValueError, match="another process works in"):
        schedules.main(arguments(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]


def test_a_run_is_not_overwritten(run: Args) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.out.rglob("*")}
    with pytest.raises(ValueError, match="holds a run already"):
        schedules.main(run)
    assert {path: path.stat().st_mtime_ns for path in run.out.rglob("*")} == before


@pytest.mark.parametrize("action", ["relative", "absolute"])
@pytest.mark.parametrize(("name", "options"), LOOPS)
def test_feedback_in_torch_is_the_environment(name: str, options: dict[str, Any], action: str) -> None:
    """A map of scattered weights leaves what its policy leaves, step by step, where inner runs are not chaotic."""
    start = started(name, options, 16, 8)
    step_map = FeedbackMap(3, action=action, width=8, seed=1)
    step_map.biases[-1].data[:] = -0.1
    tasks = TaskSet(f"MetaLearn/{name}-v0", "train", 16, 0, {**options, "horizon": 8, "history": 3})
    header = {"action": action, "strategy": "dynamic", "history": 3, "feature_names": list(feature_names(3))}
    reached = run_policy(step_map.policy(header), tasks)
    in_torch = step_map.gaps(Engine.start(tasks.family, tasks.task, 8)).detach().numpy()
    np.testing.assert_allclose(in_torch, reached, atol=1e-5)
    assert len(start.t) == len(reached)


def test_the_gradient_of_feedback_is_a_finite_difference() -> None:
    start, step_map = started("LinearRegression", {"batch_size": 3, "dimension": 4}, 6, 5), FeedbackMap(2, width=4)
    bias = step_map.biases[-1]

    def gap(value: float) -> torch.Tensor:
        bias.data[:] = value
        return step_map.gaps(start).mean()

    gap(-0.2).backward()
    assert bias.grad is not None
    with torch.no_grad():
        difference = (gap(-0.2 + 1e-6) - gap(-0.2 - 1e-6)) / 2e-6
    assert float(bias.grad) == pytest.approx(float(difference), rel=1e-4)


@pytest.mark.parametrize(("name", "options"), LOOPS)
def test_slopes_are_finite_differences(name: str, options: dict[str, Any]) -> None:
    steps = np.full((6, 5), 0.3)

    def run(steps: np.ndarray) -> tuple[Engine, Recorded]:
        engine = started(name, options, 5, 6)
        steps, iterates = steps * engine.unit, [engine.theta.copy()]
        for step in steps:
            engine.advance(step)
            iterates.append(engine.theta.copy())
        return engine, Recorded(np.zeros(0), np.arange(6), steps, iterates, log_gap(engine))

    found = slopes(*run(steps))
    for t in range(6):
        factor = np.ones((6, 1))
        factor[t] = np.exp(1e-6)
        difference = (run(steps * factor)[1].log_gap - run(steps / factor)[1].log_gap) / 2e-6
        np.testing.assert_allclose(found[t], difference, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("averaged", [False, True])
def test_what_is_followed_is_what_a_policy_with_an_interval_observes_and_does(averaged: bool) -> None:
    decides = {"interval": 3, "opening": 2, "averaged": averaged, "resolution": 0.125}
    start = started("LinearRegression", {"batch_size": 3, "dimension": 4}, 6, 8)
    twin = started("LinearRegression", {"batch_size": 3, "dimension": 4}, 6, 8)
    step_map, seen = FeedbackMap(2, width=4, seed=1, decides=decides), []
    policy = step_map.policy(step_map.interface())

    def act(observations: np.ndarray) -> np.ndarray:
        seen.append(observations)
        return policy(observations)

    run, taken = recorded(policy, policy.header, start), []
    diverged = Engine.start(start.family, start.task, 8, np.array([1e4, *np.ones(7)])[: len(start.t)])
    assert len(recorded(policy, policy.header, diverged).observations) == len(run.decisions)
    for _, step in zip(range(8), driven(act, policy.header, twin), strict=False):
        taken.append(step)
        twin.advance(step)
    assert run.decisions.tolist() == [0, 1, 2, 5]
    np.testing.assert_allclose(run.observations, seen, rtol=1e-6)
    np.testing.assert_allclose(run.step_size, taken, rtol=1e-6)
    np.testing.assert_allclose(run.iterates[-1], twin.theta, rtol=1e-6)


@pytest.mark.parametrize("action", ["relative", "absolute"])
def test_what_is_followed_moves_all_the_steps_that_are_held(action: str) -> None:
    """The slope of the bias is a finite difference, where steps change nothing that is observed."""

    def of(bias: float, *, differs: bool = False) -> float:
        start = started("LinearRegression", {"dimension": 4}, 6, 7)
        step_map = FeedbackMap(0, action=action, width=4, decides={"interval": 3, "opening": 2})
        step_map.weights[0].data[:, [NAMES.index(level) for level in LEVELS]] = 0.0
        step_map.biases[-1].data[:] = bias
        value = step_map.followed(start, of_gaps(1.0)).mean()
        return float(step_map.biases[-1].grad) if differs else float(value)

    difference = (of(-0.2 + 1e-4) - of(-0.2 - 1e-4)) / 2e-4
    assert of(-0.2, differs=True) == pytest.approx(difference, rel=1e-3)


@pytest.mark.parametrize("action", ["relative", "absolute"])
def test_what_is_followed_is_the_gradient_with_observations_given(action: str) -> None:
    """Without a history, and with the levels masked, steps change nothing that is observed."""
    found = []
    for through in ("all", "steps"):
        start, step_map = started("LinearRegression", {"dimension": 4}, 6, 5), FeedbackMap(0, action=action, width=4)
        step_map.weights[0].data[:, [NAMES.index(level) for level in LEVELS]] = 0.0
        step_map.biases[-1].data[:] = -0.2
        if through == "all":
            step_map.gaps(start).mean().backward()
        else:
            step_map.followed(start, of_gaps(1.0))
        found.append([parameter.grad for parameter in step_map.parameters()])
    for one, other in zip(*found, strict=True):
        mask = torch.ones_like(one)
        if one.shape == (4, len(NAMES)):
            mask[:, [NAMES.index(level) for level in LEVELS]] = 0.0  # whose weights do not matter to the step
        torch.testing.assert_close(one * mask, other * mask, rtol=1e-4, atol=1e-7)


def test_slopes_of_one_task_do_not_drown_the_others() -> None:
    found = np.ones((4, 5))
    found[:, 0] = 1e9
    assert np.abs(shortened(found)[:, 0]).max() == pytest.approx(3.0)
    np.testing.assert_array_equal(shortened(found)[:, 1:], 1.0)


def test_slopes_of_a_task_that_are_not_finite_are_none() -> None:
    start, step_map = started("LinearRegression", {"dimension": 2}, 3, 4), FeedbackMap(1, width=4)
    policy = step_map.policy(step_map.interface())
    run = recorded(policy, policy.header, start)
    run.iterates[1][0] = np.nan  # in the midst
    found = slopes(start, run)
    assert (found[:, 0] == 0.0).all()
    assert found[:, 1:].all()


def test_the_worth_of_scores_falls_with_them() -> None:
    log_gap, spans = np.linspace(-9.0, 9.0, 400), np.full(400, 2.0)
    value, slope = OfScores(np.full(400, -3.0), -3.0 - spans)(log_gap)
    np.testing.assert_allclose(np.diff(value) / np.diff(log_gap), 0.5 * (slope[1:] + slope[:-1]), atol=0.11)
    assert (slope > 0.0).all()
    np.testing.assert_allclose(value[log_gap < -1.0], (log_gap[log_gap < -1.0] + 3.0) / 2.0)  # -S
    assert slope[-1] < slope[0]


@pytest.mark.parametrize("objective", ["gap", "score"])
def test_feedback_is_trained_through_steps(tmp_path: Path, objective: str) -> None:
    kwargs = ("states:4", "branching:2", "actions:2", "noise:3", "action:absolute", "horizon:[8,16]")
    options: dict[str, Any] = {"env": "MetaLearn/QLearning-v0", "env_kwargs": kwargs, "pool": 32, "steps": 30}
    args = arguments(tmp_path, kind="feedback", through="steps", objective=objective, **options)
    schedules.main(args)
    scores = dict(read_scores(args.out))
    header = load(args.out / POLICY).header
    assert max(scores.values()) > scores[0]
    assert header["validation_iqm"] == pytest.approx(max(scores.values()), abs=1e-4)
    assert (header["action"], header["horizon"], header["hyperparameters"]["objective"]) == ("absolute", 16, objective)


def test_feedback_is_trained_on_train_tasks_alone(tmp_path: Path) -> None:
    study = Study(arguments(tmp_path, kind="feedback", through="steps", pool=8))
    assert {engine.family.split for engine in next(study.batches())} == {"train"}
    scored = Study(replace(study.args, objective="score"))
    assert {engine.family.split for engine, _ in next(scored.batches_to_follow())} == {"train"}


def test_feedback_is_trained_on_from_a_policy(tmp_path: Path) -> None:
    first = arguments(tmp_path / "first", kind="feedback")
    schedules.main(first)
    then = arguments(tmp_path / "then", kind="feedback", init=first.out / POLICY, learning_rate=1e-3)
    schedules.main(then)
    one, two = load(first.out / POLICY).header, load(then.out / POLICY).header
    assert dict(read_scores(then.out))[0] == pytest.approx(one["validation_iqm"], abs=1e-4)
    assert two["validation_iqm"] >= one["validation_iqm"]
    assert two["action"] == "relative"
    assert two["begun_from"] == one["command"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "open-loop", "init": True}, "only feedback is trained on"),
        ({"kind": "feedback", "strategy": "random"}, "feedback is dynamic"),
        ({"kind": "feedback", "init": True, "env_kwargs": (*TEXT, "history:2")}, "history=2, not 5"),
        ({"kind": "feedback", "init": True, "env_kwargs": (*TEXT, "action:absolute")}, "'absolute', not 'relative'"),
        ({"kind": "feedback", "env_kwargs": (*TEXT, "interval:2")}, "map has interval=1, not 2"),
        ({"kind": "feedback", "env_kwargs": (*TEXT, "resolution:0.5")}, "map has resolution=0.0, not 0.5"),
        ({"kind": "feedback", "through": "steps", "init": True, "env_kwargs": (*TEXT, "interval:2")}, "2, not 1"),
        ({"kind": "feedback", "env_kwargs": (*TEXT, "action:discrete")}, "relative or absolute, not 'discrete'"),
        ({"kind": "feedback", "through": "nothing"}, "through is one of all, steps"),
        ({"kind": "static", "through": "steps"}, "not through all, not static"),
        ({"kind": "feedback", "objective": "score"}, "for feedback through steps or evolution, not all"),
        ({"kind": "feedback", "through": "steps", "objective": "fame"}, "objective is one of gap, score"),
    ],
)
def test_what_feedback_cannot_be_is_refused(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    if options.get("init"):
        step_map = FeedbackMap(5, width=4)
        header = {"action": "relative", "strategy": "dynamic", "history": 5, "feature_names": list(feature_names(5))}
        step_map.policy(header).save(tmp_path / "p.safetensors")
        options = {**options, "init": tmp_path / "p.safetensors"}
    with pytest.raises(ValueError, match=words):
        schedules.main(arguments(tmp_path / "run", **options))
    assert not (tmp_path / "run").exists()
