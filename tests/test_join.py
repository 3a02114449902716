"""Two policies in one file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("stable_baselines3")
pytest.importorskip("tensorboard")
pytest.importorskip("tyro")
pytest.importorskip("agents")

from test_policy import untrained

from agents import cells, join
from agents.feedback import FeedbackMap
from agents.runs import POLICY
from metalearn_env.policy import Policy, load


def made(seed: int, width: int) -> Policy:
    step_map = FeedbackMap(2, action="absolute", width=width, seed=seed)
    policy = step_map.policy({**step_map.interface(), "seed": seed})
    return Policy(tuple((weight, bias + 0.1 * seed) for weight, bias in policy.layers), policy.header)


def test_a_joined_policy_is_either_of_the_two() -> None:
    below, above = made(1, 8), made(2, 5)
    both = join.joined(below, above, "descriptor_3")
    observations = np.random.default_rng(0).uniform(-3.0, 3.0, (50, len(below.header["feature_names"])))
    column = list(below.header["feature_names"]).index("descriptor_3")
    for value, one in ((0.0, below), (1.0, above)):
        observations[:, column] = value
        seen = observations.astype(np.float32)
        np.testing.assert_allclose(both(seen), one(seen.astype(np.float64)), atol=1e-4)
    assert np.abs(below(observations) - above(observations)).max() > 0.01


def test_what_cannot_be_joined_is_refused() -> None:
    with pytest.raises(ValueError, match="the same history"):
        join.joined(made(1, 8), untrained("absolute", history=3), "descriptor_3")
    with pytest.raises(ValueError, match="the same action"):
        join.joined(made(1, 8), untrained("relative", history=2), "descriptor_3")
    for option, value in (("interval", 3), ("resolution", 0.5)):
        both = [Policy(one.layers, {**one.header, option: value}) for one in (made(1, 8), made(2, 8))]
        with pytest.raises(ValueError, match=f"the same {option}, .*: {value}, {value}"):
            join.joined(*both, "descriptor_3")


@pytest.mark.parametrize("on", ["nonsense", "progress", "log10_step"])
def test_only_a_feature_of_the_task_tells_apart(on: str) -> None:
    with pytest.raises(ValueError, match=f"on is one of kind_supervised, .*, not '{on}'"):
        join.joined(made(1, 8), made(2, 8), on)


def test_the_command_writes_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cells, "judged", lambda policy: cells.Judged(0.5, 0.02, 0.01))
    files = [tmp_path / f"{seed}.safetensors" for seed in (1, 2)]
    for seed, file in zip((1, 2), files, strict=True):
        made(seed, 4).save(file)
    join.main(join.Args(*files, tmp_path / "both", validation_tasks=16))
    header = load(tmp_path / "both" / POLICY).header
    assert header["seed"] == 2
    assert header["tables"] == {"score": 0.5, "risen": 0.02, "worse": 0.01}
    assert f"{header['validation_iqm']}" in capsys.readouterr().out
    with pytest.raises(ValueError, match="holds a run already"):
        join.main(join.Args(*files, tmp_path / "both", validation_tasks=16))
