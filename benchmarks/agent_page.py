"""The page docs/results/agents.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from agents.runs import read_run
from benchmarks import agent_bar
from benchmarks.agent_merge import ONE_FOR_ALL, TRAINED
from benchmarks.agent_settings import DEFAULTS, SETTINGS, SPECIALISTS
from benchmarks.agent_tables import Trained, bar_table, known_answer, mixture_table, sceptic
from benchmarks.agent_transfer import invariance, out_of_distribution, real_data
from benchmarks.setting import ISOTROPIC, Setting
from metalearn_env.policy import load

INTRODUCTION = """# Agents

`python -m benchmarks.agents table` wrote this page, on what `python -m benchmarks.agents train` had trained: agents of
several training seeds, each kept where it was best on validation tasks, all of them scored on the same {tasks} test
tasks of each kind. What a setting is, and what its agents see and do that others do not (Ritz values, steps that are
held), is told where its table is, below; `-plain` agents see no Ritz values, `-history-10` ones remember ten
decisions and not five, `-opening` and `-later` ones decide at every step at first and now and then afterwards. S is 0
for the best constant step of each task in hindsight and 1 for the limit of its family.
Numbers are interquartile means over training seeds and tasks with 95 % bootstrap intervals that resample both;
differences are task by task. Diverged: runs that end above the loss they began with; the bar is .1 %.

The bars were set before there were agents. *Reached*: at least the bar, and clearly above the rival where one is named;
of clustering, the loss above f*, as a part of f*, is clearly below that of the rival.

What ships as `linear-regression-ritz`, `clustering-wide`, `q-learning` (here `q-learning-default`) and `mixture-ritz`
are runs before these, which validation tasks put above all five, or level with the best of them (`clustering-wide`:
1,024 others than those by which runs keep their best agents).

Not trained: {missing}."""

KNOWN_ANSWER = """Where inputs are Gaussian and of equal variance, the best step sizes are a closed form
(`isotropic-lms`, which is told the variance, the noise and the first gap; agents are told none of them). The bar:
within 10 %, strong: 5 %."""

OUT_OF_DISTRIBUTION = """One axis at a time; the best rule is chosen in hindsight, of those that move by a multiple of
the direction. What could be known beforehand, where agents are not clearly above 0: [beforehand.md](beforehand.md).
Agents of `q-learning-wide` were trained on dimensions, noise and discounts as far out as these axes; those of
`clustering-wide`, `q-learning-default` and `q-learning-wide`, and some teachers of the mixtures, on horizons that
vary."""

REAL_DATA = """Agents of `q-learning-wide` were trained on grid worlds and errands, which are of the kind of
FrozenLake, of CliffWalking and of Taxi, but not on these."""

INVARIANCE = """Actions on the same tasks, the objective times 10^6 or 10^-6 (a coin for each task), or all inputs of a
data set, which are standardised, times 10^6 and 10^-6. What is left is rounding, which long runs amplify, unless agents
see the past rounded, too (`resolution`); steps that are inverse Ritz values amplify it whatever is seen."""

SCEPTIC = """Each table has all controls, rules and limits; an open-loop schedule and a static map to a constant step,
trained through the inner loop; the agents with something taken from them: random actions of the same distribution
(marginal), their own in another order (shuffled), their mean schedule, a group of observations held at its mean.
\\* marks moves that are no multiples of the direction. Differences: the agents' S less that of the line."""

KEPT = """Kept after so many steps of the environment (PPO), of the optimiser (`agents.schedules`) or rounds
(`agents.distil`). Students name the files of their teachers, some of which have been trained again since."""


def page(settings: Sequence[Setting], runs: Path, tasks: int) -> str:
    """Return the page.

    Raises:
        ValueError: there are no agents.
    """
    if not settings:
        raise ValueError(f"there are no agents in {runs}; see python -m benchmarks.agents train --help")
    trained = [Trained(setting, runs, tasks) for setting in settings]
    return "\n".join([*_lines(trained, tasks), ""])


def _lines(trained: Sequence[Trained], tasks: int) -> Iterator[str]:
    known = {one.setting.name: one for one in trained}
    missing = [name for name in SETTINGS if name not in known]
    yield from (INTRODUCTION.format(tasks=tasks, missing=", ".join(missing) or "none"), "")
    yield from ("## Bars", "", *bar_table(trained), "")
    yield from _one_for_all(known, trained[0].runs, tasks)
    if ISOTROPIC in known:
        yield from ("## A known answer: isotropic LMS", "", KNOWN_ANSWER, "", *known_answer(known[ISOTROPIC]), "")
    defaults = [known[name] for name in DEFAULTS if name in known]
    if defaults:
        yield from ("## Out of distribution", "", OUT_OF_DISTRIBUTION, "")
        yield from (*out_of_distribution(defaults), "")
        yield from ("## Real data", "", REAL_DATA, "", *real_data(defaults), "")
        yield from ("## Invariance", "", INVARIANCE, "", *invariance(defaults), "")
    yield from ("# What a sceptic asks for", "", SCEPTIC)
    for one in trained:
        yield from ("", *sceptic(one))
        if one.setting.name == agent_bar.NAME:
            yield from ("", *agent_bar.as_measured(one))
    yield from ("", TRAINED, "", KEPT, "", *_commands(trained))


def _one_for_all(known: Mapping[str, Trained], runs: Path, tasks: int) -> Iterator[str]:
    """Yield a table for every mixture that there are agents of."""
    others = (name for names in SPECIALISTS.values() for name in names)
    found = {name: known.get(name) or Trained(SETTINGS[name], runs, tasks) for name in (*SPECIALISTS, *others)}
    there = {name: one for name, one in found.items() if one.setting.policy_files(runs)}
    for mixture, names in SPECIALISTS.items():
        if mixture in there:
            yield from (f"{ONE_FOR_ALL}{mixture}", "")
            yield from (*mixture_table(there[mixture], [there[name] for name in names if name in there]), "")


def _commands(trained: Sequence[Trained]) -> Iterator[str]:
    yield "| setting | seed | validation | kept after | minutes | command |"
    yield "|---|---|---|---|---|---|"
    for one in trained:
        for file in one.setting.policy_files(one.runs):
            header, record = load(file).header, read_run(file.parent)
            minutes = f"{record['wall_seconds'] / 60.0:.0f}" if "wall_seconds" in record else ""
            command = f"`{header['command']}`"
            cells = [one.setting.name, str(header["seed"]), f"{header['validation_iqm']:.3f}", f"{header['steps']:,}"]
            yield f"| {' | '.join([*cells, minutes, command])} |"
