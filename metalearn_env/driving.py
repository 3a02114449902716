"""How whatever gives actions for observations drives step sizes, without an environment around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metalearn_env.actions import ActionMap
from metalearn_env.decisions import check_averaged, seen_at_decisions
from metalearn_env.engine import Engine, Learners
from metalearn_env.family import Array
from metalearn_env.krylov import Krylov
from metalearn_env.observations import Observer, check_resolution, feature_names
from metalearn_env.states import number, numbers

Act = Callable[[NDArray[Any]], NDArray[Any]]  # flat observations of n tasks -> actions


class Driver:
    """An agent at n episodes: what it observes, and what its actions mean.

    Args:
        act: what gives the actions.
        header: ``history``, ``action``, ``strategy``, ``interval``, ``opening``, ``ritz``, ``resolution`` and
            ``feature_names``, as of a `metalearn_env.policy.Policy`.
        n: episodes.

    Raises:
        ValueError: the features are other ones than this version observes.
    """

    def __init__(self, act: Act, header: Mapping[str, Any], n: int) -> None:
        self.actions = action_map(header, n)
        check_features(header["feature_names"], feature_names(header["history"], self.actions.ritz))
        self.observer = Observer(n, header["history"], self.actions.ritz, resolution(header))
        self._act, self._n, self._rows = act, n, np.arange(n)
        self._noise = np.random.default_rng(0)
        self._held: Array | None = None  # what the next inner steps take if nothing is decided: step sizes, or means
        self._left = 0  # inner steps that it is yet to be held for; unless for the whole episode
        self.krylov: Krylov | None = None  # of an agent that sees Ritz values
        self._t = 0  # inner steps since the episodes began; of some of them, which may have ended before

    def begin(self, kind: str, descriptor: Array, fresh: Learners, krylov: Krylov | None = None) -> None:
        """Take up episodes at the start of which ``fresh`` stands, of tasks of one kind and descriptors (n, k).

        For an agent that sees Ritz values, ``krylov`` stands there, too; whoever drives it tells it of inner steps.
        """
        self.actions.begin(fresh, self._rows)
        self.observer.begin_as(kind, descriptor, fresh, self._rows)
        self._held, self._left, self._t, self.krylov = None, 0, 0, krylov

    @property
    def looks(self) -> bool:
        """Whether the next step depends on what learners show: `update`, and then `step_size`; if not, `hold`."""
        return not self._left

    def update(self, learners: Learners) -> None:
        """Take in what learners show at a decision: what the inner steps since the one before have changed."""
        if self.krylov is not None:
            self.krylov.look()
        self.observer.update(learners, None if self.krylov is None else self.krylov.features)

    def step_size(self, learners: Learners) -> Array:
        """Return the step sizes, (n,), of the next inner step, that the agent chooses now."""
        if self._held is None or not self.actions.decides_once:
            self._held = self._decided(learners)
            self._left = int(self.actions.held_for(np.array([self._t]))[0])
        taken = self.hold()
        self._switch()
        return taken

    def hold(self) -> Array:
        """Return the step sizes, (n,), of the next inner step, that the agent has chosen before."""
        assert self._held is not None
        self._left, self._t = max(0, self._left - 1), self._t + 1
        random = self.actions.strategy == "random"
        return self.actions.drawn(self._held, self._noise.random(self._n)) if random else self._held

    def decide_again(self) -> None:
        """Take the last step once more, and hold what comes after it, for an interval."""
        self._left, self._t = self.actions.interval - 1, self._t + 1
        self._switch()

    def _switch(self) -> None:
        """Hold from now on what the interval goes on with, if it does."""
        if self._left and self.actions.switches:
            self._held = self.actions.switched()

    def _decided(self, learners: Learners) -> Array:
        actions = self.actions.parse(self._act(self.observer.observation()), self._n)
        return self.actions.step_size(actions, learners, None if self.krylov is None else self.krylov.steps).copy()

    def state(self) -> dict[str, Any]:
        """Return all that changes with time, as plain JSON values."""
        return {
            "actions": self.actions.state(),
            "observer": self.observer.state(),
            "noise": self._noise.bit_generator.state,
            "held": None if self._held is None else self._held.tolist(),
            "left": self._left,
            "t": self._t,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a `state` of an agent of the same header.

        Raises:
            ValueError: it is of another history, or of none that there can be. Nothing has changed.
        """
        left, t = (number(state, name, least=0, whole=True) for name in ("left", "t"))
        held = numbers(state, "held", (self._n,), least=0.0) if left or state["held"] is not None else None
        noise, observer = _noise_of(state["noise"]), deepcopy(self.observer)
        observer.restore(state["observer"])
        self.actions.restore(state["actions"])
        self.observer, self._noise, self._held, self._left, self._t = observer, noise, held, left, t


def driven(act: Act, header: Mapping[str, Any], engine: Engine) -> Iterator[Array]:
    """Yield a step size, (n,), for every inner step of the engine's episodes, as an agent's actions say.

    Args:
        act, header: see `Driver`; the agent is asked at every decision in turn.
        engine: n episodes at their start.

    Raises:
        ValueError: the features are other ones than this version observes.
    """
    n, family = len(engine.t), engine.family
    driver = Driver(act, header, n)
    decisions = seen_at_decisions(n, family.num_parameters, driver.actions.interval, averaged(header))
    last = driver.actions.ritz
    krylov = Krylov(n, family.num_parameters, last) if last else None
    watching = (decisions,) if krylov is None else (decisions, krylov)
    for watcher in watching:
        watcher.begin(engine, np.arange(n))
    driver.begin(family.kind, family.descriptor(engine.task), engine, krylov)
    while True:
        yield driver.step_size(engine)
        for watcher in watching:
            watcher.passed(engine)
        while not driver.looks:
            yield driver.hold()
            for watcher in watching:
                watcher.passed(engine)
        driver.update(decisions.seen(engine))


def action_map(header: Mapping[str, Any], n: int) -> ActionMap:
    """Return what the actions of n agents of a header mean.

    Raises:
        ValueError: see `ActionMap`.
    """
    return ActionMap(n, **meaning(header))


def meaning(header: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a header says that actions mean: ``action``, ``strategy``, ``interval``, ``opening`` and ``ritz``."""
    return {
        "action": header["action"],
        "strategy": header["strategy"],
        "interval": header.get("interval", 1),
        "opening": header.get("opening", 0),
        "ritz": header.get("ritz", 0),
    }


def averaged(header: Mapping[str, Any]) -> bool:
    """Return whether the decisions of a header see means, see `metalearn_env.decisions`.

    Raises:
        ValueError: see `check_averaged` there.
    """
    return check_averaged(header.get("averaged", False), action_map(header, 1).interval)


def resolution(header: Mapping[str, Any]) -> float:
    """Return what the observations of a header are rounded to, see `metalearn_env.observations`.

    Raises:
        ValueError: see `check_resolution` there.
    """
    return check_resolution(header.get("resolution", 0.0))


def _noise_of(state: Any) -> np.random.Generator:
    """Return a generator of random numbers as it was, or raise ``ValueError``."""
    noise = np.random.default_rng(0)
    try:
        noise.bit_generator.state = state
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"noise is the state of a random generator, not {state!r}") from error
    return noise


def check_features(theirs: Any, ours: Any) -> None:
    """Raise ``ValueError`` with both lists unless a policy's feature names are those of the environment."""
    if list(theirs) != list(ours):
        raise ValueError(f"the policy was trained on the features\n  {list(theirs)}\nbut these are\n  {list(ours)}")
