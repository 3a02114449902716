"""What tables tell beyond S: the way there, the tail, failures, paired differences and profiles."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metalearn_env.__main__ import main
from metalearn_env.engine import Engine
from metalearn_env.family import Array
from metalearn_env.policy import Policy
from metalearn_env.rules import RULES, Charged, Entry
from metalearn_env.rules.schedules import schedule
from metalearn_env.scoring import Contender, TaskSet, task_sets
from metalearn_env.scoring.controls import BOUNDS, best_rule_run, rule_run
from metalearn_env.scoring.formatting import WIDTH, formatted
from metalearn_env.scoring.measures import anytime_scores, final_gaps, measured, profiles
from metalearn_env.scoring.profiles import by_evaluations, evaluations_to, performance_profile, score_profile
from metalearn_env.scoring.runs import Run, recorded
from metalearn_env.scoring.statistics import bootstrap_interval, interquartile_mean, paired_difference, worst_mean
from metalearn_env.scoring.table import contender, contenders, known_controllers, score

ENV = "MetaLearn/LinearRegression-v0"
OPTIONS = {"spectrum": "log-uniform", "dimension": 16, "conditioning": [10, 1000], "horizon": 20}
SMALL = ["--env-kwargs", "spectrum:log-uniform", "dimension:[4,8]", "conditioning:30", "horizon:8", "--tasks", "16"]


@pytest.fixture(scope="module")
def task_set() -> TaskSet:
    return TaskSet(ENV, tasks=48, env_kwargs=OPTIONS)


def run_of(log_gap: list[float], evaluations: list[float]) -> Run:
    """Return a run on one task."""
    return Run(np.array(log_gap)[:, None], np.ones((len(log_gap) - 1, 1)), np.array(evaluations)[:, None])


def fixed(name: str, *runs: Run, **options: Any) -> Contender:
    return Contender(name, "control", lambda _: list(runs), **options)


# Over evaluations


def test_charged_steps_are_seen_when_they_are_paid_for() -> None:
    dear = run_of([0.0, -1.0, -2.0, -2.0, -2.0], [0.0, 2.0, 4.0, 4.0, 4.0])
    assert by_evaluations(dear)[:, 0].tolist() == [0.0, 0.0, -1.0, -1.0, -2.0]
    cheap = run_of([0.0, -1.0, -2.0, -3.0], [0.0, 1.0, 2.0, 3.0])
    assert np.array_equal(by_evaluations(cheap), cheap.log_gap)


def test_evaluations_to_a_target() -> None:
    run = run_of([0.0, -1.0, 0.5, -3.0], [0.0, 2.0, 3.0, 5.0])
    assert [evaluations_to(run, target)[0] for target in (0.0, -1.0, -2.0, -3.0)] == [0.0, 2.0, 5.0, 5.0]
    assert evaluations_to(run, -3.1)[0] == np.inf


def test_a_performance_profile_is_that_of_dolan_and_more() -> None:
    """Of three tasks: one is solved by both, in 2 and 4 evaluations; one by the second alone; one by none."""
    first, second = np.array([[2.0, np.inf, np.inf]]), np.array([[4.0, 7.0, np.inf]])
    profile = performance_profile([first, second], np.array([1.0, 1.9, 2.0, 64.0]))
    assert profile == pytest.approx(np.array([[1, 1, 1, 1], [1, 1, 2, 2]]) / 3)
    two_runs = np.array([[2.0, np.inf, np.inf], [8.0, 14.0, np.inf]])
    assert performance_profile([two_runs, second], np.array([1.0, 2.0, 4.0])) == pytest.approx(
        np.array([[1, 2, 3], [2, 4, 4]]) / np.array([[6], [6]])
    )


def test_the_anytime_score_is_the_mean_of_the_way(task_set: TaskSet) -> None:
    zero = anytime_scores(task_set, [task_set.oracle_run])
    assert np.array_equal(zero, np.zeros((1, task_set.counted.sum())))
    span = task_set.oracle[1] - task_set.limit
    lower = task_set.oracle_run.log_gap.copy()
    lower[1:] -= 0.5 * span  # where a run begins is no part of the way
    assert anytime_scores(task_set, [task_set.oracle_run._replace(log_gap=lower)]) == pytest.approx(0.5)
    assert np.isnan(anytime_scores(task_set, BOUNDS["limit"].runs(task_set))).all()


def test_a_run_of_the_best_constant_step_ends_where_it_was_said_to(family_id: str) -> None:
    one = TaskSet(family_id, tasks=16, env_kwargs={"horizon": 10})
    assert one.oracle_run.log_gap[-1] == pytest.approx(one.oracle[1], abs=1e-12)


# The tail, and failures


def test_the_worst_mean_is_of_one_percent() -> None:
    scores = np.random.default_rng(0).permutation(np.arange(1000.0))
    assert worst_mean(scores) == np.arange(10.0).mean()
    assert worst_mean(scores.reshape(10, 100)) == 4.5
    assert worst_mean(np.array([3.0, 1.0])) == 1.0


def test_failures_are_counted_apart_from_runs_that_end_above_their_start(task_set: TaskSet) -> None:
    run = recorded(task_set.family, task_set.task, 20, schedule(np.full(20, 1e4)))
    exploded = measured(fixed("huge", run), [task_set], [[run]])
    assert (exploded["failed"], exploded["diverged"]) == (1.0, 1.0)
    above = task_set.oracle_run._replace(log_gap=np.full_like(run.log_gap, 0.1))
    row = measured(fixed("above", above), [task_set], [[above]])
    assert (row["failed"], row["diverged"]) == (0.0, 1.0)
    assert row["cvar"] <= row["iqm"]


def test_all_runs_on_all_tasks_are_pooled(task_set: TaskSet) -> None:
    limit, start = task_set.limit, task_set.oracle[1]
    gaps = start - (start - limit) * np.random.default_rng(0).standard_cauchy((3, 48))
    gaps[:, 0] = 0.0  # ends where it began, and not above
    runs = [task_set.oracle_run._replace(log_gap=np.vstack([task_set.oracle_run.log_gap[:-1], last])) for last in gaps]
    row = measured(fixed("mine", *runs), [task_set], [runs])
    scores = np.concatenate([task_set.scores(last) for last in gaps])
    assert row["iqm"] == pytest.approx(interquartile_mean(scores))
    assert row["cvar"] == pytest.approx(worst_mean(scores))
    assert row["diverged"] == np.mean(gaps > 0.0)


# Paired


def test_a_pair_that_differs_by_a_constant_has_no_interval() -> None:
    theirs = np.random.default_rng(0).normal(size=(1, 50))
    assert paired_difference([theirs + 0.25], [theirs]) == pytest.approx((0.25, 0.25, 0.25))
    assert paired_difference([theirs], [theirs]) == (0.0, 0.0, 0.0)


def test_of_one_run_each_the_interval_is_that_of_the_differences() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(size=(1, 60)), rng.normal(size=(1, 60))
    iqm, *interval = paired_difference([ours], [theirs])
    assert iqm == interquartile_mean((ours - theirs)[0])
    assert interval == [*bootstrap_interval(ours - theirs)]


def test_the_seeds_of_both_count() -> None:
    """Whoever of the two has training seeds that differ: the one difference is minus the other."""
    rng = np.random.default_rng(0)
    tasks, runs = rng.normal(size=(1, 200)), rng.normal(size=(5, 1))
    iqm, low, high = paired_difference([tasks + runs], [tasks])
    assert high - low > 0.5
    assert paired_difference([tasks], [tasks + runs]) == pytest.approx((-iqm, -high, -low))


def test_the_paired_difference_covers() -> None:
    rng, covered = np.random.default_rng(1), 0
    for _ in range(60):
        common = 5.0 * rng.normal(size=(1, 40))
        _, low, high = paired_difference([common + 0.3 * rng.normal(size=(1, 40)) + 1.0], [common])
        covered += low <= 1.0 <= high
    assert 52 <= covered <= 60


def test_against_is_told_in_every_row(task_set: TaskSet) -> None:
    result = score(task_set, contenders(["bb1", "dai-yuan", "limit"]), against="dai-yuan")
    one, same, limit = (row["against"] for row in result["rows"])
    difference = task_set.scores(np.subtract(*(rule_run(task_set, name).log_gap[-1] for name in ("bb1", "dai-yuan"))))
    zero = task_set.scores(np.zeros(48))
    assert one["iqm"] == pytest.approx(interquartile_mean(difference - zero))
    assert one["low"] <= one["iqm"] <= one["high"]
    assert (same["iqm"], same["low"], same["high"]) == (0.0, 0.0, 0.0)
    assert limit["controller"] == "dai-yuan"
    with pytest.raises(ValueError, match="'bb2'"):
        score(task_set, contenders(["bb1"]), against="bb2")


# Tables


def test_the_best_rule_of_each_task_is_one_of_them(task_set: TaskSet) -> None:
    runs = [rule_run(task_set, name) for name in RULES if contender(name).is_for(task_set) and not RULES[name].outside]
    best = best_rule_run(task_set)
    assert np.array_equal(best.log_gap[-1], np.min([run.log_gap[-1] for run in runs], axis=0))
    for task in range(task_set.tasks):
        columns = [[array[:, task] for array in run] for run in (best, *runs)]
        assert any(
            all(np.array_equal(mine, its, equal_nan=True) for mine, its in zip(columns[0], other, strict=True))
            for other in columns[1:]
        )


def outside(engine: Engine) -> Iterator[Array]:
    """One step to the optimum, which no step size makes."""
    yield engine.task.optimum - engine.theta
    while True:
        yield np.zeros_like(engine.unit)


def test_rules_outside_the_class_are_no_best_rule(task_set: TaskSet, monkeypatch: pytest.MonkeyPatch) -> None:
    before = best_rule_run(task_set).log_gap[-1]
    monkeypatch.setitem(RULES, "outside", Entry(f"{__name__}:outside", told="the optimum", outside=True))
    (run,) = contender("outside").runs(task_set)
    assert (run.log_gap[-1] < before).any()
    assert np.array_equal(best_rule_run(task_set).log_gap[-1], before)
    result = score(task_set, [contender("outside")])
    assert (result["rows"][0]["told"], result["rows"][0]["outside"]) == ("the optimum", True)
    assert "outside*" in formatted(result)


def dear(engine: Engine) -> Iterator[Charged]:
    while True:
        yield Charged(0.5 * engine.unit, np.ones(len(engine.t)))


def test_rules_of_one_family_are_in_its_table_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RULES, "dear", Entry(f"{__name__}:dear", families=("QLearning",)))
    options = {"families": ["QLearning", {"family": "LinearRegression", "dimension": [4, 8]}], "horizon": 8}
    sets = task_sets("MetaLearn/Mixture-v0", tasks=16, env_kwargs=options)
    assert "dear" not in known_controllers(sets[1:])
    result = score(sets, contenders(["dear", "bb1"]))
    assert [row["controller"] for row in result["rows"]] == ["bb1"]
    assert [[row["controller"] for row in part["rows"]] for part in result["parts"]] == [["dear", "bb1"], ["bb1"]]
    assert main(["score", "--env", ENV, *SMALL, "--controllers", "dear"]) == 2
    with pytest.raises(ValueError, match=r"dear is for QLearning.*LinearRegression"):
        score(sets[1], [contender("dear")])
    with pytest.raises(ValueError, match="dear"):
        score(sets, contenders(["dear", "bb1"]), against="dear")


def test_profiles_are_told_of_all_that_have_a_run(task_set: TaskSet) -> None:
    names = ["do-nothing", "oracle-constant", "dai-yuan", "limit"]
    result = score(task_set, contenders(names))
    told = result["profiles"]
    assert [target["target"] for target in told["evaluations"]] == ["0.1", "0.001", "oracle-constant"]
    for target in told["evaluations"]:
        assert list(target["profile"]) == names[:-1]
        for name in names[:-1]:
            shares = np.array(target["profile"][name])
            assert shares.shape == np.shape(target["alphas"])
            assert (np.diff(shares) >= 0).all()
            assert shares[-1] <= target["solved"][name]
        assert sum(target["profile"][name][0] for name in names[:-1]) >= max(target["solved"].values())
        assert (target["median"]["do-nothing"], target["solved"]["do-nothing"]) == (None, 0.0)
    assert told["evaluations"][-1]["solved"]["oracle-constant"] == 1.0
    taus, shares = np.array(told["scores"]["taus"]), told["scores"]["profile"]
    assert shares["do-nothing"][0] == 1.0
    worst = min(row["cvar"] for row in result["rows"])
    assert taus[0] <= worst
    for name in names[:-1]:
        (run,) = contender(name).runs(task_set)
        assert shares[name] == score_profile(task_set.scores(run.log_gap[-1]), taus).tolist()
    json.dumps(result, allow_nan=False)


def test_a_profile_is_of_the_target_that_it_names(task_set: TaskSet) -> None:
    """A gap that falls to e^-8 is a tenth of the first after 6 steps, and a thousandth after 18."""
    t = np.arange(21.0)
    run = Run(np.tile(-t[:, None] / 2.5, 48), np.ones((20, 48)), np.tile(t[:, None], 48))
    tenth, thousandth, _ = profiles([fixed("mine", run)], task_set, [[run]])["evaluations"]
    assert (tenth["median"]["mine"], thousandth["median"]["mine"]) == (6.0, 18.0)
    assert tenth["solved"]["mine"] == 1.0


def test_what_is_solved_is_a_share_of_all_runs(task_set: TaskSet) -> None:
    runs = [task_set.oracle_run, task_set.oracle_run._replace(log_gap=np.zeros((21, 48)))]
    told = profiles([fixed("mine", *runs)], task_set, [runs])["evaluations"][-1]
    assert (told["target"], told["solved"]["mine"]) == ("oracle-constant", 0.5)


def test_text_is_as_wide_as_a_terminal() -> None:
    row = {
        "controller": "some-rule-of-a-name",
        "kind": "control",
        "iqm": -11.159,
        "low": -12.611,
        "high": -9.903,
        "anytime": -107.712,
        "cvar": -1162.594,
        "diverged": 1.0,
        "failed": 1.0,
        "told": "the largest and the smallest eigenvalue, the horizon and the optimum of the task",
        "outside": True,
    }
    result = {"env": ENV, "split": "test", "tasks": 256, "dropped": 0, "rows": [row, {**row, "anytime": None}]}
    lines = formatted(result).splitlines()
    assert max(map(len, lines)) == WIDTH == 120
    assert all(line.endswith("...") for line in lines[2:])


def test_contenders_have_names_of_their_own(task_set: TaskSet, tmp_path: Path) -> None:
    paths = [tmp_path / folder / "policy.safetensors" for folder in ("one", "two")]
    for seed, path in enumerate(paths):
        path.parent.mkdir()
        Policy.untrained(history=2, seed=seed).save(path)
    found = contenders(["bb1", *map(str, paths), "bb1"])
    assert [who.name for who in found] == ["bb1", *map(str, paths)]
    assert contenders([str(paths[0])])[0].name == "policy"
    with pytest.raises(ValueError, match="'bb1'"):
        score(task_set, [contender("bb1"), contender("bb1")])


# The command line


def test_the_command_line_compares(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "score.json"
    arguments = ["score", "--env", ENV, *SMALL, "--json", str(path), "--controllers", "bb1"]
    assert main([*arguments, "--against", "tuned-constant"]) == 0
    rows = json.loads(path.read_text())["rows"]
    assert [row["controller"] for row in rows] == ["bb1", "tuned-constant"]
    printed = capsys.readouterr().out
    assert "gain over tuned-constant" in printed
    assert f"{rows[0]['against']['iqm']:.3f}" in printed
    assert main([*arguments, "--against", "no-such-rule"]) == 2
    assert "no-such-rule" in capsys.readouterr().err


def test_policy_files_of_the_same_name_are_compared(tmp_path: Path) -> None:
    paths = [tmp_path / folder / "policy.safetensors" for folder in ("one", "two")]
    for seed, path in enumerate(paths):
        path.parent.mkdir()
        Policy.untrained(history=2, seed=seed).save(path)
    arguments = ["--controllers", str(paths[0]), "--against", str(paths[1]), "--json", str(tmp_path / "score.json")]
    assert main(["score", "--env", ENV, *SMALL, *arguments]) == 0
    rows = json.loads((tmp_path / "score.json").read_text())["rows"]
    assert [row["controller"] for row in rows] == [*map(str, paths)]
    assert all(row["against"]["controller"] == str(paths[1]) for row in rows)


def test_a_policy_that_does_not_fit_is_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.safetensors"
    Policy.untrained(history=2, seed=0).save(path)

    def refused(*_: Any) -> None:
        raise AssertionError("a task was drawn: the work has begun")

    monkeypatch.setattr("metalearn_env.scoring.tasks.draw_tasks", refused)
    for option in ("history:3", "action:absolute", "strategy:constant"):
        for name in (str(path), f"shuffled:{path}", f"without-history:{path}"):
            arguments = ["score", "--env", ENV, "--env-kwargs", option, "--controllers", "bb1", name]
            assert main(arguments) == 2
            assert "trained" in capsys.readouterr().err


def test_final_gaps_are_the_ends_of_runs(task_set: TaskSet) -> None:
    runs = [rule_run(task_set, "bb1"), task_set.oracle_run]
    assert np.array_equal(final_gaps(runs), [run.log_gap[-1] for run in runs])
