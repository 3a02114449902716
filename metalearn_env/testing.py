"""The contract of a task family, executable by anyone: ``check_family("package.module:Class")``.

Each rule is one function, named after it; a family that breaks one is refused with a message that says which. Here are
those of tasks and answers, in `metalearn_env.contract_of_options` those of what a family says of itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from metalearn_env.contract import (
    HORIZON,
    NUMBERS,
    SEED,
    Case,
    ContractError,
    N,
    asked,
    check_shape,
    completed,
    drawn,
    require,
    same,
    started,
    taken,
)
from metalearn_env.contract_of_options import check_class, check_description, checked_axes
from metalearn_env.engine import DIVERGED_AT, scaled_columns
from metalearn_env.families import beyond, family_class, make_family
from metalearn_env.family import TaskFamily
from metalearn_env.observations import DESCRIPTOR_BOUND
from metalearn_env.pictures import Picture
from metalearn_env.splits import SPLITS

__all__ = ["ContractError", "check_family"]

SMALL_STEP = 0.01  # in units: no learner comes far
TIMES = np.array([0, 3, 1, 5, 2, 4])  # of N learners side by side
ROWS = np.array([4, 1])  # whose first, last, least, greatest and mean time is not that of all


def check_family(family: str | type[TaskFamily], **options: Any) -> None:
    """Check a family against the contract of `metalearn_env.family.TaskFamily`.

    Args:
        family: a registered name, ``"package.module:Class"``, or the class.
        options: its configuration.

    Raises:
        ContractError: it breaks a rule; the message names the rule and the value.

    >>> check_family("LinearRegression", dimension=4)
    """
    found = family_class(family)
    check_class(found)
    try:
        made = make_family(found, **options)
    except ValueError as error:
        raise ContractError(str(error)) from error
    check_description(made)
    for rule_of_draws in (
        _draws_from_its_generator_alone,
        _splits_differ,
        _draws_the_same_shapes,
        _completes_row_by_row,
    ):
        rule_of_draws(made)
    start = started(made, drawn(made))
    for rule in (*AT_THE_START, _describes_tasks_in_order_one):
        rule(start)
    _answers_have_their_shapes(started(made, drawn(made, n=1)))
    walk = _walk(start)
    for case in (start, walk[HORIZON // 2], _at_mixed_times(walk)):
        for rule in ANYWHERE:
            rule(case)
    for axis in checked_axes(made):
        _draws_tasks_beyond(made, axis)


# Draws


def _draws_from_its_generator_alone(family: TaskFamily) -> None:
    before = _global_state()
    first, second = drawn(family), drawn(family)
    require(_global_state() == before, "sample uses the generator given, not the global one")
    for name, one, other in zip(first._fields, first, second, strict=True):
        require(same(one, other), f"sample: {name} is the same for the same generator")


def _splits_differ(family: TaskFamily) -> None:
    draws = [[array.tobytes() for array in drawn(family, split=split)] for split in SPLITS]
    require(
        all(one != other for i, one in enumerate(draws) for other in draws[:i]), "other generators give other tasks"
    )


def _draws_the_same_shapes(family: TaskFamily) -> None:
    draws = [drawn(family, seed, n) for seed in range(SEED, SEED + 3) for n in (N, 1)]
    for source, found in (("sample", draws), ("complete", [completed(family, draw) for draw in draws])):
        for other in found[1:]:
            for name, one, array in zip(found[0]._fields, found[0], other, strict=True):
                (shape, dtype), now = ((a.shape[1:], a.dtype) for a in (one, array))
                alike = (shape, dtype) == now
                require(
                    alike, f"{source}: {name} of a task is {shape} of {dtype} in all draws, not {now[0]} of {now[1]}"
                )


def _completes_row_by_row(family: TaskFamily) -> None:
    draw = drawn(family)
    kept = [array.copy() for array in draw]
    whole, again = completed(family, draw), completed(family, draw)
    require(all(map(same, kept, draw)), "complete does not write to its input")
    part = completed(family, taken(draw, ROWS))
    for name, one, other, few in zip(whole._fields, whole, again, part, strict=True):
        require(same(one, other), f"complete: {name} is the same for the same draw")
        require(same(one[ROWS], few), f"complete: {name} of a task does not depend on the other tasks")


# Answers at the start


def _starts_anew(case: Case) -> None:
    family, task, theta, *_ = case
    check_shape("start", theta, (N, family.num_parameters))
    require(np.isfinite(theta).all(), "start is finite")
    _require_new("start", theta, [*task, asked("start", family.start, task)])


def _answers_have_their_shapes(case: Case) -> None:
    n, p, k = len(case.t), case.family.num_parameters, len(case.family.descriptor_names)
    shapes: dict[str, tuple[int, ...]] = {"loss": (n,), "signal": (n,), "direction": (n, p)}
    shapes |= {"reference_loss": (n,), "descriptor": (n, k), "step_unit": (n,)}
    for name, answer in zip(("loss", "signal", "direction"), case.evaluation(), strict=True):
        check_shape(name, answer, shapes[name])
    questions = case.questions()
    for name, shape in shapes.items():
        answer = questions[name]()
        check_shape(name, answer, shape)
        require(np.isfinite(answer).all(), f"{name} is finite at the start")
    unit = questions["step_unit"]()
    require((unit > 0).all(), f"step_unit is positive, not {unit.min()}")


def _has_a_gap_and_moves(case: Case) -> None:
    loss, _, direction = case.evaluation()
    reference = case.questions()["reference_loss"]()
    require((loss >= reference).all(), "reference_loss is at most the loss at the start")
    require((loss > reference).any(), "some task starts with a gap")
    require(direction[:, scaled_columns(case.family)].any(), "some task has a direction at the start")


def _has_noise_to_the_end(case: Case) -> None:
    try:
        case._replace(t=np.full_like(case.t, HORIZON)).evaluation()
    except ContractError as error:
        beyond_the_end = isinstance(error.__cause__, IndexError)
        require(not beyond_the_end, f"a task has noise for t = 0, ..., horizon; at the horizon: {error.__cause__}")
        raise


def _describes_tasks_in_order_one(case: Case) -> None:
    largest = np.abs(case.family.descriptor(case.task)).max(initial=0.0)
    require(largest <= DESCRIPTOR_BOUND, f"descriptors are of order one, at most {DESCRIPTOR_BOUND:g}, not {largest:g}")


# Answers on the way


def _walk(case: Case) -> list[Case]:
    """Return the learners at t = 0, ..., horizon, after small steps that keep their answers finite.

    The loss may become infinite, by divergence alone; a learner that has diverged stays where it is.
    """
    family, task, theta, t, _ = case
    loss, _, direction = first = case.evaluation()
    unit, reference = family.step_unit(task, first), family.reference_loss(task)
    most = reference + DIVERGED_AT * (loss - reference)
    walk = []
    for time in range(HORIZON + 1):
        walk.append(Case(family, task, theta, np.full_like(t, time), f"at t = {time}"))
        for name, answer in zip(("loss", "signal", "direction"), evaluation := walk[-1].evaluation(), strict=True):
            check_shape(name, answer, np.shape(getattr(first, name)))
        loss, signal, direction = evaluation
        require(not np.isnan(loss).any(), f"loss is a number after small steps, at t = {time}")
        going = loss <= most
        require(np.isfinite(signal[going]).all(), f"signal is finite after small steps, at t = {time}")
        require(np.isfinite(direction[going]).all(), f"direction is finite after small steps, at t = {time}")
        move = direction.copy()
        move[:, scaled_columns(family)] *= SMALL_STEP * unit[:, None]
        theta = np.where(going[:, None], theta + move, theta)
    return walk


def _at_mixed_times(walk: list[Case]) -> Case:
    theta = np.array([walk[t].theta[row] for row, t in enumerate(TIMES)])
    return walk[0]._replace(theta=theta, t=TIMES.copy(), when="at mixed times")


def _writes_to_nothing(case: Case) -> None:
    kept = [array.copy() for array in case.inputs()]
    for name, question in case.questions().items():
        question()
        require(all(map(same, kept, case.inputs())), f"{name} does not write to its inputs, {case.when}")


def _answers_anew(case: Case) -> None:
    for name in ("loss", "signal", "direction"):
        question = case.questions()[name]
        _require_new(name, question(), [*case.inputs(), question()])
    _require_new("direction", case.evaluation().direction, [*case.inputs(), case.evaluation().direction])


def _evaluates_as_its_parts(case: Case) -> None:
    questions, evaluation = case.questions(), case.evaluation()
    for name, together in zip(evaluation._fields, evaluation, strict=True):
        require(same(together, questions[name]()), f"evaluate gives the same {name} as {name} itself, {case.when}")


def _answers_again_the_same(case: Case) -> None:
    for name, question in case.questions().items():
        require(same(question(), question()), f"{name} gives the same answer to the same question, {case.when}")


def _answers_row_by_row(case: Case) -> None:
    few = case.some(ROWS).questions()
    for name, question in case.questions().items():
        alone = same(question()[ROWS], few[name]())
        require(alone, f"{name} of a task does not depend on the other tasks, {case.when}")


def _tells_of_the_end(case: Case) -> None:
    family, names = case.family, case.family.final_info_names
    kept = [array.copy() for array in case.inputs()]
    told = asked("final_info", family.final_info, case.task, case.theta, ROWS.copy())
    require(all(map(same, kept, case.inputs())), f"final_info does not write to its inputs, {case.when}")
    require(
        isinstance(told, dict) and set(told) == set(names),
        f"final_info tells what final_info_names names, {names}, not {told!r}",
    )
    alone = case.some(ROWS)
    again = asked("final_info", family.final_info, alone.task, alone.theta, np.arange(len(ROWS)))
    for name, value in told.items():
        numbers = isinstance(value, np.ndarray) and value.dtype.kind in NUMBERS and value.shape == ROWS.shape
        require(
            numbers, f"final_info: {name} is an array of numbers {ROWS.shape}, one for each of the rows, not {value!r}"
        )
        require(same(value, again[name]), f"final_info: {name} of a task does not depend on the other tasks")


def _shows_a_picture(case: Case) -> None:
    kept = [array.copy() for array in case.inputs()]
    for row in range(len(case.t)):
        picture = asked("picture", case.family.picture, case.task, case.theta, row)
        shown = picture is None or isinstance(picture, Picture)
        require(shown, f"picture is None or a Picture, not {type(picture).__name__}")
    require(all(map(same, kept, case.inputs())), "picture does not write to its inputs")


# Beyond what is configured


def _draws_tasks_beyond(family: TaskFamily, axis: str) -> None:
    try:
        moved = beyond(family, axis)
    except ValueError as error:
        raise ContractError(f"axis {axis} leads to a family that can be made: {error}") from error
    for name in ("kind", "descriptor_names"):
        here, there = getattr(family, name), getattr(moved, name)
        require(there == here, f"axis {axis} leads to the same {name}, {here!r}, not {there!r}")
    try:
        check_description(moved)
        case = started(moved, drawn(moved))
        for rule in AT_THE_START:
            rule(case)
        _walk(case)
    except ContractError as error:
        raise ContractError(f"beyond, along axis {axis}: {error}") from error


def _require_new(name: str, answer: np.ndarray, others: list[np.ndarray]) -> None:
    shared = any(np.shares_memory(answer, other) for other in others)
    require(
        not shared and answer.flags.writeable,
        f"{name} returns a new array, not one that is in use already or cannot be written to",
    )


def _global_state() -> str:
    return repr(np.random.get_state(legacy=False))  # noqa: NPY002  (the global generator is what must not be used)


AT_THE_START: tuple[Callable[[Case], None], ...] = (
    _starts_anew,
    _answers_have_their_shapes,
    _has_noise_to_the_end,
    _has_a_gap_and_moves,
)
ANYWHERE: tuple[Callable[[Case], None], ...] = (
    _writes_to_nothing,
    _answers_anew,
    _answers_again_the_same,
    _evaluates_as_its_parts,
    _answers_row_by_row,
    _tells_of_the_end,
    _shows_a_picture,
)
