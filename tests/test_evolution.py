"""Evolution strategies: the gradient of runs alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("stable_baselines3")
pytest.importorskip("tyro")
pytest.importorskip("agents")

import torch

from agents import schedules
from agents.evolution import evolved
from agents.feedback import FeedbackMap
from agents.runs import POLICY, read_scores
from agents.studies import Args
from agents.worth import of_gaps
from metalearn_env.engine import Engine
from metalearn_env.families import make_family
from metalearn_env.family import Array
from metalearn_env.observations import feature_names
from metalearn_env.policy import Policy, load
from metalearn_env.pool import draw_tasks

TINY = {"spectrum": "log-uniform", "dimension": 2, "conditioning": 10}


def test_the_estimate_is_the_gradient_through_the_runs() -> None:
    family = make_family("LinearRegression", **TINY)
    start = Engine.start(family, draw_tasks(family, 0, 4096, 4), 4)
    step_map = FeedbackMap(1, width=4)
    step_map.biases[-1].data[:] = -0.1
    step_map.gaps(start).mean().backward()
    exact = torch.cat([parameter.grad.ravel() for parameter in step_map.parameters()]).numpy()
    step_map.zero_grad()
    step_map.evolve(start, of_gaps(1.0), 0.01, np.random.default_rng(0))
    found = torch.cat([parameter.grad.ravel() for parameter in step_map.parameters()]).numpy()
    assert found @ exact > 0.95 * np.linalg.norm(found) * np.linalg.norm(exact)
    assert np.linalg.norm(found) == pytest.approx(np.linalg.norm(exact), rel=0.4)


def test_perturbations_of_opposite_sign_meet_the_same_noise() -> None:
    """Without a perturbation there is no difference, whatever the tasks draw."""
    family = make_family("LinearRegression", batch_size=2, dimension=4)
    start = Engine.start(family, draw_tasks(family, 0, 8, 5), 5)
    names = list(feature_names(1))
    header = {"action": "relative", "strategy": "dynamic", "history": 1, "feature_names": names}
    layers = [
        (weight.astype(np.float32), bias.astype(np.float32))
        for weight, bias in FeedbackMap(1, width=4).policy(header).layers
    ]
    found = evolved(layers, header, start, of_gaps(1.0), 1e-30, np.random.default_rng(0))
    assert all((part == 0.0).all() for pair in found for part in pair)


def test_a_difference_that_is_far_too_large_counts_as_three_medians() -> None:
    family, policy = make_family("LinearRegression", dimension=2), Policy.untrained(history=1, seed=0, width=4)
    start = Engine.start(family, draw_tasks(family, 0, 9, 3), 3)

    def length(times: float) -> float:
        """Return that of the gradient where the worth of the first task is so many times as large."""

        def worth(log_gap: Array) -> tuple[Array, Array]:
            return np.array([times, *np.ones(8)]) * log_gap, np.ones(9)

        found: Any = evolved(policy.layers, policy.header, start, worth, 0.1, np.random.default_rng(0))
        return sum(float((part**2).sum()) for pair in found for part in pair)

    assert length(1e9) < 20 * length(1.0)


def test_a_family_that_torch_knows_nothing_of_is_trained_on(tmp_path: Path) -> None:
    args = Args(
        out=tmp_path,
        kind="feedback",
        through="evolution",
        env="MetaLearn/Tracking-v0",
        env_kwargs=("dimension:4", "horizon:8"),
        tasks=256,
        width=8,
        steps=30,
        validate_every=10,
        validation_tasks=64,
    )
    schedules.main(args)
    scores = dict(read_scores(tmp_path))
    assert max(scores.values()) > scores[0] + 0.1
    assert load(tmp_path / POLICY).header["validation_iqm"] == pytest.approx(max(scores.values()), abs=1e-4)


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan")])
def test_a_sigma_that_is_none_is_refused(tmp_path: Path, sigma: float) -> None:
    with pytest.raises(ValueError, match="sigma is a number above 0, not"):
        schedules.main(Args(out=tmp_path / "run", kind="feedback", through="evolution", sigma=sigma))
    assert not (tmp_path / "run").exists()
