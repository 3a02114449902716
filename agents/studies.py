"""What `agents.schedules` trains, and on which tasks."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from agents.export import begun_from, versions
from agents.feedback import DECADES, FeedbackMap
from agents.inner_loops import check_differentiable, final_log_gap
from agents.step_maps import PROGRESS, STATIC, StepMap, observed
from agents.training import mean_score
from agents.worth import Batch, of_gaps, scored_batches
from metalearn_env import scoring
from metalearn_env.actions import Strategy
from metalearn_env.commandline import key_values
from metalearn_env.decisions import check_averaged
from metalearn_env.driving import resolution
from metalearn_env.engine import Engine
from metalearn_env.families.linear_regression import LinearRegression
from metalearn_env.family import Array
from metalearn_env.least_squares import Factor
from metalearn_env.mixture import typical_return
from metalearn_env.observations import feature_names
from metalearn_env.policy import load
from metalearn_env.ranges import as_history, as_integer, as_positive, as_range, log_uniform_integer
from metalearn_env.scoring import TaskSet, task_sets
from metalearn_env.scoring.cache import Cache
from metalearn_env.scoring.table import run_policy
from metalearn_env.session import HORIZON
from metalearn_env.splits import task_generator

Trained = StepMap | FeedbackMap
KINDS = ("open-loop", "static", "feedback")
UNITS = ("task", "1/L")
#: how training comes by a direction for what is trained
WAYS = {
    "all": "gradient through the inner loop",
    "steps": "gradient through the steps of the inner loop",
    "evolution": "evolution strategies",
}
OBJECTIVES = ("gap", "score")
OF_TRAINING = ("tasks", "learning_rate", "width", "through", "objective", "sigma")
FIRST_POOL = 1  # seed of the tasks; controls are tuned on those of seed 0
FIRST_MULTIPLES = np.logspace(-3, 1, 17)  # constant steps in units, the best of which training begins with


@dataclass(frozen=True)
class Args:
    """Train an open-loop schedule, a static map or a policy with feedback by the gradient through the inner loop."""

    out: Path
    """folder of the run"""
    kind: str = "open-loop"
    """open-loop, static or feedback"""
    strategy: str = "dynamic"
    """of a static map: constant, dynamic or random"""
    unit: str = "task"
    """of the step sizes: task (that of actions), or 1/L, the inverse of the largest eigenvalue of a regression task,
    which no policy is told: such an open-loop schedule is scored on test tasks, not exported"""
    env: str = "MetaLearn/LinearRegression-v0"
    """id of the environment"""
    env_kwargs: tuple[str, ...] = ()
    """options of the environment, as key:value"""
    steps: int = 1000
    """of Adam"""
    init: Path | None = None
    """policy file that feedback is trained on from: of the same actions and history, with tanh units"""
    seed: int = 0
    """of weights, tasks and draws"""
    tasks: int = 64
    """new training tasks at each step, of each family"""
    learning_rate: float = 0.05
    """of the table at the start, of the network a tenth of it; it falls to 0 as half a cosine"""
    width: int = 64
    """hidden units of a static map, or of each of the two layers of feedback"""
    through: str = "all"
    """what the gradient of feedback flows through: all; steps, which takes what is observed as given; or evolution,
    which estimates it from runs of perturbed weights"""
    sigma: float = 0.03
    """of the perturbations of an evolution"""
    objective: str = "gap"
    """of feedback through steps or evolution: gap, the log gap at the end, or score, see agents/worth.py"""
    pool: int = 1024
    """training tasks of each family and horizon whose scores are known, for the objective score"""
    validate_every: int = 100
    """steps between scores on validation tasks"""
    validation_tasks: int = 256
    """how many of them, of each family"""
    test_tasks: int = 400
    """of what is not exported"""


@dataclass(frozen=True)
class Study:
    """What is trained, and on which tasks.

    Raises:
        ValueError, TypeError: an option that cannot be honoured.
    """

    args: Args

    def __post_init__(self) -> None:
        args = self.args
        for name in ("steps", "tasks", "width", "validate_every", "pool"):
            as_integer(name, getattr(args, name), minimum=1)
        of_strings = {"kind": KINDS, "strategy": get_args(Strategy), "unit": UNITS, "through": tuple(WAYS)}
        for name, known in (*of_strings.items(), ("objective", OBJECTIVES)):
            if getattr(args, name) not in known:
                raise ValueError(f"{name} is one of {', '.join(known)}, not {getattr(args, name)!r}")
        if args.kind != "static" and args.strategy != "dynamic":
            raise ValueError(f"{args.kind} is dynamic, not {args.strategy}")
        if args.kind != "feedback" and (args.init is not None or args.through != "all"):
            raise ValueError(f"only feedback is trained on from a policy, or not through all, not {args.kind}")
        if args.objective != "gap" and args.through == "all":
            raise ValueError(f"the objective {args.objective} is for feedback through steps or evolution, not all")
        as_positive("sigma", args.sigma)
        as_positive("learning_rate", args.learning_rate)
        as_integer("seed", args.seed, minimum=0)
        as_integer("test_tasks", args.test_tasks, minimum=scoring.LEAST_TASKS)
        if args.init is not None:
            trainable(args.init, self.interface)
        fixed: dict[str, Any] = {"action": self.action, "strategy": args.strategy, "ritz": 0}
        if args.through == "all":
            fixed |= {"interval": 1, "resolution": 0.0}
        for name, value in fixed.items():
            if self.options.get(name, value) != value:
                raise ValueError(f"a {args.strategy} {args.kind} map has {name}={value!r}, not {self.options[name]!r}")
        for tasks in (*self.sets("train", scoring.LEAST_TASKS), *self.sets("validation", args.validation_tasks)):
            if args.through != "evolution":
                check_differentiable(tasks.family)
            if args.unit == "1/L" and (args.kind != "open-loop" or not isinstance(tasks.family, LinearRegression)):
                raise ValueError("the unit 1/L is for open-loop schedules of linear regression")

    @cached_property
    def options(self) -> dict[str, Any]:
        return key_values(self.args.env_kwargs)

    @property
    def action(self) -> str:
        """What the policy's actions mean."""
        if self.args.kind != "feedback":
            return "absolute"
        action = self.options.get("action", "relative")
        if action not in DECADES:
            raise ValueError(f"feedback is trained with action {' or '.join(DECADES)}, not {action!r}")
        return str(action)

    @cached_property
    def history(self) -> int:
        return as_history(self.options.get("history", 5))

    @property
    def decides(self) -> dict[str, Any]:
        """When the policy decides, and on what."""
        interval = as_integer("interval", self.options.get("interval", 1), minimum=1)
        opening = as_integer("opening", self.options.get("opening", 0), minimum=0)
        averaged = check_averaged(self.options.get("averaged", False), interval)
        sees = {"averaged": averaged, "resolution": resolution(self.options)}
        return {"interval": interval, "opening": opening, **sees}

    @property
    def interface(self) -> dict[str, Any]:
        """What the policy observes, and what its actions mean."""
        return {"action": self.action, "strategy": self.args.strategy, "history": self.history, **self.decides}

    def sets(self, split: str, tasks: int, seed: int = 0, **options: Any) -> list[TaskSet]:
        """Return the tasks of a split, a set for each family."""
        cache = None if self.args.through == "all" else Cache()
        return task_sets(self.args.env, split, tasks, seed, {**self.options, **options}, cache)

    @cached_property
    def validation(self) -> list[TaskSet]:
        of_horizons = [{"horizon": horizon} for horizon in self.horizons] if self.args.objective == "score" else [{}]
        return [tasks for of in of_horizons for tasks in self.sets("validation", self.args.validation_tasks, **of)]

    def score(self, step_map: Trained) -> float:
        """Return the mean score on validation tasks."""
        return mean_score(self.validation, lambda tasks: self.reach(step_map, tasks))

    @property
    def horizon(self) -> int:
        """The inner steps of an episode, the most there are."""
        return self.validation[-1].horizon

    @property
    def horizons(self) -> list[int]:
        """The horizons whose tasks' scores are known: both ends of the range, and the middle of their logs."""
        low, high = self._range
        return sorted({round(horizon) for horizon in np.geomspace(low, high, 3)})

    @property
    def _range(self) -> tuple[int, int]:
        return as_range("horizon", self.options.get("horizon", HORIZON), minimum=1, integer=True)

    def unit(self, start: Engine) -> Array:
        """Return what step sizes are multiples of, (n,)."""
        return start.unit if self.args.unit == "task" else 1.0 / largest_eigenvalue(start.task)

    def batches_to_follow(self) -> Iterator[Batch]:
        """Yield training tasks for ever, and what their log gaps are worth, for feedback that is not through all."""
        args = self.args
        if args.objective == "score":
            pools = [
                self.sets("train", args.pool, FIRST_POOL + args.seed, horizon=horizon) for horizon in self.horizons
            ]
            return scored_batches(pools, args.tasks, np.random.default_rng(args.seed))
        worths = [of_gaps(weight) for weight in self.weights]
        return ([*zip(batch, worths, strict=True)] for batch in self.batches())

    def batches(self) -> Iterator[list[Engine]]:
        """Yield new training tasks for ever, those of each family at their start, of one horizon of the range."""
        sets = self.sets("train", scoring.LEAST_TASKS)
        return starts(sets, self._range, self.args.tasks, task_generator(self.args.seed, "train"))

    @cached_property
    def weights(self) -> list[float]:
        """What log gaps of each family count: of several, in units of what a decent constant step earns, as rewards."""
        families = [tasks.family for tasks in self.sets("train", scoring.LEAST_TASKS)]
        if len(families) == 1:
            return [1.0]
        return [1.0 / (len(families) * typical_return(family, self.horizon, "log")) for family in families]

    def gaps(self, step_map: Trained, start: Engine, noise: Array) -> Tensor:
        """Return log(gap_T / gap_0), (n,), with a gradient, for uniform ``noise`` (T, n)."""
        if isinstance(step_map, FeedbackMap):
            return step_map.gaps(start)
        unit = torch.from_numpy(self.unit(start))
        steps = step_map.step_sizes(observed(start, self.history), unit, torch.from_numpy(noise))
        return final_log_gap(start, steps)

    def new_map(self) -> Trained:
        """Return a map to begin with: the best constant step, in units, on the first tasks; or of feedback."""
        if self.args.kind == "feedback":
            layers = None if self.args.init is None else trainable(self.args.init, self.interface)
            shape: dict[str, Any] = {"action": self.action, "width": self.args.width, "seed": self.args.seed}
            return FeedbackMap(self.history, layers=layers, decides=self.decides, **shape)
        batch, args = next(self.batches()), self.args
        units = [torch.from_numpy(self.unit(start)) for start in batch]

        def objective(multiple: float) -> float:
            steps = [multiple * unit.repeat(start.horizon[0], 1) for start, unit in zip(batch, units, strict=True)]
            gaps = [final_log_gap(start, step).mean().item() for start, step in zip(batch, steps, strict=True)]
            return float(np.dot(self.weights, gaps))

        common: dict[str, Any] = {"log_multiple": np.log(min(FIRST_MULTIPLES, key=objective)), "seed": args.seed}
        if args.kind == "open-loop":
            return StepMap(self.horizon, table=True, **common)
        dynamic = args.strategy == "dynamic"
        columns = (*STATIC, PROGRESS) if dynamic else STATIC
        random = args.strategy == "random"
        return StepMap(self.horizon, columns=columns, width=args.width, table=dynamic, random=random, **common)

    def header(self, command: str) -> dict[str, Any]:
        """Return what a policy file says of itself."""
        args = self.args
        return {
            "env": args.env,
            "env_kwargs": self.options,
            **self.interface,
            "feature_names": feature_names(self.history),
            "horizon": self.horizon,
            "algorithm": f"{args.kind}, {WAYS[args.through]}",
            "hyperparameters": {name: getattr(args, name) for name in OF_TRAINING},
            "seed": args.seed,
            "command": command,
            **({} if args.init is None else {"begun_from": begun_from(args.init)}),
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "versions": versions(),
        }

    def reach(self, step_map: Trained, tasks: TaskSet) -> Array:
        """Return the final log gaps, (n,), of a map on tasks, run by the family itself."""
        if isinstance(step_map, FeedbackMap):
            return run_policy(step_map.policy(self.header("")), tasks)

        def steps(engine: Engine) -> Iterator[Array]:
            noise = np.random.default_rng(0).random((tasks.horizon, len(engine.t)))  # as a policy draws it
            unit, observations = torch.from_numpy(self.unit(engine)), observed(engine, self.history)
            yield from step_map.step_sizes(observations, unit, torch.from_numpy(noise)).detach().numpy()

        return scoring.final_log_gap(tasks.family, tasks.task, tasks.horizon, steps)


def starts(
    sets: Sequence[TaskSet], horizons: tuple[int, int], n: int, rng: np.random.Generator
) -> Iterator[list[Engine]]:
    """Yield n new tasks of the family of each set for ever, at their start, of one horizon of a range."""
    while True:
        horizon, batch = int(log_uniform_integer(rng.random(1), *horizons)[0]), []
        for tasks in sets:
            drawn = tasks.family.complete(tasks.family.sample(rng, n, horizon))
            batch.append(Engine.start(tasks.family, drawn, horizon))
        yield batch


def trainable(path: Path, interface: Mapping[str, Any]) -> Sequence[tuple[Any, Any]]:
    """Return the layers of a policy file.

    Raises:
        ValueError: it is not of that interface, or has other units than tanh.
    """
    policy = load(path)
    told = {**policy.header, **policy.options}
    for name, value in {**interface, "activation": "tanh", "output": "clip"}.items():
        if (found := told.get(name, value)) != value:
            raise ValueError(f"{path}: a policy that is trained on has {name}={value!r}, not {found!r}")
    return policy.layers


def largest_eigenvalue(factor: Factor) -> Array:
    """Return L, (n,), the largest eigenvalue of the Gram matrix B^T B."""
    if not factor.superdiagonal.any():
        return np.asarray((factor.diagonal**2).max(axis=1))
    p = factor.diagonal.shape[1]
    matrix = factor.diagonal[:, :, None] * np.eye(p)
    matrix[:, np.arange(p - 1), np.arange(1, p)] = factor.superdiagonal
    return np.asarray(np.linalg.eigvalsh(matrix.mT @ matrix)[:, -1])
