"""The callback of Keras takes the steps of the environment to 1e-6, refuses what it cannot do, and guards its run."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")
pytest.importorskip("torch")
pytest.importorskip("keras")

import keras

from metalearn_env.adapters.keras import LearnedStepSize
from metalearn_env.descents import descent, num_carried
from metalearn_env.families.neural_network import NeuralNetwork
from metalearn_env.observations import feature_names
from metalearn_env.policy import Policy
from metalearn_env.stepper import Stepper

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras's own

X = np.random.default_rng(0).normal(size=(32, 3))
Y = X @ np.array([[1.0], [2.0], [-1.0]]) + 0.1 * np.random.default_rng(1).normal(size=(32, 1))
EPOCHS, BATCH = 3, 8
STEPS = EPOCHS * len(X) // BATCH


def linear(optimizer: Any, **options: Any) -> Any:
    """Return a linear model of three inputs that starts at zero, in double precision."""
    keras.utils.set_random_seed(0)
    layer = keras.layers.Dense(1, kernel_initializer="zeros", dtype="float64", **options)
    model = keras.Sequential([keras.Input((3,), dtype="float64"), layer])
    model.compile(optimizer, loss=keras.losses.MeanSquaredError(dtype="float64"))
    return model


def weights(model: Any) -> np.ndarray:
    """Return all parameters, one after the other."""
    return np.concatenate([variable.value.detach().numpy().ravel() for variable in model.trainable_variables])


def policy_of(scale: float = 0.03, shift: float = 0.0) -> Policy:
    """Return a policy of random weights whose steps are about the unit times 1000^shift."""
    policy = Policy.untrained(history=2, seed=0)
    weight, bias = policy.layers[-1]
    layers = (*policy.layers[:-1], (np.float32(scale) * weight, bias + np.float32(shift)))
    return Policy(layers, {**policy.header, "action": "absolute"})


def held(policy: Policy, interval: int, averaged: bool = False) -> Policy:
    """Return the policy that decides every ``interval`` steps."""
    return Policy(policy.layers, {**policy.header, "interval": interval, "averaged": averaged})


def fit(model: Any, callback: LearnedStepSize, **options: Any) -> Any:
    return model.fit(X, Y, epochs=EPOCHS, batch_size=BATCH, shuffle=False, verbose=0, callbacks=[callback], **options)


OPTIMIZERS = [
    ("sgd", lambda: keras.optimizers.SGD(0.3)),
    ("momentum", lambda: keras.optimizers.SGD(0.3, momentum=0.9)),
    ("adam", lambda: keras.optimizers.Adam(0.3, epsilon=1e-8)),
]


@pytest.mark.parametrize(("interval", "averaged"), [(1, False), (5, False), (5, True)])
@pytest.mark.parametrize(("name", "make"), OPTIMIZERS)
def test_steps_are_those_of_the_family(name: str, make: Any, interval: int, averaged: bool) -> None:
    """The directions are `metalearn_env.descents`', those that the environment moves along, the gradients NumPy's."""
    policy = held(policy_of(shift=-0.3), interval, averaged)
    callback = LearnedStepSize(policy, batch_size=BATCH)
    model = linear(make())
    fit(model, callback)
    theta, state, before, stepper, expected = np.zeros(4), np.zeros((1, num_carried(name, 4))), np.zeros(4), None, []
    lengthened = np.column_stack([X, np.ones(len(X))])
    for t in range(STEPS):
        rows = np.arange(t * BATCH, (t + 1) * BATCH) % len(X)
        error = lengthened[rows] @ theta - Y[rows, 0]
        loss, gradient = float(np.mean(error**2)), 2.0 * error @ lengthened[rows] / BATCH
        (moved,) = descent(name, 0.9, gradient[None], state, np.array([t]))
        direction, state = moved[:4], state + moved[4:]
        if stepper is None:
            unit = (0.1 if name == "momentum" else 1.0) * loss / -float(gradient @ direction)
            known = {"log10_dimension": np.log10(3), "log10_parameters": np.log10(4), "inverse_batch_size": 1 / BATCH}
            known["optimizer"] = {"sgd": 0.0, "momentum": 0.5, "adam": 1.0}[name]
            descriptor = [float(known.get(key, 0.0)) for key in NeuralNetwork.descriptor_names]
            stepper = Stepper(policy, unit=unit, horizon=STEPS, descriptor=descriptor)
        if stepper.looks:
            expected.append(stepper.observe(loss, float(direction @ direction), float(direction @ before)))
            before = direction
        else:
            expected.append(stepper.hold())
        theta = theta + expected[-1] * direction
    assert STEPS == 12
    assert len(set(expected)) == (12 if interval == 1 else 3)
    assert np.allclose(callback.step_sizes, expected, rtol=1e-6, atol=0.0)
    assert np.allclose(weights(model), theta, atol=1e-6)
    assert float(model.optimizer.learning_rate) == pytest.approx(expected[-1])


def test_the_first_learning_rate_makes_no_difference() -> None:
    chosen = []
    for rate in (1e-3, 10.0):
        callback = LearnedStepSize(policy_of(shift=-0.3))
        fit(linear(keras.optimizers.SGD(rate)), callback)
        chosen.append(callback.step_sizes)
    assert chosen[0] == chosen[1]


def test_after_fit_the_model_is_left_alone() -> None:
    model, callback = linear(keras.optimizers.SGD()), LearnedStepSize(policy_of(shift=-0.3))
    history = fit(model, callback, validation_data=(X, Y)).history
    assert history["val_loss"][-1] < history["val_loss"][0]
    assert "apply" not in vars(model.optimizer)
    assert "compute_loss" not in vars(model)
    chosen = list(callback.step_sizes)
    model.fit(X, Y, verbose=0)
    assert callback.step_sizes == chosen


@pytest.mark.parametrize("horizon", [None, 50])
def test_a_fit_that_begins_at_a_later_epoch_is_shorter(horizon: int | None) -> None:
    callback = LearnedStepSize(policy_of(shift=-0.3), horizon)
    model = linear(keras.optimizers.SGD())
    fit(model, callback, initial_epoch=2)
    left = (EPOCHS - 2) * STEPS // EPOCHS
    assert len(callback.step_sizes) == left
    assert callback._steps.horizon == (horizon or left)


def fixed(action: float) -> Policy:
    """Return a policy that takes the task's unit times 1000^action."""
    names = list(feature_names(1))
    layers = ((np.zeros((1, len(names)), np.float32), np.array([action], np.float32)),)
    return Policy(layers, {"history": 1, "action": "absolute", "strategy": "dynamic", "feature_names": names})


@pytest.mark.parametrize("interval", [1, 3])
def test_beyond_the_horizon_the_step_size_stays(interval: int) -> None:
    callback = LearnedStepSize(held(policy_of(shift=-0.3), interval), horizon=5)
    with pytest.warns(RuntimeWarning, match="the horizon of 5 updates has passed") as caught:
        fit(linear(keras.optimizers.SGD(0.3)), callback)
    assert sum("the horizon of 5" in str(warning.message) for warning in caught) == 1
    assert len(callback.step_sizes) == 12
    assert len(set(callback.step_sizes[4:])) == 1 < len(set(callback.step_sizes[:5]))


@pytest.mark.parametrize("name", ["SGD", "RMSprop"])
def test_momenta_that_carry_the_learning_rate(name: str) -> None:
    """A step size that is chosen once and held, and one that is chosen anew and the same, lead to the same place."""
    places = []
    for interval in (1, 5):
        model = linear(getattr(keras.optimizers, name)(0.3, momentum=0.9))
        fit(model, LearnedStepSize(held(fixed(-0.4), interval)))
        places.append(weights(model))
    assert places[0] == pytest.approx(places[1], rel=1e-5)


@pytest.mark.parametrize("make", [make for _, make in OPTIMIZERS], ids=[name for name, _ in OPTIMIZERS])
def test_what_has_gone_wrong_between_decisions_is_taken_back(make: Any) -> None:
    """A gradient that is not finite is seen by the next loss; averages that have met it begin anew."""
    model, callback, thetas = linear(make()), LearnedStepSize(held(fixed(-1.0), 3)), []

    class Poison(keras.callbacks.Callback):
        def on_train_begin(self, logs: Any = None) -> None:
            moving = model.optimizer.apply

            def apply(grads: Any, variables: Any = None) -> None:
                thetas.append(weights(model))
                if len(thetas) == 5:
                    grads[0][0, 0] = np.nan
                moving(grads, variables)

            model.optimizer.apply = apply

    with pytest.warns(RuntimeWarning, match="update 6: the loss is nan; back to before the last step size was chosen"):
        model.fit(X, Y, epochs=EPOCHS, batch_size=BATCH, shuffle=False, verbose=0, callbacks=[callback, Poison()])
    assert np.isnan(thetas[5]).any()
    assert np.array_equal(thetas[6], thetas[3])
    assert np.isfinite([*thetas[6:], weights(model)]).all()
    assert np.isnan(callback.step_sizes).tolist() == [t == 5 for t in range(STEPS)]


def test_variables_that_are_not_finite_are_found_at_the_next_decision() -> None:
    keras.utils.set_random_seed(0)
    layers = [keras.Input((3,)), keras.layers.Dense(4, activation="tanh"), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.SGD(), loss="mse")

    class Poison(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if batch == 1:
                model.trainable_variables[1].value.data[0] = np.inf  # tanh makes a finite loss of it

    with pytest.warns(RuntimeWarning, match="a variable is not finite"):
        model.fit(X, Y, batch_size=BATCH, shuffle=False, verbose=0, callbacks=[LearnedStepSize(fixed(-1.0)), Poison()])
    assert np.isfinite(weights(model)).all()


def test_the_guard_returns_to_where_the_loss_was_finite() -> None:
    model, callback = linear(keras.optimizers.SGD()), LearnedStepSize(fixed(1.0))
    with pytest.warns(RuntimeWarning) as caught:
        fit(model, callback)
    first = next(str(warning.message) for warning in caught if warning.category is RuntimeWarning)
    assert first.startswith("update 2: the loss is ")
    taken = np.array(callback.step_sizes)
    assert np.nanmin(taken) <= 0.1 * taken[0]
    assert np.isnan(callback.step_sizes[1])
    assert len(callback.step_sizes) == len(callback.losses) == STEPS
    assert callback.losses[2] < 1e3 * callback.losses[0]
    assert np.isfinite(weights(model)).all()


def test_a_first_loss_that_is_no_number_is_refused_and_nothing_moves() -> None:
    model = linear(keras.optimizers.SGD())
    with pytest.raises(ValueError, match="at the first step the loss is nan"):
        model.fit(X, np.full_like(Y, np.nan), verbose=0, callbacks=[LearnedStepSize(fixed(0.0))])
    assert not weights(model).any()
    fit(model, callback := LearnedStepSize(policy_of(shift=-0.3)))
    assert np.isfinite(callback.step_sizes).all()


class Breaks(keras.callbacks.Callback):  # type: ignore[misc]
    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        raise KeyboardInterrupt


def patched(model: Any) -> set[str]:
    return {"apply", "compute_loss", "make_train_function"} & {*vars(model.optimizer), *vars(model)}


def test_a_run_that_was_broken_off_leaves_the_first_model_where_a_second_is_fitted() -> None:
    first, second = linear(keras.optimizers.SGD()), linear(keras.optimizers.SGD())
    callback = LearnedStepSize(policy_of(shift=-0.3))
    with pytest.raises(KeyboardInterrupt):
        first.fit(X, Y, verbose=0, callbacks=[callback, Breaks()])
    fit(second, callback)
    assert not patched(first)
    assert not patched(second)


def test_a_model_may_be_compiled_anew_after_a_run_that_was_broken_off() -> None:
    model, callback = linear(keras.optimizers.SGD()), LearnedStepSize(policy_of(shift=-0.3))
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y, verbose=0, callbacks=[callback, Breaks()])
    model.compile(keras.optimizers.SGD(), loss="mse")
    model.fit(X, Y, verbose=0)
    assert len(callback.step_sizes) == 1
    assert not patched(model)


def test_a_run_that_was_broken_off_leaves_nothing_behind() -> None:
    model, first, second = linear(keras.optimizers.SGD()), *(LearnedStepSize(policy_of(shift=-0.3)) for _ in "ab")
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y, verbose=0, callbacks=[first, Breaks()])
    model.fit(X, Y, verbose=0)  # without any
    assert len(first.step_sizes) == 1
    assert not patched(model)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y, verbose=0, callbacks=[first, Breaks()])
    fit(model, second)
    assert len(first.step_sizes) == 1
    assert len(second.step_sizes) == STEPS
    assert "apply" not in vars(model.optimizer)


@pytest.mark.parametrize(
    ("optimizer", "words"),
    [
        (lambda: keras.optimizers.Ftrl(), "multiples of lr, not Ftrl"),
        (lambda: keras.optimizers.AdamW(), "not AdamW"),
        (lambda: keras.optimizers.SGD(weight_decay=0.1), "weight_decay=0.1 of the optimizer"),
        (lambda: keras.optimizers.SGD(use_ema=True), "use_ema=True"),
        (lambda: keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 10)), "not a schedule"),
    ],
)
def test_what_is_no_multiple_of_a_direction_is_refused(optimizer: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        fit(linear(optimizer()), LearnedStepSize(fixed(0.0)))


def test_constraints_are_refused() -> None:
    with pytest.raises(ValueError, match="constraint"):
        fit(linear(keras.optimizers.SGD(), kernel_constraint="non_neg"), LearnedStepSize(fixed(0.0)))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"horizon": 0}, "horizon is a whole number >= 1"),
        ({"batch_size": 0}, "batch_size is a whole number >= 1"),
        ({"explodes_at": 1.0}, "explodes_at is a number above 1"),
        ({"descriptor": {"depth": 1.0}}, "descriptor has the names"),
        ({"descriptor": {"relu": float("nan")}}, "finite"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        LearnedStepSize(fixed(0.0), **options)


def test_a_policy_that_does_not_fit_is_refused_with_both_lists() -> None:
    old = Policy(fixed(0.0).layers, {**fixed(0.0).header, "feature_names": ["loss"]})
    with pytest.raises(ValueError, match=r"(?s)\['loss'\].*but these are.*kind_supervised"):
        LearnedStepSize(old)
    with pytest.raises(FileNotFoundError, match="shipped policy"):
        LearnedStepSize("nowhere")
