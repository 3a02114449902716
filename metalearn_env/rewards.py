"""Rewards: the fall of a potential over a step, so that the rewards of an episode add up to its whole improvement.

=======  ====================================  =================
reward   potential                             clipped to
=======  ====================================  =================
log      log(gap / initial gap)                [log 1e-12, log 1e6]
linear   gap / initial gap                     [0, 10]
=======  ====================================  =================

The potential is clipped, never the reward: a clipped reward would pay for bouncing. An inner run that diverges ends
with the potential at its upper end.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from metalearn_env.engine import DIVERGED_AT, SMALLEST_GAP, Learners
from metalearn_env.family import Array

Reward = Literal["log", "linear"]

LINEAR_CAP = np.array(10.0)


def check_reward(reward: str) -> None:
    """Raise ``ValueError`` unless ``reward`` is a known one."""
    if reward not in get_args(Reward):
        raise ValueError(f"reward is one of {', '.join(get_args(Reward))}, not {reward!r}")


def potential(engine: Learners, reward: str) -> Array:
    """Return the potential, (n,), whose fall is the reward; at its upper end where the gap is not a number."""
    if reward == "linear":
        return np.fmax(np.fmin(engine.gap_ratio, LINEAR_CAP), 0.0)
    return np.log(np.fmax(np.fmin(engine.gap_ratio, DIVERGED_AT), SMALLEST_GAP))


def log_gap(engine: Learners) -> Array:
    """Return log(gap / initial gap), (n,), between log 1e-12 and log 1e6: what scores are made of."""
    return potential(engine, "log")
