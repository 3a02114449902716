"""Results kept between calls: a file for each, named by the digest of all that it depends on.

A file holds arrays and the text of what they depend on, in NumPy's ``.npz``; nothing is unpickled. It is written whole
or not at all. Nothing is ever out of date, since what changes has another name; old files may be deleted at any time.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from metalearn_env.family import Array

FOLDER = "METALEARN_ENV_CACHE"  # the environment variable that names the folder

Arrays = Mapping[str, Array]


class CacheWarning(UserWarning):
    """A result cannot be kept, or one that was kept cannot be read."""


def default_folder() -> Path:
    """Return $METALEARN_ENV_CACHE, or metalearn_env in $XDG_CACHE_HOME, or in ~/.cache.

    Raises:
        ValueError: there is none of these, as in a container whose user is not known.
    """
    if named := os.environ.get(FOLDER):
        return Path(named)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "metalearn_env"
    except RuntimeError as error:
        raise ValueError(f"there is no home folder to keep results in: set ${FOLDER} to a folder") from error


class Cache:
    """Results in a folder, which is made when the first is kept.

    Args:
        folder: default: `default_folder`.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = default_folder() if folder is None else Path(folder)
        self._refused = False

    def recall(self, identity: str, compute: Callable[[], Arrays]) -> Arrays:
        """Return the arrays of ``identity``, the text of all they depend on: those kept, or computed and kept now."""
        path = self.path(identity)
        arrays = self._load(path, identity)
        if arrays is None:
            arrays = compute()
            self._save(path, identity, arrays)
        return arrays

    def path(self, identity: str) -> Path:
        """Return the file of what depends on ``identity``."""
        name = sha256(identity.encode()).hexdigest()
        return self.folder / name[:2] / f"{name[2:]}.npz"

    def _load(self, path: Path, identity: str) -> Arrays | None:
        try:
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                arrays = dict(file)
            if arrays.pop("identity").tobytes() != identity.encode():
                raise ValueError("it is of something else")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except Exception as error:  # whatever is wrong with it
            message = f"the cache entry {path} cannot be read ({type(error).__name__}: {error}); it is computed again"
            warnings.warn(message, CacheWarning)
            return None
        return arrays

    def _save(self, path: Path, identity: str, arrays: Arrays) -> None:
        entry: dict[str, Any] = {"identity": np.frombuffer(identity.encode(), np.uint8), **arrays}
        unfinished = path.with_name(f"{path.name}.{os.getpid()}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with unfinished.open("wb") as file:
                np.savez(file, **entry)
            unfinished.replace(path)
        except OSError as error:
            if not self._refused:
                warnings.warn(f"results are not kept: {error} (see ${FOLDER})", CacheWarning)
            self._refused = True
        finally:
            with suppress(OSError):
                unfinished.unlink()
