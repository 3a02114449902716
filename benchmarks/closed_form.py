"""How close the steps of agents come to a closed form: ``python -m benchmarks.closed_form FILE...``.

It writes docs/results/closed_form.md. The files are policies trained where the best step sizes are known, see
`agents.closed_forms`; they are asked for steps on tasks of the environment that they were trained on.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from agents.closed_forms import advised, closed_forms, deviation, quartiles
from benchmarks.pages import publish
from metalearn_env.commandline import check_writable, run, whole
from metalearn_env.family import Array
from metalearn_env.policy import Policy, load
from metalearn_env.scoring import TaskSet
from metalearn_env.scoring.statistics import interquartile_mean
from metalearn_env.scoring.table import contender, run_policy

BAR = 0.1
TIMES = (1, 2, 3, 5, 8, 12, 20, 30, 40, 50, 100, 200)  # inner steps that have a line of their own


def tasks_of(policy: Policy, split: str, tasks: int) -> TaskSet:
    """Return tasks of the environment that a policy was trained on.

    Raises:
        ValueError: no closed form is known there.
    """
    env_id, options = policy.header["env"], policy.header["env_kwargs"]
    found = TaskSet(env_id, split, tasks, 0, options)
    if not closed_forms(found):
        raise ValueError(f"no closed form of the best steps is known for {env_id} with {options}")
    return found


def section(policy: Policy, task_set: TaskSet) -> Iterator[str]:
    """Yield the part of the page on one policy."""
    names = closed_forms(task_set)
    steps = advised(policy, task_set, names)
    parts = {name: quartiles(deviation(steps, name)) for name in names}
    options = " ".join(f"`{key}:{value}`" for key, value in policy.header["env_kwargs"].items())
    yield f"## {policy.header['env']} {options}".rstrip()
    yield from ("", f"    {policy.header.get('command', 'of an unknown command')}", "")
    half = task_set.horizon // 2
    for name, found in parts.items():
        late, blind = np.median(found[1, half:]), np.median(quartiles(of_schedule(steps.rules[name]))[1, half:])
        verdict = "within" if late <= BAR else "**not within**"
        yield f"Second half of the run, against `{name}`: median deviation {late:.1%}, {verdict} {BAR:.0%};"
        yield f"its own median over tasks, a schedule that sees nothing, deviates by {blind:.1%}."
    yield f"IQM of S: policy {iqm(task_set, run_policy(policy, task_set))}, {beside(task_set, names)}."
    yield from ("", f"| step | learned | {' | '.join(f'{name} | deviation' for name in names)} |")
    yield "|---|---|" + "---|---|" * len(names)
    learned = quartiles(steps.learned)[1]
    advice = {name: quartiles(steps.rules[name])[1] for name in names}
    for t in (t - 1 for t in TIMES if t <= task_set.horizon):
        cells = [f"{advice[name][t]:.3g} | {form(*parts[name][:, t])}" for name in names]
        yield f"| {t + 1} | {learned[t]:.3g} | {' | '.join(cells)} |"
    yield ""


def of_schedule(steps: Array) -> Array:
    """Return the deviations, (T, n), of the median over tasks of steps from these."""
    return np.abs(quartiles(steps)[1][:, None] / steps - 1.0)


def form(low: float, middle: float, high: float) -> str:
    return f"{middle:.0%} [{low:.0%}, {high:.0%}]"


def iqm(task_set: TaskSet, log_gaps: Array) -> str:
    return f"{interquartile_mean(task_set.scores(log_gaps)):.3f}"


def beside(task_set: TaskSet, names: tuple[str, ...]) -> str:
    found = {name: contender(name).runs(task_set)[0].log_gap[-1] for name in ("tuned-constant", "tuned-decay", *names)}
    return ", ".join(f"{name} {iqm(task_set, gaps)}" for name, gaps in found.items())


def page(policies: list[Policy], split: str, tasks: int) -> str:
    """Return the page."""
    lines = [
        "# Learned steps against closed forms",
        "",
        "`python -m benchmarks.closed_form FILE...` wrote this page: how far the steps of trained agents are from the",
        f"best ones, where these are known, on {tasks} {split} tasks. Deviation: |step / closed form - 1|, its median",
        "over tasks, with quartiles in brackets; steps are medians, in units of the task. A closed form is told what",
        "agents are not, such as the noise, and it is the best for the *expected* loss.",
        "",
    ]
    for policy in policies:
        lines += section(policy, tasks_of(policy, split, tasks))
    return "\n".join(lines)


def main() -> None:
    """Measure all policies and write the page.

    Raises:
        FileNotFoundError: there is no policy of that name.
        ValueError: no closed form is known for the environment of one of them.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("policies", nargs="+", metavar="FILE")
    parser.add_argument("--split", default="test")
    parser.add_argument("--tasks", type=whole, default=256)
    parser.add_argument("--out", type=Path, default=Path("docs/results/closed_form.md"))
    options = parser.parse_args()
    check_writable(options.out)
    text = page([load(name) for name in options.policies], options.split, options.tasks)
    publish(options.out, text)


if __name__ == "__main__":
    raise SystemExit(run(main))
