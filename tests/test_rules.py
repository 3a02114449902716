"""Rules: each against a plain loop or a closed form, on every option of its families, and the known answers."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytest

from metalearn_env import knowledge
from metalearn_env.engine import Engine
from metalearn_env.families import make_family
from metalearn_env.limits import conjugate_gradient, ritz_values
from metalearn_env.pool import draw_tasks
from metalearn_env.risk import expected_gaps
from metalearn_env.rules import RULES, quotient, rule, rules_of
from metalearn_env.rules.schedules import schedule
from metalearn_env.rules.spectral import best_schedule, fractal_order
from metalearn_env.scoring import TaskSet, charged_rollout, final_log_gap, rollout
from metalearn_env.scoring.statistics import interquartile_mean

HORIZON = 12
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "LinearRegression": [
        {},
        {"batch_size": 3, "dimension": (1, 9)},
        {"batch_size": 1, "tails": "heavy"},
        {"spectrum": "bimodal"},
        {"dimension": 1, "noise": 0, "conditioning": 1, "spectrum": "log-uniform"},
        {"dimension": (1, 3), "noise": 0},
        {"scale": 30.0},
        {"dataset": "diabetes"},
        {"dataset": "linnerud", "batch_size": 2},
    ],
    "Clustering": [
        {},
        {"batch_size": None},
        {"batch_size": 1},
        {"clusters": 1, "dimension": 1},
        {"clusters": 4, "points": 4},
        {"outliers": 0, "separation": 0},
        {"separation": 1e6, "scale": 30.0},
        {"init": "k-means++"},
        {"dataset": "iris"},
    ],
    "QLearning": [
        {},
        {"sampling": "trajectory"},
        {"noise": 0.0, "branching": 1},
        {"sampling": "trajectory", "noise": 0.0, "discount": 0},
        {"states": 1, "actions": 1, "branching": 1},
        {"states": (2, 20), "actions": (1, 5), "branching": (1, 2)},
        {"scale": 50.0, "tails": "heavy"},
        {"mdp": "FrozenLake-v1", "sampling": "trajectory"},
    ],
    "Tracking": [{}, {"dimension": 1, "drift": 1e-9}, {"distance": 1e-9}, {"tails": "heavy", "scale": 50.0}],
}
CASES = [(family, options) for family, of_family in OPTIONS.items() for options in of_family]


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_rules_run_on_every_option_of_their_families(name: str, options: dict[str, Any]) -> None:
    """Long enough to converge, or to diverge: steps are finite and not negative, and warnings are errors."""
    if isinstance(options.get("dataset"), str):
        pytest.importorskip("sklearn")
    family = make_family(name, **options)
    task = draw_tasks(family, 0, 12, 60)
    for known in rules_of(family):
        for engine, spent in charged_rollout(family, task, 60, rule(known)):
            assert np.isfinite(engine.theta).all(), known
            moves = RULES[known].outside and (engine.t > 0).any()
            assert np.isnan(engine.step_size).any() if moves else (engine.step_size >= 0.0).all(), known
            assert (spent <= 60.0).all(), known


def test_a_rule_that_is_told_what_nobody_knows_says_so() -> None:
    family = make_family("QLearning")
    engine = Engine.start(family, draw_tasks(family, 0, 2, 5), 5)
    with pytest.raises(TypeError, match="QLearning"):
        next(rule("inverse-l")(engine))


def test_every_rule_says_what_it_is_told() -> None:
    for name in RULES:
        found = rule(name)
        text = (found.func if isinstance(found, partial) else found).__doc__
        assert text is not None, name
        assert "Told" in text, name
        if RULES[name].told == "nothing":
            assert "Told nothing" in text, name


def test_random_rules_are_repeatable() -> None:
    family, task = regression()
    for name in ("arcsine", "relaxed-line-search"):
        one, other = (final_log_gap(family, task, HORIZON, rule(name)) for _ in range(2))
        assert np.array_equal(one, other)


def test_a_quotient_is_never_far_off() -> None:
    numerator, denominator = np.array([4.0, 4.0, 4.0, 4.0]), np.array([2.0, 0.0, -1.0, 1e-300])
    assert quotient(numerator, denominator, np.full(4, 3.0)).tolist() == [2.0, 3.0, 3.0, 3.0]


# Quadratics: plain loops for one task


class Quadratic(NamedTuple):
    """One problem, and all there is to know of it."""

    hessian: np.ndarray
    optimum: np.ndarray
    minimum: float

    @property
    def start(self) -> np.ndarray:
        return np.zeros_like(self.optimum)

    def loss(self, x: np.ndarray) -> float:
        return float(self.minimum + 0.5 * (x - self.optimum) @ self.gradient(x))

    def gradient(self, x: np.ndarray) -> np.ndarray:
        return self.hessian @ (x - self.optimum)

    def cauchy(self, x: np.ndarray) -> float:
        g = self.gradient(x)
        return float(g @ g / (g @ self.hessian @ g))

    @property
    def unit(self) -> float:
        g = self.gradient(self.start)
        return self.loss(self.start) / float(g @ g)

    @property
    def extremes(self) -> tuple[float, float]:
        eigenvalues = np.linalg.eigvalsh(self.hessian)
        return float(eigenvalues[0]), float(eigenvalues[-1])


def regression(n: int = 4, horizon: int = HORIZON, **options: Any) -> tuple[Any, Any]:
    settings = {"spectrum": "gaussian", "dimension": 6, "examples_per_parameter": 2.0, "scale": 1, **options}
    family = make_family("LinearRegression", **settings)
    return family, draw_tasks(family, 3, n, horizon)


def quadratic(task: Any, row: int) -> Quadratic:
    factor = np.diag(task.diagonal[row]) + np.diag(task.superdiagonal[row], 1)
    return Quadratic(factor.T @ factor, task.optimum[row], task.minimum[row])


Path = Iterator[np.ndarray]


def by_steps(choose: Callable[..., float]) -> Callable[[Quadratic], Path]:
    """Return the path of gradient descent whose step is chosen from all points and gradients so far."""

    def path(problem: Quadratic) -> Path:
        xs, gs, hs = [problem.start], [problem.gradient(problem.start)], []
        while True:
            hs.append(choose(problem, xs, gs, hs))
            xs.append(xs[-1] - hs[-1] * gs[-1])
            gs.append(problem.gradient(xs[-1]))
            yield xs[-1]

    return path


def secants(xs: list[np.ndarray], gs: list[np.ndarray], back: int = 1) -> tuple[float, float]:
    """Return BB1 and BB2 of the last step, or of one before."""
    last = len(xs) - back
    s, y = xs[last] - xs[last - 1], gs[last] - gs[last - 1]
    return float(s @ s / (s @ y)), float(s @ y / (y @ y))


def plain_abb_min(p: Quadratic, xs: list[Any], gs: list[Any], hs: list[float]) -> float:
    if not hs:
        return p.unit
    long, short = secants(xs, gs)
    known = [secants(xs, gs, back)[1] for back in range(1, min(len(hs), 10) + 1)]
    return min(known) if short / long < 0.8 else long


def plain_adaptive(p: Quadratic, xs: list[Any], gs: list[Any], hs: list[float]) -> float:
    if not hs:
        return p.unit
    s, y = xs[-1] - xs[-2], gs[-1] - gs[-2]
    growth = np.inf if len(hs) == 1 else hs[-1] / hs[-2]
    return float(min(np.sqrt(1 + growth) * hs[-1], np.linalg.norm(s) / (2 * np.linalg.norm(y))))


def plain_hypergradient(p: Quadratic, xs: list[Any], gs: list[Any], hs: list[float]) -> float:
    if not hs:
        return p.unit
    cosine = gs[-1] @ gs[-2] / np.linalg.norm(gs[-1]) / np.linalg.norm(gs[-2])
    return float(hs[-1] * (1 + 0.5 * cosine))


def plain_dog(p: Quadratic, xs: list[Any], gs: list[Any], hs: list[float]) -> float:
    distance = max([1e-6, *(np.linalg.norm(x - xs[0]) for x in xs)])
    return float(distance / np.sqrt(sum(g @ g for g in gs)))


def plain_chebyshev(p: Quadratic, xs: list[Any], gs: list[Any], hs: list[float]) -> float:
    mu, L = p.extremes
    k = [1, 12, 6, 7, 3, 10, 4, 9, 2, 11, 5, 8][len(hs)]  # of 3: 1, 3, 2; of 6: 1, 6, 3, 4, 2, 5
    return 1 / ((L + mu) / 2 + (L - mu) / 2 * np.cos((2 * k - 1) * np.pi / 24))


def plain_silver(p: Quadratic, xs: list[Any], gs: list[Any], hs: list[float]) -> float:
    t = len(hs) + 1
    twos = next(power for power in range(10) if t % 2 ** (power + 1))
    return (1 + (1 + np.sqrt(2)) ** (twos - 1)) / p.extremes[1]


def plain_nlms(p: Quadratic, xs: list[Any], gs: list[Any], hs: list[float]) -> float:
    return 0.3 / float(np.trace(p.hessian))


def plain_heavy_ball(p: Quadratic) -> Path:
    before, x, (mu, L) = p.start, p.start, p.extremes
    kappa = L / mu
    while True:
        momentum = ((kappa**0.5 - 1) / (kappa**0.5 + 1)) ** 2 * (x - before)
        before, x = x, x - 4 / (L**0.5 + mu**0.5) ** 2 * p.gradient(x) + momentum
        yield x


def plain_nesterov(p: Quadratic) -> Path:
    x, y, (mu, L) = p.start, p.start, p.extremes
    kappa = L / mu
    for t in range(HORIZON):
        before, x = x, y - p.gradient(y) / L
        y = x + (kappa**0.5 - 1) / (kappa**0.5 + 1) * (x - before)
        yield y if t < HORIZON - 1 else x


def plain_conjugate_gradients(p: Quadratic) -> Path:
    x, r = p.start, -p.gradient(p.start)
    d = r
    for _ in range(5):
        step = r @ r / (d @ p.hessian @ d)
        x, after = x + step * d, r - step * p.hessian @ d
        d, r = after + after @ after / (r @ r) * d, after
        yield x


def plain_idbd(p: Quadratic) -> Path:
    """Sutton's loop, coordinate by coordinate."""
    x, first = p.start, p.loss(p.start)
    beta, trace = np.full(len(x), np.log(0.1 * p.unit)), np.zeros(len(x))
    while True:
        d = -p.gradient(x)
        for i in range(len(x)):
            beta[i] += np.clip(0.01 / first * d[i] * trace[i], -1, 1)
            a = np.exp(beta[i])
            x = x.copy()
            x[i] += a * d[i]
            trace[i] = trace[i] * max(0, 1 - a * p.hessian[i, i]) + a * d[i]
        yield x


PLAIN: dict[str, Callable[[Quadratic], Path]] = {
    "exact-line-search": by_steps(lambda p, xs, gs, hs: p.cauchy(xs[-1])),
    "bb1": by_steps(lambda p, xs, gs, hs: secants(xs, gs)[0] if hs else p.unit),
    "bb2": by_steps(lambda p, xs, gs, hs: secants(xs, gs)[1] if hs else p.unit),
    "abb-min": by_steps(plain_abb_min),
    "polyak": by_steps(lambda p, xs, gs, hs: (p.loss(xs[-1]) - p.minimum) / (gs[-1] @ gs[-1])),
    "sps": by_steps(lambda p, xs, gs, hs: 2 * p.loss(xs[-1]) / (gs[-1] @ gs[-1])),
    "adaptive-gd": by_steps(plain_adaptive),
    "hypergradient": by_steps(plain_hypergradient),
    "dog": by_steps(plain_dog),
    "adagrad-norm": by_steps(
        lambda p, xs, gs, hs: p.unit * np.linalg.norm(gs[0]) / np.sqrt(sum(g @ g for g in gs)),
    ),
    "inverse-l": by_steps(lambda p, xs, gs, hs: 1 / p.extremes[1]),
    "silver": by_steps(plain_silver),
    "chebyshev": by_steps(plain_chebyshev),
    "nlms": by_steps(plain_nlms),
    "heavy-ball": plain_heavy_ball,
    "nesterov": plain_nesterov,
    "conjugate-gradients": plain_conjugate_gradients,
    "idbd": plain_idbd,
}


@pytest.mark.parametrize("name", PLAIN)
def test_rules_are_their_plain_loops(name: str) -> None:
    family, task = regression()
    thetas = [engine.theta.copy() for engine in rollout(family, task, HORIZON, rule(name))]
    for row in range(4):
        problem = quadratic(task, row)
        for theta, x in zip(thetas[1:], PLAIN[name](problem), strict=False):
            if name != "dog":
                assert theta[row] == pytest.approx(x, rel=1e-5, abs=1e-6 * np.abs(problem.optimum).max())
            else:
                assert theta[row] == pytest.approx(x, rel=1e-6, abs=0)


def test_armijo_is_its_plain_loop_and_is_charged() -> None:
    family, task = regression(horizon=40)
    runs = [
        (engine.theta.copy(), engine.t.copy(), spent)
        for engine, spent in charged_rollout(family, task, 40, rule("armijo"))
    ]
    for row in range(4):
        problem = quadratic(task, row)
        x, step, spent = problem.start, 0.5 * problem.unit, 0
        for theta, _, charged in runs[1:]:
            g, step, trials = problem.gradient(x), 2 * step, 1
            while problem.loss(x - step * g) > problem.loss(x) - 0.5 * step * g @ g:
                step, trials = step / 2, trials + 1
            if spent + trials + 1 > 40:
                break
            x, spent = x - step * g, spent + trials + 1
            assert theta[row] == pytest.approx(x, rel=1e-6, abs=1e-9)
            assert charged[row] == spent
        assert runs[-1][2][row] == spent
        assert 2 * runs[-1][1][row] <= spent <= 40


def test_armijo_takes_the_tenth_halving_as_it_is() -> None:
    family, task = regression(n=2)
    engine = Engine.start(family, task, HORIZON)
    engine.step_size[0] *= 1e9
    chosen = next(rule("armijo")(engine))
    assert chosen.evaluations[0] == 10.0
    assert chosen.step[0] == engine.step_size[0] / 1024.0


def test_random_steps_have_the_laws_of_their_rules() -> None:
    """Over 20000 copies of a task."""
    family, one = regression(n=1, noise=0)
    task = one._make(np.repeat(array, 20_000, axis=0) for array in one)
    engine, problem = Engine.start(family, task, 1), quadratic(one, 0)
    mu, L = problem.extremes
    relaxed = next(rule("relaxed-line-search")(engine)) / problem.cauchy(problem.start)
    assert np.quantile(relaxed, [0.1, 0.5, 0.9]) == pytest.approx([0.2, 1.0, 1.8], abs=0.03)
    angle = np.arccos(np.clip((2 / next(rule("arcsine")(engine)) - L - mu) / (L - mu), -1, 1)) / np.pi
    assert np.quantile(angle, [0.1, 0.5, 0.9]) == pytest.approx([0.1, 0.5, 0.9], abs=0.02)


# Known answers


def test_arcsine_steps_shrink_all_eigendirections_alike() -> None:
    """The mean of log|1 - lambda h| is the same for every lambda, and is Chebyshev's rate."""
    family, one = regression(n=1, spectrum="log-uniform", conditioning=30, examples_per_parameter=1.5, noise=0)
    task = one._make(np.repeat(array, 40_000, axis=0) for array in one)
    engine = Engine.start(family, task, 1)
    step = next(rule("arcsine")(engine))
    mu, L = quadratic(one, 0).extremes
    expected = np.log((L**0.5 - mu**0.5) / (L**0.5 + mu**0.5))
    for eigenvalue in np.linalg.eigvalsh(quadratic(one, 0).hessian):
        logs = np.log(np.abs(1 - eigenvalue * step))
        assert logs.mean() == pytest.approx(expected, abs=5 * logs.std() / 200)


@pytest.mark.parametrize("horizon", [1, 2, 4, 7, 8, 12, 20])
def test_chebyshev_steps_are_the_minimax_schedule(horizon: int) -> None:
    """The largest factor left of any eigenvalue in [mu, L] is 1 / T_T((L + mu) / (L - mu)), in any order."""
    family, task = regression(n=1, horizon=horizon)
    engine = Engine.start(family, task, horizon)
    mu, L = quadratic(task, 0).extremes
    steps = np.array([step[0] for step in rule("chebyshev")(engine)])
    eigenvalues = np.linspace(mu, L, 2001)
    left = np.prod(1 - np.outer(eigenvalues, steps), axis=1)
    assert np.abs(left).max() == pytest.approx(1 / np.cosh(horizon * np.arccosh((L + mu) / (L - mu))), rel=1e-6)


@pytest.mark.parametrize("horizon", [1, 5, 12, 40, 64, 100])
def test_the_fractal_order_is_a_permutation_that_does_not_explode(horizon: int) -> None:
    order = fractal_order(horizon)
    assert sorted(order) == list(range(1, horizon + 1))
    kappa, eigenvalues = 1e4, np.linspace(1e-4, 1.0, 500)
    node = np.cos((2 * order - 1) * np.pi / (2 * horizon))
    steps = 2 / (1 + 1 / kappa + (1 - 1 / kappa) * node)
    product = np.cumprod(1 - np.outer(steps, eigenvalues), axis=0)
    ordered = np.cumprod(1 - np.outer(np.sort(steps)[::-1], eigenvalues), axis=0)
    assert np.abs(product).max() < 1e4
    assert horizon < 40 or np.abs(ordered).max() > 1e6


def test_silver_steps_of_a_quadratic_are_faster_than_one_over_l() -> None:
    family, task = regression(n=100, spectrum="log-uniform", conditioning=1e3, examples_per_parameter=1.5, horizon=31)
    silver, plain = (final_log_gap(family, task, 31, rule(name)) for name in ("silver", "inverse-l"))
    assert np.mean(silver < plain) > 0.9


def test_stochastic_polyak_is_normalised_lms_for_one_example_a_step() -> None:
    family, task = regression(batch_size=1)
    one = [engine.theta.copy() for engine in rollout(family, task, HORIZON, rule("sps"))]
    other = [engine.theta.copy() for engine in rollout(family, task, HORIZON, partial(rule("nlms"), part=1.0))]
    assert np.array(one) == pytest.approx(np.array(other), rel=1e-6, abs=1e-9)


def test_normalised_lms_is_told_the_mean_over_the_minibatch() -> None:
    family, task = regression(batch_size=3)
    squares = (task.inputs[:, 0] ** 2).sum(axis=2)
    assert next(rule("nlms")(Engine.start(family, task, HORIZON))) == pytest.approx(0.3 / squares.mean(axis=1))


def test_one_dimension_is_solved_by_whoever_knows_its_curvature() -> None:
    family, task = regression(dimension=1, noise=0)
    known = ("exact-line-search", "dai-yuan", "inverse-l", "chebyshev", "conjugate-gradients")
    for found in (best_schedule, *map(rule, known)):
        *_, engine = rollout(family, task, 1, found)
        assert (np.abs(engine.gap_ratio) < 1e-20).all(), found


def test_one_step_of_the_best_schedule_is_cauchys() -> None:
    family, task = regression(horizon=1)
    engine = Engine.start(family, task, 1)
    cauchy = [quadratic(task, row).cauchy(np.zeros(6)) for row in range(4)]
    assert next(best_schedule(engine)) == pytest.approx(cauchy)


def test_conjugate_gradients_reach_the_limit() -> None:
    family, task = regression(n=20, horizon=5)
    *_, engine = rollout(family, task, 5, rule("conjugate-gradients"))
    assert engine.theta == pytest.approx(conjugate_gradient(task, family.start(task), 5), abs=1e-6)


@pytest.mark.parametrize("horizon", [1, 3, 5, 9])
def test_inverse_ritz_values_are_a_schedule_that_reaches_the_limit(horizon: int) -> None:
    """Also where the Krylov space ends before the horizon does."""
    family, task = regression(n=20, horizon=horizon, noise=0)
    *_, engine = rollout(family, task, horizon, best_schedule)
    assert engine.theta == pytest.approx(conjugate_gradient(task, family.start(task), horizon), abs=1e-5)
    ritz = ritz_values(task, family.start(task), horizon)
    assert ((ritz > 0).sum(axis=0) == min(horizon, 6)).all()
    for row in range(20):
        mu, L = quadratic(task, row).extremes
        assert (ritz[ritz[:, row] > 0, row] <= L * (1 + 1e-9)).all()
        assert (ritz[ritz[:, row] > 0, row] >= mu * (1 - 1e-6)).all()


# Streams


def test_the_risk_recursion_is_the_mean_of_the_engine() -> None:
    """4000 streams of one problem, at its every step."""
    family, draws = regression(n=4000, horizon=15, batch_size=2, noise=0.5, scale=0)
    problem = quadratic(draws, 0)
    root = np.linalg.cholesky(problem.hessian).T
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal(draws.inputs.shape) @ root
    noise = np.sqrt(2 * problem.minimum) * rng.standard_normal(draws.targets.shape)
    task = draws._make(np.repeat(array[:1], 4000, axis=0) for array in draws)
    task = task._replace(inputs=inputs, targets=inputs @ problem.optimum + noise)
    engine = Engine.start(family, task, 15)
    steps = np.linspace(0.4, 0.1, 15) / problem.extremes[1]
    expected = expected_gaps(knowledge.risk(family, task), np.tile(steps[:, None], 4000))[:, 0]
    for t, step in enumerate(steps):
        engine.advance(np.full(4000, step))
        gap = engine.loss - engine.reference
        assert gap.mean() == pytest.approx(expected[t + 1], abs=4 * gap.std() / 4000**0.5)
        assert 4 * gap.std() / 4000**0.5 < 0.2 * expected[t + 1]


def test_isotropic_lms_is_the_exact_optimum() -> None:
    """On inputs of equal variance it is the schedule of least risk, greedy steps being best there."""
    family, task = regression(n=6, horizon=30, spectrum="log-uniform", conditioning=1, batch_size=2)
    task = task._replace(optimum=np.ones_like(task.optimum))  # so that E, the mean over optima, is the task's own
    engine = Engine.start(family, task, 30)
    steps = np.array([step for step, _ in zip(rule("isotropic-lms")(engine), range(30), strict=False)])
    assert steps == pytest.approx(np.array(list(best_schedule(engine))), rel=1e-6)


def test_the_best_schedule_beats_all_constants_on_streams() -> None:
    task_set = TaskSet(
        "MetaLearn/LinearRegression-v0", tasks=60, env_kwargs={"batch_size": 2, "dimension": 10, "horizon": 60}
    )
    gaps = final_log_gap(task_set.family, task_set.task, 60, best_schedule)
    assert interquartile_mean(task_set.scores(gaps)) > 0.1


# Clustering


@pytest.mark.parametrize("options", [{}, {"batch_size": 6, "clusters": 6}, {"dataset": "iris"}], ids=str)
def test_mini_batch_k_means_is_scikit_learns(options: dict[str, Any]) -> None:
    """Step by step, from the same centres, on the same batches, without reassignments."""
    cluster = pytest.importorskip("sklearn.cluster")
    family = make_family("Clustering", scale=0, **options)
    task = draw_tasks(family, 0, 5, 20)
    present = task.barrier == 0
    theirs = []
    for row in range(5):
        first = task.first[row].reshape(*present.shape[1:], -1)[present[row]]
        settings = {"init": first, "n_init": 1, "reassignment_ratio": 0.0, "batch_size": task.batches.shape[2]}
        theirs.append(cluster.MiniBatchKMeans(len(first), **settings))
    engines = rollout(family, task, 20, rule("mini-batch-k-means"))
    next(engines)
    for t, engine in enumerate(engines):
        for row, model in enumerate(theirs):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model.partial_fit(task.points[row, task.batches[row, t], :-2])
            centres = engine.theta[row].reshape(*present.shape[1:], -1)[present[row]]
            np.testing.assert_allclose(centres, model.cluster_centers_, rtol=0, atol=1e-9)


def plain_rates(name: str, owned: list[int], seen: int, history: list[list[int]]) -> list[float]:
    if name == "root-of-share":
        return [np.sqrt(b / seen) for b in owned]
    return [1 / max(1, sum(before[j] > 0 for before in history)) for j in range(len(owned))]


@pytest.mark.parametrize("batch_size", [None, 7])
@pytest.mark.parametrize("name", ["root-of-share", "one-over-updates"])
def test_rates_of_centres_are_their_plain_loops(name: str, batch_size: int | None) -> None:
    family = make_family("Clustering", scale=0, batch_size=batch_size)
    task = draw_tasks(family, 0, 5, HORIZON)
    thetas = [engine.theta.copy() for engine in rollout(family, task, HORIZON, rule(name))]
    for row in range(5):
        centres, history = task.first[row].reshape(task.barrier.shape[1], -1).copy(), []
        k = int((task.barrier[row] == 0).sum())
        for t in range(HORIZON):
            points = task.points[row, :, :-2] if batch_size is None else task.points[row, task.batches[row, t], :-2]
            owner = ((points[:, None] - centres[:k]) ** 2).sum(axis=2).argmin(axis=1)
            history.append([int((owner == j).sum()) for j in range(k)])
            for j, rate in enumerate(plain_rates(name, history[-1], len(points), history)):
                if history[-1][j]:
                    centres[j] += rate * (points[owner == j].mean(axis=0) - centres[j])
            np.testing.assert_allclose(thetas[t + 1][row], centres.ravel(), atol=1e-9)


def test_lloyd_on_minibatches_is_a_step_of_one_on_all_points() -> None:
    family, full = make_family("Clustering"), make_family("Clustering", batch_size=None)
    task = draw_tasks(family, 0, 20, HORIZON)
    for name, part in (("lloyd", 1.0), ("over-relaxed-lloyd", 1.4)):
        *_, engine = rollout(family, task, HORIZON, rule(name))
        *_, other = rollout(full, task, HORIZON, schedule(np.full(HORIZON, part)))
        assert engine.theta == pytest.approx(other.theta, rel=1e-9, abs=1e-9)


def test_linear_decay_begins_at_three_fifths() -> None:
    family = make_family("Clustering")
    task = draw_tasks(family, 0, 3, 10)
    taken = [float(engine.step_size[0]) for engine in rollout(family, task, 10, rule("linear-decay"))][1:]
    assert taken == pytest.approx([0.6 * (1 - t / 10) for t in range(10)])


# Q-learning


class Updates(NamedTuple):
    """What a plain learner of one task meets at a step: the pair, and the target of its entry for any table."""

    pair: int
    target: Callable[[np.ndarray], float]


def plain_updates(family: Any, task: Any, row: int, t: int, theta: np.ndarray) -> list[Updates]:
    alone, states = task._make(array[row : row + 1] for array in task), task.start.shape[1]
    next_state, reward = family.transitions(alone, np.array([t]))

    def target(pair: int, table: np.ndarray) -> float:
        s = int(next_state[0, pair])
        best = 0.0 if s == states else max(table[a * states + s] for a in range(int(task.actions[row])))
        return float(reward[0, pair] + task.discount[row] * best)

    if not family.num_carried:
        return [Updates(pair, partial(target, pair)) for pair in range(task.optimum.shape[1])]
    pair = int(family.visit(alone, theta[None], np.array([t])).pair[0])
    return [Updates(pair, partial(target, pair))]


class Entry:
    """What is remembered of an entry of the table."""

    def __init__(self) -> None:
        self.n, self.nu, self.bias, self.square, self.spread, self.mean = 0, 1.0, 0.0, 0.0, 0.0, 0.0

    def bakf(self, error: float) -> float:
        if self.n > 1:
            self.nu = self.nu / (1 + self.nu - 0.05)
        self.bias = (1 - self.nu) * self.bias + self.nu * error
        self.square = (1 - self.nu) * self.square + self.nu * error**2
        noise = (self.square - self.bias**2) / (1 + self.spread)
        step = 1 / self.n if self.n <= 2 else 1 - noise / self.square
        self.spread = (1 - step) ** 2 * self.spread + step**2
        return step * error


RATES: dict[str, Callable[[int, float], float]] = {
    "one-over-visits": lambda n, gamma: 1 / n,
    "polynomial": lambda n, gamma: n**-0.8,
    "wainwright": lambda n, gamma: 1 / (1 + (1 - gamma) * n),
    "harmonic": lambda n, gamma: 10 / (10 + n - 1),
}


@pytest.mark.parametrize("sampling", ["synchronous", "trajectory"])
@pytest.mark.parametrize("name", [*RATES, "bakf", "speedy-q"])
def test_rules_of_q_learning_are_their_plain_loops(name: str, sampling: str) -> None:
    family = make_family("QLearning", sampling=sampling, states=4, actions=2, branching=2, scale=0)
    horizon = 30
    task = draw_tasks(family, 0, 3, horizon)
    thetas = [engine.theta.copy() for engine in rollout(family, task, horizon, rule(name))]
    for row in range(3):
        table, before = np.zeros(8), np.zeros(8)
        entries = [Entry() for _ in range(8)]
        for t in range(horizon):
            here = thetas[t][row]
            then = np.append(before, here[8:])
            of_before = {update.pair for update in plain_updates(family, task, row, t, then)}
            old, old_before = table.copy(), before.copy()
            for pair, target in plain_updates(family, task, row, t, here):
                entry, error = entries[pair], target(old) - old[pair]
                entry.n += 1
                if name == "bakf":
                    table[pair] += entry.bakf(error)
                elif name == "speedy-q":
                    a, T_before = 1 / entry.n, target(old_before)
                    speedy = a * (T_before - old[pair]) + (1 - a) * (target(old) - T_before)
                    table[pair] += speedy if pair in of_before else a * error
                else:
                    table[pair] += RATES[name](entry.n, task.discount[row]) * error
                before[pair] = old[pair]
            np.testing.assert_allclose(thetas[t + 1][row, :8], table, rtol=1e-6, atol=1e-9)


def test_one_over_n_is_the_mean_where_there_is_nothing_to_look_ahead_to() -> None:
    """Without discounted futures, 1/n averages rewards, which nothing beats on stationary noise."""
    family = make_family("QLearning", states=1, actions=2, branching=1, discount=0, noise=1.0, scale=0)
    task = draw_tasks(family, 0, 10, 25)
    *_, engine = rollout(family, task, 25, rule("one-over-visits"))
    seen = np.mean([family.transitions(task, np.full(10, t))[1] for t in range(25)], axis=0)
    assert engine.theta == pytest.approx(seen)


def test_rmsprop_is_its_plain_loop() -> None:
    family = make_family("QLearning", scale=0, rewarded=1.0, states=4, actions=2, branching=2)
    engine, square, unit = Engine.start(family, draw_tasks(family, 0, 5, 10), 10), 0.0, 0.0
    for t, move in zip(range(1, 11), rule("rmsprop")(engine), strict=False):
        error = engine.direction
        square = 0.99 * square + 0.01 * error**2
        unit = np.maximum(unit, np.sqrt((error**2).mean(axis=1, keepdims=True)))
        assert move == pytest.approx(0.1 * unit * error / np.sqrt(square / (1 - 0.99**t)))
        engine.advance(move)
