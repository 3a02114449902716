"""Some settings of docs/results/agents.md anew: their rows and sections, in place; the others stay as they are."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from itertools import pairwise

Sections = dict[str, list[str]]  # heading -> its lines, the heading first

TRAINED = "# How they were trained"
ONE_FOR_ALL = "## One agent for all: "  # and the name of the mixture that it is of
NOT_TRAINED = "Not trained: "


def merged(old: str, new: str, renewed: Collection[str], known: Sequence[str]) -> str:
    """Return a page with the rows and sections of the settings ``renewed`` from another one, which has no others.

    Args:
        old: the page as it is.
        new: the page of the settings that are renewed.
        renewed: their names.
        known: the names of all settings.

    Raises:
        ValueError: ``old`` is no such page, or is of another number of tasks, or its tables have other columns.
    """
    if (was := tasks_of(old)) != (now := tasks_of(new)):
        raise ValueError(f"the page to be renewed is of {was} tasks, not {now}")
    ours, theirs = sections(old), sections(new)
    if TRAINED not in ours:
        raise ValueError(f"the page to be renewed has no section {TRAINED!r}")
    last = ours.pop(TRAINED)
    for heading, lines in [*theirs.items()][:-1]:  # before how they were trained
        whole = heading not in ours or heading.removeprefix(ONE_FOR_ALL).removeprefix("## ") in renewed
        ours[heading] = lines if whole else with_rows(ours[heading], lines, renewed)
    of_settings = {heading: ours.pop(heading) for name in known if (heading := f"## {name}") in ours}
    ours |= {**of_settings, TRAINED: with_rows(last, theirs[TRAINED], renewed)}
    text = "\n".join(line for lines in ours.values() for line in in_order(lines, known))
    there = {line.split(" | ")[0].removeprefix("| ") for line in ours["## Bars"]}
    missing = [name for name in known if name not in there]
    return re.sub(rf"{NOT_TRAINED}.*", f"{NOT_TRAINED}{', '.join(missing) or 'none'}.", text, count=1)


def tasks_of(page: str) -> str:
    """Return of how many tasks of each kind a page says that it is; nothing if it does not say."""
    found = re.search(r"same (\d+) test", page)
    return found[1] if found else ""


def sections(text: str) -> Sections:
    """Return the sections of a page, those of the third level within those above."""
    found: Sections = {}
    for line in text.split("\n"):
        if re.match("##? ", line) or not found:
            found[line] = []
        found[[*found][-1]].append(line)
    return found


def with_rows(old: Sequence[str], new: Sequence[str], renewed: Collection[str]) -> list[str]:
    """Return the lines of a section with the rows of some settings in place of the old ones, the others last.

    What is said before the first table is what the new section says.

    Raises:
        ValueError: the tables of the two have other columns.
    """
    if differing := [columns for columns in columns_of(new) if columns not in columns_of(old)]:
        raise ValueError(f"the page to be renewed has no table of {differing[0]}; make all of it anew")
    fresh = {key: line for line in new if (key := row_of(line, renewed))}
    lines = [*new[: first_row(new)]]
    for line in old[first_row(old) :]:
        key = row_of(line, renewed)
        if not key or key in fresh:
            lines.append(fresh.pop(key) if key else line)
    end = max((index + 1 for index, line in enumerate(lines) if line.startswith("|")), default=len(lines))
    return [*lines[:end], *fresh.values(), *lines[end:]]


def first_row(lines: Sequence[str]) -> int:
    """Return where the first table begins, or where the lines end."""
    return next((index for index, line in enumerate(lines) if line.startswith("|")), len(lines))


def columns_of(lines: Sequence[str]) -> list[str]:
    """Return the first line of each table."""
    return [line for line, after in pairwise(lines) if after.startswith("|---")]


def in_order(lines: Sequence[str], known: Sequence[str]) -> list[str]:
    """Return lines with those that begin with the name of a setting in the order of the settings."""
    firsts = [line.split(" | ")[0].removeprefix("| ") for line in lines]
    places = [place for place, first in enumerate(firsts) if first in known]
    ordered = list(lines)
    for place, other in zip(places, sorted(places, key=lambda place: known.index(firsts[place])), strict=True):
        ordered[place] = lines[other]
    return ordered


def row_of(line: str, settings: Collection[str]) -> tuple[str, ...]:
    """Return what tells a row of some settings from the others: its setting, and of which seed or tasks it is."""
    first, *rest = [cell.strip() for cell in line.strip("|").split("|")]
    second = rest[0] if rest else ""
    if line.startswith("|") and first in settings:
        return (first, second) if second.isdigit() else (first,)
    return (first, second) if line.startswith("|") and second in settings else ()
