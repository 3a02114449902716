"""Where `torch.optim.SGD` is about to move, known from its gradients and averages before it does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def foreseeable(torch: Any, optimizer: Any) -> bool:
    """Return whether `write_ascent` knows an optimiser: `torch.optim.SGD` itself, for a subclass may do anything."""
    return type(optimizer) is torch.optim.SGD and not any(
        group["differentiable"] or isinstance(group["weight_decay"], torch.Tensor) for group in optimizer.param_groups
    )


def write_ascent(torch: Any, group: Any, ratio: float, state: Any, views: Sequence[Any]) -> None:
    """Write what SGD is about to subtract from each parameter of a group, over the learning rate of the first group.

    Args:
        torch: PyTorch, which records no gradients now.
        group: of the optimiser, as its gradients are.
        ratio: its learning rate, over that of the first.
        state: of the optimiser.
        views: where to write, a tensor for each parameter; zeros where there is no gradient.
    """
    parameters = group["params"]
    gradients = [p.grad for p in parameters]
    if not all(gradient is not None and not gradient.is_sparse for gradient in gradients):
        torch._foreach_zero_(views)
        there = [index for index, gradient in enumerate(gradients) if gradient is not None]
        parameters, views = ([of[index] for index in there] for of in (parameters, views))
        gradients = [dense(gradients[index]) for index in there]
    if parameters:
        _write(torch, group, ratio, gradients, parameters, state, views)


def dense(gradient: Any) -> Any:
    """Return a gradient that is not sparse."""
    return gradient.to_dense() if gradient.is_sparse else gradient


def _write(
    torch: Any,
    group: Any,
    ratio: float,
    gradients: Sequence[Any],
    parameters: Sequence[Any],
    state: Any,
    views: Sequence[Any],
) -> None:
    """Do as the formulas of `torch.optim.SGD` say."""
    momentum, nesterov = group["momentum"], group["nesterov"]
    torch._foreach_copy_(views, gradients)
    if group["maximize"]:
        torch._foreach_neg_(views)
    if group["weight_decay"]:
        torch._foreach_add_(views, parameters, alpha=group["weight_decay"])
    if nesterov:
        torch._foreach_mul_(views, 1.0 + momentum)
    if momentum:
        averages = [state[p].get("momentum_buffer") if p in state else None for p in parameters]
        moving = [view for view, average in zip(views, averages, strict=True) if average is not None]
        if moving and group["dampening"]:
            torch._foreach_mul_(moving, 1.0 - group["dampening"])
        if moving:
            share = momentum**2 if nesterov else momentum
            torch._foreach_add_(moving, [average for average in averages if average is not None], alpha=share)
    if ratio != 1.0:
        torch._foreach_mul_(views, ratio)
