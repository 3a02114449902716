"""Tables of docs/results/agents.md on the tasks that agents were trained on: the bars, and what a sceptic asks for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from agents.colours import AGENT
from agents.evaluate import beside
from benchmarks.comparison import excess
from benchmarks.setting import MIXTURE, Bar, Setting
from metalearn_env.policy import load
from metalearn_env.scoring import Contender, TaskSet
from metalearn_env.scoring.contenders import ablation, contender, policies
from metalearn_env.scoring.measures import final_gaps
from metalearn_env.scoring.statistics import Estimate, estimate, interquartile_mean, paired_difference
from metalearn_env.scoring.table import score

ABLATIONS = ("marginal", "shuffled", "mean-schedule", "without-task", "without-progress", "without-history")
MOST_DIVERGED = 0.001
NEAR = 0.10  # of the specialist's score: what an agent of the mixture may lack

Values = list[np.ndarray]  # (runs, tasks) on each set of tasks


@dataclass(frozen=True, eq=False)
class Trained:
    """The agents of a setting, of all training seeds, on its test tasks."""

    setting: Setting
    runs: Path
    tasks: int

    @cached_property
    def sets(self) -> list[TaskSet]:
        return self.setting.sets(self.tasks)

    @cached_property
    def agent(self) -> Contender:
        return policies(AGENT, self.setting.policy_files(self.runs))

    def who(self, name: str) -> Contender | None:
        """Return a controller, or a control that was trained; None if it was not."""
        if name == AGENT:
            return self.agent
        if name in ("open-loop", "static"):
            file = self.setting.controls(self.runs).get(name)
            return policies(name, [file]) if file else None
        return contender(name)

    def values(self, who: Contender) -> Values:
        """Return what a bar is of: S, or the excess of the loss over f*."""
        gaps = [final_gaps(who.runs(one)) for one in self.sets]
        measure = TaskSet.scores if self.is_of_scores else excess
        return [measure(one, of_one) for one, of_one in zip(self.sets, gaps, strict=True)]

    @property
    def is_of_scores(self) -> bool:
        return self.setting.bar is None or self.setting.bar.least is not None

    def difference(self, name: str) -> Estimate | None:
        """Return by how much agents are above a controller, task by task; None if there is none."""
        other = self.who(name)
        return paired_difference(self.values(self.agent), self.values(other)) if other else None


def bar_table(trained: Sequence[Trained]) -> Iterator[str]:
    """Yield a line for every setting: what was asked for, and what was reached."""
    yield "| setting | agents | seeds, lowest to highest | bar | strong | rival | agents - rival | diverged | reached |"
    yield "|---|---|---|---|---|---|---|---|---|"
    yield from map(bar_line, trained)


def bar_line(trained: Trained) -> str:
    """Return the line of a setting."""
    values, bar = trained.values(trained.agent), trained.setting.bar
    of_seeds = np.mean([interquartile_mean(of_set) for of_set in values], axis=0)
    diverged = float(np.mean([final_gaps(trained.agent.runs(one)) > 0.0 for one in trained.sets]))
    reached = estimate(*values)
    cells = [trained.setting.name, f"{reached}{'' if trained.is_of_scores else ' excess'}"]
    cells.append(f"{len(of_seeds)}: {of_seeds.min():.3f} to {of_seeds.max():.3f}")
    if bar is None:
        return f"| {' | '.join([*cells, '', '', '', '', f'{diverged:.2%}', ''])} |"
    cells += [
        str(of) if of else f"below {name}" for of, name in ((bar.least, bar.rival), (bar.strong, bar.strong_rival))
    ]
    other = trained.who(bar.rival) if bar.rival else None
    difference = trained.difference(bar.rival) if bar.rival else None
    strong = trained.difference(bar.strong_rival) if bar.strong_rival else None
    cells.append(
        f"{bar.rival} {estimate(*trained.values(other))}"
        if other
        else f"{bar.rival or ''}{' not trained' * bool(bar.rival)}"
    )
    cells += [str(difference or ""), f"{diverged:.2%}", verdict(bar, reached, difference, strong, diverged)]
    return f"| {' | '.join(cells)} |"


def verdict(bar: Bar, reached: Estimate, difference: Estimate | None, strong: Estimate | None, diverged: float) -> str:
    """Return whether a bar is reached, in words."""
    if bar.least is None:
        least, more = bool(difference and difference.high < 0.0), bool(strong and strong.high < 0.0)
    else:
        above = not bar.rival or bool(difference and difference.low > 0.0)
        least = above and reached.iqm >= bar.least
        more = above and bar.strong is not None and reached.iqm >= bar.strong
    words = "strong" if more else "yes" if least else "no"
    return words if diverged < MOST_DIVERGED else f"{words}{', and' if words == 'no' else ', but'} diverges"


def mixture_table(mixture: Trained, specialists: Sequence[Trained]) -> Iterator[str]:
    """Yield a line for each of some settings: agents of the mixture beside those trained on its tasks."""
    yield "| setting | agents of the mixture | agents of the setting | seeds | difference | within .10 |"
    yield "|---|---|---|---|---|---|"
    for other in specialists:
        ours, theirs = (
            [one.scores(final_gaps(who.runs(one))) for one in other.sets] for who in (mixture.agent, other.agent)
        )
        difference = paired_difference(ours, theirs)
        words = "equal or better" if difference.high >= 0.0 else "yes" if difference.iqm >= -NEAR else "no"
        seeds = dict.fromkeys(len(one.setting.policy_files(one.runs)) for one in (mixture, other))
        cells = [estimate(*ours), estimate(*theirs), " and ".join(map(str, seeds)), difference, words]
        yield f"| {' | '.join(map(str, [other.setting.name, *cells]))} |"


def known_answer(trained: Trained) -> Iterator[str]:
    """Yield how far agents' steps are from the best schedule of isotropic LMS, which is known."""
    (tasks,) = trained.sets
    (rule,), agents = contender("isotropic-lms").runs(tasks), trained.agent.runs(tasks)
    ratios = np.log(np.stack([run.step_size for run in agents]) / rule.step_size)  # (runs, T, n)
    yield "| parts of the episode | median step, relative to the best | median distance from it |"
    yield "|---|---|---|"
    for first in np.arange(0.0, 1.0, 0.25):
        of_part = ratios[:, int(first * tasks.horizon) : int((first + 0.25) * tasks.horizon)]
        known = of_part[np.isfinite(of_part)]
        cells = "diverged | " if not known.size else f"{_ratio(known):.3f} | {_ratio(np.abs(known)) - 1.0:.1%}"
        yield f"| {first:.0%} to {first + 0.25:.0%} | {cells} |"


def _ratio(logs: np.ndarray) -> float:
    return float(np.exp(np.median(logs)))


def sceptic(trained: Trained) -> Iterator[str]:
    """Yield all that agents are compared with on the tasks of a setting, and on those of each family."""
    files = trained.setting.policy_files(trained.runs)
    controls = [policies(name, [file]) for name, file in trained.setting.controls(trained.runs).items()]
    kinds = [*ABLATIONS, *(["without-ritz"] if load(files[0]).options["ritz"] else [])]
    agents = [*controls, *(ablation(kind, f"{AGENT}, {kind}", files) for kind in kinds), trained.agent]
    result = score(trained.sets, beside(agents, trained.sets), against=AGENT, show_progress=True)
    yield from (f"## {trained.setting.name}", "", described(trained.setting, len(files)), "")
    parts = result.get("parts", [])
    if parts and trained.setting.env == MIXTURE:
        yield from ("Mean over the sets of tasks:", "")
    yield from rows(result)
    families = [type(task_set.family).__name__ for task_set in trained.sets]
    if len(set(families)) > 1:
        for family, part in zip(families, parts, strict=True):
            yield from ("", f"### {family}", "", *rows(part))


def described(setting: Setting, seeds: int) -> str:
    """Return what the tasks of a setting are, and what its agents are given beside."""
    given = f"; agents with {' '.join(map('`{}`'.format, setting.agent_kwargs))}" if setting.agent_kwargs else ""
    return f"{setting.title}{given}; training seeds: {seeds}."


def rows(result: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of a table."""
    yield f"{result['tasks']} tasks, {result['dropped']} dropped."
    yield ""
    yield "| controller | kind | IQM of S | agents are above it by | anytime | worst 1 % | diverged | told |"
    yield "|---|---|---|---|---|---|---|---|"
    for row in result["rows"]:
        gain = row["against"]
        difference = "" if row["controller"] == AGENT else Estimate(-gain["iqm"], -gain["high"], -gain["low"])
        anytime = "" if row["anytime"] is None else f"{row['anytime']:.3f}"
        cells = [row["controller"] + r"\*" * row["outside"], row["kind"], Estimate(row["iqm"], row["low"], row["high"])]
        cells += [difference, anytime, f"{row['cvar']:.3f}", f"{row['diverged']:.2%}", row["told"]]
        yield f"| {' | '.join(map(str, cells))} |"
