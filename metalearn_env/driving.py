"""How whatever gives actions for observations drives step sizes, without an environment around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metalearn_env.actions import ActionMap
from metalearn_env.engine import Engine, Learners
from metalearn_env.family import Array
from metalearn_env.observations import Observer, feature_names

Act = Callable[[NDArray[Any]], NDArray[Any]]  # flat observations of n tasks -> actions


class Driver:
    """An agent at n episodes: what it observes, and what its actions mean.

    Args:
        act: what gives the actions.
        header: ``history``, ``action``, ``strategy`` and ``feature_names``, as of a `metalearn_env.policy.Policy`.
        n: episodes.

    Raises:
        ValueError: the features are other ones than this version observes.
    """

    def __init__(self, act: Act, header: Mapping[str, Any], n: int) -> None:
        check_features(header["feature_names"], feature_names(header["history"]))
        self.actions, self.observer = ActionMap(n, header["action"], header["strategy"]), Observer(n, header["history"])
        self._act, self._n, self._rows = act, n, np.arange(n)
        self._noise = np.random.default_rng(0)
        self._held: Array | None = None  # what was decided for the whole episode: step sizes, or their means

    def begin(self, kind: str, descriptor: Array, fresh: Learners) -> None:
        """Take up episodes at the start of which ``fresh`` stands, of tasks of one kind and descriptors (n, k)."""
        self.actions.begin(fresh, self._rows)
        self.observer.begin_as(kind, descriptor, fresh, self._rows)
        self._held = None

    def update(self, learners: Learners) -> None:
        """Take in the inner step that the learners have just made."""
        self.observer.update(learners)

    def step_size(self, learners: Learners) -> Array:
        """Return the step sizes, (n,), that the agent chooses now."""
        step = self._held if self._held is not None else self._decided(learners)
        return self.actions.drawn(step, self._noise.random(self._n)) if self.actions.strategy == "random" else step

    def _decided(self, learners: Learners) -> Array:
        actions = self.actions.parse(self._act(self.observer.observation()), self._n)
        step = self.actions.step_size(actions, learners)
        if self.actions.decides_once:
            self._held = step
        return step

    def state(self) -> dict[str, Any]:
        """Return all that changes with time, as plain JSON values."""
        return {
            "actions": self.actions.state(),
            "observer": self.observer.state(),
            "noise": self._noise.bit_generator.state,
            "held": None if self._held is None else self._held.tolist(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a `state` of an agent of the same header.

        Raises:
            ValueError: it is of another history. Nothing has changed.
        """
        self.observer.restore(state["observer"])
        self.actions.restore(state["actions"])
        self._noise.bit_generator.state = state["noise"]
        self._held = None if state["held"] is None else np.array(state["held"], np.float64)


def driven(act: Act, header: Mapping[str, Any], engine: Engine) -> Iterator[Array]:
    """Yield a step size, (n,), for every inner step of the engine's episodes, as an agent's actions say.

    Args:
        act, header: see `Driver`; the agent is asked at every decision in turn.
        engine: n episodes at their start.

    Raises:
        ValueError: the features are other ones than this version observes.
    """
    driver = Driver(act, header, len(engine.t))
    driver.begin(engine.family.kind, engine.family.descriptor(engine.task), engine)
    while True:
        yield driver.step_size(engine)
        driver.update(engine)


def check_features(theirs: Any, ours: Any) -> None:
    """Raise ``ValueError`` with both lists unless a policy's feature names are those of the environment."""
    if list(theirs) != list(ours):
        raise ValueError(f"the policy was trained on the features\n  {list(theirs)}\nbut these are\n  {list(ours)}")
