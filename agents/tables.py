r"""Tabular learners as they are in use: many side by side, along trajectories, with a step size held for a sweep.

What `metalearn_env.adapters.tabular` does with one learner happens here with n at once, on processes that are known, so
that what is left of the distance to Q* can be followed back to every decision. An update

    Q(s, a) <- (1 - \alpha) Q(s, a) + \alpha (r + \gamma Q(s', b))          b the best action of s'

is linear in the table, and one sweep back through all updates gives the slopes

    d log gap / d log \alpha_k = \alpha_k \sum_{updates of sweep k} error * d log gap / d Q(s, a)

with what was observed, and the way that the trajectory took, as given (`agents.slopes`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.worlds import Integers, World
from metalearn_env.actions import ActionMap
from metalearn_env.adapters.tabular import largest_step
from metalearn_env.engine import PER_LEARNER, Learners
from metalearn_env.family import TINY, Array
from metalearn_env.observations import Observer
from metalearn_env.policy import Policy

BLOCK = 64  # updates whose random numbers are drawn at once
EPISODE = 200  # updates after which an episode is cut short


@dataclass(frozen=True, eq=False)
class Cell:
    """So many learners in one world, for so many updates each."""

    world: World
    learners: int
    horizon: int  # updates
    most_sweeps: float = math.inf

    @cached_property
    def sweep(self) -> int:
        return max(self.world.entries, math.ceil(self.horizon / self.most_sweeps))

    @cached_property
    def most(self) -> float:
        """The largest step size."""
        return largest_step(self.world.entries, self.horizon)

    @cached_property
    def decisions(self) -> int:
        return math.ceil(self.horizon / self.sweep)


class Decided(NamedTuple):
    """What the learners of a cell saw and did, and what it came to."""

    observations: Array  # (decisions, m, columns); empty where there was no policy
    step_size: Array  # (decisions, m)
    slopes: Array  # (decisions, m) of the log gap; empty if they were not asked for
    log_gap: Array  # (m,)


class Asked:
    """A policy at m learners of one world, which is asked once a sweep, as `LearnedAlpha` asks it."""

    def __init__(self, policy: Policy, cell: Cell) -> None:
        m = cell.learners
        self._policy, self._cell, self._most = policy, cell, cell.most
        self._actions = ActionMap(m, policy.header["action"], policy.header["strategy"])
        self._observer = Observer(m, policy.header["history"])
        self._learners = _learners(m)
        self._known = np.repeat(cell.world.descriptor[None], m, axis=0)
        self._begun = np.zeros(m, np.bool_)
        self._before = np.zeros((m, cell.world.entries))
        self._anew(np.arange(m), cell.decisions)
        self.observations: list[NDArray[Any]] = []
        self.steps: list[Array] = []
        self._decide()

    def swept(self, means: Array, met: NDArray[np.bool_]) -> None:
        """Take in the mean errors of a sweep, (m, entries), of those entries that were met, and decide."""
        learners, count = self._learners, np.maximum(met.sum(axis=1), 1)
        squared = np.vecdot(means, means) / count
        first = ~self._begun & (squared > 0.0)
        rows = np.flatnonzero(first)
        left = self._cell.decisions - len(self.steps)
        learners.previous_squared_norm = np.where(first, squared, learners.squared_norm) + TINY
        learners.alignment = np.where(first, 0.0, np.vecdot(means, self._before) / count)
        learners.signal, learners.squared_norm = 0.5 * squared, squared + TINY
        if len(rows):
            self._anew(rows, left + 1, squared[rows])
        self._begun |= first
        learners.t += self._begun
        learners.step_size = self.steps[-1]
        self._observer.update(learners)
        if left and not self._begun.all():
            self._anew(np.flatnonzero(~self._begun), left)
        self._before = means
        if left:
            self._decide()

    def _anew(self, rows: Integers, horizon: int, squared: Array | None = None) -> None:
        """Put learners at the start of a run, which nothing is known of but, in hindsight, its first errors."""
        fresh = _learners(len(rows))
        fresh.horizon[:] = horizon
        if squared is not None:
            fresh.signal, fresh.squared_norm = 0.5 * squared, squared + TINY
        self._learners.t[rows], self._learners.horizon[rows] = 0, horizon
        self._actions.begin(fresh, rows)
        self._observer.begin_as("reinforcement", self._known[rows], fresh, rows)

    def _decide(self) -> None:
        seen = self._observer.observation()
        chosen = self._actions.step_size(self._actions.parse(self._policy(seen), len(seen)), self._learners)
        self.observations.append(seen)
        self.steps.append(np.minimum(chosen, self._most))


def _learners(n: int) -> Learners:
    numbers: dict[str, Any] = {
        name: np.zeros(n, np.int64) if name in ("t", "horizon") else np.ones(n) for name in PER_LEARNER
    }
    return Learners(**numbers)


class Constant:
    """A step size for each of m learners, for the whole run, in the place of a policy."""

    def __init__(self, step_size: Array) -> None:
        self.observations: list[NDArray[Any]] = []
        self.steps = [step_size]

    def swept(self, means: Array, met: NDArray[np.bool_]) -> None:
        self.steps.append(self.steps[-1])


Chooser = Callable[[Cell], Asked | Constant]


class _Processes(NamedTuple):
    """The worlds of some cells, padded to one size: rows of pairs (cell, state, action)."""

    states: int
    actions: int
    successors: Integers  # (pairs, branches)
    cuts: Array  # (pairs, branches)
    rewards: Array  # (pairs, branches)

    @classmethod
    def of(cls, worlds: Sequence[World]) -> _Processes:
        states, actions = (max(world.real.shape[axis] for world in worlds) for axis in (0, 1))
        branches = max(world.cuts.shape[2] for world in worlds)
        shape = (len(worlds), states, actions, branches)
        successors, cuts, rewards = np.full(shape, states), np.full(shape, 2.0), np.zeros(shape)
        for index, world in enumerate(worlds):
            s, a, b = world.cuts.shape
            place = (index, slice(s), slice(a), slice(b))
            successors[place] = np.where(world.successors >= s, states, world.successors)
            cuts[place], rewards[place] = world.cuts, world.rewards
            cuts[index, :s, :a, b - 1] = 2.0  # rounding leaves nothing beyond the last
        return cls(states, actions, *(array.reshape(-1, branches) for array in (successors, cuts, rewards)))


class Stretch(NamedTuple):
    """Some updates of m learners: the entry, that of the best action of the next state, the error, and the end."""

    entry: Integers  # (count, m)
    best_next: Integers  # (count, m)
    error: Array  # (count, m)
    goes_on: NDArray[np.bool_]  # (count, m)

    @classmethod
    def of(cls, count: int, m: int) -> Stretch:
        entry, best_next = np.zeros((2, count, m), np.int64)
        return cls(entry, best_next, np.zeros((count, m)), np.zeros((count, m), np.bool_))


class _Draws(NamedTuple):
    """Random numbers of some updates of m learners, uniform but for the noise."""

    wander: Array  # (count, m)
    action: Array  # (count, m)
    branch: Array  # (count, m)
    restart: Array  # (count, m)
    noise: Array  # (count, m)
    turn: Array  # (count, m, actions) in (0, 1]

    @classmethod
    def of(cls, rng: np.random.Generator, m: int, actions: int) -> _Draws:
        wander, action, branch, restart = rng.random((4, BLOCK, m))
        noise = rng.standard_normal((BLOCK, m))
        return cls(wander, action, branch, restart, noise, 1.0 - rng.random((BLOCK, m, actions)))

    def part(self, start: int, stop: int) -> _Draws:
        return _Draws(*(array[start:stop] for array in self))


def run(cells: Sequence[Cell], choose: Chooser, seed: int, *, slopes: bool = False) -> list[Decided]:
    """Run the learners of all cells to their horizons.

    Args:
        cells: see `Cell`; the random numbers of each depend on its place among them.
        choose: what chooses the step sizes of a cell.
        seed: of trajectories and noise.
        slopes: whether to follow the last log gaps back to the steps.
    """
    order = sorted(range(len(cells)), key=lambda index: -cells[index].horizon)
    found = _Runs([cells[index] for index in order], choose, np.random.default_rng(seed)).run(slopes)
    return [found[order.index(index)] for index in range(len(cells))]


class _Runs:
    """Learners of cells in descending order of their horizons, so that those still at work are the first rows."""

    def __init__(self, cells: Sequence[Cell], choose: Chooser, rng: np.random.Generator) -> None:
        self._cells, self._rng = cells, rng
        self._processes = _Processes.of([cell.world for cell in cells])
        counts = [cell.learners for cell in cells]
        ends = np.cumsum(counts)
        self._rows = [slice(end - count, end) for end, count in zip(ends, counts, strict=True)]
        n, states, actions = int(ends[-1]), self._processes.states, self._processes.actions
        self._shape = (n, states + 1, actions)
        table = np.zeros(self._shape)
        for cell, rows in zip(cells, self._rows, strict=True):
            table[rows, :states, cell.world.real.shape[1] :] = -np.inf
        self._table = table.ravel()
        self._sums, self._counts = np.zeros((2, table.size))
        self._alpha = np.ones(n)
        self._asked = [choose(cell) for cell in cells]
        for asked, rows in zip(self._asked, self._rows, strict=True):
            self._alpha[rows] = asked.steps[0]
        repeated = {
            name: np.repeat([getattr(cell.world, name) for cell in cells], counts)
            for name in ("discount", "epsilon", "noise")
        }
        self._discount, self._epsilon, self._noise = repeated.values()
        self._own_actions = np.repeat([cell.world.real.shape[1] for cell in cells], counts)
        self._first = np.repeat(np.arange(len(cells)), counts) * states * actions  # of a row's pairs in the processes
        self._own = np.arange(n) * (states + 1) * actions  # of a row's entries in the table
        start = np.full((len(cells), states), 2.0)  # cumulative; none of what is drawn lies beyond the last state
        for row, cell in zip(start, cells, strict=True):
            row[: len(cell.world.start) - 1] = cell.world.start[:-1]
        self._start = np.repeat(start, counts, axis=0)
        self._state = (self._rng.random(n)[:, None] >= self._start).sum(axis=1)
        self._age = np.zeros(n, np.int64)

    def run(self, slopes: bool) -> list[Decided]:
        """Run all to their ends, and follow what is left back if asked to."""
        stretches: list[Stretch] = []
        horizons, t = [cell.horizon for cell in self._cells], 0
        due = [min(cell.sweep, cell.horizon) for cell in self._cells]
        while t < horizons[0]:
            working = sum(horizon > t for horizon in horizons)
            m = self._rows[working - 1].stop
            draws = _Draws.of(self._rng, m, self._processes.actions)
            self._state, self._age = self._state[:m], self._age[:m]
            begun, end = t, min(t + BLOCK, horizons[working - 1])
            while t < end:
                stop = min(end, *due[:working])
                stretch = self._stretch(stop - t, draws.part(t - begun, stop - begun))
                if slopes:
                    stretches.append(stretch)
                for index in range(working):
                    if due[index] == stop:
                        due[index] = min(stop + self._cells[index].sweep, horizons[index])
                        self._swept(index)
                t = stop
        gaps, missing = self._gaps()
        found = self._followed(stretches, missing) if slopes else [np.zeros((0, 0))] * len(self._cells)
        return [
            Decided(
                np.stack(asked.observations) if asked.observations else np.zeros((0, 0, 0)),
                np.stack(asked.steps[: cell.decisions]),
                of_cell,
                gap,
            )
            for cell, asked, of_cell, gap in zip(self._cells, self._asked, found, gaps, strict=True)
        ]

    def _stretch(self, count: int, draws: _Draws) -> Stretch:
        """Make so many updates with each of the first m learners, between two decisions."""
        processes, table, m = self._processes, self._table, len(self._state)
        states, across = processes.states, np.arange(processes.actions)
        own, first, kept, alpha = self._own[:m], self._first[:m], self._discount[:m], self._alpha[:m]
        found = Stretch.of(count, m)
        for k in range(count):
            place = self._state * processes.actions
            values = table.take((own + place)[:, None] + across)
            best = ((values == values.max(axis=1)[:, None]) * draws.turn[k]).argmax(axis=1)
            wanders = draws.wander[k] < self._epsilon[:m]
            place += np.where(wanders, (draws.action[k] * self._own_actions[:m]).astype(np.int64), best)
            entry, pair = own + place, first + place
            branch = (draws.branch[k][:, None] >= processes.cuts.take(pair, axis=0)).sum(axis=1)
            onward = processes.successors[pair, branch]
            onward_place = own + onward * processes.actions
            best_next = onward_place + table.take(onward_place[:, None] + across).argmax(axis=1)
            reward = processes.rewards[pair, branch] + draws.noise[k] * self._noise[:m]
            error = reward + kept * table.take(best_next) - table.take(entry)
            table[entry] += alpha * error
            self._sums[entry] += error
            self._counts[entry] += 1.0
            found.entry[k], found.best_next[k], found.error[k], found.goes_on[k] = (
                entry,
                best_next,
                error,
                onward < states,
            )
            self._age += 1
            ended = (onward == states) | (self._age >= EPISODE)
            restart = (draws.restart[k][:, None] >= self._start[:m]).sum(axis=1)
            self._state = np.where(ended, restart, onward)
            self._age[ended] = 0
        return found

    def _swept(self, index: int) -> None:
        cell, asked, rows = self._cells[index], self._asked[index], self._rows[index]
        (states, actions) = cell.world.real.shape
        sums, counts = (array.reshape(self._shape)[rows, :states, :actions] for array in (self._sums, self._counts))
        met = counts > 0.0
        means = np.divide(sums, counts, out=np.zeros(sums.shape), where=met)
        asked.swept(means.reshape(cell.learners, -1), met.reshape(cell.learners, -1))
        sums[:], counts[:] = 0.0, 0.0
        self._alpha[rows] = asked.steps[-1]

    def _gaps(self) -> tuple[list[Array], Array]:
        """Return the log gaps of each cell, (m,), and their gradients by the tables."""
        gaps, gradient, tables = [], np.zeros(self._shape), self._table.reshape(self._shape)
        for cell, rows in zip(self._cells, self._rows, strict=True):
            states, actions = cell.world.real.shape
            missing = (tables[rows, :states, :actions] - cell.world.optimum) * cell.world.real
            squared = np.maximum((missing * missing).sum((1, 2)), TINY)
            first = ((cell.world.optimum * cell.world.real) ** 2).sum()
            gaps.append(np.log(squared / first))
            gradient[rows, :states, :actions] = 2.0 * missing / squared[:, None, None]
        return gaps, gradient.ravel()

    def _followed(self, stretches: list[Stretch], weight: Array) -> list[Array]:
        """Return the slopes of each cell, (decisions, m)."""
        found = [np.zeros((cell.decisions, cell.learners)) for cell in self._cells]
        steps = [np.stack(asked.steps[: cell.decisions]) for cell, asked in zip(self._cells, self._asked, strict=True)]
        (alpha, slope), t = np.zeros((2, len(self._alpha))), self._cells[0].horizon
        for stretch in reversed(stretches):
            for cell, rows, of_cell, step in zip(self._cells, self._rows, found, steps, strict=True):
                if t == cell.horizon or (t < cell.horizon and t % cell.sweep == 0):
                    decision = (t - 1) // cell.sweep
                    if t < cell.horizon:
                        of_cell[decision + 1] = slope[rows]
                    slope[rows], alpha[rows] = 0.0, step[decision]
            self._back(stretch, alpha, slope, weight)
            t -= len(stretch.entry)
        for of_cell, rows in zip(found, self._rows, strict=True):
            of_cell[0] = slope[rows]
        return [of_cell * step for of_cell, step in zip(found, steps, strict=True)]

    def _back(self, stretch: Stretch, alpha: Array, slope: Array, weight: Array) -> None:
        """Take the gradients by the tables, and the slopes by the steps, back to before a stretch."""
        m = stretch.entry.shape[1]
        for entry, best_next, error, goes_on in zip(*(array[::-1] for array in stretch), strict=True):
            pull = weight.take(entry)
            slope[:m] += pull * error
            moved = alpha[:m] * pull
            weight[entry] = pull - moved
            weight[best_next] += self._discount[:m] * moved * goes_on
