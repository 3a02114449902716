"""The pictures of a report: every function returns a figure of what controllers did on one set of tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from agents.closed_forms import advised, closed_forms, deviation, quartiles
from agents.colours import AGENT, colour
from metalearn_env.family import Array
from metalearn_env.policy import Policy
from metalearn_env.scoring import TaskSet
from metalearn_env.scoring.measures import Runs

LEAST_SCORE = -3.0  # of the axes on which scores are drawn; what lies below is told in figures
TEACHERS = {"bb1": "Barzilai-Borwein", "exact-line-search": "Cauchy"}
CLOSE = 0.1  # deviation from a closed form that is asked for
ROUNDING = 1e-6
DPI = 100
WIDEST_LEGEND = 100  # characters of a row


def score_bars(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the interquartile mean of S of every controller, with its interval."""
    figure = new_figure(8.0, 1.0 + 0.28 * len(rows))
    axes = figure.subplots()
    for place, row in enumerate(rows):
        shown = max(row["iqm"], LEAST_SCORE)
        axes.barh(place, shown, color=colour(row["controller"]), alpha=0.8)
        axes.plot([max(row["low"], LEAST_SCORE), max(row["high"], LEAST_SCORE)], [place, place], color="black", lw=1.5)
        if row["iqm"] < LEAST_SCORE:
            label = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
            axes.text(0.97 * LEAST_SCORE, place, f"at {row['iqm']:.1f}", va="center", fontsize=8, bbox=label)
    axes.set_yticks(range(len(rows)), [row["controller"] for row in rows])
    axes.invert_yaxis()
    axes.axvline(0.0, color="grey", lw=1)
    axes.axvline(1.0, color="grey", lw=1, ls="--")
    lowest = min([-0.2, *(max(row["low"], LEAST_SCORE) for row in rows)])
    axes.set(xlim=(lowest * 1.05, 1.1), xlabel="S: 0 is the best constant step in hindsight, 1 the limit")
    axes.grid(axis="x", alpha=0.3)
    return figure


def score_profiles(profiles: Mapping[str, Any], shown: Sequence[str]) -> Figure:
    """Draw the share of tasks with S at or above tau, and with the oracle's gap reached within so many evaluations."""
    figure = new_figure(10.0, 4.0)
    left, right = figure.subplots(1, 2)
    scores, targets = profiles["scores"], profiles["evaluations"]
    reached = targets[-1]
    for name in shown:
        if name in scores["profile"]:
            left.plot(scores["taus"], scores["profile"][name], color=colour(name), label=name)
        if name in reached["profile"]:
            right.step(reached["alphas"], reached["profile"][name], color=colour(name), where="post")
    left.set(xlim=(LEAST_SCORE, 1.1), xlabel="tau", ylabel="share of tasks with S >= tau", title="scores")
    right.set(
        xscale="log",
        xlabel="evaluations / those of the fastest",
        ylabel="share of tasks solved",
        title=f"evaluations to the gap of {reached['target']}",
    )
    return finished(figure, left, right)


def curves(runs: Mapping[str, Runs]) -> Figure:
    """Draw median and quartiles over tasks of the gap and of the step size, over inner steps."""
    figure = new_figure(10.0, 4.2)
    left, right = figure.subplots(1, 2)
    for name, of_one in runs.items():
        gaps = np.concatenate([run.log_gap for run in of_one], axis=1)
        steps = np.concatenate([run.step_size for run in of_one], axis=1)
        band(left, name, np.arange(len(gaps), dtype=np.float64), np.exp(gaps))
        if np.isfinite(steps).any():
            band(right, name, np.arange(1.0, len(steps) + 1.0), steps)
    left.set(yscale="log", xlabel="inner step", ylabel="gap / first gap", title="gap: median and quartiles of tasks")
    right.set(
        yscale="log",
        xlabel="inner step",
        ylabel="step size / unit of the task",
        title="step size: median and quartiles",
    )
    return finished(figure, left, right)


def learned_steps(policy: Policy, task_set: TaskSet) -> Figure:
    """Draw the steps that an agent takes against those that the rules would take where it is.

    Where the best steps have a closed form there are two more: against that, and how far from it over time.
    """
    best = closed_forms(task_set)[:1]
    titles = {**TEACHERS, **dict.fromkeys(best, "the closed form")}
    steps = advised(policy, task_set, list(titles))
    figure = new_figure(10.0, 4.6 * (1 + len(best)))
    places = figure.subplots(1 + len(best), 2).ravel()
    for axes, (name, title) in zip(places, titles.items(), strict=False):
        first = 0 if name in best else 1  # the first step of the others is the unit
        _agreement(axes, name, title, steps.rules[name][first:].ravel(), steps.learned[first:].ravel())
    for name in best:
        parts = deviation(steps, name)
        band(places[-1], AGENT, np.arange(1.0, len(parts) + 1.0), parts)
        places[-1].axhline(CLOSE, color=colour(name), label=f"{CLOSE:.0%}")
        places[-1].set(
            yscale="log",
            xlabel="inner step",
            ylabel="|step / closed form - 1|",
            title="deviation: median and quartiles of tasks",
        )
        places[-1].grid(alpha=0.3)
        places[-1].legend(loc="upper right")
    return figure


def _agreement(axes: Axes, name: str, title: str, there: Array, learned: Array) -> None:
    """Draw learned steps against those of a rule, whose line is where both are the same."""
    both = (learned > 0.0) & (there > 0.0) & np.isfinite(learned) & np.isfinite(there)
    axes.scatter(there[both], learned[both], s=2, alpha=0.15, color=colour(AGENT), linewidths=0)
    ends = [np.quantile(there[both], q) for q in (0.001, 0.999)] if both.any() else [1.0, 1.0]
    axes.plot(ends, ends, color=colour(name), label="the same step")
    axes.set(xscale="log", yscale="log", xlabel=f"step of {title} / unit", ylabel="step of the agent / unit")
    axes.xaxis.set_minor_formatter(NullFormatter())  # over less than a decade its labels overlap
    if both.sum() > 2 and ends[1] > (1.0 + ROUNDING) * ends[0]:
        correlation = np.corrcoef(np.log(there[both]), np.log(learned[both]))[0, 1]
        axes.set_title(f"{title}: correlation of logs {correlation:.2f}")
    else:
        axes.set(title=f"{title}: always the same step", xlim=(0.1 * ends[0], 10.0 * ends[0]))
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left")


def matrix(scores: Mapping[str, Mapping[str, float]]) -> Figure:
    """Draw the scores of controllers (rows) on several sets of tasks (columns): {controller: {set: IQM of S}}."""
    columns = list(dict.fromkeys(name for row in scores.values() for name in row))
    values = np.array([[row.get(name, np.nan) for name in columns] for row in scores.values()])
    figure = new_figure(2.6 + 0.95 * len(columns), 1.8 + 0.34 * len(scores))
    axes = figure.subplots()
    drawn = axes.imshow(values, cmap="RdYlGn", vmin=-1.0, vmax=1.0, aspect="auto")
    axes.set_xticks(range(len(columns)), columns, rotation=35, ha="right")
    axes.set_yticks(range(len(scores)), list(scores))
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8)
    figure.colorbar(drawn, ax=axes, label="IQM of S", extend="both")
    return figure


def band(axes: Axes, name: str, x: Array, values: Array, shade: str | None = None) -> None:
    """Draw median and quartiles of values (T, n), in the colour of a controller of that name if no shade is given."""
    low, middle, high = quartiles(values)
    shade = shade or colour(name)
    axes.plot(x, middle, color=shade, label=name)
    axes.fill_between(x, low, high, color=shade, alpha=0.12, linewidth=0)


def finished(figure: Figure, left: Axes, right: Axes) -> Figure:
    """Return the figure, with grids, and the legend of its left part below both."""
    for axes in (left, right):
        axes.grid(alpha=0.3)
    handles, labels = left.get_legend_handles_labels()
    columns = 5 if sum(map(len, labels)) < WIDEST_LEGEND else 3
    figure.legend(handles, labels, loc="outside lower center", ncols=min(columns, len(labels)), fontsize=9)
    return figure


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of so many inches."""
    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")
