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
without it. It hands over the loss; within ``optimizer.step()``, by its hooks, the optimiser makes its own update, the
update is measured, the policy is shown what `MetaLearn/NeuralNetwork-v0` would show, by the same code, and the update
is scaled to the step that it chooses. From then on ``optimizer.param_groups[i]["lr"]`` is the learning rate of that
update. Groups keep the ratios of the learning rates that they began with; otherwise those do not matter.

**Horizon.** The policy is told how much of the run has passed. Steps beyond the horizon are as long as the last one
within. Of an unknown one, None, the policy is told 50 steps, and twice as many whenever they have passed.

**Guard.** Where a loss or gradient is not finite, or a loss is ``explodes_at`` times that of the start, the parameters
go back to where they were before the last step, the optimiser is given no gradient, so that its averages never meet a
bad one, and there is a `RuntimeWarning`. The run goes on like a new one of the steps that are left, from a tenth of
the last step size, or its natural one, if that is less. At the very first step, with nothing to go back to, it is a
`ValueError`.

What cannot be seen is not undone: other state of the model, such as running means of batch normalisation. A process of
distributed training gives `step` the mean loss of all, so that all choose the same step. Four numbers are kept for
each parameter.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

try:
    import torch
except ImportError as error:
    raise ImportError('the adapter needs PyTorch: pip install torch (or "metalearn-env[agents]")') from error

from metalearn_env.families.neural_network import NeuralNetwork
from metalearn_env.model_descriptor import describe_model
from metalearn_env.policy import Policy, as_policy
from metalearn_env.ranges import as_integer, is_number
from metalearn_env.session import HORIZON
from metalearn_env.stepper import Stepper
from metalearn_env.updates import Updates

SHRUNK = 0.1  # of the last step size, after which the guard stepped in
_STATE = ("t", "horizon", "highest", "last", "most", "stepper", "updates")


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
        explodes_at: times the loss at the start, from which the guard steps in.

    Raises:
        FileNotFoundError: there is no such policy.
        TypeError: an optimiser, or policy, that is none.
        ValueError: a value that cannot be honoured.
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
        self.optimizer, self.policy = optimizer, as_policy(policy)
        self.horizon = None if horizon is None else as_integer("horizon", horizon, minimum=1)
        if not is_number(explodes_at) or explodes_at <= 1.0:
            raise ValueError(f"explodes_at is a number above 1, not {explodes_at!r}")
        self._explodes_at, self._descriptor = explodes_at, _described(optimizer, batch_size, descriptor or {})
        self.t = 0  # updates so far, those that were left out among them
        self._begun(1.0)  # whatever cannot be honoured is found out here
        self._stepper: Stepper | None = None  # of the run since the guard stepped in
        self._highest = 0.0  # loss at the start of a run
        self._last, self._most = self._updates.rates[0], math.inf  # the last step size; the most for the next run
        self._loss: float | None = None  # of the update to come
        self._skips = self._at_work = False  # that update is to be left out; it is being made
        self._hooks = optimizer.register_step_pre_hook(self._before), optimizer.register_step_post_hook(self._after)

    def step(self, loss: Any) -> None:
        """Take in the loss of the minibatch whose gradient the optimiser is about to use.

        Raises:
            ValueError: the first loss is not finite and above 0.
        """
        value = float(loss.detach() if isinstance(loss, torch.Tensor) else loss)
        if not self.t and not 0.0 < value < math.inf:
            raise ValueError(f"the first loss is above 0 and finite, since losses are compared by ratios, not {value}")
        self._loss, self._skips = value, False
        if self._stepper is None and math.isfinite(value):
            self._highest = max(self._highest, value)
        elif not -math.inf < value <= self._explodes_at * self._highest:
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
        values = (self.t, self.horizon, self._highest, self._last, self._most)
        parts = (None if self._stepper is None else self._stepper.state_dict(), self._updates.state())
        return dict(zip(_STATE, (*values, *parts), strict=True))

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go back to what `state_dict` told, with the same policy; the optimiser's own state is loaded beside it.

        Raises:
            ValueError: something is missing, or is of another model or policy. Nothing has changed.
        """
        if missing := set(_STATE) - set(state_dict):
            raise ValueError(f"the state has {', '.join(sorted(missing))}; it has {sorted(state_dict)}")
        self._updates.check_state(state_dict["updates"])
        stepper = None
        if state_dict["stepper"] is not None:
            stepper = self._begun(1.0)
            stepper.load_state_dict(state_dict["stepper"])
        self._updates.restore(state_dict["updates"])
        self._stepper, self._loss, self._skips = stepper, None, False
        self.t, self.horizon = state_dict["t"], state_dict["horizon"]
        self._highest, self._last, self._most = (state_dict[name] for name in ("highest", "last", "most"))

    def detach(self) -> None:
        """Leave the optimiser to itself, with the learning rates as they are."""
        for hook in self._hooks:
            hook.remove()

    def _before(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        if kwargs.get("closure", args[1] if len(args) > 1 else None) is not None:
            raise RuntimeError("optimizer.step() takes no closure here: the loss is given to step(loss) before it")
        if self._loss is None:
            raise RuntimeError("scheduler.step(loss) comes between loss.backward() and optimizer.step(), each time")
        self._updates.check()
        unseen = self._skips or (self.t > 0 and self._updates.forgets)
        norm = 0.0 if unseen else self._updates.gradient_norm()
        if not math.isfinite(norm):
            if not self.t:
                raise ValueError(f"the first gradient is finite; its norm is {norm}")
            self._retreat("the gradient is not finite", stacklevel=4)
        if self._skips:
            self._updates.drop()
        else:
            self._updates.prepare(norm)

    def _after(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        loss, self._loss = self._loss, None
        if not self._skips and loss is not None:
            squared, alignment = self._updates.measure()
            if math.isfinite(squared) and math.isfinite(alignment):
                self._last = self._chosen(loss, squared, alignment)
                self._updates.make(self._last)
            else:
                self._updates.undo(self._last)
                self._retreat("the update is not finite", stacklevel=4)
        self._skips = False
        self.t += 1

    def _chosen(self, loss: float, squared: float, alignment: float) -> float:
        if self._stepper is None:
            slope = self._updates.slope()
            unit = self._updates.share * loss / slope if slope > 0.0 else 0.0
            self._stepper = self._begun(min(unit if 0.0 < unit < math.inf else self._last, self._most))
        elif self.horizon is not None and self.t >= self.horizon:
            if self.t == self.horizon:
                warnings.warn(
                    f"the horizon of {self.horizon} updates has passed: lr stays", RuntimeWarning, stacklevel=4
                )
            return self._last
        elif self._stepper.t >= self._stepper.horizon:
            self._stepper.horizon *= 2
        return self._stepper.observe(loss, squared, alignment)

    def _begun(self, unit: float) -> Stepper:
        """Return a stepper for the updates that are left."""
        left = HORIZON if self.horizon is None else max(1, self.horizon - self.t)
        return Stepper(self.policy, unit=unit, horizon=left, kind=NeuralNetwork.kind, descriptor=self._descriptor)

    def _retreat(self, why: str, stacklevel: int) -> None:
        """Leave out this update, go back to before the last one, and begin anew from there with smaller steps."""
        if self._updates.accepted:
            self._most = SHRUNK * self._last
        self._updates.back()
        self._stepper, self._skips = None, True
        warnings.warn(
            f"update {self.t}: {why}; back to before the last step, and on with steps of {self._most:.3g}",
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
