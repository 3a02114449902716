"""The task families by name, as data: ``name -> "module:Class"``, imported when one is asked for."""

from __future__ import annotations

from dataclasses import fields, replace
from importlib import import_module
from typing import Any

from metalearn_env.family import TaskFamily

FAMILIES: dict[str, str] = {
    "LinearRegression": "metalearn_env.families.linear_regression:LinearRegression",
    "Clustering": "metalearn_env.families.clustering:Clustering",
    "QLearning": "metalearn_env.families.q_learning:QLearning",
    "Classification": "metalearn_env.families.classification:Classification",
    "NeuralNetwork": "metalearn_env.families.neural_network:NeuralNetwork",
    "Tracking": "metalearn_env.families.tracking:Tracking",
}

MIXTURE = "Mixture"  # not one family, but several: `metalearn_env.mixture`


def id_of(name: str) -> str:
    """Return the id of the environment of a registered family."""
    return f"MetaLearn/{name}-v0"


def family_class(family: str | type[TaskFamily]) -> type[TaskFamily]:
    """Return the class of a family given by name, by ``"module:Class"``, or as the class itself.

    Raises:
        ValueError: no such family, or its module is not found or does not have it.
        TypeError: what is named is not a `TaskFamily`.
        Exception: an error of the module itself, as it is.
    """
    found = _imported(family) if isinstance(family, str) else family
    if not (isinstance(found, type) and issubclass(found, TaskFamily)):
        raise TypeError(f"family is a subclass of TaskFamily, not {found!r}")
    return found


def _imported(family: str) -> Any:
    module, _, name = FAMILIES.get(family, family).partition(":")
    if not name or not all(module.split(".")):
        raise ValueError(f"family is one of {', '.join(FAMILIES)}, or 'module:Class', not {family!r}")
    try:
        loaded = import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # what is missing is not this module, but one that it imports
        raise ValueError(f"family {family!r} cannot be imported: {error}") from error
    if not hasattr(loaded, name):
        raise ValueError(f"family {family!r} cannot be imported: module {module} has no {name!r}")
    return getattr(loaded, name)


def make_family(family: str | type[TaskFamily], **options: Any) -> TaskFamily:
    """Return a configured family.

    Raises:
        TypeError: an option that the family does not have.
        ValueError: no such family, or an option's value that it cannot honour.
    """
    cls = family_class(family)
    known = [field.name for field in fields(cls) if field.init]
    for name in options:
        if name not in known:
            raise TypeError(f"{cls.__name__} has no option {name!r}; its options are {', '.join(known)}")
    return cls(**options)


def beyond(family: TaskFamily, axis: str) -> TaskFamily:
    """Return the family whose tasks lie beyond those of ``family`` along one of its `TaskFamily.axes`, split "ood".

    Raises:
        ValueError: the family has no such axis.

    >>> beyond(make_family("LinearRegression", dimension=(8, 64)), "dimension").dimension
    (128, 256)
    """
    axes = family.axes()
    if axis not in axes:
        known = f"the axes of this {type(family).__name__} are {', '.join(axes)}" if axes else "it has none"
        raise ValueError(f"there is no axis {axis!r}; {known}")
    return replace(family, split="ood", **axes[axis])
