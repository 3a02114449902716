"""Episodes on hand: rows that end at different times draw what each would draw alone."""

from __future__ import annotations

import numpy as np
import pytest

from metalearn_env.families import make_family
from metalearn_env.pool import TaskPool

N, HORIZON = 7, (3, 9)


def pool(n: int) -> TaskPool:
    return TaskPool(make_family("LinearRegression", dimension=2), n, HORIZON, first_step_decades=(0.0, 1.0))


@pytest.mark.parametrize("most_rows", [0, N], ids=["room for a block", "room for two"])
def test_rows_that_end_at_different_times_draw_what_each_draws_alone(
    most_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metalearn_env.pool.MOST_ROWS", most_rows)
    monkeypatch.setattr("metalearn_env.pool.MAX_BLOCK", 3)
    together, alone, rng = pool(N), [pool(1) for _ in range(N)], np.random.default_rng(0)
    for row in range(N):
        together.seed(row, row)
        alone[row].seed(0, row)
    for turn in range(60):
        rows = np.flatnonzero(rng.random(N) < np.linspace(0.1, 0.9, N))
        if turn == 30:
            together.seed(2, 99)  # in the midst of its blocks
            alone[2].seed(0, 99)
        if not rows.size:
            continue
        taken = together.take(rows).engine
        for place, row in enumerate(rows):
            own = alone[row].take(np.zeros(1, np.int64)).engine
            assert taken.loss[place] == own.loss[0]
            assert taken.horizon[place] == own.horizon[0]
            assert taken.step_size[place] == own.step_size[0]


def test_blocks_of_many_rows_are_completed_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for two blocks, rows that still have episodes draw when one has none left."""
    monkeypatch.setattr("metalearn_env.pool.MAX_BLOCK", 3)
    refilled: list[int] = []
    refill = TaskPool._refill
    monkeypatch.setattr(TaskPool, "_refill", lambda self, rows: (refilled.append(len(rows)), refill(self, rows))[1])
    together = pool(N)
    for row in range(N):
        together.seed(row, row)
    for row in [*range(N), 0, 0, 0]:
        together.take(np.array([row]))
    assert refilled == [N, N]
