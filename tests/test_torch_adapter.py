"""A policy in a training loop of PyTorch: as in the environment, on any optimiser, and whatever goes wrong."""

from __future__ import annotations

import copy
import io
import math
import pickle
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from states import spoilt
from test_stepper import fixed, tame

from metalearn_env.engine import Engine
from metalearn_env.families import make_family
from metalearn_env.policy import Policy
from metalearn_env.pool import draw_tasks
from metalearn_env.splits import split_rows

pytest.importorskip("torch")

import torch

from metalearn_env.adapters.torch import LearnedStepSize
from metalearn_env.updates import Updates

HORIZON = 15
RNG = np.random.default_rng(0)
POINTS, CLASSES = RNG.normal(size=(60, 5)), np.arange(60) % 3

OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.3),
    "momentum": lambda p: torch.optim.SGD(p, lr=2.0, momentum=0.8),
    "adam": lambda p: torch.optim.Adam(p, lr=1e-3),
}
OTHERS: dict[str, Callable[[Any], Any]] = {
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-3, momentum=0.5),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=1e-2, lr_decay=0.1),
    "nadam": lambda p: torch.optim.NAdam(p, lr=1e-3),
    "radam": lambda p: torch.optim.RAdam(p, lr=1e-3),
    "adamax": lambda p: torch.optim.Adamax(p, lr=1e-3),
    "adadelta": lambda p: torch.optim.Adadelta(p),
    "tensor lr": lambda p: torch.optim.Adam(p, lr=torch.tensor(1e-3, dtype=torch.float64)),
}


def perceptron() -> Any:
    return torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 3))


def gentle() -> Policy:
    """Return a policy whose steps change little, and shrink."""
    policy = tame("relative", "dynamic")
    weight, _ = policy.layers[-1]
    return Policy((*policy.layers[:-1], (0.02 * weight, np.full(1, -0.01, np.float32))), policy.header)


class Loop:
    """A training loop like anyone's, on full batches of a fixed problem."""

    def __init__(self, policy: Policy, make: Any = OPTIMIZERS["sgd"], dtype: Any = torch.float32, **options: Any):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.model = perceptron().to(dtype)
        self.x, self.y = torch.tensor(POINTS, dtype=dtype), torch.tensor(CLASSES)
        self.optimizer = make(self.model.parameters())
        self.scheduler = LearnedStepSize(self.optimizer, policy, **options)
        self.rates: list[float] = []
        self.losses: list[float] = []

    def loss(self) -> Any:
        loss = torch.nn.functional.cross_entropy(self.model(self.x), self.y)
        self.optimizer.zero_grad()
        loss.backward()
        return loss

    def run(self, steps: int, times: float = 1.0) -> Loop:
        for _ in range(steps):
            loss = times * self.loss()
            self.losses.append(loss.item())
            self.scheduler.step(loss)
            self.optimizer.step()
            self.rates += self.scheduler.get_last_lr()[:1]
        return self

    def until(self, told: Callable[[], bool]) -> None:
        while not told():
            self.run(1)

    def theta(self) -> Any:
        return torch.nn.utils.parameters_to_vector(self.model.parameters()).detach().clone()


# The same steps as in the environment


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(
    ("action", "strategy", "interval", "opening", "averaged"),
    [
        ("relative", "dynamic", 1, 0, False),
        ("discrete", "random", 1, 0, False),
        ("relative", "dynamic", 2, 0, False),
        ("absolute", "dynamic", 4, 0, False),
        ("relative", "dynamic", 4, 3, False),
        ("relative", "dynamic", 4, 3, True),
    ],
)
def test_steps_are_those_of_the_environment(
    optimizer: str, action: str, strategy: str, interval: int, opening: int, averaged: bool
) -> None:
    options: dict[str, Any] = {"momentum": 0.8} if optimizer == "momentum" else {}
    family = make_family(
        "NeuralNetwork",
        module=perceptron,
        dataset=(POINTS, CLASSES),
        optimizer=optimizer,
        precision="float64",
        batch_size=4,
        scale=0,
        **options,
    )
    policy = tame(action, strategy, interval, opening=opening, averaged=averaged)
    engine = Engine.start(family, draw_tasks(family, seed=1, n=1, horizon=HORIZON), HORIZON)
    task, inside = engine.task, []
    for _, step in zip(range(HORIZON), policy.step_sizes(engine), strict=False):
        inside.append(float(step[0]))
        engine.advance(step)
    model = perceptron().double()
    torch.nn.utils.vector_to_parameters(torch.tensor(task.first[0]), model.parameters())
    learner = OPTIMIZERS[optimizer](model.parameters())
    scheduler = LearnedStepSize(learner, policy, HORIZON, batch_size=4)
    data, chosen = POINTS[split_rows(60, "train")][task.rows[0]], []
    for t in range(HORIZON):
        which = task.batches[0, t]
        loss = torch.nn.functional.cross_entropy(model(torch.tensor(data[which])), torch.tensor(task.targets[0, which]))
        learner.zero_grad()
        loss.backward()
        scheduler.step(loss)
        learner.step()
        chosen += scheduler.get_last_lr()
    assert np.allclose(chosen, inside, rtol=1e-6, atol=0.0)
    assert len(set(inside)) > HORIZON / interval / 3
    theta = torch.nn.utils.parameters_to_vector(model.parameters()).detach().numpy()
    assert np.allclose(theta, engine.theta[0, : len(theta)], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("make", [*OPTIMIZERS.values(), *OTHERS.values()], ids=[*OPTIMIZERS, *OTHERS])
def test_an_update_is_the_optimisers_own_with_the_lr_that_is_told(make: Any) -> None:
    loop = Loop(tame("relative", "dynamic"), make, torch.float64, horizon=10)
    twin = Loop(fixed(0.0), make, torch.float64)
    twin.scheduler.detach()
    for _ in range(10):
        twin.model.load_state_dict(loop.model.state_dict())
        loop.run(1)
        twin.loss()
        for group, rate in zip(twin.optimizer.param_groups, loop.scheduler.get_last_lr(), strict=True):
            group["lr"] = rate
        twin.optimizer.step()
        assert torch.allclose(loop.theta(), twin.theta(), rtol=1e-6, atol=1e-9)
    assert len(set(loop.rates)) == 10


def test_single_precision_takes_the_same_steps() -> None:
    """Also where the learning rate given is so small that no parameter would move; of SGD and of what is not SGD."""
    exact = Loop(gentle(), dtype=torch.float64, horizon=10).run(10)
    for kind in (torch.optim.SGD, Unknown):
        small = Loop(gentle(), lambda p: kind(p, lr=1e-12), horizon=10).run(10)  # noqa: B023
        assert small.rates == pytest.approx(exact.rates, rel=1e-4)


class Unknown(torch.optim.SGD):  # type: ignore[misc]
    """An optimiser of which nothing is known beforehand."""


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"momentum": 0.8},
        {"momentum": 0.8, "nesterov": True},
        {"momentum": 0.8, "dampening": 0.3, "weight_decay": 0.1},
        {"weight_decay": 0.1, "maximize": True},
    ],
    ids=str,
)
def test_what_is_foreseen_is_what_would_be_measured(options: dict[str, Any]) -> None:
    """In groups of two learning rates, and with a parameter that has a gradient now and then."""

    def rates(kind: Any) -> tuple[list[float], Any]:
        def make(parameters: Any) -> Any:
            first, *others = parameters
            return kind([{"params": [first], "lr": 0.2}, {"params": others, "lr": 0.05}], **options)

        loop = Loop(gentle(), make, torch.float64, horizon=10)
        sign = -1.0 if "maximize" in options else 1.0
        for t in range(10):
            loss = loop.loss()
            for p in loop.model.parameters():
                p.grad *= sign
            if t % 3 == 0:
                loop.model[2].bias.grad = None
            loop.scheduler.step(loss)
            loop.optimizer.step()
            loop.rates += loop.scheduler.get_last_lr()
        return loop.rates, loop.theta()

    (foreseen, theta), (measured, there) = rates(torch.optim.SGD), rates(Unknown)
    assert foreseen == pytest.approx(measured, rel=1e-9)
    assert len(set(foreseen)) == 20
    assert torch.allclose(theta, there, rtol=1e-9, atol=1e-12)


def test_sparse_gradients_are_foreseen() -> None:
    rates = []
    for sparse in (False, True):
        torch.manual_seed(0)
        table = torch.nn.Embedding(9, 4, sparse=sparse)
        optimizer = torch.optim.SGD(table.parameters(), lr=0.1)
        scheduler = LearnedStepSize(optimizer, gentle(), horizon=5)
        for t in range(5):
            optimizer.zero_grad()
            loss = (table(torch.arange(t, t + 4)) ** 2).mean()
            loss.backward()
            scheduler.step(loss)
            optimizer.step()
            rates += scheduler.get_last_lr()
    assert rates[:5] == pytest.approx(rates[5:], rel=1e-6)


def test_groups_keep_their_ratios() -> None:
    def two_groups(parameters: Any) -> Any:
        first, *others = parameters
        return torch.optim.SGD([{"params": [first], "lr": 0.2}, {"params": others, "lr": 0.05}])

    loop = Loop(tame("relative", "dynamic"), two_groups, horizon=5)
    assert loop.scheduler.get_last_lr() == [0.2, 0.05]
    for _ in range(5):
        loop.run(1)
        first, second = loop.scheduler.get_last_lr()
        assert first == loop.optimizer.param_groups[0]["lr"]
        assert first / second == pytest.approx(4.0)


def test_what_the_policy_is_told_of_the_model_can_be_corrected() -> None:
    policy = tame("relative", "dynamic")
    plain, same = Loop(policy).run(3), Loop(policy, descriptor={"log10_classes": math.log10(3)}).run(3)
    other = Loop(policy, descriptor={"relu": 1.0}).run(3)
    assert plain.rates == same.rates != other.rates
    assert plain.rates != Loop(policy, batch_size=1).run(3).rates


def test_parameters_that_are_frozen_count_for_nothing() -> None:
    def rates(first: int) -> list[float]:
        def only_the_last_layer(parameters: Any) -> Any:
            known = list(parameters)
            for frozen in known[:2]:
                frozen.requires_grad_(False)
            return torch.optim.SGD(known[first:], lr=0.3)

        return Loop(tame("relative", "dynamic"), only_the_last_layer).run(3).rates

    assert rates(0) == rates(2)


# Horizons


def test_an_unknown_horizon_is_doubled_when_it_has_passed() -> None:
    policy = gentle()
    unknown, fifty, hundred = (Loop(policy, horizon=horizon) for horizon in (None, 50, 100))
    assert unknown.run(50).rates == fifty.run(50).rates != hundred.run(50).rates
    unknown.run(60)
    assert all(math.isfinite(rate) for rate in unknown.rates)


def test_beyond_the_horizon_steps_stay() -> None:
    loop = Loop(tame("relative", "dynamic"), horizon=4).run(4)
    with pytest.warns(RuntimeWarning, match="horizon of 4 updates has passed"):
        loop.run(1)
    loop.run(2)
    assert loop.rates[3:] == [loop.rates[3]] * 4
    assert len(set(loop.rates)) == 4


# Between decisions


@pytest.mark.parametrize("make", [*OPTIMIZERS.values(), *OTHERS.values()], ids=[*OPTIMIZERS, *OTHERS])
def test_updates_between_decisions_are_the_optimisers_own(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is measured for them."""
    loop = Loop(tame("relative", "dynamic", 4), make, torch.float64, horizon=10)
    twin = Loop(fixed(0.0), make, torch.float64)
    twin.scheduler.detach()
    asked: list[int] = []
    for name in ("check", "keep", "prepare"):
        kept = getattr(Updates, name)
        monkeypatch.setattr(Updates, name, lambda *args, _kept=kept: (asked.append(loop.scheduler.t), _kept(*args))[1])
    for _ in range(10):
        twin.model.load_state_dict(loop.model.state_dict())
        loop.run(1)
        twin.loss()
        for group, rate in zip(twin.optimizer.param_groups, loop.scheduler.get_last_lr(), strict=True):
            group["lr"] = rate
        twin.optimizer.step()
        assert torch.allclose(loop.theta(), twin.theta(), rtol=1e-6, atol=1e-9)
    assert set(asked) == {0, 4, 8}
    assert [len(set(loop.rates[first : first + 4])) for first in (0, 4, 8)] == [1, 1, 1]
    assert len(set(loop.rates)) == 3


def test_an_interval_does_not_outlast_the_horizon() -> None:
    loop = Loop(tame("relative", "dynamic", 3), horizon=5).run(5)
    with pytest.warns(RuntimeWarning, match="horizon of 5 updates has passed") as caught:
        loop.run(1)
    assert caught[0].filename == __file__
    loop.run(6)
    assert loop.rates[3:] == [loop.rates[3]] * 9
    with pytest.warns(RuntimeWarning, match="horizon of 3 updates has passed") as caught:
        Loop(tame("relative", "dynamic", 3), horizon=3).run(4)
    assert caught[0].filename == __file__


@pytest.mark.parametrize("interval", [1, 3])
@pytest.mark.parametrize("when", [4, 5])
def test_the_end_is_told_where_the_guard_steps_in(interval: int, when: int) -> None:
    loop = Loop(tame("relative", "dynamic", interval), horizon=5).run(when)
    with pytest.warns(RuntimeWarning) as caught:
        loop.run(1, times=math.nan).run(5)
    told = [str(warning.message) for warning in caught]
    assert sum("the loss is nan" in words for words in told) == 1
    assert sum("horizon of 5 updates has passed" in words for words in told) == 1
    assert len(set(loop.rates[when + 2 :])) == 1


def test_an_unknown_horizon_is_doubled_at_a_decision() -> None:
    policy = gentle()
    held = Policy(policy.layers, {**policy.header, "interval": 40})
    unknown, hundred = Loop(held), Loop(held, horizon=100)
    assert unknown.run(130).rates[:40] != hundred.run(80).rates[:40]
    assert len(set(unknown.rates)) == 4


# The guard


@pytest.mark.parametrize("make", [OPTIMIZERS["momentum"], OPTIMIZERS["adam"]])
@pytest.mark.parametrize("bad", [math.nan, 1e9])
@pytest.mark.parametrize("when", [5, 7, 8])
def test_the_guard_goes_back_to_the_last_decision(make: Any, bad: float, when: int) -> None:
    """Which was at update 4; that at update 8 has not been made."""
    policy = fixed(0.0)
    loop = Loop(Policy(policy.layers, {**policy.header, "interval": 4}), make).run(4)
    before = loop.theta()
    loop.run(when - 4)
    with pytest.warns(RuntimeWarning, match=f"update {when}: the loss is .*; back to before the last step size"):
        loop.run(1, times=bad)
    assert torch.equal(loop.theta(), before)
    assert loop.run(9).rates[-9:-5] == pytest.approx([0.1 * loop.rates[0]] * 4, rel=0.9)
    assert len(set(loop.rates[when + 1 : when + 5])) == 1


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_averages_that_met_a_bad_gradient_between_decisions_begin_anew(make: Any) -> None:
    policy = fixed(0.0)
    loop = Loop(Policy(policy.layers, {**policy.header, "interval": 4}), make).run(4)
    before = loop.theta()
    loop.run(1)
    loop.scheduler.step(loop.loss())
    loop.model[0].weight.grad[0, 0] = math.nan
    loop.optimizer.step()
    with pytest.warns(RuntimeWarning, match="update 6: the loss is nan"):
        loop.run(1)
    assert torch.equal(loop.theta(), before)
    assert not loop.optimizer.state
    assert loop.run(6).theta().isfinite().all()
    assert all(value.isfinite().all() for _, value in flat(loop.optimizer.state_dict()["state"]))


class OwnAdagrad(torch.optim.Adagrad):
    """An Adagrad with an option of its own."""

    def __init__(self, parameters: Any, **options: Any) -> None:
        super().__init__(parameters, **options)
        self.defaults["own"] = True


@pytest.mark.parametrize("cls", [torch.optim.Adagrad, OwnAdagrad])
def test_averages_that_are_made_beforehand_begin_anew(cls: Any) -> None:
    """Adagrad makes its sums when it is made; that of PyTorch 2.3 does not make them again."""
    policy = fixed(0.0)
    interval = Policy(policy.layers, {**policy.header, "interval": 4})
    loop = Loop(interval, lambda p: cls(p, lr=0.01, initial_accumulator_value=0.5)).run(5)
    loop.scheduler.step(loop.loss())
    loop.model[0].weight.grad[0, 0] = math.nan
    loop.optimizer.step()
    with pytest.warns(RuntimeWarning, match="update 6: the loss is nan"):
        loop.run(1)
    state = loop.optimizer.state
    assert len(state) == 4
    assert all((of["sum"] == 0.5).all() and of["step"] == 0 for of in state.values())
    assert loop.run(6).theta().isfinite().all()


@pytest.mark.parametrize("make", [OPTIMIZERS["momentum"], OPTIMIZERS["adam"]])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e9])
def test_the_guard_goes_back_and_shrinks(make: Any, bad: float) -> None:
    loop = Loop(fixed(0.0), make).run(3)
    before = loop.theta()
    loop.run(1)
    state = {key: value.clone() for key, value in flat(loop.optimizer.state_dict()["state"])}
    with pytest.warns(RuntimeWarning, match="update 4: the loss is .*; back to before the last step"):
        loop.run(1, times=bad)
    assert torch.equal(loop.theta(), before)
    assert all(torch.equal(state[key], value) for key, value in flat(loop.optimizer.state_dict()["state"]))
    assert loop.run(5).rates[-5] <= 0.1 * loop.rates[3] * (1 + 1e-12)


def flat(state: Any) -> list[tuple[Any, Any]]:
    return [((p, name), value) for p, of_p in state.items() for name, value in of_p.items() if value is not None]


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_gradients_that_are_not_finite_are_left_out(make: Any) -> None:
    loop = Loop(fixed(0.0), make).run(2)
    before = loop.theta()
    loop.run(1)
    loop.scheduler.step(loop.loss())
    loop.model[0].weight.grad[0, 0] = math.nan
    with pytest.warns(RuntimeWarning, match="the (gradient|update), or its square, is not finite"):
        loop.optimizer.step()
    assert torch.equal(loop.theta(), before)
    assert loop.run(3).theta().isfinite().all()
    assert all(value.isfinite().all() for _, value in flat(loop.optimizer.state_dict()["state"]))


def test_a_run_that_explodes_is_brought_back() -> None:
    """Steps that grow a hundredfold each time, for ever."""
    loop = Loop(fixed(1.0), explodes_at=50.0)
    with pytest.warns(RuntimeWarning, match="on with steps of"):
        loop.run(40)
    assert loop.theta().isfinite().all()
    exploded = [not loss < 50.0 * loop.losses[0] for loss in loop.losses]
    assert any(exploded)
    assert not any(now and then for now, then in pairwise(exploded))


def test_a_run_that_grows_its_steps_for_ever_begins_lower_each_time() -> None:
    loop, least = Loop(fixed(1.0), explodes_at=50.0), []
    for _ in range(3):
        with pytest.warns(RuntimeWarning) as caught:
            loop.until(lambda: bool(caught.list))
        least.append(float(str(caught[0].message).rpartition(" ")[2]))
    assert least[1] <= 0.11 * least[0]
    assert least[2] <= 0.11 * least[1]


def test_the_guard_keeps_at_it() -> None:
    loop = Loop(fixed(0.0)).run(2)
    with pytest.warns(RuntimeWarning, match="update 2"):
        loop.run(1, times=math.nan)
    before = loop.theta()
    with pytest.warns(RuntimeWarning, match="update 3"):
        loop.run(1, times=math.nan)
    assert torch.equal(loop.theta(), before)
    assert not torch.equal(loop.run(1).theta(), before)


def test_averages_that_are_too_large_to_go_on_from_begin_anew() -> None:
    loop = Loop(tame("relative", "dynamic", 4), OPTIMIZERS["momentum"]).run(5)
    loop.loss()
    next(iter(loop.model.parameters())).grad[0, 0] = 1e24  # finite, its square is not; no decision is due
    loop.scheduler.step(1.0)
    loop.optimizer.step()
    with pytest.warns(RuntimeWarning, match="update"):
        loop.run(4)
    before = loop.theta()
    assert not torch.equal(loop.run(4).theta(), before)
    assert loop.losses[-1] < loop.losses[0]


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_parameters_that_are_not_finite_are_found_at_the_next_decision(make: Any) -> None:
    loop = Loop(tame("relative", "dynamic", 4), make).run(5)
    weight = next(iter(loop.model.parameters()))
    with torch.no_grad():
        weight[0, 0] = math.inf  # tanh makes a finite loss of it
    with pytest.warns(RuntimeWarning, match="a parameter is not finite"):
        loop.run(4)
    assert bool(weight.isfinite().all())


def broken_off(loop: Loop) -> Any:
    """Break off an update once it is made; return the hook that did."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    loop.scheduler.detach()
    hook = loop.optimizer.register_step_post_hook(interrupt)
    loop.scheduler = LearnedStepSize(loop.optimizer, fixed(0.0))  # its hook comes after
    loop.scheduler.step(loop.loss())
    with pytest.raises(KeyboardInterrupt):
        loop.optimizer.step()
    return hook


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_what_is_broken_off_in_the_optimiser_is_undone(make: Any) -> None:
    loop = Loop(fixed(0.0), make).run(3)
    before = loop.theta()
    first, again = broken_off(loop), loop.scheduler
    assert not torch.equal(loop.theta(), before)
    first.remove()
    again.step(loop.loss())
    assert torch.equal(loop.theta(), before)
    assert loop.optimizer.param_groups[0]["lr"] == again.get_last_lr()[0]
    assert not loop.optimizer.state
    again.detach()  # undoes it no second time
    loop.optimizer.step()
    assert not torch.equal(loop.theta(), before)


def test_a_scheduler_that_is_detached_undoes_what_was_broken_off() -> None:
    loop = Loop(fixed(0.0), OPTIMIZERS["adam"])
    before = loop.theta()
    broken_off(loop)
    assert not torch.equal(loop.theta(), before)
    loop.scheduler.detach()
    assert torch.equal(loop.theta(), before)


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_the_learning_rate_that_was_given_does_not_matter(name: str) -> None:
    kind = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[name]
    found = [Loop(fixed(0.0), lambda p, lr=lr: kind(p, lr=lr)).run(5).rates for lr in (1e-12, 1e-3, 1e3)]
    assert found[1] == pytest.approx(found[0], rel=1e-5)
    assert found[2] == pytest.approx(found[0], rel=1e-5)


# Saved runs


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("guarded", [False, True])
@pytest.mark.parametrize(("strategy", "interval"), [("random", 1), ("dynamic", 3)])  # in the middle of an interval
@pytest.mark.filterwarnings("ignore:update 3", "ignore:the horizon of 12 updates has passed")
def test_what_is_saved_goes_on_bit_for_bit(make: Any, guarded: bool, strategy: str, interval: int) -> None:
    policy = tame("relative", strategy, interval)
    loop = Loop(policy, make, horizon=12).run(3)
    loop.run(1, times=math.nan if guarded else 1.0)
    file = io.BytesIO()
    torch.save([part.state_dict() for part in (loop.model, loop.optimizer, loop.scheduler)], file)
    again = Loop(policy, make)
    for part, state in zip(
        (again.model, again.optimizer, again.scheduler),
        torch.load(io.BytesIO(file.getvalue()), weights_only=True),
        strict=True,
    ):
        part.load_state_dict(state)
    assert again.scheduler.get_last_lr() == loop.scheduler.get_last_lr()
    assert again.run(8).rates == loop.run(8).rates[4:]
    assert torch.equal(again.theta(), loop.theta())
    with pytest.warns(RuntimeWarning, match="update 12"):
        again.run(1, times=math.nan)
    with pytest.warns(RuntimeWarning, match="update 12"):
        loop.run(1, times=math.nan)
    assert torch.equal(again.theta(), loop.theta())


def test_a_state_of_something_else_is_refused() -> None:
    loop = Loop(tame("relative", "dynamic")).run(2)
    state, rates = loop.scheduler.state_dict(), loop.scheduler.get_last_lr()
    other = LearnedStepSize(torch.optim.SGD(torch.nn.Linear(5, 7).parameters(), lr=1.0), fixed(0.0))
    for wrong, words in (
        ({"t": 3}, "the state has .*updates"),
        (other.state_dict(), "the state is of 42 parameters in 1 groups, not of 66"),
        (Loop(fixed(0.0)).run(1).scheduler.state_dict(), "was trained on the features"),
        (Loop(gentle()).run(1).scheduler.state_dict(), "the state is of the policy"),
        (Loop(fixed(0.0), OPTIMIZERS["adam"]).run(1).scheduler.state_dict(), "of the updates of Adam, not of SGD"),
    ):
        with pytest.raises(ValueError, match=words):
            loop.scheduler.load_state_dict(wrong)
    assert (loop.scheduler.t, loop.scheduler.get_last_lr()) == (2, rates)
    loop.scheduler.load_state_dict(state)
    loop.scheduler.step(loop.loss())
    with pytest.raises(RuntimeError, match="a state is taken after"):
        loop.scheduler.state_dict()


@pytest.mark.parametrize("make", [OPTIMIZERS["sgd"], OPTIMIZERS["adam"]])
def test_numbers_that_cannot_be_are_refused_and_change_nothing(make: Any) -> None:
    loop, other = Loop(gentle(), make).run(3), Loop(gentle(), make).run(1)
    state, rates = loop.scheduler.state_dict(), other.scheduler.get_last_lr()
    updates: dict[str, Any] = state["updates"]
    wrong: list[dict[str, Any]] = [{"highest": -1.0}, {"most": 0.0}, {"t": -1}]
    odd = [{"_move": 4}, {"_earlier": updates["_before"]}, {"rates": [-1.0]}]
    wrong += [{"updates": {**updates, **part}} for part in odd]
    before = {name: value for name, value in other.scheduler.state_dict().items() if name != "updates"}
    for bad in [*(bad for _, bad in spoilt(state)), *({**state, **part} for part in wrong)]:
        with pytest.raises(ValueError, match=r"the state|noise is|rows 0 and 1"):
            other.scheduler.load_state_dict(bad)
        assert {name: value for name, value in other.scheduler.state_dict().items() if name != "updates"} == before
        assert other.scheduler.get_last_lr() == rates


# Bad input


def test_a_copy_is_refused() -> None:
    loop = Loop(fixed(0.0))
    for copied in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="load its state_dict"):
            copied(loop.scheduler)


def test_parameters_without_numbers_are_no_obstacle() -> None:
    for sizes in ((0, 4), (4, 0)):
        empty = torch.nn.Parameter(torch.zeros(sizes))
        LearnedStepSize(
            torch.optim.SGD([empty, *perceptron().parameters(), empty.clone().detach()], lr=1.0), fixed(0.0)
        )
    with pytest.raises(ValueError, match="an optimizer has parameters"):
        LearnedStepSize(torch.optim.SGD([{"params": []}], lr=1.0), fixed(0.0))


@pytest.mark.parametrize("name", ["LBFGS", "Rprop", "ASGD"])
def test_optimisers_without_a_step_are_refused(name: str) -> None:
    with pytest.raises(TypeError, match=f"the updates of {name} are no multiples of lr"):
        LearnedStepSize(getattr(torch.optim, name)(perceptron().parameters()), fixed(0.0))


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"horizon": 0}, ValueError, "horizon is a whole number"),
        ({"batch_size": 0}, ValueError, "batch_size is a whole number"),
        ({"explodes_at": 1.0}, ValueError, "explodes_at is a number above 1"),
        ({"descriptor": {"width": 3.0}}, ValueError, "descriptor has the names log10_dimension.*not 'width'"),
        ({"descriptor": {"relu": math.nan}}, ValueError, "descriptor is of at most 8 finite numbers"),
        ({"policy": "no-such-policy"}, FileNotFoundError, "neither a file nor a shipped policy"),
        ({"policy": 3}, TypeError, "policy is a Policy"),
        ({"policy": Policy(fixed(0.0).layers, {**fixed(0.0).header, "history": 2})}, ValueError, "trained on the feat"),
        ({"optimizer": 3}, TypeError, "optimizer is a torch.optim.Optimizer"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], error: type[Exception], words: str) -> None:
    optimizer = torch.optim.SGD(perceptron().parameters(), lr=0.1)
    with pytest.raises(error, match=words):
        LearnedStepSize(**{"optimizer": optimizer, "policy": fixed(0.0), **options})
    assert not optimizer._optimizer_step_pre_hooks


def test_a_learning_rate_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="learning rates of parameter groups are above 0"):
        LearnedStepSize(torch.optim.SGD(perceptron().parameters(), lr=0.0), fixed(0.0))


@pytest.mark.parametrize("loss", [math.nan, math.inf, 0.0, -1.0])
def test_a_run_that_begins_badly_is_refused(loss: float) -> None:
    loop = Loop(fixed(0.0))
    before = loop.theta()
    with pytest.raises(ValueError, match="the first loss is above 0 and finite"):
        loop.run(1, times=loss)
    assert torch.equal(loop.theta(), before)
    loop.run(1)


def without_gradient(loop: Loop) -> None:
    loop.scheduler.step(1.0)
    loop.optimizer.zero_grad()


def first_gradient(loop: Loop) -> None:
    loop.scheduler.step(loop.loss())
    loop.model[0].bias.grad[:] = math.inf


def changed_rate(loop: Loop) -> None:
    loop.scheduler.step(loop.loss())
    loop.optimizer.param_groups[0]["lr"] = 7.0


def new_group(loop: Loop) -> None:
    loop.scheduler.step(loop.loss())
    loop.optimizer.add_param_group({"params": [torch.nn.Parameter(torch.zeros(2))]})


def new_parameter(loop: Loop) -> None:
    loop.scheduler.step(loop.loss())
    loop.optimizer.param_groups[0]["params"][0] = torch.nn.Parameter(torch.zeros(2))


@pytest.mark.parametrize(
    ("prepare", "error", "words"),
    [
        (lambda loop: loop.loss(), RuntimeError, r"step\(loss\) comes between loss.backward\(\) and optimizer.step"),
        (without_gradient, RuntimeError, "no parameter has a gradient"),
        (first_gradient, ValueError, "the first gradient, and its square, is finite"),
        (changed_rate, RuntimeError, r"something else has changed the learning rates from \[0.3\] to \[7.0\]"),
        (new_group, RuntimeError, "parameter groups have changed"),
        (new_parameter, RuntimeError, "parameter groups have changed"),
    ],
)
def test_a_loop_that_cannot_go_on_is_an_error_before_anything_moves(prepare: Any, error: Any, words: str) -> None:
    loop = Loop(fixed(0.0))
    prepare(loop)
    before = loop.theta()
    with pytest.raises(error, match=words):
        loop.optimizer.step()
    assert torch.equal(loop.theta(), before)
    assert not loop.optimizer.state


def test_an_optimizer_has_one_scheduler_at_a_time() -> None:
    loop = Loop(fixed(0.0)).run(2)
    with pytest.raises(ValueError, match=r"has a LearnedStepSize already: detach\(\) that"):
        LearnedStepSize(loop.optimizer, fixed(0.0))
    loop.run(1)
    loop.scheduler.detach()
    loop.scheduler = LearnedStepSize(loop.optimizer, fixed(0.0))
    assert loop.run(1).scheduler.t == 1


@pytest.mark.parametrize(("prepare", "words"), [(without_gradient, "no parameter"), (changed_rate, "something else")])
def test_between_decisions_too(prepare: Any, words: str) -> None:
    loop = Loop(tame("relative", "dynamic", 5)).run(2)
    prepare(loop)
    before = loop.theta()
    with pytest.raises(RuntimeError, match=words):
        loop.optimizer.step()
    assert torch.equal(loop.theta(), before)


def test_gradients_that_an_optimiser_is_to_scale_back_itself_are_refused() -> None:
    loop = Loop(fixed(0.0))
    loop.scheduler.step(loop.loss())
    loop.optimizer.grad_scale = torch.tensor(65536.0)  # as torch.amp.GradScaler tells a fused optimiser
    before = loop.theta()
    with pytest.raises(RuntimeError, match=r"scaler\.unscale_\(optimizer\) comes before scheduler\.step\(loss\)"):
        loop.optimizer.step()
    assert torch.equal(loop.theta(), before)
    loop.optimizer.grad_scale = None  # as after scaler.unscale_
    loop.optimizer.step()
    assert not torch.equal(loop.theta(), before)


def test_closures_are_refused() -> None:
    loop = Loop(fixed(0.0))
    loop.scheduler.step(loop.loss())
    with pytest.raises(RuntimeError, match="takes no closure"):
        loop.optimizer.step(loop.loss)


def test_parameters_without_a_gradient_stay() -> None:
    loop = Loop(tame("relative", "dynamic"))
    loop.model[0].weight.requires_grad_(False)
    before = loop.model[0].weight.clone()
    loop.run(3)
    assert torch.equal(loop.model[0].weight, before)
    assert len(set(loop.rates)) == 3


def test_the_loss_falls() -> None:
    loop = Loop(fixed(0.02), OPTIMIZERS["momentum"], horizon=30)
    first = loop.loss().item()
    assert loop.run(30).loss().item() < 0.8 * first
