"""The tasks that agents are trained and scored on for docs/results/agents.md, and the bars that were set before."""

from __future__ import annotations

from collections.abc import Iterator

from agents.grids import grid_id
from benchmarks.setting import (
    CLUSTERING,
    DISTILLED,
    GRADIENT,
    ISOTROPIC,
    MIXTURE,
    OPEN_LOOP,
    Q_LEARNING,
    REGRESSION,
    Bar,
    Setting,
)
from benchmarks.trainings import networks


def _minibatches() -> str:
    """Return a mixture of the batch sizes of the bar; its spectrum is the one that gives the earlier figures back."""
    common = '"dimension": 10, "conditioning": [1, 100], "spectrum": "linear-uniform"'
    return _families("LinearRegression", *(f'{common}, "batch_size": {size}' for size in (1, 2, 4, 8)))


def _families(family: str, *options: str) -> str:
    """Return a mixture of one family, with other options each."""
    entries = [f'{{"family": "{family}"{", " * bool(one)}{one}}}' for one in options]
    return f"families:[{', '.join(entries)}]"


SIX_EPOCHS = ("n_epochs:6", "learning_rate:lin_0.001")  # on mixtures, too
WIDE = ("dimension:64", "conditioning:[10,10000]", "horizon:40")
RITZ = ("action:discrete", "ritz:20")
ROUNDED = ("resolution:0.03125",)  # so that actions are the same in other units of the objective
LONG_OPENING = ("interval:2", "opening:100", "averaged:true")  # where steps that are held may let a run diverge
LATER = ("interval:5", "opening:50", "averaged:true")  # where runs are short, each step is decided on


def _rows(rows: int, steps: int, batch: int = 4096) -> tuple[str, ...]:
    return (*SIX_EPOCHS, f"n_envs:{rows}", f"n_steps:{steps}", f"batch_size:{batch}", "gae_lambda:0.95")


def _choosing(rows: int, steps: int, batch: int) -> tuple[str, ...]:
    """What an early choice was good for shows at the end: returns to the end, and choices that stay open for long."""
    return (f"n_envs:{rows}", f"n_steps:{steps}", f"batch_size:{batch}", "gae_lambda:1.0", "ent_coef:0.01")


def _wide() -> str:
    """Return a mixture of Garnets of all kinds, noise up to ten times the usual, grid worlds and errands."""
    garnets = (
        "",
        "",
        '"states": [6, 64], "actions": [2, 4], "branching": [1, 6], "rewarded": [0.02, 1], "ending": [0.01, 0.5], '
        '"noise": [0.01, 30]',
        '"states": [8, 64], "discount": [0.8, 0.999], "noise": [0.01, 30]',
        '"noise": [3, 30]',
        '"states": [6, 40], "noise": [3, 30]',
    )
    worlds = [grid_id(index) for index in (0, 3, 5, 6)]
    worlds += [grid_id(index, "Errand") for index in (0, 1)]
    return _families("QLearning", *garnets, *(f'"mdp": "{world}"' for world in worlds))


def _slopes(tasks: int, every: int = 25, validated: int = 128) -> tuple[str, ...]:
    on = ("--validate-every", str(every), "--validation-tasks", str(validated))
    return ("--tasks", str(tasks), "--learning-rate", "0.05", *on)


def _of_gaussian_designs() -> Iterator[Setting]:
    """Yield the settings of agents who remember five decisions, as mixtures do, who remember ten, and who see less."""
    kwargs, bar = ("spectrum:gaussian", "dimension:64", "horizon:20"), Bar(0.75, 0.85, OPEN_LOOP)
    choosing, longer = _choosing(1024, 20, 4096), (*RITZ, "history:10")
    yield Setting("gaussian", REGRESSION, kwargs, bar, RITZ, choosing, steps=8_000_000)
    yield Setting("gaussian-history-10", REGRESSION, kwargs, bar, longer, choosing, steps=20_000_000)
    yield Setting("gaussian-plain", REGRESSION, kwargs, hyperparams=_rows(1024, 20, 2048), steps=5_000_000)


def _of_spectrum(spectrum: str, bar: Bar) -> Iterator[Setting]:
    """Yield the setting of a spectrum, and that of agents who see no Ritz values."""
    kwargs = (f"spectrum:{spectrum}", *WIDE)
    yield Setting(spectrum, REGRESSION, kwargs, bar, RITZ, _choosing(1024, 40, 8192), steps=2_000_000)
    yield Setting(f"{spectrum}-plain", REGRESSION, kwargs, hyperparams=_rows(1024, 40, 8192), steps=20_000_000)


#: teachers on horizons that vary; that of Q-learning counts twice
OF_HORIZONS = (f"{CLUSTERING} horizon:[20,100]=mixture-ppo", *2 * ("q-learning-default",))
TEACHERS = (
    *("gaussian-plain", "log-uniform-plain", "linear-uniform-plain", "minibatch-long-opening"),
    *("clustering", "q-learning", f"{REGRESSION} horizon:[10,50]=linear-regression"),
    *("linear-regression-later-plain", *OF_HORIZONS),
)
TEACHERS_OF_CHOICES = (
    *("gaussian", "log-uniform", "linear-uniform", "minibatch-opening", "clustering", "q-learning"),
    *("linear-regression-ritz", "linear-regression-later", *OF_HORIZONS),
)

SETTINGS: dict[str, Setting] = {
    setting.name: setting
    for setting in (
        *_of_gaussian_designs(),
        *_of_spectrum("log-uniform", Bar(0.40, 0.50, "dai-yuan")),
        *_of_spectrum("linear-uniform", Bar(0.50, 0.60, "dai-yuan")),
        Setting(
            "minibatch",
            MIXTURE,
            (_minibatches(), "horizon:200"),
            Bar(0.40, 0.55, "isotropic-lms"),
            agent_kwargs=("interval:5", "opening:10", "averaged:true"),
            hyperparams=(*_rows(1024, 48, 8192), networks(spread=-2.5)),
            steps=8_000_000,
        ),
        Setting(
            "minibatch-opening",  # whose agents can teach one that decides at each of the first steps
            MIXTURE,
            (_minibatches(), "horizon:200"),
            agent_kwargs=LATER,
            hyperparams=(*_rows(1024, 80, 8192), networks(spread=-2.5)),
            steps=8_000_000,
        ),
        Setting(
            "minibatch-long-opening",  # the same, for one that sees no Ritz values
            MIXTURE,
            (_minibatches(), "horizon:200"),
            agent_kwargs=LONG_OPENING,
            hyperparams=(*_rows(1024, 75, 8192), networks(spread=-2.5)),
            steps=8_000_000,
        ),
        Setting(
            "clustering",
            CLUSTERING,
            ("batch_size:20", "horizon:60", "restarts:16"),
            Bar(None, None, "linear-decay", "lloyd"),
            hyperparams=_rows(512, 60),
            steps=2_000_000,
        ),
        Setting(
            "q-learning",
            Q_LEARNING,
            ("states:12", "actions:3", "horizon:400"),
            Bar(0.30, 0.50),
            agent_kwargs=("action:absolute",),
            algo=GRADIENT,
            gradient=_slopes(256, every=50, validated=512),
            train_env=Q_LEARNING,
            train_kwargs=("states:12", "actions:3", "horizon:[50,400]"),
            steps=1500,
        ),
        Setting(
            ISOTROPIC,
            REGRESSION,
            ("spectrum:log-uniform", "conditioning:1", "dimension:10", "batch_size:4", "noise:0.1", "horizon:50"),
        ),
        Setting("linear-regression", REGRESSION, agent_kwargs=ROUNDED, hyperparams=_rows(1024, 50), steps=8_000_000),
        Setting(
            "linear-regression-ritz",
            REGRESSION,
            agent_kwargs=RITZ,
            hyperparams=_choosing(1024, 50, 8192),
            steps=2_000_000,
        ),
        Setting(
            "linear-regression-later",  # whose agents hold steps in runs that are long
            REGRESSION,
            ("horizon:[50,150]",),
            agent_kwargs=(*RITZ, *LATER),
            hyperparams=_choosing(512, 70, 8192),
            steps=2_000_000,
        ),
        Setting(
            "linear-regression-later-plain",  # the same, for one that sees no Ritz values
            REGRESSION,
            ("horizon:[50,200]",),
            agent_kwargs=LONG_OPENING,
            hyperparams=_rows(512, 75, 8192),
            steps=8_000_000,
        ),
        Setting("clustering-default", CLUSTERING, hyperparams=_rows(1024, 50), steps=5_000_000),
        Setting(
            "clustering-wide",  # of horizons that vary
            CLUSTERING,
            agent_kwargs=("interval:5", "opening:5", "averaged:true"),
            hyperparams=_rows(1024, 24, 8192),
            train_env=CLUSTERING,
            train_kwargs=("horizon:[20,100]",),
            steps=10_000_000,
        ),
        Setting(
            "q-learning-default",  # of horizons that vary
            Q_LEARNING,
            agent_kwargs=("action:absolute",),
            algo=GRADIENT,
            gradient=_slopes(256, every=50, validated=512),
            train_env=Q_LEARNING,
            train_kwargs=("horizon:[20,100]",),
            steps=1500,
        ),
        Setting(
            "q-learning-wide",
            Q_LEARNING,
            agent_kwargs=("action:absolute",),
            algo=GRADIENT,
            gradient=_slopes(64, every=100),
            train_env=MIXTURE,
            train_kwargs=(_wide(), "horizon:[20,150]"),
            steps=2000,
        ),
        Setting(
            "mixture-ppo",  # of horizons that vary
            MIXTURE,
            hyperparams=(*_rows(1024, 50), networks()),
            train_env=MIXTURE,
            train_kwargs=("horizon:[20,100]",),
            steps=10_000_000,
        ),
        Setting(
            "mixture", MIXTURE, agent_kwargs=(*LONG_OPENING, *ROUNDED), algo=DISTILLED, steps=600, teachers=TEACHERS
        ),
        Setting(
            "mixture-ritz",
            MIXTURE,
            agent_kwargs=(*RITZ, *LATER),
            algo=DISTILLED,
            steps=300,
            teachers=TEACHERS_OF_CHOICES,
        ),
    )
}
#: whose agents are scored out of distribution and on real data
DEFAULTS = (
    *("linear-regression", "linear-regression-ritz", "clustering-default", "clustering-wide"),
    *("q-learning-default", "q-learning-wide", "mixture", "mixture-ritz"),
)
ALIKE = ("minibatch", "clustering", "q-learning")
OF_BARS = ("gaussian", "log-uniform", "linear-uniform")
#: that agents of a mixture are to be as good on as those trained there, who see as much or, the last three of
#: `mixture` and the last of `mixture-ritz`, more
SPECIALISTS = {
    "mixture-ritz": (*OF_BARS, *ALIKE, "gaussian-history-10"),
    "mixture": (*(f"{name}-plain" for name in OF_BARS), *ALIKE, *OF_BARS),
}
