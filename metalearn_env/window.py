"""A window that shows one picture after the other, by an interactive backend of Matplotlib."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

DPI = 100


class Window:
    """It opens with the first picture, and again if it was closed meanwhile.

    Args:
        fps: pictures a second.
    """

    def __init__(self, fps: float) -> None:
        self._seconds = 1.0 / fps
        self._figure: Any = None

    def show(self, pixels: NDArray[np.uint8]) -> None:
        """Show a picture, (H, W, 3), for its time.

        Raises:
            gymnasium.error.Error: there is no display, or a backend without windows was chosen.
        """
        from matplotlib import pyplot

        if self._figure is None or not pyplot.fignum_exists(self._figure.number):
            self._open(pyplot, pixels)
        self._image.set_data(pixels)
        self._figure.canvas.draw_idle()
        self._figure.canvas.start_event_loop(self._seconds)

    def close(self) -> None:
        if self._figure is not None:
            from matplotlib import pyplot

            pyplot.close(self._figure)
            self._figure = None

    def _open(self, pyplot: Any, pixels: NDArray[np.uint8]) -> None:
        height, width, _ = pixels.shape
        try:
            figure = pyplot.figure("metalearn_env", figsize=(width / DPI, height / DPI), dpi=DPI)
        except ImportError as error:
            raise gym.error.Error(f"{_NO_WINDOW} {error}") from error
        if figure.canvas.required_interactive_framework is None:
            pyplot.close(figure)
            raise gym.error.Error(f"{_NO_WINDOW} its backend is {pyplot.get_backend()!r}, which has none")
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set_axis_off()
        self._figure, self._image = figure, axes.imshow(pixels, aspect="auto")
        figure.show()


_NO_WINDOW = 'render_mode="human" opens a window of Matplotlib (without a display, take "rgb_array" or "ansi"):'
