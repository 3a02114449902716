"""Which variants of rules an earlier table may be of: ``python -m benchmarks.variants``.

It writes docs/results/variants.md. Where a rule of `benchmarks.rules` differs from the earlier table, other parameters,
first steps or units are tried on the same tasks.

The earlier numbers of one kind of tasks are of one sample of 400, so that they move together: easy tasks are easy for
all rules. For quadratics the question is therefore whether a variant's number fits *those of the other rules*. What it
adds to the squared Mahalanobis distance between our means and the earlier numbers of the rules that agree, with the
covariance of samples of 400 tasks and rounding to two digits, has one degree of freedom for each kind of tasks.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.comparison import (
    EARLIER_TASKS,
    ROUNDING,
    Group,
    Setting,
    best_of,
    dai_yuan_held,
    gaps,
    inverse_energy,
    measured,
    one,
    oracle_of,
    shapes,
    table,
)
from benchmarks.pages import publish
from benchmarks.rules import EARLIER, FIRSTS, RATES, spectra, streams, uniform_discount
from metalearn_env.commandline import check_writable, run, whole
from metalearn_env.engine import Engine
from metalearn_env.family import Array
from metalearn_env.rules import Rule, rule
from metalearn_env.rules.adaptive import adagrad_norm
from metalearn_env.rules.barzilai_borwein import abb_min
from metalearn_env.rules.line_search import cauchy_step
from metalearn_env.rules.visits import harmonic
from metalearn_env.scoring.statistics import interquartile_mean

SAMPLES, CRITICAL = 600, 7.8  # 95 % point of chi squared with 3 degrees of freedom
TRIED = 87  # by hand: 26 of Dai and Yuan's, 61 of ABBmin's
AGREED = {"inverse-l": 0, "polyak": 2, "bb1": 3}  # and the place of their earlier numbers
ABB_MIN, DAI_YUAN = 4, 5


def abb_min_from_cauchy(engine: Engine, memory: int = 5) -> Iterator[Array]:
    """ABBmin with a memory of 5 (di Serafino and others, 2018, as we remember), and Cauchy's step as the first."""
    steps = abb_min(engine, memory)
    next(steps)
    yield cauchy_step(engine)
    yield from steps


def nlms_of_each(engine: Engine, part: float = 0.3) -> Iterator[Array]:
    """NLMS that normalises every example of a minibatch by itself: the mean of 0.3 / |x|^2."""
    rows = np.arange(len(engine.t))
    while True:
        inputs = engine.task.inputs[rows, engine.t]
        yield part * (1.0 / np.vecdot(inputs, inputs)).mean(axis=1)


def adagrad_norm_in_trace(engine: Engine) -> Iterator[Array]:
    """AdaGrad-norm, not tuned, whose first step is 1 / tr H."""
    return adagrad_norm(engine, inverse_energy(engine) / engine.unit)


#: name -> the rule, and the place of the earlier number
OF_QUADRATICS: dict[str, tuple[Rule, int]] = {
    "dai-yuan": (rule("dai-yuan"), DAI_YUAN),
    "dai-yuan, the first Y taken twice": (dai_yuan_held, DAI_YUAN),
    "abb-min (memory 9, first step the unit)": (rule("abb-min"), ABB_MIN),
    "abb-min with a memory of 5": (partial(abb_min, memory=5), ABB_MIN),
    "abb-min with a memory of 9, first step Cauchy's": (partial(abb_min_from_cauchy, memory=9), ABB_MIN),
    "abb-min with a memory of 5, first step Cauchy's": (abb_min_from_cauchy, ABB_MIN),
}


class Sample:
    """Tasks of one kind, samples of 400 of them, and how far the rules that agree are from the earlier numbers."""

    def __init__(self, setting: Setting, earlier: tuple[float, ...]) -> None:
        (self.tasks,), self.setting, self.earlier = setting.sets, setting, earlier
        agreed = [self.scores(rule(name)) for name in AGREED]
        self.chosen = np.random.default_rng(0).integers(len(agreed[0]), size=(SAMPLES, EARLIER_TASKS))
        self.agreed = [self.means(scores) for scores in agreed]
        self.expected = [earlier[place] for place in AGREED.values()]
        self.base = self.distance(self.agreed, self.expected)

    def scores(self, candidate: Rule) -> Array:
        return self.setting.scores(self.tasks, gaps(candidate, self.tasks))

    def means(self, scores: Array) -> Array:
        """Return the interquartile means of the samples, (SAMPLES,)."""
        return np.array([interquartile_mean(sample) for sample in scores[self.chosen]])

    def distance(self, means: list[Array], expected: list[float]) -> float:
        """Return the squared Mahalanobis distance of earlier numbers from our means."""
        found = np.stack(means)
        ours = 1.0 + EARLIER_TASKS / self.tasks.tasks  # our means are of a sample, too
        covariance = ours * np.cov(found) + np.eye(len(found)) * (2.0 * ROUNDING) ** 2 / 12.0
        difference = np.array(expected) - found.mean(axis=1)
        return float(difference @ np.linalg.solve(covariance, difference))

    def added(self, candidate: Rule, place: int) -> tuple[float, float]:
        """Return a variant's interquartile mean, and what it adds to the distance."""
        scores = self.scores(candidate)
        reached = [*self.agreed, self.means(scores)], [*self.expected, self.earlier[place]]
        return float(interquartile_mean(scores)), self.distance(*reached) - self.base


def quadratics(tasks: int) -> Iterator[str]:
    """Yield the part of the page on quadratics."""
    samples = [Sample(setting, EARLIER[name]) for name, setting in spectra(tasks).items()]
    yield f"| variant | {' | '.join(EARLIER)} | together | fits |"
    yield "|---|---|---|---|---|---|"
    for name, (candidate, place) in OF_QUADRATICS.items():
        found = [sample.added(candidate, place) for sample in samples]
        pairs = zip(found, samples, strict=True)
        cells = [f"{mean:.3f} for {sample.earlier[place]:.2f} (+{added:.1f})" for (mean, added), sample in pairs]
        total = sum(added for _, added in found)
        yield f"| {name} | {' | '.join(cells)} | {total:.1f} | {'yes' if total < CRITICAL else '**no**'} |"


def groups(tasks: int) -> list[Group]:
    """Return what is compared number by number."""
    coarse = {f"{len(steps)} first steps, {steps[0]:.2g} to {steps[-1]:.2g}": steps for steps in COARSE}
    return [
        *(
            Group(
                f"Minibatch regression, {spectrum} spectrum",
                streams(spectrum, tasks),
                {
                    "nlms, the mean of x'x": (one("nlms"), -0.24),
                    "nlms, every example by itself": (one(nlms_of_each), -0.24),
                    "adagrad-norm, tuned in units": (
                        best_of([partial(adagrad_norm, first=first) for first in FIRSTS]),
                        -0.59,
                    ),
                    "adagrad-norm, not tuned, the unit first": (one("adagrad-norm"), -0.59),
                    "adagrad-norm, not tuned, 1/tr H first": (one(adagrad_norm_in_trace), -0.59),
                },
            )
            for spectrum in ("log-uniform", "linear-uniform")
        ),
        Group(
            "Q-learning, gamma uniform, plain certainty equivalence: linear decay, the best first step in hindsight",
            uniform_discount(12 * tasks),
            {name: (oracle_of(shapes(["linear"], steps)), 0.47) for name, steps in coarse.items()},
        ),
        Group(
            "Q-learning, gamma uniform, plain certainty equivalence: 1/n, and harmonic steps A / (A + n - 1)",
            uniform_discount(12 * tasks),
            {f"A = {a:g}": (one(partial(harmonic, half_life=a)), -2.0) for a in (1.0, 2.0, 3.0, 4.0)},
        ),
    ]


COARSE = (RATES, np.linspace(0.1, 1.0, 10), np.logspace(-2, 0, 9), np.array([0.1, 0.2, 0.4, 0.6, 0.8, 1.0]))


def introduction(tasks: int) -> list[str]:
    """Return the beginning of the page."""
    return [
        "# Variants",
        "",
        "`python -m benchmarks.variants` wrote this page: which variants of rules the earlier table of",
        "[rules.md](rules.md) may be of, where it differs.",
        "",
        "## Quadratics",
        "",
        f"IQM of S on {tasks} tasks of each kind, and the earlier number. The earlier 400 tasks were the same for all",
        "rules, so that its numbers move together. In brackets: what a variant adds to the squared Mahalanobis",
        f"distance between our numbers of {', '.join(AGREED)} and the earlier ones, under samples of 400 tasks.",
        "Together: the sum, to be held against chi squared with 3 degrees of freedom, whose 95 % point is",
        f"{CRITICAL}. Those that fit were found among {TRIED} cycles, memories, thresholds and first steps,",
        "most of them far off.",
        "",
    ]


def page(tasks: int, others: int) -> str:
    """Return the page."""
    lines = [*introduction(tasks), *quadratics(tasks), ""]
    for group in groups(others):
        found, count = measured(group)
        lines += [f"## {group.title}", "", f"{count} tasks.", "", *table(found, group.excess), ""]
    return "\n".join(lines)


def main() -> None:
    """Measure all variants, print and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=whole, default=2000, help="of each spectrum of quadratics")
    parser.add_argument("--others", type=whole, default=100, help="of each size of minibatch; 12 times as many tables")
    parser.add_argument("--out", type=Path, default=Path("docs/results/variants.md"))
    options = parser.parse_args()
    check_writable(options.out)
    text = page(options.tasks, options.others)
    publish(options.out, text)


if __name__ == "__main__":
    raise SystemExit(run(main))
