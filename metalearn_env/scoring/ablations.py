"""A trained policy with something taken from it: what is left tells what it had learnt.

===================  ==================================================================================================
marginal             actions drawn at random from all that it takes, at any time on any train and validation task
shuffled             its own actions on each task, in a random order (if it diverged early, they are repeated)
mean-schedule        its mean log step size in units at each t / T, over train and validation tasks, on every task
without-task         the policy itself, with the observations of the group ``task`` held at their means over train
without-progress     tasks; or those of ``progress``,
without-history      of ``history``,
without-ritz         of ``ritz``, where Ritz values are seen (what actions may choose stays),
without-FEATURE      or of one feature, such as ``without-cosine`` (at all ages) or ``without-descriptor_0``
===================  ==================================================================================================

The first three replay what a policy decides on, so there is none of them where steps are drawn (the strategy "random").
An action is the log of the step size over the one before it where the policy acts relative to that (`metalearn_env.
actions`), else over the unit. Test tasks are met by the masked policies, and by ``shuffled``, which replays, alone.
Means are of the family that is scored: masked, a policy is still told the kind of its task. A policy whose output is
constant is reproduced by all of them, as long as its step sizes stay within their bounds, where an action is less than
it asked for, and unless the output is a Ritz value, which differs from step to step and task to task: the masked
policies alone reproduce these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metalearn_env.actions import RANGE
from metalearn_env.driving import driven
from metalearn_env.engine import Engine
from metalearn_env.family import Array
from metalearn_env.observations import columns
from metalearn_env.policy import Policy
from metalearn_env.rules import Rule
from metalearn_env.scoring.runs import Run, rollout
from metalearn_env.scoring.tasks import TaskSet

WITHOUT = "without-"


def policy_run(policy: Policy, task_set: TaskSet) -> Run:
    """Return what a policy does."""
    return task_set.run(f"policy {policy.digest}", ("metalearn_env.policy",), lambda: policy.step_sizes)


def ablation_run(name: str, policy: Policy, task_set: TaskSet) -> Run:
    """Return what is left of a policy; ``name`` is of `ABLATIONS`, or ``"without-"`` and a group or a feature."""
    check_ablation(name, policy)

    def rule() -> Rule:
        if name in ABLATIONS:
            return ABLATIONS[name](policy, task_set)
        return masked(policy, task_set, hidden(name, policy)).step_sizes

    return task_set.run(f"{name} of policy {policy.digest}", (__name__,), rule)


def check_ablation(name: str, policy: Policy) -> None:
    """Raise ``ValueError`` unless ``name`` is an ablation of a policy."""
    if name not in ABLATIONS:
        hidden(name, policy)
    elif policy.header["strategy"] == "random":
        raise ValueError(f"{name} replays steps that a policy decides on; those of the strategy 'random' are drawn")


def hidden(name: str, policy: Policy) -> list[int]:
    """Return the columns that a policy without a group or a feature is not shown.

    Raises:
        ValueError: it observes nothing of that name.
    """
    return columns(policy.header["history"], name.removeprefix(WITHOUT), policy.options["ritz"])


def marginal(policy: Policy, task_set: TaskSet) -> Rule:
    """Return random actions with the marginal distribution of the policy's."""
    taken = np.concatenate([actions(policy, policy_run(policy, tasks)).ravel() for tasks in task_set.tuning])
    shape = (len(policy.decisions(task_set.horizon)), task_set.tasks)
    return replayed(policy, np.random.default_rng(0).choice(taken[np.isfinite(taken)], shape))


def shuffled(policy: Policy, task_set: TaskSet) -> Rule:
    """Return the policy's own actions on each task, in a random order."""
    taken = actions(policy, policy_run(policy, task_set))
    there = np.isfinite(taken)
    order = np.where(there, np.random.default_rng(0).random(taken.shape), np.inf).argsort(axis=0)
    turn = np.arange(len(taken))[:, None] % np.maximum(there.sum(axis=0), 1)
    return replayed(policy, np.take_along_axis(taken, np.take_along_axis(order, turn, axis=0), axis=0))


def mean_schedule(policy: Policy, task_set: TaskSet) -> Rule:
    """Return the geometric mean of the policy's step sizes in units, at each t / T, as a schedule for every task."""
    steps = np.log(np.hstack([policy_run(policy, tasks).step_size for tasks in task_set.tuning]))
    there = np.isfinite(steps)
    known = there.any(axis=1)
    times = np.flatnonzero(known) / len(steps)
    means = np.where(there, steps, 0.0)[known].sum(axis=1) / there[known].sum(axis=1)
    logs = np.interp(policy.decisions(task_set.horizon) / task_set.horizon, times, means)
    return replayed(policy, logs[:, None], relative=False)


ABLATIONS: dict[str, Callable[[Policy, TaskSet], Rule]] = {
    "marginal": marginal,
    "shuffled": shuffled,
    "mean-schedule": mean_schedule,
}


def is_relative(policy: Policy) -> bool:
    """Return whether a policy's actions multiply the step before."""
    return policy.header["action"] != "absolute" and policy.header["strategy"] == "dynamic"


def actions(policy: Policy, run: Run) -> Array:
    """Return the actions of a policy's D decisions, (D, n): logs of step sizes, see above; NaN after the end."""
    logs = np.log(run.step_size[policy.decisions(len(run.step_size))])
    return np.diff(logs, axis=0, prepend=0.0) if is_relative(policy) else logs


def replayed(policy: Policy, actions: Array, relative: bool | None = None) -> Rule:
    """Return the rule that takes ``actions``, (D, n) or (D, 1), held and kept in a range as a policy's steps are."""
    relative = is_relative(policy) if relative is None else relative

    def run(engine: Engine) -> Iterator[Array]:
        step = engine.step_size
        held_for = np.diff(policy.decisions(int(engine.horizon.max())), append=engine.horizon.max())
        for action, steps in zip(actions, held_for.tolist(), strict=True):
            step = np.exp(action) * (step if relative else engine.unit)
            step = np.clip(step, engine.unit / RANGE, engine.unit * RANGE)
            yield from repeat(step, steps)

    return run


def masked(policy: Policy, task_set: TaskSet, hidden: Sequence[int]) -> Policy:
    """Return the policy that takes the observations in the columns ``hidden`` to be at their means over train tasks."""
    (weight, bias), *others = policy.layers
    kept = weight.copy()
    kept[:, hidden] = 0.0
    shift = weight[:, hidden] @ mean_observation(policy, task_set.tuning[0])[hidden]
    return replace(policy, layers=((kept, (bias + shift).astype(bias.dtype)), *others))


def mean_observation(policy: Policy, task_set: TaskSet) -> Array:
    """Return the mean of what a policy observes at its decisions on all tasks, (width,)."""
    seen: list[NDArray[Any]] = []

    def steps(engine: Engine) -> Iterator[Array]:
        def act(observations: NDArray[Any]) -> NDArray[Any]:
            seen.append(observations[~engine.ended])
            return policy(observations)

        return driven(act, policy.header, engine)

    for _ in rollout(task_set.family, task_set.task, task_set.horizon, steps):
        pass
    return np.asarray(np.concatenate(seen).mean(axis=0, dtype=np.float64))
