"""What happens while an agent trains on Ray: a bar, a log, checkpoints, scores on validation tasks, and Ctrl-C."""

from __future__ import annotations

import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stable_baselines3.common.logger import Logger
from tqdm import tqdm

from agents.runs import CHECKPOINTS, POLICY, Scores
from agents.training import mean_score, new_logger
from metalearn_env.files import write_whole
from metalearn_env.policy import Policy
from metalearn_env.scoring import TaskSet
from metalearn_env.scoring.table import run_policy

if TYPE_CHECKING:
    from ray.rllib.algorithms.ppo import PPO


class Interrupt:
    """Ctrl-C is kept until an update is through; a second one is not."""

    asked = False

    def __enter__(self) -> Interrupt:
        self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *_: Any) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _ask(self, *_: Any) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, self._before)
        print("\rending this update; Ctrl-C again to lose it", file=sys.stderr)


class Training:
    """Updates of an agent, with a bar, a log, checkpoints, and scores on validation tasks on the way."""

    def __init__(self, algorithm: PPO, args: Any, validation: list[TaskSet], policy: dict[str, Any]) -> None:
        self._algorithm, self._args, self._validation, self._header = algorithm, args, validation, policy

    def run(self, done: int, interrupt: Interrupt) -> int:
        """Train from ``done`` steps on, until all are done or the user interrupts; return how many are."""
        best = self._args.out / CHECKPOINTS / str(done) / POLICY  # until then, not one that came later
        if best.exists():
            write_whole(self._args.out / POLICY, best.read_bytes())
        self._scores = Scores(self._args.out, done)
        logger = new_logger(self._args.out, done)
        bar = tqdm(total=self._args.steps, initial=done, desc="training", unit="step", unit_scale=True)
        try:
            return self._loop(done, interrupt, logger, bar)
        finally:
            bar.close()
            logger.close()

    def _loop(self, done: int, interrupt: Interrupt, logger: Logger, bar: Any) -> int:
        args, saved, scored = self._args, done, done
        if not done:
            self._score(done)
            self._save(done)
        while done < args.steps and not interrupt.asked:
            result = self._algorithm.train()["env_runners"]
            done = int(result["num_env_steps_sampled_lifetime"])
            bar.update(done - bar.n)
            logger.record("time/total_timesteps", done)
            if "episode_return_mean" in result:
                logger.record("rollout/ep_rew_mean", result["episode_return_mean"])
                bar.set_postfix_str(f"return {result['episode_return_mean']:.1f}")
            logger.dump(done)
            ending = done >= args.steps or interrupt.asked
            if ending or done >= scored + args.validate_every:
                self._score(done)
                scored = done
            if ending or done >= saved + args.checkpoint_every:
                self._save(done)
                saved = done
        return done

    def _score(self, done: int) -> None:
        """Score the agent on validation tasks, and write it down if it is the best so far, of equal ones the latest."""
        from agents.ray_ppo import export

        policy = export(self._algorithm.get_module(), self._header)
        self._scores.add(
            done,
            mean_score(self._validation, lambda tasks: run_policy(policy, tasks)),
            lambda told: Policy(policy.layers, {**policy.header, **told}).save(self._args.out / POLICY),
        )

    def _save(self, done: int) -> None:
        """Save all there is of the agent: each checkpoint is whole or absent, and the two last are kept."""
        folder = self._args.out / CHECKPOINTS
        unfinished = folder / f"{done}.part"
        shutil.rmtree(unfinished, ignore_errors=True)
        self._algorithm.save_to_path(unfinished.absolute())
        if (best := self._args.out / POLICY).exists():
            shutil.copy(best, unfinished)
        unfinished.replace(folder / str(done))
        for old in [*checkpoints(self._args.out)[:-2], *folder.glob("*.part")]:
            shutil.rmtree(old)


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a run, oldest first."""
    return sorted((path for path in (folder / CHECKPOINTS).glob("*") if path.name.isdigit()), key=lambda p: int(p.name))
