"""Who teaches in `agents.distil`, and what a student may observe and do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.export import begun_from
from agents.options import check_of_tasks, task_options
from agents.studies import starts
from metalearn_env.actions import ABSOLUTE_DECADES, FACTORS, RELATIVE_DECADES
from metalearn_env.commandline import key_values
from metalearn_env.driving import action_map, averaged, resolution
from metalearn_env.engine import Engine
from metalearn_env.observations import rounded
from metalearn_env.policy import Policy, load
from metalearn_env.ranges import as_range
from metalearn_env.scoring import LEAST_TASKS, TaskSet, task_sets
from metalearn_env.scoring.cache import Cache
from metalearn_env.session import HORIZON

Floats = NDArray[np.float32]
#: what decides at every step, on what there is
PLAIN: dict[str, Any] = {"interval": 1, "opening": 0, "averaged": False, "ritz": 0, "resolution": 0.0}
#: options that a student may be given, and what they are if it is not
OF_STUDENTS = {"action": "relative", **PLAIN}


@dataclass(frozen=True)
class Teacher:
    """A policy, the environment that it teaches on, and the commands and the steps that it is from."""

    policy: Policy
    env: str
    env_kwargs: dict[str, Any]
    origin: tuple[str, int | None]

    @classmethod
    def named(cls, name: str) -> Teacher:
        """Return the teacher of a policy file, or on other tasks, "ID KEY:VALUE ...=FILE", values without spaces.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: nothing before the sign, or an option that is not of tasks.
        """
        told, sign, file = name.rpartition("=")
        if sign and not told.strip():
            raise ValueError(f"before = there is the id of an environment, not nothing: {name!r}")
        header = (policy := load(file)).header
        trained_on = header.get("trained_on", header)
        if not told and not {"env", "env_kwargs"} <= trained_on.keys():
            raise ValueError(
                f'{file} does not say what it was trained on; name tasks for it: "ID KEY:VALUE ...={file}"'
            )
        env, *options = told.split() if told else [trained_on["env"]]
        asked = key_values(options) if told else trained_on["env_kwargs"]
        if told:
            check_of_tasks(f"the lesson {name}", asked)
        return cls(policy, env, task_options(asked), (begun_from(Path(file)), header.get("steps")))

    def sets(self, split: str, tasks: int) -> list[TaskSet]:
        """Return tasks of its environment, a set for each family."""
        return task_sets(self.env, split, tasks, 0, self.env_kwargs, Cache())

    @cached_property
    def _families(self) -> list[TaskSet]:
        return self.sets("train", LEAST_TASKS)

    def batches(self, tasks: int, rng: np.random.Generator) -> Iterator[list[Engine]]:
        """Yield training tasks for ever, at their start, divided among its families."""
        asked = self.env_kwargs.get("horizon", HORIZON)
        horizons = as_range("horizon", asked, minimum=1, integer=True)
        return starts(self._families, horizons, max(1, tasks // len(self._families)), rng)

    def lesson(self, observations: Floats, action: str) -> NDArray[Any]:
        """Return what it would do as actions of a kind, (m, 1), or (m,) of choices.

        Args:
            observations: (m, columns), of which it sees the first.
            action: "relative" or "discrete".
        """
        header = self.policy.header
        seen = observations[:, : len(header["feature_names"])]
        done = self.policy(rounded(seen.copy(), self.policy.options["resolution"]))
        if header["action"] == "discrete":
            return done
        decades = RELATIVE_DECADES * done[:, 0]
        if header["action"] == "absolute":
            level = observations[:, header["feature_names"].index("log10_step")]
            decades = ABSOLUTE_DECADES * done[:, 0] - level
        if action == "discrete":
            return np.abs(decades[:, None] - np.log10(FACTORS)).argmin(axis=1)
        return np.clip(decades / RELATIVE_DECADES, -1.0, 1.0).astype(np.float32)[:, None]


def interface(env_kwargs: Sequence[str]) -> dict[str, Any]:
    """Return what a student is asked to observe, and what its actions are to mean; its history is that of its teachers.

    Raises:
        ValueError: another option, or a value that cannot be honoured.
    """
    asked = key_values(env_kwargs)
    if unknown := ", ".join(sorted(set(asked) - set(OF_STUDENTS))):
        raise ValueError(f"a student has the options {', '.join(OF_STUDENTS)}, not {unknown}")
    found = {"strategy": "dynamic", **OF_STUDENTS, **asked}
    if found["action"] not in ("relative", "discrete"):
        raise ValueError(f"a student has relative or discrete actions, not {found['action']!r}")
    sees = {"averaged": averaged(found), "resolution": resolution(found)}
    return {**found, "ritz": action_map(found, 1).ritz, **sees}


def checked(names: Sequence[str], student: Mapping[str, Any]) -> list[Teacher]:
    """Return the teachers of a student.

    Raises:
        ValueError: none, or one whose actions the student cannot take, that has another history than the first, that
            decides neither at every step nor as the student does, or that sees what the student does not.
        ValueError, TypeError, gymnasium.error.Error: tasks that there are not.
        FileNotFoundError: there is no such file.
    """
    if not names:
        raise ValueError("name at least one policy file")
    teachers = [Teacher.named(name) for name in names]
    history = teachers[0].policy.header["history"]
    rarely = {name: student[name] for name in ("interval", "opening", "averaged")}
    wanted = {"strategy": ("dynamic",), "history": (history,), "ritz": (0, student["ritz"])}
    wanted["action"] = ("relative", "absolute", *(("discrete",) if student["action"] == "discrete" else ()))
    for name, teacher in zip(names, teachers, strict=True):
        own = teacher.policy.options
        often = {} if own["interval"] == 1 else {option: (value,) for option, value in rarely.items()}
        for option, known in {**wanted, **often}.items():
            if own[option] not in known:
                raise ValueError(
                    f"{name}: a teacher has {option} {' or '.join(map(str, dict.fromkeys(known)))}, not {own[option]!r}"
                )
        teacher.sets("train", LEAST_TASKS)  # which there are
    return teachers
