"""Gymnasium environments in which an agent learns the step size of other learners.

Importing the package registers an environment ``MetaLearn/<Family>-v0`` for every task family.
"""

from __future__ import annotations

import gymnasium

from metalearn_env.families import FAMILIES
from metalearn_env.family import Evaluation, TaskFamily

__version__ = "0.1.0"
__all__ = ["Evaluation", "TaskFamily", "__version__", "register_family"]


def register_family(name: str, path: str) -> str:
    """Register the environment of a family and return its id, ``MetaLearn/<name>-v0``.

    Args:
        name: a word in CamelCase.
        path: ``"package.module:Class"`` of a `TaskFamily`, imported when the environment is made.

    Raises:
        ValueError: the name is not a word, belongs to another family, or the path is of another form.
    """
    if not name.isidentifier():
        raise ValueError(f"the name of a family is a word in CamelCase, not {name!r}")
    if FAMILIES.get(name, path) != path:
        raise ValueError(f"{name} is registered already, as {FAMILIES[name]}")
    module, _, cls = path.partition(":")
    if not module or not cls.isidentifier():
        raise ValueError(f"the path of a family is 'package.module:Class', not {path!r}")
    env_id = f"MetaLearn/{name}-v0"
    if env_id not in gymnasium.registry:
        gymnasium.register(
            id=env_id,
            entry_point="metalearn_env.envs:StepSizeEnv",
            vector_entry_point="metalearn_env.vector:StepSizeVectorEnv",
            kwargs={"family": name},
        )
    FAMILIES[name] = path
    return env_id


for _name, _path in tuple(FAMILIES.items()):
    register_family(_name, _path)
