"""What writes the published pages runs, on a few tasks; their figures are not looked at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("benchmarks")

from benchmarks import controls, scores, throughput
from metalearn_env.engine import Engine
from metalearn_env.rules import rule


def test_the_order_of_controls_is_computed() -> None:
    for env_id, options in (("MetaLearn/QLearning-v0", {"horizon": 6}), ("MetaLearn/Mixture-v0", {"horizon": 6})):
        variant = controls.measure(env_id, options, 16)
        assert [gain.of for gain in variant.gains] == [*controls.ORDER[1:]]
        page = controls.page([variant])
        assert f"| {variant.name} | {controls.verdict(variant)} |" in page
        worse = variant._replace(gains=[gain._replace(low=-1.0) for gain in variant.gains])
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
