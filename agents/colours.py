"""The colour of every controller, the same in all pictures."""

from __future__ import annotations

from colorsys import hsv_to_rgb
from functools import cache

from matplotlib.colors import to_hex

from metalearn_env.scoring.contenders import known_controllers

AGENT = "trained-agent"
OF_AGENTS = "#000000"

#: those that are drawn most often, far apart; the others follow round the circle of hues
CHOSEN = {
    "do-nothing": "#c7c7c7",
    "random-steps": "#bcbd22",
    "random-actions": "#8c564b",
    "tuned-constant": "#17becf",
    "tuned-decay": "#ff7f0e",
    "oracle-constant": "#7f7f7f",
    "bb1": "#2ca02c",
    "dai-yuan": "#d62728",
    "exact-line-search": "#9467bd",
    "best-rule-per-task": "#e377c2",
    "limit": "#1f77b4",
}


@cache
def _others() -> dict[str, str]:
    names = [name for name in known_controllers() if name not in CHOSEN]
    golden = 0.381966  # neighbours in the table are far apart
    return {name: to_hex(hsv_to_rgb(index * golden % 1.0, 0.75, 0.75)) for index, name in enumerate(names)}


def colour(controller: str) -> str:
    """Return the colour of a controller: black for agents, else one that belongs to its name."""
    return CHOSEN.get(controller) or _others().get(controller, OF_AGENTS)
