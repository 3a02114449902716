"""A backend of Matplotlib whose windows nobody sees, for tests: ``pyplot.switch_backend("module://fake_window")``."""

from typing import Any

from matplotlib.backend_bases import FigureManagerBase
from matplotlib.backends.backend_agg import FigureCanvasAgg

events: list[str] = []


class FigureManager(FigureManagerBase):
    """Tells when a window opens and closes."""

    def show(self) -> None:
        events.append("open")

    def destroy(self, *args: Any) -> None:
        events.append("close")


class FigureCanvas(FigureCanvasAgg):
    """Tells when a picture is shown."""

    required_interactive_framework = "headless"  # so that any machine may run it
    manager_class = FigureManager

    def draw_idle(self, *args: Any, **kwargs: Any) -> None:
        self.draw()

    def start_event_loop(self, timeout: float = 0) -> None:
        events.append(f"show for {timeout:g} s")
