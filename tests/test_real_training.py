"""Policies in real training loops, beside contenders: tiny runs, and what is made of them."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("benchmarks")
pytest.importorskip("torch")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

from benchmarks import real_page, real_training
from benchmarks.real_optimisers import OPTIMISERS
from benchmarks.real_runs import LOST, Contender, Kept, Measure, Record, Recorder, Results, measured
from benchmarks.real_scores import Comparison, entries
from benchmarks.real_training import PROBLEMS
from metalearn_env.policy import Policy

HORIZON = 8


def still(step: float = -0.02) -> Policy:
    """Return a policy that multiplies its step by 100^step, whatever it sees."""
    policy = Policy.untrained(history=1, seed=0)
    weight, bias = policy.layers[-1]
    return Policy((*policy.layers[:-1], (0.0 * weight, 0.0 * bias + np.float32(step))), policy.header)


def tiny(name: str) -> Any:
    return replace(PROBLEMS[name], horizon=HORIZON)


@pytest.mark.parametrize("name", ["diabetes", "breast-cancer", "digits-kmeans", "cliff-walking"])
def test_a_problem_becomes_a_page_with_a_picture(name: str, tmp_path: Path) -> None:
    still().save(tmp_path / "still.safetensors")
    problem, out = tiny(name), tmp_path / "page.md"
    text = real_training.run([problem], 2, str(tmp_path / "still.safetensors"), tmp_path / "runs", out, "as it was")
    assert text == out.read_text()
    assert "    as it was\n" in text
    assert (
        f"**Not on this page**, and in none of its bars: {', '.join(one for one in PROBLEMS if one != name)}." in text
    )
    lines = [line for line in text.split(f"## {name}")[1].split("## Other")[0].splitlines() if line.startswith("| ")]
    assert len(lines) == 1 + len(problem.contenders) + len(problem.learners)
    assert sum(line.startswith("| **learned** | 8 |") for line in lines) == 1
    tried = len(next(one for one in problem.contenders if one.name == "constant").knobs)
    assert sum(line.startswith("| constant (") and f"of {tried}) | {8 * tried} |" in line for line in lines) == 1
    assert [
        line.split(" | ")[1] for line in text.split("## Other")[1].splitlines() if line.startswith(f"| {name}")
    ] == [
        "2",
        "8",
        "32",
    ]
    assert (tmp_path / "page" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", OPTIMISERS)
@pytest.mark.filterwarnings("ignore")  # those of other packages
def test_contenders_train_a_network(name: str) -> None:
    optimiser = OPTIMISERS[name]
    pytest.importorskip(optimiser.package)
    problem = replace(PROBLEMS["digits-mlp"], horizon=60)
    record = problem.run(name, optimiser.knobs[4] if optimiser.knobs else None, seed=0)
    assert min(record["losses"]) < record["losses"][0]
    assert len(record["steps"]) == len(record["times"]) - 1
    assert all(step > 0.0 for step in record["steps"])
    assert problem.run(name, optimiser.knobs[4] if optimiser.knobs else None, seed=0) == record


def test_contenders_of_packages_that_are_not_there_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.real_gradients.missing", lambda: ["prodigyopt"])
    names = [one.name for one in PROBLEMS["digits-mlp"].contenders]
    assert "Prodigy" not in names
    assert "Adam 1e-3" in names


@pytest.mark.parametrize("name", ["diabetes", "digits-kmeans"])
def test_curves_lead_to_what_the_estimators_end_with(name: str) -> None:
    problem = PROBLEMS[name]
    record = problem.learned("learned", still(), HORIZON, seed=1)
    assert record["measures"][problem.measures[-1].name] == pytest.approx(record["losses"][-1], rel=1e-5)
    assert record["interventions"] == 0


def test_all_contenders_start_alike() -> None:
    for name in ("digits-mlp", "diabetes", "image-kmeans", "frozen-lake"):
        problem = tiny(name)
        firsts = {problem.run(one.name, (one.knobs or (None,))[0], 0)["losses"][0] for one in problem.contenders}
        firsts.add(problem.learned("learned", still(), HORIZON, 0)["losses"][0])
        assert len(firsts) == 1, name


def test_what_explodes_counts_as_much_as_it_may() -> None:
    problem = replace(PROBLEMS["diabetes"], horizon=100)
    record = problem.run("constant", 10.0, 0)
    assert record["diverged"]
    assert record["measures"]["training loss"] == LOST * record["losses"][0]
    with np.errstate(all="ignore"):
        learned = PROBLEMS["diabetes"].learned("learned", still(0.5), 50, 0)
    assert learned["interventions"] == 1
    assert learned["diverged"]


def test_curves_are_of_points_in_time() -> None:
    recorder = Recorder(100)
    for t in range(101):
        recorder.see(t, lambda: 1.0 / (1.0 + t))  # noqa: B023  (called at once)
        recorder.step(4.0 if t % 2 else 1.0)
    record = recorder.record({"measure": np.nan}, also=np.inf)
    assert record["times"] == list(range(0, 101, 5))
    assert record["steps"][1] == pytest.approx(4.0**0.6, rel=1e-5)
    assert record["measures"] == {"measure": LOST}
    assert (record["also"], record["diverged"]) == (None, False)


def test_runs_are_kept_and_a_new_policy_costs_its_own_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = tiny("digits-kmeans")
    first = measured(problem, still(), 2, tmp_path)
    monkeypatch.setattr(type(problem), "run", None)
    again = measured(problem, still(-0.1), 2, tmp_path)
    assert again.runs == first.runs
    assert again.learned != first.learned
    monkeypatch.setattr(type(problem), "learned", None)
    assert measured(problem, still(-0.1), 2, tmp_path).learned == again.learned


def test_what_is_kept_of_something_else_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    assert Kept(path, {"seeds": 2}).recall("a", lambda: 1) == 1
    assert Kept(path, {"seeds": 2}).recall("a", lambda: 2) == 1
    assert Kept(path, {"seeds": 3}).recall("a", lambda: 2) == 2


# What is made of them


def records(values: Any, diverged: bool = False) -> list[Record]:
    return [
        {"measures": {"loss": float(v)}, "diverged": diverged, "interventions": 0, "losses": [1, 2]} for v in values
    ]


LOSS, LESS = Measure("loss"), Measure("loss", ratio=False)
SPREAD = np.linspace(1.0, 2.0, 10)


@pytest.mark.parametrize(("factor", "verdict"), [(0.9, "better"), (1.0, "equal"), (1.1, "worse")])
def test_comparisons_are_paired(factor: float, verdict: str) -> None:
    ratio = Comparison.of(records(factor * SPREAD), records(SPREAD), LOSS)
    assert ratio.verdict == verdict
    assert ratio.value == pytest.approx(factor)
    difference = Comparison.of(records(SPREAD + factor), records(SPREAD + 1.0), LESS)
    assert (difference.verdict, difference.value) == (verdict, pytest.approx(factor - 1.0))
    noise = np.tile([0.5, 2.0], 5)
    assert Comparison.of(records(factor * noise * SPREAD), records(SPREAD), LOSS).verdict == "equal"


def results(ours: float, short: bool = False) -> Results:
    """Return runs of a problem whose constants end at 1 and 2 and whose default at 3."""
    contenders = (Contender("constant", (0.1, 1.0)), Contender("default"))
    says = {"horizon": 40, "measures": (LOSS,), "default": "default", "constant": "constant", "learners": ("learned",)}
    problem = Namespace(name=f"of {ours}", contenders=contenders, **says)
    runs = {("constant", 0.1): records(SPREAD), ("constant", 1.0): records(2.0 * SPREAD)}
    runs["default", None] = records(3.0 * SPREAD)
    learned = {("learned", horizon): records(ours * SPREAD, short and horizon == 10) for horizon in (10, 40, 160)}
    return Results(problem, still(), runs, learned, 1.0)  # type: ignore[arg-type]


def test_bars_are_reached_or_not() -> None:
    def ends(*all_results: Results) -> list[str]:
        return [line.split(" | ")[-1] for line in list(real_page.bars(all_results))[2:]]

    yes, no = "yes |", "**no** |"
    assert ends(results(0.9)) == [yes] * 4
    assert ends(results(1.0), results(1.5)) == [yes] * 4
    assert ends(results(1.5)) == [no, yes, yes, yes]
    assert ends(results(3.5)) == [no, no, yes, yes]
    assert ends(results(1.0, short=True)) == [yes, yes, no, yes]


def test_the_knob_is_the_best_in_hindsight() -> None:
    assert [(one.name, one.knob, one.tried) for one in entries(results(1.0), LOSS)] == [
        ("constant", 0.1, 2),
        ("default", None, 1),
    ]


# Bad input


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--seeds", "1"], "seeds is a whole number >= 2, not 1"),
        (["--policy", "nowhere"], "'nowhere' is neither a file nor a shipped policy"),
        (["--out", "nowhere/page.md"], "there is no folder nowhere"),
    ],
)
def test_bad_input_is_found_out_before_the_work(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    assert real_training.main(["--only", "diabetes", "--runs", str(runs), *arguments]) == 2
    assert words in capsys.readouterr().err
    assert not runs.exists()


def test_unknown_problems_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        real_training.main(["--only", "diabetis"])
    assert "invalid choice: 'diabetis'" in capsys.readouterr().err
