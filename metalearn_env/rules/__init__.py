"""Hand-designed step-size rules, by name.

A rule is a generator: it is given the `Engine` at the start of n episodes and yields a step size, (n,), for every inner
step; a move, (n, p), if it is outside the class of what is compared; or either of them `Charged` with evaluations.
What it remembers are its local variables. Each docstring gives formula and source, and says what the rule is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import NamedTuple

import numpy as np

from metalearn_env.engine import Engine
from metalearn_env.family import TINY, Array, TaskFamily


class Charged(NamedTuple):
    """A step that has cost more evaluations of the direction than the one that every step costs."""

    step: Array  # (n,), or a move (n, p)
    evaluations: Array  # (n,) beyond that one


Rule = Callable[[Engine], Iterator[Array | Charged]]

LEAST_CURVATURE = 1e-12  # times that of the unit, or of the last step, of a task; a smaller one counts as none
NOTHING = 1e16 * TINY  # the squared norm of a direction that is zero is below


class Entry(NamedTuple):
    """A rule as the table of rules has it."""

    path: str  # "module:function", imported when asked for
    told: str = "nothing"  # beyond what it sees: directions, signals, its own steps
    families: tuple[str, ...] = ()  # the class names of those it is for; empty: any
    outside: bool = False  # whether it makes moves that are no multiples of the direction, so that S may be above 1


REGRESSION, CLUSTERING, Q_LEARNING, TRACKING = ("LinearRegression",), ("Clustering",), ("QLearning",), ("Tracking",)
_HERE = "metalearn_env.rules"

RULES: dict[str, Entry] = {
    "exact-line-search": Entry(f"{_HERE}.line_search:exact_line_search", told="curvature along the direction"),
    "relaxed-line-search": Entry(f"{_HERE}.line_search:relaxed_line_search", told="curvature along the direction"),
    "dai-yuan": Entry(f"{_HERE}.line_search:dai_yuan", told="curvature along the direction"),
    "armijo": Entry(f"{_HERE}.backtracking:armijo"),
    "bb1": Entry(f"{_HERE}.barzilai_borwein:bb1"),
    "bb2": Entry(f"{_HERE}.barzilai_borwein:bb2"),
    "abb-min": Entry(f"{_HERE}.barzilai_borwein:abb_min"),
    "limited-memory": Entry(f"{_HERE}.limited_memory:limited_memory", families=REGRESSION),
    "polyak": Entry(f"{_HERE}.polyak:polyak", told="f*"),
    "sps": Entry(f"{_HERE}.polyak:sps"),
    "adaptive-gd": Entry(f"{_HERE}.adaptive:adaptive_gd"),
    "hypergradient": Entry(f"{_HERE}.adaptive:hypergradient"),
    "dog": Entry(f"{_HERE}.adaptive:dog"),
    "adagrad-norm": Entry(f"{_HERE}.adaptive:adagrad_norm"),
    "inverse-l": Entry(f"{_HERE}.spectral:inverse_l", "L", REGRESSION),
    "silver": Entry(f"{_HERE}.spectral:silver", "L", REGRESSION),
    "chebyshev": Entry(f"{_HERE}.spectral:chebyshev", "L, mu, T", REGRESSION),
    "arcsine": Entry(f"{_HERE}.spectral:arcsine", "L, mu", REGRESSION),
    "heavy-ball": Entry(f"{_HERE}.momentum:heavy_ball", "L, mu", REGRESSION, outside=True),
    "nesterov": Entry(f"{_HERE}.momentum:nesterov", "L, mu, T", REGRESSION, outside=True),
    "conjugate-gradients": Entry(
        f"{_HERE}.momentum:conjugate_gradients", "curvature along its path", REGRESSION, outside=True
    ),
    "nlms": Entry(f"{_HERE}.streaming:nlms", "the inputs", REGRESSION),
    "isotropic-lms": Entry(f"{_HERE}.streaming:isotropic_lms", "trace, noise, d, b, first gap", REGRESSION),
    "idbd": Entry(f"{_HERE}.streaming:idbd", "the inputs", REGRESSION, outside=True),
    "one-over-updates": Entry(f"{_HERE}.centres:one_over_updates", "points owned", CLUSTERING, outside=True),
    "mini-batch-k-means": Entry(f"{_HERE}.centres:mini_batch_k_means", "points owned", CLUSTERING, outside=True),
    "root-of-share": Entry(f"{_HERE}.centres:root_of_share", "points owned", CLUSTERING, outside=True),
    "linear-decay": Entry(f"{_HERE}.centres:linear_decay", "T", CLUSTERING),
    "lloyd": Entry(f"{_HERE}.centres:lloyd", "all points", CLUSTERING, outside=True),
    "over-relaxed-lloyd": Entry(f"{_HERE}.centres:over_relaxed_lloyd", "all points", CLUSTERING, outside=True),
    "one-over-visits": Entry(f"{_HERE}.visits:one_over_visits", "the pairs it updates", Q_LEARNING),
    "polynomial": Entry(f"{_HERE}.visits:polynomial", "the pairs it updates", Q_LEARNING),
    "wainwright": Entry(f"{_HERE}.visits:wainwright", "the pairs it updates, gamma", Q_LEARNING),
    "harmonic": Entry(f"{_HERE}.visits:harmonic", "the pairs it updates", Q_LEARNING),
    "bakf": Entry(f"{_HERE}.entries:bakf", "the pairs it updates", Q_LEARNING, outside=True),
    "rmsprop": Entry(f"{_HERE}.entries:rmsprop", "the pairs it updates", Q_LEARNING, outside=True),
    "speedy-q": Entry(f"{_HERE}.entries:speedy_q", "the pairs it updates", Q_LEARNING, outside=True),
    "drift-tracking": Entry(f"{_HERE}.tracking:drift_tracking", "q", TRACKING),
    "kalman": Entry(f"{_HERE}.tracking:kalman", "q", TRACKING),
}


def rules_of(family: TaskFamily) -> list[str]:
    """Return the names of the rules for a family."""
    name = type(family).__name__
    return [rule for rule, entry in RULES.items() if not entry.families or name in entry.families]


def rule(name: str) -> Rule:
    """Return the rule of a name of `RULES`."""
    module, _, function = RULES[name].path.partition(":")
    found: Rule = getattr(import_module(module), function)
    return found


def quotient(numerator: Array, denominator: Array, otherwise: Array) -> Array:
    """Return a step size, numerator / denominator, or ``otherwise`` where that is not positive or far too large."""
    least = np.maximum(LEAST_CURVATURE * numerator / otherwise, NOTHING)
    return np.where(denominator > least, numerator / np.maximum(denominator, least), otherwise)
