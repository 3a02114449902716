"""What makes it learn: one thing at a time changed in how agents are trained, and what that changes in their score.

``python -m benchmarks.learning --jobs 2`` trains (runs that are through are skipped, those that were cut are resumed)
and writes docs/learning.md; ``--only base discount`` trains no more than these, ``--only none`` nothing, ``--envs`` on
which environments. What the page has of others stays, compared with the base that they were trained beside.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from agents.colours import AGENT
from agents.runs import POLICY
from benchmarks.agent_tables import Values
from benchmarks.learning_variations import BASE, ENVS, NAMES, VARIATIONS
from benchmarks.pages import fewer, publish
from benchmarks.trainings import run_all
from metalearn_env.commandline import check_writable, key_values, run, whole
from metalearn_env.scoring import Contender, TaskSet, task_sets
from metalearn_env.scoring.cache import Cache
from metalearn_env.scoring.contenders import ablation, policies
from metalearn_env.scoring.measures import final_gaps
from metalearn_env.scoring.statistics import estimate, paired_difference

NONE = "none"
MASKS = (
    "without-task",
    "without-progress",
    "without-history",
    *(f"without-{name}" for name in ("curvature", "cosine")),
)
SPLIT, SEED = "validation", 1  # not the tasks, of seed 0, by which a run keeps its best agent

INTRODUCTION = """# What makes it learn

`python -m benchmarks.learning` wrote this page: agents trained with one thing changed at a time. The base is
`python -m agents.train` of six epochs in batches of 1,600, tanh and a learning rate from .001, {steps:,} environment
steps; {seeds} training seeds each; interquartile mean of S on {tasks} validation tasks of each family, other ones than
those by which a run keeps its best agent. Differences are task by task; 95 % bootstrap intervals resample training
seeds and tasks, and few seeds make them no better than a hint.
Hidden: groups and features of the observation that agents are trained without; masked: the base's agents themselves,
with observations held at their means, not trained anew. A privileged critic is shown the gap, f* and the curvatures
beside the observation. Strategies: [strategies.md](results/strategies.md). What is not in the table was not trained so;
`--only` and `--envs` choose what is trained.
"""

FINDINGS = """
What the table says, of trainings as short as these. Logarithmic rewards, relative actions and the history pay, by far.
So does progress, to agents of regression that are trained without it, perhaps as their critics do not know how much is
to come: masked, actors do not miss it. Curvature and cosine are used, but agents trained
without one of them make do with the rest, and those of regression without the descriptors of the task; agents of the
mixture use these. A privileged critic is level with a plain one, and so are normalised returns and discounts below 1,
or (.9 on the mixture) a little better. Of regression, other widths of the network and a lambda of .8 are a little
worse. Rewards of the mixture are better in the families' own units than divided by what a constant step earns.
Histories of 1 and of 10 steps, and first steps that vary, by half a decade or by two, cost .02 each; horizons that
vary cost nothing, at the horizon of the base, nor does what is seen of the past being rounded (`resolution`). A
quarter of the budget costs .2 and, on the mixture, .5; four times the budget gain .1. 1,024 rows, which leave few
updates to a run as short as these, cost .25, while 64 are level with 256. Fewer epochs in smaller batches, for fewer
or as many updates and less arithmetic (`epochs`), cost regression .03 to .14, and the mixture nothing. There relu
instead of tanh gains .06, which costs regression nothing that is clear; with two epochs in batches of 1,600, at twice
the learning rate, it gains .03 for a third of the arithmetic. With four and eight times the steps (`--envs
Mixture --only base network epochs "reward units" --steps 2000000 --runs runs/longer --out longer.md`, or 4000000,
in another folder and page; these rows are not in the table) these two epochs are level with the base, .008 [-.017,
.033] and .014 [-.007, .040], and so are, with four times, relu alone, .005 [-.016, .031], and rewards that are not
divided, .001 [-.019, .024]; one of three runs of two layers of 128 then learns nothing.

One epoch in batches of 800, at three times the learning rate, is half the arithmetic of these two and level with them:
-.041 where two come to -.035 (five seeds: `--envs Mixture --only base epochs --seeds 0 1 2 3 4 --runs runs/five --out
five.md`), and with eight times the steps (three seeds: `--envs Mixture --only epochs --steps 4000000 --runs runs/eight
--out eight.md`) .107 where two come to .108. Other learning rates, .002 and .004, come to -.085 and -.015, and then to
.090 and .084. Two layers of 32 or 48 would be cheaper still, but with two epochs come to -.113 and -.080, and to .074
and .093; none of this paragraph is in the table.

Minibatches are noisy (`minibatch`: batches of 1 to 8, 200 inner steps), and there an agent that decides at each step
hardly learns. One that decides every 10 steps does, and better still if it sees the means over the steps in between
(`averaged`). Those of docs/results/agents.md, of 16 times the budget, decide every 5, which is then level.

Ritz values of the last twenty steps (`ritz`), where all rows are seen at every step, are worth more than any other
change to agents that may choose their inverses, and next to nothing to those that only see them, perhaps as relative
actions are never as exact.

What pays stays: logarithmic rewards, relative actions, a history of 5, two layers of 64, returns as they come, first
steps at the unit; on the mixture, relu and one epoch in batches of 800. What does not is off: `normalize`,
`privileged` and `first_step_decades` are left so that this table can be made anew. The division of the mixture's
rewards, level in longer runs, stays on: it keeps a family whose returns are large, such as one of one's own, from
outvoting the others.

Three machines trained these, and each is compared with the base of its own: base, horizons, resolutions, returns, Ritz
values, budgets, masks and decisions are of the third; histories, first steps and rows of the second, where the base of
regression had .336; the others of the first, .340 and -.099. Three seeds are few: normalised returns, level here, had
cost .07 on the first. All were trained when a learning rate that falls could end a little below 0 (CHANGELOG.md).

"""


def values(who: Contender, sets: Sequence[TaskSet]) -> Values:
    """Return S, (runs, tasks), on each set of tasks."""
    return [task_set.scores(final_gaps(who.runs(task_set))) for task_set in sets]


def column(name: str, options: argparse.Namespace) -> dict[tuple[str, str], str]:
    """Return two cells for everything that was changed and is trained: the score, and what it is above the base."""
    env, env_kwargs = ENVS[name]
    sets = task_sets(env, SPLIT, options.tasks, SEED, key_values(env_kwargs), Cache())
    files = {
        (variation.name, variation.value): [one.out / POLICY for one in variation.trainings(name, options) if one.done]
        for variation in VARIATIONS
    }
    of_base = files[BASE, VARIATIONS[0].value]
    found = {key: values(policies(AGENT, of_one), sets) for key, of_one in files.items() if of_one}
    if of_base:
        found |= {("masked", mask): values(ablation(mask, mask, of_base), sets) for mask in MASKS}
    base = found.get((BASE, VARIATIONS[0].value))
    return {key: f"{estimate(*of)}{fewer(len(of[0]), options.seeds)} | {_above(of, base)}" for key, of in found.items()}


def _above(ours: Values, base: Values | None) -> str:
    return "" if base is None or ours is base else str(paired_difference(ours, base))


def page(options: argparse.Namespace) -> str:
    """Return the page: what it has already, and what was trained."""
    kept = known(options.out)
    columns = [kept.get(name, {}) | column(name, options) for name in ENVS]
    keys = [*((variation.name, variation.value) for variation in VARIATIONS), *(("masked", mask) for mask in MASKS)]
    return "\n".join([*_introduction(options), *_table(keys, columns), ""])


def check_alike(options: argparse.Namespace) -> None:
    """Raise ``ValueError`` if what the page has already is of other steps, seeds or tasks."""
    text = options.out.read_text() if known(options.out) else ""
    was, now = told(text), told(next(_introduction(options)))
    if was and was != now:
        raise ValueError(f"{options.out} is of {was} (steps, seeds, tasks), not of {now}; give another --out")


def told(page: str) -> tuple[str, ...]:
    """Return of how many steps, seeds and tasks a page says that it is; nothing if it does not say."""
    found = re.search(r"([\d,]+) environment\s+steps; (\d+) training seeds each.*? (\d+) validation tasks", page, re.S)
    return found.groups() if found else ()


def known(path: Path) -> dict[str, dict[tuple[str, str], str]]:
    """Return the cells of the table of a page, for each environment, as `column` has them; none if there is no page."""
    columns: dict[str, dict[tuple[str, str], str]] = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        what, value, *cells = [cell.strip() for cell in line.removeprefix("| ").removesuffix("|").split(" | ")] + [""]
        if line.startswith("| what |"):
            columns = {name: {} for name in cells[:-1:2]}
        elif line.startswith("| ") and len(cells) > 2 * len(columns):
            for of_env, score, above in zip(columns.values(), cells[::2], cells[1::2], strict=False):
                if score:
                    of_env[what, value] = f"{score} | {above}"
    return columns


def _introduction(options: argparse.Namespace) -> Iterator[str]:
    yield INTRODUCTION.format(steps=options.steps, seeds=len(options.seeds), tasks=options.tasks) + FINDINGS
    if options.hyperparams:
        yield f"All with `--hyperparams {' '.join(options.hyperparams)}`."
        yield ""


def _table(keys: Sequence[tuple[str, str]], columns: Sequence[dict[tuple[str, str], str]]) -> Iterator[str]:
    yield f"| what | value | {' | '.join(f'{name} | above the base' for name in ENVS)} |"
    yield "|---|---|" + "---|---|" * len(ENVS)
    for key in keys:
        if any(key in of_env for of_env in columns):
            yield f"| {' | '.join([*key, *(of_env.get(key, ' | ') for of_env in columns)])} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, print and write the page; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", choices=[*NAMES, NONE], default=NAMES, metavar="NAME", help=", ".join(NAMES)
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=whole, default=500_000, help="of the environment")
    parser.add_argument("--envs", nargs="+", choices=list(ENVS), default=list(ENVS), metavar="NAME", help="to train on")
    parser.add_argument("--hyperparams", nargs="+", default=[], help="name:value, of all trainings")
    parser.add_argument("--runs", type=Path, default=Path("runs/learning"))
    parser.add_argument("--jobs", type=whole, default=1, help="trainings at a time")
    parser.add_argument("--tasks", type=whole, default=256, help="of each family")
    parser.add_argument("--out", type=Path, default=Path("docs/learning.md"))
    options = parser.parse_args(arguments)
    return run(lambda: write(options))


def write(options: argparse.Namespace) -> None:
    """Train what is asked for and write the page on all that is there."""
    check_writable(options.out)
    check_alike(options)
    chosen = [variation for variation in VARIATIONS if variation.name in options.only]
    trainings = [one for variation in chosen for name in options.envs for one in variation.trainings(name, options)]
    run_all(trainings, options.jobs)
    text = page(options)
    publish(options.out, text)


if __name__ == "__main__":
    sys.exit(main())
