"""Gymnasium environments in which an agent learns the step size of other learners.

Importing the package registers an environment ``MetaLearn/<Family>-v0`` for every task family, and
``MetaLearn/Mixture-v0`` for several of them at once.
"""

from __future__ import annotations

import sys
from typing import Any

import gymnasium

from metalearn_env.families import FAMILIES, MIXTURE, id_of
from metalearn_env.family import Evaluation, TaskFamily

__version__ = "0.1.0"
__all__ = ["Evaluation", "TaskFamily", "__version__", "register_family"]


def register_family(name: str, family: str | type[TaskFamily]) -> str:
    """Register the environment of a family and return its id, ``MetaLearn/<name>-v0``.

    Args:
        name: a word in CamelCase.
        family: ``"package.module:Class"`` of a `TaskFamily`, imported when the environment is made, or the class
            itself, of which the same is written down: it is to be found in its module by its name.

    Raises:
        TypeError: the name is not a string, or the family neither a string nor a subclass of `TaskFamily`.
        ValueError: the name is not a word, belongs to another family, or the path is of another form.
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of a family is a string, not {name!r}")
    path = _path_of(family)
    if not name.isidentifier():
        raise ValueError(f"the name of a family is a word in CamelCase, not {name!r}")
    if FAMILIES.get(name, path) != path:
        raise ValueError(f"{name} is registered already, as {FAMILIES[name]}")
    module, _, cls = path.partition(":")
    if not module or not cls.isidentifier():
        raise ValueError(f"the path of a family is 'package.module:Class', not {path!r}")
    if name == MIXTURE:
        raise ValueError(f"{name} is the environment of several families, not a name for one")
    FAMILIES[name] = path
    return _register(name, family=name)


def _path_of(family: str | type[TaskFamily]) -> str:
    if isinstance(family, str):
        return family
    if not (isinstance(family, type) and issubclass(family, TaskFamily)):
        raise TypeError(f"a family is 'package.module:Class' or a subclass of TaskFamily, not {family!r}")
    module, name = family.__module__, family.__qualname__
    if getattr(sys.modules.get(module), name, None) is not family:
        raise ValueError(f"{name} cannot be found again: a class to be registered stands in its module, {module}")
    return f"{module}:{name}"


def _register(name: str, **kwargs: Any) -> str:
    if (registered := id_of(name)) not in gymnasium.registry:
        gymnasium.register(
            id=registered,
            entry_point="metalearn_env.envs:StepSizeEnv",
            vector_entry_point="metalearn_env.vector:StepSizeVectorEnv",
            kwargs=kwargs,
        )
    return registered


for _name, _path in tuple(FAMILIES.items()):
    register_family(_name, _path)
_register(MIXTURE, families=["LinearRegression", "Clustering", "QLearning"])
