r"""Least-squares problems in reduced form, the form in which descent on them costs O(p) a step.

Every data set X (m examples, d features) is orthogonally equivalent to a bidiagonal matrix B (Golub and Kahan, 1965),

    X / sqrt(m) = U B V^T,      f(theta) = |X w - y|^2 / 2m = f* + |B (theta - optimum)|^2 / 2,    theta = V^T w,

and descent does not notice the rotation V. So a problem is kept as (B, optimum, f*), and one product with the Gram
matrix B^T B takes 4p multiplications instead of a pass over the data. For the usual designs B is known without data:

* a given spectrum: B is diagonal, the square roots of the eigenvalues;
* a Gaussian design: the entries of sqrt(m) B are independent chi variables, with m, m-1, ... degrees of freedom on
  the diagonal and d-1, d-2, ... above it (Silverstein, 1985; Dumitriu and Edelman, 2002);
* real data: B is diagonal, the singular values.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from metalearn_env.family import HALF, TINY, Array


class Factor(Protocol):
    """Anything that holds n bidiagonal matrices B."""

    @property
    def diagonal(self) -> Array: ...  # (n, p)

    @property
    def superdiagonal(self) -> Array: ...  # (n, p - 1)


class LeastSquares(NamedTuple):
    """n reduced problems; entries beyond a problem's own dimension are zero."""

    diagonal: Array  # (n, p) of B
    superdiagonal: Array  # (n, p - 1) of B
    optimum: Array  # (n, p)
    minimum: Array  # (n,) f*


def product(factor: Factor, vector: Array) -> Array:
    """Return B v, (n, p), for vectors (n, p)."""
    result = factor.diagonal * vector
    all_but_last = result[:, :-1]
    all_but_last += factor.superdiagonal * vector[:, 1:]
    return result


def transposed_product(factor: Factor, vector: Array) -> Array:
    """Return B^T v, (n, p), for vectors (n, p)."""
    result = factor.diagonal * vector
    all_but_first = result[:, 1:]
    all_but_first += factor.superdiagonal * vector[:, :-1]
    return result


def of_examples(inputs: Array, targets: Array, theta: Array) -> tuple[Array, Array]:
    """Return the loss |X theta - y|^2 / 2b, (n,), of b examples (n, b, p), and its negative gradient, (n, p)."""
    error = targets - np.vecdot(inputs, theta[:, None, :])
    examples = targets.shape[1]
    return HALF * np.vecdot(error, error) / examples, np.einsum("nb,nbp->np", error, inputs) / examples


def spectral_flatness(factor: Factor, dimension: NDArray[np.int64]) -> Array:
    """Return tr(H)^2 / (d tr(H^2)), (n,), of the Gram matrix H = B^T B: 1 for equal eigenvalues, down to 1/d."""
    gram_diagonal = factor.diagonal**2
    gram_diagonal[:, 1:] += factor.superdiagonal**2
    gram_off_diagonal = factor.diagonal[:, :-1] * factor.superdiagonal
    trace = gram_diagonal.sum(axis=1)
    squared = np.vecdot(gram_diagonal, gram_diagonal) + 2.0 * np.vecdot(gram_off_diagonal, gram_off_diagonal)
    return trace**2 / np.maximum(dimension * squared, TINY)


def from_data(inputs: Array, targets: Array, examples: NDArray[np.int64]) -> tuple[LeastSquares, Array]:
    """Reduce data sets by a singular value decomposition.

    Args:
        inputs: (n, m, p), zero in the rows beyond a problem's ``examples`` and the columns beyond its dimension.
        targets: (n, m), zero in the rows beyond ``examples``.
        examples: (n,)

    Returns:
        the reduced problems, and the inputs (n, m, p) in their coordinates, X V.
    """
    m, p = inputs.shape[1:]
    root = np.sqrt(examples)[:, None]
    left, values, _ = np.linalg.svd(inputs / root[:, :, None], full_matrices=False)
    values = np.where(values > values[:, :1] * p * np.finfo(float).eps, values, 0.0)
    coordinates = np.einsum("nmk,nm->nk", left, targets / root) * (values > 0)
    residual = targets / root - np.einsum("nmk,nk->nm", left, coordinates)
    pad = ((0, 0), (0, p - min(m, p)))
    problem = LeastSquares(
        diagonal=np.pad(values, pad),
        superdiagonal=np.zeros((len(inputs), p - 1)),
        optimum=np.pad(np.divide(coordinates, values, out=np.zeros_like(values), where=values > 0), pad),
        minimum=0.5 * np.vecdot(residual, residual),
    )
    return problem, np.pad(left * (values * root)[:, None, :], ((0, 0), *pad))
