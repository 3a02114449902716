"""The contract of a task family, executable by anyone: ``check_family("package.module:Class")``.

Each rule is one function below, named after it; a family that breaks one is refused with a message that says which.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from metalearn_env.families import beyond, family_class, make_family
from metalearn_env.family import Array, TaskFamily
from metalearn_env.observations import DESCRIPTOR_BOUND
from metalearn_env.pictures import Picture
from metalearn_env.splits import SPLITS, task_generator

N, HORIZON, SEED = 6, 5, 0


class ContractError(AssertionError):
    """A family breaks a rule of the contract."""


class Case(NamedTuple):
    """A family, some of its tasks, and their start."""

    family: TaskFamily
    task: Any
    theta: Array
    t: np.ndarray


def check_family(family: str | type[TaskFamily], **options: Any) -> None:
    """Check a family against the contract of `metalearn_env.family.TaskFamily`.

    Args:
        family: a registered name, ``"package.module:Class"``, or the class.
        options: its configuration.

    Raises:
        ContractError: it breaks a rule; the message names the rule and the value.

    >>> check_family("LinearRegression", dimension=4)
    """
    found = family_class(family)
    try:
        made = make_family(found, **options)
    except ValueError as error:
        raise ContractError(str(error)) from error
    _is_a_frozen_dataclass(made)
    _describes_itself(made)
    _draws_from_its_generator_alone(made)
    _splits_differ(made)
    case = _case(made)
    for rule in (
        _starts_anew,
        _answers_have_their_shapes,
        _writes_to_nothing,
        _evaluates_as_its_parts,
        _answers_again_the_same,
        _answers_row_by_row,
        _has_noise_to_the_end,
        _has_a_gap_and_moves,
        _describes_tasks_in_order_one,
        _shows_a_picture,
    ):
        rule(case)
    for axis, move in _axes(made):
        _moves_options(made, axis, move)
        _draws_tasks_beyond(made, axis)


def _require(holds: bool | np.bool_, rule: str) -> None:
    if not holds:
        raise ContractError(rule)


def _is_a_frozen_dataclass(family: TaskFamily) -> None:
    parameters = getattr(type(family), "__dataclass_params__", None)
    own = "__dataclass_params__" in vars(type(family))
    _require(own and parameters is not None and parameters.frozen, "a family is a frozen dataclass")
    for field in dataclasses.fields(family):
        if field.init:
            _require(field.default is not dataclasses.MISSING, f"option {field.name} has a default")
            try:
                json.dumps(field.default)
            except TypeError:
                raise ContractError(
                    f"the default of option {field.name} is plain JSON, not {field.default!r}"
                ) from None


def _describes_itself(family: TaskFamily) -> None:
    names = family.descriptor_names
    _require(isinstance(names, tuple) and len(names) == len(set(names)), f"descriptor_names all differ, not {names!r}")
    p = family.num_parameters
    _require(isinstance(p, (int, np.integer)) and p >= 1, f"num_parameters is a whole number >= 1, not {p!r}")


def _draws_from_its_generator_alone(family: TaskFamily) -> None:
    before = _global_state()
    first, second = (_draw(family, SEED, "train") for _ in range(2))
    _require(_global_state() == before, "sample uses the generator given, not the global one")
    _require(
        isinstance(first, tuple) and hasattr(first, "_fields"),
        f"sample returns a NamedTuple, not {type(first).__name__}",
    )
    for name, one, other in zip(first._fields, first, second, strict=True):
        _require(isinstance(one, np.ndarray), f"sample: {name} is an array, not {type(one).__name__}")
        _require(one.shape[:1] == (N,), f"sample: {name} has leading axis {N}, not shape {one.shape}")
        _require(np.array_equal(one, other), f"sample: {name} is the same for the same generator")


def _splits_differ(family: TaskFamily) -> None:
    draws = [[array.tobytes() for array in _draw(family, SEED, split)] for split in SPLITS]
    _require(
        all(one != other for i, one in enumerate(draws) for other in draws[:i]), "other generators give other tasks"
    )


def _starts_anew(case: Case) -> None:
    family, task, theta, _ = case
    shape = (N, family.num_parameters)
    _require(
        theta.shape == shape and theta.dtype == np.float64,
        f"start is {shape} of float64, not {theta.shape} of {theta.dtype}",
    )
    _require(np.isfinite(theta).all(), "start is finite")
    again = family.start(task)
    shared = np.shares_memory(theta, again) or any(np.shares_memory(theta, array) for array in task)
    _require(not shared, "start returns a new array")


def _answers_have_their_shapes(case: Case) -> None:
    family, task, theta, t = case
    evaluation = family.evaluate(task, theta, t)
    p, k = family.num_parameters, len(family.descriptor_names)
    shapes = {"loss": (N,), "signal": (N,), "direction": (N, p)}
    shapes |= {"reference_loss": (N,), "descriptor": (N, k), "step_unit": (N,)}
    calls = dict(_calls(case))
    for name, shape in shapes.items():
        answer = calls[name]()
        _require(np.shape(answer) == shape, f"{name} is {shape}, not {np.shape(answer)}")
        _require(np.isfinite(answer).all(), f"{name} is finite at the start")
    unit = family.step_unit(task, evaluation)
    _require((unit > 0).all(), f"step_unit is positive, not {unit.min()}")
    _require(not np.shares_memory(evaluation.direction, theta), "direction returns a new array")


def _evaluates_as_its_parts(case: Case) -> None:
    family, *state = case
    together = family.evaluate(*state)
    task, theta, t = state
    parts = (family.loss(task, theta), family.signal(task, theta, t), family.direction(task, theta, t))
    for name, one, other in zip(together._fields, together, parts, strict=True):
        _require(np.array_equal(one, other), f"evaluate gives the same {name} as {name} itself")


def _writes_to_nothing(case: Case) -> None:
    _, task, theta, t = case
    kept = [array.copy() for array in (*task, theta, t)]
    for name, call in _calls(case):
        call()
        unchanged = all(np.array_equal(a, b) for a, b in zip(kept, (*task, theta, t), strict=True))
        _require(unchanged, f"{name} does not write to its inputs")


def _answers_again_the_same(case: Case) -> None:
    for name, call in _calls(case):
        _require(np.array_equal(call(), call()), f"{name} gives the same answer to the same question")


def _answers_row_by_row(case: Case) -> None:
    family, task, theta, t = case
    rows = np.array([3, 1])
    some = Case(family, task._make(array[rows] for array in task), theta[rows], t[rows])
    for (name, whole), (_, part) in zip(_calls(case), _calls(some), strict=True):
        _require(np.array_equal(whole()[rows], part()), f"{name} of a task does not depend on the other tasks")


def _has_noise_to_the_end(case: Case) -> None:
    family, task, theta, t = case
    try:
        evaluation = family.evaluate(task, theta, np.full_like(t, HORIZON))
    except IndexError as error:
        raise ContractError(f"a task has noise for t = 0, ..., horizon; at the horizon: {error}") from None
    _require(np.isfinite(evaluation.direction).all(), "direction is finite at the horizon")


def _has_a_gap_and_moves(case: Case) -> None:
    family, task, theta, t = case
    loss, _, direction = family.evaluate(task, theta, t)
    _require((loss >= family.reference_loss(task)).all(), "reference_loss is at most the loss at the start")
    _require((loss > family.reference_loss(task)).any(), "some task starts with a gap")
    _require(direction.any(), "some task has a direction at the start")


def _describes_tasks_in_order_one(case: Case) -> None:
    largest = np.abs(case.family.descriptor(case.task)).max(initial=0.0)
    _require(
        largest <= DESCRIPTOR_BOUND, f"descriptors are of order one, at most {DESCRIPTOR_BOUND:g}, not {largest:g}"
    )


def _shows_a_picture(case: Case) -> None:
    family, task, theta, _ = case
    kept = [array.copy() for array in (*task, theta)]
    for row in range(N):
        picture = family.picture(task, theta, row)
        shown = picture is None or isinstance(picture, Picture)
        _require(shown, f"picture is None or a Picture, not {type(picture).__name__}")
    unchanged = all(np.array_equal(a, b) for a, b in zip(kept, (*task, theta), strict=True))
    _require(unchanged, "picture does not write to its inputs")


def _axes(family: TaskFamily) -> list[tuple[str, dict[str, Any]]]:
    axes = family.axes()
    plain = isinstance(axes, dict) and all(isinstance(axis, str) and isinstance(axes[axis], dict) for axis in axes)
    _require(plain, f"axes is a dictionary of dictionaries, by name, not {axes!r}")
    return list(axes.items())


def _moves_options(family: TaskFamily, axis: str, move: dict[str, Any]) -> None:
    options = {field.name for field in dataclasses.fields(family) if field.init} - {"split"}
    _require(len(move) > 0, f"axis {axis} moves an option")
    for name, value in move.items():
        _require(name in options, f"axis {axis} moves options of the family, not {name!r}")
        try:
            moved = json.dumps(value)
        except TypeError:
            raise ContractError(f"axis {axis} moves {name} to plain JSON, not {value!r}") from None
        configured = json.dumps(getattr(family, name), default=repr)
        _require(moved != configured, f"axis {axis} moves {name} away from {value!r}")


def _draws_tasks_beyond(family: TaskFamily, axis: str) -> None:
    try:
        moved = beyond(family, axis)
    except ValueError as error:
        raise ContractError(f"axis {axis} leads to a family that can be made: {error}") from error
    for name in ("kind", "descriptor_names"):
        here, there = getattr(family, name), getattr(moved, name)
        _require(there == here, f"axis {axis} leads to the same {name}, {here!r}, not {there!r}")
    case = _case(moved)
    try:
        for rule in (_answers_have_their_shapes, _has_a_gap_and_moves):
            rule(case)
    except ContractError as error:
        raise ContractError(f"beyond, along axis {axis}: {error}") from error


def _calls(case: Case) -> Iterator[tuple[str, Any]]:
    """Yield every question to a family at its start, by name."""
    family, task, theta, t = case
    for name in ("start", "reference_loss", "descriptor"):
        yield name, partial(getattr(family, name), task)
    yield "loss", partial(family.loss, task, theta)
    for name in ("signal", "direction"):
        yield name, partial(getattr(family, name), task, theta, t)
    yield "step_unit", lambda: family.step_unit(task, family.evaluate(task, theta, t))


def _global_state() -> str:
    return repr(np.random.get_state(legacy=False))  # noqa: NPY002  (the global generator is what must not be used)


def _draw(family: TaskFamily, seed: int, split: str) -> Any:
    return family.sample(task_generator(seed, split), N, HORIZON)


def _case(family: TaskFamily) -> Case:
    task = family.complete(_draw(family, SEED, "train"))
    _require(isinstance(task, tuple) and hasattr(task, "_fields"), f"a task is a NamedTuple, not {type(task).__name__}")
    for name, array in zip(task._fields, task, strict=True):
        _require(isinstance(array, np.ndarray) and array.shape[:1] == (N,), f"task: {name} is an array (n, ...)")
    return Case(family, task, family.start(task), np.zeros(N, np.int64))
