"""Clustering: known answers, real data, bad input, and one arithmetic for a row and for many."""

from __future__ import annotations

import functools
import itertools
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from metalearn_env import kmeans
from metalearn_env.datasets import load_points
from metalearn_env.engine import CHUNK, Engine
from metalearn_env.families.clustering import Clustering
from metalearn_env.limits import centres_of_the_seen, limit_loss
from metalearn_env.pool import TaskPool, draw_tasks
from metalearn_env.splits import ROW_SPLITS, split_rows

ID = "MetaLearn/Clustering-v0"
HORIZON = 10
CASES: dict[str, dict[str, Any]] = {
    "default": {},
    "full batch": {"batch_size": None},
    "one point a step": {"batch_size": 1},
    "k-means++": {"init": "k-means++", "split": "validation"},
    "one cluster, one dimension": {"clusters": 1, "dimension": 1},
    "many": {"clusters": (1, 12), "dimension": (1, 20), "points": 50, "batch_size": 80},
    "every point a centre": {"clusters": 4, "points": 4},
    "outliers": {"outliers": 1.0, "imbalance": 1, "spread": 1, "scale": 0},
    "no outliers, no separation": {"outliers": 0, "separation": 0},
    "far apart": {"separation": 1e6, "scale": 30.0},
}
DATA = ("iris", "wine", "digits", "breast_cancer", "china", "flower")
every_case = pytest.mark.parametrize("options", CASES.values(), ids=CASES.keys())


def tasks(n: int = 40, seed: int = 0, **options: Any) -> tuple[Clustering, Any]:
    family = Clustering(**options)
    return family, draw_tasks(family, seed, n, HORIZON)


def points_of(task: Any, row: int) -> np.ndarray:
    return task.points[row, :, :-2]


def centres_of(task: Any, theta: np.ndarray, row: int) -> np.ndarray:
    """Return the centres of one row that are there."""
    return theta[row].reshape(task.barrier.shape[1], -1)[task.barrier[row] == 0]


def some_thetas(family: Clustering, task: Any) -> list[np.ndarray]:
    """The start, the best known, and a point between that no symmetry favours."""
    first = family.start(task)
    return [first, task.optimum, 0.37 * first + 0.63 * task.optimum]


# Known answers


@every_case
def test_loss_is_half_the_mean_squared_distance(options: dict[str, Any]) -> None:
    family, task = tasks(**options)
    for theta in some_thetas(family, task):
        loss = family.loss(task, theta)
        for row in range(len(loss)):
            offsets = points_of(task, row)[:, None] - centres_of(task, theta, row)
            exact = 0.5 * (offsets**2).sum(axis=2).min(axis=1).mean()
            assert loss[row] == pytest.approx(exact, rel=1e-10, abs=0)


@every_case
def test_signal_and_direction_are_those_of_the_minibatch(options: dict[str, Any]) -> None:
    family, task = tasks(n=10, **options)
    t = np.arange(10) % (HORIZON + 1)
    for theta in some_thetas(family, task):
        signal, direction = family.signal(task, theta, t), family.direction(task, theta, t)
        for row in range(10):
            points, centres = points_of(task, row), centres_of(task, theta, row)
            seen = points if family.batch_size is None else points[task.batches[row, t[row]]]
            squared = ((seen[:, None] - centres) ** 2).sum(axis=2)
            assert signal[row] == pytest.approx(0.5 * squared.min(axis=1).mean(), rel=1e-10, abs=0)
            owner, expected = squared.argmin(axis=1), np.zeros((task.barrier.shape[1], points.shape[1]))
            for j in np.unique(owner):
                expected[j] = seen[owner == j].mean(axis=0) - centres[j]
            tolerance = 1e-9 * np.abs(points).max()
            np.testing.assert_allclose(direction[row].reshape(expected.shape), expected, rtol=0, atol=tolerance)


@every_case
def test_centres_that_are_not_there_never_win_and_never_move(options: dict[str, Any]) -> None:
    family, task = tasks(**options)
    engine = Engine.start(family, task, HORIZON)
    counts = (task.barrier == 0).sum(axis=1)
    assert counts.tolist() == np.round(10 ** task.descriptor[:, 0]).astype(int).tolist()
    dimensions = np.round(10 ** task.descriptor[:, 1]).astype(int)
    for _ in range(HORIZON):
        centres = engine.theta.reshape(*task.barrier.shape, -1)
        assert not centres[task.barrier > 0].any()
        for row, dimension in enumerate(dimensions):
            assert not centres[row, :, dimension:].any()
        engine.advance(np.ones(len(centres)))


def test_separated_clusters_are_solved_in_one_step() -> None:
    """From a start in each cluster."""
    rng = np.random.default_rng(0)
    data = np.concatenate([centre + 0.1 * rng.standard_normal((100, 3)) for centre in 10 * np.eye(3)])
    family, task = tasks(dataset=data, batch_size=None, clusters=3, dimension=3, points=60, scale=0, init="k-means++")
    first = family.start(task)
    row_wise = [len({*kmeans_labels(points_of(task, row), centres_of(task, first, row))}) for row in range(40)]
    engine = Engine.start(family, task, HORIZON)
    engine.advance(np.ones(40))
    assert row_wise == [3] * 40
    assert np.all(np.abs(engine.gap_ratio) < 1e-4)  # what is left is the margin of `LEAST_GAP`
    np.testing.assert_allclose(engine.loss, family.loss(task, task.optimum), rtol=1e-12)
    engine.advance(np.ones(40))
    np.testing.assert_allclose(engine.loss, family.loss(task, task.optimum), rtol=1e-12)


def kmeans_labels(points: np.ndarray, centres: np.ndarray) -> list[int]:
    return ((points[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1).tolist()


@pytest.mark.parametrize(
    "options", [{}, {"clusters": (5, 12)}, {"dataset": "digits"}], ids=["default", "many", "digits"]
)
def test_a_step_of_one_is_lloyds_algorithm(options: dict[str, Any]) -> None:
    cluster = pytest.importorskip("sklearn.cluster")
    family, task = tasks(n=10, batch_size=None, scale=0, **options)
    engine = Engine.start(family, task, HORIZON)
    engine.advance(np.ones(10))
    for row in range(10):
        start = centres_of(task, family.start(task), row)
        one = cluster.KMeans(len(start), init=start, n_init=1, max_iter=1, tol=0, algorithm="lloyd")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that one iteration does not converge
            one.fit(points_of(task, row))
        np.testing.assert_allclose(centres_of(task, engine.theta, row), one.cluster_centers_, atol=1e-10)


def test_direction_times_occupancy_is_the_negative_gradient() -> None:
    family, task = tasks(n=20, batch_size=None, scale=0)
    theta = some_thetas(family, task)[2]
    direction, step = family.direction(task, theta, np.zeros(20, np.int64)), 1e-6
    centres = theta.reshape(*task.barrier.shape, -1)
    distance, nearest = kmeans.distances(task.points, centres, task.barrier, task.scatter)
    occupancy = kmeans.ownership(distance, nearest).mean(axis=2).repeat(centres.shape[2], axis=1)
    for j in range(theta.shape[1]):
        change = np.zeros_like(theta)
        change[:, j] = step
        slope = (family.loss(task, theta + change) - family.loss(task, theta - change)) / (2 * step)
        np.testing.assert_allclose(-slope, (direction * occupancy)[:, j], atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"init": "k-means++"}, {"dataset": "iris"}, {"dataset": "china"}], ids=str)
def test_reference_loss_is_what_scikit_learn_finds(options: dict[str, Any]) -> None:
    cluster = pytest.importorskip("sklearn.cluster")
    family, task = tasks(n=25, restarts=20, **options)
    theirs = []
    for row in range(25):
        points, k = points_of(task, row), len(centres_of(task, task.optimum, row))
        unit = np.sqrt(task.scatter[row])
        found = cluster.KMeans(k, n_init=20, random_state=0).fit(points / unit)
        theirs.append(0.5 * found.inertia_ / len(points) * unit**2)
    ratio = family.reference_loss(task) / theirs
    assert np.all(ratio < 1.01)
    assert np.mean(ratio > 0.99) >= 0.9  # below, it has found what scikit-learn has not


@every_case
def test_the_best_known_is_a_fixed_point_below_the_start(options: dict[str, Any]) -> None:
    family, task = tasks(**{**options, "batch_size": None})
    first, best, reference = family.loss(task, family.start(task)), family.loss(task, task.optimum), task.minimum
    assert np.all(reference <= best * (1 + 1e-12))
    assert np.all(first - reference >= 0.9e-9 * task.scatter)
    direction = family.direction(task, task.optimum, np.zeros(40, np.int64))
    assert np.all(np.abs(direction).max(axis=1) <= 1e-7 * np.sqrt(task.scatter))


def test_a_start_at_the_optimum_keeps_its_gap_finite() -> None:
    family, task = tasks(dataset=np.tile([[-1.0], [0.0], [1.0]], (20, 1)), clusters=1, points=30, scale=0)
    engine = Engine.start(family, task, HORIZON)
    for _ in range(HORIZON):
        engine.advance(np.ones(40))
    assert np.isfinite(engine.gap_ratio).all()


def test_the_limit_is_the_k_means_of_what_was_seen() -> None:
    family, task = tasks(n=60)
    limit, centres = limit_loss(family, task, HORIZON), centres_of_the_seen(task, HORIZON)
    np.testing.assert_array_equal(limit, family.loss(task, centres))
    assert np.mean(limit >= task.minimum) >= 0.95  # a sample can lead to a better minimum than the best known
    assert np.median((limit - task.minimum) / task.minimum) < 0.05
    (weights,) = (np.bincount(task.batches[0, :HORIZON].ravel(), minlength=task.points.shape[1]),)
    seen = centres_of(task, centres, 0)
    label = np.array(kmeans_labels(points_of(task, 0), seen))
    for j, centre in enumerate(seen):
        mean = np.average(points_of(task, 0)[label == j], axis=0, weights=weights[label == j])
        np.testing.assert_allclose(centre, mean, atol=1e-9 * np.sqrt(task.scatter[0]))
    full = Clustering(batch_size=None)
    assert limit_loss(full, task, HORIZON) is task.minimum


def test_scikit_learns_minibatch_rule_is_a_step_of_owned_now_over_so_far() -> None:
    """b_k / N_k makes a centre the mean of all points it was ever given."""
    family, task = tasks(n=1, clusters=1)
    theta, given = family.start(task), []
    for t in range(HORIZON):
        given.append(points_of(task, 0)[task.batches[0, t]])
        theta = theta + family.direction(task, theta, np.array([t])) / (t + 1)
        np.testing.assert_allclose(theta[0], np.concatenate(given).mean(axis=0), rtol=1e-9)


@pytest.mark.parametrize("factor", [1e-12, 1.0, 1e12])
def test_the_unit_of_the_points_changes_nothing(factor: float) -> None:
    data = np.random.default_rng(0).standard_normal((300, 4))
    one, other = (gym.make(ID, dataset=array, scale=0, split="test", points=40) for array in (data, factor * data))
    first, second = one.reset(seed=0)[0], other.reset(seed=0)[0]
    np.testing.assert_allclose(first, second, rtol=1e-5)


# One arithmetic


@every_case
def test_every_row_is_computed_as_if_it_were_alone(options: dict[str, Any]) -> None:
    family = Clustering(**options)
    draw = family.sample(np.random.default_rng(0), 90, HORIZON)
    task = family.complete(draw)
    rng = np.random.default_rng(1)
    t, theta = rng.integers(HORIZON + 1, size=90), some_thetas(family, task)[2]
    whole = family.evaluate(task, theta, t)
    for rows in (np.arange(1), np.arange(17, 18), np.arange(3, 41), rng.permutation(90)):
        part = family.complete(draw._make(array[rows] for array in draw))
        for mine, yours in zip(part, task, strict=True):
            assert np.array_equal(mine, yours[rows])
        for mine, yours in zip(family.evaluate(part, theta[rows], t[rows]), whole, strict=True):
            assert np.array_equal(mine, yours[rows])


@pytest.mark.parametrize("mode", list(AutoresetMode), ids=lambda mode: mode.name)
@pytest.mark.parametrize("options", [*CASES.values(), {"dataset": "iris"}, {"dataset": "china"}], ids=str)
def test_equals_single_environments(options: dict[str, Any], mode: AutoresetMode) -> None:
    assert_equal_runs({"horizon": (3, 7), **options}, n=5, mode=mode, steps=16)


def test_equals_single_environments_beyond_one_chunk() -> None:
    assert_equal_runs({"horizon": 3, "dimension": (2, 128)}, CHUNK // 640 + 5, AutoresetMode.NEXT_STEP, steps=5)


def assert_equal_runs(options: dict[str, Any], n: int, mode: AutoresetMode, steps: int) -> None:
    if isinstance(options.get("dataset"), str):
        pytest.importorskip("sklearn")
    make = functools.partial(gym.make, ID, disable_env_checker=True, **options)
    one, other = gym.make_vec(ID, n, autoreset_mode=mode, **options), SyncVectorEnv([make] * n, autoreset_mode=mode)
    rng, ended = np.random.default_rng(0), np.zeros(n, np.bool_)
    assert np.array_equal(one.reset(seed=3)[0], other.reset(seed=3)[0])
    for _ in range(steps):
        actions = rng.uniform(-1, 1, (n, 1)).astype(np.float32)
        (*mine, info), (*yours, info_too) = one.step(actions), other.step(actions)
        for left, right in zip(
            (*mine, info["loss"], info["signal"]), (*yours, info_too["loss"], info_too["signal"]), strict=True
        ):
            assert np.array_equal(left, right)
        ended = mine[2] | mine[3]
        if mode == AutoresetMode.DISABLED and ended.any():
            mask = {"reset_mask": ended}
            assert np.array_equal(one.reset(options=mask)[0], other.reset(options=dict(mask))[0])


def test_memory_of_many_rows() -> None:
    pool = TaskPool(Clustering(), 1024, (50, 50), first_step_decades=(0.0, 2.0))
    for row in range(2):
        pool.seed(row, row)
    pool.take(np.arange(2))
    assert pool._store.nbytes < 400e6


# Real data


@pytest.mark.parametrize("name", DATA)
def test_tasks_of_a_split_are_made_of_its_rows_alone(name: str) -> None:
    pytest.importorskip("sklearn")
    data, _ = load_points(name)
    numbered = np.stack([np.arange(len(data)), np.zeros(len(data))], axis=1)
    held: dict[str, set[int]] = {}
    for split in ROW_SPLITS:
        source = Clustering(dataset=numbered, split=split)._source
        spread = numbered[split_rows(len(data), "train"), 0]
        rows = np.round(source.data[:, 0] * spread.std() + spread.mean()).astype(int)
        held[split] = set(rows.tolist())
        assert held[split] == set(split_rows(len(data), split).tolist())
        assert source.points == min(200, -(-3 * len(rows) // 4))
        draw = source.draw(np.random.default_rng(0), 8, HORIZON)
        assert all(len({*row}) == source.points for row in draw.rows.tolist())
    assert not any(held[one] & held[other] for one, other in itertools.combinations(ROW_SPLITS, 2))


@pytest.mark.parametrize("split", ROW_SPLITS)
@pytest.mark.parametrize("name", DATA)
def test_data_sets_play(name: str, split: str) -> None:
    pytest.importorskip("sklearn")
    env = gym.make(ID, dataset=name, split=split, horizon=3)
    check_env(env.unwrapped, skip_render_check=True)


def test_data_are_standardised_by_the_training_rows_and_images_are_not() -> None:
    pytest.importorskip("sklearn")
    data = Clustering(dataset="wine")._source.data
    np.testing.assert_allclose(data.mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(data.std(axis=0), 1.0)
    assert abs(Clustering(dataset="wine", split="test")._source.data.mean(axis=0)).max() > 1e-3
    pixels = Clustering(dataset="flower")._source.data
    assert pixels.min() >= 0.0
    assert pixels.max() <= 1.0
    assert pixels.shape[1] == 3


@pytest.mark.parametrize(
    ("missing", "dataset", "named"),
    [
        ("sklearn", "iris", r"iris.*scikit-learn.*pip install .*\[data\]"),
        ("sklearn", "china", r"china.*scikit-learn.*pip install .*\[data\]"),
        ("PIL", "china", r"china.*Pillow.*pip install .*\[data\]"),
    ],
)
def test_a_missing_library_is_named(monkeypatch: Any, missing: str, dataset: str, named: str) -> None:
    pytest.importorskip("sklearn")
    monkeypatch.setitem(__import__("sys").modules, missing, None)
    with pytest.raises(ImportError, match=named):
        gym.make(ID, dataset=dataset)


# Bad input

SQUARE = np.arange(40.0).reshape(20, 2)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"clusters": 0}, "clusters.*>= 1.*0"),
        ({"clusters": (5, 2)}, "clusters"),
        ({"clusters": 2.5}, "clusters"),
        ({"clusters": 201}, "clusters is at most 200.*201"),
        ({"clusters": (2, 7), "points": 6}, "clusters is at most 6.*7"),
        ({"points": 0}, "points.*0"),
        ({"dimension": 0}, "dimension.*0"),
        ({"batch_size": 0}, "batch_size.*>= 1.*0"),
        ({"batch_size": 2.5}, "batch_size"),
        ({"restarts": 0}, "restarts.*0"),
        ({"init": "first"}, "init is one of random, k-means.*first"),
        ({"split": "holdout"}, "split"),
        ({"separation": -1.0}, "separation"),
        ({"separation": (0, 1)}, "separation"),
        ({"separation": float("nan")}, "separation"),
        ({"separation": 1e200}, "separation"),
        ({"imbalance": 0.5}, "imbalance"),
        ({"spread": 0.5}, "spread"),
        ({"outliers": 1.5}, "outliers"),
        ({"scale": -1}, "scale"),
        ({"scale": 200}, "scale.*decades from 0 to 30.*200"),
        ({"scale": (3, 0)}, "scale"),
        ({"dataset": "moons"}, "iris, wine, digits, breast_cancer, china, flower.*moons"),
        ({"dataset": np.zeros(5)}, r"\(5,\)"),
        ({"dataset": np.zeros((5, 0))}, r"\(5, 0\)"),
        ({"dataset": np.zeros((1, 2))}, "at least 2 rows.*1"),
        ({"dataset": np.full((9, 2), np.nan)}, "finite.*row 0.*nan"),
        ({"dataset": np.full((9, 2), 1e200)}, "row 0"),
        ({"dataset": SQUARE, "clusters": 2, "dimension": 3}, "dimension is at most 2.*3"),
        ({"dataset": SQUARE, "clusters": 2, "points": 13}, "points is at most 12.*train.*13"),
        ({"dataset": SQUARE, "clusters": 10}, "clusters is at most 9.*10"),
        ({"dataset": SQUARE, "split": "test"}, "clusters is at most 3"),
        ({"dataset": SQUARE[:4], "split": "test"}, "rows; it needs 2"),
        ({"dataset": SQUARE, "separation": 3.0}, "data set.*separation"),
        ({"dataset": SQUARE, "imbalance": 3.0}, "data set.*imbalance"),
        ({"dataset": SQUARE, "spread": 2.0}, "data set.*spread"),
        ({"dataset": SQUARE, "outliers": 0.0}, "data set.*outliers"),
    ],
)
def test_what_cannot_be_honoured_is_refused(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        gym.make(ID, **options)


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(TypeError, match="centres"):
        gym.make(ID, centres=3)


@pytest.mark.parametrize(
    "options", [{}, {"separation": 0, "clusters": 5}, {"clusters": (10, 20)}, {"init": "k-means++"}], ids=str
)
def test_lloyds_algorithm_from_the_start_never_ends_below_the_reference(options: dict[str, Any]) -> None:
    family, task = tasks(n=150, batch_size=None, **options)
    engine = Engine.start(family, task, 100)
    for _ in range(100):
        engine.advance(np.ones(150))
    assert (engine.gap_ratio >= -1e-12).all()
    assert (engine.gap_ratio < 1e-12).any()  # some starts lead to the best known


def test_the_imbalance_is_that_of_the_extreme_clusters() -> None:
    options = {
        "clusters": (2, 4),
        "imbalance": 6.0,
        "separation": 100.0,
        "outliers": 0.0,
        "points": 3000,
        "spread": 1.0,
    }
    _, task = tasks(n=30, batch_size=None, **options)
    ratios = []
    for row in range(30):
        centres = centres_of(task, task.optimum, row)
        points = points_of(task, row)
        nearest = ((points[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
        counts = np.bincount(nearest, minlength=len(centres))
        ratios.append(counts.max() / counts.min())
    assert np.median(ratios) == pytest.approx(6.0, rel=0.1)
