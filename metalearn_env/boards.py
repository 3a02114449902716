"""The figure of an episode: gaps, step sizes and the inner problem beside each other. Imports Matplotlib where used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from metalearn_env.family import Array
from metalearn_env.panels import AGENT, Panel, make_panel
from metalearn_env.scenes import Scene

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE, DPI = (12.0, 4.0), 100
COMPARED = "C1"
INSTALL = 'drawing needs matplotlib: pip install "metalearn-env[agents]"'


class Comparison(NamedTuple):
    """The inner run that an episode is compared with."""

    name: str
    gaps: Array  # (horizon + 1,) over the first one
    step_size: float  # in units of the task


class Board:
    """The figure of one episode. What stays the same is drawn once and kept as pixels, so that a picture is quick.

    Args:
        scene: the episode, at any step of it.
        comparison: what its gaps and step sizes are compared with.

    Raises:
        gymnasium.error.DependencyNotInstalled: there is no Matplotlib.
    """

    def __init__(self, scene: Scene, comparison: Comparison) -> None:
        self._comparison, self._canvas = comparison, _canvas()
        self._figure: Figure = self._canvas.figure
        panels = self._figure.add_gridspec(
            1, 2 + (scene.picture is not None), left=0.065, right=0.94, bottom=0.135, top=0.815, wspace=0.27
        )
        self._left, self._right, *rest = (self._figure.add_subplot(panel) for panel in panels)
        label_axes(self._left, self._right, scene.horizon, "(loss - f*) / first gap")
        for axes in (self._left, self._right):
            axes.set_autoscaley_on(False)  # the limits are `_decades`; Matplotlib warns of a single power of ten
        style: dict[str, Any] = {"color": COMPARED, "linestyle": "--"}
        (compared,) = self._left.plot(comparison.gaps, **style, label=comparison.name)
        self._right.axhline(comparison.step_size, **style)
        (self._gaps,) = self._left.plot(
            [], [], color=AGENT, marker="o", markersize=4, markevery=[-1], animated=True, label=scene.player
        )
        (self._steps,) = self._right.plot([], [], color=AGENT, marker=".", animated=True)
        self._title = self._figure.text(0.02, 0.925, "", fontsize="x-large", animated=True)
        self._figure.legend(handles=[self._gaps, compared], loc="upper right", ncols=2, frameon=False)
        self._panel: Panel | None = make_panel(rest[0], scene.picture) if scene.picture is not None else None
        self._limits: tuple[tuple[float, float], ...] = ()
        self._background: Any = None  # the pixels of what stays the same, within these limits

    def draw(self, scene: Scene) -> NDArray[np.uint8]:
        """Return the picture of the episode, (400, 1200, 3), at another of its steps."""
        self._gaps.set_data(np.arange(len(scene.gaps)), scene.gaps)
        steps = np.where(scene.step_sizes > 0.0, scene.step_sizes, np.nan)
        self._steps.set_data(np.arange(1, len(steps) + 1), steps)
        self._title.set_text(scene.title)
        artists = [self._gaps, self._steps, self._title]
        if self._panel is not None and scene.picture is not None:
            self._panel.update(scene.picture)
            artists += self._panel.artists
        self._restore(scene)
        for artist in artists:
            self._figure.draw_artist(artist)
        return np.asarray(self._canvas.buffer_rgba())[..., :3].copy()

    def _restore(self, scene: Scene) -> None:
        """Put what stays the same in place; draw it if more decades are needed than before."""
        compared = self._comparison
        limits = (
            _decades(np.concatenate([compared.gaps, scene.gaps])),
            _decades(np.concatenate([[compared.step_size], scene.step_sizes])),
        )
        if limits == self._limits:
            self._canvas.restore_region(self._background)
            return
        self._limits = limits
        self._left.set_ylim(*limits[0])
        self._right.set_ylim(*limits[1])
        self._canvas.draw()
        self._background = self._canvas.copy_from_bbox(self._figure.bbox)


def label_axes(left: Axes, right: Axes, horizon: int, quantity: str) -> None:
    """Name the axes of gaps, on the ``left``, and of step sizes, on the ``right``, over ``horizon`` inner steps."""
    left.set(title="gap to the best loss", xlabel="inner step", ylabel=quantity)
    right.set(title="step size", xlabel="inner step", ylabel="step size / unit of the task")
    for axes in (left, right):
        axes.set_xlim(0, horizon)
        axes.set_yscale("log")
        axes.minorticks_off()  # they take a third of the time
        axes.grid(alpha=0.3)


def _canvas() -> Any:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise gym.error.DependencyNotInstalled(INSTALL) from error
    return FigureCanvasAgg(Figure(figsize=SIZE, dpi=DPI))


def _decades(values: Array) -> tuple[float, float]:
    """Return whole decades, and a bit, that hold all positive numbers among some; above 10, three decades at a time."""
    logs = np.log10(values[np.isfinite(values) & (values > 0.0)])
    low, high = (np.floor(logs.min()), np.ceil(logs.max())) if logs.size else (0.0, 0.0)
    high = 3.0 * np.ceil(high / 3.0) if high > 1.0 else high
    return float(10.0 ** (low - 0.15)), float(10.0 ** (max(high, low + 1.0) + 0.15))
