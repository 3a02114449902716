"""Every algorithm on every action space that it takes: trained, refused, exported."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("stable_baselines3")
pytest.importorskip("sb3_contrib")
pytest.importorskip("tyro")
pytest.importorskip("yaml")
pytest.importorskip("agents")

import torch

from agents import train
from agents.algorithms import ALGORITHMS, algorithm, new_model
from agents.checkpoints import checkpoints
from agents.export import export
from agents.runs import BEST, POLICY, read_returns, read_scores
from agents.settings import Settings, settings
from agents.training import recurrent
from agents.zoo import FOLDER, read
from metalearn_env.observations import feature_names
from metalearn_env.policy import load
from metalearn_env.scoring import TaskSet, final_log_gap

ENV = "MetaLearn/LinearRegression-v0"
TINY = ("spectrum:log-uniform", "dimension:2", "conditioning:10", "horizon:10")
OPTIONS: dict[str, Any] = {"spectrum": "log-uniform", "dimension": 2, "conditioning": 10, "horizon": 10}
ON_POLICY = {"n_envs": 16, "n_steps": 10}
OFF_POLICY = {"n_envs": 16, "learning_starts": 320, "batch_size": 32, "gradient_steps": 2, "learning_rate": 3e-3}
#: a run of a second; what is not named is as in the files
SMALL: dict[str, dict[str, Any]] = {
    **{name: {**ON_POLICY, "batch_size": 160} for name in ("ppo", "trpo", "ppo_lstm")},
    "a2c": ON_POLICY,
    "ars": {"n_delta": 2, "n_top": 2, "n_eval_episodes": 16, "delta_std": 0.05},
    **dict.fromkeys(("sac", "td3", "ddpg", "tqc", "crossq", "dqn", "qrdqn"), OFF_POLICY),
}
EXPORTED = sorted(ALGORITHMS.keys() - {"ppo_lstm"})
SPACES = {"discrete": {"dynamic": "Discrete", "constant": "Discrete", "random": "MultiDiscrete"}}


def arguments(out: Path, name: str, **options: Any) -> Any:
    small = tuple(f"{key}:{json.dumps(value)}" for key, value in SMALL[name].items())
    every = {"steps": 2000, "validate_every": 1000, "checkpoint_every": 1000, "validation_tasks": 16}
    return train.Args(out=out, env=ENV, algo=name, **{**every, "env_kwargs": TINY, "hyperparams": small, **options})


def model_of(name: str, options: dict[str, Any], **changes: Any) -> Any:
    cls = algorithm(name).cls
    chosen = settings(cls, {**read(FOLDER / f"{name}.yml", ENV), **SMALL[name], **changes})
    return new_model(name, ENV, {**OPTIONS, **chosen.env_kwargs, **options}, chosen, 0)


def header(model: Any) -> dict[str, Any]:
    actions = model.get_env().get_attr("session")[0].actions
    return {"history": 5, "action": actions.action, "strategy": actions.strategy, "feature_names": feature_names(5)}


def takes(name: str, action: str, strategy: str) -> bool:
    space = SPACES.get(action, {}).get(strategy, "Box")
    return space in [kind.__name__ for kind in ALGORITHMS[name].takes]


# Training


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_trains_and_goes_on(name: str, tmp_path: Path) -> None:
    args = arguments(tmp_path / "run", name)
    train.main(args)
    scores, end = read_scores(args.out), int(checkpoints(args.out)[-1].stem)
    assert len(scores) >= 3
    assert len({iqm for _, iqm in scores}) > 1  # it changes
    assert np.isfinite([value for _, value in (*scores, *read_returns(args.out))]).all()
    assert 2000 <= end < 2000 + 16 * 10 * 4
    train.main(arguments(args.out, name, resume=True, steps=end + 100))
    assert read_scores(args.out)[: len(scores)] == scores
    assert int(checkpoints(args.out)[-1].stem) >= end + 100
    best = max(iqm for _, iqm in read_scores(args.out))
    if name in EXPORTED:
        policy = load(args.out / POLICY)
        assert policy.header["algorithm"] == name
        assert policy.header["validation_iqm"] == pytest.approx(best, abs=1e-4)
    else:
        assert (args.out / BEST).exists()
        assert not (args.out / POLICY).exists()


@pytest.mark.parametrize(
    ("name", "action", "strategy"),
    list(product(ALGORITHMS, ("relative", "absolute", "discrete"), ("dynamic", "constant", "random"))),
)
def test_an_algorithm_takes_a_space_or_says_what_would_fit(name: str, action: str, strategy: str) -> None:
    options = {"action": action, "strategy": strategy}
    if takes(name, action, strategy):
        model = model_of(name, options)
        observations = model.get_env().reset()
        actions, _ = model.predict(observations, deterministic=True)
        model.get_env().step(actions)
        return
    with pytest.raises(ValueError, match=f"{name} cannot take the action space") as caught:
        model_of(name, options)
    assert SPACES.get(action, {}).get(strategy, "Box") in str(caught.value)
    assert "action:" in str(caught.value)
    assert "ppo" in str(caught.value)


@pytest.mark.parametrize(("name", "option"), [("sac", "action:discrete"), ("dqn", "action:relative")])
def test_a_space_that_does_not_fit_leaves_no_trace(name: str, option: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot take the action space"):
        train.main(arguments(tmp_path / "run", name, env_kwargs=(*TINY, option)))
    assert not list(tmp_path.iterdir())


def test_random_search_counts_each_step_once_and_pairs_its_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("ars", {})
    env, tasks, stepped = model.get_env(), [], []
    reset, step = env.reset, env.step
    monkeypatch.setattr(env, "reset", lambda: (reset(), tasks.append(env.get_attr("session")[0].engine.loss.copy()))[0])
    monkeypatch.setattr(env, "step", lambda actions: (stepped.append(len(actions)), step(actions))[1])
    model.learn(1)
    assert 0 < model.num_timesteps <= sum(stepped)
    begun, met = tasks[0], tasks[-4:]  # of the four candidates of the update
    assert all(np.array_equal(one, met[0]) for one in met)
    assert not np.array_equal(begun, met[0])


# Export


@pytest.mark.parametrize("name", EXPORTED)
@pytest.mark.parametrize("strategy", ["dynamic", "random"])
def test_numpy_does_what_torch_does(name: str, strategy: str) -> None:
    options = {"strategy": strategy}
    if strategy == "random" and name in ("dqn", "qrdqn"):
        pytest.skip("takes no random steps")
    model = model_of(name, options)
    scattered(model)
    policy, env, spread = export(model, header(model)), model.get_env(), []
    observations = env.reset()
    for _ in range(20):
        expected, _ = model.predict(observations, deterministic=True)
        found = policy(observations)
        assert found.shape == expected.shape
        assert found == pytest.approx(expected, abs=1e-6)
        spread.append(found)
        observations, *_ = env.step(expected)
    assert np.std(spread) > 0.01


def scattered(model: Any) -> None:
    """Move the weights, and what batches are normalised by, away from where all actions are nearly the same."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.policy.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=generator)
        for name, statistics in model.policy.named_buffers():
            if name.endswith(("ra_mean", "ra_var")):
                statistics += 0.5 * torch.rand(statistics.shape, generator=generator)


@pytest.mark.parametrize(
    ("name", "changes", "activation", "output"),
    [
        ("ppo", {"policy_kwargs": {"net_arch": [8], "activation_fn": "relu"}}, "relu", "clip"),
        ("ppo", {"policy_kwargs": {"net_arch": {"pi": [], "vf": [8]}}}, "tanh", "clip"),
        ("ppo", {"use_sde": True, "policy_kwargs": {"net_arch": [8], "squash_output": True}}, "tanh", "tanh"),
        ("sac", {"policy_kwargs": {"net_arch": [8, 8], "activation_fn": "tanh"}}, "tanh", "tanh"),
        ("sac", {"use_sde": True, "policy_kwargs": {"net_arch": [8], "clip_mean": 0.0}}, "relu", "tanh"),
        ("crossq", {"policy_kwargs": {"net_arch": [8], "batch_norm": False}}, "relu", "tanh"),
        ("ars", {"policy": "MlpPolicy", "policy_kwargs": {"net_arch": [8], "with_bias": False}}, "relu", "tanh"),
        ("ars", {"policy": "LinearPolicy", "policy_kwargs": {"with_bias": True}}, "tanh", "clip"),
    ],
)
def test_other_networks_are_exported(name: str, changes: dict[str, Any], activation: str, output: str) -> None:
    model = model_of(name, {}, **changes)
    scattered(model)
    policy = export(model, header(model))
    assert (policy.header["activation"], policy.header["output"]) == (activation, output)
    observations = model.get_env().reset()
    assert policy(observations) == pytest.approx(model.predict(observations, deterministic=True)[0], abs=1e-6)


def test_a_network_that_cannot_be_exported_leaves_no_trace(tmp_path: Path) -> None:
    settings = (*arguments(tmp_path, "sac").hyperparams, "use_sde:true")  # its mean is clipped before tanh
    with pytest.raises(ValueError, match="Hardtanh"):
        train.main(arguments(tmp_path / "run", "sac", hyperparams=settings))
    assert not list(tmp_path.iterdir())


def test_a_recurrent_agent_is_not_exported_but_remembers() -> None:
    model = model_of("ppo_lstm", {})
    with pytest.raises(ValueError, match=r"no memory.*RecurrentPPO\.load"):
        export(model, header(model))
    scattered(model)
    tasks = TaskSet(ENV, "validation", 16, 0, OPTIONS)
    rule = recurrent(model, header(model))
    with_memory, again = (final_log_gap(tasks.family, tasks.task, 10, rule) for _ in range(2))
    assert np.array_equal(with_memory, again)  # every run begins with an empty memory

    predict = model.predict
    model.predict = lambda observations, state, **rest: predict(observations, state=None, **rest)
    assert not np.array_equal(final_log_gap(tasks.family, tasks.task, 10, rule), with_memory)


# Hyperparameters


def test_what_the_algorithm_refuses_is_told_without_a_trace(tmp_path: Path) -> None:
    changed = (*arguments(tmp_path, "sac").hyperparams, "ent_coef:auto_-1")
    with pytest.raises(ValueError, match="sac does not take these hyperparameters"):
        train.main(arguments(tmp_path / "run", "sac", hyperparams=changed))
    assert not list(tmp_path.iterdir())


def test_rewards_are_normalised_and_a_resumed_run_knows_their_scale(tmp_path: Path) -> None:
    changed = (*arguments(tmp_path, "ppo").hyperparams, "normalize:{norm_obs: false, norm_reward: true}")
    args = arguments(tmp_path / "run", "ppo", hyperparams=changed, steps=480, checkpoint_every=480)
    train.main(args)
    record = train.check_run(replace(args, resume=True))
    chosen = Settings(**record["settings"])
    identity = {"algo": "ppo", "env": ENV}
    model = train.resumed(args, record["options"], chosen, identity)
    statistics = model.get_vec_normalize_env().ret_rms
    assert statistics.count > 400
    assert statistics.var != 1.0
    assert model.get_vec_normalize_env().gamma == model.gamma == 1.0
