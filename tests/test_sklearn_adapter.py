"""Estimators with learned step sizes: scikit-learn's own checks, and the steps of the environment to 1e-6."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_policy import untrained

from metalearn_env.clusters import SampledPoints
from metalearn_env.clusters import SampleDraw as PointDraw
from metalearn_env.designs import SubsampledData, SubsampleDraw
from metalearn_env.engine import Engine
from metalearn_env.families import make_family
from metalearn_env.labelled import SampledExamples, SampleDraw
from metalearn_env.observations import feature_names
from metalearn_env.policy import Policy

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from metalearn_env.adapters.sklearn import LearnedClassifier, LearnedKMeans, LearnedRegressor

HORIZON = 15


def holding(value: float = 0.0) -> Policy:
    """Return a policy that goes by the task's unit throughout, times 1000^value."""
    names = list(feature_names(1))
    layers = ((np.zeros((1, len(names)), np.float32), np.full(1, value, np.float32)),)
    return Policy(layers, {"history": 1, "action": "absolute", "strategy": "dynamic", "feature_names": names})


def careful() -> Policy:
    """Return a policy that divides the step by its curvature number where that is above 1, as Barzilai and Borwein."""
    names = list(feature_names(1))
    curvature = np.array([[float(name == "curvature[-1]") for name in names]], np.float32)
    less = np.array([[-1.0 / np.log(100.0)]], np.float32)
    layers = ((curvature, np.zeros(1, np.float32)), (less, np.zeros(1, np.float32)))
    header = {"history": 1, "action": "relative", "strategy": "dynamic", "feature_names": names, "activation": "relu"}
    return Policy(layers, header)


def tame(shift: float = 0.0, interval: int = 1, ritz: int = 0) -> Policy:
    """Return a policy of random weights whose steps differ, and are about the unit times 1000^shift."""
    policy = untrained("absolute", history=3, interval=interval, ritz=ritz)
    weight, bias = policy.layers[-1]
    return Policy((*policy.layers[:-1], (0.03 * weight, 0.03 * bias + np.float32(shift))), policy.header)


CHECKED = [
    LearnedRegressor(careful()),
    LearnedRegressor(careful(), batch_size=8, random_state=0),
    LearnedClassifier(holding()),
    LearnedClassifier(holding(), batch_size=8, random_state=0),
    LearnedKMeans(policy=holding()),
    LearnedKMeans(policy=holding(-0.1), init="random", batch_size=None),
]


@parametrize_with_checks(CHECKED)
def test_scikit_learn_accepts_them(estimator: Any, check: Any) -> None:
    check(estimator)


# The steps of the environment


def drive(family: Any, task: Any, policy: Policy) -> list[float]:
    """Return the step sizes of a policy in an engine."""
    engine, taken = Engine.start(family, task, HORIZON), []
    for _, step in zip(range(HORIZON), policy.step_sizes(engine), strict=False):
        taken.append(float(step[0]))
        engine.advance(step)
    assert len(set(taken)) == np.ceil(HORIZON / policy.interval)
    return taken


def drawn(seed: int, rows: int, batch_size: int | None) -> np.ndarray:
    """Return the batches that an estimator draws first, and once more the last for the time after them, (1, ...)."""
    if batch_size is None:
        return np.zeros((1, 0, 0), np.int64)
    batches = np.random.RandomState(seed).randint(rows, size=(HORIZON, batch_size))
    return np.concatenate([batches, batches[-1:]])[None]


def one(value: Any) -> np.ndarray:
    return np.array([value])


@pytest.mark.parametrize(("batch_size", "interval", "ritz"), [(None, 1, 0), (None, 1, 3), (16, 1, 0), (16, 4, 0)])
def test_regression_steps_are_those_of_the_environment(batch_size: int | None, interval: int, ritz: int) -> None:
    policy = tame(-0.3, interval, ritz)
    X, y = load_diabetes(return_X_y=True)
    m, d = X.shape
    scaled, target = StandardScaler().fit_transform(X), (y - y.mean()) / y.std()
    source = SubsampledData(
        dimension=(d, d),
        examples_per_parameter=(1.0, m / d),
        scale=(0.0, 0.0),
        batch_size=batch_size or 0,
        inputs=scaled,
        targets=target[:, None],
    )
    draw = SubsampleDraw(
        *(one(d), one(m), one(1.0)), np.arange(m)[None], np.arange(d)[None], one(0), drawn(0, m, batch_size)
    )
    expected = drive(make_family("LinearRegression", dimension=d, batch_size=batch_size), source.build(draw), policy)
    model = LearnedRegressor(policy, max_iter=HORIZON, batch_size=batch_size, random_state=0).fit(X, y)
    assert np.allclose(model.step_sizes_, expected, rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("batch_size", [None, 16])
def test_classification_steps_are_those_of_the_environment(batch_size: int | None) -> None:
    X, y = load_iris(return_X_y=True)
    m, d = X.shape
    source = SampledExamples(
        classes=(3, 3),
        dimension=(d, d),
        examples=m,
        penalty=(1e-3, 1e-3),
        scale=(0.0, 0.0),
        batch_size=batch_size or 0,
        data=StandardScaler().fit_transform(X),
        targets=y,
    )
    draw = SampleDraw(
        *(one(3), one(d), one(1e-3), one(1.0)), drawn(0, m, batch_size), np.arange(m)[None], np.arange(d)[None]
    )
    expected = drive(make_family("Classification", batch_size=batch_size), source.build(draw), tame())
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    model = LearnedClassifier(tame(), max_iter=HORIZON, batch_size=batch_size, random_state=0).fit(X, names)
    assert np.allclose(model.step_sizes_, expected, rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("batch_size", [None, 16])
def test_clustering_steps_are_those_of_the_environment(batch_size: int | None) -> None:
    X = load_iris().data
    (m, d), k, random = X.shape, 3, np.random.RandomState(0)
    order = random.permutation(m)  # what the estimator draws first; the task starts from its first points
    steps = (HORIZON, batch_size or 0)
    batches = random.randint(m, size=steps) if batch_size else np.zeros(steps, np.int64)
    place = np.argsort(order)
    batches = np.concatenate([batches, batches[-1:]])[None]
    source = SampledPoints(
        clusters=(k, k),
        dimension=(d, d),
        points=m,
        scale=(0.0, 0.0),
        batch_size=batch_size or 0,
        restarts=1,
        spread_start=False,
        data=X,
    )
    starts = np.zeros((1, 2, k))
    draw = PointDraw(*(one(k), one(d), one(1.0)), starts, place[batches], order[None], np.arange(d)[None])
    expected = drive(make_family("Clustering", batch_size=batch_size), source.build(draw), tame())
    model = LearnedKMeans(k, policy=tame(), init="random", max_iter=HORIZON, batch_size=batch_size, random_state=0).fit(
        X
    )
    moving = slice(10)  # of all points Lloyd's algorithm converges, after which directions are rounding errors
    assert np.allclose(model.step_sizes_[moving], expected[moving], rtol=1e-6, atol=0.0)


# What they are good for


def test_regression_comes_to_least_squares() -> None:
    X, y = np.random.default_rng(0).normal(3.0, 2.0, (200, 4)), np.random.default_rng(1).normal(5.0, 1.0, 200)
    exact = LinearRegression().fit(X, y)
    model = LearnedRegressor(careful(), max_iter=300).fit(X, y)
    assert np.allclose(model.coef_, exact.coef_, atol=1e-3)
    assert model.intercept_ == pytest.approx(exact.intercept_, abs=1e-2)
    assert model.n_iter_ == 300 == len(model.losses_)


def test_one_step_of_all_points_is_one_of_lloyd() -> None:
    X = load_iris().data
    start = np.random.RandomState(0).permutation(len(X))[:3]
    lloyd = KMeans(3, init=X[start], n_init=1, max_iter=1, algorithm="lloyd").fit(X)
    for init in ("random", X[start], X[start].tolist()):
        model = LearnedKMeans(3, policy=holding(), init=init, batch_size=None, max_iter=1, random_state=0).fit(X)
        assert np.allclose(model.cluster_centers_, lloyd.cluster_centers_)
    assert model.inertia_ == pytest.approx(-model.score(X))
    assert np.array_equal(model.labels_, model.predict(X))


def test_classes_are_found_in_a_pipeline() -> None:
    X, y = load_breast_cancer(return_X_y=True)
    model = make_pipeline(StandardScaler(), LearnedClassifier(holding()))
    assert cross_val_score(model, X, y, cv=3).mean() > 0.9


def test_a_run_that_diverges_says_so_and_keeps_the_best() -> None:
    X, y = load_diabetes(return_X_y=True)
    with pytest.warns(ConvergenceWarning, match=r"diverged after \d+ steps of 50"):
        model = LearnedRegressor(holding(1.0)).fit(X, y)
    assert model.n_iter_ < 50
    assert np.allclose(model.predict(X), y.mean())  # where it began


def test_a_batch_that_is_met_exactly_is_no_measure_of_divergence() -> None:
    points = np.repeat(np.arange(4.0), 5)[:, None]
    model = LearnedKMeans(2, policy=holding(), batch_size=1, random_state=0).fit(points)
    assert model.losses_[0] == 0.0 < model.losses_.max()
    assert model.n_iter_ == 50


def test_the_scale_of_data_makes_no_difference() -> None:
    X, y = load_diabetes(return_X_y=True)
    one_, other = (LearnedRegressor(tame(-0.3)).fit(c * X, c * c * y) for c in (1.0, 1e3))
    assert np.allclose(one_.step_sizes_, other.step_sizes_, rtol=1e-6)


# Bad input


X, Y = np.arange(12.0).reshape(6, 2), np.array([0, 1, 0, 1, 0, 1])


@pytest.mark.parametrize(
    ("estimator", "words"),
    [
        (LearnedRegressor(holding(), max_iter=0), "max_iter is a whole number >= 1, not 0"),
        (LearnedRegressor(holding(), batch_size=0), "batch_size is a whole number >= 1"),
        (LearnedClassifier(holding(), penalty=0.0), "penalty is a number above 0"),
        (LearnedKMeans(7, policy=holding()), "n_samples=6 should be >= n_clusters=7"),
        (LearnedKMeans(2, policy=holding(), init="far"), "init is one of"),
        (
            LearnedKMeans(2, policy=holding(), init=np.zeros((3, 2))),
            r"init is an array of shape \(2, 2\), not \(3, 2\)",
        ),
        (LearnedKMeans(2, policy=holding(), init=[[np.nan, 0.0], [0.0, 0.0]]), "init contains NaN"),
    ],
)
def test_bad_parameters_are_refused(estimator: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        estimator.fit(X, Y)
    with pytest.raises(NotFittedError):
        estimator.predict(X)


@pytest.mark.parametrize("estimator", [LearnedRegressor, LearnedClassifier, LearnedKMeans])
def test_bad_policies_are_refused(estimator: Any) -> None:
    with pytest.raises(FileNotFoundError, match="'nowhere' is neither a file nor a shipped policy"):
        estimator(policy="nowhere").fit(X, Y)
    with pytest.raises(TypeError, match="policy is a Policy, or the name or path of one, not int"):
        estimator(policy=3).fit(X, Y)
    old = Policy(holding().layers, {**holding().header, "feature_names": ["loss", "step"]})
    with pytest.raises(ValueError, match=r"(?s)\['loss', 'step'\].*but these are.*kind_supervised"):
        estimator(policy=old).fit(np.tile(X, (2, 1)), np.tile(Y, 2))


@pytest.mark.parametrize("estimator", CHECKED[::2])
def test_bad_data_are_refused(estimator: Any) -> None:
    spoilt = X.copy()
    spoilt[3, 1] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        clone(estimator).fit(spoilt, Y)
    with pytest.raises(ValueError, match="2D array"):
        clone(estimator).fit(X[:, 0], Y)
    if not isinstance(estimator, LearnedKMeans):
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            clone(estimator).fit(X, Y[:-1])


@pytest.mark.parametrize("size", [1e155, -1e300])
def test_numbers_whose_squares_overflow_are_refused(size: float) -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20, 2)), rng.normal(size=20)
    large, wide = X.copy(), y.copy()
    large[3, 1], wide[3] = size, size
    centres = np.array([[0.0, size], [1.0, 1.0]])
    regressor, classifier, means = LearnedRegressor(tame()), LearnedClassifier(tame()), LearnedKMeans(2, policy=tame())
    for fit, name in (
        (lambda: regressor.fit(large, y), "X"),
        (lambda: regressor.fit(X, wide), "y"),
        (lambda: classifier.fit(large, y > 0.0), "X"),
        (lambda: means.fit(large), "X"),
        (lambda: LearnedKMeans(2, policy=tame(), init=centres).fit(X), "init"),
        (lambda: LearnedKMeans(2, policy=tame()).fit(X).transform(large), "X"),
    ):
        with pytest.raises(ValueError, match=rf"{name} is finite, at most 1e\+100; row \d holds .*e\+"):
            fit()


def test_whole_floating_numbers_are_whole_numbers() -> None:
    X = np.random.default_rng(0).normal(size=(20, 2))
    found = [
        LearnedRegressor(tame(), max_iter=n, batch_size=b, random_state=0).fit(X, X[:, 0])
        for n, b in ((5, 2), (5.0, 2.0))
    ]
    assert np.array_equal(found[0].coef_, found[1].coef_)


@pytest.mark.parametrize("k", [3, 4])
def test_a_fit_that_is_perfect_at_first_stays_what_it_is(k: int) -> None:
    X = np.repeat([[0.0, 0.1], [1.0, 0.7], [0.3, 3.0]], 30, axis=0)
    model = LearnedKMeans(k, random_state=0).fit(X)  # a warning is an error
    assert model.inertia_ < 1e-12
    assert not model.step_sizes_.any()
