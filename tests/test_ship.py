"""Shipping a policy: which run is chosen, what its file says, its card, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("stable_baselines3")
pytest.importorskip("tyro")
pytest.importorskip("agents")

from agents import ship
from agents.cards import CARDS, card
from agents.runs import POLICY, RUN
from metalearn_env.policy import SHIPPED, Policy, load
from metalearn_env.scoring import task_sets
from metalearn_env.scoring.contenders import contender
from metalearn_env.scoring.table import score

ENV = "MetaLearn/LinearRegression-v0"
OPTIONS = {"dimension": [4, 8], "horizon": 8}


def run(folder: Path, seed: int, validation_iqm: float, **header: Any) -> Path:
    """Leave what a run leaves."""
    folder.mkdir()
    policy = Policy.untrained(history=2, seed=seed)
    says = {
        "env": ENV,
        "env_kwargs": {**OPTIONS, "history": 2},
        "algorithm": "ppo",
        "hyperparameters": {"gamma": 1.0},
        "seed": seed,
        "command": f"python -m agents.train --seed {seed}",
        "date": "2030-01-01",
        "versions": {"metalearn_env": "0"},
        "validation_iqm": validation_iqm,
        "steps": 1000,
        "activation": "tanh",
        "output": "clip",
    }
    replace(policy, header={**policy.header, **says, **header}).save(folder / POLICY)
    (folder / RUN).write_text(json.dumps({"validation_tasks": 16, "validation_kwargs": [], "wall_seconds": 90.0}))
    return folder


@pytest.fixture
def args(tmp_path: Path) -> ship.Args:
    folders = tuple(run(tmp_path / f"seed-{seed}", seed, iqm) for seed, iqm in enumerate((0.1, 0.3, 0.2)))
    return ship.Args("stand-in", folders, tmp_path / "policies", tmp_path / "cards", tasks=16)


def test_the_best_on_validation_tasks_is_shipped_with_its_test_score(args: ship.Args) -> None:
    ship.main(args)
    file = args.policies / "stand-in.safetensors"
    header = load(file).header
    assert (header["seed"], header["wall_seconds"]) == (1, 90.0)
    assert header["chosen_from"] == [[0, 0.1], [1, 0.3], [2, 0.2]]
    (row,) = score(task_sets(ENV, "test", 16, 0, OPTIONS), [contender(str(file))])["rows"]
    assert {name: header["test"][name] for name in ("iqm", "low", "high")} == pytest.approx(
        {name: row[name] for name in ("iqm", "low", "high")}, rel=1e-12
    )  # as it is, since a card rounds it: what is rounded twice may be another number
    assert header["test"]["command"] == (
        f"python -m metalearn_env score --env {ENV} --env-kwargs 'dimension:[4, 8]' horizon:8 --tasks 16 "
        "--controllers stand-in"
    )
    (table,) = header["scores"]
    assert {"tuned-constant", "best-rule-per-task", "stand-in"} <= {line["controller"] for line in table["rows"]}
    text = (args.cards / "stand-in.md").read_text()
    assert text == card("stand-in", load(file))
    assert f"{header['test']['iqm']:.3f}" in text
    assert "python -m agents.train --seed 1" in text
    assert "test tasks, which had no part in the choice" in text


def test_another_run_is_taken_for_a_reason_that_the_card_tells(args: ship.Args) -> None:
    ship.main(replace(args, take=2, because="it never diverged"))
    header = load(args.policies / "stand-in.safetensors").header
    assert (header["seed"], header["chosen_from"]) == (2, [[0, 0.1], [1, 0.3], [2, 0.2]])
    text = (args.cards / "stand-in.md").read_text()
    assert "* validation score 0.200; of the runs that were compared:\n  0.100 (seed 0)" in text
    assert "* taken because it never diverged\n" in text
    assert "no part in the choice" not in text  # which reasons of any kind may have


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"take": 2}, "take and because go together, not take=2 and because=''"),
        ({"because": "it looks well"}, "take and because go together, not take=None"),
        ({"take": 3, "because": "it looks well"}, "take is the seed of one of the runs, which have 0, 1, 2, not 3"),
    ],
)
def test_a_run_is_taken_only_for_a_reason(args: ship.Args, asked: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ship.main(replace(args, **asked))
    assert not args.policies.exists()


def test_a_policy_is_shipped_for_other_tasks_than_it_was_trained_on(args: ship.Args) -> None:
    beside = ("tuned-constant", "oracle-constant")
    options = ("states:4", "branching:2", "horizon:6")
    ship.main(replace(args, env="MetaLearn/QLearning-v0", env_kwargs=options, controllers=beside))
    header = load(args.policies / "stand-in.safetensors").header
    assert [line["controller"] for line in header["scores"][0]["rows"]] == ["tuned-constant", "stand-in"]
    assert header["task_options"] == {"states": 4, "branching": 2, "horizon": 6}
    assert header["env_kwargs"] == {"history": 2, **header["task_options"]}
    assert header["trained_on"] == {"env": ENV, "env_kwargs": {**OPTIONS, "history": 2}}
    assert "--env MetaLearn/QLearning-v0 --env-kwargs states:4 branching:2 horizon:6" in header["test"]["command"]
    with pytest.raises(ValueError, match="of an env, and none is given: states:4"):
        ship.main(replace(args, replace=True, env_kwargs=("states:4",)))


def test_test_tasks_have_no_say_in_the_choice(args: ship.Args, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ship, "task_sets", lambda *_: pytest.fail("tasks were drawn"))
    assert ship.chosen(args.runs)[0] == args.runs[1]


@pytest.mark.parametrize("name", ["", "Mixture", "a/b", "a..b", "-a", "a\n"])
def test_odd_names_are_refused(args: ship.Args, name: str) -> None:
    with pytest.raises(ValueError, match="a name is of small letters"):
        ship.main(replace(args, name=name))
    assert not args.policies.exists()


def test_a_policy_is_replaced_on_demand_alone(args: ship.Args) -> None:
    args.policies.mkdir()
    file = args.policies / "stand-in.safetensors"
    file.write_bytes(b"")
    with pytest.raises(ValueError, match="--replace"):
        ship.main(args)
    assert file.read_bytes() == b""
    ship.main(replace(args, replace=True))
    assert load(file).header["seed"] == 1


def test_runs_of_other_tasks_are_not_compared(args: ship.Args, tmp_path: Path) -> None:
    other = run(tmp_path / "other", 9, 0.9, env_kwargs={"dimension": [4, 9]})
    with pytest.raises(ValueError, match="other tasks"):
        ship.main(replace(args, runs=(*args.runs, other)))
    with pytest.raises(FileNotFoundError, match="no-run"):
        ship.main(replace(args, runs=(*args.runs, tmp_path / "no-run")))
    assert not args.policies.exists()


@pytest.mark.parametrize("differs", [{"objective": "score"}, {"validation_kwargs": ["horizon:9"]}])
def test_runs_validated_in_another_way_are_not_compared(
    args: ship.Args, tmp_path: Path, differs: dict[str, Any]
) -> None:
    other = run(tmp_path / "other", 9, 0.9)
    record = json.loads((other / RUN).read_text())
    (other / RUN).write_text(json.dumps({**record, **differs}))
    with pytest.raises(ValueError, match="other tasks"):
        ship.chosen((*args.runs, other))
    del record["validation_kwargs"]  # which agents.schedules has not
    (other / RUN).write_text(json.dumps({**record, "objective": "gap"}))
    assert ship.chosen((*args.runs, other))[0] == other


def test_a_run_is_through_and_counts_once(args: ship.Args) -> None:
    with pytest.raises(ValueError, match=r"a run is named once, not twice: .*seed-1"):
        ship.main(replace(args, runs=(*args.runs, args.policies.parent / "cards" / ".." / "seed-1")))
    record = json.loads((args.runs[2] / RUN).read_text())
    (args.runs[2] / RUN).write_text(json.dumps({**record, "wall_seconds": 0.0}))
    with pytest.raises(ValueError, match=r"seed-2 is a run that is not through"):
        ship.main(args)
    assert not args.policies.exists()


def test_runs_with_other_options_of_agents_are_compared(args: ship.Args, tmp_path: Path) -> None:
    other = run(tmp_path / "other", 9, 0.9, env_kwargs={**OPTIONS, "history": 2, "reward": "linear"})
    assert ship.chosen((*args.runs, other))[0] == other


def test_a_card_says_when_a_policy_decides_and_on_what() -> None:
    policy = load(SHIPPED / "neural-network.safetensors")
    on_means = replace(policy, header={**policy.header, "averaged": True})
    told = "* decides at each of the first 32 inner steps, then every 64 inner steps"
    assert f"{told}\n" in card("some", policy)
    assert f"{told}, on means over the inner steps in between\n" in card("some", on_means)
    rounded = replace(policy, header={**policy.header, "resolution": 2.0**-5})
    assert f"{told}\n* what it sees of the past is rounded to multiples of 0.03125\n" in card("some", rounded)


def test_a_card_shows_the_best_rule_of_the_class() -> None:
    iqm_outside = {"bb1": (0.5, False), "nesterov": (0.9, True), "bb2": (0.1, False)}
    rows = [
        {"controller": name, "kind": "rule", "iqm": iqm, "outside": outside}
        for name, (iqm, outside) in iqm_outside.items()
    ]
    assert [row["controller"] for row in ship.shown(rows, "mine")] == ["bb1"]


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.safetensors")), ids=lambda path: getattr(path, "stem", ""))
def test_cards_say_what_policies_say(path: Path) -> None:
    text = (CARDS / f"{path.stem}.md").read_text()
    assert text == card(path.stem, load(path))
    names: dict[str, Any] = {}
    exec(text.partition("```python\n")[2].partition("```")[0], names)
    observation, _ = names["env"].reset(seed=0)
    names["env"].step(names["policy"](observation[None])[0])
