"""A template: a task family of one's own, checked and used, in one file.

The inner problem is a valley in the shape of a ring, in the plane, with a floor that leans towards two points:

    f(theta) = curvature * (|theta|^2 - radius^2)^2 / 4 + stiffness * theta_y^2 / 2,    f* = 0 at (+-radius, 0)

The walls are steep and the floor is not, so that no constant step size does for both. (Without the second term all
happens along one line, where the best constant step arrives at the floor; scores drop tasks that it solves.) Nothing in
the package is edited.

python examples/03_new_family.py

Scores of a family of one's own, the rules and controls of the package among them:

PYTHONPATH=examples python -m metalearn_env score --env MetaLearn/LinearRegression-v0 \
    --env-kwargs family:03_new_family:Ring --tasks 64
"""

from dataclasses import dataclass
from typing import NamedTuple, final

import gymnasium as gym
import numpy as np

import metalearn_env
from metalearn_env import TaskFamily
from metalearn_env.scoring import TaskSet
from metalearn_env.testing import check_family


class RingTask(NamedTuple):
    """n tasks: arrays with leading axis n. Whatever is random in an episode is in here."""

    start: np.ndarray  # (n, 2)
    curvature: np.ndarray  # (n,) of the walls
    stiffness: np.ndarray  # (n,) of the floor
    radius: np.ndarray  # (n,)


@final
@dataclass(frozen=True, eq=False, kw_only=True)
class Ring(TaskFamily[RingTask]):
    """Valleys in the shape of a ring. Fields are options of `gym.make`; each has a default."""

    kind = "supervised"  # or "unsupervised", "reinforcement"
    descriptor_names = ("radius", "log_flatness")  # what the agent may know of a task, at most 8 numbers

    radius: tuple[float, float] = (1.0, 2.0)

    def __post_init__(self):
        super().__post_init__()
        if not 0.0 < self.radius[0] <= self.radius[1]:
            raise ValueError(f"radius is a range (low, high) above 0, not {self.radius!r}")

    def axes(self):
        """Optional: what lies out of distribution, along each axis the options that lead beyond those configured."""
        return {"radius": {"radius": (self.radius[1], 3.0 * self.radius[1])}}

    @property
    def num_parameters(self):
        return 2

    def sample(self, rng, n, horizon):
        """The only method with a generator: draw n tasks, and the noise of t = 0, ..., horizon if there is any."""
        radius = rng.uniform(*self.radius, n)
        angle = rng.uniform(0.0, 2.0 * np.pi, n)
        start = 2.0 * radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        curvature = 10.0 ** rng.uniform(-2.0, 2.0, n)
        return RingTask(start, curvature, curvature * 10.0 ** rng.uniform(-2.0, 0.0, n), radius)

    def start(self, task):
        return task.start.copy()

    def loss(self, task, theta):
        """The exact loss, of which rewards are made; all answers are for n tasks, each by itself."""
        height = np.vecdot(theta, theta) - task.radius**2
        return task.curvature * height**2 / 4.0 + task.stiffness * theta[:, 1] ** 2 / 2.0

    def direction(self, task, theta, t):
        """Where the learner moves, here minus the gradient; noise, if any, is that of the times t (n,)."""
        height = np.vecdot(theta, theta) - task.radius**2
        gradient = (task.curvature * height)[:, None] * theta
        gradient[:, 1] += task.stiffness * theta[:, 1]
        return -gradient

    def descriptor(self, task):
        return np.stack([task.radius, np.log10(task.curvature / task.stiffness)], axis=1)

    def step_unit(self, task, first):
        """Optional: the task's natural step size, from what shows at t = 0; here f / |g|^2."""
        return first.signal / np.vecdot(first.direction, first.direction)

    def reference_loss(self, task):
        """f*, the loss from which gaps are measured."""
        return np.zeros(len(task.radius))


if __name__ == "__main__":
    check_family(Ring)  # the contract, executed: a broken family is refused with the rule it breaks
    # In a package of one's own it is better named "package.module:Ring", which worker processes can import, too.
    env_id = metalearn_env.register_family("Ring", Ring)
    envs = gym.make_vec(env_id, num_envs=4, radius=(1.0, 3.0), split="test")
    observation, infos = envs.reset(seed=0)
    for _ in range(50):
        observation, reward, terminated, truncated, infos = envs.step(np.full((4, 1), -0.01, np.float32))
    print("final gaps after a slowly shrinking step size:", infos["final_gap"])
    tasks = TaskSet(env_id, tasks=64)
    print(f"{tasks.counted.sum()} of 64 tasks count in scores: no constant step size solves them")
