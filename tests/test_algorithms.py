"""Every algorithm on every action space that it takes: trained, refused, exported; and what hyperparameters may be."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
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
import yaml
from gymnasium import spaces

from agents import expressions, train
from agents.algorithms import ALGORITHMS, algorithm, new_model
from agents.checkpoints import checkpoints
from agents.export import export
from agents.settings import FOLDER, Settings, known_names, override, read, settings
from agents.training import BEST, POLICY, read_returns, read_scores, recurrent
from metalearn_env.actions import Action, Strategy
from metalearn_env.observations import feature_names
from metalearn_env.policy import load
from metalearn_env.scoring import TaskSet, final_log_gap

ENV = "MetaLearn/LinearRegression-v0"
IDS = (ENV, "MetaLearn/Clustering-v0", "MetaLearn/QLearning-v0", "MetaLearn/Mixture-v0")
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


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_files_are_in_the_format_of_rl_zoo(name: str) -> None:
    content = yaml.safe_load((FOLDER / f"{name}.yml").read_text())
    assert {"default", *IDS} == content.keys()
    for env_id, given in content.items():
        found = read(FOLDER / f"{name}.yml", env_id)
        chosen = settings(algorithm(name).cls, found)
        assert {"n_timesteps", "policy"} <= given.keys()  # which rl-zoo demands
        if isinstance(text := given.get("policy_kwargs", {}), str):  # which rl-zoo runs
            built = chosen.constructed(spaces.Box(-1.0, 1.0, (1,)))
            assert eval(text, {"nn": torch.nn}) == built["policy_kwargs"]
            given["policy_kwargs"] = found["policy_kwargs"]
        else:
            assert "activation_fn" not in text
        assert settings(algorithm(name).cls, given) == chosen
        assert not any(isinstance(value, str) and "(" in value for value in given.values())
        assert given.get("env_kwargs", {}).get("action") == ("discrete" if name in ("dqn", "qrdqn") else None)


@pytest.mark.skipif(find_spec("rl_zoo3") is None, reason="rl_zoo3 does not install beside constraints.txt")
@pytest.mark.parametrize(("name", "env"), [*((name, ENV) for name in ALGORITHMS), ("ppo", "MetaLearn/Mixture-v0")])
def test_rl_zoo_trains_with_the_files(name: str, env: str, tmp_path: Path) -> None:
    small = ["n_eval_episodes:2", "n_delta:2", "n_top:2"] if name == "ars" else ["n_envs:2", "batch_size:4"]
    small = [text for text in small if text.partition(":")[0] in known_names(algorithm(name).cls)]
    line = [sys.executable, "-m", "rl_zoo3.train", "--algo", name, "--env", env, "--gym-packages", "metalearn_env"]
    line += ["--conf-file", str(FOLDER / f"{name}.yml"), "-n", "200", "--eval-freq", "-1", "-f", str(tmp_path)]
    subprocess.run([*line, "--hyperparams", *small], check=True, capture_output=True, timeout=200)
    assert list(tmp_path.rglob("*.zip"))


def test_there_is_a_file_for_each_algorithm() -> None:
    assert {path.stem for path in FOLDER.glob("*.yml")} == ALGORITHMS.keys()


@pytest.mark.parametrize(
    ("env", "n_epochs", "learning_rate", "units"),
    [(ENV, 6, "lin_0.001", {}), ("MetaLearn/Mixture-v0", 2, "lin_0.002", {"activation_fn": "relu"})],
)
def test_the_hyperparameters_of_ppo_are_those_that_were_chosen(
    env: str, n_epochs: int, learning_rate: str, units: dict[str, str]
) -> None:
    chosen = settings(algorithm("ppo").cls, read(FOLDER / "ppo.yml", env))
    assert chosen == Settings(
        n_timesteps=1_000_000,
        n_envs=256,
        policy="MlpPolicy",
        arguments={
            **{"n_steps": 50, "batch_size": 1600, "n_epochs": n_epochs, "learning_rate": learning_rate},
            **{"gamma": 1.0, "gae_lambda": 0.9, "ent_coef": 0.0},
            "policy_kwargs": {"net_arch": [64, 64], "log_std_init": -1.7, **units},
        },
    )


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("ppo", {"tau": 0.1}, "PPO has no hyperparameter 'tau'; it has batch_size, .*clip_range"),
        ("dqn", {"noise_type": "normal", "noise_std": 0.1}, "noise_type"),
        ("ppo", {"frame_stack": 4}, "frame_stack"),
        ("ppo", {"device": "cuda"}, "device"),
        ("sac", {"replay_buffer_class": "HerReplayBuffer"}, "replay_buffer_class"),
        ("ppo", {"policy_kwargs": "dict(net_arch=[64])"}, "code is not run"),
        ("ppo", {"policy_kwargs": {"width": 3}}, "no 'width' in policy_kwargs.*net_arch"),
        ("ppo", {"policy_kwargs": {"activation_fn": "gelu"}}, "tanh, relu, not 'gelu'"),
        ("ppo", {"policy_kwargs": {"optimizer_class": "Adam"}}, "optimizer_class"),
        ("ppo", {"policy": "CnnPolicy"}, "MlpPolicy, not 'CnnPolicy'"),
        ("ppo", {"learning_rate": "exp_1"}, "lin_NUMBER"),
        ("ppo", {"learning_rate": "lin_x"}, "lin_NUMBER"),
        ("ppo", {"learning_rate": -1}, "learning_rate is between"),
        ("ppo", {"gamma": 1.5}, "gamma is between"),
        ("ppo", {"gamma": True}, "gamma is between"),
        ("ppo", {"n_steps": 2.5}, "n_steps is a whole number"),
        ("ppo", {"ent_coef": "high"}, "ent_coef is a number"),
        ("ppo", {"normalize_advantage": 1}, "normalize_advantage is a truth value"),
        ("ppo", {"n_envs": 0}, "n_envs is a whole number"),
        ("ppo", {"n_envs": 1, "n_steps": 1}, "at least 2 steps"),
        ("td3", {"noise_type": "normal"}, "go together"),
        ("td3", {"noise_type": "pink", "noise_std": 0.1}, "not 'pink'"),
        ("ppo", {"normalize": True}, "norm_obs: false"),
        ("ppo", {"normalize": {"norm_reward": True}}, "norm_obs: false"),
        ("ppo", {"normalize": {"norm_obs": False, "norm_returns": True}}, "norm_reward"),
        ("ars", {"normalize": {"norm_obs": False}}, "whole returns"),
    ],
)
def test_what_cannot_be_honoured_is_refused(name: str, given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        settings(algorithm(name).cls, given)


@pytest.mark.parametrize(
    ("name", "given"),
    [("sac", {"train_freq": [1, "year"]}), ("sac", {"ent_coef": "auto_-1"})],
)
def test_what_the_algorithm_refuses_is_told_without_a_trace(name: str, given: dict[str, Any], tmp_path: Path) -> None:
    changed = (*arguments(tmp_path, name).hyperparams, *(f"{key}:{json.dumps(value)}" for key, value in given.items()))
    with pytest.raises(ValueError, match=f"{name} does not take these hyperparameters"):
        train.main(arguments(tmp_path / "run", name, hyperparams=changed))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("learning_rate:1e-3", ("learning_rate", 1e-3)),
        ("learning_rate:lin_1e-3", ("learning_rate", "lin_1e-3")),
        ("policy_kwargs:{net_arch: {pi: [8], vf: [9]}}", ("policy_kwargs", {"net_arch": {"pi": [8], "vf": [9]}})),
        ('train_freq:[1, "step"]', ("train_freq", [1, "step"])),
        ("normalize_advantage:false", ("normalize_advantage", False)),
        ("policy_kwargs:dict(net_arch=[8])", ("policy_kwargs", {"net_arch": [8]})),
        ("policy_kwargs:dict(net_arch=dict(pi=[8], vf=(9,)))", ("policy_kwargs", {"net_arch": {"pi": [8], "vf": [9]}})),
        (
            "policy_kwargs:dict(activation_fn=nn.Tanh, log_std_init=-1.5, ortho_init=False)",
            ("policy_kwargs", {"activation_fn": "tanh", "log_std_init": -1.5, "ortho_init": False}),
        ),
    ],
)
def test_values_on_the_command_line_are_json_or_yaml(text: str, parsed: Any) -> None:
    assert override(text) == parsed


@pytest.mark.parametrize("text", ["n_steps", ":3", "policy_kwargs:{a"])
def test_what_is_no_value_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"name:value|neither JSON nor YAML"):
        override(text)


def test_arguments_are_written_as_they_are_read() -> None:
    given = {"net_arch": {"pi": [8], "vf": [8, 9]}, "activation_fn": "relu", "log_std_init": -1.7, "ortho_init": False}
    assert expressions.arguments("policy_kwargs", expressions.text(given)) == given


@pytest.mark.parametrize(
    "text",
    [
        *("print('run')", "dict(a=print('run'))", "dict(net_arch=[8] * 2)", "dict(activation_fn=nn.GELU)", "nn.ReLU"),
        *("dict(activation_fn=torch.nn.ReLU)", "dict([8])", "dict(**{})", "dict(a=1, a=2)", "{'net_arch': [8]}"),
        *("dict(a=-'b')", "dict(a=...)", "dict(a=b'c')", "dict(a=1", "dict()()", "(" * 9999, "dict(a=" * 9999),
    ],
)
def test_of_python_only_arguments_are_read(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match=r"policy_kwargs is text such as dict\(net_arch=\[64, 64\]\)"):
        override(f"policy_kwargs:{json.dumps(text)}")
    assert not capsys.readouterr().out


def test_the_command_line_goes_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.yml"
    file.write_text(
        f"{ENV}:\n  n_timesteps: 320\n  n_envs: 32\n  gamma: 0.5\n  env_kwargs: {{horizon: 7, history: 2}}\n"
    )
    args = train.Args(tmp_path, env_kwargs=("horizon:9",), conf_file=file, hyperparams=("n_envs:8",))
    record = train.new_record(args)
    assert record["steps"] == 320
    assert record["options"] == {"horizon": 9, "history": 2}
    assert (record["settings"]["n_envs"], record["settings"]["arguments"]) == (8, {"gamma": 0.5})
    with pytest.raises(
        ValueError, match=r"mine\.yml has no hyperparameters for MetaLearn/QLearning-v0, only for .*Lin"
    ):
        read(file, "MetaLearn/QLearning-v0")


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


@pytest.mark.parametrize("name", ALGORITHMS)
def test_no_known_hyperparameter_is_ignored(name: str) -> None:
    """What is known is an argument of the algorithm, or one of those of a run, or the noise of actions, or of views."""
    of_algorithm = inspect.signature(algorithm(name).cls).parameters.keys()
    rest = known_names(algorithm(name).cls) - of_algorithm
    noise = {"noise_type", "noise_std"} if "action_noise" in of_algorithm else set()
    views = {"hidden", "privileged", "raw_rewards"}
    assert rest == {"n_timesteps", "n_envs", "env_kwargs", "normalize"} | noise | views
    assert Action.__args__ == ("relative", "absolute", "discrete")
    assert Strategy.__args__ == ("dynamic", "constant", "random")
