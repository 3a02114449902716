"""One policy for many kinds of tasks: a student learns to take the steps of teachers, each on its own tasks.

    python -m agents.distil runs/agents/{gaussian-plain,clustering,q-learning}/seed-0/policy.safetensors \
        --env MetaLearn/Mixture-v0 --out runs/mixture

Every teacher is a policy file, which tells the environment that it was trained on, or the id of another one, with
options, and a file, ``"MetaLearn/Clustering-v0 horizon:[20,100]=FILE"``. There the student plays, and the teacher says
at every step what it would have done: policy distillation (Rusu et al. 2015) on the states that the student itself
leads to (DAgger, Ross et al. 2011); in the first half of the rounds the teachers lead part of the time. What is kept is
the student of the best score on validation tasks, the mean over the teachers' environments; of equal scores the latest.

A student may have other actions than a teacher, and see more: of relative and absolute actions it takes the step size,
which discrete ones come next to; what a teacher does not see, it is not shown. A teacher that decides at every step can
teach a student that decides now and then, at the student's decisions.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from torch import Tensor, nn

from agents.export import versions
from agents.locks import held
from agents.options import parsed
from agents.runs import POLICY, Scores, check_new, write_run
from agents.schedules import LARGEST_GRADIENT
from agents.slopes import recorded
from agents.teachers import Floats, Teacher, checked, interface
from agents.training import mean_score
from metalearn_env.commandline import key_values, run
from metalearn_env.driving import Act, action_map
from metalearn_env.engine import Engine
from metalearn_env.observations import feature_names
from metalearn_env.policy import Policy
from metalearn_env.progress import progress
from metalearn_env.ranges import as_integer, as_positive
from metalearn_env.scoring import TaskSet, task_sets
from metalearn_env.scoring.table import run_policy
from metalearn_env.splits import task_generator

OF_TRAINING = ("rounds", "tasks", "updates", "batch", "memory", "width", "learning_rate")


@dataclass(frozen=True)
class Args:
    """Train one policy on what several do."""

    teachers: Annotated[tuple[str, ...], tyro.conf.Positional]
    """policy files, or "ID KEY:VALUE ...=FILE", values without spaces, for other tasks than those it was trained on"""
    out: Path
    """folder of the run"""
    env: str = "MetaLearn/Mixture-v0"
    """id of the environment that the policy is for"""
    env_kwargs: tuple[str, ...] = ()
    """of its options, as key:value: action (relative or discrete), interval, opening, averaged, ritz, resolution"""
    rounds: int = 300
    """in each of which tasks of every teacher are played"""
    tasks: int = 32
    """of each teacher in a round, divided among its families"""
    updates: int = 30
    """steps of Adam after a round"""
    batch: int = 512
    """decisions of each teacher in an update"""
    memory: int = 20
    """rounds whose decisions are learned from"""
    width: int = 128
    """units of each of the two hidden layers"""
    learning_rate: float = 2e-3
    """of Adam at the start; it falls to 0 as half a cosine"""
    seed: int = 0
    """of weights, tasks and draws"""
    validate_every: int = 30
    """rounds between scores on validation tasks"""
    validation_tasks: int = 128
    """how many of them, of each family of each teacher"""


@dataclass(frozen=True)
class Decisions:
    """What was seen, and what the teacher would have done."""

    observations: Floats  # (m, columns)
    actions: NDArray[Any]  # (m,)


def new_student(header: Mapping[str, Any], width: int, seed: int) -> nn.Sequential:
    """Return a perceptron of two hidden layers of tanh units, from flat observations to an action, or to logits."""
    torch.manual_seed(seed)
    choices = action_map(header, 1).choices
    sizes = (len(header["feature_names"]), width, width, choices[0] if choices else 1)
    first, second, last = (nn.Linear(into, out) for into, out in pairwise(sizes))
    return nn.Sequential(first, nn.Tanh(), second, nn.Tanh(), last)


def policy_of(student: nn.Sequential, header: dict[str, Any]) -> Policy:
    """Return a student as a policy."""
    arrays = [parameter.detach().numpy().copy() for parameter in student.parameters()]
    return Policy(tuple(zip(arrays[::2], arrays[1::2], strict=True)), header)


class Lessons:
    """The decisions of the last rounds, for each teacher, and the range of all that was ever seen."""

    def __init__(self, teachers: Sequence[Teacher], args: Args, header: Mapping[str, Any]) -> None:
        rng = task_generator(args.seed, "train")
        self._teachers, self._rng, self._header = teachers, np.random.default_rng(args.seed), header
        self._batches = [teacher.batches(args.tasks, rng) for teacher in teachers]
        self._kept: list[deque[Decisions]] = [deque(maxlen=args.memory) for _ in teachers]
        self.observed: NDArray[np.float32] | None = None

    def play(self, student: Policy, led: float) -> None:
        """Play a round, in which the teacher leads with probability ``led``."""
        for teacher, batches, kept in zip(self._teachers, self._batches, self._kept, strict=True):
            teaches = partial(teacher.lesson, action=self._header["action"])
            kept.append(self._decisions(teaches if self._rng.random() < led else student, teaches, next(batches)))

    def drawn(self, n: int) -> tuple[Tensor, Tensor]:
        """Return n decisions of each teacher: observations and actions."""
        parts = [self._of(kept[int(self._rng.integers(len(kept)))], n) for kept in self._kept]
        observations, actions = (np.concatenate(part) for part in zip(*parts, strict=True))
        return torch.from_numpy(observations), torch.from_numpy(actions)

    def _of(self, decisions: Decisions, n: int) -> tuple[Floats, NDArray[Any]]:
        rows = self._rng.integers(len(decisions.actions), size=n)
        return decisions.observations[rows], decisions.actions[rows]

    def _decisions(self, leader: Act, teaches: Act, batch: Sequence[Engine]) -> Decisions:
        runs = [recorded(leader, self._header, engine) for engine in batch]
        seen = np.concatenate([run.observations[run.step_size[run.decisions] > 0.0] for run in runs]).astype(np.float32)
        ends = np.stack([seen.min(axis=0), seen.max(axis=0)])
        before = ends if self.observed is None else self.observed
        self.observed = np.stack([np.minimum(before[0], ends[0]), np.maximum(before[1], ends[1])])
        return Decisions(seen, teaches(seen).ravel())


def main(args: Args) -> None:
    """Run the training that ``args`` ask for.

    Raises:
        ValueError, TypeError: an option that cannot be honoured, or a run that is there already; nothing is written.
        FileNotFoundError: there is no such teacher.
    """
    for name in ("rounds", "tasks", "updates", "batch", "memory", "width", "validate_every"):
        as_integer(name, getattr(args, name), minimum=1)
    as_integer("seed", args.seed, minimum=0)
    as_positive("learning_rate", args.learning_rate)
    asked = interface(args.env_kwargs)
    teachers = checked(args.teachers, asked)
    task_sets(args.env, "validation", args.validation_tasks, 0)  # which there are
    sets = validation(teachers, args.validation_tasks)
    check_new(args.out)
    record, begun = {**asdict(args), "command": f"python -m agents.distil {shlex.join(sys.argv[1:])}"}, time.monotonic()
    record |= {"out": str(args.out), "taught_on": [(teacher.env, teacher.env_kwargs) for teacher in teachers]}
    with held(args.out):
        write_run(args.out, record)
        scores = Scores(args.out)
        for step, student in trained(args, teachers, header(record, teachers, asked)):
            scores.add(step, mean_score(sets, partial(run_policy, student)), partial(keep, args.out, student))
        write_run(args.out, {**record, "wall_seconds": round(time.monotonic() - begun, 1)})
    print(f"best score on validation tasks: {scores.best:.3f}\npolicy: {args.out / POLICY}")


def keep(folder: Path, student: Policy, told: dict[str, Any]) -> None:
    """Write the policy file of a student, with what it is to say beside."""
    Policy(student.layers, {**student.header, **told}).save(folder / POLICY)


def trained(args: Args, teachers: Sequence[Teacher], says: dict[str, Any]) -> Iterator[tuple[int, Policy]]:
    """Yield the round and the student whenever it is to be scored."""
    student, lessons = new_student(says, args.width, args.seed), Lessons(teachers, args, says)
    optimizer = torch.optim.Adam(student.parameters(), args.learning_rate)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.rounds * args.updates)
    for step in progress(range(1, args.rounds + 1), "learning from teachers", show=True):
        lessons.play(policy_of(student, says), led=1.0 - 2.0 * (step - 1) / args.rounds)
        for _ in range(args.updates):
            observations, actions = lessons.drawn(args.batch)
            optimizer.zero_grad()
            wrong(student(observations), actions).backward()
            torch.nn.utils.clip_grad_norm_(student.parameters(), LARGEST_GRADIENT)
            optimizer.step()
            rate.step()
        if step % args.validate_every == 0 or step == args.rounds:
            assert lessons.observed is not None
            yield step, policy_of(student, {**says, "observed": lessons.observed.tolist()})


def wrong(outputs: Tensor, actions: Tensor) -> Tensor:
    """Return how far a student is from what it was taught: a mean square, or of choices the cross entropy."""
    if actions.dtype == torch.int64:
        return nn.functional.cross_entropy(outputs, actions)
    return (outputs[:, 0] - actions).square().mean()


def validation(teachers: Sequence[Teacher], tasks: int) -> list[TaskSet]:
    """Return validation tasks of all teachers' environments."""
    return [task_set for teacher in teachers for task_set in teacher.sets("validation", tasks)]


def header(record: dict[str, Any], teachers: Sequence[Teacher], student: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the policy file says of itself."""
    first = teachers[0].policy.header
    return {
        "env": record["env"],
        "env_kwargs": key_values(record["env_kwargs"]),
        **student,
        "history": first["history"],
        "feature_names": list(feature_names(first["history"], student["ritz"])),
        "algorithm": "policy distillation",
        "hyperparameters": {name: record[name] for name in OF_TRAINING},
        "seed": record["seed"],
        "command": record["command"],
        "teachers": list(dict.fromkeys(teacher.origin for teacher in teachers)),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "versions": versions(),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    raise SystemExit(run(lambda: main(parsed(Args))))
