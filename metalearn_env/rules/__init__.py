"""Hand-designed step-size rules, by name.

A rule is a generator: it is given the `Engine` at the start of n episodes and yields a step size, (n,), for every inner
step; a move, (n, p), if it is outside the class of what is compared; or either of them `Charged` with evaluations.
What it remembers are its local variables. Each docstring gives formula and source, and says what the rule is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import NamedTuple

from metalearn_env.engine import Engine
from metalearn_env.family import Array, TaskFamily


class Charged(NamedTuple):
    """A step that has cost more evaluations of the direction than the one that every step costs."""

    step: Array  # (n,), or a move (n, p)
    evaluations: Array  # (n,) beyond that one


Rule = Callable[[Engine], Iterator[Array | Charged]]

LEAST_CURVATURE = 1e-12  # times that of the unit, or of the last step, of a task; a smaller one counts as none


class Entry(NamedTuple):
    """A rule as the table of rules has it."""

    path: str  # "module:function", imported when asked for
    told: str = "nothing"  # beyond what it sees: directions, signals, its own steps
    families: tuple[str, ...] = ()  # the class names of those it is for; empty: any
    outside: bool = False  # whether it makes moves that are no multiples of the direction, so that S may be above 1


RULES: dict[str, Entry] = {
    "exact-line-search": Entry(
        "metalearn_env.rules.line_search:exact_line_search", told="curvature along the direction"
    ),
    "bb1": Entry("metalearn_env.rules.barzilai_borwein:bb1"),
    "dai-yuan": Entry("metalearn_env.rules.line_search:dai_yuan", told="curvature along the direction"),
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
