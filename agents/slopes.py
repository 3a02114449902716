r"""How the final log gap of an inner run answers to each of its steps: one sweep back through its iterates.

With theta_{t+1} = theta_t + h_t d_t(theta_t) and \lambda_T the gradient of the log gap at the end,

    d log gap_T / d log h_t = h_t d_t . \lambda_{t+1}
    \lambda_t = \lambda_{t+1} + h_t (d d_t / d theta)^T \lambda_{t+1}

A policy that is moved along these slopes takes what it observed as given: the way by which a step changes what is
observed later, and so later steps, is left out (as Andrychowicz et al. 2016 do). What remains is steady where the whole
gradient is of no use, along runs that are long or noisy, and costs as much as a few runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from agents.inner_loops import inner_loop
from metalearn_env.driving import Act, action_map, driven
from metalearn_env.engine import Engine, Rows, scaled_columns
from metalearn_env.family import TINY, Array
from metalearn_env.rewards import log_gap

MOST_SLOPE = 3.0  # times the median of the tasks: the slopes of a task that are longer, all together, are shortened


class Recorded(NamedTuple):
    """The episodes of n tasks under an agent."""

    observations: Array  # (D, n, columns), at each decision
    decisions: Rows  # (D,) the inner steps before it
    step_size: Array  # (T, n); 0 once a learner has diverged
    iterates: list[Array]  # T + 1 of (n, p)
    log_gap: Array  # (n,) at the end


def recorded(act: Act, header: Mapping[str, Any], engine: Engine) -> Recorded:
    """Run n episodes of one horizon from their start to their end; the engine is left there.

    Args:
        act, header: see `metalearn_env.driving.Driver`.
        engine: n episodes at their start.
    """
    n, horizon, seen = len(engine.t), int(engine.horizon[0]), []
    steps, iterates = np.zeros((horizon, n)), [engine.theta.copy()]

    def watched(observations: NDArray[Any]) -> NDArray[Any]:
        seen.append(observations)
        return act(observations)

    for t, step in zip(range(horizon), driven(watched, header, engine), strict=False):
        going = ~engine.ended
        steps[t, going] = step[going]
        engine.advance_only(going, step)
        iterates.append(engine.theta.copy())
    return Recorded(np.stack(seen), action_map(header, 1).decisions(horizon), steps, iterates, log_gap(engine))


def slopes(engine: Engine, run: Recorded) -> Array:
    """Return d log gap_T / d log h_t, (T, n), of the episodes that an engine has run; 0 where it is not finite."""
    loop, scaled = inner_loop(engine.family, engine.task), torch.zeros(engine.theta.shape[1], dtype=torch.float64)
    scaled[scaled_columns(engine.family)] = 1.0
    last = torch.tensor(run.iterates[-1], requires_grad=True)
    gap = loop.loss(last) - torch.from_numpy(engine.reference)
    (weight,) = torch.autograd.grad(gap.clamp(min=float(TINY)).log().sum(), last)
    found = np.zeros(run.step_size.shape)
    for t in reversed(range(len(found))):
        theta = torch.tensor(run.iterates[t], requires_grad=True)
        direction = loop.direction(theta, t)
        pull = scaled * weight * torch.from_numpy(run.step_size[t])[:, None]
        found[t] = (pull * direction.detach()).sum(1).numpy()
        weight = weight + torch.autograd.grad(direction, theta, pull)[0]
    return np.where(np.isfinite(found).all(axis=0), found, 0.0)


def shortened(found: Array) -> Array:
    """Return slopes (T, n), those of no task much longer than those of most: a chaotic run says little, and loudly."""
    length = np.sqrt((found * found).sum(axis=0))
    most = MOST_SLOPE * np.median(length)
    return found * (most / np.maximum(np.maximum(length, most), TINY))
