"""The Gymnasium spaces of one row of a session."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from metalearn_env import observations
from metalearn_env.actions import ActionMap


def action_space(actions: ActionMap) -> spaces.Space[Any]:
    """Return Box(-1, 1, (size,)), Discrete or MultiDiscrete."""
    if actions.choices is None:
        return spaces.Box(-1.0, 1.0, (actions.size,), np.float32)
    if actions.size == 1:
        return spaces.Discrete(actions.choices[0])
    return spaces.MultiDiscrete(np.array(actions.choices))


def observation_space(history: int, ritz: int, observation: str) -> spaces.Space[Any]:
    """Return the flat Box, or the Dict of its groups."""
    low, high = observations.bounds(history, ritz)
    if observation == "flat":
        return spaces.Box(low, high, dtype=np.float32)
    groups = observations.groups(history, ritz)
    return spaces.Dict({name: spaces.Box(low[cut], high[cut], dtype=np.float32) for name, cut in groups.items()})


def formed(columns: NDArray[np.float32], history: int, ritz: int, observation: str) -> Any:
    """Return flat observations (..., width), new to the caller, in the form asked for."""
    if observation == "flat":
        return columns
    return {name: columns[..., cut].copy() for name, cut in observations.groups(history, ritz).items()}
