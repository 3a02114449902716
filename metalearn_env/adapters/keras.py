"""A learned step size in ``model.fit`` of Keras 3, as a callback; on the torch backend.

    model.compile(keras.optimizers.SGD(), loss="mse")
    model.fit(x, y, epochs=10, callbacks=[LearnedStepSize()])

A step is chosen from where it starts: from the loss of the minibatch and the direction in which the optimiser is about
to move. While ``fit`` runs, the callback stands before ``optimizer.apply``: the optimiser makes its update at a
learning rate of 1 and from zero, so that the variables hold its direction; the policy is shown what
`MetaLearn/NeuralNetwork-v0` would show, by the same code, and the variables move so far. ``optimizer.learning_rate`` is
then the step size that was taken; what it was before ``fit`` does not matter. Between the decisions of a policy that
holds a step size for an ``interval`` of updates, the optimiser makes its own, and nothing but the loss is looked at,
unless the policy sees means (``averaged``). Beyond the horizon the step size stays what it was within.

**Guard.** Where a loss is not finite or ``explodes_at`` times the first, or, at a decision, a gradient or direction is
not finite, the variables go back to where they were at the last decision (of policies that look each time: before the
last step), the update is left out, and there is a
`RuntimeWarning`; averages of the optimiser that have met what is not finite begin anew. The run goes on like a new one
of the steps that are left, from its natural step size, but at most from a tenth of the last one, or of where the run
before began, if that is less. At the first step it is a `ValueError`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metalearn_env.descents import natural_step
from metalearn_env.guard import GuardedStepper
from metalearn_env.model_descriptor import describe_model
from metalearn_env.policy import Policy, as_policy
from metalearn_env.ranges import as_integer

try:
    import keras
except ImportError as error:
    raise ImportError('the adapter needs Keras and PyTorch: pip install "metalearn-env[keras]"') from error
if keras.backend.backend() != "torch":
    raise ImportError(f"the adapter needs Keras's torch backend (KERAS_BACKEND=torch), not {keras.backend.backend()!r}")

import torch

LINEAR = ("SGD", "Adam", "RMSprop", "Adagrad", "Adadelta", "Adamax", "Nadam", "Lion")  # in their learning rate
REFUSED = ("weight_decay", "use_ema", "gradient_accumulation_steps", "loss_scale_factor")

Tensors = list[torch.Tensor]


class LearnedStepSize(keras.callbacks.Callback):
    """Chooses the learning rate of every update of ``fit`` by a trained policy; see the module.

    Args:
        policy: a policy, the name of a shipped one, or the path of a file.
        horizon: updates of the run; None: those that ``fit`` is going to make.
        batch_size: examples of a minibatch, of which the policy is told; None: all examples, or very many.
        descriptor: what the policy is told of the model in place of what its kernels tell, by the names of
            `NeuralNetwork.descriptor_names`.
        explodes_at: times the first loss, from which the guard steps in.

    Attributes:
        step_sizes, losses: one of each for every update of the last ``fit``; NaN is the step that was left out.

    Raises:
        FileNotFoundError: there is no such policy.
        ValueError: a value that cannot be honoured; in ``fit``, an optimiser whose updates are not proportional to the
            learning rate, or variables with constraints.
    """

    def __init__(
        self,
        policy: Policy | str | Path = "neural-network",
        horizon: int | None = None,
        *,
        batch_size: int | None = None,
        descriptor: Mapping[str, float] | None = None,
        explodes_at: float = 1e3,
    ) -> None:
        super().__init__()
        self.policy = as_policy(policy)
        self.horizon = None if horizon is None else as_integer("horizon", horizon, minimum=1)
        self._batch_size, self._told, self._explodes_at = batch_size, dict(descriptor or {}), explodes_at
        self._patched: tuple[Any, Any] | None = None  # the model and the optimiser that it stands before
        self._carried = 1.0  # the learning rate that the optimiser's momenta are of
        self._steps = self._new_steps([], 1, "sgd")  # whatever cannot be honoured is found out here
        self.step_sizes: list[float] = []
        self.losses: list[float] = []

    def on_train_begin(self, logs: Any = None) -> None:
        """Take up a run."""
        self.on_train_end()  # of a run that was broken off
        optimizer, steps = self.model.optimizer, self.params.get("steps")
        _check(optimizer, self.model.trainable_variables)
        if self.horizon is None and not steps:
            raise ValueError("horizon is needed where fit does not know how many steps an epoch has")
        self.step_sizes, self.losses, self._loss = [], [], None
        self._steps = self._described_steps()
        self._earlier: Tensors | None = None  # the variables at the last decision
        self._before: torch.Tensor | None = None  # its direction, flat
        self._compute_loss, self._apply = self.model.compute_loss, optimizer.apply
        self.model.compute_loss, optimizer.apply = self._keeping_loss, self._moving
        self.model.make_train_function = self._let_go
        self._patched = self.model, optimizer

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Take in how many steps there are to come, if nobody has said; the first epoch may be a later one."""
        self._steps.horizon = self._steps.horizon or (self.params["epochs"] - epoch) * self.params["steps"]

    def on_train_end(self, logs: Any = None) -> None:
        """Leave model and optimiser to themselves."""
        if self._patched is not None:
            (model, optimizer), self._patched = self._patched, None
            self._carry(1.0, optimizer)
            del model.compute_loss, model.make_train_function, optimizer.apply

    def _let_go(self, *args: Any, **kwargs: Any) -> Any:
        """Stand in for ``model.make_train_function``, by which a fit begins: that of this callback is then over."""
        assert self._patched is not None
        model, _ = self._patched
        self.on_train_end()
        return model.make_train_function(*args, **kwargs)

    def _keeping_loss(self, *args: Any, **kwargs: Any) -> Any:
        self._loss = loss = self._compute_loss(*args, **kwargs)
        return loss

    @torch.no_grad()
    def _moving(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        """Stand in for ``optimizer.apply``."""
        optimizer = self.model.optimizer
        variables = self.model.trainable_variables if trainable_variables is None else list(trainable_variables)
        if self._loss is None:
            raise RuntimeError("the loss of a step is what model.compute_loss returns; it was not called")
        loss, self._loss = float(self._loss), None
        if len(self.step_sizes) == self._steps.horizon:
            passed = f"the horizon of {self._steps.horizon} updates has passed: the step size stays"
            warnings.warn(passed, RuntimeWarning, 2)
        if not self._steps.looks and self._steps.accepts(loss):
            self._carry(self._steps.last, optimizer)
            self._apply(grads, variables)
            self.losses.append(loss)
            return self.step_sizes.append(self._steps.hold())
        values = [variable.value.data for variable in variables]
        here = [value.clone() for value in values]
        self.losses.append(loss)
        bad = self._fault(loss, grads, here)
        if not bad:
            flat = self._direction(optimizer, grads, variables, here)
            before = torch.zeros_like(flat) if self._before is None else self._before
            squared, alignment = torch.stack((flat @ flat, flat @ before)).tolist()
            if not (math.isfinite(squared) and math.isfinite(alignment)):
                bad = "the square of the direction is not finite"
        if bad:
            return self._retreat(bad, values, here)

        def natural() -> float:
            return self._natural_step(loss, squared, grads, variables, flat)

        step = self._steps.choose(len(self.step_sizes), loss, squared, alignment, natural)
        parts = flat.split([value.numel() for value in values])
        direction = [part.view_as(value) for part, value in zip(parts, values, strict=True)]
        torch._foreach_add_(values, direction, alpha=step)
        _set_rate(optimizer, step)
        self._earlier, self._before = here, flat
        self.step_sizes.append(step)

    def _fault(self, loss: float, grads: Sequence[Any], here: Tensors) -> str:
        """Return what is wrong with a step, if anything; at the first step raise it."""
        found = ""
        if not self._steps.accepts(loss):
            found = f"the loss is {loss:g}"
        elif not math.isfinite(float(torch.stack(torch._foreach_norm([g for g in grads if g is not None])).sum())):
            found = "the gradient, or its square, is not finite"
        elif not math.isfinite(sum(float(value.sum()) for value in here)):
            found = "a variable is not finite"
        if found and len(self.losses) == 1:
            self.on_train_end()
            raise ValueError(f"at the first step {found}; it is finite and not negative")
        return found

    def _direction(self, optimizer: Any, grads: Sequence[Any], variables: Sequence[Any], here: Tensors) -> torch.Tensor:
        """Return the update, flat, that the optimiser makes at a learning rate of 1; the variables are as they were."""
        _set_rate(optimizer, 1.0)
        self._carry(1.0, optimizer)
        torch._foreach_zero_([variable.value.data for variable in variables])
        try:
            self._apply(grads, variables)
            return _flat([variable.value.data for variable in variables], variables)
        finally:
            torch._foreach_copy_([variable.value.data for variable in variables], here)

    def _carry(self, rate: float, optimizer: Any) -> None:
        """Let the momenta of Keras, sums of steps rather than of directions, be of a learning rate from now on."""
        if rate != self._carried and (momenta := _momenta(optimizer)):
            torch._foreach_mul_(momenta, rate / self._carried)
        self._carried = rate

    def _natural_step(
        self, loss: float, squared: float, grads: Sequence[Any], variables: Sequence[Any], flat: torch.Tensor
    ) -> float:
        here = _flat([variable.value.data for variable in variables], variables)
        slope, size = -float(_flat(grads, variables) @ flat), float(here.norm())
        share = 1.0 - getattr(self.model.optimizer, "momentum", 0.0)
        return float(natural_step(loss, slope, size, squared**0.5, share=share))

    def _retreat(self, why: str, values: Tensors, here: Tensors) -> None:
        """Go back to the last decision but this, from where a new run begins with smaller steps."""
        torch._foreach_copy_(values, self._earlier or here)
        for average in (variable.value.data for variable in self.model.optimizer.variables):
            if not math.isfinite(average.float().norm()):  # or its square
                average.zero_()
        self._steps.retreat()
        self._before = self._earlier = None
        _set_rate(self.model.optimizer, self._steps.most)
        self.step_sizes.append(math.nan)
        warnings.warn(
            f"update {len(self.losses)}: {why}; back to before the last step size was chosen, "
            f"and on with steps of {self._steps.most:.3g}",
            RuntimeWarning,
            stacklevel=2,
        )

    def _described_steps(self) -> GuardedStepper:
        """Return the step sizes of a run, by a policy that is told what `NeuralNetwork.descriptor` would tell."""
        variables, optimizer = self.model.trainable_variables, self.model.optimizer
        kernels = [variable.shape for variable in variables if len(variable.shape) > 1]
        matrices = [(math.prod(shape[:-1]), shape[-1]) for shape in kernels]
        plain = "momentum" if getattr(optimizer, "momentum", 0.0) else "sgd"
        parameters = sum(math.prod(variable.shape) for variable in variables)
        return self._new_steps(matrices, parameters, plain if type(optimizer).__name__ == "SGD" else "adam")

    def _new_steps(self, matrices: Sequence[tuple[int, int]], parameters: int, optimizer: str) -> GuardedStepper:
        known = describe_model(
            matrices, parameters=parameters, optimizer=optimizer, batch_size=self._batch_size, told=self._told
        )
        return GuardedStepper(self.policy, horizon=self.horizon, descriptor=known, explodes_at=self._explodes_at)


def _check(optimizer: Any, variables: Sequence[Any]) -> None:
    """Raise ``ValueError`` unless updates are so many times a direction."""
    name = type(optimizer).__name__
    if name not in LINEAR:
        raise ValueError(f"the optimizer is one of {', '.join(LINEAR)}, whose updates are multiples of lr, not {name}")
    for option in REFUSED:
        if getattr(optimizer, option, None):
            raise ValueError(f"{option}={getattr(optimizer, option)!r} of the optimizer cannot be honoured")
    if not isinstance(optimizer.learning_rate, keras.Variable):
        raise ValueError("the optimizer's learning rate is a number, not a schedule: the policy is its schedule")
    for variable in variables:
        if variable.constraint is not None:
            raise ValueError(f"{variable.path} has a constraint, which makes an update no multiple of a direction")


def _momenta(optimizer: Any) -> Tensors:
    """Return the optimiser's sums of steps, if it keeps any; its other averages are of gradients."""
    kept = {"SGD": "momentums", "RMSprop": "_momentums"}.get(type(optimizer).__name__)
    return [variable.value.data for variable in getattr(optimizer, kept, [])] if kept and optimizer.momentum else []


def _set_rate(optimizer: Any, rate: float) -> None:
    """Set the learning rate, without what Keras does about it."""
    optimizer.learning_rate.value.data.fill_(rate)


def _flat(tensors: Sequence[Any], variables: Sequence[Any]) -> torch.Tensor:
    """Return a tensor for each variable, or zeros for None, one after the other, in single precision or more."""
    pairs = zip(tensors, variables, strict=True)
    parts = [torch.zeros_like(variable.value) if tensor is None else tensor for tensor, variable in pairs]
    flat = torch.cat([part.reshape(-1) for part in parts])
    return flat.to(torch.promote_types(torch.float32, flat.dtype))
