"""The contract checker accepts what keeps the contract and refuses, by name, what breaks it."""

import inspect
import runpy
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from test_envs import CliffFamily

from metalearn_env import register_family
from metalearn_env.contract_of_options import TAKEN_KEYS, TAKEN_OPTIONS
from metalearn_env.envs import StepSizeEnv
from metalearn_env.families import FAMILIES, family_class
from metalearn_env.family import Evaluation, TaskFamily
from metalearn_env.mixture import make_parts
from metalearn_env.scoring import TaskSet
from metalearn_env.session import Session
from metalearn_env.testing import ContractError, check_family
from metalearn_env.vector import StepSizeVectorEnv


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

    frozen, fields = broken.pop("frozen", True), broken.pop("fields", {"option": Any})
    for name, value in broken.items():
        if value is LACKING:
            delattr(Parabolas, name)
        else:
            setattr(Parabolas, name, value)
    Parabolas.__annotations__ = fields
    return dataclass(frozen=True, eq=False, kw_only=True)(Parabolas) if frozen else Parabolas


def overwrite(self: Any, task: Task, theta: np.ndarray) -> np.ndarray:
    theta *= 1.0 + 1e-9
    return 0.5 * np.vecdot(theta, theta)


def further(self: Any) -> dict[str, dict[str, float]]:
    return {"size": {"option": 2.0}}


def at_most_one(self: Any) -> None:
    if self.option > 1.0:
        raise ValueError(f"option is at most 1, not {self.option}")


LACKING = object()


def raiser(error: Exception) -> Any:
    def fail(*_: Any) -> None:
        raise error

    return fail


calls = iter(range(10**6))


def later(t: np.ndarray) -> np.ndarray:
    return (t > 0)[:, None]


def push(self: Any, task: Task, theta: np.ndarray, t: np.ndarray) -> np.ndarray:
    if t.all():
        theta *= 1.0 + 1e-9
    return -theta


def use_up(self: Any, draw: Task) -> Task:
    draw.noise[:] += 1.0
    return draw


def fill(self: Any, task: Task, theta: np.ndarray, t: np.ndarray) -> np.ndarray:
    np.negative(theta, out=BUFFERS[len(t)])
    return BUFFERS[len(t)]


def fill_in_evaluate(self: Any, task: Task, theta: np.ndarray, t: np.ndarray) -> Evaluation:
    np.copyto(BUFFERS[len(t)], self.direction(task, theta, t))
    return Evaluation(self.loss(task, theta), self.signal(task, theta, t), BUFFERS[len(t)])


BUFFERS = {n: np.zeros((n, 2)) for n in (1, 2, 6)}


def mark(self: Any, task: Task, theta: np.ndarray, rows: np.ndarray) -> dict[str, np.ndarray]:
    theta[rows] += 1.0
    return {}


BROKEN: dict[str, dict[str, Any]] = {
    "a family is a frozen dataclass": {"frozen": False},
    "the default of option option is plain JSON": {"option": np.float32(1.0)},
    "kind is one of": {"kind": "self-supervised"},
    "descriptor_names has at most 8": {"descriptor_names": tuple("abcdefghi")},
    "descriptor_names is a tuple of names, which all differ": {"descriptor_names": ("size", "size")},
    "final_info_names is a tuple of names": {"final_info_names": "size"},
    "a family has kind": {"kind": LACKING},
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
    "start is of float64, not float32": {"start": lambda self, task: task.first.astype(np.float32)},
    "start is (6, 2), not (6, 1)": {"start": lambda self, task: task.first[:, :1].copy()},
    "start is finite": {"start": lambda self, task: task.first * np.inf},
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
    "beyond, along axis size: loss is a number after small steps": {
        "axes": further,
        "loss": lambda self, task, theta: np.where((theta == task.first).all(axis=1) | (self.option < 2), 1.0, np.nan),
    },
    "beyond, along axis size: num_carried is a whole number": {
        "axes": further,
        "num_carried": property(lambda self: 0 if self.option == 1.0 else 2),
    },
    # Draws
    "sample: first is an array of numbers, not of object": {
        "sample": lambda self, rng, n, horizon: Task(
            rng.random((n, 2)).astype(object), rng.standard_normal((n, horizon + 1))
        )
    },
    "sample: first is an array, not of type list": {
        "sample": lambda self, rng, n, horizon: Task(rng.random((n, 2)).tolist(), rng.random((n, horizon + 1)))
    },
    "sample: noise of a task is (12,) of float64 in all draws, not (7,)": {
        "sample": lambda self, rng, n, horizon: Task(1.0 + rng.random((n, 2)), rng.random((n, horizon + 1 + n)))
    },
    "sample: noise of a task is": {
        "sample": lambda self, rng, n, horizon: Task(
            1.0 + rng.random((n, 2)), rng.random((n, horizon + 1 + rng.integers(100)))
        )
    },
    "complete: noise of a task is (6,) of float64 in all draws, not (6,) of float32": {
        "complete": lambda self, draw: draw._replace(noise=draw.noise.astype("f8" if len(draw.noise) > 1 else "f4"))
    },
    "complete: first is an array of numbers, not of object": {
        "complete": lambda self, draw: draw._replace(first=draw.first.astype(object))
    },
    "complete returns a NamedTuple of arrays, not list": {"complete": lambda self, draw: list(draw)},
    "complete: first of a task does not depend on the other tasks": {
        "complete": lambda self, draw: draw._replace(first=draw.first / draw.first.mean())
    },
    "complete: first is the same for the same draw": {
        "complete": lambda self, draw: draw._replace(first=draw.first + np.random.rand())  # noqa: NPY002
    },
    "complete does not write to its input": {"complete": use_up},
    # At the start
    "some task starts with a gap": {"reference_loss": lambda self, task: self.loss(task, task.first)},
    "loss is (1,), not ()": {
        "evaluate": lambda self, task, theta, t: Evaluation(
            self.loss(task, theta).squeeze(), self.signal(task, theta, t), self.direction(task, theta, t)
        )
    },
    # On the way
    "direction of a task does not depend on the other tasks, at mixed times": {
        "direction": lambda self, task, theta, t: -theta + 0.01 * task.noise[:, t[0], None]
    },
    "signal of a task does not depend on the other tasks, at mixed times": {
        "signal": lambda self, task, theta, t: self.loss(task, theta) + task.noise[:, t[0]]
    },
    "direction gives the same answer to the same question, at t = 2": {
        "direction": lambda self, task, theta, t: -theta + later(t) * next(calls)
    },
    "direction does not write to its inputs, at t = 2": {"direction": push},
    "direction is finite after small steps": {
        "direction": lambda self, task, theta, t: np.where(later(t), np.inf, -theta)
    },
    "signal is finite after small steps": {"signal": lambda self, task, theta, t: np.where(t > 0, np.nan, 1.0)},
    "direction is (6, 2), not (1, 2)": {
        "direction": lambda self, task, theta, t: -theta[:1] if t.all() else -theta,
    },
    "evaluate gives the same signal as signal itself, at t = 2": {
        "evaluate": lambda self, task, theta, t: Evaluation(
            self.loss(task, theta), self.loss(task, theta) + t, self.direction(task, theta, t)
        )
    },
    "direction returns a new array, not one that is in use": {"direction": fill},
    "direction returns a new array, not one that is in use already": {"evaluate": fill_in_evaluate},
    "loss returns a new array": {"loss": lambda self, task, theta: theta[:, 0]},
    "loss returns a new array, not one": {"loss": lambda self, task, theta: np.broadcast_to(1.0, len(theta))},
    # In the end
    "final_info tells what final_info_names names, ('size',), not {}": {"final_info_names": ("size",)},
    "final_info tells what final_info_names names, (), not {'size'": {
        "final_info": lambda self, task, theta, rows: {"size": np.ones(len(rows))}
    },
    "final_info: size is an array of numbers (2,)": {
        "final_info_names": ("size",),
        "final_info": lambda self, task, theta, rows: {"size": task.first[:, 0]},
    },
    "final_info: size of a task does not depend on the other tasks": {
        "final_info_names": ("size",),
        "final_info": lambda self, task, theta, rows: {"size": task.first[: len(rows), 0]},
    },
    "final_info does not write to its inputs": {"final_info": mark},
    # Names and numbers
    "an axis is of the family's own, not 'long_horizon'": {"axes": lambda self: {"long_horizon": {"option": 2.0}}},
    "an axis is named by a word or in snake_case": {"axes": lambda self: {"Size of it": {"option": 2.0}}},
    "num_parameters gives an answer, not RuntimeError: odd": {"num_parameters": property(raiser(RuntimeError("odd")))},
    "kind is one of supervised, unsupervised, reinforcement": {"kind": "dual", "__post_init__": lambda self: None},
    "descriptor_names has at most 8 names": {
        "descriptor_names": tuple("abcdefghi"),
        "__post_init__": lambda self: None,
    },
    # What would be raised as it is
    "Parabolas lacks loss, start": {"loss": TaskFamily.loss, "start": TaskFamily.start},
    "loss is an array (6,), not of type list": {"loss": lambda self, task, theta: [1.0] * len(theta)},
    "direction is of float64, not object": {"direction": lambda self, task, theta, t: -theta.astype(object)},
    "evaluate returns an Evaluation, not list": {"evaluate": lambda self, task, theta, t: [theta, theta, theta]},
    "descriptor gives an answer, not KeyError: 'size'": {"descriptor": raiser(KeyError("size"))},
    "axes gives an answer, not KeyError: 'size'": {"axes": raiser(KeyError("size"))},
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
    assert rule in str(caught.value)


def test_a_family_with_axes_keeps_the_contract() -> None:
    check_family(family(axes=further))
    check_family(family(axes=further), option=0.5)
    with pytest.raises(ContractError, match=r"away from 2\.0"):
        check_family(family(axes=further), option=2.0)


def test_an_option_without_default_is_refused() -> None:
    with pytest.raises(ContractError, match="option needed has a default"):
        check_family(family(fields={"option": Any, "needed": float}))


@pytest.mark.parametrize("name", sorted(TAKEN_OPTIONS))
def test_an_option_is_not_named_like_one_of_the_environment(name: str) -> None:
    with pytest.raises(ContractError, match=f"options are of the family's own, not '{name}'"):
        check_family(family(fields={"option": Any, name: float}, **{name: 1.0}))


def test_the_options_of_the_environments_are_known() -> None:
    makers = (gym.make, gym.make_vec, StepSizeEnv, StepSizeVectorEnv, Session, make_parts)
    names = {name for maker in makers for name in inspect.signature(maker).parameters}
    assert names - TAKEN_OPTIONS == {"kwargs", "options", "split", "parts", "n", "trace"}


@pytest.mark.parametrize("name", [*sorted(TAKEN_KEYS), "_size"])
def test_what_is_told_in_the_end_is_not_named_like_a_key_of_the_environment(name: str) -> None:
    told = {"final_info": lambda self, task, theta, rows: {name: np.ones(len(rows))}}
    with pytest.raises(ContractError, match=f"final_info_names are of the family's own, not '{name}'"):
        check_family(family(final_info_names=(name,), **told))


@pytest.mark.parametrize("mode", AutoresetMode)
def test_the_keys_of_the_environments_are_known(mode: AutoresetMode) -> None:
    env = gym.make_vec("MetaLearn/LinearRegression-v0", num_envs=2, horizon=1, autoreset_mode=mode)
    env = gym.wrappers.vector.RecordEpisodeStatistics(env)
    env.reset(seed=0)
    infos = env.step(np.zeros((2, 1), np.float32))[-1]
    assert {name for name in infos if not name.startswith("_")} <= TAKEN_KEYS
    assert "episode" in infos


@pytest.mark.parametrize("number", [-1, 2, 0.5, True, "1"])
def test_what_is_carried_is_a_part_of_the_parameters(number: Any) -> None:
    with pytest.raises(ContractError, match=f"num_carried is a whole number from 0 .*; not {number!r}"):
        check_family(family(num_carried=number))


def test_what_is_carried_may_be_a_part_of_the_parameters() -> None:
    check_family(family(num_carried=1))


@pytest.mark.parametrize(
    ("configured", "moved"),
    [
        ((1.0, 3.0), (1.5, 2.0)),
        ((1.0, 3.0), (2.0, 4.0)),
        ((1.0, 3.0), (0.0, 4.0)),
        ((1.0, 3.0), 3.0),
        ((1.0, 3.0), [1, 3]),
        (1.0, (1.0, 1.0)),
        (1.0, (0.0, 4.0)),
    ],
)
def test_an_axis_leads_beyond(configured: Any, moved: Any) -> None:
    with pytest.raises(ContractError, match="axis size moves option beyond"):
        check_family(family(option=configured, axes=lambda self: {"size": {"option": moved}}))


@pytest.mark.parametrize(
    ("configured", "moved"),
    [((1.0, 3.0), (3.0, 4.0)), ((1, 3), (0.0, 1.0)), (2.0, 3.0), (2.0, (2.0, 20.0)), ((1, 3), "heavy"), (None, 1)],
)
def test_what_is_beyond_is_not_refused(configured: Any, moved: Any) -> None:
    check_family(family(option=configured, axes=lambda self: {"size": {"option": moved}}))


def test_what_diverges_keeps_the_contract() -> None:
    def unit(self: Any, task: Task, first: Evaluation) -> np.ndarray:
        return np.full(len(first.loss), 1e200)

    with np.errstate(over="ignore"):
        check_family(family(step_unit=unit))


def test_what_is_no_family_is_refused() -> None:
    with pytest.raises(TypeError, match="TaskFamily"):
        check_family(dict)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="LinearRegression"):
        check_family("NoSuchFamily")
    with pytest.raises(TypeError, match="LinearRegression has no option 'radius'"):
        check_family("LinearRegression", radius=1.0)


def test_the_template_keeps_the_contract_and_can_be_scored() -> None:
    template = runpy.run_path(str(Path(__file__).parents[1] / "examples" / "03_new_family.py"))["Ring"]
    check_family(template)
    tasks = TaskSet("MetaLearn/LinearRegression-v0", tasks=64, env_kwargs={"family": template})
    assert tasks.counted.sum() > 32


# Families by name


def test_a_class_is_registered_as_its_path() -> None:
    try:
        env_id = register_family("Cliffs", CliffFamily)
        assert FAMILIES["Cliffs"] == f"{CliffFamily.__module__}:CliffFamily"
        assert register_family("Cliffs", FAMILIES["Cliffs"]) == env_id == "MetaLearn/Cliffs-v0"
        assert type(gym.make(env_id).unwrapped.session.parts[0].family) is CliffFamily
    finally:
        del gym.registry["MetaLearn/Cliffs-v0"], FAMILIES["Cliffs"]


@pytest.mark.parametrize(
    ("name", "given", "error", "named"),
    [
        (5, "module:Class", TypeError, "the name of a family is a string, not 5"),
        ("Ring", 5, TypeError, "a subclass of TaskFamily, not 5"),
        ("Ring", dict, TypeError, "a subclass of TaskFamily, not <class 'dict'>"),
        ("Ring", family(), ValueError, "stands in its module"),
        ("Ring", "module", ValueError, "'package.module:Class', not 'module'"),
        ("Ring", ":Class", ValueError, "'package.module:Class', not ':Class'"),
        ("my ring", "module:Class", ValueError, "a word in CamelCase, not 'my ring'"),
        ("Clustering", "module:Class", ValueError, "registered already, as metalearn_env.families.clustering"),
        ("Mixture", "module:Class", ValueError, "Mixture is the environment of several families"),
    ],
)
def test_what_cannot_be_registered_is_refused(name: Any, given: Any, error: type[Exception], named: str) -> None:
    known = dict(FAMILIES)
    with pytest.raises(error, match=named):
        register_family(name, given)
    assert known == FAMILIES


MODULES = {
    "of_ones_own": ("x = 1", ValueError, "module of_ones_own has no 'Class'"),
    "of_ones_own.inner": ("x = 1", ValueError, "cannot be imported: No module named 'of_ones_own.inner'"),
    "missing": (None, ValueError, "cannot be imported: No module named 'missing'"),
    ".relative": (None, ValueError, "'module:Class', not '.relative:Class'"),
    "wrong_attribute": ("import math; math.nonesuch", AttributeError, "nonesuch"),
    "wrong_import": ("import nonesuch", ModuleNotFoundError, "No module named 'nonesuch'"),
    "wrong_name": ("from math import nonesuch", ImportError, "nonesuch"),
    "wrong_value": ("raise ValueError('of the module')", ValueError, "^of the module$"),
}


@pytest.mark.parametrize("module", MODULES)
def test_errors_of_a_module_are_its_own(module: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    code, error, named = MODULES[module]
    if code is not None:
        (tmp_path / f"{module.partition('.')[0]}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "of_ones_own", raising=False)
    with pytest.raises(error, match=named) as caught:
        family_class(f"{module}:Class")
    assert caught.type is error
