"""Step sizes of minibatch k-means, most of them one for every centre, and what all points would give."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from metalearn_env.engine import Engine
from metalearn_env.family import ONE, Array
from metalearn_env.knowledge import direction_of_all, points_owned

FIRST, RELAXATION = 0.6, 1.4


def mini_batch_k_means(engine: Engine) -> Iterator[Array]:
    """b_k / N_k, the points that a centre owns now over those owned so far: the mean of all of them. Told b_k.

    Source: Sculley (2010); it is what scikit-learn's ``MiniBatchKMeans`` does, reassignments apart.
    """
    total = np.zeros_like(engine.theta)
    while True:
        owned = points_owned(engine.family, engine.task, engine.theta, engine.t)
        total = total + owned
        yield owned / np.maximum(total, ONE) * engine.direction


def one_over_updates(engine: Engine) -> Iterator[Array]:
    """1 / N_k, with N_k the steps at which a centre has owned a point, this one included. Told b_k.

    Source: MacQueen (1967), for one point a step, where it is the same as b_k / N_k.
    """
    updates = np.zeros_like(engine.theta)
    while True:
        updates = updates + (points_owned(engine.family, engine.task, engine.theta, engine.t) > 0.0)
        yield engine.direction / np.maximum(updates, ONE)


def root_of_share(engine: Engine) -> Iterator[Array]:
    r"""\sqrt{b_k / b}, with b_k of the b points that a step sees owned by a centre (Schwartzman, 2023). Told b_k."""
    width = engine.task.points.shape[2] - 2
    while True:
        owned = points_owned(engine.family, engine.task, engine.theta, engine.t)
        yield np.sqrt(owned / (owned.sum(axis=1, keepdims=True) / width)) * engine.direction


def linear_decay(engine: Engine, first: float = FIRST) -> Iterator[Array]:
    """0.6 (1 - t / T). Told T."""
    while True:
        yield first * (1.0 - engine.t / engine.horizon) * engine.unit


def lloyd(engine: Engine, part: float = 1.0) -> Iterator[Array]:
    """Lloyd's algorithm: every centre moves to the mean of all points that it owns. Told all points."""
    while True:
        yield part * direction_of_all(engine.family, engine.task, engine.theta)


#: 1.4 times the moves of Lloyd's algorithm. Told all points.
over_relaxed_lloyd = partial(lloyd, part=RELAXATION)
