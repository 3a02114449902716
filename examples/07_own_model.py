"""A model and data of one's own as an environment, and a policy that was scored in it in one's own training loop.

python examples/07_own_model.py

The environment trains the model on random subsamples of the data, one an episode: agents can learn its step size there
(any agent for Gymnasium), and policies are scored there beside the best constant steps. `--policy FILE` takes another.
"""

import argparse

import gymnasium as gym
import numpy as np
import torch
from torch import nn

from metalearn_env.adapters.torch import LearnedStepSize
from metalearn_env.commandline import whole
from metalearn_env.policy import load

ENV_ID, STEPS = "MetaLearn/NeuralNetwork-v0", 50


class Crosses(nn.Module):
    """A small convolutional network; any module does that draws no random numbers and keeps no state."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))

    def forward(self, images):
        return self.layers(images[:, None])


def pictures(n=300):
    """Return images of horizontal and vertical bars in noise, (n, 8, 8), and which of the two they are, (n,)."""
    rng = np.random.default_rng(0)
    images, labels = rng.normal(size=(n, 8, 8)), rng.integers(2, size=n)
    for image, label, where in zip(images, labels, rng.integers(8, size=n), strict=True):
        image[(where, slice(None)) if label else (slice(None), where)] += 2.0
    return images, labels


def in_the_environment(options, episodes, choose):
    """Return the median of the final losses of episodes that run side by side."""
    envs = gym.make_vec(ENV_ID, num_envs=episodes, split="test", horizon=STEPS, **options)
    observations, _ = envs.reset(seed=0)
    losses = np.full(episodes, np.nan)
    while np.isnan(losses).any():
        observations, _, ended, _, infos = envs.step(choose(observations))
        losses = np.where(np.isnan(losses) & ended, infos["loss"], losses)
    return np.median(losses)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", default="neural-network", help="a policy's name or file")
    parser.add_argument("--episodes", type=whole, default=32, help="in the environment")
    policy = load((given := parser.parse_args()).policy)
    images, labels = data = pictures()
    options = {"module": Crosses, "dataset": data, "optimizer": "adam", **policy.options}
    for name, choose in {"unit": lambda seen: np.zeros((len(seen), 1)), "policy": policy}.items():
        print(f"median loss with steps of the {name}: {in_the_environment(options, given.episodes, choose):.4f}")

    torch.manual_seed(0)
    model, x, y = Crosses(), torch.tensor(images, dtype=torch.float32), torch.tensor(labels)
    optimizer = torch.optim.Adam(model.parameters())
    scheduler = LearnedStepSize(optimizer, policy, STEPS, batch_size=16, descriptor={"log10_dimension": np.log10(64)})
    for _ in range(STEPS):
        which = torch.randint(200, (16,))
        loss = nn.functional.cross_entropy(model(x[which]), y[which])
        optimizer.zero_grad()
        loss.backward()
        scheduler.step(loss)  # before optimizer.step()
        optimizer.step()
    right = (model(x[200:]).argmax(1) == y[200:]).float().mean()
    print(f"in a loop of one's own: {right:.0%} of 100 new pictures are told")


if __name__ == "__main__":
    main()
