"""What step sizes can reach under noise that are chosen beforehand: ``python -m benchmarks.beforehand``.

It writes docs/results/beforehand.md. S is 0 for the best constant step *in hindsight*, chosen when it is known what was
drawn, which minibatches, transitions and noise. Here schedules are chosen, for each task by itself, by one who knows it
to the last digit and has run it some times, but not what will be drawn when it counts. That is more than an
agent is told; but an agent sees what is drawn as it comes, and such a schedule does not.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import singledispatch
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from agents.inner_loops import final_log_gap as differentiable
from benchmarks.agent_bar import mean_by
from benchmarks.agent_settings import SETTINGS
from benchmarks.pages import publish
from benchmarks.rules import HALF_LIVES, RATES, of_certainty_equivalence, uniform_discount
from benchmarks.setting import CLUSTERING, Q_LEARNING
from metalearn_env.clusters import ClusteringTask
from metalearn_env.commandline import check_writable, run, whole
from metalearn_env.engine import Engine
from metalearn_env.families.clustering import Clustering
from metalearn_env.families.q_learning import QLearning
from metalearn_env.family import Array, TaskFamily
from metalearn_env.processes import TabularTask, choose, random_bytes
from metalearn_env.progress import progress
from metalearn_env.rules.schedules import schedule, shape
from metalearn_env.scoring import LEAST_SPAN, TaskSet, final_log_gap
from metalearn_env.scoring.cache import Cache
from metalearn_env.tails import NOISE_LEVELS

SETTING = SETTINGS["q-learning"]
KNOTS = 24  # of a free schedule, but for those that round to the same step: log steps, linear in log time in between
RATE = 0.05  # of Adam
#: on which some agents of docs/results/agents.md are not clearly above 0
AXES = {
    CLUSTERING: ("clusters", "imbalance", "separation", "short_horizon", "long_horizon"),
    Q_LEARNING: ("dimension", "noise", "discount", "scale", "heavy_tails", "short_horizon", "long_horizon"),
}
TEXT = """# What could be known beforehand

`python -m benchmarks.beforehand` wrote this page.

S is 0 for the best constant step of each task in hindsight, when it is known what was drawn: which minibatches, which
transitions and noise. Here schedules are chosen for each task by itself and *beforehand*: on other draws of the same
task, by the mean of the last log gap. That is to know all but what will be drawn, which is more than agents are
told; on the other hand such a schedule does not see what is drawn as it comes. {count} test tasks of each kind;
interquartile means and 95 % bootstrap intervals over tasks; diverged: runs of what was chosen beforehand that end above
the loss they began with. More draws would choose better, and other schedules may be better than these: what is here is
no bound. What agents reach: [agents.md](agents.md), as the bar was measured on more tasks than here.

## {title}

{draws} draws of each task. Left: the limit of agents.md, the best multiple of certainty equivalence, on {all} tasks
that count. Right: as the bar of .30 was measured, certainty equivalence itself and discounts of a uniform law,
{uniform} tasks. A free schedule has {knots} knots, found by {iterations} steps of Adam along the gradient through runs,
from the best of the others; which of its iterates counts is chosen on {draws} draws more. In hindsight: chosen from the
same schedules on what was drawn; constants are then below 0 as their grid is coarser than that of S.

| schedule | beforehand | in hindsight | as the bar was measured, beforehand | in hindsight | diverged |
|---|---|---|---|---|---|
"""
OF_AXES = """
## Out of distribution

All beforehand, on {draws} draws of each task: the axes on which some agents are not clearly above 0. S > 0 asks for
more than the best constant step that could be known.

| tasks | constant | linear decay | harmonic | the best of these | diverged |
|---|---|---|---|---|---|
"""


class Draws(NamedTuple):
    """Draws of the same n tasks, one after the other: some to find steps on, others to choose among what was found."""

    to_find: Any
    to_choose: Any


@singledispatch
def redrawn(family: TaskFamily, task: Any, rng: np.random.Generator) -> Any:
    """Return the same n tasks, with other noise of the law that theirs is of.

    Raises:
        ValueError: it is not known how.
    """
    raise ValueError(f"how {type(family).__name__} is drawn anew is not known")


@redrawn.register
def _(family: QLearning, task: TabularTask, rng: np.random.Generator) -> TabularTask:
    if task.branch.shape[1] or task.explores.shape[1]:
        raise ValueError("processes that are given, or along trajectories, are not drawn anew")
    cuts = np.rint(256.0 * task.probabilities.cumsum(axis=1)[:, :-1]).astype(np.int16) - 1
    there = task.noise.any(axis=1, keepdims=True)  # pairs that are not there have none
    return task._replace(
        next_state=choose(random_bytes(rng, *task.next_state.shape), cuts, task.successors),
        noise=NOISE_LEVELS[family.tails].at(random_bytes(rng, *task.noise.shape)) * there,
    )


@redrawn.register
def _(family: Clustering, task: ClusteringTask, rng: np.random.Generator) -> ClusteringTask:
    return task._replace(batches=rng.integers(task.points.shape[1], size=task.batches.shape, dtype=task.batches.dtype))


def several(tasks: TaskSet, count: int, rng: np.random.Generator) -> Any:
    """Return n tasks as often as asked for, drawn anew each time."""
    draws = [redrawn(tasks.family, tasks.task, rng) for _ in range(count)]
    return type(tasks.task)(*map(np.concatenate, zip(*draws, strict=True)))


def families(horizon: int) -> dict[str, Array]:
    """Return schedules of one parameter, (members, T), in units."""
    return {
        "constant": RATES[:, None] * shape("constant", horizon),
        "linear decay": RATES[:, None] * shape("linear", horizon),
        "harmonic": HALF_LIVES[:, None] / (HALF_LIVES[:, None] + np.arange(horizon)),
    }


def mean_gaps(tasks: TaskSet, drawn: Any, steps: Array) -> Array:
    """Return the last log gap of each task, (n,), the mean over draws, for steps (T, n) or (T, 1)."""
    many = len(tasks.family.reference_loss(drawn)) // tasks.tasks
    every = np.tile(np.broadcast_to(steps, (tasks.horizon, tasks.tasks)), (1, many))
    found = final_log_gap(tasks.family, drawn, tasks.horizon, schedule(every))
    return np.asarray(found.reshape(many, tasks.tasks).mean(axis=0))


def best_member(members: Array, tasks: TaskSet, drawn: Any) -> tuple[Array, Array]:
    """Return the steps, (T, n), of the member that is best for each task on average, and its last log gaps, (n,)."""
    found = np.stack([mean_gaps(tasks, drawn, member[:, None]) for member in members])
    return members[found.argmin(axis=0)].T, found.min(axis=0)


def free_schedule(tasks: TaskSet, draws: Draws, steps: Array, iterations: int) -> Array:
    """Return steps, (T, n), found by the gradient through runs, from steps that are good already.

    Adam lowers the mean over the draws to choose by; of its iterates each task keeps the one that is best on the
    others.
    """
    basis = torch.from_numpy(interpolation(tasks.horizon))
    table = torch.tensor(np.log(steps[basis.numpy().argmax(axis=0)]), requires_grad=True)  # (knots, n)
    optimizer = torch.optim.Adam([table], lr=RATE)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, iterations)
    kept, best = steps, mean_gaps(tasks, draws.to_choose, steps)
    start = Engine.start(tasks.family, draws.to_find, tasks.horizon)
    unit = torch.from_numpy(start.unit)
    for _ in progress(range(iterations), "free schedule"):
        optimizer.zero_grad()
        every = (basis @ table).exp().repeat(1, len(unit) // tasks.tasks)
        (differentiable(start, every * unit).sum() * tasks.tasks / len(unit)).backward()
        assert table.grad is not None
        table.grad /= table.grad.norm(dim=0).clamp(min=1.0)
        optimizer.step()
        rate.step()
        now = (basis @ table.detach()).exp().numpy()
        found = mean_gaps(tasks, draws.to_choose, now)
        kept, best = np.where(found < best, now, kept), np.minimum(found, best)
    return kept


def interpolation(horizon: int) -> Array:
    """Return what each knot counts at each time, (T, knots)."""
    times = np.log(np.arange(horizon) + 1.0)
    knots = np.log(np.unique(np.geomspace(1.0, horizon, KNOTS).round()))
    return np.stack([np.interp(times, knots, row) for row in np.eye(len(knots))], axis=1)


def chosen(tasks: TaskSet, drawn: Any) -> dict[str, Array]:
    """Return the steps, (T, n), of the member of each kind that is best for each task on draws, and of the best."""
    found = {name: best_member(members, tasks, drawn) for name, members in families(tasks.horizon).items()}
    best = np.argmin([gap for _, gap in found.values()], axis=0)
    steps = np.stack([steps for steps, _ in found.values()])[best, :, np.arange(tasks.tasks)].T
    return {**{name: steps for name, (steps, _) in found.items()}, "best": steps}


def reached(tasks: TaskSet, draws: Draws, iterations: int) -> Iterator[tuple[str, Array]]:
    """Yield kinds of schedules, and the last log gaps (n,) of the best of each task, chosen on draws."""
    kinds = chosen(tasks, draws.to_find)
    free = free_schedule(tasks, draws, kinds.pop("best"), iterations)
    for name, steps in {**kinds, "free": free}.items():
        yield name, mean_gaps(tasks, tasks.task, steps)


def page(tasks: TaskSet, title: str, draws: int, iterations: int) -> str:
    """Return the part of the page on tasks of Q-learning."""
    rng = np.random.default_rng(0)
    others = Draws(several(tasks, draws, rng), several(tasks, draws, rng))
    found = [dict(reached(tasks, on, iterations)) for on in (others, Draws(tasks.task, tasks.task))]
    every, uniform = np.ones(tasks.tasks, np.bool_), uniform_discount(tasks.tasks).kept(tasks)
    measures = ((every, tasks.limit), (uniform, plain := of_certainty_equivalence(tasks)))
    told = {"count": tasks.tasks, "draws": draws, "iterations": iterations, "title": title}
    knots, counted = interpolation(tasks.horizon).shape[1], (uniform * (tasks.oracle[1] - plain >= LEAST_SPAN)).sum()
    lines = [TEXT.format(**told, knots=knots, all=tasks.counted.sum(), uniform=counted)]
    for name, gap in found[0].items():
        cells = [mean_by(tasks, one[name][None], *by) for by in measures for one in found]
        lines.append(f"| {name} | {' | '.join(map(str, cells))} | {np.mean(gap > 0.0):.2%} |\n")
    return "".join(lines)


def line(tasks: TaskSet, draws: int) -> str:
    """Return the line of an axis out of distribution."""
    found = chosen(tasks, several(tasks, draws, np.random.default_rng(0)))
    ends = [mean_gaps(tasks, tasks.task, steps) for steps in found.values()]
    every = np.ones(tasks.tasks, np.bool_)
    cells = [str(mean_by(tasks, gap[None], every, tasks.limit)) for gap in ends]
    name = f"{type(tasks.family).__name__}, {tasks.part.axis}"
    return f"| {name} | {' | '.join(cells)} | {np.mean(ends[-1] > 0.0):.2%} |\n"


def main() -> None:
    """Measure, write the page and print it.

    Raises:
        ValueError, TypeError: an option that cannot be honoured; nothing is measured.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=whole, default=256, help="of each kind")
    parser.add_argument("--draws", type=whole, default=8, help="of each task to choose by, and as many to choose among")
    parser.add_argument("--axis-draws", type=whole, default=4, help="of each task out of distribution")
    parser.add_argument("--iterations", type=whole, default=80, help="of Adam, for free schedules")
    parser.add_argument("--out", type=Path, default=Path("docs/results/beforehand.md"))
    options = parser.parse_args()
    check_writable(options.out)
    tasks = TaskSet(SETTING.env, "test", options.tasks, 0, SETTING.options, Cache())
    moved = [
        TaskSet(env, "ood", options.tasks, 0, {"ood": axis}, Cache()) for env, axes in AXES.items() for axis in axes
    ]
    text = page(tasks, SETTING.title, options.draws, options.iterations) + OF_AXES.format(draws=options.axis_draws)
    publish(options.out, text + "".join(line(one, options.axis_draws) for one in progress(moved, "axes")))


if __name__ == "__main__":
    torch.set_num_threads(1)
    raise SystemExit(run(main))
