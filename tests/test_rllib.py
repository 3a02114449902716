"""RLlib: the same policy file, on one machine and on a cluster; Ctrl-C loses nothing, and no process stays behind."""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

pytest.importorskip("agents")
pytest.importorskip("tyro")
pytest.importorskip("stable_baselines3")

from agents import rllib
from agents.runs import POLICY, read_returns, read_scores, write_run
from metalearn_env.commandline import key_value
from metalearn_env.policy import Policy, load

ROOT = Path(__file__).parent.parent
ENV = "MetaLearn/LinearRegression-v0"
TINY = ("spectrum:log-uniform", "dimension:2", "conditioning:10", "horizon:10")
SMALL = {"num_envs": 32, "n_steps": 20, "batch_size": 160, "n_epochs": 2, "width": 8, "validation_tasks": 16}
MARK = "METALEARN_ENV_TEST"  # an environment variable, by which processes that were left behind are known
#: A token for clusters of our own, which Ray would else write to the user's home; no reports over the net; and workers
#: that do not wait until a busy machine is idle, as those of Ray do.
RAY = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
}

ray_is_here = importlib.util.find_spec("ray") is not None
needs_ray = pytest.mark.skipif(not ray_is_here, reason="ray is not installed: pip install 'metalearn-env[distributed]'")


def arguments(out: Path, **options: Any) -> rllib.Args:
    settings = {"steps": 100_000_000, "validate_every": 100_000_000, "checkpoint_every": 1280, **SMALL}
    return rllib.Args(out=out, env=ENV, env_kwargs=TINY, **{**settings, **options})


def command(args: rllib.Args) -> list[str]:
    line = [sys.executable, "-m", "agents.rllib", "--out", str(args.out), "--env", ENV, "--env-kwargs", *TINY]
    for name in ("steps", "validate_every", "checkpoint_every", *SMALL):
        line += [f"--{name.replace('_', '-')}", str(getattr(args, name))]
    line += ["--ray-address", args.ray_address] if args.ray_address else []
    return [*line, "--resume"] if args.resume else line


def left_behind(mark: str) -> list[str]:
    """Return the command lines of the processes that have the mark, some seconds after they should have gone."""
    deadline = time.monotonic() + 10
    while found := list(_marked(f"{MARK}={mark}".encode())):
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    return found


def _marked(mark: bytes) -> Iterator[str]:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes().split(b"\0"):
                yield (process / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[list[str]], subprocess.Popen[str]]]:
    """Return a function that starts a command in a process group of its own; none outlives the test."""
    begun: list[subprocess.Popen[str]] = []

    def begin(line: list[str]) -> subprocess.Popen[str]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **RAY, MARK: str(tmp_path)}
        with (tmp_path / f"log-{len(begun)}").open("w") as log:
            process = subprocess.Popen(
                line, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, text=True, start_new_session=True
            )
        begun.append(process)
        return process

    yield begin
    for process in begun:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for(happened: Callable[[], bool], process: subprocess.Popen[str], log: Path) -> None:
    deadline = time.monotonic() + 100
    while not happened():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


def difference(module: Any, policy: Policy, env_id: str, options: dict[str, Any]) -> tuple[float, float]:
    """Return how far a policy is from a module of RLlib on some observations, and how far its actions are apart."""
    import torch

    envs = gym.make_vec(env_id, num_envs=8, **options)
    envs.action_space.seed(0)
    observations = [envs.reset(seed=0)[0]]
    observations += [envs.step(envs.action_space.sample())[0] for _ in range(8)]
    observed, space = np.concatenate(observations), envs.single_action_space
    with torch.no_grad():
        outputs = module.forward_inference({"obs": torch.from_numpy(observed)})["action_dist_inputs"].numpy()
    if isinstance(space, gym.spaces.Box):
        expected = outputs[:, : space.shape[0]].clip(-1, 1)
    else:
        parts = np.split(outputs, np.cumsum(getattr(space, "nvec", [outputs.shape[1]]))[:-1], axis=1)
        expected = np.stack([part.argmax(axis=1) for part in parts], axis=1)
    return np.abs(policy(observed).reshape(expected.shape) - expected).max(), np.ptp(expected)


@needs_ray
@pytest.mark.parametrize(
    "options",
    [
        {"action": "absolute"},
        {"action": "discrete"},
        {"strategy": "random"},
        {"action": "discrete", "strategy": "random"},
    ],
    ids=str,
)
def test_a_policy_of_any_actions_equals_its_module(options: dict[str, Any]) -> None:
    import torch

    from agents.ray_ppo import export, perceptron

    torch.manual_seed(1)
    module = perceptron(gym.make(ENV, **options), width=8, log_std=-1.7).build()
    module.pi.net.mlp[-1].weight.data.mul_(300)
    policy = export(
        module, rllib.header({"env": ENV, "algo": "ppo", "seed": 0, "command": "", "resumed_at": []}, options)
    )
    error, spread = difference(module, policy, ENV, options)
    assert error < 1e-6
    assert spread > 0.1


@needs_ray
def test_a_run_of_two_workers_is_interrupted_and_goes_on_on_a_cluster(start: Any, tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = start(command(arguments(out)))
    wait_for(lambda: len(read_returns(out)) >= 3, first, tmp_path / "log-0")
    os.killpg(first.pid, signal.SIGINT)  # as a terminal does: to all of its processes
    assert first.wait(timeout=60) == 130, (tmp_path / "log-0").read_text()
    assert "--resume" in (tmp_path / "log-0").read_text()
    done = int(rllib.checkpoints(out)[-1].name)
    assert done == read_returns(out)[-1][0] == read_scores(out)[-1][0]  # nothing is lost
    assert not left_behind(str(tmp_path))

    port = free_port()
    with tempfile.TemporaryDirectory(prefix="ray") as folder:  # a short name: it is that of sockets, too
        head = [f"--port={port}", f"--temp-dir={folder}", "--num-cpus=2", f"--object-store-memory={2**27}"]
        cluster = start([sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", *head])
        wait_for(lambda: "--block" in (tmp_path / "log-1").read_text(), cluster, tmp_path / "log-1")
        goes_on = arguments(out, resume=True, steps=done + 6400, ray_address=f"127.0.0.1:{port}")
        second = start(command(goes_on))
        assert second.wait(timeout=100) == 0, (tmp_path / "log-2").read_text()
        assert cluster.poll() is None
        cluster.terminate()
        cluster.wait(timeout=30)
        assert not left_behind(str(tmp_path))
    steps = [step for step, _ in read_returns(out)]
    assert steps == sorted(set(steps))
    assert done + 6400 <= steps[-1] == int(rllib.checkpoints(out)[-1].name) < done + 8000
    assert json.loads((out / "run.json").read_text())["resumed_at"] == [done]
    agent_and_file_are_equal(out)


def agent_and_file_are_equal(out: Path) -> None:
    from agents.ray_ppo import Perceptron

    policy, scores = load(out / POLICY), dict(read_scores(out))
    assert policy.header["validation_iqm"] == pytest.approx(max(scores.values()), abs=1e-4)
    assert scores[policy.header["steps"]] == max(scores.values())
    assert {"ray", "torch", "metalearn_env"} <= policy.header["versions"].keys()
    assert len(scores) == 3  # in the beginning, where it was interrupted, and in the end
    saved = rllib.checkpoints(out)
    assert policy.header["steps"] == int(saved[-1].name), scores  # it has learned
    module = Perceptron.from_checkpoint(saved[-1] / "learner_group" / "learner" / "rl_module" / "default_policy")
    error, spread = difference(module, policy, ENV, dict(key_value(text) for text in TINY))
    assert error < 1e-6
    assert spread > 0.01


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"workers": 3}, "num_envs is a multiple of 3"),
        ({"batch_size": 641}, "batch_size is at most"),
        ({"steps": 0}, "steps"),
        ({"gamma": 1.5}, "gamma is between 0 and 1"),
        ({"resume": True}, "no checkpoint"),
    ],
)
def test_a_run_that_cannot_be_is_refused(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        rllib.check_run(arguments(tmp_path / "run", **options))
    assert not (tmp_path / "run").exists()


def test_observations_that_a_policy_cannot_take_are_refused() -> None:
    with pytest.raises(ValueError, match="flat observations, not a Dict"):
        rllib.header({"env": ENV}, {"observation": "dict"})


def test_a_run_does_not_go_on_with_other_options(tmp_path: Path) -> None:
    args = arguments(tmp_path / "run")
    (args.out / "checkpoints" / "1280").mkdir(parents=True)
    write_run(args.out, rllib.check_run(replace(args, out=tmp_path / "other")))
    with pytest.raises(ValueError, match="holds a run already"):
        rllib.check_run(args)
    with pytest.raises(ValueError, match="seed=0, not 1"):
        rllib.check_run(replace(args, resume=True, seed=1))
    with pytest.raises(ValueError, match="all 1280 steps"):
        rllib.check_run(replace(args, resume=True, steps=1280))
    assert rllib.check_run(replace(args, resume=True, ray_address="host:1"))["seed"] == 0


def test_without_ray_the_install_line_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "agents.ray_ppo", raising=False)
    with pytest.raises(ImportError, match=r'pip install "metalearn-env\[distributed\]"'):
        rllib.main(arguments(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
