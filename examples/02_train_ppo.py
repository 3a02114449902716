"""Train PPO of Stable-Baselines3 on step sizes: its mean return on held-out tasks, and what rules score on them.

python examples/02_train_ppo.py --steps 500_000

It prints the return before and after, and a table of the classical rules. `python -m agents.train` also exports the
agent to a policy file, which `python -m agents.evaluate` scores beside them.
"""

import argparse
from dataclasses import dataclass, fields

import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecMonitor

from metalearn_env.adapters.sb3 import make_sb3_env
from metalearn_env.commandline import run
from metalearn_env.ranges import as_integer
from metalearn_env.scoring import TaskSet
from metalearn_env.scoring.table import contender, formatted, score


@dataclass
class Args:
    env: str = "metalearn_env:MetaLearn/LinearRegression-v0"
    steps: int = 500_000
    num_envs: int = 256
    seed: int = 0
    tasks: int = 256

    def __post_init__(self) -> None:
        for name in ("steps", "num_envs", "tasks"):
            as_integer(name, getattr(self, name), minimum=1)


def parse() -> Args:
    parser = argparse.ArgumentParser(description=__doc__)
    for field in fields(Args):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default), default=field.default)
    return Args(**vars(parser.parse_args()))


def evaluate(model: PPO, args: Args) -> float:
    """Return the mean return over an episode of each held-out task."""
    env = make_sb3_env(args.env, args.tasks, seed=args.seed, split="test")
    observation, total, running = env.reset(), np.zeros(args.tasks), np.ones(args.tasks, bool)
    while running.any():
        action, _ = model.predict(observation, deterministic=True)
        observation, reward, done, _ = env.step(action)
        total += reward * running
        running &= ~done
    return float(total.mean())


def main(args: Args) -> None:
    env = VecMonitor(make_sb3_env(args.env, args.num_envs, seed=args.seed))
    model = PPO(
        "MlpPolicy",
        env,
        n_steps=50,  # one episode
        batch_size=min(1600, 50 * args.num_envs),
        n_epochs=6,
        gamma=1.0,  # the horizon is part of the problem
        gae_lambda=0.9,
        learning_rate=1e-3,
        policy_kwargs={"log_std_init": -1.7},
        seed=args.seed,
        device="cpu",
    )
    print(f"untrained: mean return {evaluate(model, args):.2f} on held-out tasks")
    model.learn(args.steps, progress_bar=True)
    print(f"trained:   mean return {evaluate(model, args):.2f}")
    tasks = TaskSet(args.env, "test", args.tasks, args.seed)
    print(formatted(score(tasks, [contender(name) for name in ("oracle-constant", "bb1", "dai-yuan")])))


if __name__ == "__main__":
    raise SystemExit(run(lambda: main(parse())))
