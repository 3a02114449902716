"""The updates of a `torch.optim` optimiser: measured as multiples of its learning rate, made with another one.

An update is theta + lr d. Of `torch.optim.SGD` d is known beforehand (`metalearn_env.foresight`): the optimiser makes
its update once, with the learning rate that was chosen. Any other makes it with a learning rate that is not yet the one
to be taken, d is what theta has moved by, over it, and the update is made anew. That learning rate is such that the
move is about as large as theta itself, so that rounding takes no more from d than from the steps of the optimiser
alone, in single precision, too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import chain
from operator import is_
from typing import Any

from metalearn_env.descents import natural_step
from metalearn_env.foresight import dense, foreseeable, write_ascent
from metalearn_env.networks import torch_itself
from metalearn_env.states import POSITIVE, numbers

ALIGNED = 64  # numbers that rows begin at multiples of: inner products are faster so
NOT_LINEAR = ("LBFGS", "Rprop", "ASGD", "Adafactor")  # what they move by is no multiple of lr
_STATE = ("accepted", "rates", "ratios", "_scales", "_size", "_norm", "_before", "_earlier", "_move")
_LIMITS: dict[str, dict[str, Any]] = {
    "rates": {"least": POSITIVE},
    "ratios": {"least": POSITIVE},
    "_scales": {"shape": (2,)},
    "_size": {"shape": (), "least": 0.0, "most": math.inf},
    "_norm": {"shape": (), "least": 0.0, "most": math.inf},
    "_before": {"shape": (), "whole": True},
    "_earlier": {"shape": (), "whole": True},
    "_move": {"shape": (), "least": 2, "most": 3, "whole": True},
}
_KIND = "optimizer"  # whose updates a state is of


class Updates:
    """The updates of one optimiser; four numbers are kept for each parameter. Gradients are not recorded meanwhile.

    Args:
        optimizer: any of `torch.optim` but those of `NOT_LINEAR`, or another whose updates are multiples of lr.

    Attributes:
        ratios: learning rates of the parameter groups, over that of the first.
        rates: those of the last update.

    Raises:
        TypeError: it is none of these.
        ValueError: learning rates that are not above 0, or parameters that are not real.
    """

    def __init__(self, optimizer: Any) -> None:
        torch = self._torch = torch_itself()
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise TypeError(f"optimizer is a torch.optim.Optimizer, not {type(optimizer).__name__}")
        if isinstance(
            optimizer, tuple(getattr(torch.optim, name) for name in NOT_LINEAR if hasattr(torch.optim, name))
        ):
            raise TypeError(
                f"the updates of {type(optimizer).__name__} are no multiples of lr: there is no step to learn"
            )
        self.optimizer = optimizer
        self.rates = [float(group["lr"]) for group in optimizer.param_groups]
        if not all(0.0 < rate < math.inf for rate in self.rates):
            raise ValueError(f"learning rates of parameter groups are above 0 and finite, not {self.rates}")
        self.ratios = [rate / self.rates[0] for rate in self.rates]
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        if not self.parameters:
            raise ValueError("an optimizer has parameters; this one has none")
        if not all(p.is_floating_point() for p in self.parameters):
            raise ValueError(f"parameters are real numbers, not {sorted({str(p.dtype) for p in self.parameters})}")
        dtype, sizes = torch.float32, [p.numel() for p in self.parameters]
        for p in self.parameters:
            dtype = torch.promote_types(dtype, p.dtype)
        self.size = sum(sizes)
        width = ALIGNED * math.ceil(self.size / ALIGNED)
        self._flat = torch.zeros(4, width, dtype=dtype, device=self.parameters[0].device)
        self._views = [
            [part.view_as(p) for part, p in zip(row[: self.size].split(sizes), self.parameters, strict=True)]
            for row in self._flat
        ]
        self._before, self._earlier, self._move = 0, 1, 2  # rows: theta, theta of the update before; newest move (or 3)
        self._foreseeable = foreseeable(torch, optimizer)
        self.accepted = False  # whether there is an update to be taken back
        self._scales = [1.0, 1.0]  # the learning rates of the newest move and the one before
        self._size = self._norm = 0.0  # |theta|, roughly, and the newest |d|

    def check(self) -> None:
        """Raise ``RuntimeError`` unless parameters and learning rates are those that they are known to be."""
        groups, known = self.optimizer.param_groups, self.parameters
        now = groups[0]["params"] if len(groups) == 1 else list(chain(*(group["params"] for group in groups)))
        if len(groups) != len(self.rates) or len(now) != len(known) or not all(map(is_, now, known)):
            raise RuntimeError("the parameter groups have changed: detach() this LearnedStepSize, and make a new one")
        self.check_ready()

    def check_ready(self) -> None:
        """Raise ``RuntimeError`` unless learning rates are those that were set, and there is a gradient."""
        rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        if rates != self.rates:
            raise RuntimeError(f"something else has changed the learning rates from {self.rates} to {rates}")
        if all(p.grad is None for p in self.parameters):
            raise RuntimeError("no parameter has a gradient: loss.backward() comes before optimizer.step()")

    @property
    def foreseen(self) -> bool:
        """Whether `foresee` and `keep` stand for `prepare`, `measure` and `make`."""
        return self._foreseeable

    def foresee(self) -> tuple[float, float]:
        """Return |d|^2, and the inner product of d and the d before, of the update that the optimiser is to make.

        Where either is not finite, the d before stays what it was.
        """
        self._move, self._scales = 5 - self._move, [-1.0, self._scales[0]]
        views, last = self._views[self._move], 0
        for group, ratio in zip(self.optimizer.param_groups, self.ratios, strict=True):
            first, last = last, last + len(group["params"])
            write_ascent(self._torch, group, ratio, self.optimizer.state, views[first:last])
        squared, alignment = self._products()
        if not (math.isfinite(squared) and math.isfinite(alignment)):
            self._move, self._scales = 5 - self._move, self._scales[::-1]
        return squared, alignment

    def remember(self) -> bool:
        """Keep theta as it is, if it is finite, and return whether it is."""
        self._torch._foreach_copy_(self._views[self._before], self.parameters)
        return math.isfinite(self._flat[self._before].sum())

    def keep(self, rate: float) -> None:
        """Give the optimiser the learning rate of its update, to which one can go `back` from now on."""
        self._before, self._earlier, self.accepted = self._earlier, self._before, True
        self.set(rate)

    def gradient_norm(self) -> float:
        """Return the norm of the gradient; infinity or NaN if it is not finite."""
        gradients = [dense(p.grad) for p in self.parameters if p.grad is not None]
        return float(self._torch.stack(self._torch._foreach_norm(gradients)).norm())

    def drop(self) -> None:
        """Leave the optimiser nothing to do."""
        for p in self.parameters:
            p.grad = None

    def prepare(self, gradient_norm: float) -> None:
        """Give the optimiser the learning rate at which it is to move."""
        scale = self.rates[0]
        if not self._size:
            self._size = float(self._flat[self._before].norm())
            plain = isinstance(self.optimizer, self._torch.optim.SGD)
            self._norm = gradient_norm if plain else self.size**0.5  # adaptive optimisers begin with moves of about lr
        if self._norm > 0.0 and 0.0 < self._size / self._norm < math.inf:
            scale = self._size / self._norm
        self.set(scale)
        self._scales = [self.rates[0], self._scales[0]]
        self._move = 5 - self._move

    def measure(self) -> tuple[float, float]:
        """Return |d|^2, and the inner product of d and the d before, of the update that the optimiser has made."""
        for p, start, move in self._triples():
            self._torch.sub(p, start, out=move)
        squared, alignment = self._products()
        if math.isfinite(squared):
            self._norm = squared**0.5
        return squared, alignment

    def natural_step(self, loss: float, squared_norm: float) -> float:
        """Return the step size to begin with, for |d|^2 of the update; see `metalearn_env.descents.natural_step`.

        The size of theta is that of the parameters that move.
        """
        parts = zip(self.parameters, self._views[self._before], strict=True)
        size = math.hypot(*(float(part.double().norm()) for p, part in parts if p.grad is not None))
        return float(natural_step(loss, self._slope(), size, squared_norm**0.5, share=self._share))

    def _slope(self) -> float:
        """Return -g'd."""
        pairs = zip(self.parameters, self._views[self._move], strict=True)
        total = sum(float((dense(p.grad) * move).double().sum()) for p, move in pairs if p.grad is not None)
        return -total / self._scales[0]

    @property
    def _share(self) -> float:
        """1 - momentum: of what a gradient moves theta by in the end, what it does at once."""
        torch, group = self._torch, self.optimizer.param_groups[0]
        if isinstance(self.optimizer, (torch.optim.SGD, torch.optim.RMSprop)):
            return 1.0 - float(group["momentum"])
        return 1.0

    def make(self, rate: float) -> None:
        """Put theta where the update leads with the learning rate ``rate`` of the first group."""
        self.set(rate)
        factor = self.rates[0] / self._scales[0]
        for p, start, move in self._triples():
            self._torch.add(start, move, alpha=factor, out=p)
        self._before, self._earlier, self.accepted = self._earlier, self._before, True

    def undo(self, rate: float) -> None:
        """Put theta where it was before the update that the optimiser has begun, whose averages then begin anew."""
        self._put(self._earlier if self.foreseen else self._before)  # which `keep` has exchanged
        self._flat[self._move].zero_()
        self._forget_averages()
        self.set(rate)

    def forget_bad_averages(self) -> None:
        """Let the optimiser's averages begin anew if they, or their squares, are not finite."""
        tensors = [value for state in self.optimizer.state.values() for value in state.values()]
        if not all(math.isfinite(dense(t).float().norm()) for t in tensors if isinstance(t, self._torch.Tensor)):
            self._forget_averages()

    def _forget_averages(self) -> None:
        """Let the optimiser's averages begin anew."""
        state, zeros, full = self.optimizer.state, self._torch.zeros_like, self._torch.full_like
        if not isinstance(self.optimizer, self._torch.optim.Adagrad):
            return state.clear()
        first = self.optimizer.defaults["initial_accumulator_value"]
        for p, of in state.items():  # that of PyTorch 2.3 makes them when it is made, and never again
            state[p] = {"step": zeros(of["step"]), "sum": full(of["sum"], first)}

    def back(self) -> None:
        """Put theta where it was before the last update that was made anew, if there is one; once."""
        if self.accepted:
            self._put(self._earlier)
        self.accepted = False

    def set(self, rate: float) -> None:
        """Set the learning rates of the groups, ``rate`` that of the first."""
        for group, ratio in zip(self.optimizer.param_groups, self.ratios, strict=True):
            if isinstance(group["lr"], self._torch.Tensor):
                group["lr"].fill_(rate * ratio)
            else:
                group["lr"] = rate * ratio
        self.rates = [float(group["lr"]) for group in self.optimizer.param_groups]

    def state(self) -> dict[str, Any]:
        """Return all that changes with time: plain values, and one tensor."""
        values = {name: _copied(getattr(self, name)) for name in _STATE}
        return {"flat": self._flat[:, : self.size].clone(), _KIND: type(self.optimizer).__name__, **values}

    def check_state(self, state: Mapping[str, Any]) -> None:
        """Raise ``ValueError`` unless ``state`` can be one of an optimiser of as many parameters and groups."""
        if missing := {"flat", _KIND, *_STATE} - set(state):
            raise ValueError(f"the state of updates has {', '.join(sorted(missing))}; it has {sorted(state)}")
        if state[_KIND] != (kind := type(self.optimizer).__name__):
            raise ValueError(f"the state is of the updates of {state[_KIND]}, not of {kind}")
        found, groups = tuple(state["flat"].shape), len(state["ratios"])
        if found != (4, self.size) or groups != len(self.ratios):
            raise ValueError(
                f"the state is of {found[-1]} parameters in {groups} groups, not of {self.size} in {len(self.ratios)}"
            )
        for name, limits in _LIMITS.items():
            numbers(state, name, **limits)
        if {state["_before"], state["_earlier"]} != {0, 1}:
            raise ValueError(f"theta and theta before are rows 0 and 1, not {state['_before']} and {state['_earlier']}")

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a `state`, which was checked."""
        self._flat[:, : self.size].copy_(state["flat"])
        for name in _STATE:
            setattr(self, name, _copied(state[name]))

    def _products(self) -> tuple[float, float]:
        """Return |d|^2, and the inner product of d and the d before."""
        products = self._torch.mv(self._flat[2:], self._flat[self._move]).tolist()
        scale, last = self._scales
        return products[self._move - 2] / scale**2, products[3 - self._move] / (scale * last)

    def _triples(self) -> Iterator[tuple[Any, Any, Any]]:
        """Yield the tensors of theta as it is, as it was, and of the newest move."""
        return zip(self.parameters, self._views[self._before], self._views[self._move], strict=True)

    def _put(self, row: int) -> None:
        self._torch._foreach_copy_(self.parameters, self._views[row])


def _copied(value: Any) -> Any:
    return list(value) if isinstance(value, list) else value
