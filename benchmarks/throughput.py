"""Speed and memory of the environments: ``python -m benchmarks.throughput`` writes docs/results/throughput.md.

Rates depend on the machine; what is compared are ratios, of things that are timed in turns in the same run.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path
from statistics import median
from timeit import timeit
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from tqdm import tqdm

import metalearn_env  # noqa: F401  (registers)
from benchmarks.pages import publish
from metalearn_env.commandline import check_writable, run, whole

REGRESSION = "MetaLearn/LinearRegression-v0"
MIXTURE = "MetaLearn/Mixture-v0"
CARTPOLE = ("CartPole-v1", (0, 1))  # and its actions, in turns
PARTS = (REGRESSION, "MetaLearn/Clustering-v0", "MetaLearn/QLearning-v0")
#: (id, rows, bar as a multiple of CartPole, episodes that a row is timed for: a few of the blocks it draws at once)
VECTORS = ((PARTS[0], 1024, 8.0, 160), (PARTS[1], 256, 0.7, 56), (PARTS[2], 256, 2.0, 56))
MIXTURE_EPISODES = 28
TURNS = 8  # of CartPole and a vector environment
EPISODE = 51  # steps: 50 of the inner run, and the one in which the next episode begins
REGIMES = {False: "rows end together", True: "runs diverge, rows end at any time"}
MOST_MEGABYTES, MEMORY_ROWS, MEMORY_EPISODES = 500, 1024, 10  # so that a mixture has met every family in every row
ROWS, DIMENSIONS = (64, 256, 1024, 4096), (8, 16, 32, 64, 128, 256)
HEAVY = ("torch", "stable_baselines3", "matplotlib", "scipy", "pandas")

RESIDENT = """
import sys, time, gymnasium, numpy
def resident(line):  # VmRSS: now, VmHWM: at most; getrusage would count what the parent process held, too
    with open("/proc/self/status") as file:
        return next(int(entry.split()[1]) / 1024 for entry in file if entry.startswith(line))
"""
IMPORT = f"""{RESIDENT}
before, t = resident("VmRSS"), time.perf_counter()
import metalearn_env
print(time.perf_counter() - t, resident("VmRSS") - before, *(name for name in {HEAVY} if name in sys.modules))
"""
MEMORY = f"""{RESIDENT}
env = gymnasium.make_vec("metalearn_env:" + sys.argv[1], num_envs={MEMORY_ROWS})
env.reset(seed=0)
for _ in range({MEMORY_EPISODES} * {EPISODE}):
    env.step(numpy.zeros(({MEMORY_ROWS}, 1), numpy.float32))
print(resident("VmHWM"))
"""


class Line(NamedTuple):
    """A line of the main table."""

    what: str
    measured: str
    bar: str
    reached: bool


class Single:
    """One environment, stepped with the same actions again and again."""

    def __init__(self, env_id: str, actions: Sequence[Any], **options: object) -> None:
        self.env, self.actions = gym.make(env_id, **options), cycle(actions)
        self.env.reset(seed=0)

    def run(self, steps: int) -> float:
        """Return seconds per step, resets included."""
        began = time.perf_counter()
        for _ in range(steps):
            _, _, terminated, truncated, _ = self.env.step(next(self.actions))
            if terminated or truncated:
                self.env.reset()
        return (time.perf_counter() - began) / steps


class Batch:
    """A native vector environment on test tasks, with a stopwatch.

    Args:
        env_id: its id.
        rows: of the environment.
        diverging: whether random actions let many of the inner runs diverge, so that rows end at any time; if not,
            step sizes only shrink, and all episodes last 50 steps and end together.
        options: of the environment.
    """

    def __init__(self, env_id: str, rows: int, *, diverging: bool = False, **options: object) -> None:
        self.rows = rows
        self.env = gym.make_vec(env_id, num_envs=rows, split="test", **options)
        self.env.reset(seed=0)
        rng = np.random.default_rng(0)
        self.actions = cycle(rng.uniform(-0.1, 0.1 if diverging else 0.0, (64, rows, 1)).astype(np.float32))
        self.clear()

    def clear(self) -> None:
        self.seconds = self.in_resets = 0.0
        self.steps = self.episodes = 0  # of all rows together; steps in which an episode begins are none

    def run(self, steps: int) -> None:
        """Make steps, resets included, and add up what they take."""
        began, ended = time.perf_counter(), 0
        for _ in range(steps):
            ended += np.count_nonzero(self.env.step(next(self.actions))[2])
        self.seconds += time.perf_counter() - began
        self.episodes += ended
        self.steps += steps * self.rows - ended

    def watch_resets(self) -> None:
        """Add up from now on what resets take."""
        session = self.env.unwrapped.session
        begin = session.begin

        def timed_begin(which: np.ndarray) -> None:
            began = time.perf_counter()
            begin(which)
            self.in_resets += time.perf_counter() - began

        session.begin = timed_begin

    def bare(self, repeats: int = 100) -> float:
        """Return seconds per row of the loss and direction alone: in one piece, or as the engine does, the faster."""
        engine = self.env.unwrapped.session.engine
        t, spare = np.minimum(engine.t, engine.horizon), np.empty_like(engine.theta)
        whole = timeit(lambda: engine.family.evaluate(engine.task, engine.theta, t), number=repeats)
        return min(whole, timeit(lambda: engine.evaluate(spare), number=repeats)) / repeats / self.rows


def single_lines(rounds: int) -> list[Line]:
    """Return the lines of CartPole and of one environment."""
    actions = np.random.default_rng(0).uniform(-0.1, 0.1, (1000, 1)).astype(np.float32)
    cart, one = Single(*CARTPOLE), Single(REGRESSION, actions, split="test")
    times = [(cart.run(20_000), one.run(5_000)) for _ in tqdm(range(4 * rounds), desc="one environment")]
    cart_s, one_s = (median(column) for column in zip(*times, strict=True))
    ratio = median(c / o for c, o in times)
    return [
        Line("CartPole-v1, `gym.make`", f"{1 / cart_s:,.0f} steps/s", "1", True),
        Line(
            f"one {short(REGRESSION)} environment, `gym.make`, resets included",
            f"{1 / one_s:,.0f} steps/s = {ratio:.3f} x CartPole",
            ">= 0.20 x",
            ratio >= 0.20,
        ),
    ]


def vector_lines(env_id: str, rows: int, bar: float, episodes: int, rounds: int, *, diverging: bool) -> list[Line]:
    """Return the lines of a native vector environment."""
    cart, batch, times = Single(*CARTPOLE), Batch(env_id, rows, diverging=diverging), []
    what = f"{short(env_id)}, native vector, {rows:,} rows, {REGIMES[diverging]}"
    if env_id == REGRESSION:
        batch.watch_resets()
    for _ in tqdm(range(rounds), desc=what):
        batch.clear()
        cart_s = 0.0
        for _ in range(TURNS):
            cart_s += cart.run(5_000) / TURNS
            batch.run(EPISODE * episodes // TURNS)
        seconds = batch.seconds / batch.steps
        times.append((seconds, cart_s / seconds, batch.bare() / seconds, batch.in_resets / batch.seconds))
    seconds, ratio, bare, share = (median(column) for column in zip(*times, strict=True))
    what += f" ({batch.steps / batch.episodes:.0f} steps an episode), resets included"
    lines = [Line(what, f"{1 / seconds:,.0f} steps/s = {ratio:.2f} x CartPole", f">= {bar:g} x", ratio >= bar)]
    if env_id == REGRESSION:
        lines.append(Line("... against the bare loss and direction", f"{bare:.2f} x", ">= 0.4 x", bare >= 0.4))
        lines.append(Line("... resets' share of it", f"{share:.1%}", "<= 20 %", share <= 0.20))
    return lines


def mixture_line(rounds: int, *, diverging: bool, rows: int = 256) -> Line:
    """Return the line of the mixture against its parts, timed in turns, step by step."""
    whole = Batch(MIXTURE, rows * len(PARTS), diverging=diverging)
    parts = [Batch(env_id, rows, diverging=diverging) for env_id in PARTS]
    ratios = []
    for _ in tqdm(range(rounds), desc=f"mixture, {REGIMES[diverging]}"):
        for batch in (whole, *parts):
            batch.clear()
        for _ in range(EPISODE * MIXTURE_EPISODES):
            for batch in (whole, *parts):
                batch.run(1)
        ratios.append(whole.seconds / sum(part.seconds for part in parts))
    ratio = median(ratios)
    what = f"{short(MIXTURE)}, {whole.rows} rows, against its parts of {rows} rows each, {REGIMES[diverging]}"
    return Line(what, f"{ratio:.3f} x their time", "<= 1.10 x", ratio <= 1.10)


def memory_line(env_id: str) -> Line:
    """Return the line of the memory that a process with one vector environment takes at most."""
    command = [sys.executable, "-c", MEMORY, env_id]
    megabytes = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    what = f"{short(env_id)}, {MEMORY_ROWS:,} rows: resident memory of the process, over {MEMORY_EPISODES} episodes"
    return Line(what, f"{megabytes:.0f} MB", f"< {MOST_MEGABYTES} MB", megabytes < MOST_MEGABYTES)


def import_line() -> Line:
    """Return the line of what importing the package takes."""
    command = [sys.executable, "-c", IMPORT]
    imports = [subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() for _ in range(5)]
    seconds, megabytes = (median(float(words[index]) for words in imports) for index in (0, 1))
    heavy = imports[0][2:]
    return Line(
        "`import metalearn_env` after `import gymnasium`",
        f"{1000 * seconds:.0f} ms, {megabytes:.1f} MB, loads {', '.join(heavy) or 'none'} of {', '.join(HEAVY)}",
        "< 100 ms, < 20 MB, none",
        seconds < 0.1 and megabytes < 20 and not heavy,
    )


def ppo_line(steps: int = 64 * 50 * 12) -> Line:
    """Return the line of the share of PPO's training time that is spent in the native environment with 64 rows."""
    from stable_baselines3 import PPO

    from metalearn_env.adapters.sb3 import make_sb3_env

    env = make_sb3_env(REGRESSION, 64, seed=0)
    inside, wait = 0.0, env.step_wait

    def timed() -> object:
        nonlocal inside
        began = time.perf_counter()
        result = wait()
        inside += time.perf_counter() - began
        return result

    env.step_wait = timed
    model = PPO("MlpPolicy", env, n_steps=50, batch_size=800, device="cpu")
    began = time.perf_counter()
    model.learn(steps)
    wall = time.perf_counter() - began
    what = f"PPO, 64 rows of {short(REGRESSION)}: time inside the environment"
    measured = f"{inside / wall:.1%} of training ({steps / wall:,.0f} frames/s)"
    return Line(what, measured, "<= 15 %", inside / wall <= 0.15)


def short(env_id: str) -> str:
    """Return the name of a family from its id."""
    return env_id.removeprefix("MetaLearn/").removesuffix("-v0")


def growth(name: str, values: tuple[int, ...], make: Callable[[int], Batch]) -> list[str]:
    """Return the table of what a step of a row of linear regression costs for each value."""
    lines = [
        f"| {name} | ns per row and step, resets included | ns of the bare loss and direction | bare / all |",
        "|---|---|---|---|",
    ]
    for value in tqdm(values, desc=name):
        batch = make(value)
        batch.run(max(2 * EPISODE, EPISODE * 320 * 1024 // max(batch.rows, 1024)))
        total, bare = 1e9 * batch.seconds / batch.steps, 1e9 * batch.bare()
        lines.append(f"| {value:,} | {total:.0f} | {bare:.0f} | {bare / total:.2f} |")
    return lines


def main() -> None:
    """Measure, print and write everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=whole, default=5, help="medians are of so many")
    parser.add_argument("--out", type=Path, default=Path("docs/results/throughput.md"))
    options = parser.parse_args()
    check_writable(options.out)
    table = single_lines(options.rounds)
    for vector in VECTORS:
        for diverging in REGIMES:
            table += vector_lines(*vector, options.rounds, diverging=diverging)
    table += [mixture_line(options.rounds, diverging=diverging) for diverging in REGIMES]
    table += [memory_line(env_id) for env_id in tqdm((*PARTS, MIXTURE), desc="memory")]
    table += [ppo_line(), import_line()]
    page = [
        "# Throughput",
        "",
        f"`python -m benchmarks.throughput` wrote this page: medians of {options.rounds} rounds, ratios of times taken",
        f"in turns, one thread, Python {platform.python_version()}, NumPy {np.__version__}, gymnasium",
        f"{gym.__version__}, horizon 50. Steps in which an episode begins are timed, but not counted.",
        "",
        "| what | measured | bar | reached |",
        "|---|---|---|---|",
        *(f"| {what} | {measured} | {bar} | {'yes' if reached else 'no'} |" for what, measured, bar, reached in table),
        "",
        "What a step of a row costs on LinearRegression, rows ending together; one measurement each:",
        "",
        *growth("rows", ROWS, lambda rows: Batch(REGRESSION, rows)),
        "",
        *growth("dimension, 1,024 rows", DIMENSIONS, lambda d: Batch(REGRESSION, 1024, dimension=d)),
        "",
    ]
    publish(options.out, "\n".join(page))


if __name__ == "__main__":
    raise SystemExit(run(main))
