"""The contract checker accepts what keeps the contract and refuses, by name, what breaks it."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import pytest

from metalearn_env.families import FAMILIES
from metalearn_env.family import Evaluation, TaskFamily
from metalearn_env.testing import ContractError, check_family


class Task(NamedTuple):
    first: np.ndarray  # (n, 2)
    noise: np.ndarray  # (n, horizon + 1)


def family(**broken: Any) -> type[TaskFamily[Any]]:
    """Return a family of parabolas that keeps the contract, but for the attributes given."""

    class Parabolas(TaskFamily[Task]):
        kind = "supervised"
        descriptor_names = ("size",)
        num_parameters = 2
        option: float = 1.0

        def sample(self, rng: np.random.Generator, n: int, horizon: int) -> Task:
            return Task(1.0 + rng.random((n, 2)), rng.standard_normal((n, horizon + 1)))

        def start(self, task: Task) -> np.ndarray:
            return task.first.copy()

        def loss(self, task: Task, theta: np.ndarray) -> np.ndarray:
            return 0.5 * np.vecdot(theta, theta)

        def direction(self, task: Task, theta: np.ndarray, t: np.ndarray) -> np.ndarray:
            return -theta + 0.01 * task.noise[np.arange(len(t)), t][:, None]

        def descriptor(self, task: Task) -> np.ndarray:
            return task.first[:, :1]

        def reference_loss(self, task: Task) -> np.ndarray:
            return np.zeros(len(task.first))

    frozen = broken.pop("frozen", True)
    for name, value in broken.items():
        setattr(Parabolas, name, value)
    Parabolas.__annotations__ = {"option": float}
    return dataclass(frozen=True, eq=False, kw_only=True)(Parabolas) if frozen else Parabolas


def overwrite(self: Any, task: Task, theta: np.ndarray) -> np.ndarray:
    theta *= 1.0 + 1e-9
    return 0.5 * np.vecdot(theta, theta)


def further(self: Any) -> dict[str, dict[str, float]]:
    return {"size": {"option": 2.0}}


def at_most_one(self: Any) -> None:
    if self.option > 1.0:
        raise ValueError(f"option is at most 1, not {self.option}")


calls = iter(range(10**6))

BROKEN = {
    "a family is a frozen dataclass": {"frozen": False},
    "option option has a default is plain JSON": {"option": np.float32(1.0)},
    "kind is one of": {"kind": "self-supervised"},
    "descriptor_names has at most 8": {"descriptor_names": tuple("abcdefghi")},
    "descriptor_names all differ": {"descriptor_names": ("size", "size")},
    "num_parameters is a whole number >= 1": {"num_parameters": 0},
    "not the global one": {
        "sample": lambda self, rng, n, horizon: Task(np.random.rand(n, 2), rng.random((n, horizon + 1)))  # noqa: NPY002
    },
    "is the same for the same generator": {
        "sample": lambda self, rng, n, horizon: Task(
            np.random.default_rng().random((n, 2)), rng.random((n, horizon + 1))
        )
    },
    "other generators give other tasks": {
        "sample": lambda self, rng, n, horizon: Task(np.ones((n, 2)), np.ones((n, horizon + 1)))
    },
    "has leading axis 6": {
        "sample": lambda self, rng, n, horizon: Task(rng.random((2, n)), rng.random((n, horizon + 1)))
    },
    "sample returns a NamedTuple": {"sample": lambda self, rng, n, horizon: {"first": rng.random((n, 2))}},
    "start is (6, 2) of float64": {"start": lambda self, task: task.first.astype(np.float32)},
    "start returns a new array": {"start": lambda self, task: task.first},
    "loss is (6,), not ()": {"loss": lambda self, task, theta: np.float64(1.0)},
    "direction is (6, 2), not (6, 3)": {"direction": lambda self, task, theta, t: np.ones((len(t), 3))},
    "direction is finite at the start": {"direction": lambda self, task, theta, t: theta * np.nan},
    "direction returns a new array": {"direction": lambda self, task, theta, t: theta},
    "descriptor is (6, 1), not (6, 2)": {"descriptor": lambda self, task: task.first},
    "descriptors are of order one": {"descriptor": lambda self, task: 1e6 * task.first[:, :1]},
    "step_unit is positive": {"step_unit": lambda self, task, first: np.zeros(len(first.loss))},
    "evaluate gives the same loss": {
        "evaluate": lambda self, task, theta, t: Evaluation(
            np.vecdot(theta, theta), self.signal(task, theta, t), self.direction(task, theta, t)
        )
    },
    "loss does not write to its inputs": {"loss": overwrite},
    "the same answer to the same question": {"descriptor": lambda self, task: task.first[:, :1] + next(calls)},
    "does not depend on the other tasks": {
        "reference_loss": lambda self, task: np.full(len(task.first), 0.01 * task.first.mean())
    },
    "a task has noise for t = 0, ..., horizon": {
        "sample": lambda self, rng, n, horizon: Task(1.0 + rng.random((n, 2)), rng.random((n, horizon)))
    },
    "reference_loss is at most the loss at the start": {
        "reference_loss": lambda self, task: np.full(len(task.first), 100.0)
    },
    "picture is None or a Picture, not str": {"picture": lambda self, task, theta, row: "a parabola"},
    "picture does not write to its inputs": {"picture": lambda self, task, theta, row: theta.fill(0.0)},
    "some task has a direction": {"direction": lambda self, task, theta, t: np.zeros_like(theta)},
    "axes is a dictionary of dictionaries": {"axes": lambda self: {"size": 2.0}},
    "axis size moves an option": {"axes": lambda self: {"size": {}}},
    "axis size moves options of the family, not 'radius'": {"axes": lambda self: {"size": {"radius": 2.0}}},
    "axis size moves options of the family, not 'split'": {"axes": lambda self: {"size": {"split": "test"}}},
    "axis size moves option to plain JSON": {"axes": lambda self: {"size": {"option": np.float32(2.0)}}},
    "axis size moves option away from 1.0": {"axes": lambda self: {"size": {"option": 1.0}}},
    "axis size leads to a family that can be made: option is at most 1": {
        "axes": further,
        "__post_init__": at_most_one,
    },
    "axis size leads to the same kind, 'supervised', not 'unsupervised'": {
        "axes": further,
        "kind": property(lambda self: "supervised" if self.option == 1.0 else "unsupervised"),
    },
    "axis size leads to the same descriptor_names": {
        "axes": further,
        "descriptor_names": property(lambda self: (f"size_{self.option:g}",)),
    },
    "beyond, along axis size: loss is finite at the start": {
        "axes": further,
        "loss": lambda self, task, theta: np.full(len(theta), 1.0 if self.option == 1.0 else np.nan),
    },
}


@pytest.mark.parametrize("name", FAMILIES)
def test_the_families_of_the_package_keep_the_contract(name: str) -> None:
    check_family(name)


def test_a_small_family_keeps_the_contract_and_runs() -> None:
    check_family(family())
    env = gym.make("MetaLearn/LinearRegression-v0", family=family(), split="test")
    env.reset(seed=0)
    assert env.step(np.zeros(1, np.float32))[1] > 0


@pytest.mark.parametrize("rule", BROKEN)
def test_a_broken_family_is_refused_with_its_rule(rule: str) -> None:
    with pytest.raises(ContractError) as caught:
        check_family(family(**BROKEN[rule]))
    assert rule.split(" is plain")[0].split(" has a default")[0] in str(caught.value)


def test_a_family_with_axes_keeps_the_contract() -> None:
    check_family(family(axes=further))
    check_family(family(axes=further), option=0.5)
    with pytest.raises(ContractError, match=r"away from 2\.0"):
        check_family(family(axes=further), option=2.0)


def test_an_option_without_default_is_refused() -> None:
    good = family()

    @dataclass(frozen=True, eq=False, kw_only=True)
    class Demanding(good):  # type: ignore[misc, valid-type]
        needed: float

    with pytest.raises((ContractError, TypeError), match="needed"):
        check_family(Demanding)


def test_what_is_no_family_is_refused() -> None:
    with pytest.raises(TypeError, match="TaskFamily"):
        check_family(dict)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="LinearRegression"):
        check_family("NoSuchFamily")
