"""What the runs of `benchmarks.real_training` say: interquartile means over seeds, and paired comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.real_runs import Measure, Record, Results
from metalearn_env.family import TINY, Array
from metalearn_env.scoring.statistics import Estimate, estimate, paired_difference


def over_seeds(records: Sequence[Record], measure: Measure) -> Estimate:
    """Return the interquartile mean of a measure over seeds, and its interval."""
    return estimate(_values(records, measure)[None])


class Comparison(NamedTuple):
    """One contender's measure over another's, or less it, seed by seed, and its interval; less is better."""

    value: float
    low: float
    high: float
    verdict: str  # "better", "equal" where the interval contains no difference, "worse"

    @classmethod
    def of(cls, ours: Sequence[Record], theirs: Sequence[Record], measure: Measure) -> Comparison:
        """Compare; the mean of ratios is that of their logarithms."""
        pair = [_values(records, measure) for records in (ours, theirs)]
        if measure.ratio:
            pair = [np.log(np.maximum(values, TINY)) for values in pair]
        value, low, high = paired_difference(*([values[None]] for values in pair))
        verdict = "better" if high < 0.0 else "worse" if low > 0.0 else "equal"
        ends = np.exp([value, low, high]) if measure.ratio else np.array([value, low, high])
        return cls(*ends.tolist(), verdict)


class Entry(NamedTuple):
    """A contender with the value of its knob that is best in hindsight."""

    name: str
    knob: float | None
    tried: int  # values of it
    records: list[Record]


def entries(results: Results, measure: Measure) -> list[Entry]:
    """Return all contenders, those that are learned not among them, each at its best by a measure."""
    found = []
    for contender in results.problem.contenders:
        knobs = contender.knobs or (None,)
        reached = {knob: over_seeds(results.runs[contender.name, knob], measure).iqm for knob in knobs}
        best = min(knobs, key=lambda knob: reached[knob])
        found.append(Entry(contender.name, best, len(knobs), results.runs[contender.name, best]))
    return found


def entry(results: Results, name: str, measure: Measure) -> Entry:
    """Return one of `entries`."""
    return next(one for one in entries(results, measure) if one.name == name)


def ours(results: Results) -> list[Record]:
    """Return the learned runs that count: those of the first learner, for the problem's own horizon."""
    return results.learned[results.problem.learners[0], results.problem.horizon]


def against_constant(results: Results, measure: Measure) -> Comparison:
    """Compare the learned runs with the best constant step in hindsight."""
    constant = entry(results, results.problem.constant, measure)
    return Comparison.of(ours(results), constant.records, measure)


def against_default(results: Results, measure: Measure) -> Comparison:
    """Compare the learned runs with the library's default."""
    return Comparison.of(ours(results), entry(results, results.problem.default, measure).records, measure)


def _values(records: Sequence[Record], measure: Measure) -> Array:
    return np.array([record["measures"][measure.name] for record in records])
