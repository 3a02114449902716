"""What controllers that learn nothing reach, and in which order: ``python -m benchmarks.controls``.

It writes docs/results/controls.md, a table for each environment and its main variants, and says for each whether

    do-nothing < random-steps < tuned-constant < oracle-constant < limit.
"""

from __future__ import annotations

import argparse
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import metalearn_env  # noqa: F401  (registers)
from benchmarks.pages import publish
from metalearn_env.commandline import check_writable, run, whole
from metalearn_env.scoring import LEAST_SPAN, task_sets
from metalearn_env.scoring.cache import Cache
from metalearn_env.scoring.controls import BOUNDS, CONTROLS
from metalearn_env.scoring.measures import final_gaps
from metalearn_env.scoring.statistics import Estimate, paired_difference
from metalearn_env.scoring.table import score

VARIANTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("MetaLearn/LinearRegression-v0", {}),
    ("MetaLearn/LinearRegression-v0", {"batch_size": 8}),
    ("MetaLearn/Clustering-v0", {}),
    ("MetaLearn/QLearning-v0", {}),
    ("MetaLearn/QLearning-v0", {"sampling": "trajectory"}),
    ("MetaLearn/Mixture-v0", {}),
)
ORDER = ("do-nothing", "random-steps", "tuned-constant", "oracle-constant", "limit")  # from worst to best


class Variant(NamedTuple):
    """What is measured on one environment."""

    name: str
    result: dict[str, Any]  # as `metalearn_env.scoring.table.score` returns it
    gains: dict[str, Estimate]  # by how much a control of ORDER is above the one before it


def measure(env_id: str, env_kwargs: dict[str, Any], tasks: int) -> Variant:
    """Score all controls."""
    name = " ".join([env_id, *(f"`{key}={value!r}`" for key, value in env_kwargs.items())])
    sets = task_sets(env_id, tasks=tasks, env_kwargs=env_kwargs, cache=Cache())
    contenders = [*CONTROLS.values(), BOUNDS["limit"]]
    result = score(sets, contenders, show_progress=True)
    scores = {who.name: [one.scores(final_gaps(who.runs(one))) for one in sets] for who in contenders}
    gains = {better: paired_difference(scores[better], scores[worse]) for worse, better in pairwise(ORDER)}
    return Variant(name, result, gains)


def verdict(variant: Variant) -> str:
    """Return whether every control of ORDER is better than the one before it, and where not, or where not clearly."""
    iqm = {row["controller"]: row["iqm"] for row in variant.result["rows"]}
    wrong = [f"{worse} >= {better}" for worse, better in pairwise(ORDER) if iqm[worse] >= iqm[better]]
    unclear = [
        f"{name} (gain {gain.low:.3f} to {gain.high:.3f})" for name, gain in variant.gains.items() if gain.low <= 0.0
    ]
    if wrong:
        return f"**does not hold**: {', '.join(wrong)}"
    return f"holds, but not clearly for {', '.join(unclear)}" if unclear else "holds, every gain is clear of 0"


def section(variant: Variant) -> list[str]:
    """Return the part of the page that tells of one variant."""
    lines = [
        f"## {variant.name}",
        "",
        f"The order {verdict(variant)}. Of {variant.result['tasks']} tasks {variant.result['dropped']} are dropped.",
        "",
        "| controller | IQM of S | gain over the one before it in the order | diverged |",
        "|---|---|---|---|",
    ]
    for row in variant.result["rows"]:
        reached = Estimate(row["iqm"], row["low"], row["high"])
        lines.append(
            f"| {row['controller']} | {reached} | {variant.gains.get(row['controller'], '')} | {row['diverged']:.1%} |"
        )
    return [*lines, ""]


def page(variants: list[Variant]) -> str:
    """Return the page."""
    lines = [
        "# Controls",
        "",
        "`python -m benchmarks.controls` wrote this page: what controllers that learn nothing reach, on test tasks.",
        f"They should come in the order {' < '.join(ORDER)}.",
        "",
        "| environment | the order |",
        "|---|---|",
        *(f"| {variant.name} | {verdict(variant)} |" for variant in variants),
        "",
        "For each task S is 0 for the best constant step in hindsight, and 1 for the limit. IQM: interquartile mean",
        "over tasks, with a 95 % bootstrap interval. Gain: the same of the differences of S, task by task. Diverged:",
        f"runs that end above the loss they began with. Tasks whose best constant step is within {LEAST_SPAN} (in log",
        "gap) of the limit are dropped. Steps are tuned on train and validation tasks; tuned-decay is the best of",
        "several decays. A constant step is at least 1e-5 units, so that doing nothing may be a little better.",
        "",
    ]
    return "\n".join(sum(map(section, variants), lines))


def main() -> None:
    """Score all variants, print and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=whole, default=256)
    parser.add_argument("--out", type=Path, default=Path("docs/results/controls.md"))
    options = parser.parse_args()
    check_writable(options.out)
    variants = []
    for env_id, env_kwargs in VARIANTS:
        variants.append(measure(env_id, env_kwargs, options.tasks))
        print(f"{variants[-1].name}: the order {verdict(variants[-1])}", file=sys.stderr)
    publish(options.out, page(variants))


if __name__ == "__main__":
    raise SystemExit(run(main))
