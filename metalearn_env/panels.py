"""Panels of inner problems: `metalearn_env.pictures` as Matplotlib draws them. It is handed axes and imports nothing.

What stays the same in an episode is drawn once; the rest is in ``artists``, from the first ones below to the last ones
on top, to be changed by ``update`` and drawn again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from metalearn_env.pictures import Array, Clusters, Decisions, Fit, GridPolicy, Picture, ValueTable, greedy

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

AGENT, BEST, WORSE, NOTHING = "C0", "black", "red", "0.8"
OWNERS = ("#66c2a5", "#fc8d62", "#8da0cb", "#e78ac3", "#a6d854", "#ffd92f", "#e5c494", "#b3b3b3")
FIT_REACH, CLUSTERS_REACH = 1.5, 1.1  # in units of the largest best prediction, of half the width of the points
MOST_MARKED = 64  # states whose greedy actions are marked in a table


class Panel(Protocol):
    """What draws one kind of picture."""

    artists: list[Artist]

    def update(self, picture: Any) -> None: ...


def make_panel(axes: Axes, picture: Picture) -> Panel:
    """Return the panel of the first picture of an episode."""
    return _PANELS[type(picture)](axes, picture)


class _FitPanel:
    def __init__(self, axes: Axes, picture: Fit) -> None:
        self._unit = _largest(picture.best)
        ends = (-FIT_REACH, FIT_REACH)
        axes.plot(ends, ends, color=BEST, linewidth=0.8, linestyle="--")
        axes.set(title="fit: the best is on the line", ylabel=picture.names[0], xlabel=f"{picture.names[1]} / largest")
        axes.set(xlim=ends, ylim=ends, box_aspect=1)
        axes.grid(alpha=0.3)
        self.artists = axes.plot([], [], "o", color=AGENT, markersize=5, alpha=0.8, animated=True)

    def update(self, picture: Fit) -> None:
        """Predictions out of sight are drawn at the edge."""
        self.artists[0].set_data(picture.best / self._unit, _within(picture.prediction / self._unit, FIT_REACH))


class _ClustersPanel:
    def __init__(self, axes: Axes, picture: Clusters) -> None:
        low, high = picture.points.min(axis=0), picture.points.max(axis=0)
        self._middle, self._unit = 0.5 * (low + high), 0.5 * _largest(high - low)
        axes.set(title="centres: x the learner's, o the best known", xlabel=picture.names[0], ylabel=picture.names[1])
        ends = (-CLUSTERS_REACH, CLUSTERS_REACH)
        axes.set(xlim=ends, ylim=ends, box_aspect=1, xticks=[], yticks=[])
        x, y = self._placed(picture.points)
        self._points = axes.scatter(x, y, s=14, animated=True)
        ring: dict[str, Any] = {"markersize": 11, "markerfacecolor": "none", "markeredgecolor": BEST}
        (best,) = axes.plot(*self._placed(picture.best), "o", **ring, animated=True)
        (edge,) = axes.plot([], [], "x", color="white", markersize=11, markeredgewidth=5, animated=True)
        (cross,) = axes.plot([], [], "x", color=AGENT, markersize=9, markeredgewidth=2.5, animated=True)
        self._crosses = (edge, cross)
        self.artists: list[Artist] = [self._points, best, edge, cross]

    def update(self, picture: Clusters) -> None:
        """Centres out of sight are drawn at the edge."""
        self._points.set_facecolor([OWNERS[owner % len(OWNERS)] for owner in picture.owner])
        centres = _within(self._placed(picture.centres), CLUSTERS_REACH)
        for cross in self._crosses:
            cross.set_data(*centres)

    def _placed(self, points: Array) -> Array:
        return (points - self._middle).T / self._unit


class _DecisionsPanel:
    def __init__(self, axes: Axes, picture: Decisions) -> None:
        low, high = picture.points.min(axis=0), picture.points.max(axis=0)
        middle, unit = 0.5 * (low + high), 0.5 * _largest(high - low)
        axes.set(title="decisions: colours, red x a wrong one", xlabel=picture.names[0], ylabel=picture.names[1])
        ends = (-CLUSTERS_REACH, CLUSTERS_REACH)
        axes.set(xlim=ends, ylim=ends, box_aspect=1, xticks=[], yticks=[])
        self._places = (picture.points - middle).T / unit
        self._points = axes.scatter(self._places[0], self._places[1], s=24, animated=True)
        (self._wrong,) = axes.plot([], [], "x", color=WORSE, markersize=6, animated=True)
        self.artists: list[Artist] = [self._points, self._wrong]

    def update(self, picture: Decisions) -> None:
        self._points.set_facecolor([OWNERS[decided % len(OWNERS)] for decided in picture.decided])
        self._wrong.set_data(*self._places[:, picture.decided != picture.label])


class _TablePanel:
    def __init__(self, axes: Axes, picture: ValueTable) -> None:
        axes.set(title="value table", ylabel="action")
        axes.set_xlabel("state (o: greedy action, x: a worse one)" if self._marks(picture) else "state")
        self._unit = _largest(picture.best)
        self._image = _image(axes, picture.best / self._unit, "Q / largest |Q*|", aspect="auto")
        axes.locator_params(integer=True)
        white: dict[str, Any] = {"markeredgecolor": "black", "markerfacecolor": "white", "animated": True}
        (self._good,) = axes.plot([], [], "o", markersize=6, **white)
        (self._bad,) = axes.plot([], [], "x", markersize=7, markeredgewidth=2.5, color=WORSE, animated=True)
        self.artists: list[Artist] = [self._image, self._good, self._bad]

    def update(self, picture: ValueTable) -> None:
        self._image.set_data(np.ma.masked_invalid(picture.value / self._unit))
        if self._marks(picture):
            action, good, there = greedy(picture)
            for line, which in ((self._good, good), (self._bad, there & ~good)):
                line.set_data(np.flatnonzero(which), action[which])

    def _marks(self, picture: ValueTable) -> bool:
        return picture.value.shape[1] <= MOST_MARKED


class _GridPanel:
    def __init__(self, axes: Axes, picture: GridPolicy) -> None:
        (rows, columns), best = picture.grid.shape, _state_values(picture.table.best)
        ring = "" if picture.state is None else ", ring: the learner"
        axes.set(title="greedy policy on the grid", xlabel=f"black: best action, red: worse{ring}")
        axes.set(xticks=[], yticks=[])
        self._unit = _largest(best)
        self._image = _image(axes, best.reshape(rows, columns) / self._unit, "max Q / largest |max Q*|", aspect="equal")
        where, still = np.meshgrid(np.arange(columns), np.arange(rows)), np.zeros(rows * columns)
        arrows: dict[str, Any] = {"pivot": "mid", "units": "xy", "scale": 1.5, "width": 0.09, "linewidth": 0.8}
        self._arrows = axes.quiver(*where, still, still, edgecolor="white", **arrows, animated=True)
        ground = {"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 1.0}
        text: dict[str, Any] = {"ha": "center", "va": "center", "bbox": ground, "animated": True}
        text["fontsize"] = max(7, 11 - columns // 2)
        labels: list[Artist] = []
        for state, label in enumerate(picture.grid.labels):
            if label:
                corner = 0.0 if np.isnan(best[state]) else -0.3  # beside the arrow
                labels.append(axes.text(state % columns + corner, state // columns + corner, label, **text))
        style: dict[str, Any] = {"markersize": 20, "markerfacecolor": "none", "markeredgecolor": "white"}
        (self._here,) = axes.plot([], [], "o", **style, markeredgewidth=2, animated=True)
        self.artists: list[Artist] = [self._image, *labels, self._arrows, self._here]

    def update(self, picture: GridPolicy) -> None:
        table, grid, state = picture
        action, good, there = greedy(table)
        values = _state_values(table.value).reshape(grid.shape) / self._unit
        self._image.set_data(np.ma.masked_invalid(values))
        self._arrows.set_UVC(*np.where(there, grid.moves[action].T, np.nan))
        self._arrows.set_facecolor(np.where(good, "black", WORSE).tolist())
        if state is not None:
            row, column = divmod(state, grid.shape[1])
            self._here.set_data([column], [row])


_PANELS: dict[type, Any] = {
    Fit: _FitPanel,
    Clusters: _ClustersPanel,
    Decisions: _DecisionsPanel,
    ValueTable: _TablePanel,
    GridPolicy: _GridPanel,
}


def _image(axes: Axes, best: Array, label: str, *, aspect: Literal["auto", "equal"]) -> Any:
    """Return an image whose colours range over the best values and 0, with its bar; grey where there is nothing."""
    low, high = min(0.0, np.nanmin(best)), max(0.0, np.nanmax(best))
    image = axes.imshow(best, vmin=low, vmax=high, aspect=aspect, animated=True)
    image.set_cmap(image.get_cmap().with_extremes(bad=NOTHING))
    axes.figure.colorbar(image, ax=axes, label=label, extend="both", fraction=0.05, pad=0.03)
    return image


def _state_values(table: Array) -> Array:
    """Return the largest value of each state of a table (A, S), NaN where there is none: (S,)."""
    largest = np.where(np.isnan(table), -np.inf, table).max(axis=0)
    return np.where(np.isinf(largest), np.nan, largest)


def _largest(values: Array) -> float:
    """Return the largest of some values, whatever their sign, or 1: tasks are of any scale, and drawn in this unit."""
    return float(np.nanmax(np.abs(values), initial=0.0)) or 1.0


def _within(values: Array, reach: float) -> Array:
    return np.clip(values, -reach, reach)
