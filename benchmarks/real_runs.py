"""What the problems of `benchmarks.real_training` have in common: contenders, what a run leaves, and keeping runs."""

from __future__ import annotations

import abc
import json
import platform
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from metalearn_env.files import write_whole
from metalearn_env.identity import sources
from metalearn_env.policy import Policy
from metalearn_env.progress import progress

POINTS = 20  # of a curve, after the first
LOST = 1e3  # times its first value, at most, is what a measure counts; as much, if it is not finite
DIGITS = 6
PACKAGES = ("torch", "scikit-learn", "gymnasium", "prodigyopt", "dadaptation", "schedulefree")
ADAPTERS = ("metalearn_env.adapters.torch", "metalearn_env.adapters.sklearn", "metalearn_env.adapters.tabular")

Record = dict[str, Any]  # what a run leaves, as plain JSON values; see `Recorder.record`


class Contender(NamedTuple):
    """What chooses step sizes, with the values of its knob that are tried; without any, it is run as it is."""

    name: str
    knobs: tuple[float, ...] = ()


class Measure(NamedTuple):
    """What is measured at the end of a run; less is better. Two are compared by their ratio, or else difference."""

    name: str
    ratio: bool = True


class Problem(abc.ABC):
    """Something to train, from a start and with minibatches, or episodes, that a seed determines."""

    name: str
    horizon: int
    told: str  # what it is, for the page
    counted: Any  # what a step costs, for the page
    measures: ClassVar[tuple[Measure, ...]]  # the first decides
    also: Any = ""  # what else is shown of the end of a run
    policy: str
    default: str  # the contender that is what a library does if it is told nothing
    constant: ClassVar[str] = "constant"
    learners: ClassVar[tuple[str, ...]] = ("learned",)

    @property
    @abc.abstractmethod
    def contenders(self) -> tuple[Contender, ...]: ...

    @abc.abstractmethod
    def run(self, contender: str, knob: float | None, seed: int) -> Record:
        """Train with a contender."""

    @abc.abstractmethod
    def learned(self, learner: str, policy: Policy, horizon: int, seed: int) -> Record:
        """Train with a policy, by an adapter."""


class Recorder:
    """Keeps the loss at some steps of a run, and the geometric means of the step sizes between them."""

    def __init__(self, horizon: int) -> None:
        self.times = sorted({*np.linspace(0, horizon, min(horizon, POINTS) + 1).round().astype(int).tolist()})
        self.losses: list[float] = []
        self.steps: list[float] = []
        self._taken: list[float] = []

    def see(self, t: int, loss: Callable[[], float]) -> None:
        """Note the loss before step t, or at the end, if it is to be kept."""
        if t == self.times[len(self.losses)]:
            self.losses.append(float(loss()))
            if t:
                found = [step for step in self._taken if 0.0 < step < np.inf]
                self.steps.append(float(np.exp(np.mean(np.log(found)))) if found else 0.0)
                self._taken.clear()

    def step(self, size: float) -> None:
        self._taken.append(size)

    def record(self, measures: dict[str, float], also: float | None = None, interventions: int = 0) -> Record:
        """Return what the run leaves. ``diverged``: its last loss is not finite, or above its first."""
        first, last = self.losses[0], self.losses[-1]
        return {
            "measures": {name: _kept(value, first) for name, value in measures.items()},
            "also": None if also is None or not np.isfinite(also) else _rounded(also),
            "diverged": not last <= first,
            "interventions": interventions,
            "times": self.times,
            "losses": [_kept(loss, first) for loss in self.losses],
            "steps": [_rounded(step) for step in self.steps],
        }


@contextmanager
def interventions() -> Iterator[list[str]]:
    """Collect what adapters warn of: what they did about a run that explodes. Other warnings stay silent."""
    said: list[str] = []
    with warnings.catch_warnings(record=True) as caught, np.errstate(all="ignore"):
        warnings.simplefilter("always")
        yield said
    texts = (str(warning.message) for warning in caught)
    said += [text for text in texts if "back to before" in text or "the run diverged" in text]


class Kept:
    """Results in a JSON file, each written as soon as it is there; those of anything else are thrown away.

    Args:
        path: of the file.
        identity: all that the results depend on, as plain JSON values.
    """

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        self._path, self._identity = path, json.loads(json.dumps(identity))
        self._results: dict[str, Any] = {}
        if path.is_file():
            known = json.loads(path.read_text())
            if known["identity"] == self._identity:
                self._results = known["results"]

    def recall(self, key: str, compute: Callable[[], Any]) -> Any:
        if key not in self._results:
            begun = time.process_time()
            self._results[key] = {"value": compute(), "seconds": round(time.process_time() - begun, 2)}
            content = json.dumps({"identity": self._identity, "results": self._results})
            write_whole(self._path, content.encode())
        return self._results[key]["value"]

    @property
    def seconds(self) -> float:
        """Processor time that all results took."""
        return float(sum(result["seconds"] for result in self._results.values()))


def versions() -> list[str]:
    """Return what runs depend on beside this project, with versions."""
    found = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            found.append(f"{package} {version(package)}")
    return found


class Results(NamedTuple):
    """All runs on a problem, a record for each seed."""

    problem: Problem
    policy: Policy
    runs: dict[tuple[str, float | None], list[Record]]
    learned: dict[tuple[str, int], list[Record]]  # by learner and horizon
    seconds: float  # of processor time


def horizons(problem: Problem) -> tuple[int, int, int]:
    """Return a quarter of the problem's horizon, itself, and four times it."""
    return problem.horizon // 4, problem.horizon, 4 * problem.horizon


def measured(problem: Problem, policy: Policy, seeds: int, folder: Path) -> Results:
    """Run everything on a problem that is not yet in the folder.

    All runs are made anew where the problem, the code behind it or a package has changed; learned ones where the policy
    has, too.

    Args:
        problem: what is trained.
        policy: that of the learned runs.
        seeds: how many.
        folder: where runs are kept.
    """
    identity = {
        "problem": (problem.name, problem.told, problem.horizon),
        "seeds": seeds,
        "code": sources(type(problem).__module__),
        "versions": versions(),
    }
    kept = Kept(folder / f"{problem.name}-{seeds}.json", identity)
    ours = Kept(
        folder / f"{problem.name}-{seeds}.learned.json",
        {**identity, "policy": policy.digest, "adapters": sources(*ADAPTERS)},
    )
    tried = [(one.name, knob) for one in problem.contenders for knob in one.knobs or (None,)]
    runs, learned = {}, {}
    for name, knob in progress(tried, problem.name):
        runs[name, knob] = kept.recall(f"{name} {knob}", partial(_each, seeds, problem.run, name, knob))
    asked = [(one, problem.horizon) for one in problem.learners]
    asked += [(problem.learners[0], horizon) for horizon in horizons(problem) if horizon != problem.horizon]
    for one, horizon in progress(asked, f"{problem.name}, learned"):
        compute = partial(_each, seeds, problem.learned, one, policy, horizon)
        learned[one, horizon] = ours.recall(f"{one} {horizon}", compute)
    return Results(problem, policy, runs, learned, kept.seconds + ours.seconds)


def _each(seeds: int, run: Callable[..., Record], *arguments: Any) -> list[Record]:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # of numbers that are not finite: such runs are counted
        return [run(*arguments, seed) for seed in range(seeds)]


def _kept(value: float, first: float) -> float:
    most = LOST * abs(first)
    return _rounded(min(value, most) if np.isfinite(value) else most)


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
