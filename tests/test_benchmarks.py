"""What writes the published pages runs, on a few tasks; their figures are not looked at."""

from __future__ import annotations

import json
import shlex
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("benchmarks")

from benchmarks import controls, scores, throughput
from metalearn_env.engine import Engine
from metalearn_env.policy import Policy
from metalearn_env.rules import rule


def test_the_order_of_controls_is_computed() -> None:
    for env_id, options in (("MetaLearn/QLearning-v0", {"horizon": 6}), ("MetaLearn/Mixture-v0", {"horizon": 6})):
        variant = controls.measure(env_id, options, 16)
        assert [*variant.gains] == [*controls.ORDER[1:]]
        page = controls.page([variant])
        assert f"| {variant.name} | {controls.verdict(variant)} |" in page
        worse = variant._replace(gains={name: gain._replace(low=-1.0) for name, gain in variant.gains.items()})
        assert "holds, every gain" not in controls.verdict(worse)


def test_a_table_is_measured_in_a_process_of_its_own(tmp_path: Path) -> None:
    few = ("--env-kwargs", "horizon:3", "--controllers", "bb1", "limit")
    measured = scores.measure("MetaLearn/Mixture-v0", tmp_path / "Mixture.json", 16, *few)
    assert (measured.families, len(measured.result["rows"])) == (3, 2)
    assert measured.text.count("mean of 3 tables") == 1
    assert 0.0 < measured.seconds < 120.0
    assert 20.0 < measured.megabytes < 2000.0
    page = scores.page([measured, measured._replace(seconds=181.0)])
    assert measured.text.strip() in page
    assert page.count("< 180 s, < 2,000 MB | yes |") == page.count("< 180 s, < 2,000 MB | **no** |") == 1


def test_a_table_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="status 2"):
        scores.measure("MetaLearn/Mixture-v0", tmp_path / "nowhere" / "Mixture.json", 8)


def test_what_schedules_are_compared_with() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("stable_baselines3")
    from agents.studies import Args
    from benchmarks.schedules import BESIDE, beside

    options = {"env": "MetaLearn/LinearRegression-v0", "env_kwargs": ("horizon:4", "dimension:8"), "test_tasks": 16}
    lines = beside(Args(out=Path("nowhere"), **options))
    assert [line.split(" | ")[0] for line in lines] == [f"| {name}" for name in BESIDE]


def test_learned_steps_are_compared_with_the_closed_form(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from benchmarks import closed_form
    from metalearn_env.policy import Policy

    header = {"env": "MetaLearn/Tracking-v0", "env_kwargs": {"horizon": 8}, "command": "as it was made"}
    untrained = Policy.untrained(history=2, seed=0)
    page = closed_form.page([replace(untrained, header={**untrained.header, **header})], "validation", 32)
    assert "    as it was made" in page
    assert [line.split(" | ")[0] for line in page.splitlines() if line[:3] in ("| 1", "| 8")] == ["| 1", "| 8"]
    elsewhere = replace(untrained, header={**untrained.header, **header, "env": "MetaLearn/QLearning-v0"})
    with pytest.raises(ValueError, match=r"no closed form.*QLearning"):
        closed_form.page([elsewhere], "validation", 32)


def test_variants_are_held_against_the_numbers_of_other_rules() -> None:
    from benchmarks import rules, variants

    name, setting = next(iter(rules.spectra(60).items()))
    sample = variants.Sample(setting, rules.EARLIER[name])
    mean, added = sample.added(rule("dai-yuan"), variants.DAI_YUAN)
    assert np.isfinite(mean)
    assert 0.0 <= added < 20.0
    far = variants.Sample(setting, (*rules.EARLIER[name][: variants.DAI_YUAN], 5.0, 0.0))
    assert far.base == pytest.approx(sample.base)
    assert far.added(rule("dai-yuan"), variants.DAI_YUAN)[1] > 1000.0


def test_variants_of_streams() -> None:
    from benchmarks import rules, variants

    tasks = rules.streams("linear-uniform", 8).sets[2]
    engine = Engine.start(tasks.family, tasks.task, tasks.horizon)
    inputs = engine.task.inputs[:, 0]
    mean = (0.3 / (inputs**2).sum(axis=2)).mean(axis=1)
    assert next(variants.nlms_of_each(engine)) == pytest.approx(mean)
    trace = (engine.task.diagonal**2).sum(axis=1)
    assert next(variants.adagrad_norm_in_trace(engine)) == pytest.approx(1.0 / trace)


@pytest.mark.parametrize("diverging", [False, True])
def test_rates_are_of_steps_that_count(diverging: bool) -> None:
    batch = throughput.Batch("MetaLearn/Mixture-v0", 3, diverging=diverging, horizon=4)
    batch.run(2 * 5)
    assert batch.seconds > 0.0
    if not diverging:
        assert (batch.steps, batch.episodes) == (2 * 4 * 3, 2 * 3)


def test_the_speed_of_training_and_policies_is_a_page() -> None:
    pytest.importorskip("stable_baselines3")
    pytest.importorskip("yaml")
    from benchmarks import policies

    small = {"n_steps": 4, "batch_size": 8, "n_epochs": 1, "policy_kwargs": {"net_arch": [4]}}
    lines = policies.page((2,), rounds=1, calls=1, first=1, **small).splitlines()
    (training,) = [line for line in lines if line.startswith("| 2 |")]
    native, singles = (float(cell.replace(",", "")) for cell in training.split(" | ")[1:3])
    assert native > 0.0
    assert singles > 0.0
    assert sum(line.startswith(("| tanh, clip", "| relu, tanh")) for line in lines) == 2 * len(policies.TIMES)


# Agents


def untrained_run(
    folder: Path,
    seed: int,
    env: str,
    options: dict[str, Any],
    steps: int = 100,
    command: Sequence[str] = ("-m", "agents.train"),
) -> None:
    """Leave what a run of 100 steps leaves, after some of them, of a policy of random weights."""
    policy = Policy.untrained(history=2, seed=seed)
    says = {"env": env, "env_kwargs": options, "seed": seed, "validation_iqm": 0.1, "steps": 100, "command": "python"}
    record = {"command": shlex.join(["python", *command]), "steps": 100, "wall_seconds": 60.0}
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / f"{steps}.zip").touch()
    replace(policy, header={**policy.header, **says}).save(folder / "policy.safetensors")
    (folder / "run.json").write_text(json.dumps(record))


def test_trainings_are_skipped_or_resumed(tmp_path: Path) -> None:
    from benchmarks.trainings import Training

    training = Training(tmp_path / "run", ("--seed", "1"), 100)
    begun = ["-m", "agents.train", "--seed", "1", "--steps", "100", "--out", str(tmp_path / "run")]
    assert (training.done, training.command) == (False, begun)
    untrained_run(tmp_path / "run", 0, "", {}, steps=60, command=begun)
    assert (training.done, training.command) == (False, [*begun, "--resume"])
    (tmp_path / "run" / "checkpoints" / "120.zip").touch()
    assert training.done


@pytest.mark.parametrize("changed", [{"steps": 200}, {"arguments": ("--seed", "2")}, {"module": "agents.schedules"}])
def test_the_run_of_another_command_is_neither_taken_nor_touched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changed: dict[str, Any]
) -> None:
    from benchmarks.trainings import Training, run_all

    training = Training(tmp_path / "run", ("--seed", "1"), 100)
    untrained_run(training.out, 1, "", {}, command=training.first)
    before = {path: path.read_bytes() for path in training.out.rglob("*") if path.is_file()}
    assert training.done
    other = replace(training, **changed)
    assert not other.done
    with pytest.raises(ValueError, match="1 of 1 trainings failed"):
        run_all([other], 1)
    assert "holds the run of another command: python -m agents.train --seed 1" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in training.out.rglob("*") if path.is_file()} == before


def test_a_run_of_hyperparameters_that_have_changed_is_another(tmp_path: Path) -> None:
    tyro = pytest.importorskip("tyro")
    pytest.importorskip("stable_baselines3")
    from agents import train
    from agents.runs import RUN
    from benchmarks.trainings import Training, arguments

    file, env = tmp_path / "ppo.yml", "MetaLearn/LinearRegression-v0"
    file.write_text(f"{env}: {{learning_rate: lin_0.001}}")
    training = Training(tmp_path / "run", (*arguments(env), "--conf-file", str(file)), 100)
    untrained_run(training.out, 0, env, {}, command=training.first)
    record = json.loads((training.out / RUN).read_text())
    settings = train.new_record(tyro.cli(train.Args, args=training.first[2:]))["settings"]
    (training.out / RUN).write_text(json.dumps({**record, "settings": settings}))
    assert training.done
    file.write_text(f"{env}: {{learning_rate: lin_0.1}}")
    assert not training.done
    assert training.other is not None


def test_a_student_comes_after_its_teachers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import trainings

    order: list[str] = []
    monkeypatch.setattr(trainings, "_run", lambda training: order.append(training.out.name) or "")
    student = trainings.Training(tmp_path / "student", (), 1, trainings.DISTIL)
    teacher = trainings.Training(tmp_path / "teacher", (), 1)
    trainings.run_all([student, teacher], 2)
    assert order == ["teacher", "student"]
    with pytest.raises(ValueError, match="a folder is for one training"):
        trainings.run_all([teacher, replace(teacher, steps=2)], 2)
    assert len(order) == 2


def test_a_control_is_taken_if_its_training_is_through(tmp_path: Path) -> None:
    from benchmarks.agent_settings import SETTINGS

    setting = SETTINGS["clustering"]
    untrained_run(tmp_path / "clustering" / "static", 0, "", {}, steps=60)
    assert setting.controls(tmp_path) == {}
    (tmp_path / "clustering" / "static" / "checkpoints" / "100.zip").touch()
    assert setting.controls(tmp_path) == {"static": tmp_path / "clustering" / "static" / "policy.safetensors"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_page_is_printed_if_it_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks.pages import publish

    link = tmp_path / "full"
    link.symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"cannot write .*full: No space left"):
        publish(link, "a page")
    assert capsys.readouterr().out == "a page\n"
    assert link.is_symlink()
    publish(tmp_path / "page.md", "a page")
    assert (tmp_path / "page.md").read_text() == "a page"
    publish(None, "a page")


def test_a_run_without_checkpoints_that_was_cut_begins_again(tmp_path: Path) -> None:
    from agents.runs import finished, read_scores
    from benchmarks.trainings import SCHEDULES, Training, run_all

    tasks = ("--tasks", "8", "--validation-tasks", "16", "--env-kwargs", "dimension:2", "horizon:5")
    training = Training(tmp_path / "run", ("--kind", "feedback", *tasks), 2, SCHEDULES)
    run_all([training], 1)
    assert training.done
    record = json.loads((training.out / "run.json").read_text())
    del record["wall_seconds"]  # as if it had been killed
    (training.out / "run.json").write_text(json.dumps(record))
    assert not finished(training.out)
    run_all([training], 1)
    assert training.done
    assert [steps for steps, _ in read_scores(training.out)] == [0, 2]


def test_what_another_process_trains_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("fcntl")
    from agents.locks import held
    from benchmarks.trainings import SCHEDULES, Training, run_all

    training = Training(tmp_path / "run", (), 2, SCHEDULES)
    with held(training.out):
        (training.out / "run.json").write_text(json.dumps({"command": " ".join(["python", *training.first])}))
        (training.out / "validation.csv").write_text("0,0.5\n")
        with pytest.raises(ValueError, match="1 of 1 trainings failed"):
            run_all([training], 1)
        assert (training.out / "validation.csv").read_text() == "0,0.5\n"
    assert "another process works in" in capsys.readouterr().out


def test_what_failed_is_named_after_all_else_has_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks.trainings import Training, run_all

    trainings = [Training(tmp_path / name, ("--seed", "-1"), 100) for name in ("odd", "there")]
    untrained_run(tmp_path / "there", 0, "", {}, command=trainings[1].first)
    with pytest.raises(ValueError, match=r"1 of 2 trainings failed: .*odd"):
        run_all(trainings, 1)
    assert f"done before: {tmp_path / 'there'}" in capsys.readouterr().out
    assert "seed" in (tmp_path / "odd" / "log.txt").read_text()


def test_every_training_can_be_asked_for() -> None:
    tyro = pytest.importorskip("tyro")
    pytest.importorskip("stable_baselines3")
    from agents import distil, studies, teachers, train
    from benchmarks import learning, strategies
    from benchmarks.agent_settings import SETTINGS
    from benchmarks.trainings import DISTIL, SCHEDULES, TRAIN
    from metalearn_env.scoring import task_sets

    options = Namespace(runs=Path("runs"), steps=100, seeds=[0], hyperparams=[])
    trainings = [one for setting in SETTINGS.values() for one in setting.agent_trainings(Path("runs"), [0])]
    options.runs = Path("more")
    trainings += [
        one for s in strategies.SETTINGS for kind in strategies.STRATEGIES for one in s.trainings(kind, options)
    ]
    trainings += [
        one for variation in learning.VARIATIONS for name in learning.ENVS for one in variation.trainings(name, options)
    ]
    assert len({one.out for one in trainings}) == len(trainings)
    schedules = [one for one in trainings if one.module == SCHEDULES]
    taught = {one.out.parent.name: one for one in trainings if one.module == DISTIL}
    assert list(taught) == ["mixture", "mixture-ritz"]
    for name, one in taught.items():
        asked = tyro.cli(distil.Args, args=one.command[2:])
        assert len(asked.teachers) == len(SETTINGS[name].teachers)
        assert {teacher.rpartition("=")[2] for teacher in SETTINGS[name].teachers} <= set(SETTINGS)
        assert asked.env_kwargs == SETTINGS[name].agent_kwargs
        teachers.interface(asked.env_kwargs)
    for one in (one for one in trainings if one.module == TRAIN):
        args = tyro.cli(train.Args, args=one.command[2:])
        task_sets(args.env, "test", 8, 0, train.new_record(args)["options"])
    controls = (one for setting in SETTINGS.values() for one in setting.control_trainings(Path("runs")))
    for one in (*schedules, *controls):
        studies.Study(tyro.cli(studies.Args, args=one.command[2:]))


@pytest.mark.parametrize(
    ("least", "iqm", "low", "diverged", "words"),
    [
        (0.4, 0.45, 0.01, 0.0, "yes"),
        (0.4, 0.45, -0.01, 0.0, "no"),
        (0.4, 0.39, 0.01, 0.0, "no"),
        (0.4, 0.55, 0.01, 0.0, "strong"),
        (0.4, 0.55, 0.01, 0.001, "strong, but diverges"),
        (None, 0.04, -0.2, 0.0, "yes"),
        (None, 0.04, -0.05, 0.0, "no"),
    ],
)
def test_a_bar_is_reached_clearly_or_not(least: Any, iqm: float, low: float, diverged: float, words: str) -> None:
    pytest.importorskip("stable_baselines3")
    from benchmarks.agent_tables import Bar, verdict
    from metalearn_env.scoring.statistics import Estimate

    bar, difference = Bar(least, least and 0.5, "rival"), Estimate(low + 0.05, low, low + 0.1)
    assert verdict(bar, Estimate(iqm, 0.0, 1.0), difference, None, diverged) == words
    if least is not None:
        assert verdict(bar, Estimate(iqm, 0.0, 1.0), None, None, diverged).startswith("no")  # without its rival


def test_agents_are_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("stable_baselines3")
    pytest.importorskip("sklearn")
    from benchmarks import agent_page
    from benchmarks.setting import REGRESSION, Bar, Setting

    setting = Setting("tiny", REGRESSION, ("dimension:[4,8]", "horizon:8"), Bar(0.1, 0.2, "bb1"))
    for seed in range(2):
        untrained_run(setting.folder(tmp_path, seed), seed, REGRESSION, setting.options)
    monkeypatch.setattr(agent_page, "DEFAULTS", ("tiny",))
    text = agent_page.page([setting], tmp_path, 16)
    for line in (
        "| tiny | -",
        "| LinearRegression, heavy_tails | tiny |",
        "| diabetes | tiny |",
        "| best-rule-per-task | control |",
        "| trained-agent, mean-schedule | control |",
        "| tiny | 1 | 0.100 | 100 |",
    ):
        assert f"\n{line}" in text
    (invariant,) = [line for line in text.splitlines() if line.startswith("| LinearRegression | tiny |")]
    assert 0.0 < float(invariant.split(" | ")[2]) < 1e-4  # what rounding comes to
    with pytest.raises(ValueError, match="no agents"):
        agent_page.page([], tmp_path, 16)


def test_steps_are_compared_with_the_known_answer(tmp_path: Path) -> None:
    pytest.importorskip("stable_baselines3")
    from benchmarks.agent_settings import SETTINGS
    from benchmarks.agent_tables import Trained, known_answer
    from benchmarks.setting import ISOTROPIC
    from metalearn_env.scoring.contenders import contender

    class OfRule(Trained):
        agent = contender("isotropic-lms")

    lines = list(known_answer(OfRule(SETTINGS[ISOTROPIC], tmp_path, 8)))[2:]
    assert [line.split(" | ", 1)[1] for line in lines] == ["1.000 | 0.0% |"] * 4
    OfRule.agent = contender("nlms")
    lines = list(known_answer(OfRule(SETTINGS[ISOTROPIC], tmp_path, 8)))[2:]
    assert all("| 0.0% |" not in line for line in lines)


def test_what_makes_it_learn_is_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("stable_baselines3")
    from benchmarks import learning
    from benchmarks.setting import REGRESSION

    monkeypatch.setattr(learning, "ENVS", {(name := "LinearRegression"): learning.ENVS["LinearRegression"]})
    base, *others = learning.VARIATIONS
    out = tmp_path / "page.md"
    options = Namespace(runs=tmp_path, steps=100, seeds=[0], hyperparams=[], tasks=16, out=out)
    discount = next(other for other in others if other.name == "discount")
    for seed, variation in enumerate((base, discount)):
        (training,) = variation.trainings(name, options)
        untrained_run(training.out, seed, REGRESSION, {}, command=training.first)
    lines = [line for line in learning.page(options).splitlines() if line.startswith("|")]
    names = [line.split(" | ")[:2] for line in lines[2:]]
    assert names == [["| base", "as it is"], ["| discount", "0.99"], *(["| masked", mask] for mask in learning.MASKS)]
    out.write_text(
        "| what | value | Mixture | above the base | LinearRegression | above the base |\n"
        "| network | two layers of 32 |  |  | 0.3 | -0.1 |\n| discount | 0.99 | 0.2 | 0.1 | 0.4 | 0.0 |\n"
    )
    kept = [line for line in learning.page(options).splitlines() if line.startswith("|")]
    assert set(kept) - set(lines) == {"| network | two layers of 32 | 0.3 | -0.1 |"}
    out.write_text(learning.page(options))
    options.tasks = 24
    with pytest.raises(ValueError, match=r"\('100', '1', '16'\) \(steps, seeds, tasks\), not of \('100', '1', '24'\)"):
        learning.check_alike(options)


def test_some_settings_of_a_page_are_renewed() -> None:
    from benchmarks.agent_merge import merged

    def page(values: dict[str, str], tasks: str, trained: str = "") -> str:
        bars = "\n".join(f"| {name} | {value} |" for name, value in values.items())
        rows = "\n".join(f"| {tasks} | {name} | {value} |" for name, value in values.items())
        parts = "\n\n".join(f"## {name}\n\n### part\n\n{value}" for name, value in values.items())
        runs = "\n".join(f"| {name} | {seed} | {value}{trained} |" for name, value in values.items() for seed in (0, 1))
        return (
            f"# Agents\n\nNot trained: x, y.\n\n## Bars\n\n| name | S |\n|---|---|\n{bars}\n\n"
            f"## Real data\n\n{rows}\n\n"
            f"# What a sceptic asks for\n\n{parts}\n\n# How they were trained\n\n{runs}\n"
        )

    known, old = ["a", "b", "x", "y"], page({"a": "0.1", "b": "0.2"}, "iris")
    assert merged(old, page({"a": "0.1"}, "iris"), ["a"], known) == old
    text = merged(old, page({"a": "0.7"}, "iris"), ["a"], known)
    assert text == old.replace("| a | 0.1 |", "| a | 0.7 |").replace("part\n\n0.1", "part\n\n0.7").replace(
        "| a | 0 | 0.1 |\n| a | 1 | 0.1 |", "| a | 0 | 0.7 |\n| a | 1 | 0.7 |"
    )
    text = old  # what is said before the tables is renewed, too
    for head, first in (
        ("# Agents", "Not trained"),
        ("## Real data", "| iris | a |"),
        ("# How they were trained", "| a | 0"),
    ):
        text = text.replace(f"{head}\n\n{first}", f"{head}\n\nIn words.\n\n{first}")
    assert text.count("In words.") == 3
    assert merged(old, text, ["a", "b"], known) == text
    text = merged(old, page({"x": "0.7"}, "wine"), ["x"], known)
    for line in (
        "| b | 0.2 |\n| x | 0.7 |",
        "| b | 1 | 0.2 |\n| x | 0 | 0.7 |",
        "| iris | b | 0.2 |\n| wine | x | 0.7 |",
        "## x\n\n### part",
        "Not trained: y.",
    ):
        assert line in text
    text = merged(text, page({"a": "0.5"}, "iris"), ["a"], ["x", "b", "a"])
    assert text.index("| x | 0.7 |") < text.index("| b | 0.2 |") < text.index("| a | 0.5 |")
    assert text.index("## x\n") < text.index("## b\n") < text.index("## a\n") < text.index("# How they were trained")
    assert text.index("| x | 1 |") < text.index("| b | 0 |") < text.index("| b | 1 |") < text.index("| a | 0 |")
    assert "| iris | a |" not in merged(old, page({"a": "0.7"}, "wine"), ["a"], known)
    of_x, of_y = ("## One agent for all: x\n\n| a | 0.1 |\n| b | 0.1 |", "## One agent for all: y\n\n| a | 0.3 |")
    both = old.replace("## Real data", f"{of_x}\n\n{of_y}\n\n## Real data")
    new = page({"x": "0.7"}, "wine").replace("## Real data", "## One agent for all: x\n\n| b | 0.2 |\n\n## Real data")
    assert f"## One agent for all: x\n\n| b | 0.2 |\n\n{of_y}\n\n## Real data" in merged(both, new, ["x"], known)
    new = new.replace("| x | 0.7 |", "| b | 0.7 |")  # of a setting that the mixture is compared with: its row alone
    assert f"| a | 0.1 |\n| b | 0.2 |\n\n{of_y}\n\n## Real data" in merged(both, new, ["b"], known)
    with pytest.raises(ValueError, match="How they were trained"):
        merged("# Agents\n", old, ["a"], known)
    with pytest.raises(ValueError, match=r"no table of \| name \| S \| seeds \|; make all of it anew"):
        merged(old, old.replace("| name | S |\n|---", "| name | S | seeds |\n|---|---"), ["a"], known)


@pytest.mark.parametrize("name", ["learning", "strategies", "agents"])
@pytest.mark.parametrize("steps", ["0", "-3"])
def test_trainings_have_steps(name: str, steps: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("stable_baselines3")
    module = import_module(f"benchmarks.{name}")
    with pytest.raises(SystemExit):
        module.main([*(["train"] if name == "agents" else []), "--steps", steps])
    assert f"--steps: it is a whole number >= 1, not '{steps}'" in capsys.readouterr().err


def test_strategies_are_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("stable_baselines3")
    from benchmarks import strategies
    from metalearn_env.observations import feature_names

    monkeypatch.setattr(strategies, "MEANS", np.array([0.5, 1.0]))
    options = Namespace(runs=tmp_path, steps=120, seeds=[0])
    setting = strategies.Setting("tiny", "MetaLearn/LinearRegression-v0", ("dimension:[4,8]", "noise:0"), horizon=12)
    for kind, chosen in ((strategies.CONSTANT, (0.0,)), (strategies.RANDOM, (0.0, 0.25))):
        (training,) = setting.trainings(kind, options)
        untrained_run(training.out, 0, setting.env, {}, command=training.first)
        names = list(feature_names(2))
        header = {"action": "relative", "strategy": kind, "history": 2, "feature_names": names}
        layer = (np.zeros((len(chosen), len(names)), np.float32), np.array(chosen, np.float32))
        Policy((layer,), header).save(training.out / "policy.safetensors")
    lines = strategies.page([setting], options).splitlines()
    (trained,) = [line for line in lines if line.startswith("| tiny |")]
    rules = [strategies.fixed(1.0, 0.0), strategies.fixed(1.0, 1.25)]
    same = [str(strategies.reached(setting, rule)) for rule in rules]
    assert trained.split(" | ")[1:4] == [*same, ""]  # no dynamic agent
    assert trained.endswith("| 1.25 [1.25, 1.25] |")
    at = {line.split(" | ")[0]: line for line in lines}
    assert {"| 0.00", "| 2.00", "| log-normal", "| told L, mu"} <= at.keys()
    assert sum("**" in line for line in lines) == 1


def test_a_study_and_what_it_is_worth_are_a_page(tmp_path: Path) -> None:
    pytest.importorskip("stable_baselines3")
    yaml = pytest.importorskip("yaml")
    from benchmarks import tuning
    from benchmarks.setting import REGRESSION
    from metalearn_env.scoring.statistics import Estimate

    told = {"env": REGRESSION, "algo": "ppo", "trials": 2, "trial_steps": 50, "steps": 100, "seeds": [0], "tasks": 16}
    options = Namespace(runs=tmp_path, **told)
    for seed, (one,) in enumerate(tuning.trainings(options).values()):
        untrained_run(one.out, seed, REGRESSION, {}, command=one.first)
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "trials.md").write_text("| trial |\n| --- |\n| 1 |\n")
    best = {"n_timesteps": 50, "n_envs": 256, "learning_rate": "lin_0.002", "policy_kwargs": {"net_arch": [32, 32]}}
    (tmp_path / "study" / "ppo.yml").write_text(yaml.safe_dump({REGRESSION: best}))
    text = tuning.page(options)
    for line in ("| learning_rate | lin_0.001 | lin_0.002 |", "| trial |", "| present | -", "| best of the study | -"):
        assert f"\n{line}" in text
    assert "| n_envs |" not in text
    assert "python -m agents.tune --algo ppo" in text
    gains = ((0.2, 0.1, 0.3), (0.02, 0.01, 0.03), (-0.15, -0.2, -0.1), (0.0, -0.1, 0.1))
    for gain, said in zip(gains, ("better.", "by less than", "worse", "not clearly"), strict=True):
        assert said in tuning.verdict(Estimate(*gain))
