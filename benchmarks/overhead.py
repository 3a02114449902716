"""What a learned step size costs in a training loop of PyTorch, and of Keras: ``python -m benchmarks.overhead``.

A step is a user's: forward, backward, optimiser, on the next minibatch of a data set, of two networks of 100,000
parameters; and ``train_on_batch`` of Keras, where that is installed. Two loops, with and without a policy, take turns
of 20 steps or more, so that either has the caches to itself for that long; a turn is of whole intervals between the
decisions of the policy. What is told is the median of the differences between turns, each of which is the mean of its
steps, over the median of the plain ones; processor time, one thread. It prints a table and writes
docs/results/overhead.md.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import torch
from torch import nn

from metalearn_env.adapters.torch import LearnedStepSize
from metalearn_env.commandline import check_writable
from metalearn_env.policy import Policy, load
from metalearn_env.progress import progress

BAR = 0.05
POLICIES = ("neural-network", "neural-network-light")
TURN = 20  # steps, or some more
RATE = 1e-9  # so small that the networks stay the same, as with the policy: how fast they are depends on what they see
ROWS, PIXELS, CLASSES = 8192, 784, 10  # of the data set, of noise
BATCHES = {"perceptron": (64, 256, 1024), "convolutions": (64, 256)}


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(PIXELS, 128), nn.ReLU(), nn.Linear(128, CLASSES))


def convolutions() -> nn.Module:
    first = nn.Unflatten(1, (1, 28, 28)), nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
    second = nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
    return nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(1568, 60), nn.ReLU(), nn.Linear(60, CLASSES))


NETWORKS = {"perceptron": perceptron, "convolutions": convolutions}
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=RATE),
    "SGD, momentum": lambda p: torch.optim.SGD(p, lr=RATE, momentum=0.9),
    "Adam": lambda p: torch.optim.Adam(p, lr=RATE),
}


class Loop(Protocol):
    """A training loop."""

    parameters: int

    def step(self) -> None:
        """Make one step."""


class Data:
    """Images of noise of 28 x 28 pixels, a minibatch after the other, for ever."""

    def __init__(self, batch_size: int) -> None:
        torch.manual_seed(0)
        self._x, self._y = torch.randn(ROWS, PIXELS), torch.randint(0, CLASSES, (ROWS,))
        self._size, self._next = batch_size, 0

    def draw(self) -> tuple[torch.Tensor, torch.Tensor]:
        rows = slice(self._next, self._next + self._size)
        self._next = (self._next + self._size) % (ROWS - self._size)
        return self._x[rows], self._y[rows]


class TorchLoop:
    """A loop of one's own in PyTorch, with a policy or without."""

    def __init__(self, network: str, optimizer: str, batch_size: int, policy: Policy | None) -> None:
        self._data = Data(batch_size)
        self.model = NETWORKS[network]()
        self.parameters = sum(p.numel() for p in self.model.parameters())
        self.optimizer = OPTIMIZERS[optimizer](self.model.parameters())
        self.scheduler = LearnedStepSize(self.optimizer, policy, batch_size=batch_size) if policy else None

    def step(self) -> None:
        x, y = self._data.draw()
        self.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self.model(x), y)
        loss.backward()
        if self.scheduler:
            self.scheduler.step(loss)
        self.optimizer.step()


class KerasLoop:
    """The perceptron in Keras, with a policy or without."""

    def __init__(self, network: str, optimizer: str, batch_size: int, policy: Policy | None) -> None:
        os.environ.setdefault("KERAS_BACKEND", "torch")
        import keras

        from metalearn_env.adapters import keras as adapter

        made = {
            "SGD": keras.optimizers.SGD,
            "SGD, momentum": lambda rate: keras.optimizers.SGD(rate, momentum=0.9),
            "Adam": keras.optimizers.Adam,
        }
        self._data = Data(batch_size)
        layers = keras.layers.Dense(128, "relu"), keras.layers.Dense(CLASSES)
        self.model = keras.Sequential([keras.Input((PIXELS,)), *layers])
        self.parameters = self.model.count_params()
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.model.compile(made[optimizer](RATE), loss=loss)
        if policy:
            callback = adapter.LearnedStepSize(policy, horizon=10**6, batch_size=batch_size)
            callback.set_model(self.model)
            callback.set_params({"epochs": 1, "steps": None})
            callback.on_train_begin()

    def step(self) -> None:
        self.model.train_on_batch(*self._data.draw())


CASES = [(TorchLoop, network, of, batch) for network, sizes in BATCHES.items() for batch in sizes for of in OPTIMIZERS]
OF_KERAS = [(KerasLoop, "perceptron", of, batch) for batch in BATCHES["perceptron"] for of in OPTIMIZERS]


def line(name: str, kind: Any, network: str, optimizer: str, batch_size: int, seconds: float) -> str:
    """Return the row of one kind of loop, which is measured for so long."""
    policy = _still(load(name))
    plain, ours = (kind(network, optimizer, batch_size, which) for which in (None, policy))
    steps = turn_of(policy)
    for loop in (plain, ours):
        turn(loop, steps)
    turns: list[tuple[float, float]] = []
    end = time.thread_time() + seconds
    while len(turns) < 4 or time.thread_time() < end:
        turns += [(turn(plain, steps), turn(ours, steps)), (turn(ours, steps), turn(plain, steps))[::-1]]
    step, more = median(a for a, _ in turns), median(b - a for a, b in turns)
    reached = "yes" if more / step < BAR else "no"
    library = "Keras" if kind is KerasLoop else "PyTorch"
    return (
        f"| {name}, {policy.interval} | {library} | {network}, {plain.parameters:,} | {optimizer} | {batch_size} "
        f"| {1e6 * step:,.0f} | {1e6 * more:,.0f} | {more / step:.1%} | {reached} |"
    )


def turn_of(policy: Policy) -> int:
    """Return the steps of a turn: whole intervals between decisions."""
    return policy.interval * math.ceil(TURN / policy.interval)


def turn(loop: Loop, steps: int) -> float:
    """Return what a step takes in a turn of so many, in seconds."""
    began = time.thread_time()
    for _ in range(steps):
        loop.step()
    return (time.thread_time() - began) / steps


def main() -> None:
    """Measure, print and write everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="processor time for each line of the table")
    parser.add_argument("--policies", nargs="+", default=POLICIES, help="names or files")
    parser.add_argument("--out", type=Path, default=Path("docs/results/overhead.md"))
    options = parser.parse_args()
    check_writable(options.out)
    torch.set_num_threads(1)
    cases = CASES + (OF_KERAS if find_spec("keras") else [])
    of_each = [(name, *case) for name in options.policies for case in cases]
    before = os.getloadavg()[0]
    lines = [line(*case, options.seconds) for case in progress(of_each, "overhead")]
    page = [
        "# Overhead of a learned step size",
        "",
        f"`{' '.join(['python -m benchmarks.overhead', *sys.argv[1:]])}`",
        f"wrote this page: loops that take turns of {TURN} steps or a whole interval",
        "between two decisions, medians of means over turns, processor time, one thread, "
        f"Python {platform.python_version()}, PyTorch {torch.__version__},",
        f"{os.cpu_count()} cores on which {before:.1f} processes ran before, {os.getloadavg()[0]:.1f} with this one:",
        "others take from the caches, and what is short suffers more from it.",
        "",
        "| policy, interval | library | network, parameters | optimiser | batch | a step (us) | more (us) | overhead "
        f"| < {BAR:.0%} |",
        "|---|---|---|---|---|---|---|---|---|",
        *lines,
        "",
    ]
    options.out.write_text("\n".join(page))
    print("\n".join(page))


def _still(policy: Policy) -> Policy:
    """Return a policy that costs as much, and makes the steps as small as can be: the networks stay the same."""
    weight, bias = policy.layers[-1]
    return Policy((*policy.layers[:-1], (0.0 * weight, 0.0 * bias - 1)), policy.header)


if __name__ == "__main__":
    main()
