"""Neural networks: gradients, optimisers, masks, teachers, modules of one's own, limits, and bad input."""

from __future__ import annotations

import copy
import pickle
import sys
from itertools import pairwise
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from metalearn_env import TaskFamily
from metalearn_env.engine import Engine
from metalearn_env.families import make_family
from metalearn_env.identity import described
from metalearn_env.limits import limit_loss
from metalearn_env.mixture import typical_return
from metalearn_env.network_tasks import NetworkTask
from metalearn_env.perceptrons import ACTIVATIONS, CURVES
from metalearn_env.splits import ROW_SPLITS, split_rows
from metalearn_env.testing import check_family

torch = pytest.importorskip("torch")

RNG = np.random.default_rng(0)
IMAGES, CLASSES = RNG.normal(size=(60, 6, 6)), np.arange(60) % 3
POINTS, NUMBERS = RNG.normal(size=(50, 3)), RNG.normal(size=(50, 2))


class Convolutions(torch.nn.Module):  # type: ignore[misc]
    """A module of a user's own, for images (b, 6, 6)."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.last = torch.nn.Conv2d(1, 2, 3), torch.nn.Linear(32, 3)

    def forward(self, x: Any) -> Any:
        return self.last(torch.tanh(self.layer(x[:, None])).flatten(1))


def regressor() -> Any:
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.GELU(), torch.nn.Linear(4, 2))


class HalfFrozen(torch.nn.Module):  # type: ignore[misc]
    """What is frozen is drawn anew each time it is made, and so is a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.frozen = torch.nn.Linear(36, 3), torch.nn.Linear(3, 3).requires_grad_(False)
        self.register_buffer("moved", torch.randn(3))

    def forward(self, x: Any) -> Any:
        return self.frozen(self.first(x.flatten(1))) + self.moved


class Frozen(HalfFrozen):
    def __init__(self) -> None:
        super().__init__()
        self.requires_grad_(False)


class Unbounded(Convolutions):
    def forward(self, x: Any) -> Any:
        return super().forward(x) / 0.0


class Counting(Convolutions):
    """Counts how often it is asked, in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("asked", torch.zeros(()))

    def forward(self, x: Any) -> Any:
        self.asked += 1.0
        return super().forward(x)


class Fading(Convolutions):
    """Answers less and less."""

    asked = 0

    def forward(self, x: Any) -> Any:
        self.asked += 1
        return super().forward(x) / self.asked


class Dropping(Convolutions):
    def forward(self, x: Any) -> Any:
        return torch.nn.functional.dropout(super().forward(x))


OWN: dict[str, Any] = {"module": Convolutions, "dataset": (IMAGES, CLASSES)}
SQUARED: dict[str, Any] = {"module": regressor, "dataset": (POINTS, NUMBERS), "criterion": "squared"}
CASES: dict[str, dict[str, Any]] = {
    "adam": {"optimizer": "adam", "monitored": 16},
    "momentum": {"optimizer": "momentum", "objective": "validation"},
    "all examples": {"batch_size": None, "precision": "float64"},
    "deep": {"depth": (1, 4), "activation": "relu", "noise": (0.1, 0.3), "tails": "heavy"},
    "spread": {"decay": (0.1, 2.0), "offset": (0.1, 1.0), "gain": (0.3, 1.0)},
    "own": {**OWN, "batch_size": 8},
    "own, squared": {**SQUARED, "optimizer": "adam", "objective": "validation"},
}
cases = pytest.mark.parametrize("options", CASES.values(), ids=CASES.keys())


def network(**options: Any) -> TaskFamily:
    return make_family("NeuralNetwork", **options)


def tasks(family: TaskFamily, n: int = 6, horizon: int = 6, seed: int = 0) -> NetworkTask:
    task: NetworkTask = family.complete(family.sample(np.random.default_rng(seed), n, horizon))
    return task


@cases
def test_the_contract_is_kept(options: dict[str, Any]) -> None:
    check_family("NeuralNetwork", **options)


@pytest.mark.parametrize("name", ["digits", "wine", "breast_cancer", "iris"])
def test_the_contract_is_kept_on_data(name: str) -> None:
    pytest.importorskip("sklearn")
    check_family("NeuralNetwork", dataset=name, batch_size=4)


# Gradients


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("own", [False, True])
def test_the_direction_is_the_falling_gradient_of_the_signal(activation: str, own: bool) -> None:
    options = SQUARED if own else {"activation": activation, "depth": (1, 3), "width": (2, 4), "dimension": (2, 3)}
    family = network(**options, precision="float64", scale=0)
    task = tasks(family)
    theta, t, width = family.start(task), np.array([0, 5, 2, 3, 1, 4]), 1e-6
    theta += 0.3 * np.random.default_rng(1).normal(size=theta.shape)
    slopes = [
        (family.signal(task, theta + width * unit, t) - family.signal(task, theta - width * unit, t)) / (2 * width)
        for unit in np.eye(theta.shape[1])
    ]
    assert family.direction(task, theta, t) == pytest.approx(-np.stack(slopes, axis=1), abs=1e-7)


def test_masked_networks_are_the_small_ones_that_pytorch_has() -> None:
    """Scores, and gradients of what is there, of a module of each task's own depth, width, inputs and classes."""
    kinds = {"tanh": torch.nn.Tanh(), "relu": torch.nn.ReLU(), "gelu": torch.nn.GELU(approximate="tanh")}
    family = network(depth=(1, 3), width=(3, 6), precision="float64", batch_size=None, scale=0)
    task = tasks(family, 20)
    theta = family.start(task) + 0.2 * np.random.default_rng(1).normal(size=task.first.shape)
    loss, gradient = family.losses_and_gradients(task, theta, np.tile(np.arange(64), (20, 1)))  # type: ignore[attr-defined]
    sizes = [8, 6, 6, 6, 4]
    for row in range(20):
        depth, width = int(task.there[row].sum()), int(task.units[row].sum())
        kind = next(
            name for name, curve in zip(ACTIVATIONS, CURVES, strict=True) if (curve == task.activation[row]).all()
        )
        d, classes = round(10 ** task.descriptor[row, 0]), round(10 ** task.descriptor[row, 3])
        ends, layers, cuts, first = [d, *[width] * depth, classes], [], [], 0
        for index, (wide, high) in enumerate(pairwise(sizes)):
            place, first = first, first + wide * high + high
            if depth <= index < 3:
                assert not gradient[row, place:first].any()
                continue
            layer = torch.nn.Linear(*ends[len(cuts) : len(cuts) + 2]).double()
            cuts.append((place, wide, high))
            with torch.no_grad():
                weight = theta[row, place : place + wide * high].reshape(high, wide)
                layer.weight[:] = torch.tensor(weight[: layer.out_features, : layer.in_features])
                layer.bias[:] = torch.tensor(theta[row, place + wide * high : first][: layer.out_features])
            layers += [layer, kinds[kind]]
        answer = torch.nn.Sequential(*layers[:-1])(torch.tensor(task.inputs[row, :, :d]))
        expected = torch.nn.functional.cross_entropy(answer, torch.tensor(task.targets[row]).long())
        assert loss[row] == pytest.approx(expected.item())
        expected.backward()
        total = 0
        for (place, wide, high), layer in zip(cuts, layers[::2], strict=True):
            found = gradient[row, place : place + wide * high].reshape(high, wide)
            assert found[: layer.out_features, : layer.in_features] == pytest.approx(
                layer.weight.grad.numpy(), abs=1e-12
            )
            assert np.count_nonzero(found) <= layer.weight.numel()
            bias = gradient[row, place + wide * high : place + wide * high + layer.out_features]
            assert bias == pytest.approx(layer.bias.grad.numpy(), abs=1e-12)
            total += layer.weight.numel() + layer.bias.numel()
        assert 10 ** task.descriptor[row, 1] == pytest.approx(total)


def test_what_is_not_there_stays_zero() -> None:
    family = network(optimizer="adam")
    task = tasks(family, 20)
    engine, p = Engine.start(family, task, 6), task.first.shape[1]
    for _ in range(5):
        engine.advance(0.1 * engine.unit)
    moved = np.count_nonzero(engine.theta[:, :p], axis=1)
    assert (moved <= np.rint(10 ** task.descriptor[:, 1])).all()
    assert (moved < p).any()


# Optimisers


@pytest.mark.parametrize(
    ("optimizer", "make"),
    [
        ("sgd", lambda parameters: torch.optim.SGD(parameters, lr=0.05)),
        ("momentum", lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.8)),
        ("adam", lambda parameters: torch.optim.Adam(parameters, lr=0.05)),
    ],
)
def test_steps_are_those_of_pytorch(optimizer: str, make: Any) -> None:
    options = {"momentum": 0.8} if optimizer == "momentum" else {}
    family = network(**OWN, optimizer=optimizer, precision="float64", batch_size=5, scale=0, **options)
    task = tasks(family, 2, 8)
    engine, p = Engine.start(family, task, 8), task.first.shape[1]
    for row in range(2):
        module = Convolutions().double()
        torch.nn.utils.vector_to_parameters(torch.tensor(task.first[row]), module.parameters())
        learner, twin = make(module.parameters()), Engine.start(family, task, 8)
        data = IMAGES[split_rows(60, "train")][task.rows[row]]
        for t in range(8):
            which = task.batches[row, t]
            learner.zero_grad()
            found = module(torch.tensor(data[which]))
            loss = torch.nn.functional.cross_entropy(found, torch.tensor(task.targets[row, which]))
            assert twin.signal[row] == pytest.approx(loss.item())
            loss.backward()
            learner.step()
            twin.advance(np.full(2, 0.05))
            expected = torch.nn.utils.parameters_to_vector(module.parameters()).detach().numpy()
            assert twin.theta[row, :p] == pytest.approx(expected, abs=1e-10)
    assert engine.t.tolist() == [0, 0]


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
def test_the_scale_of_the_objective_is_not_seen(optimizer: str) -> None:
    family = network(optimizer=optimizer, precision="float64", scale=0)
    task = tasks(family)
    one = Engine.start(family, task, 6)
    other = Engine.start(family, task._replace(objective=1e3 * task.objective), 6)
    for _ in range(6):
        one.advance(0.3 * one.unit)
        other.advance(0.3 * other.unit)
    assert other.gap_ratio == pytest.approx(one.gap_ratio, rel=1e-4)


# Tasks


def test_a_learner_can_be_its_teacher() -> None:
    family = network(precision="float64", scale=0)
    draw = family.sample(np.random.default_rng(0), 12, 3)
    task = family.complete(draw)
    assert all(len(np.unique(targets)) > 1 for targets in task.targets)
    noisy = network(precision="float64", scale=0, noise=0.5).complete(draw)
    changed = (noisy.targets != task.targets).mean()
    assert 0.2 < changed < 0.45
    assert (limit_loss(family, task, 50) < 0.2 * family.loss(task, family.start(task))).all()


def test_inputs_vary_by_a_power_law_about_an_offset() -> None:
    draw = network(examples=4000, dimension=6, decay=2.0, offset=3.0)
    inputs = tasks(draw, 3).inputs
    share = np.arange(1.0, 7.0) ** -2.0
    assert inputs.var(axis=1) == pytest.approx(np.tile(6.0 * share / share.sum(), (3, 1)), rel=0.15)
    assert inputs.mean(axis=1) / inputs.std(axis=1) == pytest.approx(np.full((3, 6), 3.0), rel=0.1)


def test_a_gain_multiplies_the_first_weights_alone() -> None:
    one, other = (tasks(network(gain=gain)) for gain in (1.0, 0.5))
    assert other.first == pytest.approx(0.5 * one.first)
    assert np.array_equal(other.targets, one.targets)


def test_what_is_held_out_is_no_part_of_training() -> None:
    one, other = (network(**OWN, objective=objective, examples=12, scale=0) for objective in ("training", "validation"))
    task = tasks(other)
    theta, t = other.start(task), np.zeros(6, np.int64)
    assert task.rows.shape == (6, 18)
    assert all(len(set(rows)) == 18 for rows in task.rows)
    assert task.batches.max() < 12
    changed = task._replace(targets=np.where(np.arange(18) < 12, task.targets, (task.targets + 1) % 3))
    assert np.array_equal(other.direction(changed, theta, t), other.direction(task, theta, t))
    assert (other.loss(changed, theta) != other.loss(task, theta)).all()
    assert np.array_equal(one.loss(changed, theta), one.loss(task, theta))


def test_the_loss_may_be_of_a_sample_of_the_examples() -> None:
    one, other = network(scale=0), network(scale=0, monitored=20)
    task = tasks(one)
    theta, t = one.start(task), np.zeros(6, np.int64)
    changed = task._replace(targets=np.where(np.arange(64) < 20, task.targets, (task.targets + 1) % 2))
    assert np.array_equal(other.loss(changed, theta), other.loss(task, theta))
    assert (one.loss(changed, theta) != one.loss(task, theta)).all()
    assert np.array_equal(other.direction(task, theta, t), one.direction(task, theta, t))


@pytest.mark.parametrize("split", ROW_SPLITS)
def test_tasks_of_a_split_are_of_its_rows(split: str) -> None:
    X = np.arange(60.0)[:, None] * np.ones(3)
    family = network(module=lambda: torch.nn.Linear(3, 3), dataset=(X, CLASSES), split=split, examples=6)
    task = tasks(family, 40)
    inputs, targets = family._law.examples_at(task, np.tile(np.arange(6), (40, 1)))  # type: ignore[attr-defined]
    met = inputs[:, :, 0].astype(int)
    assert set(met.ravel()) == set(split_rows(60, split))
    assert np.array_equal(targets, CLASSES[met])


def test_limits_are_below_what_as_many_steps_reach() -> None:
    family = network()
    task = tasks(family, 20, 10)
    limit = limit_loss(family, task, 10)
    assert (limit > 0.0).all()
    for multiple in (0.3, 1.0, 3.0):
        engine = Engine.start(family, task, 10)
        for _ in range(10):
            engine.advance_only(~engine.ended, multiple * engine.unit)
        assert (engine.loss > limit).mean() > 0.9


# Modules of one's own


def test_a_module_of_ones_own_in_an_environment() -> None:
    env = gym.make("MetaLearn/NeuralNetwork-v0", **OWN, optimizer="adam", horizon=6, split="test", examples=8)
    _, info = env.reset(seed=0)
    first = info["loss"]
    for _ in range(6):
        *_, info = env.step(np.array([-0.05], np.float32))
    assert info["final_gap"] == info["loss"] < first


def test_first_parameters_are_new_ones_of_the_module() -> None:
    family = network(**OWN)
    before, state = tasks(family), torch.random.get_rng_state()
    torch.rand(3)
    moved, again = torch.random.get_rng_state(), tasks(family)
    assert torch.equal(torch.random.get_rng_state(), moved)
    assert not torch.equal(state, moved)
    assert np.array_equal(before.first, again.first)
    assert len(np.unique(before.first[:, 0])) == 6


def test_a_dropout_that_drops_nothing_is_none() -> None:
    plain = network(**SQUARED)
    same = network(**{**SQUARED, "module": lambda: torch.nn.Sequential(*regressor(), torch.nn.Dropout(0.0))})
    task, times = tasks(plain), np.zeros(6, np.int64)
    assert np.array_equal(
        plain.direction(task, plain.start(task), times), same.direction(task, same.start(task), times)
    )


def test_labels_may_be_strings_of_any_kind() -> None:
    names = np.array(["one", "two", "three"])[CLASSES]
    found = [network(**{**OWN, "dataset": (IMAGES, labels)}) for labels in (names, names.astype(object))]
    losses = [family.loss(tasks(family), family.start(tasks(family))) for family in found]
    assert np.array_equal(*losses)


def test_what_is_frozen_or_a_buffer_is_the_same_for_all() -> None:
    families = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        families.append(network(**{**OWN, "module": HalfFrozen}))
        assert torch.initial_seed() == seed
    one, other = families
    assert one.num_parameters == 36 * 3 + 3
    task = tasks(one)
    theta = one.start(task)
    assert np.array_equal(one.loss(task, theta), other.loss(task, theta))
    assert len(np.unique(theta[:, 0])) == len(theta)


def test_modules_of_one_name_are_told_apart() -> None:
    def units_of(kind: Any) -> float:
        family = network(module=kind, dataset=(POINTS, CLASSES[:50]), examples=6, optimizer="sgd")
        with pytest.raises(TypeError, match="no description by content"):
            described(family)
        return typical_return(family, 4, "log")

    def net(width: int) -> Any:
        class Net(torch.nn.Sequential):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__(torch.nn.Linear(3, width), torch.nn.Tanh(), torch.nn.Linear(width, 3))

        return Net

    assert units_of(net(1)) != units_of(net(5))
    assert units_of(net(1)) == units_of(net(1))
    with pytest.raises(TypeError, match=r"module='.*Convolutions' has no description by content"):
        described(network(**{**OWN, "module": f"{__name__}:Convolutions"}))


def test_a_module_is_named_by_its_path() -> None:
    by_name = network(**{**OWN, "module": f"{__name__}:Convolutions"})
    assert np.array_equal(tasks(by_name).first, tasks(network(**OWN)).first)


def test_families_are_copied_and_pickled() -> None:
    family = network(**OWN)
    task = tasks(family)
    for other in (copy.deepcopy(family), pickle.loads(pickle.dumps(family))):
        assert np.array_equal(other.loss(task, other.start(task)), family.loss(task, family.start(task)))


# Bad input


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"optimizer": "lbfgs"}, ValueError, "optimizer is one of sgd, momentum, adam"),
        ({"objective": "test"}, ValueError, "objective is one of training, validation"),
        ({"activation": "swish"}, ValueError, "activation is one of mixed"),
        ({"precision": "float16"}, ValueError, "precision is one of float64, float32"),
        ({"device": "tpu"}, ValueError, "device is one of cpu, cuda"),
        ({"momentum": 0.5}, ValueError, "'sgd' leaves no choice of momentum"),
        ({"optimizer": "momentum", "momentum": 1.0}, ValueError, r"momentum is in \[0, 1\)"),
        ({"criterion": "squared"}, ValueError, "a perceptron leaves no choice of criterion"),
        ({"dimension": 0}, ValueError, "dimension is a whole number >= 1"),
        ({"classes": 0}, ValueError, "classes is a whole number >= 2"),
        ({"classes": 1}, ValueError, "classes is a whole number >= 2"),
        ({"depth": 0}, ValueError, "depth is a whole number >= 1"),
        ({"noise": 2.0}, ValueError, "noise is at most 1"),
        ({"monitored": 65}, ValueError, "monitored is at most 64"),
        ({"monitored": 4, "objective": "validation"}, ValueError, "leaves no choice of monitored"),
        ({"decay": (0.0, 1.0)}, ValueError, "decay is 0 or a range above 0"),
        ({"dataset": "wine", "offset": 1.0}, ValueError, "a data set leaves no choice of offset"),
        ({**OWN, "gain": 0.5}, ValueError, "one's own leaves no choice of gain"),
        ({**OWN, "width": 4}, ValueError, "one's own leaves no choice of width"),
        ({"module": Convolutions}, ValueError, r"comes with dataset=\(X, y\)"),
        ({**OWN, "module": 3}, TypeError, "module is a callable"),
        ({**OWN, "module": torch.nn.Linear(3, 3)}, TypeError, "such as its class, not a Linear"),
        ({**OWN, "module": Unbounded}, ValueError, "a module's answers are finite at first"),
        ({**OWN, "module": Counting}, ValueError, "keeps no state; this one changes its buffer 'asked'"),
        ({**OWN, "module": Fading}, ValueError, "this one changes its answers"),
        ({**OWN, "module": Dropping}, ValueError, "this one changes its answers"),
        ({**OWN, "module": Frozen}, ValueError, "parameters to be trained"),
        ({**OWN, "module": "nowhere:net"}, ValueError, "module is a callable or 'package.module:callable'"),
        ({**OWN, "module": lambda: 3}, TypeError, "makes a torch.nn.Module, not int"),
        ({**OWN, "module": lambda: torch.nn.Dropout()}, ValueError, "Dropout does"),
        ({**OWN, "module": lambda: torch.nn.BatchNorm1d(3)}, ValueError, "BatchNorm1d does"),
        ({**OWN, "module": lambda: torch.nn.Flatten()}, ValueError, "has none"),
        (
            {**OWN, "module": lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 4))},
            ValueError,
            r"an array \(2, 3\), not \(2, 4\)",
        ),
        ({**OWN, "examples": 37}, ValueError, "are at most 36"),
        ({**SQUARED, "dataset": (POINTS, NUMBERS[:9])}, ValueError, r"got shapes \(50, 3\) and \(9, 2\)"),
        ({**OWN, "dataset": (IMAGES * np.inf, CLASSES)}, ValueError, "dataset X is finite"),
    ],
)
def test_bad_input_is_refused(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        network(**options)


def test_without_pytorch_there_is_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match="pip install torch"):
        gym.make("MetaLearn/NeuralNetwork-v0")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_without_a_graphics_card_there_is_no_cuda() -> None:
    with pytest.raises(ValueError, match="'cuda' cannot be honoured"):
        network(device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no graphics card")
@pytest.mark.parametrize("options", [{}, {"optimizer": "adam"}, OWN], ids=["perceptrons", "adam", "own"])
def test_a_graphics_card_gives_the_same_to_rounding(options: dict[str, Any]) -> None:
    here, there = (network(**options, precision="float64", device=device) for device in ("cpu", "cuda"))
    task = tasks(here)
    theta, t = here.start(task), np.arange(6)
    for one, other in zip(here.evaluate(task, theta, t), there.evaluate(task, theta, t), strict=True):
        assert other == pytest.approx(one, rel=1e-6, abs=1e-9 * np.abs(one).max())
