"""Train by the gradient through the inner loop: controls that see no feedback, and policies that do.

    python -m agents.schedules --kind open-loop --env MetaLearn/LinearRegression-v0 --out runs/open-loop
    python -m agents.schedules --kind static --strategy constant --env MetaLearn/QLearning-v0 --out runs/static
    python -m agents.schedules --kind feedback --init runs/ppo/policy.safetensors --out runs/polished
    python -m agents.schedules --kind feedback --through steps --env-kwargs action:absolute --out runs/followed
    python -m agents.schedules --kind feedback --through evolution --tasks 4096 --init FILE --out runs/evolved

An *open-loop* schedule is one sequence of step sizes for all tasks; a *static* map has one hidden layer and goes from
the descriptors of a task and log10 of the horizon to a step size that is kept ("constant"), to a schedule ("dynamic",
the map also reads the progress, and there is a table as in an open-loop schedule) or to mean and spread of random
steps ("random"). They are what a trained agent has to beat. With *feedback* it is such an agent: a policy, from nothing
or from a policy file (``--init``), such as one that reinforcement learning has found. The gradient through an inner run
is exact where noise is data, but of no use where inner runs are chaotic, as long ones on ill-conditioned quadratics
are; ``--through steps`` takes what is observed as given (`agents.slopes`), and ``--through evolution`` needs nothing
but the runs themselves (`agents.evolution`). What falls is the mean of log(gap_T / gap_0), on new tasks at each step of
Adam, of several families in units of what a constant step earns; or, ``--objective score``, what scores are made of
(`agents.worth`). What is kept is the iterate of the best score on validation tasks.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from agents.feedback import FeedbackMap
from agents.locks import held
from agents.options import parsed
from agents.runs import POLICY, Scores, check_new, write_run
from agents.studies import Args, Study, Trained
from metalearn_env.commandline import run
from metalearn_env.progress import progress
from metalearn_env.scoring import Row, score_row
from metalearn_env.scoring.statistics import Estimate

LARGEST_GRADIENT = 1.0  # norm; a longer one is shortened


class Record(NamedTuple):
    """The best iterate of a training."""

    validation_iqm: float
    step: int
    state: dict[str, Tensor]


Watch = Callable[[int, float, Trained], None]  # is told the step, the score and the map


def trained(
    study: Study, watch: Watch = lambda *told: None, *, show_progress: bool = True
) -> tuple[Trained, Record, list[tuple[int, float]]]:
    """Return the map of the best score on validation tasks, where it was met, and all (step, score)."""
    args, step_map = study.args, study.new_map()
    optimizer = new_optimizer(step_map, args.learning_rate)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.steps)
    added = gradients(step_map, study)
    scores: list[tuple[int, float]] = []
    best = Record(-np.inf, 0, {})
    for step in progress(range(args.steps + 1), f"training {args.kind}", show=show_progress):
        if step % args.validate_every == 0 or step == args.steps:
            scores.append((step, study.score(step_map)))
            if scores[-1][1] >= best.validation_iqm:
                state = {name: value.clone() for name, value in step_map.state_dict().items()}
                best = Record(scores[-1][1], step, state)
            watch(*scores[-1], step_map)
        if step < args.steps:
            optimizer.zero_grad()
            next(added)
            if torch.isfinite(torch.nn.utils.clip_grad_norm_(step_map.parameters(), LARGEST_GRADIENT)):
                optimizer.step()
            rate.step()
    step_map.load_state_dict(best.state)
    return step_map, best, scores


def new_optimizer(step_map: Trained, rate: float) -> torch.optim.Optimizer:
    """Return Adam, with a tenth of the learning rate for all but the table: a network moves the steps of all tasks."""
    table = [parameter for name, parameter in step_map.named_parameters() if name == "table"]
    network = [parameter for name, parameter in step_map.named_parameters() if name != "table" and parameter.numel()]
    return torch.optim.Adam([{"params": table, "lr": rate}, {"params": network, "lr": 0.1 * rate}])


def gradients(step_map: Trained, study: Study) -> Iterator[None]:
    """Add the gradient of the objective on new tasks to that of the parameters, for ever."""
    rng = np.random.default_rng(study.args.seed)
    if isinstance(step_map, FeedbackMap) and study.args.through != "all":
        for to_follow in study.batches_to_follow():
            for start, worth in to_follow:
                if study.args.through == "steps":
                    step_map.followed(start, worth)
                else:
                    step_map.evolve(start, worth, study.args.sigma, rng)
            yield
    for batch in study.batches():
        noise = [rng.random((int(start.horizon[0]), len(start.t))) for start in batch]
        gaps = [study.gaps(step_map, start, drawn).mean() for start, drawn in zip(batch, noise, strict=True)]
        torch.stack([weight * gap for weight, gap in zip(study.weights, gaps, strict=True)]).sum().backward()
        yield


def main(args: Args) -> None:
    """Run the training that ``args`` ask for.

    Raises:
        ValueError, TypeError: an option that cannot be honoured, or a run that is there already; nothing is written.
    """
    study, command = Study(args), f"python -m agents.schedules {shlex.join(sys.argv[1:])}"
    check_new(args.out)
    paths = {name: value if value is None else str(value) for name, value in (("out", args.out), ("init", args.init))}
    record, begun = {**asdict(args), **paths, "command": command}, time.monotonic()
    with held(args.out):
        write_run(args.out, record)
        scores = Scores(args.out)

        def write(step: int, score: float, step_map: Trained) -> None:
            scores.add(step, score, partial(keep, study, step_map, command))

        step_map, best, _ = trained(study, write)
        write_run(args.out, {**record, "wall_seconds": round(time.monotonic() - begun, 1)})
    print(f"best score on validation tasks: {best.validation_iqm:.3f} after {best.step} steps")
    if args.unit == "task":
        print(f"policy: {args.out / POLICY}")
    else:
        row = test_row(study, [step_map])
        print(f"test tasks: {Estimate(row.iqm, row.low, row.high)}")


def keep(study: Study, step_map: Trained, command: str, told: dict[str, Any]) -> None:
    """Write the policy file of a map, with what it is to say beside; there is none in units that no policy is told."""
    if study.args.unit == "task":
        step_map.policy({**study.header(command), **told}).save(study.args.out / POLICY)


def test_row(study: Study, maps: Sequence[Trained]) -> Row:
    """Return the line of a table for maps of one study, of several seeds, on its test tasks."""
    sets = study.sets("test", study.args.test_tasks)
    gaps = [np.stack([study.reach(step_map, tasks) for step_map in maps]) for tasks in sets]
    return score_row(f"{study.args.kind} in units of {study.args.unit}", "control", sets, gaps)


if __name__ == "__main__":
    torch.set_num_threads(1)
    raise SystemExit(run(lambda: main(parsed(Args))))
