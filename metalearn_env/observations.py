"""What an agent sees: named, unit-free, bounded features of one fixed width, the same for every family.

=========  ==========================================================================================================
group      features
=========  ==========================================================================================================
task       kind of the task, one-hot (3); its descriptors, padded to 8
progress   t / T; log10 T
history    log10 of step size / the task's unit, signal / first signal, |d| / first |d|;
           for each of the last H decisions, newest first (zero before the episode began), natural logs of
           signal_ratio      signal where it has led to / signal where it was taken
           step_ratio        step size / step size before it
           norm_ratio        |d| / |d before|
           cosine            cosine of d and d before (no log)
           curvature         h s'y / s's = 1 - d.d_before / |d_before|^2, the step size times the curvature along it
                             (2 is the edge of stability)
ritz       where it is asked for: Ritz values, see `metalearn_env.krylov`
=========  ==========================================================================================================

A decision is of one inner step, or of several of one size (`metalearn_env.decisions`); "before" is at the decision
before. Of means over its steps, cosine and curvature are of d and d at the inner step before. The step sizes of
Barzilai and Borwein are a linear policy in these. Multiplying the objective or theta by a constant changes none, but
for rounding. Long runs amplify that: what an agent does about the last digit comes back as a larger difference. With a
``resolution``, history and Ritz values are rounded to its multiples, and actions come out the same, unless they are
inverse Ritz values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from metalearn_env.actions import RITZ
from metalearn_env.engine import Engine, Learners, Rows
from metalearn_env.family import KINDS, MAX_DESCRIPTORS, ONE, TINY, Array
from metalearn_env.ranges import is_number
from metalearn_env.states import numbers

Observation = Literal["flat", "dict"]

LEVELS = ("log10_step", "log10_signal", "log10_norm")  # since the start
STEP_FEATURES = ("signal_ratio", "step_ratio", "norm_ratio", "cosine", "curvature")
RITZ_FEATURES = (
    *(f"ritz_{name}[{power}]" for power in range(RITZ) for name in ("step", "share")),
    *("ritz_longest", "ritz_shortest"),
)
LOG_BOUND = 5.0
RITZ_BOUND = 10.0
DESCRIPTOR_BOUND = 10.0  # of levels, too
NUM_TASK = len(KINDS) + MAX_DESCRIPTORS
NUM_STATIC = NUM_TASK + 2
NUM_LEVELS = len(LEVELS)
PER_DECADE = 1.0 / np.log(10.0)
FINEST = 2.0**-20  # resolution; single precision tells no less apart


def check_observation(observation: str) -> None:
    """Raise ``ValueError`` unless ``observation`` is a known form."""
    if observation not in get_args(Observation):
        raise ValueError(f"observation is one of {', '.join(get_args(Observation))}, not {observation!r}")


def check_resolution(resolution: Any) -> float:
    """Return a resolution; its multiples are exact in single precision, and all bounds are among them.

    Raises:
        ValueError: it is neither 0 nor a power of two from 2^-20 to 1.
    """
    known = is_number(resolution) and (
        resolution == 0 or (FINEST <= resolution <= 1.0 and np.frexp(resolution)[0] == 0.5)
    )
    if not known:
        raise ValueError(f"resolution is 0 or a power of two from 2^-20 to 1, not {resolution!r}")
    return float(resolution)


def rounded(columns: NDArray[np.float32], resolution: float) -> NDArray[np.float32]:
    """Round flat observations (n, width) to a resolution, in place but for task and progress, and return them."""
    if resolution:
        past, unit = columns[:, NUM_STATIC:], np.float32(resolution)
        np.multiply(np.rint(np.divide(past, unit, out=past), out=past), unit, out=past)
    return columns


def feature_names(history: int, ritz: int = 0) -> tuple[str, ...]:
    """Return the name of every column of the flat observation.

    Args:
        history: decisions remembered.
        ritz: inner steps that Ritz values are of; 0: none are seen.

    >>> feature_names(1)[-5:]
    ('signal_ratio[-1]', 'step_ratio[-1]', 'norm_ratio[-1]', 'cosine[-1]', 'curvature[-1]')
    """
    task = [f"kind_{kind}" for kind in KINDS] + [f"descriptor_{index}" for index in range(MAX_DESCRIPTORS)]
    past = [f"{name}[-{age}]" for age in range(1, history + 1) for name in STEP_FEATURES]
    return (*task, "progress", "log10_horizon", *LEVELS, *past, *(RITZ_FEATURES if ritz else ()))


def bounds(history: int, ritz: int = 0) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the lowest and highest value of every column, (width,) each."""
    step_low, step_high = np.full(5, -LOG_BOUND), np.full(5, LOG_BOUND)
    step_low[3], step_high[3] = -1.0, 1.0
    static_low = [0.0] * len(KINDS) + [-DESCRIPTOR_BOUND] * MAX_DESCRIPTORS + [0.0, 0.0]
    static_high = [1.0] * len(KINDS) + [DESCRIPTOR_BOUND] * MAX_DESCRIPTORS + [1.0, DESCRIPTOR_BOUND]
    level = np.full(NUM_LEVELS, DESCRIPTOR_BOUND)
    of_ritz = np.full(len(RITZ_FEATURES) if ritz else 0, RITZ_BOUND)
    low = np.concatenate([static_low, -level, np.tile(step_low, history), -of_ritz])
    high = np.concatenate([static_high, level, np.tile(step_high, history), of_ritz])
    return low.astype(np.float32), high.astype(np.float32)


def groups(history: int, ritz: int = 0) -> dict[str, slice]:
    """Return the columns of the groups "task", "progress", "history" and, if there are any, "ritz"."""
    width = NUM_STATIC + NUM_LEVELS + len(STEP_FEATURES) * history
    there = {"task": slice(NUM_TASK), "progress": slice(NUM_TASK, NUM_STATIC), "history": slice(NUM_STATIC, width)}
    return {**there, "ritz": slice(width, width + len(RITZ_FEATURES))} if ritz else there


def columns(history: int, name: str, ritz: int = 0) -> list[int]:
    """Return the places, in the observation, of a group, of a feature, or of one feature at all ages.

    Raises:
        ValueError: there is none of that name.
    """
    features, of_groups = feature_names(history, ritz), groups(history, ritz)
    if name in of_groups:
        return list(range(len(features)))[of_groups[name]]
    found = [index for index, feature in enumerate(features) if name in (feature, feature.partition("[")[0])]
    if not found:
        known = dict.fromkeys([*of_groups, *(feature.partition("[")[0] for feature in features)])
        raise ValueError(f"a policy observes nothing that is called {name!r}; known: {', '.join(known)}")
    return found


class Observer:
    """Keeps the observations of n learners up to date with their engine.

    Args:
        n: learners.
        history: decisions remembered, H.
        ritz: inner steps that Ritz values are of; 0: none are seen.
        resolution: what history and Ritz values are rounded to multiples of; 0: they are not.

    Raises:
        ValueError: see `check_resolution`.
    """

    def __init__(self, n: int, history: int, ritz: int = 0, resolution: float = 0.0) -> None:
        self.resolution = check_resolution(resolution)
        self._columns = np.zeros((n, len(feature_names(history, ritz))), np.float32)
        self._past = groups(history)["history"].stop  # where what is told of Ritz values begins
        self._new = NUM_LEVELS + len(STEP_FEATURES) * min(history, 1)  # columns that a step brings
        self._before = np.zeros((NUM_LEVELS + len(STEP_FEATURES), n))  # what logs are compared with
        self._low, self._high = (bound.astype(np.float64)[NUM_STATIC:][: self._new, None] for bound in bounds(1))
        self._set_views()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copy, whose views are to be of its own columns."""
        self.__dict__ = state
        self._set_views()

    def begin(self, fresh: Engine, rows: Rows | slice) -> None:
        """Take up the new episodes of ``rows``, at the start of which the engine ``fresh`` stands."""
        self.begin_as(fresh.family.kind, fresh.family.descriptor(fresh.task), fresh, rows)

    def begin_as(self, kind: str, descriptor: Array, fresh: Learners, rows: Rows | slice) -> None:
        """Take up the new episodes of ``rows``, of tasks of one kind and of descriptors (k, at most 8)."""
        kinds = len(KINDS)
        columns = np.zeros((len(descriptor), self._columns.shape[1]), np.float32)
        columns[:, KINDS.index(kind)] = 1.0
        columns[:, kinds : kinds + descriptor.shape[1]] = np.fmin(
            np.fmax(descriptor, -DESCRIPTOR_BOUND), DESCRIPTOR_BOUND
        )
        self._columns[rows] = columns
        self.tell_horizon(fresh.horizon, rows)
        logs = np.empty((6, len(descriptor)))
        logs[0], logs[1], logs[2] = fresh.unit, fresh.signal, fresh.squared_norm
        logs[3], logs[4], logs[5] = fresh.signal, fresh.step_size, fresh.squared_norm
        self._before[:6, rows] = logs = np.log(np.fmax(logs, TINY))
        self._columns[rows, NUM_STATIC] = PER_DECADE * (logs[4] - logs[0])

    def tell_horizon(self, horizon: NDArray[np.int64], rows: Rows | slice) -> None:
        """Take in how long the episodes of ``rows`` are, (k,)."""
        self._columns[rows, NUM_TASK + 1] = np.minimum(np.log10(horizon), DESCRIPTOR_BOUND)

    def update(self, engine: Learners, ritz: Array | None = None) -> None:
        """Take in what the engine has done since the decision before, and what Ritz values tell, if they are seen."""
        np.divide(engine.t, engine.horizon, out=self._progress)
        self._older[:] = self._newer
        self._observe_step(engine)
        if ritz is not None:
            self._columns[:, self._past :] = np.minimum(np.maximum(ritz, -RITZ_BOUND), RITZ_BOUND)

    def observation(self) -> NDArray[np.float32]:
        """Return the flat observations, (n, width), as a new array."""
        return rounded(self._columns.copy(), self.resolution)

    def state(self) -> dict[str, Any]:
        """Return all that changes with time, as plain lists."""
        return {"columns": self._columns.tolist(), "before": self._before.tolist()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a `state` of as many learners and as long a history.

        Raises:
            ValueError: it is of others, or of none that there can be. Nothing has changed.
        """
        columns, before = (numbers(state, name, getattr(self, f"_{name}").shape) for name in ("columns", "before"))
        self._columns[:], self._before[:] = columns, before

    def _set_views(self) -> None:
        columns, end = self._columns, NUM_STATIC + self._new
        self._progress, self._newest = columns[:, NUM_TASK], columns[:, NUM_STATIC:end].T
        self._older, self._newer = (
            columns[:, end : self._past],
            columns[:, NUM_STATIC + NUM_LEVELS : self._past - len(STEP_FEATURES)],
        )
        self._latest = self._before[NUM_LEVELS:6]
        self._logs, self._features = np.ones((2, *self._before.shape))
        self._raw, self._levels, self._last = self._logs[NUM_LEVELS:], self._logs[1:3], self._logs[NUM_LEVELS:6]
        self._remainder, self._last_levels = self._logs[7], self._logs[3:6:2]
        self._cosine, self._seen = self._features[6], self._features[: self._new]

    def _observe_step(self, engine: Learners) -> None:
        logs, features, raw = self._logs, self._features, self._raw
        projection = engine.alignment / engine.previous_squared_norm
        logs[3], logs[4], logs[5] = engine.signal, engine.step_size, engine.squared_norm
        logs[6] = engine.previous_squared_norm
        np.subtract(ONE, projection, out=self._remainder)
        np.log(np.fmax(raw, TINY, out=raw), out=raw)
        logs[0], self._levels[:] = logs[4], self._last_levels
        np.multiply(np.subtract(logs, self._before, out=features), _SCALES, out=features)
        np.divide(projection, np.exp(_HALF * (logs[5] - logs[6])), out=self._cosine)
        self._latest[:] = self._last
        np.fmin(np.fmax(self._seen, self._low, out=self._seen), self._high, out=self._newest)


_HALF = np.array(0.5)
#: features are so many times the logs: a level is of decades, and |d| the root of its square
_SCALES = np.array([PER_DECADE, PER_DECADE, 0.5 * PER_DECADE, 1.0, 1.0, 0.5, 1.0, 1.0])[:, None]
