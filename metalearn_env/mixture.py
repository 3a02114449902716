"""Which families the episodes of an environment are of: one, several side by side, or one moved out of distribution.

Everything that an environment plays is a list of parts. An ordinary environment has one; a mixture has one for each of
its families; the "ood" split has one for each axis that the tasks are moved along, unless ``ood`` names the axis.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from metalearn_env.engine import Engine
from metalearn_env.families import beyond, make_family
from metalearn_env.family import TaskFamily
from metalearn_env.identity import described
from metalearn_env.pool import draw_tasks
from metalearn_env.ranges import is_number
from metalearn_env.rewards import potential
from metalearn_env.splits import check_split

#: axis -> what the horizon is multiplied by, of any family
HORIZON_AXES = {"short_horizon": 0.25, "long_horizon": 4.0}

PILOT_TASKS, PILOT_STEPS = 32, (0.03, 0.1, 0.3, 1.0, 3.0)  # of constant size, in units
LEAST_RETURN = 0.01

Entry = str | type[TaskFamily] | Mapping[str, Any]


class Part(NamedTuple):
    """Some of the episodes of an environment."""

    family: TaskFamily
    origin: TaskFamily  # the family as it was asked for: the same, or the one that was moved
    weight: float = 1.0  # how often it is drawn, in proportion
    stretch: float = 1.0  # of the horizon
    axis: str | None = None  # that it was moved along

    def horizon(self, horizon: tuple[int, int]) -> tuple[int, int]:
        """Return the shortest and the longest episode, where those of the environment are ``horizon``."""
        low, high = (max(1, round(self.stretch * end)) for end in horizon)
        return low, high


def make_parts(families: Any, weights: Any = None, *, split: str = "train", ood: str | None = None) -> tuple[Part, ...]:
    """Return the parts of an environment.

    Args:
        families: a list of entries: a name, ``"module:Class"``, a class, or with options ``{"family": one of these,
            option: value, ...}``.
        weights: how often each is drawn, in proportion; None: equally often.
        split: of all of them.
        ood: the axis of the "ood" split; None: all that a family has, equally often.

    Raises:
        TypeError: an entry is of another type, or has an option that its family does not have.
        ValueError: a value that cannot be honoured.
    """
    check_split(split)
    if ood is not None and split != "ood":
        raise ValueError(f"ood is the axis of the split 'ood', not of {split!r}: {ood!r} cannot be honoured")
    if isinstance(families, str) or not isinstance(families, Sequence) or not families:
        raise ValueError(f"families is a list of at least one family, not {families!r}")
    made = [make_family(**_entry(entry), split=split) for entry in families]
    parts = []
    for family, weight in zip(made, _weights(weights, len(made)), strict=True):
        moved = [Part(family, family)] if split != "ood" else _moved(family, ood)
        parts += [part._replace(weight=weight / len(moved)) for part in moved]
    return tuple(parts)


def typical_return(family: TaskFamily, horizon: int, reward: str) -> float:
    """Return how much a decent constant step is rewarded, the mean over pilot tasks of the train split.

    A pilot task is run with a few constant steps; the best of them counts. It is worked out once in a process, unless
    the family has a module of one's own: another may have its name.
    """
    family = replace(family, split="train")
    try:
        key = (type(family), json.dumps(described(family)), horizon, reward)
    except TypeError:
        return _pilot_return(family, horizon, reward)
    if key not in _TYPICAL:
        _TYPICAL[key] = _pilot_return(family, horizon, reward)
    return _TYPICAL[key]


_TYPICAL: dict[tuple[type, str, int, str], float] = {}


def _pilot_return(family: TaskFamily, horizon: int, reward: str) -> float:
    task = draw_tasks(family, 0, PILOT_TASKS, horizon)
    best = np.zeros(PILOT_TASKS)
    for multiple in PILOT_STEPS:
        engine = Engine.start(family, task, horizon)
        first, step_size = potential(engine, reward), multiple * engine.unit
        for _ in range(horizon):
            engine.advance_only(~engine.ended, step_size)
        best = np.maximum(best, first - potential(engine, reward))
    return max(float(best.mean()), LEAST_RETURN)


def _moved(family: TaskFamily, ood: str | None) -> list[Part]:
    axes = [*family.axes(), *HORIZON_AXES]
    if ood is not None and ood not in axes:
        raise ValueError(f"ood of {type(family).__name__} is one of {', '.join(axes)}, not {ood!r}")
    return [
        Part(family, family, stretch=HORIZON_AXES[axis], axis=axis)
        if axis in HORIZON_AXES
        else Part(beyond(family, axis), family, axis=axis)
        for axis in (axes if ood is None else [ood])
    ]


def _entry(entry: Any) -> dict[str, Any]:
    if not isinstance(entry, Mapping):
        return {"family": entry}
    if "family" not in entry:
        raise ValueError(f"an entry of families names its 'family', not only {sorted(entry)}")
    if "split" in entry:
        raise ValueError("split is of all families, not of an entry of families")
    return dict(entry)


def _weights(weights: Any, n: int) -> list[float]:
    if weights is None:
        return [1.0] * n
    given = list(weights) if isinstance(weights, (Sequence, np.ndarray)) else []
    if len(given) != n or not all(is_number(weight) and weight > 0.0 for weight in given):
        raise ValueError(f"weights is a list of a number above 0 for each of {n} families, not {weights!r}")
    return [float(weight) / float(max(given)) for weight in given]
