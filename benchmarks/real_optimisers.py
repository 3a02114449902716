"""Contenders of `benchmarks.real_training` where gradients are taken, each as its library is used, in PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR, ReduceLROnPlateau

from benchmarks.real_runs import Contender
from metalearn_env.adapters.torch import LearnedStepSize
from metalearn_env.policy import Policy

GRID = tuple(float(f"{step:.3g}") for step in np.logspace(-3, 1, 9))
REPORTS = 40  # of the mean loss since the last one, to ReduceLROnPlateau, whose patience is 10 of them
EXTRA = 'the contender needs it: pip install "metalearn-env[benchmarks]"'


@dataclass
class Training:
    """An optimiser, and what happens at each step around its own."""

    optimizer: Any
    before: Callable[[torch.Tensor], None] = lambda loss: None  # between backward() and step()
    after: Callable[[float], None] = lambda loss: None
    multiplier: str = ""  # of lr, where it is an estimate of the optimiser's own
    averages: bool = False  # it evaluates elsewhere than it trains

    @property
    def rate(self) -> float:
        group = self.optimizer.param_groups[0]
        return float(group["lr"]) * float(group[self.multiplier] if self.multiplier else 1.0)


def constant(parameters: Any, knob: float, horizon: int) -> Training:
    return Training(SGD(parameters, lr=knob))


def cosine(parameters: Any, knob: float, horizon: int) -> Training:
    optimizer = SGD(parameters, lr=knob)
    scheduler = CosineAnnealingLR(optimizer, T_max=horizon)
    return Training(optimizer, after=lambda loss: scheduler.step())


def one_cycle(parameters: Any, knob: float, horizon: int) -> Training:
    """Make OneCycleLR, which goes up to the knob, with momentum, which it lowers meanwhile."""
    optimizer = SGD(parameters, lr=knob, momentum=0.9)
    scheduler = OneCycleLR(optimizer, max_lr=knob, total_steps=horizon + 1)
    return Training(optimizer, after=lambda loss: scheduler.step())


def plateau(parameters: Any, knob: float, horizon: int) -> Training:
    optimizer = SGD(parameters, lr=knob)
    scheduler, losses = ReduceLROnPlateau(optimizer), []

    def report(loss: float) -> None:
        losses.append(loss)
        if len(losses) == max(1, horizon // REPORTS):
            scheduler.step(sum(losses) / len(losses))
            losses.clear()

    return Training(optimizer, after=report)


def adam(parameters: Any, knob: float | None, horizon: int) -> Training:
    return Training(Adam(parameters, lr=1e-3))


def prodigy(parameters: Any, knob: float | None, horizon: int) -> Training:
    return Training(_of("prodigyopt").Prodigy(parameters), multiplier="d")


def d_adapt_adam(parameters: Any, knob: float | None, horizon: int) -> Training:
    return Training(_of("dadaptation").DAdaptAdam(parameters), multiplier="d")


def d_adapt_sgd(parameters: Any, knob: float | None, horizon: int) -> Training:
    return Training(_of("dadaptation").DAdaptSGD(parameters), multiplier="d")


def schedule_free_adam(parameters: Any, knob: float | None, horizon: int) -> Training:
    return Training(_of("schedulefree").AdamWScheduleFree(parameters), averages=True)


def schedule_free_sgd(parameters: Any, knob: float | None, horizon: int) -> Training:
    return Training(_of("schedulefree").SGDScheduleFree(parameters), averages=True)


def learned(optimizer: Any, policy: Policy, horizon: int, batch_size: int | None) -> Training:
    scheduler = LearnedStepSize(optimizer, policy, horizon, batch_size=batch_size)
    return Training(optimizer, before=scheduler.step)


def replayed(parameters: Any, steps: np.ndarray) -> Training:
    """Make SGD with step sizes that are given."""
    optimizer, left = SGD(parameters, lr=float(steps[0])), iter(steps[1:].tolist())

    def proceed(loss: float) -> None:
        optimizer.param_groups[0]["lr"] = next(left, 0.0)

    return Training(optimizer, after=proceed)


@dataclass(frozen=True)
class Optimiser:
    """A contender, and the package that it is of, if not PyTorch."""

    start: Callable[..., Training]
    knobs: tuple[float, ...] = field(default=())
    package: str = "torch"

    def contender(self, name: str) -> Contender:
        return Contender(name, self.knobs)


OPTIMISERS: dict[str, Optimiser] = {
    "constant": Optimiser(constant, GRID),
    "cosine, tuned start": Optimiser(cosine, GRID),
    "ReduceLROnPlateau, tuned start": Optimiser(plateau, GRID),
    "OneCycle, tuned peak": Optimiser(one_cycle, GRID),
    "Adam 1e-3": Optimiser(adam),
    "Prodigy": Optimiser(prodigy, package="prodigyopt"),
    "D-Adapt Adam": Optimiser(d_adapt_adam, package="dadaptation"),
    "D-Adapt SGD": Optimiser(d_adapt_sgd, package="dadaptation"),
    "Schedule-Free AdamW": Optimiser(schedule_free_adam, package="schedulefree"),
    "Schedule-Free SGD": Optimiser(schedule_free_sgd, package="schedulefree"),
}


def missing() -> list[str]:
    """Return the packages of contenders that cannot be imported."""
    found = []
    for package in dict.fromkeys(optimiser.package for optimiser in OPTIMISERS.values()):
        try:
            _of(package)
        except ImportError:
            found.append(package)
    return found


def _of(package: str) -> Any:
    try:
        return __import__(package)
    except ImportError as error:
        raise ImportError(f"{package}: {EXTRA}") from error
