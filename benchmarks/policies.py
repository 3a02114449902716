"""Speed of training and of policy files: ``python -m benchmarks.policies --out docs/results/policies_speed.md``.

PPO trains on the mixture, once on the native vector environment and once on a `DummyVecEnv` of as many single
environments, in turns; all else is the same. Policies are timed without an environment.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter
from timeit import timeit
from typing import Any

import gymnasium as gym
import numpy as np
import stable_baselines3
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecMonitor
from tqdm import tqdm

from agents.algorithms import algorithm
from agents.settings import settings
from agents.zoo import FOLDER, read
from benchmarks.pages import publish
from benchmarks.setting import MIXTURE
from metalearn_env.adapters.sb3 import make_sb3_env
from metalearn_env.commandline import check_writable, run, whole
from metalearn_env.observations import feature_names
from metalearn_env.policy import Policy

ROWS = (64, 128, 256)
LEAST_RATIO = 5.0
FIRST = 10  # updates of the networks, with their rollouts, before anything is counted
UPDATES = 4  # in one turn
#: (rows, most microseconds per row)
TIMES = ((1, 20.0), (16, 20.0), (1024, 1.0))
HIDDEN = (64, 64)


class Rollouts(BaseCallback):
    """A stopwatch of the rollouts of an agent: everything but its updates."""

    seconds = 0.0

    def _on_rollout_start(self) -> None:
        self._began = perf_counter()

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self.seconds += perf_counter() - self._began


class Training:
    """PPO with the hyperparameters of its file, on many rows.

    Args:
        env: the environment.
        options: in place of those of the file.
    """

    def __init__(self, env: VecEnv, **options: Any) -> None:
        chosen = settings(algorithm("ppo").cls, {**read(FOLDER / "ppo.yml", MIXTURE), **options})
        arguments = chosen.constructed(env.action_space)
        self.model, self.rollouts = PPO("MlpPolicy", VecMonitor(env), seed=0, device="cpu", **arguments), Rollouts()
        self.updates: int = self.model.n_steps * env.num_envs

    def run(self, updates: int) -> tuple[float, float]:
        """Train for so many updates, and return frames per second, in all and of the rollouts alone."""
        before, began = self.rollouts.seconds, perf_counter()
        frames = updates * self.updates
        self.model.learn(frames, callback=self.rollouts, reset_num_timesteps=False)
        return frames / (perf_counter() - began), frames / (self.rollouts.seconds - before)


def singles(rows: int) -> VecEnv:
    """Return as many single environments."""
    return DummyVecEnv([lambda: gym.make(MIXTURE) for _ in range(rows)])


def training_lines(rows: Iterable[int], rounds: int, first: int, **options: Any) -> Iterator[str]:
    """Yield a line of the table for each number of rows."""
    for n in rows:
        native, dummy = Training(make_sb3_env(MIXTURE, n), **options), Training(singles(n), **options)
        native.run(first)
        dummy.run(first)
        pairs = [(native.run(UPDATES), dummy.run(UPDATES)) for _ in tqdm(range(rounds), desc=f"{n} rows")]
        (ours, our_rollouts), (theirs, their_rollouts) = np.median(pairs, axis=0)
        ratio = median(one[0] / other[0] for one, other in pairs)
        bar = f">= {LEAST_RATIO:g} x | {'yes' if ratio >= LEAST_RATIO else 'no'}"
        yield f"| {n} | {ours:,.0f} | {theirs:,.0f} | {ratio:.2f} x | {bar} | {our_rollouts / their_rollouts:.2f} x |"


def policy_of(activation: str, output: str) -> Policy:
    """Return a policy of random weights of the usual size."""
    names, rng = feature_names(5), np.random.default_rng(0)
    sizes = (len(names), *HIDDEN, 1)
    layers = tuple(
        (rng.normal(size=(into, out)).astype(np.float32).T / np.float32(into) ** 0.5, np.zeros(out, np.float32))
        for into, out in pairwise(sizes)
    )
    header = {"history": 5, "action": "relative", "strategy": "dynamic", "feature_names": names}
    return Policy(layers, {**header, "activation": activation, "output": output})


def policy_lines(calls: int, rounds: int) -> Iterator[str]:
    """Yield a line of the table for each kind of policy and number of rows: the median of the rounds."""
    for activation, output in (("tanh", "clip"), ("relu", "tanh")):
        policy = policy_of(activation, output)
        for rows, most in TIMES:
            observations = np.random.default_rng(0).normal(size=(rows, len(feature_names(5)))).astype(np.float32)
            policy(observations)
            seconds = [timeit(lambda: policy(observations), number=calls) for _ in range(rounds)]  # noqa: B023
            each = 1e6 * median(seconds) / (calls * rows)
            reached = "yes" if each < most else "no"
            yield f"| {activation}, {output} | {rows:,} | {each:.2f} | < {most:g} | {reached} |"


def page(rows: Iterable[int] = ROWS, rounds: int = 5, calls: int = 2000, first: int = FIRST, **options: Any) -> str:
    """Return the measurements as Markdown."""
    lines = [
        "# Speed of training and of policies",
        "",
        f"`python -m benchmarks.policies --out FILE` wrote this page: medians of {rounds} rounds, what is compared",
        f"timed in turns, one thread, Python {platform.python_version()}, NumPy {np.__version__},",
        f"gymnasium {gym.__version__}, stable-baselines3 {stable_baselines3.__version__}, torch {torch.__version__}.",
        "",
        "PPO with the hyperparameters of `agents/hyperparameters/ppo.yml` on the mixture, frames per second with the",
        "updates of the networks, which are the same for both; the last column is of the rollouts alone. The first",
        f"{first} updates of an agent are not counted, in which every environment draws its first tasks:",
        "",
        "| rows | native | DummyVecEnv of single environments | ratio | bar | reached | rollouts alone |",
        "|---|---|---|---|---|---|---|",
        *training_lines(rows, rounds, first, **options),
        "",
        f"A policy file of {' and '.join(map(str, HIDDEN))} hidden units, run by NumPy:",
        "",
        "| hidden units, output | rows | microseconds per row | bar | reached |",
        "|---|---|---|---|---|",
        *policy_lines(calls, rounds),
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and write what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=whole, default=5, help="medians are of so many")
    parser.add_argument("--out", type=Path, help="write the page here, too")
    options = parser.parse_args()
    if options.out is not None:
        check_writable(options.out)
    torch.set_num_threads(1)
    publish(options.out, page(rounds=options.rounds))


if __name__ == "__main__":
    raise SystemExit(run(main))
