"""Hyperparameters: the files of all algorithms, what goes before them on the command line, and what is refused."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("stable_baselines3")
pytest.importorskip("sb3_contrib")
pytest.importorskip("tyro")
pytest.importorskip("yaml")
pytest.importorskip("agents")

import torch
import yaml
from gymnasium import spaces

from agents import train
from agents.algorithms import ALGORITHMS, algorithm
from agents.settings import Linear, Settings, known_names, settings
from agents.zoo import FOLDER, override, read, written
from metalearn_env.actions import Action, Strategy

ENV, MIXTURE = "MetaLearn/LinearRegression-v0", "MetaLearn/Mixture-v0"
IDS = (ENV, "MetaLearn/Clustering-v0", "MetaLearn/QLearning-v0", MIXTURE)


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
@pytest.mark.parametrize(("name", "env"), [*((name, ENV) for name in ALGORITHMS), ("ppo", MIXTURE)])
def test_rl_zoo_trains_with_the_files(name: str, env: str, tmp_path: Path) -> None:
    small = ["n_eval_episodes:2", "n_delta:2", "n_top:2"] if name == "ars" else ["n_envs:2", "batch_size:4"]
    small = [text for text in small if text.partition(":")[0] in known_names(algorithm(name).cls)]
    line = [sys.executable, "-m", "rl_zoo3.train", "--algo", name, "--env", env, "--gym-packages", "metalearn_env"]
    line += ["--conf-file", str(FOLDER / f"{name}.yml"), "-n", "200", "--eval-freq", "-1", "-f", str(tmp_path)]
    subprocess.run([*line, "--hyperparams", *small], check=True, capture_output=True, timeout=200)
    assert list(tmp_path.rglob("*.zip"))


def test_a_rate_that_falls_ends_at_0_where_a_last_rollout_goes_beyond_the_steps() -> None:
    rate = Linear(0.1)
    assert [rate(remaining) for remaining in (1.0, 0.5, 0.0, -0.02)] == [0.1, 0.05, 0.0, 0.0]


def test_there_is_a_file_for_each_algorithm() -> None:
    assert {path.stem for path in FOLDER.glob("*.yml")} == ALGORITHMS.keys()


@pytest.mark.parametrize(
    ("env", "n_epochs", "batch_size", "learning_rate", "units"),
    [(ENV, 6, 1600, "lin_0.001", {}), (MIXTURE, 1, 800, "lin_0.003", {"activation_fn": "relu"})],
)
def test_the_hyperparameters_of_ppo_are_those_that_were_chosen(
    env: str, n_epochs: int, batch_size: int, learning_rate: str, units: dict[str, str]
) -> None:
    chosen = settings(algorithm("ppo").cls, read(FOLDER / "ppo.yml", env))
    assert chosen == Settings(
        n_timesteps=1_000_000,
        n_envs=256,
        policy="MlpPolicy",
        arguments={
            **{"n_steps": 50, "batch_size": batch_size, "n_epochs": n_epochs, "learning_rate": learning_rate},
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
        ("ars", {"raw_rewards": True}, "whole returns"),
        ("ppo", {"clip_range": -1}, "clip_range is between"),
        ("ppo", {"max_grad_norm": -1}, "max_grad_norm is between"),
        ("ppo", {"target_kl": "abc"}, "target_kl is between"),
        ("dqn", {"exploration_fraction": -1}, "exploration_fraction is between"),
        ("sac", {"train_freq": [1, "episode"]}, "train_freq is of steps"),
        ("ppo", {"n_envs": None}, "n_envs is a whole number"),
        ("ppo", {"hidden": [[1]]}, "hidden is a list of names"),
        ("ppo", {"policy_kwargs": {"net_arch": [-1]}}, "a width in net_arch is a whole number"),
        ("ppo", {"policy_kwargs": {"net_arch": {"pi": [8], "vf": "8"}}}, "net_arch is a list of widths"),
        ("ppo", {"batch_size": 1600.5}, "batch_size is a whole number >= 1, not 1600.5"),
        ("ppo", {"stats_window_size": 0}, "stats_window_size is a whole number >= 1, not 0"),
        ("ppo", {"vf_coef": -1}, "vf_coef is between 0 and 1e.06, not -1"),
        ("ppo", {"policy_kwargs": {"log_std_init": "low"}}, "log_std_init is a number, not 'low'"),
        ("ppo", {"policy_kwargs": {"ortho_init": 1}}, "ortho_init is a truth value, not 1"),
        ("ppo", {"normalize": {"norm_obs": False, "clip_reward": "abc"}}, "clip_reward is between .* not 'abc'"),
        ("ppo", {"normalize": {"norm_obs": False, "norm_reward": "yes"}}, "norm_reward is a truth value"),
        ("sac", {"train_freq": 0}, "train_freq is a whole number >= 1, not 0"),
        ("sac", {"train_freq": [0, "step"]}, "train_freq is a whole number >= 1, not 0"),
        ("sac", {"policy_kwargs": {"n_critics": 0}}, "n_critics is a whole number >= 1, not 0"),
        ("sac", {"gradient_steps": 1.5}, "gradient_steps is a whole number >= -1, not 1.5"),
        ("td3", {"policy_delay": 0}, "policy_delay is a whole number >= 1, not 0"),
        ("td3", {"target_policy_noise": -1}, "target_policy_noise is between 0 and 10, not -1"),
        ("td3", {"noise_type": [], "noise_std": 0.1}, r"noise_type is one of .* not \[\]"),
        ("ars", {"n_top": 0}, "n_top is a whole number >= 1, not 0"),
        ("ars", {"n_delta": []}, r"n_delta is a whole number >= 1, not \[\]"),
    ],
)
def test_what_cannot_be_honoured_is_refused(name: str, given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        settings(algorithm(name).cls, given)


def test_a_whole_number_may_be_written_as_any() -> None:
    """``batch_size:1e3`` is 1000, not 1000.0, which nothing can count to."""
    given = {"n_envs": 8.0, "batch_size": 1e3, "n_epochs": 6.0, "policy_kwargs": {"lstm_hidden_size": 8.0}}
    given["policy"] = "MlpLstmPolicy"
    found = settings(algorithm("ppo_lstm").cls, given)
    counts = (found.n_envs, *map(found.arguments.get, ("batch_size", "n_epochs")))
    assert repr((*counts, found.arguments["policy_kwargs"])) == "(8, 1000, 6, {'lstm_hidden_size': 8})"
    auto = {"train_freq": 4, "gradient_steps": -1, "ent_coef": "auto_0.1", "learning_rate": "lin_1e-3"}
    assert settings(algorithm("sac").cls, auto).arguments == auto


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
    assert override(f"policy_kwargs:{written({'policy_kwargs': given})['policy_kwargs']}")[1] == given


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
