"""What happens while an agent trains: a progress bar, logs, and a score on validation tasks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger, make_output_format
from tqdm import tqdm

from agents.checkpoints import best_file, is_recurrent, restore_best, save_agent
from agents.export import export, versions
from agents.runs import Scores, write_run
from metalearn_env.commandline import key_values
from metalearn_env.driving import driven
from metalearn_env.engine import Engine
from metalearn_env.family import Array
from metalearn_env.observations import feature_names
from metalearn_env.policy import load
from metalearn_env.rules import Rule
from metalearn_env.scoring import TaskSet, final_log_gap, task_sets
from metalearn_env.scoring.cache import Cache
from metalearn_env.scoring.statistics import interquartile_mean
from metalearn_env.session import Session

SECONDS = 30.0  # between two notes of the time that a run has taken


class ProgressBar(BaseCallback):
    """A bar with the mean return of the last episodes."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self._steps = steps

    def _on_training_start(self) -> None:
        self._bar = tqdm(total=self._steps, initial=self.num_timesteps, desc="training", unit="step", unit_scale=True)

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self._bar.update(self.num_timesteps - self._bar.n)
        if self.model.ep_info_buffer:
            self._bar.set_postfix_str(f"return {np.mean([info['r'] for info in self.model.ep_info_buffer]):.1f}", False)

    def _on_training_end(self) -> None:
        self._bar.update(self.num_timesteps - self._bar.n)
        self._bar.close()


class Logs(BaseCallback):
    """Write what the logger has every ``every`` steps, and at the end."""

    def __init__(self, every: int) -> None:
        super().__init__()
        self._every = every

    def _on_training_start(self) -> None:
        self._written = self.num_timesteps

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        if self.num_timesteps >= self._written + self._every:
            self._write()

    def _on_training_end(self) -> None:
        if self.num_timesteps > self._written:
            self._write()

    def _write(self) -> None:
        self.model.dump_logs()
        self._written = self.num_timesteps


class Clock(BaseCallback):
    """Keep in the record of a run how many seconds it has taken, over all its parts if it was resumed.

    Args:
        folder: the run.
        record: what there is to know of it; ``wall_seconds`` is what it has taken before.
    """

    def __init__(self, folder: Path, record: dict[str, Any]) -> None:
        super().__init__()
        self._folder, self._record, self._before = folder, record, record.get("wall_seconds", 0.0)
        self._begun = self._written = time.monotonic()

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        if time.monotonic() >= self._written + SECONDS:
            self.write()

    def write(self) -> None:
        """Write the record."""
        self._written = time.monotonic()
        self._record["wall_seconds"] = round(self._before + self._written - self._begun, 1)
        write_run(self._folder, self._record)


class Observed(BaseCallback):
    """Keep the lowest and the highest value of every feature that is met, where an algorithm shows what it meets.

    Args:
        width: of what policies observe; what comes behind is shown to critics alone.
        init: the policy file that a run begins from, if there is one: its weights have met what that tells.
    """

    def __init__(self, width: int, init: Path | None = None) -> None:
        super().__init__()
        self._width = width
        known = load(init).header.get("observed") if init else None
        self._range: NDArray[np.float64] | None = None if known is None else np.array(known)

    def _on_training_start(self) -> None:
        if (known := getattr(self.model, "observed", None)) is not None:  # by the checkpoint that the agent is of
            self._range = np.array(known)

    def _on_step(self) -> bool:
        if (met := self.locals.get("new_obs")) is not None:
            ends = np.stack([met.min(axis=0), met.max(axis=0)])[:, : self._width].astype(np.float64)
            before = ends if self._range is None else self._range
            self._range = np.stack([np.minimum(before[0], ends[0]), np.maximum(before[1], ends[1])])
            self.model.observed = self._range.tolist()  # type: ignore[attr-defined]
        return True

    @property
    def header(self) -> dict[str, Any]:
        """What a policy file says of it, see `metalearn_env.policy.Policy`."""
        return {} if self._range is None else {"observed": self._range.tolist()}


class Validation(BaseCallback):
    """Score the agent on validation tasks every ``every`` steps, and export the best so far.

    Of equal scores, such as the highest there is, the latest counts.

    Args:
        sets: what to score on; of several sets the mean counts.
        every: environment steps between scores.
        observed: what the agent has met.
        folder: the run; ``validation.csv`` and ``policy.safetensors`` (of a recurrent agent ``best.zip``) are written
            there.
        header: what the policy file is to say of itself.
        watch: is told the steps and each score; training ends when it returns False.
    """

    def __init__(
        self,
        sets: Sequence[TaskSet],
        every: int,
        observed: Observed,
        folder: Path,
        header: dict[str, Any],
        watch: Callable[[int, float], bool] | None = None,
    ) -> None:
        super().__init__()
        self._sets, self._every, self._folder, self._says, self._watch = sets, every, folder, header, watch
        self._observed, self._goes_on = observed, True

    def _on_step(self) -> bool:
        return self._goes_on

    def _on_rollout_start(self) -> None:
        if self.num_timesteps >= self._last + self._every:
            self._score()

    def _on_training_start(self) -> None:
        """Forget the scores that a resumed run took after its checkpoint, and their best; they will be taken again."""
        restore_best(self.model, self._folder)
        self._scores = Scores(self._folder, self.num_timesteps)
        self._on_rollout_start()  # so that every checkpoint has a best agent

    def _on_training_end(self) -> None:
        if self.num_timesteps > self._last:
            self._score()

    @property
    def _last(self) -> float:
        """The steps of the last score."""
        return self._scores.taken[-1][0] if self._scores.taken else -np.inf

    @property
    def _header(self) -> dict[str, Any]:
        return {**self._says, **self._observed.header}

    def _score(self) -> None:
        iqm = mean_score(self._sets, lambda tasks: reached(self.model, self._header, tasks))
        self._scores.add(self.num_timesteps, iqm, self._keep)
        self.logger.record("validation/iqm", iqm)
        if self._watch is not None:
            self._goes_on = self._watch(self.num_timesteps, iqm)

    def _keep(self, told: dict[str, Any]) -> None:
        header, file = {**self._header, **told}, best_file(self.model, self._folder)
        if is_recurrent(self.model):
            save_agent(self.model, file, header)
        else:
            export(self.model, header).save(file)


def policy_header(record: Mapping[str, Any], options: Mapping[str, Any], session: Session) -> dict[str, Any]:
    """Return what a policy file says of itself: what is recorded of its run, and of the environment.

    Args:
        record: ``env``, ``algo``, ``seed``, ``command`` and ``resumed_at`` of the run.
        options: of the environment.
        session: of that environment.
    """
    return {
        "env": record["env"],
        "env_kwargs": dict(options),
        "action": session.actions.action,
        "strategy": session.actions.strategy,
        "interval": session.actions.interval,
        "opening": session.actions.opening,
        "averaged": session.averaged,
        "ritz": session.ritz,
        "resolution": session.observer.resolution,
        "history": session.history,
        "feature_names": list(feature_names(session.history, session.ritz)),
        "algorithm": record["algo"],
        "seed": record["seed"],
        "command": record["command"],
        "resumed_at": record["resumed_at"],
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "versions": versions(),
    }


def validation_sets(record: Mapping[str, Any]) -> list[TaskSet]:
    """Return the validation tasks of a run of `agents.train`, of which there is that record, a set for each family."""
    options = {**record["options"], **key_values(record["validation_kwargs"])}
    return task_sets(record["env"], "validation", record["validation_tasks"], 0, options, Cache())


def reached(model: BaseAlgorithm, header: dict[str, Any], tasks: TaskSet) -> Array:
    """Return the final log gaps, (n,), of an agent on tasks."""
    rule = recurrent(model, header) if is_recurrent(model) else export(model, header).step_sizes
    return final_log_gap(tasks.family, tasks.task, tasks.horizon, rule)


def recurrent(model: BaseAlgorithm, header: Mapping[str, Any]) -> Rule:
    """Return the step sizes of an agent with a memory, which begins empty with the episodes of an engine."""

    def rule(engine: Engine) -> Iterator[Array]:
        memory: Any = None

        def act(observations: NDArray[Any]) -> NDArray[Any]:
            nonlocal memory
            starts = np.full(len(observations), memory is None)
            actions, memory = model.predict(observations, state=memory, episode_start=starts, deterministic=True)
            return actions

        return driven(act, header, engine)

    return rule


def mean_score(sets: Sequence[TaskSet], reach: Callable[[TaskSet], Array]) -> float:
    """Return the interquartile mean of S, the mean over ``sets``, of what leaves final log gaps (n,) on each."""
    return float(np.mean([interquartile_mean(tasks.scores(reach(tasks))) for tasks in sets]))


def stream_seed(seed: int, steps: int) -> int:
    """Return the seed of the tasks and actions that a run meets from ``steps`` on, far from those of other runs."""
    return int(np.random.SeedSequence([seed, steps]).generate_state(1)[0])


def new_logger(folder: Path, steps: int) -> Logger:
    """Return a logger to TensorBoard and to a CSV file of its own, so that a resumed run adds to what there is."""
    formats = [make_output_format("tensorboard", str(folder)), make_output_format("csv", str(folder), f"-{steps}")]
    return Logger(str(folder), formats)
