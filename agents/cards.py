"""Model cards of the shipped policies, made from what their files say: ``python -m agents.cards`` writes docs/policies.

A card holds nothing that the file does not, so that a test can hold the two together.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from agents.options import parsed
from metalearn_env.commandline import run
from metalearn_env.files import write_whole
from metalearn_env.observations import groups
from metalearn_env.policy import SHIPPED, Policy, load
from metalearn_env.scoring.statistics import Estimate

CARDS = Path(__file__).parents[1] / "docs" / "policies"

LIMITS = """
* A score is the interquartile mean of S, which is 0 for the best constant step of each task in hindsight and 1 for the
  limit of its family (docs/results/agents.md, where agents of this kind are also scored out of distribution, on real
  data and with parts of them taken away).
* It is meant for tasks like those it was trained on. Elsewhere, score it first: nothing bounds how much worse than a
  constant step it may be.
* It guarantees no descent. The share of test tasks that ended above the loss they began with is in the table.
* It knows only what it observes: ratios without units, of the run it is in. A step size is kept within 10^-6 to 10^6
  units of the task.
"""


KEEPS = """* What lies beyond what it met in training, such as a longer horizon, it takes for the nearest that it met.
"""


def card(name: str, policy: Policy) -> str:
    """Return the model card of a shipped policy."""
    header = policy.header
    lines = [
        f"# {name}",
        "",
        f"Chooses the step sizes of `{header['env']}`{_options(header['task_options'])}.",
        "",
        "```python",
        "import gymnasium as gym",
        "",
        "from metalearn_env.policy import load",
        "",
        f'policy = load("{name}")  # flat observations (n, {len(header["feature_names"])}) in, actions out',
        f'env = gym.make("metalearn_env:{header["env"]}", **policy.options)  # which observes and acts as it does',
        "```",
        "",
        "## What goes in and what comes out",
        "",
        *_interface(policy),
        "",
        "## How it was trained",
        "",
        *_training(header),
        "",
        "## Scores",
        "",
        f"`{header['test']['command']}`: {_interval(header['test'])} on {header['test']['tasks']} test tasks"
        f"{' of each family' if len(header['scores']) > 1 else ''}"
        f"{'' if header.get('taken_because') else ', which had no part in the choice'}.",
        *_scores(header),
        "",
        "## Limits of use",
    ]
    return "\n".join(lines) + "\n" + LIMITS + (KEEPS if "observed" in header else "")


def write_cards(folder: Path = CARDS, policies: Path = SHIPPED) -> None:
    """Write the cards of all policies of a folder.

    Raises:
        OSError: they cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for file in sorted(policies.glob("*.safetensors")):
        write_whole(folder / f"{file.stem}.md", card(file.stem, load(file)).encode())
        print(folder / f"{file.stem}.md")


def _options(options: Mapping[str, Any]) -> str:
    return f" with {', '.join(f'`{name}={value!r}`' for name, value in options.items())}" if options else ""


def _interface(policy: Policy) -> Iterator[str]:
    header = policy.header
    features = header["feature_names"]
    for group, place in groups(header["history"], policy.options["ritz"]).items():
        names = dict.fromkeys(feature.partition("[")[0] for feature in features[place])
        yield f"* {group} ({len(features[place])} numbers): {', '.join(names)}"
    sizes = [policy.layers[0][0].shape[1], *(len(bias) for _, bias in policy.layers)]
    yield f"* {header['action']} actions, strategy {header['strategy']}; history: {header['history']} decisions"
    first = f"at each of the first {policy.options['opening']} inner steps, then " if policy.options["opening"] else ""
    means = ", on means over the inner steps in between" if policy.options["averaged"] else ""
    yield f"* decides {first}every {policy.interval} inner step{'s' if policy.interval > 1 else ''}{means}"
    if resolution := policy.options["resolution"]:
        yield f"* what it sees of the past is rounded to multiples of {resolution:g}"
    units, output = header.get("activation", "tanh"), header.get("output", "clip")
    yield f"* a perceptron {' - '.join(map(str, sizes))}, units {units}, output {output}"


def _training(header: Mapping[str, Any]) -> Iterator[str]:
    yield f"`{header['command']}`"
    yield ""
    if begun := header.get("begun_from"):
        yield f"* begun from what these had trained: {', then '.join(f'`{one}`' for one in begun.split('; '))}"
    if teachers := header.get("teachers"):
        yield "* its teachers, each on its own tasks unless others are named; their mean is its validation score:"
        for commands, steps in teachers:
            yield f"  * `{'`, then `'.join(commands.split('; '))}`, kept after {steps:,} steps"
    if trained := header.get("trained_on"):
        yield f"* on other tasks than those of its scores: `{trained['env']}`{_options(trained['env_kwargs'])}"
    yield f"* algorithm {header['algorithm']}, seed {header['seed']}, with `{json.dumps(header['hyperparameters'])}`"
    if resumed := header.get("resumed_at"):
        yield f"* resumed after {', '.join(map(str, resumed))} steps"
    yield f"* begun on {header['date']}; {_duration(header['wall_seconds'])} for the whole run"
    if header["steps"]:
        yield f"* kept: the agent after {header['steps']:,} steps"
    elif "resumed_at" in header:
        yield "* kept: the agent as it began; no later score was better"
    yield f"* {', '.join(f'{name} {version}' for name, version in header['versions'].items())}"
    because = header.get("taken_because")
    by = "" if because else ", by which it was chosen"
    yield f"* validation score {header['validation_iqm']:.3f}{by}; of the runs that were compared:"
    yield from (f"  {iqm:.3f} (seed {seed})" for seed, iqm in header["chosen_from"])
    if because:
        yield f"* taken because {because}"


def _duration(seconds: float | None) -> str:
    return "an unknown time" if seconds is None else f"{seconds / 60.0:.0f} minutes"


def _scores(header: Mapping[str, Any]) -> Iterator[str]:
    for table in header["scores"]:
        yield from ("", f"{table['family']}, {table['tasks']} tasks, {table['dropped']} dropped:", "")
        yield from ("| controller | IQM of S | diverged |", "|---|---|---|")
        for row in table["rows"]:
            yield f"| {row['controller']} | {_interval(row)} | {row['diverged']:.1%} |"


def _interval(row: Mapping[str, Any]) -> str:
    return str(Estimate(row["iqm"], row["low"], row["high"]))


if __name__ == "__main__":
    raise SystemExit(run(lambda: parsed(write_cards)))
