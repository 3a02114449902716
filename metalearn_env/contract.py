"""What the rules of `metalearn_env.testing` are made of: a question to a family, and a refusal that names the rule."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metalearn_env.family import Array, Evaluation, TaskFamily
from metalearn_env.splits import task_generator

N, HORIZON, SEED = 6, 5, 0
NUMBERS = "biufc"  # the kinds of a NumPy type that a task may hold


class ContractError(AssertionError):
    """A family breaks a rule of the contract."""


def require(holds: bool | np.bool_, rule: str) -> None:
    """Raise `ContractError` unless a rule holds."""
    if not holds:
        raise ContractError(rule)


def asked(name: str, question: Callable[..., Any], *given: Any) -> Any:
    """Return the answer to a question; an error of the family's own becomes the cause of a `ContractError`."""
    try:
        return question(*given)
    except ContractError:
        raise
    except Exception as error:
        raise ContractError(f"{name} gives an answer, not {type(error).__name__}: {error}") from error


class Case(NamedTuple):
    """A family, n of its tasks, and where their learners stand at times t."""

    family: TaskFamily
    task: Any
    theta: Array  # (n, p)
    t: NDArray[np.int64]  # (n,)
    when: str = "at the start"

    def some(self, rows: NDArray[np.int64]) -> Case:
        """Return the case of some of the tasks."""
        return self._replace(task=taken(self.task, rows), theta=self.theta[rows], t=self.t[rows])

    def inputs(self) -> list[np.ndarray]:
        return [*self.task, self.theta, self.t]

    def evaluation(self) -> Evaluation:
        found = asked("evaluate", self.family.evaluate, self.task, self.theta, self.t)
        named = isinstance(found, tuple) and len(found) == len(Evaluation._fields)
        require(named, f"evaluate returns an Evaluation, not {type(found).__name__}")
        return Evaluation(*found)

    def questions(self) -> dict[str, Callable[[], Any]]:
        """Return all that can be asked here, by name; the answers are arrays with leading axis n."""
        family, task, theta, t, _ = self
        found: dict[str, Callable[[], Any]] = {
            "loss": partial(family.loss, task, theta),
            "signal": partial(family.signal, task, theta, t),
            "direction": partial(family.direction, task, theta, t),
            "evaluate": lambda: np.column_stack(self.evaluation()),
        }
        if not t.any():
            found |= {name: partial(getattr(family, name), task) for name in ("start", "reference_loss", "descriptor")}
            found["step_unit"] = lambda: family.step_unit(task, self.evaluation())
        return {name: partial(asked, name, question) for name, question in found.items()}


def drawn(family: TaskFamily, seed: int = SEED, n: int = N, split: str = "train") -> Any:
    """Return what the family draws for n tasks."""
    draw = asked("sample", family.sample, task_generator(seed, split), n, HORIZON)
    _check_arrays("sample", draw, n)
    return draw


def completed(family: TaskFamily, draw: Any) -> Any:
    """Return the tasks of a draw."""
    task = asked("complete", family.complete, draw)
    _check_arrays("complete", task, len(draw[0]))
    return task


def started(family: TaskFamily, draw: Any) -> Case:
    """Return learners at the start of the tasks of a draw."""
    task = completed(family, draw)
    return Case(family, task, asked("start", family.start, task), np.zeros(len(draw[0]), np.int64))


def taken(arrays: Any, rows: NDArray[np.int64]) -> Any:
    """Return some rows of a NamedTuple of arrays."""
    return arrays._make(array[rows] for array in arrays)


def check_shape(name: str, answer: Any, shape: tuple[int, ...]) -> None:
    """Refuse an answer that is not an array of float64 of that shape."""
    array = isinstance(answer, (np.ndarray, np.generic))
    require(array, f"{name} is an array {shape}, not of type {type(answer).__name__}")
    require(answer.shape == shape, f"{name} is {shape}, not {answer.shape}")
    require(answer.dtype == np.float64, f"{name} is of float64, not {answer.dtype}")


def same(one: np.ndarray, other: np.ndarray) -> bool:
    return np.array_equal(one, other, equal_nan=True)


def _check_arrays(source: str, found: Any, n: int) -> None:
    named = isinstance(found, tuple) and hasattr(found, "_fields") and len(found) > 0
    require(named, f"{source} returns a NamedTuple of arrays, not {type(found).__name__}")
    for name, array in zip(found._fields, found, strict=True):
        require(isinstance(array, np.ndarray), f"{source}: {name} is an array, not of type {type(array).__name__}")
        require(array.dtype.kind in NUMBERS, f"{source}: {name} is an array of numbers, not of {array.dtype}")
        require(array.shape[:1] == (n,), f"{source}: {name} has leading axis {n}, not shape {array.shape}")
