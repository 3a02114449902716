"""Where regression problems come from: random designs, and subsamples of real data.

A design first draws all the random numbers of n problems (`draw`) and then does all the algebra (`build`), which is
worth doing for many at once.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from metalearn_env.family import Array
from metalearn_env.least_squares import LeastSquares, from_data, product, spectral_flatness
from metalearn_env.ranges import decades, log_uniform, log_uniform_integer
from metalearn_env.tails import unit_variance

SPECTRA = ("gaussian", "log-uniform", "linear-uniform", "bimodal")
MIXED = SPECTRA[:3]
DIGITS = 9  # of numbers of examples, after the point; a product of two floating numbers may be above what it should be
CLUMP = 0.1  # the part of the decades of a bimodal spectrum that a clump takes up

Integers = NDArray[np.int64]


class RegressionTask(NamedTuple):
    """n regression problems, and the examples of every step where there are minibatches (else empty arrays)."""

    diagonal: Array  # (n, p) of the factor B
    superdiagonal: Array  # (n, p - 1) of B
    optimum: Array  # (n, p)
    minimum: Array  # (n,) f*
    descriptor: Array  # (n, 4)
    inputs: Array  # (n, horizon + 1, batch_size, p)
    targets: Array  # (n, horizon + 1, batch_size)


class Sizes(NamedTuple):
    """The sizes of n problems."""

    dimension: Integers  # (n,) d
    examples: Integers  # (n,) m
    objective: Array  # (n,) what the objective is multiplied by


@dataclass(frozen=True, eq=False, kw_only=True)
class Design(abc.ABC):
    """A law of regression problems. Ranges are (low, high); ``batch_size`` 0 means that a step sees all examples."""

    dimension: tuple[int, int]
    examples_per_parameter: tuple[float, float]
    scale: tuple[float, float]
    batch_size: int

    @property
    def num_parameters(self) -> int:
        return self.dimension[1]

    @abc.abstractmethod
    def draw(self, rng: np.random.Generator, n: int, horizon: int) -> Any:
        """Draw the random numbers of n problems: a NamedTuple of arrays with leading axis n."""

    @abc.abstractmethod
    def build(self, draw: Any) -> RegressionTask:
        """Turn random numbers into problems."""

    def _sizes(self, rng: np.random.Generator, n: int) -> Sizes:
        uniform = rng.random((3, n))
        dimension = log_uniform_integer(uniform[0], *self.dimension)
        examples = whole_examples(log_uniform(uniform[1], *self.examples_per_parameter) * dimension)
        return Sizes(dimension, examples, np.exp(np.log(10.0) * decades(uniform[2], *self.scale)))

    def _minibatches(self, horizon: int) -> tuple[int, int]:
        """Return the shape (steps, batch_size) of an episode's minibatches, (0, 0) if there are none."""
        return (horizon + 1, self.batch_size) if self.batch_size else (0, 0)

    def _task(
        self, problem: LeastSquares, dimension: Integers, examples: Integers, inputs: Array, targets: Array
    ) -> RegressionTask:
        # a learner that sees minibatches does not know the spectrum of its inputs
        flatness = np.zeros(len(dimension)) if self.batch_size else spectral_flatness(problem, dimension)
        return RegressionTask(*problem, describe(dimension, examples, self.batch_size, flatness), inputs, targets)


def whole_examples(asked: Any) -> Any:
    """Return the least whole numbers of examples that are as many as asked for, but for rounding.

    >>> 1.1 * 50, int(whole_examples(1.1 * 50))
    (55.00000000000001, 55)
    """
    return np.ceil(np.round(asked, DIGITS)).astype(np.int64)


def describe(dimension: Integers, examples: Integers, batch_size: int, flatness: Array) -> Array:
    """Return the descriptors, (n, 4), of problems whose flatness is 0 where it is not known; see `Design`."""
    inverse_batch = np.full(len(dimension), 1.0 / batch_size if batch_size else 0.0)
    return np.stack([np.log10(dimension), np.log10(examples / dimension), inverse_batch, flatness], axis=1)


class SyntheticDraw(NamedTuple):
    """The random numbers of n synthetic problems."""

    dimension: Integers  # (n,)
    examples: Integers  # (n,)
    objective: Array  # (n,)
    spectrum: Integers  # (n,) index in `SPECTRA`
    conditioning: Array  # (n,) kappa
    noise: Array  # (n,) energy of the residual / energy of the signal
    diagonal: Array  # (n, p) of a Gaussian design: half the squared chi variables; else uniform: where eigenvalues lie
    superdiagonal: Array  # (n, p - 1) of a Gaussian design: half the squared chi variables; else zero
    optimum: Array  # (n, p) of unit variance, zero beyond the dimension
    stream: Array  # (n, steps, batch_size, p + 1) of unit variance: inputs and noise of the minibatches


@final
@dataclass(frozen=True, eq=False, kw_only=True)
class SyntheticDesign(Design):
    """Gaussian designs, and spectra between 1 / kappa and 1: uniform, in the logarithm or not, or at both ends."""

    spectra: tuple[str, ...]  # of `SPECTRA`, equally likely
    tails: str  # of the optimum, the inputs and the noise
    conditioning: tuple[float, float]  # kappa
    noise: tuple[float, float]  # variance of the noise / variance of the signal

    def draw(self, rng: np.random.Generator, n: int, horizon: int) -> SyntheticDraw:
        p, sizes = self.num_parameters, self._sizes(rng, n)
        uniform = rng.random((3, n))
        known = np.array([SPECTRA.index(name) for name in self.spectra])
        spectrum = known[(len(known) * uniform[0]).astype(np.int64)]
        noise = log_uniform(uniform[2], *self.noise)
        if not self.batch_size:  # the residual of m examples has m - d degrees of freedom
            noise = noise * 2.0 * rng.standard_gamma(0.5 * (sizes.examples - sizes.dimension)) / sizes.examples
        inside = np.arange(p) < sizes.dimension[:, None]
        optimum = np.zeros((n, p))
        optimum[inside] = unit_variance(rng, self.tails, int(np.count_nonzero(inside)))
        diagonal, superdiagonal = rng.random((n, p)), np.zeros((n, p - 1))
        gaussian = np.flatnonzero(spectrum == 0)
        freedom = _bidiagonal_freedom(sizes.dimension[gaussian], sizes.examples[gaussian], p)
        gamma = rng.standard_gamma(np.multiply(freedom, 0.5, out=freedom))
        diagonal[gaussian], superdiagonal[gaussian] = gamma[:, :p], gamma[:, p:]
        return SyntheticDraw(
            *sizes,
            spectrum=spectrum,
            conditioning=log_uniform(uniform[1], *self.conditioning),
            noise=noise,
            diagonal=diagonal,
            superdiagonal=superdiagonal,
            optimum=optimum,
            stream=unit_variance(rng, self.tails, (n, *self._minibatches(horizon), p + 1)),
        )

    def build(self, draw: SyntheticDraw) -> RegressionTask:
        n, p = draw.optimum.shape
        diagonal, superdiagonal = np.zeros((n, p)), np.zeros((n, p - 1))
        gaussian = np.flatnonzero(draw.spectrum == 0)
        factor = (2.0 * draw.objective / draw.examples)[gaussian, None]
        diagonal[gaussian] = np.sqrt(draw.diagonal[gaussian] * factor)
        superdiagonal[gaussian] = np.sqrt(draw.superdiagonal[gaussian] * factor)
        for spectrum in set(self.spectra) & _ROOT_EIGENVALUES.keys():
            rows = np.flatnonzero(draw.spectrum == SPECTRA.index(spectrum))
            inside = np.arange(p) < draw.dimension[rows, None]
            position = draw.diagonal[rows]
            position[:, 0] = 1.0  # the extremes are there, so kappa is what it says
            position[:, 1:2] = 0.0
            roots = _ROOT_EIGENVALUES[spectrum](position, draw.conditioning[rows, None])
            diagonal[rows] = roots * np.sqrt(draw.objective[rows])[:, None] * inside
        problem = LeastSquares(diagonal, superdiagonal, draw.optimum, np.zeros(n))
        image = product(problem, problem.optimum)
        problem = problem._replace(minimum=0.5 * draw.noise * np.vecdot(image, image))
        return self._task(problem, draw.dimension, draw.examples, *_population_examples(problem, draw.stream))


def _bidiagonal_freedom(dimension: Integers, examples: Integers, p: int) -> Array:
    """Return the degrees of freedom of the chi variables of Gaussian designs, (n, 2p - 1): diagonal, superdiagonal."""
    index, d, freedom = np.arange(p), dimension[:, None], np.empty((len(dimension), 2 * p - 1))
    freedom[:, :p] = np.where(index < d, examples[:, None] - index, 0)
    np.maximum(d - 1 - index[:-1], 0, out=freedom[:, p:])
    return freedom


def _log_uniform_roots(position: Array, kappa: Array) -> Array:
    return np.exp(0.5 * np.log(kappa) * (position - 1.0))


def _linear_uniform_roots(position: Array, kappa: Array) -> Array:
    return np.sqrt(1.0 / kappa + (1.0 - 1.0 / kappa) * position)


def _bimodal_roots(position: Array, kappa: Array) -> Array:
    """Return log-uniform ones of the lowest and the highest decades, `CLUMP` of them each, half of them at either."""
    clump = 2.0 * CLUMP * np.where(position < 0.5, position, 1.0 - position)
    return _log_uniform_roots(np.where(position < 0.5, clump, 1.0 - clump), kappa)


_ROOT_EIGENVALUES = {
    "log-uniform": _log_uniform_roots,
    "linear-uniform": _linear_uniform_roots,
    "bimodal": _bimodal_roots,
}


def _population_examples(problem: LeastSquares, stream: Array) -> tuple[Array, Array]:
    """Return inputs of covariance B^T B and targets with the noise that makes f* the smallest risk.

    The risk of ``theta`` needs no more than these second moments: f* + |B (theta - optimum)|^2 / 2 whatever the tails.
    """
    inputs = problem.diagonal[:, None, None, :] * stream[..., :-1]
    inputs[..., 1:] += problem.superdiagonal[:, None, None, :] * stream[..., :-2]
    noise = np.sqrt(2.0 * problem.minimum)[:, None, None] * stream[..., -1]
    return inputs, np.vecdot(inputs, problem.optimum[:, None, None, :]) + noise


class SubsampleDraw(NamedTuple):
    """The random numbers of n subsamples of a data set."""

    dimension: Integers  # (n,)
    examples: Integers  # (n,)
    objective: Array  # (n,)
    rows: Integers  # (n, most examples) of the data set, all different
    features: Integers  # (n, p) of the data set, all different
    target: Integers  # (n,) column of the targets
    drawn: Integers  # (n, steps, batch_size) the examples of the minibatches, among ``rows``


@final
@dataclass(frozen=True, eq=False, kw_only=True)
class SubsampledData(Design):
    """Random rows and features of a data set, and one of its targets."""

    inputs: Array  # (rows, features)
    targets: Array  # (rows, targets)

    def draw(self, rng: np.random.Generator, n: int, horizon: int) -> SubsampleDraw:
        sizes = self._sizes(rng, n)
        available, features = self.inputs.shape
        most = min(available, int(whole_examples(self.examples_per_parameter[1] * self.num_parameters)))
        examples = np.minimum(sizes.examples, most)
        steps = self._minibatches(horizon)
        return SubsampleDraw(
            *sizes._replace(examples=examples),
            rows=_permutations(rng, n, available)[:, :most],
            features=_permutations(rng, n, features)[:, : self.num_parameters],
            target=rng.integers(self.targets.shape[1], size=n),
            drawn=rng.integers(examples[:, None, None], size=(n, *steps)),
        )

    def build(self, draw: SubsampleDraw) -> RegressionTask:
        n, most = draw.rows.shape
        root = np.sqrt(draw.objective)[:, None]
        row_inside = np.arange(most) < draw.examples[:, None]
        feature_inside = np.arange(self.num_parameters) < draw.dimension[:, None]
        inputs = self.inputs[draw.rows[:, :, None], draw.features[:, None, :]]
        inputs *= (row_inside * root)[:, :, None] * feature_inside[:, None, :]
        targets = self.targets[draw.rows, draw.target[:, None]] * row_inside * root
        problem, rotated = from_data(inputs, targets, draw.examples)
        each = np.arange(n)[:, None, None]
        return self._task(problem, draw.dimension, draw.examples, rotated[each, draw.drawn], targets[each, draw.drawn])


def _permutations(rng: np.random.Generator, n: int, length: int) -> Integers:
    return rng.permuted(np.tile(np.arange(length), (n, 1)), axis=1)
