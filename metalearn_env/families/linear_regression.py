"""Linear regression by gradient descent: the inner problem whose every answer is known.

The loss is f(theta) = |X theta - y|^2 / 2m, the direction its negative gradient: from all examples, or from the
minibatch of the step. Tasks are kept in the reduced form of `metalearn_env.least_squares`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, final, get_args

import numpy as np
from numpy.typing import NDArray

from metalearn_env import datasets
from metalearn_env.designs import MIXED, Design, RegressionTask, SubsampledData, SyntheticDesign, whole_examples
from metalearn_env.family import HALF, Array, Evaluation, Kind, TaskFamily, ratio_or_one
from metalearn_env.least_squares import of_examples, product, transposed_product
from metalearn_env.moves import Move, above, axes_of, further, smaller_batch
from metalearn_env.pictures import Fit
from metalearn_env.ranges import Range, as_decades, as_dimension, as_integer, as_range, zero_or_range
from metalearn_env.tails import Tails, check_tails

Spectrum = Literal["gaussian", "log-uniform", "linear-uniform", "bimodal", "mixed"]

MOST_DECADES, MOST_NOISE = 100.0, 1e30
MOST_EXAMPLES = 1e9  # per parameter


@final
@dataclass(frozen=True, eq=False, kw_only=True)
class LinearRegression(TaskFamily[RegressionTask]):
    """Least-squares problems of random dimension, size, conditioning, noise and scale, or drawn from real data.

    Args:
        spectrum: eigenvalues of the Gram matrix: of a "gaussian" design, "log-uniform", "linear-uniform", or "mixed", a
            third of each; or "bimodal", in two narrow clumps at the two ends, which no mix has.
        dimension: features d. Default: 8 to 64; for a data set, half of its features to all of them.
        conditioning: kappa = largest / smallest eigenvalue, of the spectra that are not Gaussian.
        examples_per_parameter: m / d; it conditions the Gaussian design and the subsamples of a data set (which are of
            as many rows as there are, at most).
        noise: variance of the noise over variance of the signal, of synthetic tasks.
        tails: of the optimum and, of minibatches, of inputs and noise: "normal", or "heavy", those of Student's t with
            3 degrees of freedom. Variances stay what they are, so that the loss is the exact risk.
        scale: the objective is multiplied by 10^U(-scale, scale); a pair (low, high) is of decades up or down.
        batch_size: examples that a step sees; None: all of them. Minibatches of synthetic tasks are fresh draws from
            the population, whose exact risk is the loss; those of a data set are drawn with replacement.
        dataset: "diabetes", "linnerud", or arrays (X, y): tasks are subsamples of its rows and features.
        split: which stream of tasks, or which rows of the data set (which has none for "ood").

    The least-squares optimum of a synthetic task has unit variance along each principal axis of its inputs, and f* has
    the law of a residual with m - d degrees of freedom; with normal tails that is a Gaussian regression in which the
    noise is not fitted.

    A range (low, high) is drawn from log-uniformly; a number is a range of one value.

    Raises:
        ValueError: a value that cannot be honoured, such as more features than the data set has.
    """

    kind: ClassVar[Kind] = "supervised"
    descriptor_names: ClassVar[tuple[str, ...]] = (
        "log10_dimension",
        "log10_examples_per_parameter",
        "inverse_batch_size",
        "spectral_flatness",
    )

    spectrum: Spectrum = "mixed"
    dimension: Range | None = None
    conditioning: Range = (1.0, 1e4)
    examples_per_parameter: Range = (1.05, 2.0)
    noise: Range = (1e-3, 2.0)
    tails: Tails = "normal"
    scale: Range = 3.0
    batch_size: int | None = None
    dataset: str | tuple[Any, Any] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._design  # noqa: B018  (a bad value is found out here)

    @cached_property
    def _design(self) -> Design:
        if self.spectrum not in get_args(Spectrum):
            raise ValueError(f"spectrum is one of {', '.join(get_args(Spectrum))}, not {self.spectrum!r}")
        check_tails(self.tails)
        conditioning = as_range("conditioning", self.conditioning, minimum=1.0)
        noise = zero_or_range("noise", self.noise, maximum=MOST_NOISE)
        common: dict[str, Any] = {
            "examples_per_parameter": as_range(
                "examples_per_parameter", self.examples_per_parameter, minimum=1.0, maximum=MOST_EXAMPLES
            ),
            "scale": as_decades("scale", self.scale, most=MOST_DECADES),
            "batch_size": 0 if self.batch_size is None else as_integer("batch_size", self.batch_size, minimum=1),
        }
        if self.dataset is None:
            if self.spectrum == "gaussian":
                self._refuse("a Gaussian design", "conditioning")
            dimension = as_dimension(self.dimension, (8, 64))
            spectra = MIXED if self.spectrum == "mixed" else (self.spectrum,)
            return SyntheticDesign(
                dimension=dimension,
                spectra=spectra,
                conditioning=conditioning,
                noise=noise,
                tails=self.tails,
                **common,
            )
        self._refuse("a data set", "spectrum", "conditioning", "noise", "tails")
        loaded = datasets.load_regression(self.dataset)
        inputs, targets = (datasets.standardised(array, self.split) for array in loaded)
        features = inputs.shape[1]
        dimension = as_dimension(self.dimension, ((features + 1) // 2, features))
        if dimension[1] > features:
            raise ValueError(f"dimension is at most {features}, the features of the data set, not {dimension[1]}")
        least = whole_examples(as_range("", self.examples_per_parameter, minimum=1.0)[0] * dimension[0])
        if least > len(inputs):
            raise ValueError(f"examples_per_parameter asks for {least} rows; split {self.split!r} has {len(inputs)}")
        return SubsampledData(dimension=dimension, inputs=inputs, targets=targets, **common)

    def axes(self) -> dict[str, dict[str, Any]]:
        design = self._design
        if not isinstance(design, SyntheticDesign):
            return {}
        low, _ = design.noise
        return axes_of(
            dimension=above("dimension", design.dimension, 2, 4),
            conditioning=self._ill_conditioned(design),
            spectrum={"spectrum": "mixed" if self.spectrum == "bimodal" else "bimodal"},
            noise=above("noise", design.noise, 1, 10, MOST_NOISE),
            # All that happens depends on theta - optimum alone: to start 10 to 100 times further out is to have noise
            # of so many times less the deviation (the scale of the objective, which differs, is not seen).
            start={"noise": (1e-4 * low, 1e-2 * low)} if low else {},
            batch_size=smaller_batch(self.batch_size),
            scale=further(design.scale, MOST_DECADES),
            heavy_tails={"tails": "heavy"} if self.tails == "normal" else {},
        )

    def _ill_conditioned(self, design: SyntheticDesign) -> Move:
        """Move the eigenvalues apart: by kappa, and by m / d where designs are Gaussian.

        There kappa goes as (m / d - 1)^-2, so that down to a tenth of the excess is up to 100 times the top, too. As m
        is a whole number above d, the smallest problems stay where they can be drawn already; and where a step sees all
        examples, f* shrinks with m - d, as it must.
        """
        move = {} if self.spectrum == "gaussian" else above("conditioning", design.conditioning, 1, 100)
        excess = design.examples_per_parameter[0] - 1.0
        if excess > 0.0 and "gaussian" in design.spectra:
            move["examples_per_parameter"] = (1.0 + 0.1 * excess, 1.0 + 0.5 * excess)
        return move

    @property
    def num_parameters(self) -> int:
        return self._design.num_parameters

    def sample(self, rng: np.random.Generator, n: int, horizon: int) -> Any:
        return self._design.draw(rng, n, horizon)

    def complete(self, draw: Any) -> RegressionTask:
        return self._design.build(draw)

    def start(self, task: RegressionTask) -> Array:
        return np.zeros_like(task.optimum)

    def loss(self, task: RegressionTask, theta: Array) -> Array:
        residual = product(task, task.optimum - theta)
        return task.minimum + HALF * np.vecdot(residual, residual)

    def signal(self, task: RegressionTask, theta: Array, t: NDArray[np.int64]) -> Array:
        return self.evaluate(task, theta, t).signal

    def direction(self, task: RegressionTask, theta: Array, t: NDArray[np.int64]) -> Array:
        return self.evaluate(task, theta, t).direction

    def evaluate(self, task: RegressionTask, theta: Array, t: NDArray[np.int64]) -> Evaluation:
        residual = product(task, task.optimum - theta)
        loss = task.minimum + HALF * np.vecdot(residual, residual)
        if self.batch_size is None:
            return Evaluation(loss, loss, transposed_product(task, residual))
        rows = np.arange(len(theta))
        return Evaluation(loss, *of_examples(task.inputs[rows, t], task.targets[rows, t], theta))

    def descriptor(self, task: RegressionTask) -> Array:
        return task.descriptor

    def step_unit(self, task: RegressionTask, first: Evaluation) -> Array:
        """Return f_0 / |d_0|^2, between 1/2L and 1/2mu where f* = 0, for eigenvalues in [mu, L]; 1 where d_0 = 0."""
        return ratio_or_one(first.signal, np.vecdot(first.direction, first.direction))

    def reference_loss(self, task: RegressionTask) -> Array:
        return task.minimum

    def picture(self, task: RegressionTask, theta: Array, row: int) -> Fit:
        """Return the predictions B theta beside the best ones, B optimum, in the coordinates of the reduced form.

        Half the sum of their squared differences is the gap.
        """
        one = RegressionTask(*(array[row : row + 1] for array in task))
        there = np.flatnonzero(one.diagonal[0])
        return Fit(product(one, theta[row : row + 1])[0, there], product(one, one.optimum)[0, there])
