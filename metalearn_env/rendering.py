"""Pictures of episodes: the gap to the reference loss, and the step sizes, over the inner steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from metalearn_env.family import Array
from metalearn_env.session import Session

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Curves = dict[str, tuple[Array, Array]]

SIZE, DPI = (8.0, 3.6), 100


def draw_rows(session: Session) -> list[NDArray[np.uint8]]:
    """Return a picture, (360, 800, 3), of the episode of every row of a session that keeps a trace.

    Raises:
        gymnasium.error.ResetNeeded: before the first reset.
        ValueError: the session keeps no trace.
    """
    if not session.begun:
        raise gym.error.ResetNeeded("there is no episode to draw; call reset() before render()")
    engine, trace = session.engine, session.trace
    if trace is None:
        raise ValueError("an environment keeps what is to be drawn if it is made with a render_mode; this one was not")
    pictures = []
    for row in range(session.n):
        curves = {"agent": (trace.loss[row] - engine.reference[row], trace.step_size[row] / engine.unit[row])}
        pictures.append(as_pixels(episode_figure(curves, int(engine.horizon[row]))))
    return pictures


def episode_figure(curves: Curves, horizon: int) -> Figure:
    """Return a picture of inner runs on the same task; see `draw_curves`."""
    figure = _figure()
    left, right = figure.subplots(1, 2)
    draw_curves(left, right, curves, horizon)
    return figure


def draw_curves(left: Axes, right: Axes, curves: Curves, horizon: int, quantity: str = "loss - f*") -> None:
    """Draw the gaps of inner runs on the same task to the ``left`` and their step sizes to the ``right``.

    Args:
        left, right: axes.
        curves: name -> (gaps, step sizes in units of the task), each (steps so far + 1,), NaN where there are none;
            the step size at t = 0 is the one to start from.
        horizon: inner steps of the episode.
        quantity: what the gaps are, for the axis.
    """
    for name, (gap, step_size) in curves.items():
        left.plot(np.where(gap > 0, gap, np.nan), label=name)
        right.plot(step_size, marker=".", label=name)
    left.set(title="gap to the best loss", xlabel="inner step", ylabel=quantity)
    right.set(title="step size", xlabel="inner step", ylabel="step size / unit of the task")
    for axes in (left, right):
        axes.set_xlim(0, horizon)
        axes.set_yscale("log")
        axes.grid(alpha=0.3)


def as_pixels(figure: Figure) -> NDArray[np.uint8]:
    """Return the pixels of a figure, (H, W, 3)."""
    canvas: Any = figure.canvas
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _figure() -> Figure:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        message = 'drawing needs matplotlib: pip install "metalearn-env[agents]"'
        raise gym.error.DependencyNotInstalled(message) from error
    figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure
