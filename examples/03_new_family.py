"""A template: a task family of one's own, checked and used, in one file.

The inner problem is a circle to be walked around a valley floor: f(theta) = curvature * (|theta|^2 - radius^2)^2 / 4 in
the plane, whose gradient is curvature * (|theta|^2 - radius^2) * theta. Nothing in the package is edited.

python examples/03_new_family.py
"""

from dataclasses import dataclass
from typing import NamedTuple, final

import gymnasium as gym
import numpy as np

import metalearn_env
from metalearn_env import TaskFamily
from metalearn_env.testing import check_family


class RingTask(NamedTuple):
    """n tasks: arrays with leading axis n. Whatever is random in an episode is in here."""

    start: np.ndarray  # (n, 2)
    curvature: np.ndarray  # (n,)
    radius: np.ndarray  # (n,)


@final
@dataclass(frozen=True, eq=False, kw_only=True)
class Ring(TaskFamily[RingTask]):
    """Valleys in the shape of a ring. Fields are options of `gym.make`; each has a default."""

    kind = "supervised"  # or "unsupervised", "reinforcement"
    descriptor_names = ("radius",)  # what the agent may know of a task, at most 8 numbers

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
        return RingTask(start, 10.0 ** rng.uniform(-2.0, 2.0, n), radius)

    def start(self, task):
        return task.start.copy()

    def loss(self, task, theta):
        return task.curvature * (np.vecdot(theta, theta) - task.radius**2) ** 2 / 4.0

    def direction(self, task, theta, t):
        return -(task.curvature * (np.vecdot(theta, theta) - task.radius**2))[:, None] * theta

    def descriptor(self, task):
        return task.radius[:, None]

    def step_unit(self, task, first):
        """Optional: the task's natural step size, from what shows at t = 0; here f / |g|^2."""
        return first.signal / np.vecdot(first.direction, first.direction)

    def reference_loss(self, task):
        return np.zeros(len(task.radius))


if __name__ == "__main__":
    check_family(Ring)  # the contract, executed: a broken family is refused with the rule it breaks
    # In a package of one's own this is "package.module:Ring", which worker processes can import, too.
    env_id = metalearn_env.register_family("Ring", f"{Ring.__module__}:Ring")
    envs = gym.make_vec(env_id, num_envs=4, radius=(1.0, 3.0), split="test")
    observation, infos = envs.reset(seed=0)
    for _ in range(50):
        observation, reward, terminated, truncated, infos = envs.step(np.full((4, 1), -0.01, np.float32))
    print("final gaps after a slowly shrinking step size:", infos["final_gap"])
