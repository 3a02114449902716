"""The three strategies side by side, and what a spread of random steps is worth: ``python -m benchmarks.strategies``.

It trains agents that choose a constant step, a mean and a spread of random steps, or every step (runs that are through
are skipped, those that were cut are resumed), and writes docs/results/strategies.md. Beside them are spreads that are
fixed for all tasks, with the mean that is best for each on validation tasks.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from agents.runs import POLICY
from benchmarks.comparison import gaps
from benchmarks.pages import fewer, publish
from benchmarks.setting import Q_LEARNING, REGRESSION
from benchmarks.trainings import Training, arguments, run_all
from metalearn_env.actions import ABSOLUTE_DECADES, SPREADS, ActionMap
from metalearn_env.commandline import check_writable, key_values, run, whole
from metalearn_env.engine import Engine
from metalearn_env.family import Array
from metalearn_env.observations import Observer
from metalearn_env.policy import load
from metalearn_env.rules import Rule
from metalearn_env.scoring import TaskSet
from metalearn_env.scoring.cache import Cache
from metalearn_env.scoring.contenders import contender, policies
from metalearn_env.scoring.measures import final_gaps
from metalearn_env.scoring.statistics import Estimate, estimate, interquartile_mean, paired_difference

CONSTANT, RANDOM, DYNAMIC = STRATEGIES = ("constant", "random", "dynamic")
#: small first deviations: the return of an exploring agent is that of the steps it tries
ONCE = ("n_envs:64", "n_steps:4", "batch_size:128", "policy_kwargs:{net_arch: [64, 64], log_std_init: -3}")
MEANS = np.logspace(-1.5, 1.0, 21)  # in units
FIXED = np.linspace(0.0, SPREADS[-1], 9)  # decades
LOG_NORMAL = np.linspace(0.0, 1.25, 6)  # standard deviations of the log of a step


@dataclass(frozen=True)
class Setting:
    """Tasks of one kind.

    Args:
        name: of the setting.
        env: id of the environment.
        env_kwargs: options of the tasks.
        horizon: inner steps of an episode.
    """

    name: str
    env: str
    env_kwargs: tuple[str, ...] = ()
    horizon: int = 50

    @cached_property
    def test(self) -> TaskSet:
        return self._tasks("test")

    @cached_property
    def validation(self) -> TaskSet:
        return self._tasks("validation")

    def _tasks(self, split: str) -> TaskSet:
        return TaskSet(self.env, split, 256, 0, key_values(self._options), Cache())

    @property
    def _options(self) -> tuple[str, ...]:
        return (*self.env_kwargs, f"horizon:{self.horizon}")

    def trainings(self, strategy: str, options: argparse.Namespace) -> list[Training]:
        """Return the trainings of a strategy; a dynamic agent takes half as many inner steps as the others."""
        steps = max(1, options.steps // (2 if strategy == DYNAMIC else self.horizon))
        kwargs, hyperparams = (*self._options, f"strategy:{strategy}"), () if strategy == DYNAMIC else ONCE
        every = ("--validate-every", str(max(1, steps // 10)))
        return [
            Training(
                options.runs / self.name / strategy / f"seed-{seed}",
                (*arguments(self.env, kwargs, hyperparams, seed=seed), *every),
                steps,
            )
            for seed in options.seeds
        ]


SETTINGS = (
    Setting("quadratics", REGRESSION, ("spectrum:linear-uniform", "dimension:64", "conditioning:30", "noise:0")),
    Setting("regression", REGRESSION),
    Setting("minibatch", REGRESSION, ("batch_size:8",)),
    Setting("q-learning", Q_LEARNING),
)

INTRODUCTION = """# Strategies

`python -m benchmarks.strategies` wrote this page. A *constant* step is one decision for an inner run; so is a mean and
a spread of *random* steps, which the environment draws by the arcsine law (`metalearn_env.actions`); a *dynamic* agent
decides at every step. On quadratics of known L and mu theory says that random steps beat the best constant one; an
agent is told neither, only the task's unit. Where steps are noisy a spread should be of no use.

So it is: with full gradients random steps are above constant ones, learned or fixed for all tasks; on minibatches every
spread costs, and on Q-learning none helps. Agents begin at a spread of one decade. Where it costs they make it smaller,
but not to none in so short a training, and fall behind those that choose a constant. Log-normal steps reach much less.

PPO (`agents.train`), {steps:,} inner steps each of the first two, one decision in {horizon}, and half as many of the
dynamic agents, which are costlier; {seeds} training seeds, where nothing else is said; IQM of S on 256 test tasks, 95 %
bootstrap interval over seeds and tasks. S is 0 for the best constant in hindsight, for each task, and at most 1 on the
quadratics, where 50 steps can reach the smallest gap that counts, 1e-12. Differences are task by task. The spread, in
decades from the shortest to the longest step that there can be, is the median over tasks and seeds, and in brackets the
quartiles.
"""

SWEEP = """
## Spreads that are fixed

The same spread for all tasks, and the mean in units that has the best IQM on 256 validation tasks; IQM of S on test
tasks. Below are log-normal steps instead, their spread, too, the best on validation tasks, and the arcsine law told L
and mu of each task, where there are such. Its own spread is the best for runs without end; in short ones a narrower one
is better, since chance lets some component of the error lag behind.
"""


def fixed(mean: float, spread: float) -> Rule:
    """Return random steps of a mean in units and a spread in decades."""

    def steps(engine: Engine) -> Iterator[Array]:
        n, rng = len(engine.unit), np.random.default_rng(0)
        actions = ActionMap(n, "absolute", RANDOM)
        actions.begin(engine, np.arange(n))
        action = [np.log10(mean) / ABSOLUTE_DECADES, 2.0 * spread / SPREADS[-1] - 1.0]
        center = actions.step_size(np.tile(action, (n, 1)), engine)
        while True:
            yield actions.drawn(center, rng.random(n))

    return steps


def log_normal(mean: float, deviation: float) -> Rule:
    """Return random steps of another law: log-normal, of a median in units and a standard deviation of the log."""

    def steps(engine: Engine) -> Iterator[Array]:
        rng = np.random.default_rng(0)
        while True:
            yield mean * engine.unit * np.exp(deviation * rng.standard_normal(len(engine.unit)))

    return steps


def tuned(setting: Setting, law: Callable[[float, float], Rule], spreads: Sequence[float]) -> Rule:
    """Return random steps of the mean and the spread, one of ``spreads``, that score best on validation tasks."""

    def reached(pair: tuple[float, float]) -> float:
        seen = setting.validation
        return float(interquartile_mean(seen.scores(gaps(law(*pair), seen))))

    return law(*max(((float(mean), float(spread)) for mean in MEANS for spread in spreads), key=reached))


def reached(setting: Setting, rule: Rule) -> Estimate:
    """Return the score on test tasks."""
    return estimate(setting.test.scores(gaps(rule, setting.test))[None])


def learned_spreads(files: Sequence[Path], tasks: TaskSet) -> Array:
    """Return the spreads in decades that agents choose, (agents * tasks,)."""
    start, rows, spreads = Engine.start(tasks.family, tasks.task, tasks.horizon), np.arange(tasks.tasks), []
    for policy in map(load, files):
        observer = Observer(tasks.tasks, policy.header["history"])
        observer.begin(start, rows)
        spreads.append(0.5 * SPREADS[-1] * (1.0 + np.clip(policy(observer.observation())[:, 1], -1.0, 1.0)))
    return np.concatenate(spreads)


def line(setting: Setting, options: argparse.Namespace) -> str:
    """Return the line of a setting: the strategies that are trained, side by side."""
    files = {one: [run.out / POLICY for run in setting.trainings(one, options) if run.done] for one in STRATEGIES}
    scores = {
        one: setting.test.scores(final_gaps(policies(one, found).runs(setting.test)))
        for one, found in files.items()
        if found
    }
    shown = {one: f"{estimate(of_one)}{fewer(len(of_one), options.seeds)}" for one, of_one in scores.items()}
    cells = [shown.get(one, "") for one in STRATEGIES]
    both = {CONSTANT, RANDOM} <= scores.keys()
    cells.append(str(paired_difference([scores[RANDOM]], [scores[CONSTANT]])) if both else "")
    if files[RANDOM]:
        low, median, high = np.quantile(learned_spreads(files[RANDOM], setting.test), (0.25, 0.5, 0.75))
        cells.append(f"{median:.2f} [{low:.2f}, {high:.2f}]")
    return f"| {' | '.join([setting.name, *cells])} |"


def sweep(settings: Sequence[Setting]) -> Iterator[str]:
    """Yield a line for every fixed spread, the best of each setting in bold, and one for what is told L and mu."""
    columns = [[reached(one, tuned(one, fixed, [spread])) for spread in FIXED] for one in settings]
    best = [max(column) for column in columns]
    for spread, *cells in zip(FIXED, *columns, strict=True):
        shown = (f"**{cell}**" if cell == top else str(cell) for cell, top in zip(cells, best, strict=True))
        yield f"| {spread:.2f} | {' | '.join(shown)} |"
    others = (str(reached(one, tuned(one, log_normal, LOG_NORMAL))) for one in settings)
    yield f"| log-normal | {' | '.join(others)} |"
    yield f"| told L, mu | {' | '.join(map(told, settings))} |"


def told(setting: Setting) -> str:
    """Return the score of the rule told both ends of the spectrum; nothing where it is not made for the tasks."""
    arcsine = contender("arcsine")
    if getattr(setting.test.family, "batch_size", None) is not None or not arcsine.is_for(setting.test):
        return ""
    return str(estimate(setting.test.scores(final_gaps(arcsine.runs(setting.test)))))


def page(settings: Sequence[Setting], options: argparse.Namespace) -> str:
    """Return the page."""
    lines = [INTRODUCTION.format(steps=options.steps, horizon=settings[0].horizon, seeds=len(options.seeds))]
    lines += [
        "| tasks | constant | random | dynamic | random - constant | learned spread |",
        "|---|---|---|---|---|---|",
    ]
    lines += [line(setting, options) for setting in settings]
    lines += [
        "",
        *(f"* {one.name}: {one.env} {' '.join(map('`{}`'.format, one.env_kwargs))}".rstrip() for one in settings),
    ]
    names = " | ".join(setting.name for setting in settings)
    lines += [SWEEP, f"| spread | {names} |", "|---|" + "---|" * len(settings), *sweep(settings)]
    return "\n".join([*lines, ""])


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, print and write the page; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument(
        "--steps", type=whole, default=1_000_000, help="inner steps of a training, of a dynamic agent half"
    )
    parser.add_argument("--only", nargs="*", choices=STRATEGIES, default=STRATEGIES, help="strategies to be trained")
    parser.add_argument("--runs", type=Path, default=Path("runs/strategies"))
    parser.add_argument("--jobs", type=whole, default=1, help="trainings at a time")
    parser.add_argument("--out", type=Path, default=Path("docs/results/strategies.md"))
    options = parser.parse_args(arguments)
    return run(lambda: write(options))


def write(options: argparse.Namespace) -> None:
    """Train what is not trained, and write the page."""
    check_writable(options.out)
    run_all([run for kind in options.only for one in SETTINGS for run in one.trainings(kind, options)], options.jobs)
    text = page(SETTINGS, options)
    publish(options.out, text)


if __name__ == "__main__":
    sys.exit(main())
