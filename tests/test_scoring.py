"""Scores, their intervals, and the command line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, final

import gymnasium as gym
import numpy as np
import pytest

from metalearn_env import TaskFamily, families, register_family
from metalearn_env.__main__ import main
from metalearn_env.engine import Engine
from metalearn_env.families import make_family
from metalearn_env.family import Array
from metalearn_env.policy import Policy
from metalearn_env.pool import draw_tasks
from metalearn_env.rewards import log_gap
from metalearn_env.rules import RULES, Charged, rule, rules_of
from metalearn_env.rules.schedules import SHAPES, schedule, shape
from metalearn_env.scoring import GRID, TaskSet, best_constant, final_log_gap, recorded, rollout, score_row, task_sets
from metalearn_env.scoring.controls import CONTROLS, best_first_step, random_actions, random_steps, tuned
from metalearn_env.scoring.statistics import bootstrap_interval, interquartile_mean
from metalearn_env.scoring.table import contender, known_controllers, policies, score

ENV = "MetaLearn/LinearRegression-v0"
OPTIONS = {"spectrum": "log-uniform", "dimension": 16, "conditioning": [10, 1000], "horizon": 20}
SMALL = ["--env-kwargs", "spectrum:log-uniform", "dimension:[4,8]", "conditioning:30", "horizon:8", "--tasks", "16"]


def run(task_set: TaskSet, name: str) -> Array:
    (only,) = contender(name).runs(task_set)
    return only.log_gap[-1]


@pytest.fixture(scope="module")
def task_set() -> TaskSet:
    return TaskSet(ENV, tasks=48, env_kwargs=OPTIONS)


# The scale


def test_the_best_constant_step_scores_nothing(task_set: TaskSet) -> None:
    """Replayed as a schedule it leaves the gap it claims, and no constant step of a finer grid is better."""
    multiple, claimed = task_set.oracle
    family, task, horizon = task_set.family, task_set.task, task_set.horizon
    replayed = final_log_gap(family, task, horizon, schedule(np.tile(multiple, (horizon, 1))))
    assert task_set.scores(replayed) == pytest.approx(0.0, abs=1e-9)
    assert replayed == pytest.approx(claimed, abs=1e-9)
    for finer in np.logspace(-3, 2, 301):
        reached = final_log_gap(family, task, horizon, schedule(np.full(horizon, finer)))
        assert (reached >= claimed - 2e-3).all()


def test_the_limit_scores_one(task_set: TaskSet) -> None:
    assert task_set.scores(run(task_set, "limit")) == pytest.approx(1.0)
    inside = [name for name in rules_of(task_set.family) if not RULES[name].outside]
    reached = task_set.scores(np.stack([run(task_set, name) for name in inside]))
    assert (reached <= 1.0 + 1e-6).all()


def test_the_order_of_the_controllers(task_set: TaskSet) -> None:
    names = ["do-nothing", "tuned-constant", "oracle-constant", "exact-line-search", "bb1", "limit"]
    iqm = [float(interquartile_mean(task_set.scores(run(task_set, name)))) for name in names]
    assert iqm == sorted(iqm)
    nothing, constant, oracle, line_search, bb1, limit = iqm
    assert nothing < constant < oracle == 0.0 < line_search <= bb1 < limit


def test_doing_nothing_leaves_the_gap(task_set: TaskSet) -> None:
    assert run(task_set, "do-nothing") == pytest.approx(0.0)


def test_scores_do_not_depend_on_the_order_of_controllers(task_set: TaskSet) -> None:
    before = run(task_set, "bb1")
    run(task_set, "random-actions")
    assert np.array_equal(run(task_set, "bb1"), before)
    assert np.array_equal(run(TaskSet(ENV, tasks=48, env_kwargs=OPTIONS), "bb1"), before)


def test_tasks_depend_on_split_and_seed() -> None:
    sets = [TaskSet(ENV, split, 8, seed, OPTIONS) for split in ("train", "validation", "test") for seed in (0, 1)]
    assert len({tuple(one.family.reference_loss(one.task)) for one in sets}) == 6


def test_the_tuned_step_is_best_on_validation_tasks_and_sees_no_others(task_set: TaskSet) -> None:
    name, first, rule_found = tuned(task_set, ["constant"])
    other = tuned(TaskSet(ENV, tasks=8, seed=9, env_kwargs=OPTIONS), ["constant"])
    assert (name, first) == other[:2] == ("constant", first)
    validation = TaskSet(ENV, "validation", 256, 0, OPTIONS)

    def iqm(multiple: float) -> float:
        reached = final_log_gap(validation.family, validation.task, 20, schedule(np.full(20, multiple)))
        return float(interquartile_mean(validation.scores(reached)))

    assert iqm(first) >= max(iqm(first * factor) for factor in (0.5, 0.75, 1.34, 2.0))
    engine = Engine.start(task_set.family, task_set.task, 20)
    assert np.array_equal(next(rule_found(engine)), first * engine.unit)


@pytest.mark.parametrize("name", ["constant", "linear"])
@pytest.mark.parametrize("family", families.FAMILIES)
def test_a_thinned_grid_finds_what_the_whole_one_does(family: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The interquartile mean has one maximum over the first step, so tuning is no weaker for trying fewer of them.

    It has so on 32 tasks, too, where it is less smooth than on the 256 that tuning takes.
    """
    monkeypatch.setattr("metalearn_env.scoring.tasks.TUNING_TASKS", 32)
    task_set = TaskSet(f"MetaLearn/{family}-v0", env_kwargs={"horizon": 10})

    def iqm(first: float) -> float:
        rule_tried = schedule(first * shape(name, 10))
        reached = [final_log_gap(tasks.family, tasks.task, 10, rule_tried) for tasks in task_set.tuning]
        return float(interquartile_mean(np.concatenate(list(map(TaskSet.scores, task_set.tuning, reached)))))

    assert best_first_step(task_set, name) == max((iqm(float(first)), float(first)) for first in GRID[8:57])


def test_steps_are_not_tuned_on_tasks_that_say_nothing() -> None:
    options = {"dimension": 1, "horizon": 8, "noise": 0, "ood": "dimension"}
    (tasks,) = task_sets(ENV, "ood", 16, 0, options)
    assert tasks.counted.sum() >= 8
    with pytest.raises(ValueError, match="0 of 256 tasks"):
        CONTROLS["tuned-constant"].runs(tasks)


def test_of_several_shapes_the_best_is_tuned(task_set: TaskSet, monkeypatch: pytest.MonkeyPatch) -> None:
    reached = {"linear": (0.1, 2.0), "cosine": (0.3, 0.5), "inverse": (0.2, 3.0)}
    monkeypatch.setattr("metalearn_env.scoring.controls.best_first_step", lambda _, name: reached[name])
    assert tuned(task_set, [*reached])[:2] == ("cosine", 0.5)


def test_tuning_tasks_are_drawn_once_and_none_is_of_the_test_split(task_set: TaskSet) -> None:
    assert task_set.tuning is task_set.tuning
    assert [(tasks.split, tasks.tasks) for tasks in task_set.tuning] == [("train", 256), ("validation", 256)]
    assert all(tasks.env_kwargs == task_set.env_kwargs for tasks in task_set.tuning)
    other = TaskSet(ENV, tasks=8, seed=9, env_kwargs=OPTIONS)  # tuned on the same tasks, whatever is scored
    assert [tasks.seed for tasks in (*task_set.tuning, *other.tuning)] == [0, 0, 0, 0]


@pytest.mark.parametrize("name", families.FAMILIES)
def test_a_run_that_is_cut_short_ends_as_the_whole_one(name: str) -> None:
    """Where all learners have diverged, nothing changes any more."""
    task_set = TaskSet(f"MetaLearn/{name}-v0", tasks=8)
    family, task = task_set.family, task_set.task
    for multiple in (1.0, 30.0, 1e3):
        *_, engine = rollout(family, task, 50, schedule(np.full(50, multiple)))
        assert np.array_equal(final_log_gap(family, task, 50, schedule(np.full(50, multiple))), log_gap(engine))


@pytest.mark.parametrize("name", SHAPES)
def test_schedules_start_at_one_and_do_not_grow(name: str) -> None:
    steps = shape(name, 17)
    assert steps.shape == (17,)
    assert steps[0] == 1.0
    assert (np.diff(steps) <= 0.0).all()
    assert (steps > 0.0).all()


ENDS = {
    "constant": 1.0,
    "inverse": 0.0,
    "inverse, slow": 1.0 / 11.0,
    "square root": 0.0,
    "linear": 0.0,
    "cosine": 0.0,
    "exponential, to 1/10": 0.1,
    "exponential, to 1/100": 0.01,
}


@pytest.mark.parametrize("name", SHAPES)
def test_long_schedules_end_where_they_say(name: str) -> None:
    assert shape(name, 1_000_000)[-1] == pytest.approx(ENDS[name], abs=0.002)


def test_random_steps_are_between_0_and_the_unit(task_set: TaskSet) -> None:
    engine = Engine.start(task_set.family, task_set.task, 20)
    steps = [step / engine.unit for _, step in zip(range(400), random_steps(engine), strict=False)]
    assert np.quantile(steps, [0.0, 0.5, 1.0]) == pytest.approx([0.0, 0.5, 1.0], abs=0.01)


def test_random_actions_are_of_the_whole_box(task_set: TaskSet) -> None:
    engine = Engine.start(task_set.family, task_set.task, 20)
    first = np.log(next(random_actions(engine)) / engine.unit) / np.log(100.0)
    assert np.quantile(first, [0.0, 1.0]) == pytest.approx([-1.0, 1.0], abs=0.2)


def test_learners_that_diverged_stay_where_they_are(task_set: TaskSet) -> None:
    huge = schedule(np.full(20, 1e4))
    losses = [engine.loss.copy() for engine in rollout(task_set.family, task_set.task, 20, huge)]
    assert len(losses) == 21
    ended = [bool(np.array_equal(losses[-1], loss)) for loss in losses]
    assert ended.index(True) < 10
    row = score_row("huge", "control", [task_set], [final_log_gap(task_set.family, task_set.task, 20, huge)[None]])
    assert row.diverged == 1.0


# Rules against plain loops


def test_bb1_is_barzilai_and_borwein(task_set: TaskSet) -> None:
    task = task_set.task
    engines = rollout(task_set.family, task, 20, rule("bb1"))
    thetas = np.array([engine.theta[0].copy() for engine in engines])
    hessian, optimum = np.diag(task.diagonal[0] ** 2), task.optimum[0]
    theta = np.zeros_like(optimum)
    g = hessian @ (theta - optimum)
    f = 0.5 * (theta - optimum) @ g + task.minimum[0]
    step = f / (g @ g)
    for t in range(20):
        assert thetas[t] == pytest.approx(theta, abs=1e-6)
        after = theta - step * g
        g_after = hessian @ (after - optimum)
        s, y = after - theta, g_after - g
        theta, g, step = after, g_after, (s @ s) / (s @ y)


def test_dai_yuan_is_two_cauchy_then_two_yuan_steps(task_set: TaskSet) -> None:
    task = task_set.task
    hessian, optimum, theta = np.diag(task.diagonal[0] ** 2), task.optimum[0], np.zeros(16)
    taken = [
        (engine.step_size[0], engine.gap_ratio[0]) for engine in rollout(task_set.family, task, 12, rule("dai-yuan"))
    ]
    cauchy_before, moved = 1.0, 1.0
    for t in range(12):
        g = hessian @ (theta - optimum)
        cauchy = (g @ g) / (g @ hessian @ g)
        a, b = 1 / cauchy_before, 1 / cauchy
        step = cauchy if t % 4 < 2 else 2 / (np.sqrt((a - b) ** 2 + 4 * (g @ g) / moved) + a + b)
        assert taken[t + 1][0] == pytest.approx(step, rel=1e-6)
        theta, cauchy_before, moved = theta - step * g, cauchy, step**2 * (g @ g)


# Statistics


@pytest.mark.parametrize("size", [4, 8, 100, 2000])
def test_the_interquartile_mean_is_a_trimmed_mean(size: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    scores = np.random.default_rng(size).standard_cauchy((3, size))
    assert interquartile_mean(scores) == pytest.approx(stats.trim_mean(scores, 0.25, axis=-1))


def test_the_interval_covers() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(100):
        low, high = bootstrap_interval(rng.standard_normal((1, 40)))
        assert low < high
        covered += low <= 0.0 <= high
    assert 88 <= covered <= 99


def test_the_interval_knows_of_runs() -> None:
    """Training seeds that differ make it wider than tasks alone do."""
    rng = np.random.default_rng(0)
    tasks, runs = rng.standard_normal((1, 200)), 2.0 * rng.standard_normal((5, 1))
    low, high = bootstrap_interval(np.repeat(tasks, 5, axis=0))
    wide_low, wide_high = bootstrap_interval(tasks + runs)
    assert wide_high - wide_low > 3 * (high - low)


def test_the_interval_is_deterministic() -> None:
    scores = np.random.default_rng(0).standard_normal((3, 40))
    assert bootstrap_interval(scores) == bootstrap_interval(scores.copy())


def test_the_interval_is_of_95_percent_unless_another_level_is_told() -> None:
    scores = np.random.default_rng(0).standard_normal((3, 40))
    assert bootstrap_interval(scores) == bootstrap_interval(scores, level=0.95) != bootstrap_interval(scores, level=0.5)


@pytest.mark.parametrize(
    ("family", "option", "value"), [("LinearRegression", "noise", 1e18), ("Classification", "penalty", 1e18)]
)
def test_tasks_whose_gaps_are_lost_in_rounding_are_refused(family: str, option: str, value: float) -> None:
    task_set = TaskSet(f"MetaLearn/{family}-v0", tasks=8, env_kwargs={"horizon": 2, option: value})
    with pytest.raises(ValueError, match=rf"0 of 8 tasks of .* with .*'{option}': 1e\+18.* 1e-09 of the loss"):
        task_set.check_counted()


def test_dropped_tasks_are_counted() -> None:
    """On tasks of one dimension the best constant step is the limit."""
    mixed = TaskSet(ENV, tasks=64, env_kwargs={"dimension": [1, 4], "horizon": 8, "noise": 0})
    result = score(mixed, [contender("bb1")])
    one_dimensional = mixed.task.descriptor[:, 0] == 0.0
    assert not mixed.counted[one_dimensional].any()
    assert result["dropped"] == int((~mixed.counted).sum()) >= one_dimensional.sum() > 5
    assert mixed.scores(run(mixed, "bb1")).shape == (64 - result["dropped"],)


def test_a_task_counts_if_its_limit_is_a_tenth_below_the_best_constant_step(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = TaskSet(ENV, tasks=64, env_kwargs=OPTIONS)
    monkeypatch.setitem(vars(tasks), "limit", tasks.oracle[1] - np.linspace(0.0, 0.2, 64))
    assert np.array_equal(tasks.counted, np.arange(64) >= 32)


def test_too_few_tasks_are_refused() -> None:
    with pytest.raises(ValueError, match=r"tasks.*8.*7"):
        TaskSet(ENV, tasks=7)
    hopeless = TaskSet(ENV, tasks=16, env_kwargs={"dimension": 1, "horizon": 5})
    with pytest.raises(ValueError, match="of 16 tasks"):
        score(hopeless, [contender("bb1")])


@pytest.mark.parametrize(
    ("options", "named"),
    [({"horizon": [10, 5]}, "horizon"), ({"spectrum": "flat"}, "spectrum"), ({"horizon": 0}, "horizon")],
)
def test_a_task_set_that_cannot_be_is_refused_at_once(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        TaskSet(ENV, env_kwargs=options)


def test_a_range_of_horizons_is_scored_at_its_longest(task_set: TaskSet) -> None:
    ranged = TaskSet("metalearn_env:" + ENV, tasks=48, env_kwargs={**OPTIONS, "horizon": [5, 20]})
    assert ranged.horizon == 20
    assert np.array_equal(run(ranged, "bb1"), run(task_set, "bb1"))


def test_several_runs_make_one_row(task_set: TaskSet, tmp_path: Path) -> None:
    paths = [tmp_path / f"{seed}.safetensors" for seed in range(3)]
    for seed, path in enumerate(paths):
        Policy.untrained(history=5, seed=seed).save(path)
    result = score(task_set, [policies("mine", paths), *(contender(str(path)) for path in paths)])
    mine, *each = result["rows"]
    assert (mine["controller"], mine["kind"]) == ("mine", "policy")
    assert mine["diverged"] == pytest.approx(np.mean([row["diverged"] for row in each]))
    assert min(row["iqm"] for row in each) <= mine["iqm"] <= max(row["iqm"] for row in each)


# Several families

MIXTURE = "MetaLearn/Mixture-v0"
TWO = ["QLearning", {"family": "LinearRegression", "dimension": [4, 8]}]
FEW = ["do-nothing", "bb1", "limit"]


def test_a_mixture_is_scored_family_by_family() -> None:
    sets = task_sets(MIXTURE, "test", 16, 3, {"families": TWO, "horizon": 12})
    each = [
        TaskSet("MetaLearn/QLearning-v0", "test", 16, 3, {"horizon": 12}),
        TaskSet(ENV, "test", 16, 3, {"horizon": 12, "dimension": [4, 8]}),
    ]
    result = score(sets, [contender(name) for name in FEW])
    assert result["parts"] == [score(one, [contender(name) for name in FEW]) for one in each]
    assert (result["tasks"], result["dropped"]) == (32, sum(part["dropped"] for part in result["parts"]))
    for row, *rows in zip(result["rows"], *(part["rows"] for part in result["parts"]), strict=True):
        assert row["iqm"] == pytest.approx(np.mean([other["iqm"] for other in rows]))
        assert row["diverged"] == pytest.approx(np.mean([other["diverged"] for other in rows]))
        assert row["low"] <= row["iqm"] <= row["high"]
        assert row["high"] - row["low"] <= np.mean([other["high"] - other["low"] for other in rows])
    assert {row["controller"]: row["iqm"] for row in result["rows"]}["limit"] == pytest.approx(1.0)


def test_families_of_ones_own_are_scored_in_the_mixture() -> None:
    sets = task_sets(MIXTURE, tasks=8, env_kwargs={"families": [f"{__name__}:Untouchable", "Clustering"]})
    assert [type(one.family).__name__ for one in sets] == ["Untouchable", "Clustering"]
    assert [one.env_id for one in sets] == [MIXTURE, "MetaLearn/Clustering-v0"]
    assert task_sets(ENV, tasks=8)[0].env_id == ENV


def test_the_interval_of_several_sets_is_that_of_their_mean() -> None:
    """Of two sets of which one does not vary, it is half as wide as that of the other."""
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((2, 300))
    low, high = bootstrap_interval(scores)
    both_low, both_high = bootstrap_interval(scores, np.full((2, 50), 7.0))
    assert both_low == pytest.approx((low + 7.0) / 2, abs=0.02)
    assert both_high == pytest.approx((high + 7.0) / 2, abs=0.02)
    assert both_high - both_low == pytest.approx((high - low) / 2, rel=0.1)


def test_the_command_line_scores_mixtures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "score.json"
    arguments = ["--env-kwargs", "horizon:8", f"families:{json.dumps(TWO)}", "--tasks", "16", "--controllers", *FEW]
    assert main(["score", "--env", MIXTURE, *arguments, "--json", str(path)]) == 0
    result = json.loads(path.read_text())
    assert {"env", "split", "tasks", "dropped", "rows"} <= result.keys()
    assert (result["env"], result["env_kwargs"]) == (MIXTURE, {"horizon": 8, "families": TWO})
    assert [part["env"] for part in result["parts"]] == ["MetaLearn/QLearning-v0", ENV]
    printed = capsys.readouterr().out
    assert "mean of 2 tables" in printed
    for row in [*result["rows"], *(row for part in result["parts"] for row in part["rows"])]:
        assert f"{row['iqm']:.3f}" in printed


# The command line


def test_list_names_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    printed = capsys.readouterr().out
    for env_id, spec in gym.registry.items():
        assert spec.namespace != "MetaLearn" or env_id in printed
    assert all(name in printed for name in [*RULES, *CONTROLS, "limit", "shuffled:FILE", "without-history:FILE"])


def test_score_writes_and_prints_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "score.json"
    arguments = ["score", "--env", ENV, *SMALL, "--split", "validation", "--seed", "3", "--json", str(path)]
    assert main(arguments) == 0
    result = json.loads(path.read_text())
    assert {"env", "split", "tasks", "dropped", "rows"} <= result.keys()
    assert (result["env"], result["split"], result["tasks"], result["seed"]) == (ENV, "validation", 16, 3)
    assert result["env_kwargs"] == {"spectrum": "log-uniform", "dimension": [4, 8], "conditioning": 30, "horizon": 8}
    assert [row["controller"] for row in result["rows"]] == known_controllers([TaskSet(ENV)])
    printed = capsys.readouterr().out
    for row in result["rows"]:
        assert {"controller", "kind", "iqm", "low", "high", "diverged", "told"} <= row.keys()
        assert row["kind"] in ("rule", "control", "policy", "limit")
        assert row["low"] <= row["iqm"] <= row["high"]
        line = next(line for line in printed.splitlines() if re.match(rf"{row['controller']}\*? ", line))
        assert all(part in line for part in (row["kind"], f"{row['iqm']:.3f}", f"{row['low']:.3f}"))
    assert main(arguments) == 0
    assert json.loads(path.read_text()) == result


def test_score_takes_policy_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy, out = tmp_path / "mine.safetensors", tmp_path / "score.json"
    Policy.untrained(history=2, seed=0).save(policy)
    arguments = ["score", "--env", ENV, *SMALL, "--json", str(out), "--controllers", "bb1", str(policy), "limit"]
    assert main(arguments) == 0
    rows = json.loads(out.read_text())["rows"]
    assert [(row["controller"], row["kind"]) for row in rows] == [
        ("bb1", "rule"),
        ("mine", "policy"),
        ("limit", "limit"),
    ]
    assert capsys.readouterr().out.count("\n") == 5


class Untouched(NamedTuple):
    nothing: Array


@final
@dataclass(frozen=True, eq=False, kw_only=True)
class Untouchable(TaskFamily[Untouched]):
    """No task of it may be drawn."""

    kind = "supervised"
    descriptor_names = ()
    num_parameters = 1
    drawn = 0

    def sample(self, rng: np.random.Generator, n: int, horizon: int) -> Untouched:
        raise AssertionError("a task was drawn: the work has begun")

    def start(self, task: Untouched) -> Array:
        raise NotImplementedError

    def loss(self, task: Untouched, theta: Array) -> Array:
        raise NotImplementedError

    def direction(self, task: Untouched, theta: Array, t: Any) -> Array:
        raise NotImplementedError

    def descriptor(self, task: Untouched) -> Array:
        raise NotImplementedError

    def reference_loss(self, task: Untouched) -> Array:
        raise NotImplementedError


@pytest.fixture
def untouchable() -> Iterator[str]:
    env_id = register_family("Untouchable", f"{__name__}:Untouchable")
    yield env_id
    del gym.registry[env_id], families.FAMILIES["Untouchable"]


def test_work_begins_where_nothing_is_wrong(untouchable: str) -> None:
    with pytest.raises(AssertionError, match="has begun"):
        main(["score", "--env", untouchable, "--controllers", "bb1"])


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--controllers", "bb1", "no-such-rule"], "no-such-rule"),
        (["--controllers", "bb1", "no-such-file.safetensors"], "no-such-file"),
        (["--controllers", "bb1", __file__], "test_scoring.py"),
        (["--env", "MetaLearn/NoSuch-v0"], "NoSuch"),
        (["--env", "Elsewhere/Untouchable-v0"], "Elsewhere"),
        (["--env", "CartPole-v1"], "CartPole"),
        (["--json", "no/such/folder/score.json"], "no/such/folder"),
        (["--json", "."], "."),
        (["--split", "dev"], "split"),
        (["--tasks", "3"], "tasks"),
        (["--seed", "-1"], "seed"),
        (["--env-kwargs", "bogus:1"], "bogus"),
        (["--env-kwargs", "horizon:0"], "horizon"),
        (["--env-kwargs", "horizon:[5,3]"], "horizon"),
        (["--env-kwargs", "action:bogus"], "action"),
        (["--env-kwargs", "strategy:bogus"], "strategy"),
        (["--env-kwargs", "reward:bogus"], "reward"),
        (["--env-kwargs", "history:-1"], "history"),
        (["--env-kwargs", "trace:1"], "trace"),
    ],
)
def test_what_is_wrong_is_said_before_any_work(
    untouchable: str, arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["score", "--env", untouchable, *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert named in printed.err


def test_what_make_takes_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["score", "--env", ENV, *SMALL, "--controllers", "bb1"]
    assert main(arguments) == 0
    alone = capsys.readouterr().out.splitlines()[-1]
    arguments.insert(arguments.index("horizon:8"), "observation:dict")
    assert main(arguments) == 0
    assert capsys.readouterr().out.splitlines()[-1] == alone


def test_a_failed_score_leaves_no_file(tmp_path: Path, untouchable: str) -> None:
    path = tmp_path / "score.json"
    assert main(["score", "--env", untouchable, "--controllers", "no-such-rule", "--json", str(path)]) == 2
    assert not path.exists()
    path.write_text("old")
    assert main(["score", "--env", untouchable, "--controllers", "no-such-rule", "--json", str(path)]) == 2
    assert path.read_text() == "old"


@pytest.mark.parametrize("arguments", [[], ["score"], ["score", "--env", ENV, "--env-kwargs", "horizon"], ["bogus"]])
def test_arguments_that_are_none(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "usage" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["score"], ["watch", "--controller", "bb1", "--out", "never.gif"]])
def test_an_option_that_is_given_twice_is_refused(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--env", ENV, "--env-kwargs", "noise:1", "horizon:3", "noise:2"]) == 2
    assert "noise is given more than once" in capsys.readouterr().err


def test_the_best_constant_is_found_per_task() -> None:
    """On one-dimensional tasks it is the inverse eigenvalue."""
    one = TaskSet(ENV, tasks=16, env_kwargs={"dimension": 1, "horizon": 1})
    multiple, _ = best_constant(one.family, one.task, 1)
    unit = Engine.start(one.family, one.task, 1).unit
    assert multiple * unit == pytest.approx(1.0 / one.task.diagonal[:, 0] ** 2, rel=5e-3)


@pytest.mark.parametrize("option", [{"split": "train"}, {"render_mode": "rgb_array"}])
def test_options_that_scoring_cannot_honour_are_refused(option: dict[str, str]) -> None:
    with pytest.raises((ValueError, TypeError), match=next(iter(option))):
        TaskSet("MetaLearn/LinearRegression-v0", env_kwargs=option)
    if "render_mode" in option:
        with pytest.raises(ValueError, match="render_mode='rgb_array' cannot be honoured"):
            task_sets("MetaLearn/Mixture-v0", env_kwargs=option)


# What a controller did


def twice_as_dear(engine: Engine) -> Iterator[Charged]:
    while True:
        yield Charged(0.5 * engine.unit, np.where(np.arange(len(engine.t)) % 2 == 0, 1.0, 0.0))


def test_evaluations_are_charged(task_set: TaskSet) -> None:
    """Steps that cost two evaluations each leave half as many of them."""
    family, task, horizon = task_set.family, task_set.task, task_set.horizon
    run = recorded(family, task, horizon, twice_as_dear)
    plain = recorded(family, task, horizon, schedule(np.full(horizon, 0.5)))
    dear = np.arange(task_set.tasks) % 2 == 0
    assert np.array_equal(run.log_gap[:, ~dear], plain.log_gap[:, ~dear])
    assert np.array_equal(run.log_gap[-1, dear], plain.log_gap[horizon // 2, dear])
    assert (run.evaluations[-1] == horizon).all()
    assert np.array_equal(run.evaluations[: horizon // 2 + 1, dear][:, 0], 2.0 * np.arange(horizon // 2 + 1))
    assert np.isnan(run.step_size[horizon // 2 :, dear]).all()
    assert np.allclose(run.step_size[:, ~dear], 0.5)


def heavy_ball(engine: Engine) -> Iterator[Array]:
    before = engine.theta
    while True:
        now = engine.theta.copy()
        yield 0.5 * engine.unit[:, None] * engine.direction + 0.5 * (now - before)
        before = now


def test_moves_are_made_as_they_are(task_set: TaskSet) -> None:
    family, task = task_set.family, task_set.task
    before = theta = family.start(task)
    *_, engine = rollout(family, task, 10, heavy_ball)
    for t in range(10):
        direction = family.direction(task, theta, np.full(task_set.tasks, t))
        before, theta = theta, theta + 0.5 * engine.unit[:, None] * direction + 0.5 * (theta - before)
    assert engine.theta == pytest.approx(theta)
    assert np.isnan(recorded(family, task, 10, heavy_ball).step_size).all()


def test_a_minority_steps_apart_from_the_units() -> None:
    """A first step of the unit itself is the very array of the units."""
    family = make_family("LinearRegression", dimension=2)
    engine = Engine.start(family, draw_tasks(family, 0, 6, 10), 10)
    unit, active = engine.unit.copy(), np.arange(6) < 2
    engine.advance(engine.unit)
    engine.advance_only(active, 0.3 * unit)
    np.testing.assert_array_equal(engine.unit, unit)
    np.testing.assert_array_equal(engine.step_size, np.where(active, 0.3 * unit, unit))
