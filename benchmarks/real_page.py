"""The page docs/results/real_training.md."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from benchmarks.real_optimisers import REPORTS, missing
from benchmarks.real_runs import LOST, Measure, Record, Results, horizons, versions
from benchmarks.real_scores import Comparison, Entry, against_constant, against_default, entries, ours, over_seeds
from metalearn_env.scoring.statistics import interquartile_mean
from metalearn_env.session import HORIZON

INTRODUCTION = """# Real training loops

    {command}

wrote this page: policies that were trained on synthetic tasks choose the step sizes of real training runs, each by its
public adapter, told the number of steps and what the run is (batch size, discount), with nothing to tune. Beside them
what else one would use. On each of {seeds} seeds, which also choose the rows that are held out, all take as many
gradients in a run, on the same minibatches, from the same starts (scikit-learn's linear models from theirs, 0).

* Contenders with a knob are tuned *in hindsight, on these very seeds*, to their advantage; in brackets, the choice.
  *Spent* counts all that the search took; a learned run is made once. The grid of constants is 10^-3 to 10 in half
  decades; of k-means 10^-2 to 1 in quarters, of tables 10^-3 to 1 in halves.
* Numbers are interquartile means over seeds with 95 % bootstrap intervals. The first measure, in bold, decides bars,
  and chooses knobs in the tables of problems; at a glance, each measure chooses its own. *Learned / it* is the ratio
  (of returns: the difference) of this measure, seed by seed, of the learned run and the contender: the learned run is
  better below 1 (0). *Equal*: the interval contains 1 (0).
* A measure that is not finite, or above {lost:,.0f} times the first loss, counts as that. Where the adapter of an
  estimator stops a run that explodes, its measures are those of the parameters that it keeps, and its curve goes on.
* ReduceLROnPlateau is given the mean loss of every part of 1/{reports} of the run. OneCycle has momentum 0.9, as its
  defaults want. Prodigy, D-Adaptation, Schedule-Free and Adam are as they come. scikit-learn's SGD takes the examples
  of each minibatch one by one. *learned, on Adam*: the same policy scales Adam's updates; it counts for no bar.
* That policies keep within what they had met in training, and that tabular learners ask theirs once a sweep, came of
  what was seen on a first version of this page. Of diabetes, k-means and Q-learning it is no untouched test since. The
  bound on the steps of tabular runs that are short for their table was chosen on random worlds, after Taxi had been
  seen to need one; another policy for tables, which those worlds had chosen first, was given up when its runs on
  cliff-walking were seen.
* Of networks, runs of other policies were seen here before. `neural-network`, as it was when it decided at every step,
  reached 1.126 [1.003, 1.232] times the loss of the best constant on digits-mlp and 1.194 [1.014, 1.433] on digits-cnn;
  others that decided every 32 steps from the first on were given up. That it decides at each of the first 32 steps and
  every 64 after them was chosen by what it costs and by runs on other problems, which are not kept here; with an
  interval of 40, which cost too much, it reached 1.051 [0.947, 1.143] and 1.012 [0.919, 1.128].
* `clustering` was taken from five training seeds by validation tasks, after runs of another of them had been seen here,
  one of which diverged as well. What a policy sees depends on the steps that it took, and rounding grows so: on another
  machine the same policy reached 1.553 [0.905, 3.596] times the distance of the best constant on frozen-lake. It
  reached 1.964 [1.134, 3.717] before directions of successive sweeps were of one normalisation, and no run of 2,500
  steps diverged.

{versions}. Processor time: {minutes:.0f} minutes.{absent}"""

BAR_SHARE = 0.5


def page(all_results: Sequence[Results], command: str, left_out: Sequence[str]) -> str:
    """Return the page; problems that are left out are named."""
    seeds, packages = len(ours(all_results[0])), missing()
    absent = f"\n\nNot installed, and not run: {', '.join(packages)}." if packages else ""
    absent += f"\n\n**Not on this page**, and in none of its bars: {', '.join(left_out)}." if left_out else ""
    introduction = INTRODUCTION.format(
        command=command,
        seeds=seeds,
        lost=LOST,
        reports=REPORTS,
        versions=", ".join(versions()),
        minutes=sum(results.seconds for results in all_results) / 60.0,
        absent=absent,
    )
    lines = [introduction, "", "## At a glance", "", *glance(all_results)]
    for results in all_results:
        lines += ["", *section(results)]
    lines += ["", "## Other horizons", "", *other_horizons(all_results), "", "## Bars", "", *bars(all_results), ""]
    return "\n".join(lines)


def glance(all_results: Sequence[Results]) -> Iterator[str]:
    """Yield the table of what is compared with what is learned, on all problems."""
    yield "| problem | measure | learned / best constant | learned / default | contenders better, equal, worse |"
    yield "|---|---|---|---|---|"
    for results in all_results:
        for measure in results.problem.measures:
            constant, default = against_constant(results, measure), against_default(results, measure)
            others = [Comparison.of(ours(results), one.records, measure) for one in entries(results, measure)]
            counts = [sum(one.verdict == verdict for one in others) for verdict in ("worse", "equal", "better")]
            cells = [results.problem.name, measure.name, _compared(constant), _compared(default)]
            yield f"| {' | '.join(cells)} | {', '.join(map(str, counts))} |"


def section(results: Results) -> Iterator[str]:
    """Yield the part of the page that is on one problem."""
    problem, (first, *others) = results.problem, results.problem.measures
    trained = results.policy.header.get("trained_on", results.policy.header)
    steps = trained.get("env_kwargs", {}).get("horizon", HORIZON)
    policy = f"`{problem.policy}` ({results.policy.digest}; trained on {trained.get('env', 'nothing')}, {steps} steps)"
    yield f"## {problem.name}"
    yield ""
    yield f"{problem.told}: {problem.horizon:,} steps. Policy: {policy}. Default: {problem.default}."
    yield ""
    relation = "learned / it" if first.ratio else "learned - it"
    heads = ["contender", f"spent ({problem.counted})", f"**{first.name}**", *(one.name for one in others)]
    heads += [problem.also] * bool(problem.also) + [relation]
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    shown = [Entry(one, None, 1, results.learned[one, problem.horizon]) for one in problem.learners]
    shown += entries(results, first)
    for one in sorted(shown, key=lambda one: over_seeds(one.records, first).iqm):
        yield f"| {' | '.join(_cells(results, one))} |"
    yield ""
    yield f"![losses and step sizes](real_training/{problem.name}.png)"


def other_horizons(all_results: Sequence[Results]) -> Iterator[str]:
    """Yield the table of learned runs that are shorter and longer."""
    yield "Diverged: the loss that is trained on (of Q-learning: the distance to Q*) ends above where it began, or is"
    yield "not finite. Guard: how often, in all runs together, an adapter stopped or took back a run that exploded."
    yield ""
    yield "| problem | steps | first loss | last loss | diverged | guard |"
    yield "|---|---|---|---|---|---|"
    for results in all_results:
        for horizon in horizons(results.problem):
            runs = results.learned[results.problem.learners[0], horizon]
            first, last = (np.median([run["losses"][place] for run in runs]) for place in (0, -1))
            diverged, guard = sum(run["diverged"] for run in runs), sum(run["interventions"] for run in runs)
            cells = [results.problem.name, f"{horizon:,}", f"{first:.4g}", f"{last:.4g}"]
            yield f"| {' | '.join(cells)} | {diverged} of {len(runs)} | {guard} |"


def bars(all_results: Sequence[Results]) -> Iterator[str]:
    """Yield the table of bars."""
    yield "| bar | measured | reached |"
    yield "|---|---|---|"
    constants = {results.problem.name: against_constant(results, _first(results)) for results in all_results}
    counts = {verdict: _names(constants, verdict) for verdict in ("better", "equal", "worse")}
    level = len(constants) - len(counts["worse"])
    found = "; ".join(f"{verdict}: {', '.join(names) or 'none'}" for verdict, names in counts.items())
    yield (
        "| zero-shot at least equal to the best-in-hindsight constant on half of the problems "
        f"| {level} of {len(constants)}. {found} | {_reached(level >= BAR_SHARE * len(constants))} |"
    )
    worse = _names({one.problem.name: against_default(one, _first(one)) for one in all_results}, "worse")
    yield (
        "| never worse than the library default "
        f"| worse on {len(worse)} of {len(constants)}: {', '.join(worse) or 'none'} | {_reached(not worse)} |"
    )
    for times, place in (("1/4", 0), ("4x", 2)):
        diverged = {}
        for results in all_results:
            runs = results.learned[results.problem.learners[0], horizons(results.problem)[place]]
            diverged[results.problem.name] = sum(run["diverged"] for run in runs)
        which = ", ".join(f"{name} {count}" for name, count in diverged.items() if count)
        total, all_runs = sum(diverged.values()), len(diverged) * len(ours(all_results[0]))
        yield (
            f"| horizons of {times} do not diverge | {total} of {all_runs} runs diverge: {which or 'none'} "
            f"| {_reached(not total)} |"
        )


def _cells(results: Results, one: Entry) -> Iterator[str]:
    problem, mine = results.problem, one.name in results.problem.learners
    chosen = "" if one.knob is None else f" ({one.knob:g}, of {one.tried})"
    default = ", the default" if one.name == problem.default else ""
    yield f"**{one.name}**" if one.name == problem.learners[0] else f"{one.name}{chosen}{default}"
    yield f"{one.tried * problem.horizon:,}"
    for measure in problem.measures:
        found = over_seeds(one.records, measure)
        yield f"{found.iqm:.4g} [{found.low:.4g}, {found.high:.4g}]"
    if problem.also:
        yield _also(one.records)
    counts = one.name == problem.learners[0]
    yield "" if mine and counts else _compared(Comparison.of(ours(results), one.records, problem.measures[0]))


def _also(records: Sequence[Record]) -> str:
    values = [record["also"] for record in records]
    return "" if None in values else f"{interquartile_mean(np.array(values)):.3f}"


def _compared(found: Comparison) -> str:
    return f"{found.value:.4g} [{found.low:.4g}, {found.high:.4g}] {found.verdict}"


def _names(comparisons: dict[str, Comparison], verdict: str) -> list[str]:
    return [name for name, found in comparisons.items() if found.verdict == verdict]


def _first(results: Results) -> Measure:
    return results.problem.measures[0]


def _reached(reached: bool) -> str:
    return "yes" if reached else "**no**"
