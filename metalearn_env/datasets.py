"""Real data: the sets bundled with scikit-learn, by name, or arrays of the user's own. Nothing is downloaded."""

from __future__ import annotations

from typing import Any

import numpy as np

from metalearn_env.family import Array
from metalearn_env.splits import split_rows

LARGEST = 1e100
REGRESSION_SETS = ("diabetes", "linnerud")


def load_regression(dataset: str | tuple[Any, Any]) -> tuple[Array, Array]:
    """Return inputs (m, d) and targets (m, q) of a regression set.

    Args:
        dataset: a name of `REGRESSION_SETS`, or arrays ``(X, y)`` with X (m, d) and y (m,) or (m, q).

    Raises:
        ValueError: the name is unknown, or the arrays are not finite, do not match, or have fewer than 2
            rows, or no column.
        ImportError: a name is given and scikit-learn is not installed.
    """
    if isinstance(dataset, str):
        return _load_bundled(dataset)
    if not isinstance(dataset, (tuple, list)) or len(dataset) != 2:
        raise ValueError(f"dataset is a name or a pair (X, y), not {type(dataset).__name__}")
    inputs, targets = _numbers("X", dataset[0]), _numbers("y", dataset[1])
    if targets.ndim == 1:
        targets = targets[:, None]
    if inputs.ndim != 2 or targets.ndim != 2 or len(inputs) != len(targets) or 0 in (*inputs.shape, *targets.shape):
        raise ValueError(f"dataset is X (m, d) and y (m,) or (m, q); got shapes {inputs.shape} and {targets.shape}")
    if len(inputs) < 2:
        raise ValueError(f"dataset has at least 2 rows, not {len(inputs)}")
    for name, array in (("X", inputs), ("y", targets)):
        bad = np.flatnonzero(~(np.abs(array) <= LARGEST).all(axis=1))
        if bad.size:
            raise ValueError(
                f"dataset {name} is finite, at most {LARGEST:g}; row {bad[0]} holds {array[bad[0]].tolist()}"
            )
    return inputs, targets


def standardised_split(inputs: Array, targets: Array, split: str) -> tuple[Array, Array]:
    """Return the rows of ``split``, in units of the mean and standard deviation of the *training* rows.

    Raises:
        ValueError: the split is left with fewer than 2 rows.
    """
    rows, training = split_rows(len(inputs), split), split_rows(len(inputs), "train")
    if len(rows) < 2:
        raise ValueError(f"split {split!r} of a data set of {len(inputs)} rows has {len(rows)} rows; it needs 2")

    def standardise(array: Array) -> Array:
        spread = array[training].std(axis=0)
        if not spread.any():
            raise ValueError(f"a data set varies; all {array.shape[1]} columns of X or of y are constant")
        return (array[rows] - array[training].mean(axis=0)) / np.where(spread > 0, spread, 1.0)

    return standardise(inputs), standardise(targets)


def _numbers(name: str, array: Any) -> Array:
    try:
        numbers = np.array(array)
    except ValueError as error:
        raise ValueError(f"dataset {name} is an array: {error}") from error
    if numbers.dtype.kind not in "fiub":
        raise ValueError(f"dataset {name} holds real numbers, not {numbers.dtype}")
    return numbers.astype(np.float64)


def _load_bundled(name: str) -> tuple[Array, Array]:
    if name not in REGRESSION_SETS:
        raise ValueError(f"dataset is one of {', '.join(REGRESSION_SETS)}, or a pair (X, y), not {name!r}")
    try:
        from sklearn import datasets
    except ImportError as error:
        raise ImportError(f'dataset {name!r} needs scikit-learn: pip install "metalearn-env[data]"') from error
    bunch = getattr(datasets, f"load_{name}")()
    return bunch.data.astype(np.float64), bunch.target.reshape(len(bunch.data), -1).astype(np.float64)
