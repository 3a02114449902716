"""A learned step size in a training loop of one's own: any model, any data, nearly any optimiser of `torch.optim`.

    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = LearnedStepSize(optimizer, horizon=1000)
    for x, y in batches:
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        scheduler.step(loss)  # after backward(), before optimizer.step()
        optimizer.step()

**Order of calls.** A step is chosen from where it starts: from the loss of this minibatch and from the direction in
which the optimiser is about to move. So `LearnedStepSize.step` comes *before* ``optimizer.step()``, which is an error
without it. It hands over the loss; within ``optimizer.step()``, by its hooks, the policy is shown what
`MetaLearn/NeuralNetwork-v0` would show, by the same code, and the optimiser makes its own update with the learning rate
that the policy chooses. Of `torch.optim.SGD` the update is known beforehand; that of any other is made, measured, and
scaled; hooks that look at parameters after ``optimizer.step()`` are registered after this. From then on
``optimizer.param_groups[i]["lr"]`` is the learning rate of that update. Groups keep the ratios of the learning rates
that they began with; otherwise those do not matter. Hooks that change gradients before ``optimizer.step()`` are
registered before this.

**Interval.** A policy that holds a step size for an ``interval`` of updates looks at directions, and chooses, at its
decisions alone: at each of the updates of its ``opening``, and then once in an interval. In between the optimiser makes
its updates with the learning rate that it has, and nothing but the loss is looked at. The policy "neural-network" has
an opening of 32 and an interval of 64. A policy that sees means (``averaged``) looks at every update.

**Horizon.** The policy is told how much of the run has passed. Steps beyond the horizon are as long as the last one
within. Of an unknown one, None, the policy is told 50 steps, and twice as many whenever they have passed.

**Guard.** Where a loss is not finite or ``explodes_at`` times the first, or, at a decision, a gradient (or its square)
or a parameter is not finite, the parameters go back to where they were at the last decision (of policies that look
each time: before the last step), the optimiser is given no gradient, so that its averages meet no bad one, and there is
a `RuntimeWarning`; averages that have met one since the last decision begin anew. An ``optimizer.step()`` that was
broken off at a decision is undone by the next `step`, and averages begin anew; between two decisions, what it has done
stays. The run goes on like a new one of the steps that are left, from its natural step size, but at most from a tenth
of the last one, or of where the run before began, if that is less. At the very first step, with nothing to go back to,
it is a `ValueError`.

What cannot be seen is not undone: other state of the model, such as running means of batch normalisation, and a bad
gradient between two decisions where no loss follows, at the very end of a run. A process of distributed training gives
`step` the mean loss of all, so that all choose the same step. Four numbers are kept for each parameter.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakSet

try:
    import torch
except ImportError as error:
    raise ImportError('the adapter needs PyTorch: pip install torch (or "metalearn-env[agents]")') from error

from metalearn_env.guard import STATE, GuardedStepper
from metalearn_env.model_descriptor import describe_model
from metalearn_env.policy import Policy, as_policy
from metalearn_env.ranges import as_integer
from metalearn_env.states import number
from metalearn_env.updates import Updates

_STATE = ("t", *STATE, "updates")
_CHOSEN_FOR: WeakSet[torch.optim.Optimizer] = WeakSet()  # optimisers that have a LearnedStepSize


class LearnedStepSize:
    """Chooses the learning rate of every update of an optimiser by a trained policy; see the module for its use.

    Args:
        optimizer: of `torch.optim`, or another whose updates are multiples of lr; not LBFGS, Rprop, ASGD, Adafactor.
        policy: a policy, the name of a shipped one, or the path of a file.
        horizon: updates of the run; None: unknown.
        batch_size: examples of a minibatch, of which the policy is told; None: all examples, or very many.
        descriptor: what the policy is told of the model in place of what the parameters tell, by the names of
            `NeuralNetwork.descriptor_names`: as of a chain of layers, the inputs of whose first matrix are those of the
            model and the outputs of the last its classes.
        explodes_at: times the first loss, from which the guard steps in.

    Raises:
        FileNotFoundError: there is no such policy.
        TypeError: an optimiser, or policy, that is none.
        ValueError: a value that cannot be honoured, or an optimiser that another one chooses for: `detach` that first.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        policy: Policy | str | Path = "neural-network",
        horizon: int | None = None,
        *,
        batch_size: int | None = None,
        descriptor: Mapping[str, float] | None = None,
        explodes_at: float = 1e3,
    ) -> None:
        self._updates = Updates(optimizer)
        if optimizer in _CHOSEN_FOR:
            raise ValueError("the optimizer has a LearnedStepSize already: detach() that before another is made")
        self.optimizer, self.policy = optimizer, as_policy(policy)
        self._steps = GuardedStepper(
            self.policy,
            horizon=None if horizon is None else as_integer("horizon", horizon, minimum=1),
            descriptor=_described(optimizer, batch_size, descriptor or {}),
            explodes_at=explodes_at,
            last=self._updates.rates[0],
        )
        self.t = 0  # updates so far, those that were left out among them
        self._loss: float | None = None  # of the update to come
        self._skips = False  # that update is to be left out
        self._moves = False  # the optimiser makes it, from parameters that are remembered
        _CHOSEN_FOR.add(optimizer)
        self._hooks = optimizer.register_step_pre_hook(self._before), optimizer.register_step_post_hook(self._after)

    @property
    def horizon(self) -> int | None:
        """Updates of the run; None: unknown."""
        return self._steps.horizon

    def step(self, loss: Any) -> None:
        """Take in the loss of the minibatch whose gradient the optimiser is about to use.

        Raises:
            ValueError: the first loss is not finite and above 0.
        """
        value = loss.item() if isinstance(loss, torch.Tensor) else float(loss)
        if not self.t and not 0.0 < value < math.inf:
            raise ValueError(f"the first loss is above 0 and finite, since losses are compared by ratios, not {value}")
        self._undo_what_was_broken_off()
        self._loss, self._skips = value, False
        if not self._steps.accepts(value):
            self._retreat(f"the loss is {value:g}", stacklevel=3)

    def get_last_lr(self) -> list[float]:
        """Return the learning rates of the parameter groups in the last update; at first those they began with."""
        return list(self._updates.rates)

    def state_dict(self) -> dict[str, Any]:
        """Return all that changes with time, for `torch.save`; policy, optimiser and model are saved by themselves.

        Raises:
            RuntimeError: between `step` and ``optimizer.step()``.
        """
        if self._loss is not None:
            raise RuntimeError("a state is taken after optimizer.step(), not between it and step(loss)")
        return {"t": self.t, **self._steps.state_dict(), "updates": self._updates.state()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go back to what `state_dict` told, with the same policy; the optimiser's own state is loaded beside it.

        Raises:
            ValueError: something is missing, or cannot be, or is of another model or policy. Nothing has changed.
        """
        if missing := set(_STATE) - set(state_dict):
            raise ValueError(f"the state has {', '.join(sorted(missing))}; it has {sorted(state_dict)}")
        t = number(state_dict, "t", least=0, whole=True)
        self._updates.check_state(state_dict["updates"])
        self._steps.load_state_dict(state_dict)
        self._updates.restore(state_dict["updates"])
        self.t, self._loss, self._skips, self._moves = t, None, False, False

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Refuse to be copied: the optimiser's hooks would stay those of this one."""
        raise TypeError("a LearnedStepSize is not copied or pickled: load its state_dict() into a new one")

    def detach(self) -> None:
        """Leave the optimiser to itself, with the learning rates as they are."""
        self._undo_what_was_broken_off()
        _CHOSEN_FOR.discard(self.optimizer)
        for hook in self._hooks:
            hook.remove()

    def _before(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        if kwargs.get("closure", args[1] if len(args) > 1 else None) is not None:
            raise RuntimeError("optimizer.step() takes no closure here: the loss is given to step(loss) before it")
        if getattr(optimizer, "grad_scale", None) is not None:
            raise RuntimeError("gradients are scaled: scaler.unscale_(optimizer) comes before scheduler.step(loss)")
        if self._loss is None:
            raise RuntimeError("scheduler.step(loss) comes between loss.backward() and optimizer.step(), each time")
        if self.t == self.horizon:
            warnings.warn(f"the horizon of {self.horizon} updates has passed: lr stays", RuntimeWarning, stacklevel=3)
        if not (self._skips or self._steps.looks):
            self._updates.check_ready()
            self._steps.hold()
            return
        self._updates.check()
        with torch.no_grad():
            if not self._skips:
                self._look_ahead(self._loss)
            if self._skips:
                self._updates.drop()

    def _look_ahead(self, loss: float) -> None:
        """Choose the learning rate of the update to come, or one to measure it by."""
        updates = self._updates
        if not updates.remember():
            if not self.t:
                raise ValueError("parameters are finite at the first step; these are not")
            return self._retreat("a parameter is not finite", stacklevel=5)
        squared, alignment = updates.foresee() if updates.foreseen else (updates.gradient_norm(), 0.0)
        if not (math.isfinite(squared) and math.isfinite(alignment)):
            if not self.t:
                raise ValueError("the first gradient, and its square, is finite; this one is not")
            self._retreat("the gradient, or its square, is not finite", stacklevel=5)
        elif updates.foreseen:
            updates.keep(self._chosen(loss, squared, alignment))
            self._moves = True
        else:
            updates.prepare(squared)
            self._moves = True

    def _after(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        loss, self._loss = self._loss, None
        if self._moves and not self._updates.foreseen and loss is not None:
            with torch.no_grad():
                self._make_anew(loss)
        self._skips = self._moves = False
        self.t += 1

    def _make_anew(self, loss: float) -> None:
        """Choose the learning rate of the update that the optimiser has made, and make it with that."""
        squared, alignment = self._updates.measure()
        if math.isfinite(squared) and math.isfinite(alignment):
            self._updates.make(self._chosen(loss, squared, alignment))
        else:
            self._updates.undo(self._steps.last)
            self._retreat("the update, or its square, is not finite", stacklevel=5)

    def _undo_what_was_broken_off(self) -> None:
        """Put the parameters back where the optimiser has begun an update, and has not ended it."""
        if self._moves:
            with torch.no_grad():
                self._updates.undo(self._steps.last)
        self._moves = False

    def _chosen(self, loss: float, squared: float, alignment: float) -> float:
        natural = partial(self._updates.natural_step, loss, squared)
        return self._steps.choose(self.t, loss, squared, alignment, natural)

    def _retreat(self, why: str, stacklevel: int) -> None:
        """Leave out this update, go back to the last decision, and begin anew from there with smaller steps."""
        self._steps.retreat()
        with torch.no_grad():
            self._updates.back()
            self._updates.forget_bad_averages()
        self._skips = True
        warnings.warn(
            f"update {self.t}: {why}; back to before the last step size was chosen, "
            f"and on with steps of {self._steps.most:.3g}",
            RuntimeWarning,
            stacklevel=stacklevel,
        )


def _described(optimizer: torch.optim.Optimizer, batch_size: int | None, told: Mapping[str, float]) -> list[float]:
    """Return what `NeuralNetwork.descriptor` would tell of a model of such parameters."""
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
    matrices = [p for p in parameters if p.ndim > 1]
    plain = isinstance(optimizer, torch.optim.SGD)
    moving = "momentum" if plain and optimizer.param_groups[0]["momentum"] else "sgd"
    return describe_model(
        [(math.prod(matrix.shape[1:]), len(matrix)) for matrix in matrices],
        parameters=sum(p.numel() for p in parameters),
        optimizer=moving if plain else "adam",
        batch_size=batch_size,
        told=told,
    )
