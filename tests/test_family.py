"""The contract of every family, and the known answers of linear regression."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from metalearn_env import TaskFamily
from metalearn_env.actions import ActionMap
from metalearn_env.datasets import load_regression, standardised
from metalearn_env.engine import Engine
from metalearn_env.families import make_family
from metalearn_env.family import MAX_DESCRIPTORS
from metalearn_env.limits import conjugate_gradient, limit_loss, recursive_least_squares
from metalearn_env.observations import Observer
from metalearn_env.pool import draw_tasks
from metalearn_env.rewards import potential
from metalearn_env.rules import rule
from metalearn_env.rules.schedules import schedule
from metalearn_env.scoring import best_constant, final_log_gap
from metalearn_env.splits import ROW_SPLITS, SPLITS, split_rows

REGRESSIONS: dict[str, dict[str, Any]] = {
    "gaussian": {"spectrum": "gaussian"},
    "mixed minibatch": {"batch_size": 3, "dimension": (1, 9)},
    "bimodal": {"spectrum": "bimodal", "dimension": (1, 9)},
    "heavy tails": {"tails": "heavy", "batch_size": 2},
    "diabetes": {"dataset": "diabetes"},
    "diabetes minibatch": {"dataset": "diabetes", "batch_size": 2, "split": "test"},
    "linnerud": {"dataset": "linnerud", "split": "validation"},
}
regressions = pytest.mark.parametrize("options", REGRESSIONS.values(), ids=REGRESSIONS.keys())
UNIT = {"scale": 0, "noise": 0}
STATE = ("t", "theta", "loss", "signal", "direction", "step_size", "alignment", "gap_ratio")


def regression(**options: Any) -> TaskFamily:
    if isinstance(options.get("dataset"), str):
        pytest.importorskip("sklearn")
    return make_family("LinearRegression", **options)


def tasks(family: TaskFamily, n: int, horizon: int = 6, seed: int = 0) -> Any:
    return family.complete(family.sample(np.random.default_rng(seed), n, horizon))


def points(family: TaskFamily, task: Any, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return some iterates (n, p) and times (n,)."""
    rng, start = np.random.default_rng(seed), family.start(task)
    return start + rng.normal(size=start.shape), rng.integers(6, size=len(start))


def gram(task: Any) -> np.ndarray:
    """Return the Gram matrices B^T B of regression tasks, (n, p, p)."""
    p = task.diagonal.shape[1]
    factor = np.einsum("np,pq->npq", task.diagonal, np.eye(p))
    factor[:, np.arange(p - 1), np.arange(1, p)] = task.superdiagonal
    return np.einsum("nkp,nkq->npq", factor, factor)


# The contract, held by every family


def answers(family: TaskFamily, task: Any, theta: np.ndarray, t: np.ndarray) -> dict[str, np.ndarray]:
    evaluation = family.evaluate(task, theta, t)
    return {
        "start": family.start(task),
        "loss": family.loss(task, theta),
        "signal": family.signal(task, theta, t),
        "direction": family.direction(task, theta, t),
        "descriptor": family.descriptor(task),
        "step_unit": family.step_unit(task, evaluation),
        "reference_loss": family.reference_loss(task),
        **{f"evaluate.{name}": value for name, value in evaluation._asdict().items()},
    }


def hold_the_contract(family: TaskFamily) -> None:
    n, horizon = 7, 6
    draw = family.sample(np.random.default_rng(0), n, horizon)
    for array in draw:
        assert array.shape[0] == n
        array.flags.writeable = False  # inputs are not written to
    task = family.complete(draw)
    for array in task:
        array.flags.writeable = False
    theta, t = points(family, task)
    theta.flags.writeable = t.flags.writeable = False

    found = answers(family, task, theta, t)
    shapes = {"start": theta.shape, "direction": theta.shape, "evaluate.direction": theta.shape}
    shapes["descriptor"] = (n, len(family.descriptor_names))
    for name, array in found.items():
        assert array.shape == shapes.get(name, (n,)), name
        assert array.dtype == np.float64, name
        assert np.isfinite(array).all(), name
    assert theta.shape == (n, family.num_parameters)
    assert len(family.descriptor_names) <= MAX_DESCRIPTORS
    assert (np.abs(found["descriptor"]) <= 10.0).all()
    assert (found["step_unit"] > 0.0).all()
    assert found["start"].flags.writeable
    assert not np.shares_memory(found["direction"], family.direction(task, theta, t))

    for name in ("loss", "signal", "direction"):  # the same values, together or apart
        assert np.array_equal(found[f"evaluate.{name}"], found[name]), name
    for name, array in answers(family, task, theta, t).items():  # nothing is remembered
        assert np.array_equal(array, found[name]), name
    for rows in ([4], [5, 0, 2], [2, 2, 2]):  # a row knows nothing of the others
        part = answers(family, task._make(array[rows] for array in task), theta[rows], t[rows])
        for name, array in part.items():
            assert np.array_equal(array, found[name][rows]), (name, rows)


@pytest.mark.parametrize("split", SPLITS)
def test_every_family_holds_the_contract(family_id: str, split: str) -> None:
    hold_the_contract(make_family(**gym.spec(family_id).kwargs, split=split))


@regressions
def test_regressions_hold_the_contract(options: dict[str, Any]) -> None:
    hold_the_contract(regression(**options))


def test_tasks_of_one_generator_are_the_same(family_id: str) -> None:
    family = make_family(**gym.spec(family_id).kwargs)
    for one, other in zip(tasks(family, 5), tasks(family, 5), strict=True):
        assert np.array_equal(one, other)
    losses = [family.loss(task, family.start(task)) for task in (tasks(family, 5), tasks(family, 5, seed=1))]
    assert not np.array_equal(*losses)


# Losses and directions


def finite_differences(function: Any, theta: np.ndarray, width: float = 1e-4) -> np.ndarray:
    """Return the gradient of function(theta) -> (n,), exact up to rounding for quadratics."""
    columns = [
        (function(theta + width * unit) - function(theta - width * unit)) / (2 * width)
        for unit in np.eye(theta.shape[1])
    ]
    return np.stack(columns, axis=1)


@pytest.mark.parametrize("data", [{}, {"dataset": "diabetes"}], ids=["synthetic", "diabetes"])
@pytest.mark.parametrize("batch_size", [None, 3])
def test_the_direction_is_the_falling_gradient_of_the_signal(data: dict[str, str], batch_size: int | None) -> None:
    family = regression(**data, batch_size=batch_size, dimension=(2, 8), scale=0)
    task = tasks(family, 20)
    theta, t = points(family, task)
    direction = family.direction(task, theta, t)
    gradient = finite_differences(lambda at: family.signal(task, at, t), theta)
    inside = np.arange(8) < np.round(10 ** task.descriptor[:, :1])
    assert np.allclose(direction, -gradient * inside, atol=1e-6 * np.abs(gradient).max())
    assert np.array_equal(family.signal(task, theta, t), family.loss(task, theta)) == (batch_size is None)


@pytest.mark.parametrize("data", [{}, {"dataset": "diabetes"}], ids=["synthetic", "diabetes"])
def test_minibatches_are_right_on_average(data: dict[str, str]) -> None:
    horizon, options = 8000, {"dimension": 4, "scale": 0, "examples_per_parameter": 5, **data}
    family = regression(**options, batch_size=4)
    task = tasks(family, 1, horizon)
    theta = family.start(task) + 0.5
    seen = [family.evaluate(task, theta, np.array([t])) for t in range(horizon)]
    direction = np.array([one.direction[0] for one in seen])
    signal = np.array([one.signal[0] for one in seen])
    exact = -finite_differences(lambda at: family.loss(task, at), theta)[0]
    for drawn, expected in ((direction, exact), (signal, family.loss(task, theta)[0])):
        error = drawn.std(axis=0) / horizon**0.5
        assert (np.abs(drawn.mean(axis=0) - expected) < 4 * error).all()
        assert (error < 0.1 * np.abs(expected).max()).all()


@regressions
def test_the_reference_is_the_minimum(options: dict[str, Any]) -> None:
    family = regression(**options)
    task = tasks(family, 30)
    reference = family.reference_loss(task)
    assert np.array_equal(family.loss(task, task.optimum), reference)
    rng = np.random.default_rng(0)
    for width in (1e-6, 1e-3, 1.0):
        assert (family.loss(task, task.optimum + width * rng.normal(size=task.optimum.shape)) >= reference).all()
    newton = np.einsum("npq,nq->np", np.linalg.pinv(gram(task)), -full_gradient(family, task))
    assert family.loss(task, family.start(task) + newton) == pytest.approx(reference, rel=1e-6)


def full_gradient(family: TaskFamily, task: Any) -> np.ndarray:
    return finite_differences(lambda at: family.loss(task, at), family.start(task), 1e-2)


@pytest.mark.parametrize("split", ROW_SPLITS)
@pytest.mark.parametrize("name", ["diabetes", "linnerud"])
def test_real_data_is_solved_as_numpy_solves_it(name: str, split: str) -> None:
    """Rebuild the examples of each task from the documented draw, with minibatches that show them all."""
    batch_size = 400
    family = regression(dataset=name, split=split, scale=0, batch_size=batch_size)
    task = tasks(family, 6, horizon=3)
    inputs, targets = (standardised(array, split) for array in load_regression(name))
    for row in range(6):
        size, per_parameter = 10 ** task.descriptor[row, :2]
        seen = np.unique(task.targets[row].round(9))
        theta = np.zeros_like(task.optimum)
        assert np.isin(seen, targets.round(9)).all()
        examples, index = np.unique(
            np.column_stack([task.inputs[row].reshape(4 * batch_size, -1), task.targets[row].ravel()]).round(9),
            axis=0,
            return_index=True,
        )
        X = task.inputs[row].reshape(4 * batch_size, -1)[index]
        y = task.targets[row].ravel()[index]
        assert len(examples) == round(size * per_parameter) <= len(inputs)
        solution, *_ = np.linalg.lstsq(X, y, rcond=None)
        residual = y - X @ solution
        assert family.reference_loss(task)[row] == pytest.approx(0.5 * residual @ residual / len(y), abs=1e-9)
        assert family.loss(task, theta)[row] == pytest.approx(0.5 * y @ y / len(y))
        assert np.linalg.norm(solution) == pytest.approx(np.linalg.norm(task.optimum[row]), rel=1e-6)


def test_subsamples_are_of_the_data() -> None:
    """The singular values of a task are those of rows and columns of the standardised data."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(10, 2)), rng.normal(size=10)
    family = regression(dataset=(X, y), dimension=2, examples_per_parameter=3, scale=0)
    inputs, targets = standardised(X, "train"), standardised(y[:, None], "train")  # 6 rows, all of them in every task
    task = tasks(family, 5)
    expected = np.linalg.svd(inputs / 6**0.5, compute_uv=False)
    assert task.diagonal == pytest.approx(np.tile(expected, (5, 1)))
    solution, residual, *_ = np.linalg.lstsq(inputs, targets[:, 0], rcond=None)
    assert task.minimum == pytest.approx(np.full(5, residual[0] / 12))
    assert np.linalg.norm(task.optimum, axis=1) == pytest.approx(np.full(5, np.linalg.norm(solution)))


def test_columns_of_data_that_vary_by_too_little_are_refused() -> None:
    """Squares of deviations underflow, and what is divided by their root is not finite."""
    X = np.random.default_rng(0).normal(size=(20, 2))
    for size in (1e-170, 1e-120):
        with pytest.raises(ValueError, match=r"a column varies by at least 1e-100, or not at all; column 1 by \d"):
            standardised(X * [1.0, size], "train")
    assert standardised(X * [1.0, 1e-90], "train") == pytest.approx(standardised(X, "train"))


def test_as_many_examples_as_asked_for_are_not_one_more_for_rounding() -> None:
    X = np.random.default_rng(0).normal(size=(92, 50))
    assert len(standardised(X, "train")) == 55  # 1.1 * 50, which floating numbers say is a little more
    for options in ({}, {"dataset": (X, X[:, 0])}):
        family = regression(dimension=50, examples_per_parameter=1.1, scale=0, **options)
        assert 10.0 ** tasks(family, 3).descriptor[:, 1] * 50 == pytest.approx(np.full(3, 55.0))


def test_splits_of_data_are_disjoint() -> None:
    rows = [set(split_rows(45, split)) for split in ROW_SPLITS]
    assert sum(map(len, rows)) == len(set.union(*rows)) == 45
    X, y = np.random.default_rng(0).normal(size=(45, 2)), np.arange(45.0)  # every target tells the row it is of
    training = y[split_rows(45, "train")]
    for split in ROW_SPLITS:
        task = tasks(regression(dataset=(X, y), split=split, batch_size=3, scale=0), 50)
        met = np.rint(task.targets * training.std() + training.mean()).astype(int)
        assert set(met.ravel()) == set(split_rows(45, split))


def test_data_is_in_units_of_the_training_rows() -> None:
    X = np.random.default_rng(0).normal(3.0, 5.0, size=(50, 2))
    X[:, 1] = 7.0  # a column that says nothing
    train = standardised(X, "train")
    assert train.mean(axis=0) == pytest.approx([0.0, 0.0])
    assert train.std(axis=0) == pytest.approx([1.0, 0.0])
    rows = split_rows(50, "train")
    test = standardised(X, "test")
    expected = (X[split_rows(50, "test"), 0] - X[rows, 0].mean()) / X[rows, 0].std()
    assert test[:, 0] == pytest.approx(expected)


# The laws of synthetic tasks


@pytest.mark.parametrize("spectrum", ["log-uniform", "linear-uniform", "bimodal"])
def test_conditioning_is_what_was_asked_for(spectrum: str) -> None:
    task = tasks(regression(spectrum=spectrum, dimension=(2, 9), conditioning=37.0), 50)
    for diagonal in task.diagonal:
        eigenvalues = diagonal[diagonal > 0] ** 2
        assert eigenvalues.max() / eigenvalues.min() == pytest.approx(37.0)


def test_a_bimodal_spectrum_has_nothing_in_the_middle() -> None:
    task = tasks(regression(spectrum="bimodal", dimension=20, conditioning=1e4, scale=0), 100)
    decades = np.log10(task.diagonal**2)  # from -4 to 0
    assert (np.abs(decades + 2.0) >= 1.6).all()
    assert (decades > -2.0).mean() == pytest.approx(0.5, abs=0.05)
    assert np.ptp(decades[decades > -2.0]) > 0.3  # a clump, not a point
    mixed = tasks(regression(dimension=20, conditioning=1e4, scale=0), 100)
    uniform = mixed.superdiagonal[:, 0] == 0.0
    assert (np.abs(np.log10(mixed.diagonal[uniform] ** 2) + 2.0) < 1.6).any(axis=1).all()


def test_heavy_tails_are_students() -> None:
    stats = pytest.importorskip("scipy.stats")
    options: dict[str, Any] = {"dimension": 4, "spectrum": "log-uniform", "conditioning": 1, "noise": 0.5, "scale": 0}
    task = tasks(regression(**options, batch_size=4, tails="heavy"), 200)
    residual = task.targets - np.vecdot(task.inputs, task.optimum[:, None, None, :])
    noise = residual / np.sqrt(2.0 * task.minimum)[:, None, None]
    for name, drawn in (("optimum", task.optimum), ("inputs", task.inputs), ("noise", noise)):
        assert stats.kstest(drawn.ravel() * 3**0.5, stats.t(df=3).cdf).pvalue > 0.01, name
        assert stats.kstest(drawn.ravel(), stats.norm.cdf).pvalue < 0.01, name


def test_the_risk_is_exact_whatever_the_tails() -> None:
    """The mean over very many examples, drawn one by one, is the loss, and that of their gradients its gradient."""
    family = regression(dimension=3, batch_size=400_000, tails="heavy", noise=0.5, conditioning=(2, 10), scale=0)
    task = tasks(family, 4, horizon=0)
    theta, t = family.start(task), np.zeros(4, np.int64)
    _, signal, direction = family.evaluate(task, theta, t)
    assert signal == pytest.approx(family.loss(task, theta), rel=0.05)  # t without the unit variance is three times it
    exact = -full_gradient(family, task)
    assert (np.linalg.norm(direction - exact, axis=1) < 0.05 * np.linalg.norm(exact, axis=1)).all()


def test_a_gaussian_design_is_one() -> None:
    """Reduced tasks and least squares on drawn data have the same spectra, noise, and gaps after descent."""
    stats = pytest.importorskip("scipy.stats")
    n, d, m, noise, steps = 1000, 8, 12, 0.5, 10
    family = regression(spectrum="gaussian", dimension=d, examples_per_parameter=m / d, noise=noise, scale=0)
    task = tasks(family, n, steps)
    reduced = np.linalg.eigvalsh(gram(task))

    rng = np.random.default_rng(1)
    X, optimum = rng.normal(size=(n, m, d)), rng.normal(size=(n, d))
    A = np.einsum("nmp,nmq->npq", X, X) / m
    explicit = np.linalg.eigvalsh(A)
    error = optimum.copy()
    for _ in range(steps):  # exact line search
        g = np.einsum("npq,nq->np", A, error)
        error -= (np.vecdot(g, g) / np.einsum("np,npq,nq->n", g, A, g))[:, None] * g
    gap, first = (np.einsum("np,npq,nq->n", e, A, e) for e in (error, optimum))
    noisy = np.einsum("nmp,np->nm", X, optimum)
    noisy += rng.normal(size=(n, m)) * (noise * (noisy**2).mean(axis=1))[:, None] ** 0.5
    solution = np.stack([np.linalg.lstsq(one, target, rcond=None)[0] for one, target in zip(X, noisy, strict=True)])
    minimum = 0.5 * ((noisy - np.einsum("nmp,np->nm", X, solution)) ** 2).mean(axis=1)

    found = final_log_gap(family, task, steps, rule("exact-line-search"))
    for name, one, other in (
        ("smallest", reduced[:, 0], explicit[:, 0]),
        ("largest", reduced[:, -1], explicit[:, -1]),
        ("gap", found, np.log(gap / first)),
        ("noise", task.minimum / (family.loss(task, family.start(task)) - task.minimum), minimum / (0.5 * first)),
    ):
        assert stats.ks_2samp(one, other).pvalue > 0.01, name


# Known answers


def test_a_horizon_is_of_all_learners_or_of_each() -> None:
    family = make_family("LinearRegression")
    task = draw_tasks(family, 0, 3, 10)
    for horizon in (10, np.int64(10), np.full(3, 10)):
        assert Engine.start(family, task, horizon).horizon.tolist() == [10, 10, 10]


def test_one_step_in_one_dimension_solves() -> None:
    family = regression(dimension=1, noise=0)
    task = tasks(family, 20)
    engine = Engine.start(family, task, 5)
    engine.advance(1.0 / gram(task)[:, 0, 0])
    assert (engine.gap_ratio < 1e-25).all()


def test_one_step_of_the_best_constant_is_exact_line_search() -> None:
    family = regression()
    task = tasks(family, 50, 1)
    exact = final_log_gap(family, task, 1, rule("exact-line-search"))
    constant = best_constant(family, task, 1)[1]
    assert (constant >= exact - 1e-9).all()
    assert constant == pytest.approx(exact, abs=1e-3)


def test_exact_line_search_is_its_closed_form() -> None:
    family = regression(scale=1)
    task = tasks(family, 30)
    engine, hessian = Engine.start(family, task, 5), gram(task)
    steps = rule("exact-line-search")(engine)
    for _ in range(4):
        g = engine.direction
        expected = np.vecdot(g, g) / np.einsum("np,npq,nq->n", g, hessian, g)
        step = next(steps)
        assert step == pytest.approx(expected, rel=1e-8)
        engine.advance(step)


def test_cauchy_yuan_cauchy_ends_in_two_dimensions() -> None:
    family = regression(dimension=2, spectrum="log-uniform", conditioning=(5, 500))
    task = tasks(family, 50)
    engine, hessian = Engine.start(family, task, 3), gram(task)

    def cauchy() -> np.ndarray:
        g = engine.direction
        return np.vecdot(g, g) / np.einsum("np,npq,nq->n", g, hessian, g)

    first = cauchy()
    moved = first**2 * engine.squared_norm
    engine.advance(first)
    second = cauchy()
    a, b = 1.0 / first, 1.0 / second
    engine.advance(2.0 / (np.sqrt((a - b) ** 2 + 4.0 * engine.squared_norm / moved) + a + b))
    before = engine.gap_ratio.copy()
    engine.advance(cauchy())
    assert (before > 1e-9).all()
    assert (engine.gap_ratio < 1e-18).all()


def test_conjugate_gradients_end_after_d_steps() -> None:
    family = regression(dimension=(2, 12), conditioning=(1, 1e3))
    task = tasks(family, 50)
    gap = limit_loss(family, task, 12) - family.reference_loss(task)
    first = family.loss(task, family.start(task)) - family.reference_loss(task)
    assert (gap / first < 1e-12).all()
    before = limit_loss(family, task, 1) - family.reference_loss(task)
    assert np.median(before / first) > 1e-3


@pytest.mark.parametrize("horizon", [1, 3, 6])
def test_conjugate_gradients_are_steps_of_inverse_ritz_values(horizon: int) -> None:
    family = regression(dimension=16, spectrum="log-uniform", conditioning=(10, 100))
    task = tasks(family, 20)
    hessian = gram(task)
    engine = Engine.start(family, task, horizon)
    basis = [engine.direction / np.sqrt(engine.squared_norm)[:, None]]
    for _ in range(horizon - 1):  # Lanczos, dense and re-orthogonalised
        vector = np.einsum("npq,nq->np", hessian, basis[-1])
        for _ in range(2):
            for known in basis:
                vector -= np.vecdot(known, vector)[:, None] * known
        basis.append(vector / np.linalg.norm(vector, axis=1)[:, None])
    Q = np.stack(basis)
    ritz = np.linalg.eigvalsh(np.einsum("anp,npq,bnq->nab", Q, hessian, Q))
    for step in (1.0 / ritz).T:
        engine.advance(step)
    gap = limit_loss(family, task, horizon) - task.minimum
    assert gap / engine.initial_gap == pytest.approx(engine.gap_ratio, rel=1e-6, abs=1e-13)
    assert np.allclose(conjugate_gradient(task, family.start(task), horizon), engine.theta, atol=1e-6)


def test_no_schedule_is_below_the_limit() -> None:
    family = regression(dimension=(4, 16))
    task = tasks(family, 50)
    limit = limit_loss(family, task, 6) - task.minimum
    rng = np.random.default_rng(0)
    for _ in range(20):
        engine = Engine.start(family, task, 6)
        for multiple in 10.0 ** rng.uniform(-1, 0.5, 6):
            engine.advance(multiple * engine.unit)
        assert (engine.loss - task.minimum >= limit * (1 - 1e-9) - 1e-12 * engine.initial_gap).all()


def test_arcsine_steps_shrink_every_eigendirection_alike() -> None:
    """1/h = (L + mu)/2 + (L - mu)/2 cos(pi U): the mean of log|1 - lambda h| is the same for every lambda."""
    family, n, mu = regression(dimension=6, spectrum="log-uniform", conditioning=50, **UNIT), 20_000, 1 / 50
    one = tasks(family, 1)
    task = one._make(np.repeat(array, n, axis=0) for array in one)
    engine = Engine.start(family, task, 1)
    cosine = np.cos(np.pi * (np.arange(n) + 0.5) / n)  # a quadrature over U
    engine.advance(1.0 / (0.5 * (1.0 + mu) + 0.5 * (1.0 - mu) * cosine))
    with np.errstate(divide="ignore"):
        shrunk = np.log(np.abs(engine.theta - task.optimum) / np.abs(task.optimum)).mean(axis=0)
    assert shrunk == pytest.approx(np.full(6, np.log((1 - mu**0.5) / (1 + mu**0.5))), abs=1e-3)


def test_stochastic_polyak_is_normalised_lms() -> None:
    family = regression(batch_size=1, dimension=(2, 9))
    task = tasks(family, 20)
    theta, t = points(family, task)
    _, signal, direction = family.evaluate(task, theta, t)
    inputs = task.inputs[np.arange(20), t, 0]
    assert signal / (0.5 * np.vecdot(direction, direction)) == pytest.approx(1.0 / np.vecdot(inputs, inputs), rel=1e-8)


@pytest.mark.parametrize("noise", [0.0, 1e-20, 1e-12])
def test_the_limit_of_minibatches_without_noise_is_below_the_start(noise: float) -> None:
    """Fewer examples than parameters leave a matrix that has no inverse."""
    family = make_family("LinearRegression", noise=noise, batch_size=1, dimension=32, scale=0.0)
    task = draw_tasks(family, 0, 8, 10)
    assert np.all(limit_loss(family, task, 10) < family.loss(task, family.start(task)))


def test_the_limit_of_minibatches_is_recursive_least_squares() -> None:
    """One example after the other, by Kalman's recursion, from the prior that tasks are drawn with."""
    horizon, family = 5, regression(batch_size=2, dimension=(2, 6), noise=0.1)
    task = tasks(family, 10, horizon)
    for row in range(10):
        mean, covariance = np.zeros(6), np.eye(6)
        for t in range(horizon):
            for x, y in zip(task.inputs[row, t], task.targets[row, t], strict=True):
                gain = covariance @ x / (x @ covariance @ x + 2 * task.minimum[row])
                mean, covariance = mean + gain * (y - x @ mean), covariance - np.outer(gain, x @ covariance)
        assert recursive_least_squares(task, horizon)[row] == pytest.approx(mean, abs=1e-8)
    assert limit_loss(family, task, horizon) == pytest.approx(family.loss(task, recursive_least_squares(task, horizon)))


def test_the_unit_lies_between_the_inverse_extremes() -> None:
    family = regression(noise=0)
    task = tasks(family, 100)
    unit, hessian = Engine.start(family, task, 1).unit, gram(task)
    eigenvalues = np.linalg.eigvalsh(hessian)
    smallest = np.where(eigenvalues > 1e-9 * eigenvalues[:, -1:], eigenvalues, np.inf).min(axis=1)
    assert (unit >= 0.5 / eigenvalues[:, -1] * (1 - 1e-9)).all()
    assert (unit <= 0.5 / smallest * (1 + 1e-9)).all()


@pytest.mark.parametrize("batch_size", [None, 2])
def test_learners_that_are_held_stay_as_they_are(batch_size: int | None) -> None:
    family = regression(batch_size=batch_size, dimension=(2, 6))
    task = tasks(family, 6)
    engine, twin = Engine.start(family, task, 6), Engine.start(family, task, 6)
    active = np.array([True, False, True, False, False, True])
    for one in (engine, twin):
        one.advance(one.unit)
    held = {name: np.copy(getattr(engine, name)[~active]) for name in STATE}
    for _ in range(2):
        engine.advance_only(active, engine.unit)
        twin.advance(twin.unit)
    for name, values in held.items():
        assert np.array_equal(getattr(engine, name)[~active], values), name
        assert np.array_equal(getattr(engine, name)[active], getattr(twin, name)[active]), name


# Invariance


@pytest.mark.parametrize("factor", [1e6, 1e-6])
@pytest.mark.parametrize("options", [{}, {"batch_size": 2}, {"dataset": "diabetes"}], ids=["full", "batch", "data"])
def test_the_scale_of_the_objective_is_not_seen(options: dict[str, Any], factor: float) -> None:
    family = regression(**options, dimension=(5, 10))
    task = tasks(family, 20, 12)
    root = factor**0.5
    scaled = task._replace(
        diagonal=task.diagonal * root,
        superdiagonal=task.superdiagonal * root,
        minimum=task.minimum * factor,
        inputs=task.inputs * root,
        targets=task.targets * root,
    )
    for one, other in zip(watch(family, task), watch(family, scaled), strict=True):
        assert one == pytest.approx(other, abs=1e-6)


def watch(family: TaskFamily, task: Any) -> list[np.ndarray]:
    """Return what an agent that acts at random observes and is paid."""
    n, rows = len(task.minimum), np.arange(len(task.minimum))
    engine, observer, actions = Engine.start(family, task, 12), Observer(n, 3), ActionMap(n)
    actions.begin(engine, rows)
    observer.begin(engine, rows)
    rng, seen = np.random.default_rng(0), [observer.observation()]
    for _ in range(12):
        engine.advance_only(~engine.ended, actions.step_size(rng.uniform(-0.5, 0.4, (n, 1)), engine))
        observer.update(engine)
        seen += [observer.observation(), potential(engine, "log")]
    return seen


def test_the_scale_option_changes_nothing_but_the_scale() -> None:
    def episode(scale: float) -> tuple[list[np.ndarray], float]:
        env = gym.make("MetaLearn/LinearRegression-v0", scale=scale, horizon=12, split="test")
        seen, losses = [], []
        for seed in range(10):
            observation, info = env.reset(seed=seed)
            losses.append(info["loss"])
            env.action_space.seed(seed)
            seen += [observation, *(env.step(0.1 * env.action_space.sample())[0] for _ in range(3))]
        return seen, max(losses) / min(losses)

    (one, narrow), (other, wide) = episode(0), episode(6)
    assert all(mine == pytest.approx(yours, abs=1e-6) for mine, yours in zip(one, other, strict=True))
    assert wide > 1e4 * narrow


# What an agent sees


def test_observations_are_what_their_names_say(env_id: str) -> None:
    """Recomputed with plain NumPy from the engine, after three steps."""
    env = gym.make(env_id, split="test", horizon=8, history=2, disable_env_checker=True).unwrapped
    first, _ = env.reset(seed=3)
    engine = env.session.engine
    assert not first[list(env.feature_names).index("progress") :][[0, *range(2, 12)]].any()
    past, start = [], (engine.signal[0], np.linalg.norm(engine.direction[0]))
    for action in (-0.3, 0.2, -0.1):
        before = (engine.signal[0], engine.step_size[0], engine.direction[0].copy())
        observation, *_ = env.step(np.array([action]))
        signal, step, d = engine.signal[0], engine.step_size[0], engine.direction[0]
        norms = np.linalg.norm(d), np.linalg.norm(before[2])
        cosine = d @ before[2] / norms[0] / norms[1]
        curvature = 1.0 - d @ before[2] / norms[1] ** 2
        logs = np.log([signal / before[0], step / before[1], norms[0] / norms[1], 1.0, max(curvature, 1e-300)])
        logs[3] = cosine
        past.insert(0, np.clip(logs, [-5, -5, -5, -1, -5], [5, 5, 5, 1, 5]))
    columns = dict(zip(env.feature_names, observation, strict=True))
    family = env.session.engine.family
    descriptor = np.pad(family.descriptor(engine.task)[0], (0, 8 - len(family.descriptor_names)))
    assert [columns[f"descriptor_{index}"] for index in range(8)] == pytest.approx(descriptor, abs=1e-6)
    assert {kind: columns[f"kind_{kind}"] for kind in ("supervised", "unsupervised", "reinforcement")} == {
        "supervised": float(family.kind == "supervised"),
        "unsupervised": float(family.kind == "unsupervised"),
        "reinforcement": float(family.kind == "reinforcement"),
    }
    assert columns["progress"] == pytest.approx(3 / 8)
    assert columns["log10_horizon"] == pytest.approx(np.log10(8))
    assert observation[-10:] == pytest.approx(np.concatenate(past[:2]), abs=1e-5)
    levels = [step / engine.unit[0], signal / start[0], norms[0] / start[1]]
    assert observation[-13:-10] == pytest.approx(np.clip(np.log10(levels), -10, 10), abs=1e-5)


def test_schedules_step_in_units() -> None:
    family = regression()
    engine = Engine.start(family, tasks(family, 4), 2)
    assert [step.tolist() for step in schedule(np.array([0.5, 2.0]))(engine)] == [
        (0.5 * engine.unit).tolist(),
        (2.0 * engine.unit).tolist(),
    ]
