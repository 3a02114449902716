"""Moves of Q-learning with a step size for every entry of the table, or with two tables."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from metalearn_env.engine import Engine, scaled_columns
from metalearn_env.family import ONE, TINY, Array
from metalearn_env.knowledge import pairs_updated

TARGET = 0.05  # nu of BAKF tends to it
DECAY, RMSPROP_STEP = 0.99, 0.1


def bakf(engine: Engine, target: float = TARGET) -> Iterator[Array]:
    r"""The bias-adjusted Kalman filter (George and Powell, 2006), for every entry. Told which pairs a step updates.

    With e the temporal-difference error of an entry, at its n-th update, and nu a step size of McClain,

        nu <- nu / (1 + nu - 0.05),   b <- (1 - nu) b + nu e,   v <- (1 - nu) v + nu e^2
        s^2 = (v - b^2) / (1 + l),   h = 1 - s^2 / v,   l <- (1 - h)^2 l + h^2

    The first two steps of an entry are 1 and 1/2.
    """
    columns = scaled_columns(engine.family)
    count, bias, square, spread = np.zeros((4, *engine.theta[:, columns].shape))
    nu = np.ones_like(count)
    while True:
        error = engine.direction[:, columns]
        updated = pairs_updated(engine.family, engine.task, engine.theta, engine.t)
        count += updated
        nu = np.where(updated & (count > 1.0), nu / (1.0 + nu - target), nu)
        bias = np.where(updated, bias + nu * (error - bias), bias)
        square = np.where(updated, square + nu * (error**2 - square), square)
        noise = np.maximum(square - bias**2, 0.0) / (1.0 + spread)
        step = np.where(count > 2.0, 1.0 - noise / np.maximum(square, TINY), 1.0 / np.maximum(count, ONE))
        spread = np.where(updated, (1.0 - step) ** 2 * spread + step**2, spread)
        yield _move(engine, step * error)


def rmsprop(engine: Engine, step: float = RMSPROP_STEP) -> Iterator[Array]:
    r"""RMSprop for every entry: a e / \sqrt{v}, v a mean of e^2 that forgets 1 % a step. Told the updated pairs.

    Source: Tieleman and Hinton (2012), their first values corrected as in Adam. As e has the unit of rewards, a is 0.1
    times the largest root mean square of the errors of one step so far.
    """
    columns = scaled_columns(engine.family)
    count, square = np.zeros((2, *engine.theta[:, columns].shape))
    unit = np.zeros(len(engine.t))
    while True:
        error = engine.direction[:, columns]
        updated = pairs_updated(engine.family, engine.task, engine.theta, engine.t)
        count += updated
        square = np.where(updated, DECAY * square + (1.0 - DECAY) * error**2, square)
        unit = np.maximum(unit, np.sqrt(np.vecdot(error, error) / updated.sum(axis=1)))
        root = np.sqrt(square / (1.0 - DECAY ** np.maximum(count, ONE)))
        part = np.divide(error, root, out=np.zeros_like(error), where=root > np.sqrt(TINY))
        yield _move(engine, step * unit[:, None] * part)


def speedy_q(engine: Engine) -> Iterator[Array]:
    r"""Speedy Q-learning (Azar, Munos, Ghavamzadeh and Kappen, 2011). Told which pairs a step updates.

    With T the Bellman operator of the step's transitions and a = 1 / n,

        Q_new = Q + a (T Q_before - Q) + (1 - a) (T Q - T Q_before)

    The same transitions serve for both tables, so that nothing is charged. Where a trajectory on the table before would
    have updated another pair, and the first time, it is plain Q-learning.
    """
    columns, before = scaled_columns(engine.family), engine.theta.copy()
    count = np.zeros(engine.theta[:, columns].shape)
    while True:
        table, here = engine.theta[:, columns].copy(), engine.theta.copy()
        here[:, columns] = before[:, columns]
        updated = pairs_updated(engine.family, engine.task, engine.theta, engine.t)
        both = updated & pairs_updated(engine.family, engine.task, here, engine.t)
        count += updated
        rate, error = 1.0 / np.maximum(count, ONE), engine.direction[:, columns]
        target_before = here[:, columns] + engine.family.direction(engine.task, here, engine.t)[:, columns]
        speedy = rate * (target_before - table) + (1.0 - rate) * (table + error - target_before)
        before[:, columns] = np.where(updated, table, before[:, columns])
        yield _move(engine, np.where(both, speedy, rate * error))


def _move(engine: Engine, of_scaled: Array) -> Array:
    move = np.zeros_like(engine.theta)
    move[:, scaled_columns(engine.family)] = of_scaled
    return move
