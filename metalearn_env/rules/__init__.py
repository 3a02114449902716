"""Hand-designed step-size rules, by name.

A rule is a generator: it is given the `Engine` at the start of n episodes and yields a step size, (n,), for every inner
step. What it remembers are its local variables. Each docstring says what the rule is told beyond the directions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module

from metalearn_env.engine import Engine
from metalearn_env.family import Array

Rule = Callable[[Engine], Iterator[Array]]

LEAST_CURVATURE = 1e-12  # times the unit (or the last step) of a task; a smaller one counts as none

RULES: dict[str, str] = {
    "exact-line-search": "metalearn_env.rules.line_search:exact_line_search",
    "bb1": "metalearn_env.rules.barzilai_borwein:bb1",
    "dai-yuan": "metalearn_env.rules.line_search:dai_yuan",
}


def rule(name: str) -> Rule:
    """Return the rule of a name of `RULES`."""
    module, _, function = RULES[name].partition(":")
    found: Rule = getattr(import_module(module), function)
    return found
