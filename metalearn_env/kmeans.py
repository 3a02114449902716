r"""Lloyd's algorithm as matrix products, for many problems at once.

Points are kept *lifted*, so that a squared distance is an inner product, and one product with the ownership of points
by centres gives the sums and the numbers of what each centre owns:

    x -> (x, 1, |x|^2),      |x - c|^2 = (x, 1, |x|^2) . (-2c, |c|^2, 1)

Where points lie much closer to their centres than to the origin such a product cancels; those problems are measured
by differences instead. Problems may have fewer centres than there is room for: one that is not there has a *barrier*,
a number added to its squared distances that keeps it from ever owning a point.

Every problem is computed as if it were alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from metalearn_env.family import HALF, ONE, TINY, Array

BARRIER = 1e300
CANCELLATION = 1e-4  # mean squared distance to the centres / to the origin, below which products are not trusted
MOST_ITERATIONS = 300
TOGETHER = 7  # iterations that all runs of a problem make side by side; those that need more go on alone
ELEMENTS = 2**18  # of the largest temporary array, where problems can be cut so

MINUS_TWO = -2.0


def lifted(points: Array) -> Array:
    """Return the lifted points, (..., m, d + 2), of points (..., m, d)."""
    result = np.empty((*points.shape[:-1], points.shape[-1] + 2), points.dtype)
    result[..., :-2], result[..., -2], result[..., -1] = points, 1.0, np.vecdot(points, points)
    return result


def rescaled(points: Array, scatter: Array) -> Array:
    """Return lifted points in single precision, in units of their root mean squared norm."""
    result: NDArray[Any] = np.empty(points.shape, np.float32)
    unit = np.sqrt(np.maximum(scatter, TINY))[:, None, None]
    coordinates = np.divide(points[:, :, :-2], unit, out=result[:, :, :-2], casting="same_kind")
    result[:, :, -2], result[:, :, -1] = 1.0, np.vecdot(coordinates, coordinates)
    return result


def distances(points: Array, centres: Array, barrier: Array, scatter: Array) -> tuple[Array, Array]:
    """Return squared distances from all centres, (..., k, m), and from the nearest one, (..., m).

    Args:
        points: (..., m, d + 2) lifted.
        centres: (..., k, d)
        barrier: (n, k) zero, or `BARRIER` for a centre that is not there.
        scatter: (n,) the mean squared norm of all points of the problem.
    """
    forms = _forms(centres)
    forms[..., -2] += barrier
    distance = forms @ points.swapaxes(-1, -2)
    nearest = distance.min(axis=-2)
    doubtful = np.flatnonzero(nearest.sum(axis=-1) < CANCELLATION * nearest.shape[-1] * scatter)
    if doubtful.size:
        distance[doubtful] = exact = _by_differences(points[doubtful], centres[doubtful], barrier[doubtful])
        nearest[doubtful] = exact.min(axis=-2)
    return distance, nearest


def distortion(nearest: Array) -> Array:
    """Return half the mean squared distance to the nearest centre, (...,), from the distances (..., m)."""
    return HALF * nearest.sum(axis=-1) / nearest.shape[-1]


def ownership(distance: Array, nearest: Array) -> Array:
    """Return 1 where a point belongs to a centre and else 0, (..., k, m): to the nearest, of equals to the first."""
    own = distance == nearest[..., None, :]
    if np.count_nonzero(own) > nearest.size:
        taken = own[..., 0, :].copy()
        for centre in range(1, own.shape[-2]):
            own[..., centre, :] &= ~taken
            taken |= own[..., centre, :]
    return own.astype(distance.dtype)


def means(points: Array, own: Array, centres: Array) -> Array:
    """Return the means of the points that the centres own, (..., k, d); the centre itself if it owns none."""
    sums = own @ points
    total = sums[..., -2:-1]
    found: Array = sums[..., :-2] / np.maximum(total, ONE, dtype=total.dtype)
    if not total.all():
        np.copyto(found, centres, where=total == 0.0)
    return found


def displacement(points: Array, own: Array, centres: Array) -> Array:
    """Return the means of the points that the centres own, from the centres, (..., k, d); zero if they own none."""
    sums = own @ points
    total = sums[..., -2:-1]
    offset = sums[..., :-2] - total * centres
    return np.divide(offset, np.maximum(total, ONE), out=offset)


def step(points: Array, theta: Array, barrier: Array, scatter: Array) -> tuple[Array, Array]:
    """Return the distortion of points, (n,), and how far the means of what the centres own are away, (n, k * d).

    Args:
        points: (n, m, d + 2) lifted; those that are seen.
        theta: (n, k * d) the centres.
        barrier, scatter: see `distances`.
    """
    centres = theta.reshape(*barrier.shape, -1)
    distance, nearest = distances(points, centres, barrier, scatter)
    direction = displacement(points, ownership(distance, nearest), centres)
    return distortion(nearest), direction.reshape(theta.shape)


def lloyd(points: Array, centres: Array, barrier: Array, scatter: Array, weights: Array | None = None) -> Array:
    """Return the centres, (n, k, d), that Lloyd's algorithm converges to.

    Args:
        points: (n, m, d + 2) lifted.
        centres: (n, k, d) to begin with.
        barrier: (n, k)
        scatter: (n,)
        weights: (n, m) how often each point counts. Default: once.
    """
    result, going = centres.copy(), np.arange(len(centres))
    for _ in range(MOST_ITERATIONS):
        own = ownership(*distances(points, centres, barrier, scatter))
        moved = means(points, own if weights is None else own * weights[:, None, :], centres)
        result[going] = moved
        changed = (moved != centres).any(axis=(1, 2))
        if not changed.any():
            break
        going, points, centres = going[changed], points[changed], moved[changed]
        barrier, scatter = barrier[changed], scatter[changed]
        weights = None if weights is None else weights[changed]
    return result


def search(points: Array, starts: NDArray[np.int64]) -> Array:
    """Return the centres, (n, k, d), of the best of several runs of Lloyd's algorithm, in single precision.

    All runs go on until they have converged; `lloyd` from the best one gives the last digits.

    Args:
        points: (n, m, d + 2) `rescaled`.
        starts: (n, r, k) the points that the runs start at.
    """
    n, runs, k = starts.shape
    centres = points[np.arange(n)[:, None], starts.reshape(n, runs * k), :-2]
    for _ in range(TOGETHER):
        distance = (_forms(centres) @ points.swapaxes(-1, -2)).reshape(n, runs, k, -1)
        nearest, before = distance.min(axis=2), centres
        centres = means(points, ownership(distance, nearest).reshape(n, runs * k, -1), centres)
    reached, changed = nearest.sum(axis=-1), (centres != before).reshape(n, runs, -1).any(axis=2)
    centres = centres.reshape(n, runs, k, -1)
    problem, run = np.nonzero(changed)
    points, late = points[problem], centres[problem, run]
    for _ in range(MOST_ITERATIONS - TOGETHER):
        distance = _forms(late) @ points.swapaxes(-1, -2)
        nearest = distance.min(axis=1)
        moved = means(points, ownership(distance, nearest), late)
        centres[problem, run], reached[problem, run] = moved, nearest.sum(axis=-1)
        going = (moved != late).any(axis=(1, 2))
        if not going.any():
            break
        problem, run, points, late = problem[going], run[going], points[going], moved[going]
    return centres[np.arange(n), reached.argmin(axis=1)]


def plus_plus(points: Array, uniform: Array) -> NDArray[np.int64]:
    """Return the points, (n, r, k), that k-means++ starts at: drawn by squared distance from those drawn before.

    Source: Arthur and Vassilvitskii, 2007.

    Args:
        points: (n, m, d + 2) `rescaled`.
        uniform: (n, r, k) numbers of [0, 1) to draw with.
    """
    each, m = np.arange(len(points))[:, None], points.shape[1]
    chosen = [(uniform[..., 0] * m).astype(np.int64)]
    nearest = np.full((*uniform.shape[:2], m), np.inf, np.float32)
    for draw in np.moveaxis(uniform.astype(np.float32), -1, 0)[1:]:
        distance = _forms(points[each, chosen[-1], :-2]) @ points.swapaxes(-1, -2)
        np.minimum(nearest, np.maximum(distance, 0.0, out=distance), out=nearest)
        cumulated = nearest.cumsum(axis=-1)
        chosen.append((cumulated > (draw * cumulated[..., -1])[..., None]).argmax(axis=-1))
    return np.stack(chosen, axis=-1)


def pieces(n: int, elements_each: int) -> list[slice]:
    """Cut n problems, of so many elements each, into slices whose arrays stay in the processor's cache."""
    size = max(1, ELEMENTS // elements_each)
    return [slice(first, first + size) for first in range(0, n, size)]


def _by_differences(points: Array, centres: Array, barrier: Array) -> Array:
    distance = np.zeros((len(points), centres.shape[1], points.shape[1])) + barrier[:, :, None]
    for axis in range(centres.shape[2]):
        distance += (points[:, None, :, axis] - centres[:, :, None, axis]) ** 2
    return distance


def _forms(centres: Array) -> Array:
    """Return the inner products that give squared distances from centres (..., d), as vectors (..., d + 2)."""
    forms = np.empty((*centres.shape[:-1], centres.shape[-1] + 2), centres.dtype)
    np.multiply(centres, MINUS_TWO, out=forms[..., :-2])
    np.vecdot(centres, centres, out=forms[..., -2])
    forms[..., -1] = ONE
    return forms
