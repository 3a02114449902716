"""What agents are not shown they do not use, and what their critics alone are shown no policy file asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("stable_baselines3")

from agents.algorithms import algorithm, make_env, new_model
from agents.export import export
from agents.runs import POLICY
from agents.settings import Settings, settings
from agents.train import Args, main
from agents.views import TRUTHS
from metalearn_env.observations import columns, feature_names
from metalearn_env.policy import load

REGRESSION, MIXTURE = "MetaLearn/LinearRegression-v0", "MetaLearn/Mixture-v0"
SMALL = {"n_envs": 8, "n_steps": 8, "batch_size": 32, "policy_kwargs": {"net_arch": [8]}}
TOLD = ("n_envs:8", "n_steps:8", "batch_size:32", "policy_kwargs:{net_arch: [8]}")


def chosen(**views: Any) -> Settings:
    return settings(algorithm("ppo").cls, {**SMALL, **views})


@pytest.mark.parametrize("net_arch", [[8], []])
def test_what_is_hidden_changes_nothing(net_arch: list[int]) -> None:
    views = chosen(hidden=["task", "cosine"], policy_kwargs={"net_arch": net_arch})
    model = new_model("ppo", REGRESSION, {"horizon": 8}, views, seed=0)
    model.learn(128)
    rng, hidden = np.random.default_rng(0), [*columns(5, "task"), *columns(5, "cosine")]
    seen = rng.uniform(-1.0, 1.0, (16, len(feature_names(5)))).astype(np.float32)
    other = seen.copy()
    other[:, hidden] = rng.uniform(-1.0, 1.0, (16, len(hidden)))
    policy: Any = model.policy
    for one in (lambda x: model.predict(x, deterministic=True)[0], lambda x: values(policy, x)):
        np.testing.assert_array_equal(one(seen), one(other))
        other[:, columns(5, "progress")] = 0.5
        assert not np.array_equal(one(seen), one(other))
        other[:, columns(5, "progress")] = seen[:, columns(5, "progress")]


def values(policy: Any, observations: np.ndarray) -> np.ndarray:
    found: np.ndarray = policy.predict_values(policy.obs_to_tensor(observations)[0]).detach().numpy()
    return found


def test_a_run_goes_on_blindfolded(tmp_path: Path) -> None:
    args = {"env_kwargs": ("horizon:8",), "hyperparams": (*TOLD, "hidden:[history]", "privileged:true")}
    args |= {"validation_tasks": 8, "checkpoint_every": 64}
    main(Args(out=tmp_path, steps=64, **args))
    main(Args(out=tmp_path, steps=256, resume=True, **args))
    (weight, _), *_ = load(tmp_path / "policy.safetensors").layers
    assert weight.shape[1] == len(feature_names(5))
    assert not weight[:, columns(5, "history")].any()
    assert weight[:, columns(5, "task")].any()


def test_what_is_hidden_stays_so_where_a_run_begins_from_a_policy(tmp_path: Path) -> None:
    args = {"env_kwargs": ("horizon:8",), "validation_tasks": 8, "steps": 64}
    main(Args(out=tmp_path / "first", hyperparams=TOLD, **args))
    (seen, _), *_ = load(tmp_path / "first" / POLICY).layers
    assert seen[:, columns(5, "history")].any()
    init = tmp_path / "first" / POLICY
    main(Args(out=tmp_path / "second", hyperparams=(*TOLD, "hidden:[history]"), init=init, **args))
    (weight, _), *_ = load(tmp_path / "second" / POLICY).layers
    assert not weight[:, columns(5, "history")].any()


def test_only_the_critic_knows_the_truth() -> None:
    model = new_model("ppo", MIXTURE, {"horizon": 8}, chosen(privileged=True), seed=0)
    model.learn(128)
    env: Any = model.get_env()
    seen = env.reset()
    other = seen.copy()
    other[:, -TRUTHS:] += 1.0
    np.testing.assert_array_equal(
        model.predict(seen, deterministic=True)[0], model.predict(other, deterministic=True)[0]
    )
    assert not np.array_equal(values(model.policy, seen), values(model.policy, other))
    header = {"history": 5, "action": "relative", "strategy": "dynamic", "feature_names": list(feature_names(5))}
    found = export(model, header)(seen[:, :-TRUTHS])
    assert found == pytest.approx(model.predict(seen, deterministic=True)[0], abs=1e-6)


def test_the_truth_is_that_of_the_episode() -> None:
    env = make_env(
        REGRESSION, {"horizon": 4, "spectrum": "log-uniform", "conditioning": 100, "noise": 0}, chosen(privileged=True)
    )
    env.seed(0)
    observations = env.reset()
    assert observations[:, -TRUTHS] == pytest.approx(0.0, abs=1e-6)
    assert observations[:, -1] == pytest.approx(2.0, abs=1e-5)
    action = np.full((8, 1), -0.1, np.float32)
    for _ in range(3):
        observations, *_ = env.step(action)
    session = env.get_attr("session")[0]
    assert observations[:, -TRUTHS] == pytest.approx(np.log10(session.engine.gap_ratio), abs=1e-5)
    assert np.ptp(observations[:, -2]) > 0.0  # L in units of the step
    before = observations[:, -3].copy()
    observations, *_ = env.step(action)
    assert observations[:, -TRUTHS] == pytest.approx(0.0, abs=1e-6)  # the next episode
    assert before == pytest.approx(-10.0)  # f* is 0


def test_raw_rewards_are_those_of_the_families() -> None:
    plain, raw = (make_env(MIXTURE, {"horizon": 3}, chosen(raw_rewards=value)) for value in (False, True))
    for env in (plain, raw):
        env.seed(0)
        env.reset()
    for _ in range(6):
        unit = plain.get_attr("session")[0].reward_unit.copy()
        action = np.zeros((8, 1), np.float32)
        assert raw.step(action)[1] == pytest.approx(plain.step(action)[1] * unit, rel=1e-5)
    assert len(set(unit)) > 1


@pytest.mark.parametrize(
    ("views", "named"),
    [({"hidden": ["colour"]}, "colour"), ({"hidden": "task"}, "list"), ({"privileged": 1}, "truth value")],
)
def test_a_bad_view_is_refused(views: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        new_model("ppo", REGRESSION, {}, chosen(**views), seed=0)


def test_other_algorithms_cannot_be_blindfolded() -> None:
    with pytest.raises(ValueError, match="ppo, a2c"):
        new_model("sac", REGRESSION, {}, settings(algorithm("sac").cls, {"hidden": ["task"]}), seed=0)
