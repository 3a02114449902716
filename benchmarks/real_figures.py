"""The pictures of `benchmarks.real_training`: losses and step sizes of a few contenders, over steps."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from agents.figures import band, finished, new_figure
from benchmarks.real_runs import Record, Results
from benchmarks.real_scores import entries, ours, over_seeds

SHADES = {"learned": "#000000", "constant": "#1f77b4", "default": "#7f7f7f"}
MOST = 10.0  # times the first loss that are drawn
OTHERS = ("#d62728", "#2ca02c")  # the best two of the rest


def drawn(results: Results) -> Figure:
    """Draw median and quartiles over seeds of the loss that is trained on, and of the step sizes."""
    problem, figure = results.problem, new_figure(10.0, 4.2)
    left, right = figure.subplots(1, 2)
    for axes in (left, right):
        axes.set(xlabel="step", yscale="log")
    for name, shade, records in _shown(results):
        times = np.array(records[0]["times"], np.float64)
        band(left, name, times, np.array([record["losses"] for record in records]).T, shade)
        steps = np.array([record["steps"] for record in records]).T
        if steps.any():
            between = 0.5 * (times[1:] + times[:-1])
            band(right, name, between, np.where(steps > 0.0, steps, np.nan), shade)
    measure = problem.measures[-1] if len(problem.measures) > 1 and problem.measures[-1].ratio else problem.measures[0]
    lowest, highest = left.get_ylim()
    left.set(
        ylim=(lowest, min(highest, MOST * ours(results)[0]["losses"][0])),
        ylabel=measure.name,
        title=f"{problem.name}: median and quartiles of seeds",
    )
    right.set(ylabel="step size", title="step size, where a contender has one")
    return finished(figure, left, right)


def _shown(results: Results) -> list[tuple[str, str, list[Record]]]:
    """Return names, colours and runs: learned, the best constant, the default, and the best two of the others."""
    problem, measure = results.problem, results.problem.measures[0]
    found = {one.name: one for one in entries(results, measure)}
    constant, default = found.pop(problem.constant), found.pop(problem.default)
    shown = [("learned", SHADES["learned"], ours(results))]
    shown += [(f"constant {constant.knob:g}, the best", SHADES["constant"], constant.records)]
    shown += [(f"{default.name}, the default", SHADES["default"], default.records)]
    best = sorted(found.values(), key=lambda one: over_seeds(one.records, measure).iqm)
    return [*shown, *((one.name, shade, one.records) for one, shade in zip(best, OTHERS, strict=False))]
