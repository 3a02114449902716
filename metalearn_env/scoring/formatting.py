"""Results tables as text."""

from __future__ import annotations

from typing import Any

WIDTH = 120  # of a line
NAMES = 18  # at least


def formatted(result: dict[str, Any]) -> str:
    """Return what `metalearn_env.scoring.table.score` says: a table for each set of tasks, and, if several, their mean.

    What a rule is told, the last column, is cut to lines of 120 characters; ``*`` marks rules that are outside the
    class of what is compared, whose moves are no multiples of the direction.
    """
    parts = result.get("parts", [])
    options = " ".join(f"{key}:{value}" for key, value in result.get("env_kwargs", {}).items())
    mean = f"mean of {len(parts)} tables" if parts else ""
    counts = f"({result['split']}, {result['tasks']} tasks, {result['dropped']} dropped)"
    lines = [" ".join(f"{result.get('env', '')} {options} {mean} {counts}".split()), *_table(result["rows"])]
    if compared := [row for row in result["rows"] if "against" in row]:
        lines += ["", *_differences(compared)]
    return "\n\n".join([*map(formatted, parts), "\n".join(lines)])


def _table(rows: list[dict[str, Any]]) -> list[str]:
    width = max([NAMES, *(len(row["controller"]) + row["outside"] for row in rows)])
    head = f"{'controller':<{width}} {'kind':<7} {'IQM':>7}  {'95 % interval':<18} {'anytime':>8} {'worst 1 %':>9}"
    lines = [f"{head} {'diverged':>8} {'failed':>6}  told"]
    for row in rows:
        name = row["controller"] + "*" * row["outside"]
        anytime = "" if row["anytime"] is None else f"{row['anytime']:.3f}"
        line = f"{name:<{width}} {row['kind']:<7} {row['iqm']:>7.3f}  {_interval(row):<18} {anytime:>8}"
        line += f" {row['cvar']:>9.3f} {row['diverged']:>8.1%} {row['failed']:>6.1%}  {row['told']}"
        lines.append(line if len(line) <= WIDTH else f"{line[: WIDTH - 3]}...")
    return lines


def _differences(rows: list[dict[str, Any]]) -> list[str]:
    width = max([NAMES, *(len(row["controller"]) for row in rows)])
    lines = [f"{'gain over ' + rows[0]['against']['controller']:<{width}} {'IQM':>7}  95 % interval"]
    for row in rows:
        lines.append(f"{row['controller']:<{width}} {row['against']['iqm']:>7.3f}  {_interval(row['against'])}")
    return lines


def _interval(of: dict[str, Any]) -> str:
    return f"[{of['low']:.3f}, {of['high']:.3f}]"
