"""How whatever gives actions for observations drives the step sizes of an engine, without an environment around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metalearn_env.actions import ActionMap
from metalearn_env.engine import Engine
from metalearn_env.family import Array
from metalearn_env.observations import Observer, feature_names

Act = Callable[[NDArray[Any]], NDArray[Any]]  # flat observations of n tasks -> actions


def driven(act: Act, header: Mapping[str, Any], engine: Engine) -> Iterator[Array]:
    """Yield a step size, (n,), for every inner step of the engine's episodes, as an agent's actions say.

    Args:
        act: what gives the actions, asked at every decision in turn.
        header: ``history``, ``action``, ``strategy`` and ``feature_names``, as of a `Policy`.
        engine: n episodes at their start.

    Raises:
        ValueError: the features are other ones than this version observes.
    """
    n = len(engine.t)
    check_features(header["feature_names"], feature_names(header["history"]))
    actions, rows = ActionMap(n, header["action"], header["strategy"]), np.arange(n)
    observer, noise = Observer(n, header["history"]), np.random.default_rng(0)
    actions.begin(engine, rows)
    observer.begin(engine, rows)
    while True:
        draw = noise.standard_normal(n) if header["strategy"] == "random" else None
        step = actions.step_size(actions.parse(act(observer.observation()), n), engine, draw)
        yield step
        while header["strategy"] == "constant":
            yield step
        observer.update(engine)


def check_features(theirs: Any, ours: Any) -> None:
    """Raise ``ValueError`` with both lists unless a policy's feature names are those of the environment."""
    if list(theirs) != list(ours):
        raise ValueError(f"the policy was trained on the features\n  {list(theirs)}\nbut these are\n  {list(ours)}")
