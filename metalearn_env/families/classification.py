"""Classification by gradient descent on a regularised softmax: convex, with an exact optimum, and no quadratic.

The loss is the mean cross-entropy of all examples and a penalty on the parameters, the direction its negative gradient:
from all examples, or from the minibatch of the step. With two classes it is logistic regression.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from metalearn_env import datasets
from metalearn_env.family import Array, Evaluation, Kind, TaskFamily, ratio_or_one
from metalearn_env.labelled import ClassificationTask, LinearTeacher, SampledExamples, Source
from metalearn_env.moves import above, axes_of, further, smaller_batch
from metalearn_env.pictures import Decisions, projected
from metalearn_env.ranges import Range, as_decades, as_dimension, as_integer, as_range, zero_or_range
from metalearn_env.softmax import Softmax, curvature, log_odds, loss_and_gradient, loss_of
from metalearn_env.tails import Tails, check_tails

EXAMPLES, FEATURES = 128, 16
MOST_DECADES = 30.0
MOST = 10.0**MOST_DECADES
LEAST_PENALTY = 1e-12  # with less, the Hessian of separable classes is singular but for rounding


@final
@dataclass(frozen=True, eq=False, kw_only=True)
class Classification(TaskFamily[ClassificationTask]):
    """Softmax regressions of random classes, dimension, conditioning, separation and noise, or drawn from real data.

    Args:
        classes: K of synthetic tasks. Default: 2 to 4; a data set has the classes that it has.
        dimension: features d. Default: 2 to 10; for a data set, half of its features to all of them, 16 at most (the
            optimum costs O((K d)^3)).
        examples: m of a task. Default: 128; for a data set at most three quarters of the rows of the split.
        conditioning: largest / smallest variance of synthetic inputs along a principal axis; the largest is 1.
        separation: standard deviation of the scores of the linear teacher, from whose softmax labels are drawn.
        noise: share of the labels that are replaced by random ones.
        tails: of synthetic inputs: "normal", or "heavy", those of Student's t with 3 degrees of freedom.
        penalty: of half the squared norm of all parameters; at least 1e-12, so that there is one optimum.
        scale: the objective is multiplied by 10^U(-scale, scale); a pair (low, high) is of decades up or down.
        batch_size: examples that a step sees, drawn with replacement; None: all of them.
        dataset: "iris", "wine", "digits", "breast_cancer", or arrays (X, y), y (m,) of any labels: tasks are subsamples
            of its rows and features.
        split: which stream of tasks, or which rows of the data set (which has none for "ood").

    A range (low, high) is drawn from log-uniformly; a number is a range of one value. Parameters are a vector for each
    class, whose last entry is its intercept. f* is exact.

    Raises:
        ValueError: a value that cannot be honoured, such as more examples than the data set has rows.
    """

    kind: ClassVar[Kind] = "supervised"
    descriptor_names: ClassVar[tuple[str, ...]] = (
        "log10_classes",
        "log10_dimension",
        "log10_examples_per_parameter",
        "inverse_batch_size",
        "log10_penalty",
    )

    classes: Range | None = None
    dimension: Range | None = None
    examples: int | None = None
    conditioning: Range = (1.0, 1e3)
    separation: Range = (1.0, 10.0)
    noise: Range = (1e-3, 0.2)
    tails: Tails = "normal"
    penalty: Range = (1e-4, 1e-2)
    scale: Range = 3.0
    batch_size: int | None = None
    dataset: str | tuple[Any, Any] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._source  # noqa: B018  (a bad value is found out here)

    @cached_property
    def _source(self) -> Source:
        check_tails(self.tails)
        penalty = as_range("penalty", self.penalty, minimum=LEAST_PENALTY, maximum=MOST)
        common: dict[str, Any] = {
            "penalty": penalty,
            "scale": as_decades("scale", self.scale, most=MOST_DECADES),
            "batch_size": 0 if self.batch_size is None else as_integer("batch_size", self.batch_size, minimum=1),
        }
        ratios: dict[str, Any] = {name: self._ratio(name) for name in ("conditioning", "separation", "noise")}
        if ratios["noise"][1] > 1.0:
            raise ValueError(f"noise is a share of at most 1, not {self.noise!r}")
        if self.dataset is None:
            return LinearTeacher(
                classes=as_range("classes", (2, 4) if self.classes is None else self.classes, minimum=2, integer=True),
                dimension=as_dimension(self.dimension, (2, 10)),
                examples=self._examples(EXAMPLES),
                tails=self.tails,
                **common,
                **ratios,
            )
        self._refuse("a data set", "classes", "tails", *ratios)
        inputs, targets = datasets.load_classes(self.dataset)
        rows, labels = datasets.standardised(inputs, self.split), datasets.rows_of(targets, self.split)
        most, features = rows.shape
        dimension = as_dimension(self.dimension, (min((features + 1) // 2, FEATURES), min(features, FEATURES)))
        if dimension[1] > features:
            raise ValueError(f"dimension is at most {features}, the features of the data set, not {dimension[1]}")
        examples = self._examples(min(EXAMPLES, -(-3 * most // 4)))
        if examples > most:
            raise ValueError(
                f"examples is at most {most}, the rows of the data set's split {self.split!r}, not {examples}"
            )
        classes = int(targets.max()) + 1
        return SampledExamples(
            classes=(classes, classes), dimension=dimension, examples=examples, data=rows, targets=labels, **common
        )

    def _ratio(self, name: str) -> tuple[float, float]:
        least = 1.0 if name == "conditioning" else 0.0
        return zero_or_range(name, getattr(self, name), minimum=least, maximum=MOST)

    def _examples(self, default: int) -> int:
        return as_integer("examples", default if self.examples is None else self.examples, minimum=1)

    def axes(self) -> dict[str, dict[str, Any]]:
        source = self._source
        if not isinstance(source, LinearTeacher):
            return {}
        most, low = source.classes[1], source.penalty[0]
        return axes_of(
            dimension=above("dimension", source.dimension, 2, 4),
            classes={"classes": (most + 1, 2 * most)},
            conditioning=above("conditioning", source.conditioning, 1, 100, MOST),
            penalty={"penalty": (1e-2 * low, 1e-1 * low)},
            noise=above("noise", source.noise, 1, 4, 1.0),
            separation=above("separation", source.separation, 1, 10, MOST),
            batch_size=smaller_batch(self.batch_size),
            scale=further(source.scale, MOST_DECADES),
            heavy_tails={"tails": "heavy"} if self.tails == "normal" else {},
        )

    @property
    def num_parameters(self) -> int:
        return self._source.num_parameters

    def sample(self, rng: np.random.Generator, n: int, horizon: int) -> Any:
        return self._source.draw(rng, n, horizon)

    def complete(self, draw: Any) -> ClassificationTask:
        return self._source.build(draw)

    def start(self, task: ClassificationTask) -> Array:
        return np.zeros_like(task.optimum)

    def loss(self, task: ClassificationTask, theta: Array) -> Array:
        return task.objective * loss_of(task.problem, self._vectors(task, theta))

    def signal(self, task: ClassificationTask, theta: Array, t: NDArray[np.int64]) -> Array:
        return self.evaluate(task, theta, t).signal

    def direction(self, task: ClassificationTask, theta: Array, t: NDArray[np.int64]) -> Array:
        return self.evaluate(task, theta, t).direction

    def evaluate(self, task: ClassificationTask, theta: Array, t: NDArray[np.int64]) -> Evaluation:
        signal, gradient = loss_and_gradient(self.seen(task, t), self._vectors(task, theta))
        signal *= task.objective
        gradient *= -task.objective[:, None, None]
        loss = signal if self.batch_size is None else self.loss(task, theta)
        return Evaluation(loss, signal, gradient.reshape(theta.shape))

    def seen(self, task: ClassificationTask, t: NDArray[np.int64]) -> Softmax:
        """Return the problems that the examples of the steps t make."""
        if self.batch_size is None:
            return task.problem
        row = np.arange(len(t))[:, None]
        which = task.batches[row[:, 0], t]
        return Softmax(task.inputs[row, which], task.labels[row, which], task.barrier, task.penalty)

    def curvature(self, task: ClassificationTask, theta: Array, t: NDArray[np.int64], vector: Array) -> Array:
        """Return the product, (n, p), of the Hessian of the signal at times t and a vector (n, p)."""
        product = curvature(self.seen(task, t), self._vectors(task, theta), self._vectors(task, vector))
        product *= task.objective[:, None, None]
        return product.reshape(theta.shape)

    def descriptor(self, task: ClassificationTask) -> Array:
        return task.descriptor

    def step_unit(self, task: ClassificationTask, first: Evaluation) -> Array:
        """Return the exact line search at t = 0, |d_0|^2 / d_0' H_0 d_0, of what is seen there; 1 where d_0 = 0.

        As f* is far from 0, f_0 / |d_0|^2 would say little. H_0 does not depend on the labels.
        """
        direction, t = first.direction, np.zeros(len(first.loss), np.int64)
        squared_norm = np.vecdot(direction, direction)
        curved = np.vecdot(direction, self.curvature(task, self.start(task), t, direction))
        return ratio_or_one(squared_norm, curved)

    def reference_loss(self, task: ClassificationTask) -> Array:
        return task.minimum

    def picture(self, task: ClassificationTask, theta: Array, row: int) -> Decisions:
        """Return the examples on their two principal axes, what they are and what the learner takes them for."""
        one = Softmax(*(array[row : row + 1] for array in task.problem))
        decided = log_odds(one, self._vectors(task, theta)[row : row + 1])[0].argmax(axis=0)
        features = task.inputs[row, :, :-1]
        (points,), names = projected(features - features.mean(axis=0))
        return Decisions(points, task.labels[row].astype(np.int64), decided, names)

    @staticmethod
    def _vectors(task: ClassificationTask, theta: Array) -> Array:
        return theta.reshape(*task.barrier.shape, -1)
