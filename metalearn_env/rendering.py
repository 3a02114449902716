"""Pictures of the episodes of a session, beside the best constant step size in hindsight for the very same task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from metalearn_env.boards import Board, Comparison, label_axes
from metalearn_env.engine import Engine
from metalearn_env.family import Array, TaskFamily
from metalearn_env.rules.schedules import schedule
from metalearn_env.scenes import Scene, described, shown_gaps
from metalearn_env.scoring.runs import best_constant, recorded
from metalearn_env.session import Session
from metalearn_env.window import Window

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Pixels = NDArray[np.uint8]
Curves = dict[str, tuple[Array, Array]]

RENDER_MODES = ["rgb_array", "human", "ansi"]
RENDER_FPS = 10
KEPT = 16  # rows whose figures are kept, 10 MB each; others are drawn from scratch each time


class Renderer:
    """Draws what a session has traced.

    Args:
        session: one that keeps a trace.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._forget()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what can be drawn again."""
        return {"_session": self._session}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = state
        self._forget()

    def pictures(self) -> list[Pixels]:
        """Return a picture, (400, 1200, 3), of the episode of every row.

        Raises:
            gymnasium.error.ResetNeeded: before the first reset.
            gymnasium.error.DependencyNotInstalled: there is no Matplotlib.
            ValueError: the session keeps no trace.
        """
        scenes = self._scenes(show_problem=True)
        self._compare()
        return [self._draw(row, scene) for row, scene in enumerate(scenes)]

    def texts(self) -> list[str]:
        """Return a few lines on the episode of every row; raises as `pictures` does, but needs no Matplotlib."""
        return [described(scene) for scene in self._scenes(show_problem=False)]

    def show(self) -> None:
        """Show the episode of the only row in a window; raises as `pictures` and `Window.show` do."""
        self._window.show(self.pictures()[0])

    def close(self) -> None:
        """Close the window, if there is one."""
        self._window.close()

    def _forget(self) -> None:
        self._window = Window(RENDER_FPS)
        self._boards: dict[int, Board] = {}
        self._comparisons: dict[int, Comparison] = {}
        self._drawn = np.zeros(self._session.n, np.int64)  # the episode of each row that the above are of

    def _scenes(self, *, show_problem: bool) -> list[Scene]:
        session = self._session
        if not session.begun:
            raise gym.error.ResetNeeded("there is no episode to draw; call reset() before render()")
        if session.trace is None:
            raise ValueError("an environment keeps what is to be drawn if it is made with a render_mode")
        scenes: dict[int, Scene] = {}
        for rows, engine, places in session.learners(np.arange(session.n)):
            for row, place in zip(rows.tolist(), places.tolist(), strict=True):
                past = slice(engine.t[place] + 1)
                losses, steps = session.trace.loss[row, past], session.trace.step_size[row, past]
                scenes[row] = scene_of(engine, place, losses, steps[1:], show_problem=show_problem)
        return [scenes[row] for row in range(session.n)]

    def _compare(self) -> None:
        """Find the best constant steps for the tasks of the episodes that have begun since."""
        trace = self._session.trace
        assert trace is not None
        fresh = np.flatnonzero(self._drawn != trace.episode)
        for rows, engine, places in self._session.learners(fresh):
            for horizon in np.unique(engine.horizon[places]).tolist():
                alike = engine.horizon[places] == horizon
                task = engine.task._make(array[places[alike]] for array in engine.task)
                self._comparisons |= zip(rows[alike].tolist(), comparisons(engine.family, task, horizon), strict=True)
        for row in fresh.tolist():
            self._boards.pop(row, None)
        self._drawn[fresh] = trace.episode[fresh]

    def _draw(self, row: int, scene: Scene) -> Pixels:
        board = self._boards.get(row) or Board(scene, self._comparisons[row])
        if row < KEPT:
            self._boards[row] = board
        return board.draw(scene)


def scene_of(
    engine: Engine, place: int, losses: Array, step_sizes: Array, *, show_problem: bool = True, player: str = "agent"
) -> Scene:
    """Return the scene of one of n learners.

    Args:
        engine: the learners, after t steps of this one.
        place: which one it is.
        losses: (t + 1,)
        step_sizes: (t,)
        show_problem: ask the family for a picture of its inner problem.
        player: who chooses the step sizes.
    """
    family, unit = engine.family, engine.unit[place]
    return Scene(
        family=type(family).__name__,
        kind=family.kind,
        horizon=int(engine.horizon[place]),
        loss=float(losses[-1]),
        gaps=shown_gaps((losses - engine.reference[place]) / engine.initial_gap[place]),
        step_sizes=step_sizes / unit,
        picture=family.picture(engine.task, engine.theta, place) if show_problem else None,
        player=player,
    )


def comparisons(family: TaskFamily, task: Any, horizon: int) -> list[Comparison]:
    """Return, for each of n tasks, the run of the best constant step size in hindsight."""
    best, _ = best_constant(family, task, horizon)
    run = recorded(family, task, horizon, schedule(np.broadcast_to(best, (horizon, len(best)))))
    name = "best constant step in hindsight"
    return [Comparison(name, shown_gaps(np.exp(run.log_gap[:, row])), float(best[row])) for row in range(len(best))]


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
    label_axes(left, right, horizon, quantity)
