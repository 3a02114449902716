"""Episodes on hand: every row draws its own, in blocks, and hands them out as its episodes end.

A row has its own generator, so n rows of a batch meet the tasks that n single environments with the same seeds meet.
Drawing in blocks of a fixed size, and putting learners at the start of a whole block at once, keeps what comes before
the first step a small part of the cost of an episode. Many blocks together cost less than one by one: where there is
room for two of a row, all rows that can take one are given it when a row has none left.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metalearn_env.engine import STATE, Engine, Rows, indexed
from metalearn_env.family import Array, TaskFamily
from metalearn_env.ranges import decades, log_uniform_integer
from metalearn_env.splits import task_generator

BLOCK_BYTES = 2**18
MAX_BLOCK = 160
MOST_ROWS = 512  # that have room for two blocks each, of many more one is enough
COMPLETED_AT_ONCE = 128


class Draw(NamedTuple):
    """The random numbers of n episodes."""

    task: Any  # a NamedTuple of arrays with leading axis n
    horizon: NDArray[np.int64]  # (n,)
    first_step: Array  # (n,) in units
    noise: Array  # (n, longest horizon) uniform draws in [0, 1), or (n, 0)


class Episodes(NamedTuple):
    """n episodes, about to begin."""

    engine: Engine  # of n learners, at the start of their tasks
    noise: Array  # as in `Draw`


class TaskPool:
    """Episodes of one family for n rows.

    Args:
        family: where the tasks come from; its split decides the stream.
        n: rows.
        horizon: shortest and longest episode.
        first_step_decades: (least, most) decades, up or down of the unit, of the first step in the train split.
        noise: whether each inner step is given a uniform draw.
        block_bytes: memory for the episodes that a row has on hand.
    """

    def __init__(
        self,
        family: TaskFamily,
        n: int,
        horizon: tuple[int, int],
        *,
        first_step_decades: tuple[float, float] = (0.0, 0.0),
        noise: bool = False,
        block_bytes: int = BLOCK_BYTES,
    ) -> None:
        self._family, self._horizon, self._noise, self._block_bytes = family, horizon, noise, block_bytes
        self._decades = first_step_decades if family.split == "train" else (0.0, 0.0)
        self._generators: list[np.random.Generator | None] = [None] * n
        self._seeded = np.zeros(n, np.bool_)
        self._drawn, self._taken = np.zeros((2, n), np.int64)  # how many episodes of its stream each row has
        self._store: Any = None  # (n, room) records, an episode each: one look-up hands out all there is of it

    def seed(self, row: int, seed: int) -> None:
        """Start the stream of ``row`` anew."""
        self._generators[row] = task_generator(seed, self._family.split)
        self._seeded[row], self._drawn[row], self._taken[row] = True, 0, 0

    def seeded(self, row: int) -> bool:
        return bool(self._seeded[row])

    def take(self, rows: Rows) -> Episodes:
        """Return the next episode of each of ``rows``, (k,); the arrays are views of k records."""
        if (self._drawn[rows] == self._taken[rows]).any():
            roomy = np.flatnonzero((self._drawn - self._taken <= self._room - self._block) & self._seeded)
            at_once = max(1, COMPLETED_AT_ONCE // self._block)
            for first in range(0, len(roomy), at_once):
                self._refill(roomy[first : first + at_once])
        taken = self._next(rows)
        self._taken[rows] += 1
        state = {name: taken[name] for name in STATE}
        task = self._task_type._make([taken[name] for name in self._of_task])
        engine = Engine(family=self._family, task=task, scratch=np.empty(state["theta"].shape), **state)
        return Episodes(engine, taken["noise"])

    def _next(self, rows: Rows) -> Any:
        """Return the records of the next episodes of ``rows``, (k,); of one row as it lies in the store."""
        place = self._taken[rows] % self._room
        return self._store[rows[0], indexed(place)] if len(rows) == 1 else self._store[rows, place]

    @cached_property
    def _bytes(self) -> int:
        """The size of an episode."""
        draw = self._draw(np.random.default_rng(0), 1)
        _check_shapes(self._family, self._family.complete(draw.task))
        return sum(array.nbytes for array in _columns(self._begun(draw)).values())

    @cached_property
    def _block(self) -> int:
        """How many episodes a row draws at once, as the size of one allows."""
        return int(np.clip(self._block_bytes // self._bytes, 1, MAX_BLOCK))

    @cached_property
    def _room(self) -> int:
        """How many episodes of a row there is room for: of one that waits for no other, a block."""
        two = 1 < len(self._drawn) <= MOST_ROWS and self._bytes <= self._block_bytes
        return 2 * self._block if two else self._block

    def _refill(self, rows: Rows) -> None:
        drawn = [self._draw(generator, self._block) for row in rows if (generator := self._generators[row]) is not None]
        episodes = self._begun(_joined(drawn))
        columns = _columns(episodes)
        if self._store is None:
            self._task_type, self._of_task = type(episodes.engine.task), _names(episodes.engine.task)
            fields = [(name, array.dtype, array.shape[1:]) for name, array in columns.items()]
            self._store = np.zeros((len(self._drawn), self._room), np.dtype(fields, align=True))
        begin = self._drawn[rows] % self._room
        places = [
            (row, slice(first, first + self._block)) for row, first in zip(rows.tolist(), begin.tolist(), strict=True)
        ]
        for name, new in columns.items():
            held = self._store[name]
            for index, place in enumerate(places):
                held[place] = new[index * self._block :][: self._block]
        self._drawn[rows] += self._block

    def _begun(self, draw: Draw) -> Episodes:
        task = self._family.complete(draw.task)
        return Episodes(Engine.start(self._family, task, draw.horizon, draw.first_step), draw.noise)

    def _draw(self, rng: np.random.Generator, n: int) -> Draw:
        low, high = self._horizon
        task = self._family.sample(rng, n, high)
        uniform = rng.random((2, n))
        return Draw(
            task=task,
            horizon=log_uniform_integer(uniform[0], low, high),
            first_step=10.0 ** decades(uniform[1], *self._decades),
            noise=rng.random((n, high if self._noise else 0)),
        )


class MixedPool:
    """Episodes of several families for n rows; of which family one is, is drawn anew for every episode.

    Args:
        pools: the episodes of each family.
        weights: how often each family is drawn, in proportion.
        n: rows.
    """

    def __init__(self, pools: Sequence[TaskPool], weights: Sequence[float], n: int) -> None:
        self._pools = pools
        self._bounds = np.cumsum(weights)[:-1] / np.sum(weights)
        self._generators: list[np.random.Generator | None] = [None] * n
        self._left = np.zeros(n, np.int64)
        self._families = np.zeros((n, MAX_BLOCK), np.int64)  # of the episodes to come

    def seed(self, row: int, seed: int) -> None:
        """Start the streams of ``row`` anew."""
        own, *others = np.random.SeedSequence(seed).spawn(1 + len(self._pools))
        self._generators[row] = np.random.Generator(np.random.SFC64(own))
        self._left[row] = 0
        for pool, sequence in zip(self._pools, others, strict=True):
            pool.seed(row, int(sequence.generate_state(1, np.uint64)[0]))

    def seeded(self, row: int) -> bool:
        return self._generators[row] is not None

    def take(self, rows: Rows) -> Iterator[tuple[int, Rows, Episodes]]:
        """Yield, for each family that has a turn, its index, the rows of its next episodes, and these."""
        for row in rows[self._left[rows] == 0]:
            if (generator := self._generators[row]) is not None:
                self._families[row] = np.searchsorted(self._bounds, generator.random(MAX_BLOCK), side="right")
        self._left[rows] = np.where(self._left[rows] == 0, MAX_BLOCK, self._left[rows]) - 1
        family = self._families[rows, self._left[rows]]
        for index, pool in enumerate(self._pools):
            if (of_family := rows[family == index]).size:
                yield index, of_family, pool.take(of_family)


def draw_tasks(family: TaskFamily, seed: int, n: int, horizon: int) -> Any:
    """Draw n complete tasks of the family's split, as scoring does."""
    return family.complete(family.sample(task_generator(seed, family.split), n, horizon))


def _check_shapes(family: TaskFamily, task: Any) -> None:
    """Raise ``ValueError`` unless a family's answers for one task have their shapes."""
    theta, t = family.start(task), np.zeros(1, np.int64)
    loss, signal, direction = evaluation = family.evaluate(task, theta, t)
    p, k = family.num_parameters, len(family.descriptor_names)
    answers = (
        ("start", theta, (1, p)),
        ("loss", loss, (1,)),
        ("signal", signal, (1,)),
        ("direction", direction, (1, p)),
        ("reference_loss", family.reference_loss(task), (1,)),
        ("step_unit", family.step_unit(task, evaluation), (1,)),
        ("descriptor", family.descriptor(task), (1, k)),
    )
    for name, answer, shape in answers:
        if np.shape(answer) != shape:
            raise ValueError(f"{type(family).__name__}: {name} of one task is {shape}, not {np.shape(answer)}")


def _columns(episodes: Episodes) -> dict[str, np.ndarray]:
    """Return all there is of n episodes, each with leading axis n: task, state, noise."""
    engine = episodes.engine
    task = dict(zip(_names(engine.task), engine.task, strict=True))
    return {**task, **{name: getattr(engine, name) for name in STATE}, "noise": episodes.noise}


def _names(task: Any) -> list[str]:
    """Return what the arrays of a task are called in a record."""
    return [str(index) for index in range(len(task))]


def _joined(draws: Sequence[Draw]) -> Draw:
    if len(draws) == 1:
        return draws[0]
    task = [np.concatenate(together) for together in zip(*(draw.task for draw in draws), strict=True)]
    others = [np.concatenate(together) for together in zip(*(draw[1:] for draw in draws), strict=True)]
    return Draw(draws[0].task._make(task), *others)
