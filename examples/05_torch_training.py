"""A training loop of PyTorch with a learned step size, beside learning rates that somebody has to choose.

python examples/05_torch_training.py

A perceptron learns scikit-learn's handwritten digits. One line makes the policy, one calls it; there is nothing to
tune, and the learning rate given to the optimiser does not matter. `--policy FILE` takes a policy of one's own.
"""

import argparse

import torch
from sklearn.datasets import load_digits
from torch import nn

from metalearn_env.adapters.torch import LearnedStepSize
from metalearn_env.commandline import whole

BATCH_SIZE, TRAINED_ON = 32, 1200


def train(x, y, steps, seed, lr, policy=None):
    """Return a trained model, and the learning rates that were taken."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    scheduler = LearnedStepSize(optimizer, policy, horizon=steps, batch_size=BATCH_SIZE) if policy else None
    rates = []
    for _ in range(steps):
        which = torch.randint(TRAINED_ON, (BATCH_SIZE,))
        loss = nn.functional.cross_entropy(model(x[which]), y[which])
        optimizer.zero_grad()
        loss.backward()
        if scheduler:
            scheduler.step(loss)  # before optimizer.step(): the policy chooses the step of this very update
        optimizer.step()
        rates.append(optimizer.param_groups[0]["lr"])
    return model, rates


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", default="neural-network", help="a policy's name or file")
    parser.add_argument("--steps", type=whole, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images / 8.0 - 1.0, dtype=torch.float32), torch.tensor(labels)
    kinds = {f"constant {lr:g}": (lr, None) for lr in (0.001, 0.01, 0.1, 1.0, 10.0)}
    kinds["learned"] = (0.1, options.policy)
    print("learning rate     training loss   test accuracy   first and last learning rate")
    for name, (lr, policy) in kinds.items():
        model, rates = train(x, y, options.steps, options.seed, lr, policy)
        with torch.no_grad():
            loss = nn.functional.cross_entropy(model(x[:TRAINED_ON]), y[:TRAINED_ON])
            right = (model(x[TRAINED_ON:]).argmax(1) == y[TRAINED_ON:]).float().mean()
        print(f"{name:16s}{loss:15.4f}{right:16.1%}   {rates[0]:.3g}, {rates[-1]:.3g}")


if __name__ == "__main__":
    main()
