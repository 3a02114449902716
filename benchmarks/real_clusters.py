"""The problems of `benchmarks.real_training` that are clusterings, by minibatches.

Every seed has its own first centres, by k-means++, and minibatches, the same for all contenders.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import ClassVar, NamedTuple

import numpy as np
from sklearn.cluster import MiniBatchKMeans, kmeans_plusplus
from sklearn.metrics import pairwise_distances_argmin_min

from benchmarks.real_runs import Contender, Measure, Problem, Record, Recorder, interventions
from metalearn_env.adapters.sklearn import LearnedKMeans
from metalearn_env.datasets import load_points
from metalearn_env.family import Array
from metalearn_env.policy import Policy

BATCH_SIZE = 32
GRID = tuple(float(f"{step:.3g}") for step in np.logspace(-2, 0, 9))
POWERS = (0.5, 0.6, 0.7, 0.8, 0.9)
SCIKIT_LEARN = "MiniBatchKMeans"
IMAGE = (427, 640)  # of which every fourth pixel is kept, each way


class Seen(NamedTuple):
    """What a step size may be chosen from."""

    part: float  # of the horizon that has passed
    owned: Array  # (k,) points of the minibatch
    total: Array  # (k,) points so far, these included
    updates: Array  # (k,) steps so far with any, this one included


#: name -> how far every centre goes towards the mean of what it owns, by the knob
RULES: dict[str, tuple[Callable[[float, Seen], Array | float], tuple[float, ...]]] = {
    "constant": (lambda knob, seen: knob, GRID),
    "linear decay, tuned start": (lambda knob, seen: knob * (1.0 - seen.part), GRID),
    "cosine, tuned start": (lambda knob, seen: knob * 0.5 * (1.0 + np.cos(np.pi * seen.part)), GRID),
    "updates^-w, tuned w": (lambda knob, seen: np.maximum(seen.updates, 1.0) ** -knob, POWERS),
    "1 / updates": (lambda knob, seen: 1.0 / np.maximum(seen.updates, 1.0), ()),
    "owned / total": (lambda knob, seen: seen.owned / np.maximum(seen.total, 1.0), ()),
    "root of owned / batch": (lambda knob, seen: np.sqrt(seen.owned / seen.owned.sum()), ()),
    "linear decay from 0.6": (lambda knob, seen: 0.6 * (1.0 - seen.part), ()),
}


class Start(NamedTuple):
    """What a seed makes of a problem."""

    points: Array  # (m, d)
    centres: Array  # (k, d)
    batches: np.ndarray  # (horizon, BATCH_SIZE)


@dataclass(frozen=True)
class Clusters(Problem):
    """Minibatch k-means; the true objective is the inertia of all points."""

    name: str
    told: str
    data: str
    clusters: int
    horizon: int = 200
    policy: str = "clustering"
    default: str = SCIKIT_LEARN

    counted: ClassVar[str] = f"minibatches of {BATCH_SIZE} points"
    measures: ClassVar[tuple[Measure, ...]] = (Measure("inertia / points"),)

    @property
    def contenders(self) -> tuple[Contender, ...]:
        return (*(Contender(name, knobs) for name, (_, knobs) in RULES.items()), Contender(SCIKIT_LEARN))

    def start(self, seed: int, horizon: int) -> Start:
        """Return what a seed makes of the problem, for so many steps; batches are those that the adapter draws."""
        points = _points(self.data)
        centres, _ = kmeans_plusplus(points, self.clusters, random_state=seed)
        return Start(points, centres, np.random.RandomState(seed).randint(len(points), size=(horizon, BATCH_SIZE)))

    def run(self, contender: str, knob: float | None, seed: int) -> Record:
        of = self.start(seed, self.horizon)
        if contender == SCIKIT_LEARN:
            return _by_scikit_learn(of, seed)
        rule = RULES[contender][0]
        return _descended(of, lambda t, seen: rule(0.0 if knob is None else knob, seen))

    def learned(self, learner: str, policy: Policy, horizon: int, seed: int) -> Record:
        """Fit the adapter's estimator; the curve is that of its step sizes, taken once more."""
        of = self.start(seed, horizon)
        estimator = LearnedKMeans(
            self.clusters, init=of.centres, policy=policy, max_iter=horizon, batch_size=BATCH_SIZE, random_state=seed
        )
        with interventions() as said:
            steps = estimator.fit(of.points).step_sizes_
        record = _descended(of, lambda t, seen: float(steps[t]) if t < len(steps) else 0.0)
        found = {"inertia / points": estimator.inertia_ / len(of.points)}
        return {**record, "measures": found, "interventions": len(said)}


def _descended(of: Start, step_size: Callable[[int, Seen], Array | float]) -> Record:
    centres, horizon = of.centres.copy(), len(of.batches)
    total, updates = np.zeros((2, len(centres)))
    recorder = Recorder(horizon)
    for t, rows in enumerate(of.batches):
        recorder.see(t, partial(_inertia, of.points, centres))
        batch = of.points[rows]
        distance = (centres**2).sum(axis=1) - 2.0 * batch @ centres.T
        own = np.eye(len(centres))[distance.argmin(axis=1)]
        owned = own.sum(axis=0)
        total, updates = total + owned, updates + (owned > 0.0)
        step = step_size(t, Seen(t / horizon, owned, total, updates))
        recorder.step(float(np.mean(step)))
        direction = (own.T @ batch - owned[:, None] * centres) / np.maximum(owned, 1.0)[:, None]
        centres += np.reshape(step, (-1, 1)) * direction
    recorder.see(horizon, partial(_inertia, of.points, centres))
    return recorder.record({"inertia / points": _inertia(of.points, centres)})


def _by_scikit_learn(of: Start, seed: int) -> Record:
    """Run scikit-learn's own estimator, its reassignments included, on the same minibatches from the same centres."""
    estimator = MiniBatchKMeans(len(of.centres), init=of.centres, n_init=1, random_state=seed)
    recorder = Recorder(len(of.batches))
    recorder.see(0, lambda: _inertia(of.points, of.centres))
    for t, rows in enumerate(of.batches):
        estimator.partial_fit(of.points[rows])
        recorder.see(t + 1, lambda: _inertia(of.points, estimator.cluster_centers_))
    return recorder.record({"inertia / points": _inertia(of.points, estimator.cluster_centers_)})


def _inertia(points: Array, centres: Array) -> float:
    """Return the mean squared distance of all points to the nearest centre."""
    if not np.isfinite(centres).all():
        return np.inf
    return float((pairwise_distances_argmin_min(points, centres)[1] ** 2).mean())


@cache
def _points(name: str) -> Array:
    points, image = load_points(name)
    return points.reshape(*IMAGE, 3)[::4, ::4].reshape(-1, 3) if image else points / 16.0


CLUSTERS = (
    Clusters("digits-kmeans", "k-means on digits, 10 centres", "digits", 10),
    Clusters("image-kmeans", "k-means on the colours of the image china, 16 centres", "china", 16),
)
