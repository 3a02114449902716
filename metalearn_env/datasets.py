"""Real data: the sets bundled with scikit-learn, by name, or arrays of the user's own. Nothing is downloaded."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from metalearn_env.family import Array
from metalearn_env.splits import split_rows

REGRESSION_SETS = ("diabetes", "linnerud")
POINT_SETS = ("iris", "wine", "digits", "breast_cancer")
IMAGES = ("china", "flower")

ScalarT = TypeVar("ScalarT", bound=np.generic)

LARGEST = 1e100  # the squares of larger numbers overflow


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
    inputs, targets = real_numbers("dataset X", dataset[0]), real_numbers("dataset y", dataset[1])
    if targets.ndim == 1:
        targets = targets[:, None]
    if inputs.ndim != 2 or targets.ndim != 2 or len(inputs) != len(targets) or 0 in (*inputs.shape, *targets.shape):
        raise ValueError(f"dataset is X (m, d) and y (m,) or (m, q); got shapes {inputs.shape} and {targets.shape}")
    _check_rows("dataset X", inputs)
    _check_rows("dataset y", targets)
    return inputs, targets


def load_points(dataset: Any) -> tuple[Array, bool]:
    """Return points (m, d), and whether they are the pixels of an image (m, 3) between 0 and 1.

    Args:
        dataset: a name of `POINT_SETS` or `IMAGES`, or an array (m, d).

    Raises:
        ValueError: the name is unknown, or the array is not finite, not (m, d), or has fewer than 2 rows.
        ImportError: a name is given and scikit-learn (for an image: or Pillow) is not installed.
    """
    if not isinstance(dataset, str):
        points = real_numbers("dataset", dataset)
        if points.ndim != 2 or points.shape[1] < 1:
            raise ValueError(f"dataset is a name or an array (m, d), not one of shape {points.shape}")
        _check_rows("dataset", points)
        return points, False
    if dataset in IMAGES:
        bundled = _bundled(dataset)
        try:
            return bundled.load_sample_image(f"{dataset}.jpg").reshape(-1, 3) / 255.0, True
        except ImportError as error:
            raise ImportError(f'dataset {dataset!r} needs Pillow: pip install "metalearn-env[data]"') from error
    if dataset not in POINT_SETS:
        known = ", ".join((*POINT_SETS, *IMAGES))
        raise ValueError(f"dataset is one of {known}, or an array (m, d), not {dataset!r}")
    return getattr(_bundled(dataset), f"load_{dataset}")().data.astype(np.float64), False


def load_classes(dataset: str | tuple[Any, Any]) -> tuple[Array, NDArray[np.int64]]:
    """Return inputs (m, d) and classes (m,), 0 to K - 1, of a classification set.

    Args:
        dataset: a name of `POINT_SETS`, or arrays ``(X, y)`` with X (m, d) and y (m,) labels: truth values, whole
            numbers or strings, whose classes are in sorted order.

    Raises:
        ValueError: the name is unknown, or X is not finite, X and y do not match, labels are of another kind, or
            there are fewer than 2 rows, or classes, or no column.
        ImportError: a name is given and scikit-learn is not installed.
    """
    if isinstance(dataset, str):
        if dataset not in POINT_SETS:
            raise ValueError(f"dataset is one of {', '.join(POINT_SETS)}, or a pair (X, y), not {dataset!r}")
        bunch = getattr(_bundled(dataset), f"load_{dataset}")()
        return bunch.data.astype(np.float64), bunch.target.astype(np.int64)
    if not isinstance(dataset, (tuple, list)) or len(dataset) != 2:
        raise ValueError(f"dataset is a name or a pair (X, y), not {type(dataset).__name__}")
    inputs, labels = real_numbers("dataset X", dataset[0]), np.array(dataset[1])
    if inputs.ndim != 2 or labels.shape != inputs.shape[:1] or 0 in inputs.shape:
        raise ValueError(f"dataset is X (m, d) and y (m,); got shapes {inputs.shape} and {labels.shape}")
    _check_rows("dataset X", inputs)
    return inputs, classes_of(labels)


def load_examples(dataset: tuple[Any, Any], *, labels: bool) -> tuple[Array, NDArray[Any]]:
    """Return inputs (m, ...) and classes (m,), or with ``labels=False`` targets (m, q), of a user's arrays (X, y).

    Raises:
        ValueError: they are not a pair, not finite, do not match, or have fewer than 2 rows (or classes).
    """
    if not isinstance(dataset, (tuple, list)) or len(dataset) != 2:
        raise ValueError(f"dataset is a pair (X, y), not {type(dataset).__name__}")
    inputs, targets = real_numbers("dataset X", dataset[0]), np.array(dataset[1])
    if not labels:
        targets = real_numbers("dataset y", targets).reshape(len(targets), -1)
    if inputs.ndim < 2 or inputs.shape[:1] != targets.shape[:1] or 0 in inputs.shape or (labels and targets.ndim != 1):
        raise ValueError(f"dataset is X (m, ...) and y, as many; got shapes {inputs.shape} and {targets.shape}")
    _check_rows("dataset X", inputs.reshape(len(inputs), -1))
    if labels:
        return inputs, classes_of(targets)
    _check_rows("dataset y", targets)
    return inputs, targets


def classes_of(labels: np.ndarray) -> NDArray[np.int64]:
    """Return the places of labels (m,) among all that there are, sorted, or raise ``ValueError``."""
    if labels.dtype.kind == "O" and all(isinstance(label, str) for label in labels):
        labels = labels.astype(str)
    whole = labels.dtype.kind == "f" and bool(np.all(labels == np.round(labels)))
    if labels.dtype.kind not in "biuSU" and not whole:
        raise ValueError(f"dataset y is of labels: truth values, whole numbers or strings, not {labels.dtype}")
    known, places = np.unique(labels, return_inverse=True)
    if len(known) < 2:
        raise ValueError(f"dataset y is of at least 2 classes, not only {known.tolist()}")
    return places.reshape(-1).astype(np.int64)


def standardised(array: Array, split: str) -> Array:
    """Return the rows of ``split``, in units of the mean and standard deviation of the *training* rows.

    Raises:
        ValueError: the split is left with fewer than 2 rows, every column is constant, or one varies by so little
            that squares underflow.
    """
    training = array[split_rows(len(array), "train")]
    varies = np.ptp(training, axis=0) > 0.0  # which the deviation of equal numbers, rounded, does not tell
    if not varies.any():
        raise ValueError(f"a data set varies; each of {array.shape[1]} columns is constant")
    deviation = np.where(varies, training.std(axis=0), 1.0)
    for column in np.flatnonzero(deviation < 1.0 / LARGEST):
        spread = np.ptp(training[:, column])
        raise ValueError(f"a column varies by at least {1.0 / LARGEST:g}, or not at all; column {column} by {spread:g}")
    return (rows_of(array, split) - training.mean(axis=0)) / deviation


def rows_of(array: NDArray[ScalarT], split: str) -> NDArray[ScalarT]:
    """Return the rows of ``split``.

    Raises:
        ValueError: they are fewer than 2.
    """
    rows = split_rows(len(array), split)
    if len(rows) < 2:
        raise ValueError(f"split {split!r} of a data set of {len(array)} rows has {len(rows)} rows; it needs 2")
    return array[rows]


def real_numbers(name: str, array: Any) -> Array:
    """Return an array, or what can be made one, as new floats, or raise ``ValueError``; ``name`` says what it is."""
    try:
        numbers = np.array(array)
    except ValueError as error:
        raise ValueError(f"{name} is an array: {error}") from error
    if numbers.dtype.kind not in "fiub":
        raise ValueError(f"{name} holds real numbers, not {numbers.dtype}")
    return numbers.astype(np.float64)


def check_sizes(name: str, array: Array) -> None:
    """Raise ``ValueError`` unless all numbers of an array (m, ...) are finite and not too large; ``name`` is its."""
    for row in np.flatnonzero(~(np.abs(array) <= LARGEST).reshape(len(array), -1).all(axis=1)):
        raise ValueError(f"{name} is finite, at most {LARGEST:g}; row {row} holds {array[row].tolist()}")


def _load_bundled(name: str) -> tuple[Array, Array]:
    if name not in REGRESSION_SETS:
        raise ValueError(f"dataset is one of {', '.join(REGRESSION_SETS)}, or a pair (X, y), not {name!r}")
    bunch = getattr(_bundled(name), f"load_{name}")()
    return bunch.data.astype(np.float64), bunch.target.reshape(len(bunch.data), -1).astype(np.float64)


def _bundled(name: str) -> Any:
    try:
        from sklearn import datasets
    except ImportError as error:
        raise ImportError(f'dataset {name!r} needs scikit-learn: pip install "metalearn-env[data]"') from error
    return datasets


def _check_rows(name: str, array: Array) -> None:
    if len(array) < 2:
        raise ValueError(f"{name} has at least 2 rows, not {len(array)}")
    check_sizes(name, array)
