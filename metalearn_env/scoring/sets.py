"""The tasks of an environment of several families, or axes of generalisation: a set for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metalearn_env.families import FAMILIES, id_of
from metalearn_env.mixture import Entry
from metalearn_env.scoring.cache import Cache
from metalearn_env.scoring.tasks import TaskSet, options_of, parts_of


def task_sets(
    env_id: str,
    split: str = "test",
    tasks: int = 256,
    seed: int = 0,
    env_kwargs: Mapping[str, Any] | None = None,
    cache: Cache | None = None,
) -> list[TaskSet]:
    """Return the tasks to score on for an environment of any number of families: a set for each, and for each axis.

    Raises:
        ValueError, TypeError: see `TaskSet`.
    """
    kwargs = dict(env_kwargs or {})
    parts, families = parts_of(env_id, split, kwargs), options_of(env_id, kwargs).get("families")
    if len(parts) == 1:
        return [TaskSet(env_id, split, tasks, seed, kwargs, cache)]
    if families is None or len(families) == 1:
        return [TaskSet(env_id, split, tasks, seed, {**kwargs, "ood": part.axis}, cache) for part in parts]
    shared = {name: value for name, value in kwargs.items() if name not in ("families", "weights")}
    sets = []
    for entry in families:
        alone, own = _alone(env_id, entry)
        sets += task_sets(alone, split, tasks, seed, {**shared, **own}, cache)
    return sets


def _alone(env_id: str, entry: Entry) -> tuple[str, dict[str, Any]]:
    """Return the id and the options of an environment of one entry of a mixture."""
    options = dict(entry) if isinstance(entry, Mapping) else {"family": entry}
    family = options.pop("family")
    if isinstance(family, str) and family in FAMILIES:
        return id_of(family), options
    return env_id, {"families": [entry]}
