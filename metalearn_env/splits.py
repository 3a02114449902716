"""Named splits: which tasks may be trained on, tuned on, and scored on.

Synthetic tasks are kept apart by the *stream* they are drawn from: one seed gives a different, independent random
stream in every split, so no test task can be met in training whatever seeds are used. Real data is kept apart by
*row*: a fixed shuffle of the rows is cut 60/20/20. The fourth split, "ood" (out of distribution), is of synthetic tasks
alone: a data set is itself outside their distribution. What lies beyond a family's own ranges, its
`metalearn_env.family.TaskFamily.axes` say.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

Split = Literal["train", "validation", "test", "ood"]  # a stream is known by its place: new ones come last
SPLITS: tuple[str, ...] = get_args(Split)

_ROW_SHUFFLE_SEED = 0
_ROW_FRACTIONS = {"train": (0.0, 0.6), "validation": (0.6, 0.8), "test": (0.8, 1.0)}
ROW_SPLITS: tuple[str, ...] = tuple(_ROW_FRACTIONS)


def check_split(split: str) -> None:
    """Raise ``ValueError`` unless ``split`` is one of `SPLITS`."""
    if split not in SPLITS:
        raise ValueError(f"split is one of {', '.join(SPLITS)}, not {split!r}")


def task_generator(seed: int, split: str) -> np.random.Generator:
    """Return the generator that the tasks of ``split`` are drawn from, for one seed.

    >>> task_generator(0, "train").random() == task_generator(0, "test").random()
    False
    """
    check_split(split)
    key = (SPLITS.index(split),)
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed, spawn_key=key)))


def split_rows(num_rows: int, split: str) -> np.ndarray:
    """Return the rows of a data set that belong to ``split``: sorted integers, the same at every call.

    Raises:
        ValueError: ``split`` is none of `ROW_SPLITS`.

    >>> [len(split_rows(10, split)) for split in ROW_SPLITS]
    [6, 2, 2]
    """
    if split not in ROW_SPLITS:
        check_split(split)
        raise ValueError(
            f"rows of a data set are {', '.join(ROW_SPLITS)}; split {split!r} is of synthetic tasks, "
            "and a data set is itself outside their distribution"
        )
    order = np.random.default_rng(_ROW_SHUFFLE_SEED).permutation(num_rows)
    low, high = (round(fraction * num_rows) for fraction in _ROW_FRACTIONS[split])
    return np.sort(order[low:high])
