"""What a learned step size costs in a training loop of PyTorch: ``python -m benchmarks.overhead``.

A step (forward, backward, optimiser) of two networks of 100,000 parameters, with and without
`metalearn_env.adapters.torch.LearnedStepSize`: the loops take turns, a step each, and what is told is the median of the
differences over the median of the plain steps, of processor time, on one thread. It prints a table and writes
docs/results/overhead.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from torch import nn

from metalearn_env.adapters.torch import LearnedStepSize
from metalearn_env.commandline import check_writable
from metalearn_env.policy import Policy, load
from metalearn_env.progress import progress

BAR = 0.05
HISTORY, WIDTH = 5, 64  # of the policies that are shipped


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))


def convolutions() -> nn.Module:
    first = nn.Unflatten(1, (1, 28, 28)), nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
    second = nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
    return nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(1568, 60), nn.ReLU(), nn.Linear(60, 10))


NETWORKS = {"perceptron": perceptron, "convolutions": convolutions}
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=1e-3),
    "SGD, momentum": lambda p: torch.optim.SGD(p, lr=1e-3, momentum=0.9),
    "Adam": lambda p: torch.optim.Adam(p, lr=1e-3),
}


class Loop:
    """A training loop on images of noise of 28 x 28 pixels, with a policy or without."""

    def __init__(self, network: str, optimizer: str, batch_size: int, policy: Policy | None) -> None:
        torch.manual_seed(0)
        self.model = NETWORKS[network]()
        self.x, self.y = torch.randn(batch_size, 784), torch.randint(0, 10, (batch_size,))
        self.optimizer = OPTIMIZERS[optimizer](self.model.parameters())
        self.scheduler = LearnedStepSize(self.optimizer, policy) if policy else None

    def seconds(self) -> float:
        """Make one step and return what it took."""
        began = time.thread_time()
        self.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self.model(self.x), self.y)
        loss.backward()
        if self.scheduler:
            self.scheduler.step(loss)
        self.optimizer.step()
        return time.thread_time() - began


def line(network: str, optimizer: str, batch_size: int, policy: Policy, steps: int) -> str:
    """Return the row of one kind of loop."""
    plain, ours = (Loop(network, optimizer, batch_size, which) for which in (None, policy))
    times = []
    for turn in range(steps):
        first, second = (plain, ours) if turn % 2 else (ours, plain)
        pair = first.seconds(), second.seconds()
        times.append(pair if turn % 2 else pair[::-1])
    step, more = median(a for a, _ in times), median(b - a for a, b in times)
    parameters = sum(p.numel() for p in plain.model.parameters())
    reached = "yes" if more / step < BAR else "no"
    return (
        f"| {network}, {parameters:,} | {optimizer} | {batch_size} | {1e6 * step:,.0f} | {1e6 * more:,.0f} | "
        f"{more / step:.1%} | {reached} |"
    )


def main() -> None:
    """Measure, print and write everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=300, help="of each loop")
    parser.add_argument(
        "--policy", help="a policy's name or file; default: random weights of the size of those shipped"
    )
    parser.add_argument("--out", type=Path, default=Path("docs/results/overhead.md"))
    options = parser.parse_args()
    check_writable(options.out)
    torch.set_num_threads(1)
    policy = _still(load(options.policy) if options.policy else Policy.untrained(history=HISTORY, seed=0, width=WIDTH))
    cases = [(n, o, b) for n in NETWORKS for b in (32, 128) for o in OPTIMIZERS]
    lines = [line(*case, policy, options.steps) for case in progress(cases, "overhead")]
    page = [
        "# Overhead of a learned step size in PyTorch",
        "",
        f"`python -m benchmarks.overhead` wrote this page: loops that take turns, {options.steps} steps of each,",
        f"medians of processor time; one thread, Python {platform.python_version()}, PyTorch {torch.__version__},",
        f"{os.cpu_count()} cores on which {os.getloadavg()[0]:.1f} processes ran, this one among them: others take",
        "from the caches, and what is short suffers more from it.",
        "",
        f"| network, parameters | optimiser | batch | a step (us) | more (us) | overhead | < {BAR:.0%} |",
        "|---|---|---|---|---|---|---|",
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
