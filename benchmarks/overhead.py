"""What a learned step size costs in a training loop of PyTorch, and of Keras: ``python -m benchmarks.overhead``.

A step is a user's: forward, backward, optimiser, on the next minibatch of a data set, of two networks of 100,000
parameters; and ``train_on_batch`` of Keras, where that is installed. Two loops, with and without a policy, take turns,
so that either has the caches to itself for a while: one of the opening, then some of an interval each, and then both
begin anew. What is told is the median of the differences between turns, each of which is the mean of its steps, over
the median of the plain ones; of a whole run, what the opening and the intervals in it add up to. Processor time, one
thread. It prints a table and writes docs/results/overhead.md.
"""

from __future__ import annotations

import argparse
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

from benchmarks.pages import publish
from metalearn_env.adapters.torch import LearnedStepSize
from metalearn_env.commandline import check_writable, run
from metalearn_env.policy import Policy, load
from metalearn_env.progress import progress

BAR = 0.05
POLICY = "neural-network"
RUN = 1000  # steps
INTERVALS = 4  # until both loops begin anew
FEWEST = 3  # beginnings
RATE = 1e-9  # so small that the networks stay the same, as with the policy: how fast they are depends on what they see
ROWS, PIXELS, CLASSES = 8192, 784, 10  # of the data set, of noise
ABOUT = """\
wrote this page. `{policy}` decides at each of the first {opening} steps of a run, and every {interval} after
them: what that costs over the steps of a plain loop, at first, later, and in a run of {run:,} steps. Loops with and
without it take turns; medians of means over turns, processor time, one thread, {versions},
{cores} cores on which {before:.1f} processes ran before, {now:.1f} with this one: others take from the caches,
and what is short suffers more from it. What is below 0 tells how far such numbers are to be trusted. Shorter runs
cost more, of n steps (at first * {opening} + later * (n - {opening})) / n, and so do those that the guard begins
anew."""
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
        self.scheduler = LearnedStepSize(self.optimizer, policy, RUN, batch_size=batch_size) if policy else None

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
            callback = adapter.LearnedStepSize(policy, horizon=RUN, batch_size=batch_size)
            callback.set_model(self.model)
            callback.set_params({"epochs": 1, "steps": None})
            callback.on_train_begin()

    def step(self) -> None:
        self.model.train_on_batch(*self._data.draw())


CASES = [(TorchLoop, network, of, batch) for network, sizes in BATCHES.items() for batch in sizes for of in OPTIMIZERS]
OF_KERAS = [(KerasLoop, "perceptron", of, batch) for batch in BATCHES["perceptron"] for of in OPTIMIZERS]


def line(policy: Policy, kind: Any, network: str, optimizer: str, batch_size: int, seconds: float) -> str:
    """Return the row of one kind of loop, which is measured for so long."""
    opening, interval = policy.options["opening"], policy.interval
    still, at_first, later = _still(policy), Turns(), Turns()
    turn(kind(network, optimizer, batch_size, None), interval)
    end, begun = time.thread_time() + seconds, 0
    while begun < FEWEST or time.thread_time() < end:
        plain, ours = (kind(network, optimizer, batch_size, which) for which in (None, still))
        if opening:
            at_first.take(plain, ours, opening)
        for _ in range(INTERVALS):
            later.take(plain, ours, interval)
        begun += 1
    step, more = later.step, later.more
    first = at_first.more if opening else more
    in_all = (opening * first + (RUN - opening) * more) / RUN
    library = "Keras" if kind is KerasLoop else "PyTorch"
    return (
        f"| {library} | {network}, {plain.parameters:,} | {optimizer} | {batch_size} | {1e6 * step:,.0f} "
        f"| {first / step:.1%} | {more / step:.1%} | {in_all / step:.1%} | {'yes' if in_all / step < BAR else 'no'} |"
    )


class Turns:
    """What steps took in the turns of two loops, in seconds."""

    def __init__(self) -> None:
        self._pairs: list[tuple[float, float]] = []

    def take(self, plain: Loop, ours: Loop, steps: int) -> None:
        """Take turns, now the one first and now the other."""
        if len(self._pairs) % 2:
            self._pairs.append((turn(plain, steps), turn(ours, steps)))
        else:
            self._pairs.append((turn(ours, steps), turn(plain, steps))[::-1])

    @property
    def step(self) -> float:
        """A step of the plain loop."""
        return median(a for a, _ in self._pairs)

    @property
    def more(self) -> float:
        """What a step takes more with a policy."""
        return median(b - a for a, b in self._pairs)


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
    parser.add_argument("--policy", default=POLICY, help="a name or a file")
    parser.add_argument("--out", type=Path, default=Path("docs/results/overhead.md"))
    options = parser.parse_args()
    check_writable(options.out)
    torch.set_num_threads(1)
    cases = CASES + (OF_KERAS if find_spec("keras") else [])
    policy, before = load(options.policy), os.getloadavg()[0]
    lines = [line(policy, *case, options.seconds) for case in progress(cases, "overhead")]
    page = [
        "# Overhead of a learned step size",
        "",
        f"`{' '.join(['python -m benchmarks.overhead', *sys.argv[1:]])}`",
        *ABOUT.format(
            policy=options.policy,
            opening=policy.options["opening"],
            interval=policy.interval,
            run=RUN,
            versions=f"Python {platform.python_version()}, PyTorch {torch.__version__}",
            cores=os.cpu_count(),
            before=before,
            now=os.getloadavg()[0],
        ).splitlines(),
        "",
        f"| library | network, parameters | optimiser | batch | a step (us) | at first | later | {RUN:,} steps "
        f"| < {BAR:.0%} |",
        "|---|---|---|---|---|---|---|---|---|",
        *lines,
        "",
    ]
    publish(options.out, "\n".join(page))


def _still(policy: Policy) -> Policy:
    """Return a policy that costs as much, and makes the steps as small as can be: the networks stay the same."""
    weight, bias = policy.layers[-1]
    return Policy((*policy.layers[:-1], (0.0 * weight, 0.0 * bias - 1)), policy.header)


if __name__ == "__main__":
    raise SystemExit(run(main))
