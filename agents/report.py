"""One page of all there is to say of trained agents: ``python -m agents.report runs/demo --out runs/demo/report``.

It holds its pictures, needs no network and runs no script; the pictures lie beside it as PNG files, too.
"""

from __future__ import annotations

import html
import io
import json
import string
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import tyro
from matplotlib.figure import Figure

from agents import figures
from agents.colours import AGENT
from agents.evaluate import beside, loaded_alike
from agents.options import parsed
from agents.runs import POLICY
from metalearn_env.commandline import INTERRUPTED, key_values, run
from metalearn_env.files import write_whole
from metalearn_env.policy import Policy
from metalearn_env.scoring import LEAST_TASKS, Contender, TaskSet, task_sets
from metalearn_env.scoring.cache import Cache
from metalearn_env.scoring.contenders import contender, policies
from metalearn_env.scoring.table import formatted, score

SHOWN = ("tuned-constant", "tuned-decay", "oracle-constant", "bb1", "dai-yuan", AGENT)  # where all would be too many
COMPARED = ("tuned-constant", "tuned-decay", "bb1", "dai-yuan")  # out of distribution, beside agents

PAGE = string.Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>$title</title>
<style>
body { font: 16px/1.5 sans-serif; max-width: 66em; margin: 2em auto; padding: 0 1em; color: #222; }
img { max-width: 100%; } figure { margin: 1.5em 0; } figcaption { color: #555; }
pre { font-size: 13px; line-height: 1.35; overflow-x: auto; background: #f6f6f6; padding: 1em; }
</style>
</head>
<body>
<h1>$title</h1>
$body
</body>
</html>
""")


@dataclass(frozen=True)
class Args:
    """Write a page, and its pictures, on the agents of one or several runs (training seeds)."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """folders of runs: the same agent trained with different seeds"""
    out: Path = Path("report")
    """folder for report.html and its pictures"""
    env: str | None = None
    """id of the environment; default: the one trained on"""
    env_kwargs: tuple[str, ...] = ()
    """options of the environment, as key:value; default: those trained on, or none if --env is given"""
    split: str = "test"
    """train, validation or test; what is out of distribution is --ood"""
    tasks: int = 256
    """tasks of each kind"""
    seed: int = 0
    """of the tasks"""
    ood: bool = True
    """score out of distribution, too"""


class Picture(NamedTuple):
    """A picture of the page."""

    name: str  # of its file
    caption: str
    figure: Figure


def main(args: Args) -> None:
    """Write the page.

    Raises:
        ValueError: no runs, or runs of different agents; nothing has been done.
        FileNotFoundError: a run has no policy.
        OSError: the folder cannot be written.
    """
    if args.split == "ood":
        raise ValueError("split is train, validation or test; what is out of distribution is --ood")
    files = [folder / POLICY for folder in args.runs]
    trained = loaded_alike(args.runs)
    args.out.mkdir(parents=True, exist_ok=True)
    env = args.env or trained[0].header["env"]
    options = key_values(args.env_kwargs) or ({} if args.env else trained[0].header["env_kwargs"])
    sets = task_sets(env, args.split, args.tasks, args.seed, options, Cache())
    agents = [policies(AGENT, files)]
    result = {"env": env, "env_kwargs": {}, **score(sets, beside(agents, sets), against=AGENT, show_progress=True)}
    tables = result.get("parts", [result])
    sections = [_heading("Scores"), f"<pre>{html.escape(formatted(result))}</pre>"]
    for name, task_set, table in zip(_names(sets), sets, tables, strict=True):
        sections += [
            _heading(name),
            *_shown(_of_family(task_set, table, trained[0], beside(agents, sets)), args.out, name),
        ]
    if args.ood:
        moved = _out_of_distribution(env, options, args, agents)
        sections += [_heading("Out of distribution"), *_shown(moved, args.out, "ood")]
    sections += [_heading("Where it comes from"), f"<pre>{html.escape(_origin(trained))}</pre>"]
    page = PAGE.substitute(title=html.escape(f"{env}: trained agent"), body="\n".join(sections))
    write_whole(args.out / "report.html", page.encode())
    write_whole(args.out / "report.json", (json.dumps(result, indent=1) + "\n").encode())
    print(args.out / "report.html")


def _of_family(
    task_set: TaskSet, table: Mapping[str, Any], policy: Policy, contenders: Sequence[Contender]
) -> Iterator[Picture]:
    """Yield the pictures of one family."""
    known = {who.name: who for who in contenders if who.name in SHOWN and who.is_for(task_set)}
    runs = {name: known[name].runs(task_set) for name in SHOWN if name in known}
    yield Picture(
        "scores",
        "Interquartile mean of S over tasks, with 95 % bootstrap intervals.",
        figures.score_bars(table["rows"]),
    )
    yield Picture(
        "profiles",
        "Performance profiles: shares of all tasks that count, those beyond the axes included.",
        figures.score_profiles(table["profiles"], list(runs)),
    )
    yield Picture("curves", "What controllers do over an episode.", figures.curves(runs))
    yield Picture(
        "steps",
        "Every step of the agent, against the step that a rule would take from the same place; where the best steps "
        "have a closed form, against that, too, and how far from it they are.",
        figures.learned_steps(policy, task_set),
    )


def _out_of_distribution(
    env: str, options: Mapping[str, Any], args: Args, agents: Sequence[Contender]
) -> Iterator[Picture]:
    """Yield a matrix of scores for each family: controllers against axes."""
    sets = task_sets(env, "ood", args.tasks, args.seed, options, Cache())
    for name in dict.fromkeys(type(task_set.family).__name__ for task_set in sets):
        of_family = [task_set for task_set in sets if type(task_set.family).__name__ == name]
        scores: dict[str, dict[str, float]] = {}
        for task_set in of_family:
            compared = [contender(other) for other in COMPARED]
            contenders = [who for who in [*compared, *agents] if who.is_for(task_set)]
            if task_set.counted.sum() < LEAST_TASKS:
                continue
            for row in score(task_set, contenders)["rows"]:
                scores.setdefault(row["controller"], {})[str(task_set.part.axis)] = row["iqm"]
        yield Picture(
            name,
            f"{name}: interquartile mean of S on tasks beyond those trained on, along one axis at a time. "
            "0 is the best constant step in hindsight.",
            figures.matrix(scores),
        )


def _shown(pictures: Iterator[Picture], folder: Path, prefix: str) -> Iterator[str]:
    """Write pictures to PNG files and yield them as parts of the page, which holds them."""
    for picture in pictures:
        buffer = io.BytesIO()
        picture.figure.savefig(buffer, format="png")
        (folder / f"{prefix}-{picture.name}.png").write_bytes(buffer.getvalue())
        data, text = b64encode(buffer.getvalue()).decode(), html.escape(picture.caption)
        yield f'<figure><img alt="{text}" src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>'


def _names(sets: Sequence[TaskSet]) -> list[str]:
    """Return the name of the family of each set, with a number where another has the same."""
    names = [type(task_set.family).__name__ for task_set in sets]
    return [
        f"{name}-{names[: index + 1].count(name)}" if names.count(name) > 1 else name
        for index, name in enumerate(names)
    ]


def _heading(text: str) -> str:
    return f"<h2>{html.escape(text)}</h2>"


def _origin(trained: Sequence[Policy]) -> str:
    kept = ("command", "seed", "steps", "validation_iqm", "date", "versions")
    return "\n\n".join(
        json.dumps({name: policy.header[name] for name in kept if name in policy.header}, indent=1)
        for policy in trained
    )


if __name__ == "__main__":
    raise SystemExit(run(lambda: main(parsed(Args)), INTERRUPTED))
