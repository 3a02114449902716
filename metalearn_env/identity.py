"""What a result depends on, as text: values, and the source files behind them. The same text, the same result.

Source files are followed as far as they import one another within a package, so nobody keeps a list of them. What is
installed beside the package is told by its version: the name of a data set is taken to stand for the same thing as long
as that stays the same.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

NAMES_CODE = "names code"
TOLD_BY = "told by"
BESIDE = ("numpy", "gymnasium", "scikit-learn", "torch")


def described(value: Any) -> Any:
    """Return a value in plain JSON; arrays, and what can be one, by their digest.

    Code is not told by its name, since the same name may stand for other code elsewhere or later: neither a class, nor
    what is in a field of a dataclass whose metadata have ``NAMES_CODE``. A field with ``TOLD_BY`` is told by what the
    attribute of that name is.

    Raises:
        TypeError: it has objects in it that are none of numbers, text, arrays, dataclasses or collections.

    >>> described({"dimension": (8, 64), "noise": 0.5})
    {'dimension': [8, 64], 'noise': 0.5}
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, type):
        raise TypeError(f"the class {value.__name__} has no description by content")
    if isinstance(value, Mapping):
        return {str(key): described(entry) for key, entry in value.items()}
    if is_dataclass(value):
        found = {of.name: getattr(value, of.metadata.get(TOLD_BY, of.name)) for of in fields(value)}
        for of in fields(value):
            if NAMES_CODE in of.metadata and found[of.name] is not None:
                raise TypeError(f"{of.name}={found[of.name]!r} has no description by content")
        kind = type(value)
        return {"class": f"{kind.__module__}:{kind.__qualname__}", **described(found)}
    if isinstance(value, (tuple, list)):
        return [described(entry) for entry in value]
    array = np.ascontiguousarray(value)
    if array.dtype.kind not in "biufcSU":
        raise TypeError(f"{type(value).__name__} has no description by content")
    return [array.dtype.str, list(array.shape), sha256(array.tobytes()).hexdigest()]


def sources(*modules: str) -> str:
    """Return the digest of the source of modules and of all that they import, directly or not, from their packages.

    Raises:
        TypeError: a module has no source file.
    """
    digest = sha256(", ".join(f"{name} {_version(name)}" for name in BESIDE).encode())
    for name in sorted(closure(modules)):
        digest.update(f"\n{name}\n".encode() + _source(name))
    return digest.hexdigest()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"


def closure(modules: tuple[str, ...]) -> set[str]:
    """Return ``modules`` and what they import, directly or not, from the packages that they are of."""
    found, waiting = set(), list(modules)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += _imported(name)
    return found


@cache
def _file(name: str) -> Path | None:
    """Return the source file of a module, which is not imported for that; None if there is none."""
    if (loaded := getattr(sys.modules.get(name), "__file__", None)) is not None:
        return Path(loaded) if loaded.endswith(".py") else None
    top, *inner = name.split(".")
    spec = None if top in sys.builtin_module_names or top == "__main__" else find_spec(top)
    if spec is None:
        return None
    candidates = [Path(spec.origin)] if spec.has_location and spec.origin and not inner else []
    for folder in spec.submodule_search_locations or ():
        candidates += [Path(folder, *inner).with_suffix(".py"), Path(folder, *inner, "__init__.py")]
    return next((file for file in candidates if file.suffix == ".py" and file.is_file()), None)


@cache
def _source(name: str) -> bytes:
    file = _file(name)
    if file is None:
        raise TypeError(f"module {name} has no source file")
    return file.read_bytes()


@cache
def _imported(name: str) -> tuple[str, ...]:
    """Return the modules of its own package, and of this one, that a module imports, anywhere in its file."""
    ours = {name.partition(".")[0], __name__.partition(".")[0]}
    candidates = {imported for imported in _names(name) if imported.partition(".")[0] in ours}
    return tuple(sorted(imported for imported in candidates if imported != name and _file(imported) is not None))


def _names(name: str) -> Iterator[str]:
    """Yield all that may be a module in the import statements of a module."""
    package = name.split(".") if (file := _file(name)) is not None and file.stem == "__init__" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(_source(name))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
