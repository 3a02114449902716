"""What writes the published pages runs, on a few tasks; their figures are not looked at."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("benchmarks")

from benchmarks import controls, throughput


def test_the_order_of_controls_is_computed() -> None:
    for env_id, options in (("MetaLearn/QLearning-v0", {"horizon": 6}), ("MetaLearn/Mixture-v0", {"horizon": 6})):
        variant = controls.measure(env_id, options, 16)
        assert [gain.of for gain in variant.gains] == [*controls.ORDER[1:]]
        page = controls.page([variant])
        assert f"| {variant.name} | {controls.verdict(variant)} |" in page
        worse = variant._replace(gains=[gain._replace(low=-1.0) for gain in variant.gains])
        assert "holds, every gain" not in controls.verdict(worse)


def test_what_schedules_are_compared_with() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("stable_baselines3")
    from agents.studies import Args
    from benchmarks.schedules import BESIDE, beside

    options = {"env": "MetaLearn/LinearRegression-v0", "env_kwargs": ("horizon:4", "dimension:8"), "test_tasks": 16}
    lines = beside(Args(out=Path("nowhere"), **options))
    assert [line.split(" | ")[0] for line in lines] == [f"| {name}" for name in BESIDE]


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

    lines = policies.page((2,), 1, 1, n_steps=4, batch_size=8, n_epochs=1, policy_kwargs={"net_arch": [4]}).splitlines()
    (training,) = [line for line in lines if line.startswith("| 2 |")]
    native, singles = (float(cell.replace(",", "")) for cell in training.split(" | ")[1:3])
    assert native > 0.0
    assert singles > 0.0
    assert sum(line.startswith(("| tanh, clip", "| relu, tanh")) for line in lines) == 2 * len(policies.TIMES)
