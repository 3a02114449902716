"""Make one policy of two, told apart by a feature: ``python -m agents.join --below FILE --above FILE --out DIR``.

The two perceptrons lie side by side in one of twice the width. Units of the one that is not asked are held at -1, where
their hyperbolic tangent ends, and what they add to the action is taken off again, so that the joined policy is either
of the two to rounding. One whose steps are for synchronous updates and one for tables along trajectories
(`agents.cells`) become one for both.
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from agents import cells
from agents.export import begun_from, versions
from agents.runs import POLICY, check_new, write_run
from agents.teachers import PLAIN
from agents.training import mean_score
from metalearn_env.commandline import run
from metalearn_env.observations import NUM_TASK, feature_names
from metalearn_env.policy import Policy, load
from metalearn_env.scoring import task_sets
from metalearn_env.scoring.cache import Cache
from metalearn_env.scoring.table import run_policy

HELD = 50.0  # what holds a unit at its end: far beyond what it is else given
SAME = ("history", "action", "strategy", "feature_names")
ALSO = {"strategy": "dynamic", "activation": "tanh", "output": "clip", **PLAIN}


@dataclass(frozen=True)
class Args:
    """Join two policies of one shape of actions into one file."""

    below: Path
    """policy file where the feature is 0"""
    above: Path
    """policy file where the feature is 1"""
    out: Path
    """folder of the run"""
    on: str = "descriptor_3"
    """the feature, of the task, that is 0 or 1: of Q-learning, whether updates are synchronous"""
    env: str = "MetaLearn/QLearning-v0"
    """id of the environment whose validation tasks it is scored on"""
    validation_tasks: int = 256
    """how many of them, of each family"""


def main(args: Args) -> None:
    """Do what ``args`` ask for.

    Raises:
        FileNotFoundError, ValueError: there are no such policies, they cannot be joined, or the folder holds a run
            already. Nothing is written.
    """
    below, above = load(args.below), load(args.above)
    check_new(args.out)
    policy = joined(below, above, args.on)
    judged = cells.judged(policy)
    sets = task_sets(args.env, "validation", args.validation_tasks, 0, {}, Cache())
    header = {
        **policy.header,
        "env": args.env,
        "env_kwargs": {name: policy.header[name] for name in ("action", "history")},
        "algorithm": f"two policies joined, told apart by {args.on}",
        "hyperparameters": {},
        "seed": above.header["seed"],
        "command": f"python -m agents.join {shlex.join(sys.argv[1:])}",
        "begun_from": "; ".join(dict.fromkeys("; ".join(map(begun_from, (args.above, args.below))).split("; "))),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "versions": versions(),
        "validation_iqm": round(mean_score(sets, lambda tasks: run_policy(policy, tasks)), 4),
        "steps": 0,
        "tables": {"score": round(judged.score, 4), "risen": round(judged.risen, 4), "worse": round(judged.worse, 4)},
    }
    write_run(args.out, {"validation_tasks": args.validation_tasks, "command": header["command"]})
    Policy(policy.layers, header).save(args.out / POLICY)
    print(f"validation tasks: {header['validation_iqm']}, tables: {header['tables']}; policy: {args.out / POLICY}")


def joined(below: Policy, above: Policy, on: str) -> Policy:
    """Return the policy that is ``below`` where a feature is 0, and ``above`` where it is 1.

    Raises:
        ValueError: they have not the same features and actions, no tanh units, or other numbers of layers than three,
            or the feature is not one of the task.
    """
    for name in (*SAME, *ALSO):
        ours, theirs = (one.header.get(name, ALSO.get(name)) for one in (below, above))
        if json.dumps(ours) != json.dumps(theirs) or ours != ALSO.get(name, ours):
            raise ValueError(f"policies that are joined have the same {name}, {ALSO.get(name, '')}: {ours}, {theirs}")
    if len(below.layers) != 3 or len(above.layers) != 3:
        raise ValueError(f"policies that are joined have 3 layers, not {len(below.layers)} and {len(above.layers)}")
    known = feature_names(below.header["history"])[:NUM_TASK]
    if on not in known:
        raise ValueError(f"on is one of {', '.join(known)}, not {on!r}")
    column = known.index(on)
    parts = [[(np.asarray(w, np.float64), np.asarray(b, np.float64)) for w, b in one.layers] for one in (below, above)]
    signs = (-1.0, 1.0)
    first = [(weight.copy(), bias.copy()) for (weight, bias), _, _ in parts]
    for (weight, bias), sign in zip(first, signs, strict=True):
        weight[:, column] += 2.0 * HELD * sign
        bias -= HELD * (1.0 + sign)
    gate = np.zeros((1, first[0][0].shape[1]))
    gate[0, column] = 2.0 * HELD
    still = [np.tanh(bias - weight.sum(axis=1)) @ last[0] + ending for _, (weight, bias), (last, ending) in parts]
    (lower,), (upper,) = still
    second, widths = [one[1] for one in parts], [len(one[1][1]) for one in parts]
    hidden = np.zeros((sum(widths) + 1, sum(len(one[0][1]) for one in parts) + 1))
    hidden[: widths[0], : second[0][0].shape[1]] = second[0][0]
    hidden[widths[0] : -1, second[0][0].shape[1] : -1] = second[1][0]
    hidden[-1, -1] = HELD
    ends = [one[2][0] for one in parts]
    layers = (
        (np.concatenate([first[0][0], first[1][0], gate]), np.concatenate([first[0][1], first[1][1], [-HELD]])),
        (hidden, np.concatenate([second[0][1], second[1][1], [0.0]])),
        (
            np.concatenate([*ends, [[0.5 * (upper - lower)]]], axis=1),
            np.array([sum(one[2][1][0] for one in parts) - 0.5 * (upper + lower)]),
        ),
    )
    header = {name: below.header[name] for name in (*SAME, "activation", "output") if name in below.header}
    observed = [one.header["observed"] for one in (below, above) if "observed" in one.header]
    if len(observed) == 2:
        low, high = (np.array([one[end] for one in observed]) for end in (0, 1))
        header["observed"] = [low.min(axis=0).tolist(), high.max(axis=0).tolist()]
    return Policy(tuple((w.astype(np.float32), b.astype(np.float32)) for w, b in layers), header)


if __name__ == "__main__":
    arguments = tyro.cli(Args)
    raise SystemExit(run(lambda: main(arguments)))
