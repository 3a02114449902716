"""What a family says of itself: its class, its options, its names, and the axes that lead beyond what is configured."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np

from metalearn_env.contract import ContractError, asked, require
from metalearn_env.family import KINDS, MAX_DESCRIPTORS, TaskFamily
from metalearn_env.mixture import HORIZON_AXES
from metalearn_env.session import ENV_OPTIONS, PART_OPTIONS

#: Keyword arguments of `gymnasium.make`, of `gymnasium.make_vec` and of the environments.
TAKEN_OPTIONS = {
    *("id", "disable_env_checker", "max_episode_steps", "num_envs", "vectorization_mode", "vector_kwargs", "wrappers"),
    *("family", "families", "autoreset_mode", *ENV_OPTIONS, *PART_OPTIONS),
} - {"split"}  # which every family has

#: Keys of ``info`` that are of the environments, of Gymnasium, and of Stable-Baselines3; so are all that begin with _.
TAKEN_KEYS = {
    *("loss", "signal", "step_size", "gap", "final_gap"),
    *("episode", "final_obs", "final_observation", "final_info", "terminal_observation", "TimeLimit.truncated"),
}


def check_class(family: type[TaskFamily]) -> None:
    """Check what can be said before a family is made."""
    parameters = vars(family).get("__dataclass_params__")
    require(parameters is not None and parameters.frozen, "a family is a frozen dataclass")
    missing = ", ".join(sorted(family.__abstractmethods__))
    require(not missing, f"a family has all methods and properties of the contract; {family.__name__} lacks {missing}")
    for name in ("kind", "descriptor_names"):
        require(hasattr(family, name), f"a family has {name}; {family.__name__} lacks it")
    for field in dataclasses.fields(family):
        if field.init:
            _check_option(field.name, field.default)


def check_description(family: TaskFamily) -> None:
    """Check the names and numbers that a family gives of itself."""
    require(family.kind in KINDS, f"kind is one of {', '.join(KINDS)}, not {family.kind!r}")
    _check_names("descriptor_names", names := family.descriptor_names)
    require(len(names) <= MAX_DESCRIPTORS, f"descriptor_names has at most {MAX_DESCRIPTORS} names, not {len(names)}")
    _check_names("final_info_names", family.final_info_names)
    for name in family.final_info_names:
        free = name not in TAKEN_KEYS and not name.startswith("_")
        require(free, f"final_info_names are of the family's own, not {name!r}, a key that info has already")
    p, carried = (asked(name, getattr, family, name) for name in ("num_parameters", "num_carried"))
    require(_whole(p) and p >= 1, f"num_parameters is a whole number >= 1, not {p!r}")
    require(
        _whole(carried) and 0 <= carried < p,
        f"num_carried is a whole number from 0 up to, but not, num_parameters, {p}; not {carried!r}",
    )


def checked_axes(family: TaskFamily) -> list[str]:
    """Check where the axes lead, as far as options tell, and return their names."""
    axes = asked("axes", family.axes)
    plain = isinstance(axes, dict) and all(isinstance(axis, str) and isinstance(axes[axis], dict) for axis in axes)
    require(plain, f"axes is a dictionary of dictionaries, by name, not {axes!r}")
    for axis, move in axes.items():
        require(axis.isidentifier() and axis.islower(), f"an axis is named by a word or in snake_case, not {axis!r}")
        own = axis not in HORIZON_AXES
        require(own, f"an axis is of the family's own, not {axis!r}, which every environment has")
        _check_move(family, axis, move)
    return list(axes)


def _check_option(name: str, default: Any) -> None:
    require(
        name not in TAKEN_OPTIONS, f"options are of the family's own, not {name!r}, an option that there is already"
    )
    require(default is not dataclasses.MISSING, f"option {name} has a default, and no factory of one")
    try:
        json.dumps(default)
    except TypeError:
        raise ContractError(f"the default of option {name} is plain JSON, not {default!r}") from None


def _check_names(name: str, names: Any) -> None:
    plain = isinstance(names, tuple) and all(isinstance(one, str) for one in names)
    require(plain and len(names) == len(set(names)), f"{name} is a tuple of names, which all differ, not {names!r}")


def _whole(number: Any) -> bool:
    return isinstance(number, (int, np.integer)) and not isinstance(number, bool)


def _check_move(family: TaskFamily, axis: str, move: dict[str, Any]) -> None:
    options = {field.name for field in dataclasses.fields(family) if field.init} - {"split"}
    require(len(move) > 0, f"axis {axis} moves an option")
    for name, value in move.items():
        require(name in options, f"axis {axis} moves options of the family, not {name!r}")
        try:
            moved = json.dumps(value)
        except TypeError:
            raise ContractError(f"axis {axis} moves {name} to plain JSON, not {value!r}") from None
        here = getattr(family, name)
        require(moved != json.dumps(here, default=repr), f"axis {axis} moves {name} away from {value!r}")
        require(_is_beyond(value, here), f"axis {axis} moves {name} beyond {here!r}, not to {value!r}")


def _is_beyond(moved: Any, configured: Any) -> bool:
    """Return whether a range lies outside another, or two numbers differ; of anything else True."""
    there, here = _range(moved), _range(configured)
    if there is None or here is None:
        return True
    if there[0] == there[1] and here[0] == here[1]:
        return there != here
    inside = here[0] <= there[0] and there[1] <= here[1]
    return not inside and (there[1] <= here[0] or here[1] <= there[0])


def _range(value: Any) -> tuple[float, float] | None:
    ends = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    numbers = all(isinstance(end, (int, float)) and not isinstance(end, bool) for end in ends)
    return ends if numbers and len(ends) == 2 and ends[0] <= ends[1] else None
