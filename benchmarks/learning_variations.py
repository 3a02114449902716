"""What is changed, one thing at a time, for docs/learning.md: variations of a base, and what they are trained on."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass

from benchmarks.agent_settings import SETTINGS
from benchmarks.setting import MIXTURE, REGRESSION
from benchmarks.trainings import Training, arguments, networks

NOISY = SETTINGS["minibatch"]
ENVS = {"LinearRegression": (REGRESSION, ()), "Mixture": (MIXTURE, ()), "minibatch": (NOISY.env, NOISY.env_kwargs)}
WITHOUT_NOISE = ("LinearRegression", "Mixture")
BASE = "base"
OF_BASE = ("n_epochs:6", "batch_size:1600", "learning_rate:lin_0.001", networks())  # on every environment
RELU = networks(units="relu")
HIDDEN = ("task", "progress", "history", "curvature", "cosine")


@dataclass(frozen=True)
class Variation:
    """One thing that is changed.

    Args:
        name: of what.
        value: to what it is.
        env_kwargs: options of the environment.
        hyperparams: that go before those of the file.
        budget: environment steps, as a multiple of those of the others.
        only: of `ENVS`, where it is tried.
    """

    name: str
    value: str
    env_kwargs: tuple[str, ...] = ()
    hyperparams: tuple[str, ...] = ()
    budget: float = 1.0
    only: tuple[str, ...] = WITHOUT_NOISE

    def trainings(self, name: str, options: argparse.Namespace) -> list[Training]:
        """Return the trainings of all seeds on one of `ENVS`."""
        env, env_kwargs = ENVS[name]
        folder = options.runs / name / re.sub(r"[^\w.]+", "-", f"{self.name}-{self.value}").strip("-")
        steps = max(1, round(self.budget * options.steps))
        hyperparams = (*OF_BASE, *options.hyperparams, *self.hyperparams)
        return [
            Training(
                folder / f"seed-{seed}", arguments(env, (*env_kwargs, *self.env_kwargs), hyperparams, seed=seed), steps
            )
            for seed in options.seeds
            if name in self.only
        ]


def _of_env(name: str, option: str, *values: str) -> list[Variation]:
    return [Variation(name, value, env_kwargs=(f"{option}:{value}",)) for value in values]


def _of_algorithm(name: str, option: str, *values: str) -> list[Variation]:
    return [Variation(name, value, hyperparams=(f"{option}:{value}",)) for value in values]


def _epochs(epochs: int, batch: int, *others: str, told: str = "") -> Variation:
    hyperparams = (f"n_epochs:{epochs}", f"batch_size:{batch}", *others)
    return Variation("epochs", f"{epochs}, in batches of {batch}{told}", hyperparams=hyperparams)


def _light(epochs: int, batch: int, rate: str, width: int = 64) -> Variation:
    """Return updates of little arithmetic, for networks of relu."""
    told = f", at {rate}, relu" + ("" if width == 64 else f", two layers of {width}")
    return _epochs(epochs, batch, f"learning_rate:{rate}", networks(width, units="relu"), told=told)


def _decisions(value: str, *env_kwargs: str) -> Variation:
    return Variation("decisions", value, env_kwargs=env_kwargs, only=("minibatch",))


VARIATIONS = (
    Variation(BASE, "as it is", only=tuple(ENVS)),
    *_of_env("action", "action", "absolute", "discrete"),
    *_of_env("history", "history", "0", "1", "10"),
    *_of_env("resolution", "resolution", "0.03125", "0.25"),
    *_of_env("reward", "reward", "linear"),
    *_of_env("first step", "first_step_decades", "0.5", "2"),
    Variation("horizon", "20 to 100", env_kwargs=("horizon:[20,100]",)),
    *_of_algorithm("discount", "gamma", "0.99", "0.9"),
    *_of_algorithm("gae_lambda", "gae_lambda", "0.8", "0.95", "1.0"),
    *_of_algorithm("returns", "normalize", "{norm_obs: false, norm_reward: true}"),
    *_of_algorithm("rows", "n_envs", "64", "1024"),
    _epochs(3, 800),
    _epochs(2, 640),
    _epochs(1, 400),
    _light(2, 1600, "lin_0.002"),
    *(_light(2, 1600, "lin_0.002", width) for width in (32, 48)),
    *(_light(1, 800, rate) for rate in ("lin_0.002", "lin_0.003", "lin_0.004")),
    *(Variation("network", f"two layers of {width}", hyperparams=(networks(width),)) for width in (32, 128)),
    Variation("network", "relu", hyperparams=(RELU,)),
    *(Variation("hidden", name, hyperparams=(f"hidden:[{name}]",)) for name in HIDDEN),
    Variation("critic", "privileged", hyperparams=("privileged:true",)),
    Variation("ritz", "seen", env_kwargs=("ritz:20",), only=("LinearRegression",)),
    Variation("ritz", "chosen", env_kwargs=("action:discrete", "ritz:20"), only=("LinearRegression",)),
    Variation("reward units", "none", hyperparams=("raw_rewards:true",), only=("Mixture",)),
    _decisions("every 10 steps", "interval:10"),
    _decisions("10, then every 10 steps", "interval:10", "opening:10"),
    _decisions("10, then every 10 steps, on means", "interval:10", "opening:10", "averaged:true"),
    _decisions("10, then every 5 steps, on means", "interval:5", "opening:10", "averaged:true"),
    _decisions("10, then every 20 steps, on means", "interval:20", "opening:10", "averaged:true"),
    Variation("budget", "a quarter", budget=0.25),
    Variation("budget", "four times", budget=4.0),
)
NAMES = tuple(dict.fromkeys(variation.name for variation in VARIATIONS))
