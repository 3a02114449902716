"""What a policy meets on training tasks is written into its file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

pytest.importorskip("tyro")
pytest.importorskip("agents")

from agents import observed
from metalearn_env.observations import feature_names
from metalearn_env.policy import Policy, load

ENV, OPTIONS = "MetaLearn/LinearRegression-v0", {"dimension": [4, 8], "horizon": [5, 20]}


def trained(path: Path, **header: object) -> Path:
    policy = Policy.untrained(history=1, seed=0)
    Policy(policy.layers, {**policy.header, **header}).save(path)
    return path


def test_the_range_is_that_of_training_tasks(tmp_path: Path) -> None:
    file = trained(tmp_path / "mine.safetensors", env=ENV, env_kwargs=OPTIONS)
    observed.main(observed.Args((file,), rows=64, steps=30))
    policy = load(file)
    ends = dict(zip(feature_names(1), np.array(policy.header["observed"]).T, strict=True))
    assert ends["log10_horizon"] == pytest.approx(np.log10([5.0, 20.0]))
    assert ends["descriptor_0"] == pytest.approx(np.log10([4.0, 8.0]))
    assert ends["progress"] == pytest.approx([0.0, 1.0 - 1.0 / 20.0])
    assert policy.header["env_kwargs"] == OPTIONS


def test_what_a_policy_meets_is_met_at_its_decisions(tmp_path: Path) -> None:
    file = trained(tmp_path / "mine.safetensors", env=ENV, env_kwargs={"horizon": 10}, interval=5)
    observed.main(observed.Args((file,), rows=8, steps=5))
    policy = load(file)
    assert np.array(policy.header["observed"])[:, feature_names(1).index("progress")].tolist() == [0.0, 0.5]


def test_the_range_is_of_all_steps(tmp_path: Path) -> None:
    policy = load(trained(tmp_path / "mine.safetensors", env=ENV, env_kwargs={"horizon": 10}))
    low, high = zip(*(observed.met(policy, 8, steps, 0) for steps in (1, 5, 30)), strict=True)
    assert (np.diff(low, axis=0) <= 0.0).all()
    assert (np.diff(high, axis=0) >= 0.0).all()


def test_what_is_met_is_what_a_policy_was_trained_on_with_its_own_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[str, dict[str, Any]]] = []
    make = gym.make_vec
    monkeypatch.setattr(gym, "make_vec", lambda env, *_, **told: (made.append((env, told)), make(env, *_, **told))[1])
    trained_on = {"env": ENV, "env_kwargs": {"horizon": 10, "history": 7, "resolution": 0.25}}
    says = {"env": "elsewhere", "env_kwargs": {}, "resolution": 0.5, "trained_on": trained_on}
    policy = load(trained(tmp_path / "mine.safetensors", **says))
    observed.met(policy, rows=8, steps=3, seed=0)
    ((env, told),) = made
    assert env == ENV
    assert told.items() >= {"horizon": 10, "split": "train", **policy.options}.items()


def test_nothing_is_written_where_one_cannot_be(tmp_path: Path) -> None:
    file, other = trained(tmp_path / "one", env=ENV, env_kwargs={}), trained(tmp_path / "other", env=ENV)
    with pytest.raises(ValueError, match="other does not tell its env_kwargs"):
        observed.main(observed.Args((file, other)))
    with pytest.raises(ValueError, match="at least one"):
        observed.main(observed.Args(()))
    assert "observed" not in load(file).header
