"""Speed and memory of the environments: ``python -m benchmarks.throughput`` writes docs/results/throughput.md.

Rates depend on the machine; what is compared are ratios to CartPole-v1 (``gym.make``), timed in turns in the same run.
"""

from __future__ import annotations

import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import gymnasium as gym
import numpy as np
from tqdm import tqdm

ID = "metalearn_env:MetaLearn/LinearRegression-v0"
RESULTS = Path("docs/results")
ROUNDS = 5
BLOCK_OF_EPISODES = 51 * 160
ROWS, DIMENSIONS = (64, 256, 1024, 4096), (8, 16, 32, 64, 128, 256)
HEAVY = ("torch", "stable_baselines3", "matplotlib", "scipy", "pandas")

IMPORT = f"""
import resource, sys, time, gymnasium
def resident():  # of now: the peak would hide what comes after it
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20
before, t = resident(), time.perf_counter()
import metalearn_env
t = time.perf_counter() - t
print(t, resident() - before, *(module for module in {HEAVY} if module in sys.modules))
"""


def cartpole() -> Callable[[], float]:
    """Return a function that times CartPole-v1: seconds per step, resets included."""
    env = gym.make("CartPole-v1")
    env.reset(seed=0)

    def run(steps: int = 20_000) -> float:
        began = time.perf_counter()
        for step in range(steps):
            _, _, terminated, truncated, _ = env.step(step % 2)
            if terminated or truncated:
                env.reset()
        return (time.perf_counter() - began) / steps

    return run


def single(**options: object) -> Callable[[], float]:
    """Return a function that times one environment: seconds per step, resets included."""
    env = gym.make(ID, split="test", **options)
    env.reset(seed=0)
    actions = np.random.default_rng(0).uniform(-0.1, 0.1, (1000, 1)).astype(np.float32)

    def run(steps: int = 5_000) -> float:
        began = time.perf_counter()
        for step in range(steps):
            _, _, terminated, truncated, _ = env.step(actions[step % 1000])
            if terminated or truncated:
                env.reset()
        return (time.perf_counter() - began) / steps

    return run


class Batch:
    """A native vector environment with a stopwatch on its resets.

    Args:
        rows: of the environment.
        diverging: whether random actions let a quarter of the inner runs diverge, so that the rows end at any time;
            if not, step sizes only shrink, and all episodes last 50 steps and end together.
        options: of the environment.
    """

    def __init__(self, rows: int, *, diverging: bool = False, **options: object) -> None:
        self.rows = rows
        self.env = gym.make_vec(ID, num_envs=rows, split="test", **options)
        self.env.reset(seed=0)
        rng = np.random.default_rng(0)
        self.actions = rng.uniform(-0.1, 0.1 if diverging else 0.0, (64, rows, 1)).astype(np.float32)
        session = self.env.unwrapped.session
        self.in_resets, self.in_all, begin = 0.0, 0.0, session.begin

        def timed_begin(which: np.ndarray) -> None:
            began = time.perf_counter()
            begin(which)
            self.in_resets += time.perf_counter() - began

        session.begin = timed_begin

    def run(self, steps: int = BLOCK_OF_EPISODES) -> float:
        """Return seconds per step of one row, resets included; by default over as many as a row draws at once."""
        began = time.perf_counter()
        for step in range(steps):
            self.env.step(self.actions[step % 64])
        seconds = time.perf_counter() - began
        self.in_all += seconds
        return seconds / steps / self.rows

    def share_of_resets(self) -> float:
        """Return the part of the time since the last call that was spent in resets."""
        share = self.in_resets / self.in_all
        self.in_resets = self.in_all = 0.0
        return share

    def bare(self, repeats: int = 100) -> float:
        """Return seconds per row of the loss and direction alone: in one piece, or as the engine does, the faster."""
        engine = self.env.unwrapped.session.engine
        family, t = engine.family, np.minimum(engine.t, engine.horizon)

        def seconds(function: Callable[[], object]) -> float:
            began = time.perf_counter()
            for _ in range(repeats):
                function()
            return (time.perf_counter() - began) / repeats / self.rows

        spare = np.empty_like(engine.theta)
        return min(
            seconds(lambda: family.evaluate(engine.task, engine.theta, t)), seconds(lambda: engine.evaluate(spare))
        )


def ppo_share(steps: int = 64 * 50 * 12) -> tuple[float, float]:
    """Return the share of PPO's training time spent in the native environment with 64 rows, and frames per second."""
    from stable_baselines3 import PPO

    from metalearn_env.adapters.sb3 import make_sb3_env

    env = make_sb3_env(ID, 64, seed=0)
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
    return inside / wall, steps / wall


def main_table() -> list[tuple[str, str, str, bool]]:
    """Return (what, measured, bar, reached) of every bar."""
    cart, one = cartpole(), single()
    batches = {"episodes of 50 steps": Batch(1024), "a quarter of the runs diverges": Batch(1024, diverging=True)}
    rounds = []
    for _ in tqdm(range(ROUNDS), desc="rates"):
        timed = [(batch.run(), batch.bare(), batch.share_of_resets()) for batch in batches.values()]
        rounds.append((cart(), one(), timed))
    cart_s, one_s = median(row[0] for row in rounds), median(row[1] for row in rounds)
    one_ratio = median(row[0] / row[1] for row in rounds)
    inside, fps = ppo_share()
    imports = [
        subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True) for _ in range(5)
    ]
    seconds, megabytes = (median(float(run.stdout.split()[index]) for run in imports) for index in (0, 1))
    heavy = imports[0].stdout.split()[2:]
    return [
        ("CartPole-v1, `gym.make`", f"{1 / cart_s:,.0f} steps/s", "1", True),
        (
            "one environment, `gym.make`, resets included",
            f"{1 / one_s:,.0f} steps/s = {one_ratio:.3f} x CartPole",
            ">= 0.20 x",
            one_ratio >= 0.20,
        ),
        *(line for index, how in enumerate(batches) for line in vector_rows(how, rounds, index)),
        (
            "PPO, 64 rows: time inside the environment",
            f"{inside:.1%} of training ({fps:,.0f} frames/s)",
            "<= 15 %",
            inside <= 0.15,
        ),
        (
            "`import metalearn_env` after `import gymnasium`",
            f"{1000 * seconds:.0f} ms, {megabytes:.1f} MB, loads {', '.join(heavy) or 'none'} of {', '.join(HEAVY)}",
            "< 100 ms, < 20 MB, none",
            seconds < 0.1 and megabytes < 20 and not heavy,
        ),
    ]


def vector_rows(how: str, rounds: list, index: int) -> list[tuple[str, str, str, bool]]:
    """Return the lines of a vector environment, the ``index``-th that is timed in each round."""
    times = [(cart, *timed[index]) for cart, _, timed in rounds]  # CartPole, step, bare arithmetic, share of resets
    seconds, share = median(row[1] for row in times), median(row[3] for row in times)
    ratio = median(row[0] / row[1] for row in times)
    bare = median(row[2] / row[1] for row in times)
    return [
        (
            f"native vector, 1,024 rows, {how}, resets included",
            f"{1 / seconds:,.0f} steps/s = {ratio:.1f} x CartPole",
            ">= 8 x",
            ratio >= 8,
        ),
        ("... against the bare loss and direction", f"{bare:.2f} x", ">= 0.4 x", bare >= 0.4),
        ("... resets' share of it", f"{share:.1%}", "<= 20 %", share <= 0.20),
    ]


def growth(name: str, values: tuple[int, ...], make: Callable[[int], Batch]) -> list[tuple[int, float, float]]:
    """Return (value, nanoseconds per row and step, nanoseconds of the bare arithmetic) for each value."""
    rows = []
    for value in tqdm(values, desc=name):
        batch = make(value)
        steps = max(102, BLOCK_OF_EPISODES * 1024 // max(value if name == "rows" else 1024, 1024))
        times = [(batch.run(steps), batch.bare()) for _ in range(2)]
        rows.append((value, 1e9 * median(t for t, _ in times), 1e9 * median(b for _, b in times)))
    return rows


def plot(by_rows: list[tuple[int, float, float]], by_dimension: list[tuple[int, float, float]]) -> None:
    """Draw cost against rows and dimension."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), dpi=100, layout="constrained")
    panels = (("rows", by_rows), ("dimension", by_dimension))
    for axes, (name, table) in zip(figure.subplots(1, 2), panels, strict=True):
        value, total, bare = zip(*table, strict=True)
        axes.loglog(value, total, marker="o", label="step, resets included")
        axes.loglog(value, bare, marker="o", label="bare loss and direction")
        axes.set(xlabel=name, ylabel="ns per row and step", title=f"cost against {name}")
        axes.set_xticks(value, [f"{v:,}" for v in value])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(RESULTS / "throughput.png")


def markdown(table: list[tuple[str, str, str, bool]], *growths: tuple[str, list[tuple[int, float, float]]]) -> str:
    """Return the page."""
    lines = [
        "# Throughput",
        "",
        "`python -m benchmarks.throughput` wrote this page: LinearRegression at its defaults (8 to 64 parameters,",
        f"horizon 50), medians of {ROUNDS} rounds, one thread, Python {platform.python_version()},",
        f"NumPy {np.__version__}, gymnasium {gym.__version__}. Ratios are taken within a round.",
        "",
        "| what | measured | bar | reached |",
        "|---|---|---|---|",
        *(f"| {what} | {measured} | {bar} | {'yes' if reached else 'no'} |" for what, measured, bar, reached in table),
    ]
    for name, rows in growths:
        lines += [
            "",
            f"| {name} | ns per row and step, resets included | ns of the bare loss and direction | bare / all |",
        ]
        lines += ["|---|---|---|---|"]
        lines += [f"| {value:,} | {total:.0f} | {bare:.0f} | {bare / total:.2f} |" for value, total, bare in rows]
    return "\n".join([*lines, "", "![cost against rows and dimension](throughput.png)", ""])


def main() -> None:
    """Measure, print and write everything."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    table = main_table()
    by_rows = growth("rows", ROWS, Batch)
    by_dimension = growth("dimension", DIMENSIONS, lambda d: Batch(1024, dimension=d))
    page = markdown(table, ("rows", by_rows), ("dimension, 1,024 rows", by_dimension))
    (RESULTS / "throughput.md").write_text(page)
    plot(by_rows, by_dimension)
    print(page)


if __name__ == "__main__":
    main()
