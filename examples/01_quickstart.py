"""Ten lines of Gymnasium: choose step sizes of linear regression by hand, beside the best constant step.

python examples/01_quickstart.py
"""

import gymnasium as gym
import numpy as np

env = gym.make("metalearn_env:MetaLearn/LinearRegression-v0", split="test")
names = env.unwrapped.feature_names
curvature = names.index("curvature[-1]")  # log of step size x curvature along the last step

observation, info = env.reset(seed=0)
print(f"{len(names)} features, from {names[0]} to {names[-1]}")
print(f"start: loss {info['loss']:.4g}, gap {info['gap']:.4g}")

total, ended = 0.0, False
while not ended:
    # Barzilai and Borwein's step: the last one, divided by its curvature number. Actions are powers of 100.
    action = np.clip(-observation[curvature] / np.log(100), -1, 1)
    observation, reward, terminated, truncated, info = env.step(np.array([action], np.float32))
    total, ended = total + reward, terminated or truncated

print(f"end:   loss {info['loss']:.4g}, gap {info['gap']:.4g}")
print(f"return {total:.2f} = log(first gap / last gap)")
