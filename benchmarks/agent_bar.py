"""The bar of Q-learning beside the definition that it was measured by: another law of discounts, another limit.

The earlier figures, and the bar with them, belong to discounts drawn uniformly and to certainty equivalence itself as
the limit (`benchmarks.rules`). Here 1 - gamma is drawn log-uniformly, and the limit is the best multiple of certainty
equivalence, which is chosen in hindsight as the best constant step is.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from benchmarks.agent_tables import Trained
from benchmarks.comparison import gaps, shapes
from benchmarks.rules import HALF_LIVES, RATES, of_certainty_equivalence, uniform_discount
from benchmarks.setting import Q_LEARNING
from metalearn_env.family import Array
from metalearn_env.rules.visits import harmonic
from metalearn_env.scoring import LEAST_SPAN, TaskSet
from metalearn_env.scoring.cache import Cache
from metalearn_env.scoring.contenders import contender
from metalearn_env.scoring.measures import final_gaps
from metalearn_env.scoring.statistics import Estimate, estimate

NAME, TASKS = "q-learning", 600
RULES = ("wainwright", "speedy-q", "bakf", "hypergradient", "tuned-constant", "tuned-decay")

TEXT = f"""### As the bar was measured

The bar was set beside figures for discounts drawn uniformly and for certainty equivalence itself as the limit. Here
1 - gamma is log-uniform, and the limit is the best multiple of certainty equivalence, in hindsight. The same runs by
both, on {TASKS:,} test tasks, of which those of the right columns have the discounts of a uniform law; tuned controls
are tuned by the limit of the page, oracles are the best member for each task in hindsight. In brackets: tasks that
count, and those that are dropped since their limit is not .1 in log gap below their best constant step. What could be
known beforehand of such tasks: [beforehand.md](beforehand.md)."""


def as_measured(trained: Trained, count: int = TASKS) -> Iterator[str]:
    """Yield S of the agents and of what the bar was set beside, by both limits and both laws of discounts."""
    tasks = TaskSet(Q_LEARNING, "test", count, 0, trained.setting.options, Cache())
    kept = uniform_discount(count).kept(tasks)
    columns = [
        (f"{law}, {limit}", rows, one)
        for law, rows in (("log-uniform", np.ones(count, np.bool_)), ("uniform", kept))
        for limit, one in (("best multiple", tasks.limit), ("plain", of_certainty_equivalence(tasks)))
    ]
    yield from (TEXT, "")
    yield f"| | {' | '.join(_head(tasks, *column) for column in columns)} | diverged |"
    yield f"|{'---|' * (len(columns) + 2)}"
    for name, reached in _rows(trained, tasks):
        cells = [str(mean_by(tasks, reached, rows, one)) for _, rows, one in columns]
        yield f"| {name} | {' | '.join(cells)} | {np.mean(reached > 0.0):.2%} |"


def _head(tasks: TaskSet, name: str, rows: Array, one: Array) -> str:
    counted = rows & (tasks.oracle[1] - one >= LEAST_SPAN)
    return f"{name} ({counted.sum()}, {rows.sum() - counted.sum()})"


def _rows(trained: Trained, tasks: TaskSet) -> Iterator[tuple[str, Array]]:
    """Yield names and last log gaps, (runs, n)."""
    yield "agents", final_gaps(trained.agent.runs(tasks))
    for name, family in (
        ("oracle harmonic", [partial(harmonic, half_life=half_life) for half_life in HALF_LIVES]),
        ("oracle linear decay", shapes(["linear"], RATES)),
    ):
        yield name, np.min([gaps(candidate, tasks) for candidate in family], axis=0)[None]
    for name in RULES:
        yield name, final_gaps(contender(name).runs(tasks))


def mean_by(tasks: TaskSet, reached: Array, rows: Array, one: Array) -> Estimate:
    """Return S of last log gaps (runs, n) on those of some rows that count, if those of the limit are ``one``, (n,)."""
    zero = tasks.oracle[1]
    counted = rows & (zero - one >= LEAST_SPAN)
    scores = ((zero - reached) / (zero - one))[:, counted]
    return estimate(scores)
