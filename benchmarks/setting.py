"""A kind of tasks that agents are trained and scored on for docs/results/agents.md, and the bar that was set for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from agents.runs import POLICY, finished
from benchmarks.trainings import DISTIL, SCHEDULES, TRAIN, Training, arguments, followed
from metalearn_env.commandline import key_values
from metalearn_env.scoring import TaskSet, task_sets
from metalearn_env.scoring.cache import Cache

REGRESSION, CLUSTERING, Q_LEARNING, MIXTURE = (
    f"MetaLearn/{name}-v0" for name in ("LinearRegression", "Clustering", "QLearning", "Mixture")
)
ISOTROPIC = "isotropic"  # minibatches of inputs of equal variance, where the best steps are known
OPEN_LOOP, STATIC = "open-loop", "static"
SCHEDULE_STEPS = 300  # of Adam
GRADIENT, DISTILLED = "gradient", "distilled"


@dataclass(frozen=True)
class Bar:
    """What an agent was asked for, before there was one.

    Args:
        least: interquartile mean of S; None: the excess of the loss over f* is to be below that of ``rival``.
        strong: the same, for a strong result; None: below that of ``strong_rival``.
        rival: a controller that S is to be above, clearly; None: there is none.
        strong_rival: another, for a strong result.
    """

    least: float | None
    strong: float | None
    rival: str | None = None
    strong_rival: str | None = None


@dataclass(frozen=True)
class Setting:
    """Tasks of one kind, and the agents that are trained on them.

    Args:
        name: of the setting.
        env: id of the environment.
        env_kwargs: options of the tasks.
        bar: what was asked for; None: nothing.
        agent_kwargs: options of the environment that agents are trained with beside: history, action, reward, ...
        hyperparams: that go before those of the file.
        algo: the algorithm; `GRADIENT` is `agents.schedules`, whose policies with feedback go along the slopes of runs,
            `DISTILLED` is `agents.distil`.
        steps: of the environment, or of the optimiser.
        gradient: options of `agents.schedules`, in place of ``hyperparams``.
        train_env: what agents are trained on, with its options ``train_kwargs``; None: what they are scored on.
        teachers: names of settings whose agents of the same seed are learned from, on their tasks or on other ones,
            "ID KEY:VALUE ...=NAME".
    """

    name: str
    env: str
    env_kwargs: tuple[str, ...] = ()
    bar: Bar | None = None
    agent_kwargs: tuple[str, ...] = ()
    hyperparams: tuple[str, ...] = ()
    algo: str = "ppo"
    steps: int = 4_000_000
    gradient: tuple[str, ...] = ()
    train_env: str | None = None
    train_kwargs: tuple[str, ...] = ()
    teachers: tuple[str, ...] = ()

    @property
    def options(self) -> dict[str, Any]:
        return key_values(self.env_kwargs)

    @cached_property
    def title(self) -> str:
        return " ".join([self.env, *map("`{}`".format, self.env_kwargs)])

    def sets(self, tasks: int, split: str = "test") -> list[TaskSet]:
        """Return the tasks that agents are scored on, a set for each family."""
        return task_sets(self.env, split, tasks, 0, self.options, Cache())

    def folder(self, runs: Path, seed: int) -> Path:
        """Return the folder of the agent of a training seed."""
        return runs / self.name / f"seed-{seed}"

    def policy_files(self, runs: Path) -> list[Path]:
        """Return the policy files of all training seeds that are through."""
        return sorted(file for file in (runs / self.name).glob(f"seed-*/{POLICY}") if finished(file.parent))

    def controls(self, runs: Path) -> dict[str, Path]:
        """Return the policy files of what learns nothing from feedback and whose training is through, by name."""
        folders = {kind: runs / self.name / kind for kind in (OPEN_LOOP, STATIC)}
        return {kind: folder / POLICY for kind, folder in folders.items() if finished(folder)}

    def agent_trainings(self, runs: Path, seeds: Sequence[int], steps: int | None = None) -> list[Training]:
        """Return the trainings of agents."""
        if self.algo == DISTILLED:
            return [
                Training(self.folder(runs, seed), self._lessons(runs, seed), steps or self.steps, DISTIL)
                for seed in seeds
            ]
        env = self.train_env or self.env
        kwargs = (*(self.train_kwargs if self.train_env else self.env_kwargs), *self.agent_kwargs)
        module = SCHEDULES if self.algo == GRADIENT else TRAIN
        return [
            Training(
                self.folder(runs, seed),
                followed(env, kwargs, self.gradient, seed=seed)
                if self.algo == GRADIENT
                else arguments(env, kwargs, self.hyperparams, algo=self.algo, seed=seed),
                steps or self.steps,
                module,
            )
            for seed in seeds
        ]

    def _lessons(self, runs: Path, seed: int) -> tuple[str, ...]:
        """Return what `agents.distil` is told."""
        told = []
        for teacher in self.teachers:
            tasks, equals, name = teacher.rpartition("=")
            told.append(f"{tasks}{equals}{runs / name / f'seed-{seed}' / POLICY}")
        asked = ("--env-kwargs", *self.agent_kwargs) if self.agent_kwargs else ()
        return (*told, "--env", self.env, *asked, "--seed", str(seed))

    def control_trainings(self, runs: Path, steps: int = SCHEDULE_STEPS) -> list[Training]:
        """Return the trainings of what learns nothing from feedback: an open-loop schedule and a map to a constant."""
        kwargs = ("--env-kwargs", *self.env_kwargs) if self.env_kwargs else ()
        return [
            Training(
                runs / self.name / kind,
                ("--kind", kind, "--strategy", strategy, "--env", self.env, *kwargs),
                steps,
                SCHEDULES,
            )
            for kind, strategy in ((OPEN_LOOP, "dynamic"), (STATIC, "constant"))
        ]
