"""Q-learning: known answers, exact values, given processes, and what is refused."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from metalearn_env.engine import CHUNK, Engine
from metalearn_env.families.q_learning import QLearning
from metalearn_env.limits import certainty_equivalence, limit_loss
from metalearn_env.markov import greedy_policy, greedy_values
from metalearn_env.pool import draw_tasks
from metalearn_env.processes import TabularTask
from metalearn_env.tails import NOISE_LEVELS
from metalearn_env.testing import check_family

ID = "MetaLearn/QLearning-v0"
# Gymnasium below 1.2 has these in their earlier versions, and no slippery cliff.
CLIFF = "CliffWalking-v1" if "CliffWalking-v1" in gym.registry else "CliffWalking-v0"
SLIPPERY_CLIFF = "CliffWalkingSlippery-v1" if "CliffWalkingSlippery-v1" in gym.registry else CLIFF
TAXI = "Taxi-v4" if "Taxi-v4" in gym.registry else "Taxi-v3"
SLIPPERY = {"mdp": "FrozenLake-v1", "discount": 0.99, "scale": 0.0, "noise": 0.0}
SIZES = {"states": (3, 9), "actions": (1, 4), "branching": (1, 3)}
OPTIONS: dict[str, dict[str, Any]] = {
    "synchronous": {},
    "trajectory": {"sampling": "trajectory"},
    "sizes": SIZES,
    "sizes, trajectory": {**SIZES, "sampling": "trajectory"},
    "endings": {**SIZES, "ending": (0.1, 0.5)},
    "endings, trajectory": {**SIZES, "ending": 0.3, "sampling": "trajectory"},
    "one state": {"states": 1, "branching": 1},
    "one pair": {"states": 1, "branching": 1, "actions": 1, "discount": 0.0},
    "lake": {"mdp": "FrozenLake-v1"},
    "lake, trajectory": {"mdp": "FrozenLake-v1", "sampling": "trajectory", "epsilon": 1.0},
    "cliff": {"mdp": CLIFF, "noise": 0.0},
    "cliff, trajectory": {"mdp": SLIPPERY_CLIFF, "sampling": "trajectory"},
}
every_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())


def dense(task: TabularTask, row: int) -> tuple[np.ndarray, np.ndarray]:
    """Return transitions (p, S) and rewards (p,) of one process, put together pair by pair."""
    states, p = task.start.shape[1], task.reward.shape[1]
    transitions = np.zeros((p, states + 1))
    for pair in range(p):
        for state, probability in zip(task.successors[row, :, pair], task.probabilities[row, :, pair], strict=True):
            transitions[pair, state] += probability
    assert np.allclose(transitions.sum(axis=1), 1.0)
    return transitions[:, :states], task.reward[row]


def bellman(task: TabularTask, row: int, q: np.ndarray) -> np.ndarray:
    """Return r + gamma P max Q of one process, for a table (p,)."""
    transitions, reward = dense(task, row)
    value = q.reshape(-1, task.start.shape[1])[: task.actions[row]].max(axis=0)
    return reward + task.discount[row] * transitions @ value


def real_pairs(task: TabularTask) -> np.ndarray:
    """Return which pairs (n, p) do anything else than to end without a reward."""
    ends = ((task.successors == task.start.shape[1]) | (task.probabilities == 0.0)).all(axis=1)
    return ~ends | (task.reward != 0.0)


def table(family: QLearning, task: TabularTask, q: np.ndarray) -> np.ndarray:
    """Return iterates with the tables ``q``, trajectories standing where they start."""
    theta = family.start(task)
    theta[:, : q.shape[1]] = q
    return theta


def times(task: TabularTask, t: int) -> np.ndarray:
    return np.full(len(task.pairs), t)


@every_option
def test_the_contract_holds(options: dict[str, Any]) -> None:
    check_family(QLearning, **options)


# Known answers


def test_without_a_future_and_without_noise_a_step_of_one_is_exact() -> None:
    family = QLearning(discount=0.0, noise=0.0)
    engine = Engine.start(family, draw_tasks(family, 0, 20, 3), 3)
    engine.advance(np.ones(20))
    assert (engine.loss <= 1e-28 * engine.initial_gap).all()


def test_without_a_future_averaging_is_optimal() -> None:
    """Steps 1 / t give the mean of the rewards seen, whose expected loss no other sequence of steps is below."""
    family = QLearning(discount=0.0, noise=0.5, scale=0.0)
    task = draw_tasks(family, 0, 400, 30)

    def final_loss(steps: Any) -> float:
        engine = Engine.start(family, task, 30)
        for t in range(1, 31):
            engine.advance(np.full(400, steps(t)))
        return float((engine.loss / task.noise_unit**2).mean())

    averaged = final_loss(lambda t: 1.0 / t)
    assert averaged == pytest.approx(0.5 * NOISE_LEVELS["normal"].spread ** 2 / 30, rel=0.05)
    rewards = np.mean([family.transitions(task, times(task, t))[1] for t in range(30)], axis=0)
    assert averaged == pytest.approx(float((family.loss(task, rewards) / task.noise_unit**2).mean()), rel=1e-9)
    for steps in (lambda t: 0.1, lambda t: 0.05, lambda t: t**-0.7, lambda t: 1.5 / (t + 1.0), lambda t: 0.5 / t):
        assert averaged < final_loss(steps)


@every_option
def test_the_optimum_solves_bellmans_equation(options: dict[str, Any]) -> None:
    family = QLearning(**options)
    task = draw_tasks(family, 1, 12, 4)
    for row in range(12):
        residual = bellman(task, row, task.optimum[row]) - task.optimum[row]
        real = np.arange(len(residual)) // task.start.shape[1] < task.actions[row]
        assert np.abs(residual[real]).max() <= 1e-11 * np.abs(task.optimum[row]).max()
    assert (family.loss(task, table(family, task, task.optimum)) == 0.0).all()


def test_policy_iteration_equals_value_iteration() -> None:
    family = QLearning(states=(4, 12), actions=(1, 5), branching=(1, 4), discount=(0.5, 0.95))
    task = draw_tasks(family, 2, 6, 1)
    for row in range(6):
        q = np.zeros(task.reward.shape[1])
        for _ in range(900):
            q = bellman(task, row, q)
        real = np.arange(len(q)) // task.start.shape[1] < task.actions[row]
        assert q[real] == pytest.approx(task.optimum[row][real], rel=1e-9, abs=1e-9 * np.abs(q).max())


@pytest.mark.parametrize("name", ["synchronous", "sizes", "lake", "cliff"])
def test_the_direction_is_bellmans_operator_in_expectation(name: str) -> None:
    horizon = 4000
    family = QLearning(**{**OPTIONS[name], "scale": 0.0, "noise": 0.3})
    task = draw_tasks(family, 3, 2, horizon)
    theta = np.random.default_rng(0).normal(size=task.optimum.shape) * real_pairs(task)
    errors = np.array([family.direction(task, theta, times(task, t)) for t in range(horizon + 1)])
    for row in range(2):
        expected = bellman(task, row, theta[row]) - theta[row]
        real = real_pairs(task)[row]
        assert real.sum() == task.pairs[row]
        spread = errors[:, row].std(axis=0) / np.sqrt(horizon)
        assert (np.abs(errors[:, row].mean(axis=0) - expected)[real] <= 5.0 * spread[real] + 1e-12).all()
        assert (errors[:, row, ~real] == 0.0).all()


def test_the_noise_is_normal_to_a_byte() -> None:
    levels = NOISE_LEVELS["normal"].levels / NOISE_LEVELS["normal"].spread
    assert levels.mean() == pytest.approx(0.0, abs=1e-12)
    assert (levels**2).mean() == pytest.approx(1.0)
    assert (levels**4).mean() == pytest.approx(3.0, rel=0.06)


def test_heavy_noise_is_students_t_to_a_byte() -> None:
    stats = pytest.importorskip("scipy.stats")
    heavy = NOISE_LEVELS["heavy"]
    quantiles = stats.t(df=2).ppf((np.arange(256) + 0.5) / 256)
    step = np.vecdot(heavy.levels, quantiles) / np.vecdot(quantiles, quantiles)
    assert np.abs(heavy.levels - step * quantiles).max() <= 0.55
    levels = heavy.levels / heavy.spread
    assert levels.mean() == pytest.approx(0.0, abs=1e-12)
    assert (levels**2).mean() == pytest.approx(1.0)
    assert (levels**4).mean() > 15.0  # 3 of a normal law


@pytest.mark.parametrize("options", [{}, {"mdp": "FrozenLake-v1"}], ids=["garnet", "lake"])
@pytest.mark.parametrize("tails", ["normal", "heavy"])
def test_the_noise_of_rewards_has_the_deviation_that_was_asked_for(tails: str, options: dict[str, Any]) -> None:
    family = QLearning(**options, noise=0.7, tails=tails, scale=0.0)
    task = draw_tasks(family, 0, 4, 4000)
    noise = task.noise_unit[:, None, None] * task.noise
    real = real_pairs(task)
    for row in range(4):
        size = np.sqrt((task.reward[row, real[row]] ** 2).mean())
        assert noise[row][:, real[row]].std() / size == pytest.approx(0.7, rel=0.02)


def test_transitions_are_drawn_with_their_probabilities() -> None:
    family = QLearning(states=5, actions=2, branching=(2, 4))
    task = draw_tasks(family, 4, 2, 20_000)
    for row in range(2):
        transitions, _ = dense(task, row)
        drawn = (task.next_state[row][:, :, None] == np.arange(5)).mean(axis=0)
        assert np.abs(drawn - transitions).max() < 5.0 * 0.5 / np.sqrt(20_000)
        assert (np.sort(task.successors[row], axis=0)[1:] != np.sort(task.successors[row], axis=0)[:-1]).any()


def test_certainty_equivalence_knows_a_deterministic_process() -> None:
    family = QLearning(branching=1, noise=0.0, scale=0.0)
    task = draw_tasks(family, 5, 10, 2)
    assert certainty_equivalence(family, task, 1) == pytest.approx(task.optimum, rel=1e-9)


def test_certainty_equivalence_of_one_pair_is_the_mean() -> None:
    family = QLearning(**{**OPTIONS["one pair"], "noise": 1.0})
    task = draw_tasks(family, 6, 10, 7)
    rewards = np.mean([family.transitions(task, times(task, t))[1] for t in range(7)], axis=0)
    assert certainty_equivalence(family, task, 7) == pytest.approx(rewards)


def test_certainty_equivalence_along_a_trajectory_knows_what_the_best_learner_visits() -> None:
    family = QLearning(sampling="trajectory", branching=1, noise=0.0, scale=0.0, states=6, actions=3)
    task = draw_tasks(family, 5, 10, 40)
    theta, visited = table(family, task, task.optimum), np.zeros((10, 18), bool)
    for t in range(40):
        visit = family.visit(task, theta, times(task, t))
        visited[np.arange(10), visit.pair] = True
        theta[:, -1] = visit.next_state
    known = certainty_equivalence(family, task, 40)[:, :18] != 0.0
    assert not visited.all()
    assert not known[~visited].any()
    assert known[visited & (task.optimum != 0.0)].mean() > 0.9


def test_the_limit_does_not_depend_on_how_many_models_are_held_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    family = QLearning(states=(2, 6), branching=2)
    task = draw_tasks(family, 0, 7, 10)
    whole = limit_loss(family, task, 10)
    monkeypatch.setattr("metalearn_env.limits.MODEL_ENTRIES", 2 * task.reward.shape[1] * (task.start.shape[1] + 1))
    assert limit_loss(family, task, 10) == pytest.approx(whole, rel=1e-12)


@every_option
def test_the_limit_is_no_worse_than_to_do_nothing(options: dict[str, Any]) -> None:
    family = QLearning(**options)
    task = draw_tasks(family, 7, 8, 20)
    assert (limit_loss(family, task, 20) <= family.loss(task, family.start(task))).all()


# Processes that are given


def value_iteration(mdp: str, discount: float, sweeps: int) -> np.ndarray:
    """Return the optimal values of a Gymnasium environment, straight from its table."""
    outcomes = gym.make(mdp).unwrapped.P
    value = np.zeros(len(outcomes))
    for _ in range(sweeps):
        value = np.array(
            [
                max(
                    sum(p * (reward + discount * value[state] * (not ends)) for p, state, reward, ends in of_pair)
                    for of_pair in of_state.values()
                )
                for of_state in outcomes.values()
            ]
        )
    return value


@pytest.mark.parametrize(
    ("mdp", "discount", "expected", "tolerance"),
    [
        ("FrozenLake-v1", 0.99, 0.5420, 5e-5),
        (CLIFF, 0.999999, -13.0, 1e-3),
        ("FrozenLake8x8-v1", 0.9, None, 0),
    ],
)
def test_optimal_values_of_gymnasium_environments(
    mdp: str, discount: float, expected: float | None, tolerance: float
) -> None:
    family = QLearning(mdp=mdp, discount=discount, scale=0.0, noise=0.0)
    task = draw_tasks(family, 0, 1, 1)
    start = int(task.start[0].argmax())
    optimal = float(task.optimum[0].reshape(-1, task.start.shape[1])[:, start].max())
    assert optimal == pytest.approx(value_iteration(mdp, discount, 2000)[start], rel=1e-6)
    assert float(task.optimal_value[0]) == optimal
    if expected is not None:
        assert optimal == pytest.approx(expected, abs=tolerance)


def test_taxi_learns_and_knows_its_states() -> None:
    pytest.importorskip("gymnasium", minversion="1.2")
    env = gym.make(ID, mdp=TAXI, split="test", horizon=30, noise=0.0)
    env.reset(seed=0)
    family, engine = env.unwrapped.session.engine.family, env.unwrapped.session.engine
    assert family.num_parameters == 3000
    assert engine.task.pairs.tolist() == [2400.0]  # the states that can be met and are not terminal
    for _ in range(30):
        *_, terminated, _, info = env.step(np.zeros(1, np.float32))
    assert terminated
    assert info["greedy_value"] == pytest.approx(info["optimal_value"])
    assert info["final_gap"] < 1e-9 * engine.initial_gap[0]


def test_arrays_are_the_process_of_the_environment_they_are_from() -> None:
    outcomes = gym.make("FrozenLake-v1").unwrapped.P
    transitions, rewards = np.zeros((2, 16, 4, 16))
    for state, of_state in outcomes.items():
        for action, of_pair in of_state.items():
            for probability, successor, reward, _ in of_pair:
                transitions[state, action, successor] += probability
                rewards[state, action, successor] = reward
    for pay in (rewards, (transitions * rewards).sum(axis=2)):
        given = draw_tasks(QLearning(**{**SLIPPERY, "mdp": (transitions, pay)}), 0, 2, 3)
        assert given.pairs.tolist() == [44.0, 44.0]  # 16 states, 4 holes and a goal
        assert given.optimum == pytest.approx(draw_tasks(QLearning(**SLIPPERY), 0, 2, 3).optimum, abs=1e-12)


def test_branches_of_garnets_end() -> None:
    """As many as were asked for, and where there are none the same processes are drawn as ever."""
    tasks = draw_tasks(QLearning(ending=(0.25, 0.25)), 0, 64, 10)
    assert (tasks.successors == 16).mean() == pytest.approx(0.25, abs=0.01)
    plain = draw_tasks(QLearning(ending=0), 0, 64, 10)
    assert (plain.successors < 16).all()
    np.testing.assert_array_equal(plain.reward, tasks.reward)
    everywhere = draw_tasks(QLearning(ending=1.0), 0, 8, 10)
    np.testing.assert_array_equal(everywhere.optimum, everywhere.reward)


def test_terminal_states_stay_at_zero_and_trajectories_start_anew() -> None:
    family = QLearning(mdp="FrozenLake-v1", sampling="trajectory", epsilon=1.0, noise=1.0, scale=0.0)
    task = draw_tasks(family, 0, 4, 300)
    engine = Engine.start(family, task, 300)
    states = []
    for _ in range(300):
        states.append(engine.theta[:, -1].copy())
        engine.advance(np.full(4, 0.1))
    terminal = (5, 7, 11, 12, 15)
    assert not np.isin(states, terminal).any()
    assert (np.array(states) == 0.0).sum() > 4 * 5
    assert (engine.theta[:, :-1].reshape(4, 4, 16)[:, :, terminal] == 0.0).all()


# What is carried along


def test_the_state_of_a_trajectory_is_not_scaled_and_not_measured() -> None:
    family = QLearning(sampling="trajectory", discount=0.9)
    task = draw_tasks(family, 0, 6, 40)
    engine = Engine.start(family, task, 40)
    for t in range(40):
        before = engine.theta.copy()
        moved = np.flatnonzero(engine.direction[0, :-1])
        assert len(moved) <= 1
        assert engine.squared_norm == pytest.approx((engine.direction[:, :-1] ** 2).sum(axis=1))
        direction = engine.direction.copy()
        engine.advance(np.full(6, 0.25))
        assert (engine.theta[:, :-1] == before[:, :-1] + 0.25 * direction[:, :-1]).all()
        assert (engine.theta[:, -1] == before[:, -1] + direction[:, -1]).all()
        assert np.isin(engine.theta[:, -1], np.arange(16)).all()
        assert engine.alignment == pytest.approx((engine.direction * direction)[:, :-1].sum(axis=1)), t


def test_greedy_trajectories_are_greedy() -> None:
    family = QLearning(sampling="trajectory", epsilon=0.0, states=6, actions=3, branching=2)
    task = draw_tasks(family, 0, 30, 5)
    theta = table(family, task, np.random.default_rng(0).normal(size=task.optimum.shape))
    visit = family.visit(task, theta, times(task, 2))
    best = greedy_policy(theta[:, :-1], task.actions, 6)[np.arange(30), visit.state]
    assert (visit.pair == best * 6 + visit.state).all()
    flat = family.visit(task, family.start(task), times(task, 2))
    assert len(set((flat.pair // 6).tolist())) == 3  # equally good actions take turns


def test_a_trajectory_sees_what_a_synchronous_learner_sees() -> None:
    family = QLearning(sampling="trajectory", mdp=SLIPPERY_CLIFF)
    task = draw_tasks(family, 0, 20, 5)
    theta = table(family, task, np.random.default_rng(0).normal(size=task.optimum.shape) * (task.optimum != 0))
    visit = family.visit(task, theta, times(task, 3))
    next_state, reward = family.transitions(task, times(task, 3))
    value = np.append(theta[:, :-1].reshape(20, 4, 48).max(axis=1), np.zeros((20, 1)), axis=1)
    row = np.arange(20)
    expected = (reward + task.discount[:, None] * np.take_along_axis(value, next_state.astype(int), 1))[row, visit.pair]
    assert visit.error == pytest.approx(expected - theta[row, visit.pair])


# The environments


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP], ids=lambda mode: mode.name)
@every_option
def test_equals_single_environments(options: dict[str, Any], mode: AutoresetMode) -> None:
    settings = {**options, "horizon": (3, 6), "action": "absolute"}
    one = gym.make_vec(ID, num_envs=5, autoreset_mode=mode, **settings)
    other = SyncVectorEnv([lambda: gym.make(ID, disable_env_checker=True, **settings)] * 5, autoreset_mode=mode)
    assert_equal_runs(one, other, steps=20)


@pytest.mark.parametrize("sampling", ["synchronous", "trajectory"])
def test_equals_single_environments_beyond_one_chunk(sampling: str) -> None:
    n = CHUNK // 64 + 5
    settings = {"sampling": sampling, "horizon": (2, 4)}
    one = gym.make_vec(ID, num_envs=n, autoreset_mode=AutoresetMode.SAME_STEP, **settings)
    other = SyncVectorEnv(
        [lambda: gym.make(ID, disable_env_checker=True, **settings)] * n, autoreset_mode=AutoresetMode.SAME_STEP
    )
    assert_equal_runs(one, other, steps=7)


def assert_equal_runs(one: Any, other: Any, steps: int) -> None:
    rng = np.random.default_rng(0)
    assert_same(one.reset(seed=3), other.reset(seed=3))
    for _ in range(steps):
        actions = rng.uniform(-1.0, 1.0, (one.num_envs, 1)).astype(np.float32)
        assert_same(one.step(actions), other.step(actions))


def assert_same(one: Any, other: Any) -> None:
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, tuple) or (isinstance(one, np.ndarray) and one.dtype == object):
        for mine, yours in zip(one, other, strict=True):
            assert_same(mine, yours)
    else:
        assert np.array_equal(one, other, equal_nan=one is not None and one.dtype.kind == "f")


def test_any_part_of_the_rows_gives_the_same_bits() -> None:
    for options in OPTIONS.values():
        family = QLearning(**options)
        draw = family.sample(np.random.default_rng(0), 9, 5)
        task = family.complete(draw)
        theta = table(family, task, np.random.default_rng(1).normal(size=task.optimum.shape))
        whole = family.evaluate(task, theta, times(task, 2))
        info = family.final_info(task, theta, np.arange(9))
        for rows in (np.array([4]), np.array([1, 2, 8])):
            part = family.complete(draw._make(array[rows] for array in draw))
            for mine, yours in zip(part, task, strict=True):
                assert np.array_equal(mine, yours[rows])
            for mine, yours in zip(family.evaluate(part, theta[rows], times(part, 2)), whole, strict=True):
                assert np.array_equal(mine, yours[rows])
            for key, value in family.final_info(task, theta, rows).items():
                assert np.array_equal(value, info[key][rows])


def test_evaluation_keeps_nothing_and_writes_to_nothing() -> None:
    family = QLearning()
    task = draw_tasks(family, 0, 4, 3)
    theta = family.start(task)
    theta.flags.writeable = False
    first = family.evaluate(task, theta, times(task, 0))
    kept = [array.copy() for array in first]
    family.evaluate(task, theta + 1.0, times(task, 1))
    assert all(np.array_equal(mine, yours) for mine, yours in zip(first, kept, strict=True))


@pytest.mark.parametrize("options", [OPTIONS["synchronous"], OPTIONS["trajectory"], OPTIONS["lake, trajectory"]])
def test_checkers_find_no_fault(options: dict[str, Any]) -> None:
    sb3 = pytest.importorskip("stable_baselines3.common.env_checker")
    check_env(gym.make(ID, **options).unwrapped, skip_render_check=True)
    sb3.check_env(gym.make(ID, **options), skip_render_check=True)


@pytest.mark.parametrize("options", [OPTIONS["sizes"], OPTIONS["lake, trajectory"]])
def test_the_value_of_the_greedy_policy_is_told_in_the_end(options: dict[str, Any]) -> None:
    env = gym.make(ID, horizon=4, split="test", **options)
    for seed in range(4):
        env.reset(seed=seed)
        for _ in range(4):
            *_, terminated, _, info = env.step(np.zeros(1, np.float32))
            assert ("greedy_value" in info) == terminated
        engine = env.unwrapped.session.engine
        task, row = engine.task, 0
        transitions, reward = dense(task, row)
        states, actions = task.start.shape[1], int(task.actions[row])
        q = engine.theta[row, : len(reward)].reshape(-1, states)[:actions]
        pair = q.argmax(axis=0) * states + np.arange(states)
        value = np.linalg.solve(np.eye(states) - task.discount[row] * transitions[pair], reward[pair])
        assert info["greedy_value"] == pytest.approx(float(task.start[row] @ value))
        assert info["greedy_value"] <= info["optimal_value"] + 1e-9 * abs(info["optimal_value"])
    best = greedy_values(task.processes, task.optimum, states)
    assert float(task.start[0] @ best[0]) == pytest.approx(info["optimal_value"])


# What is refused

CHAIN = np.zeros((3, 2, 3))
CHAIN[:, 0, 0] = CHAIN[:, 1, 2] = 1.0
PAY = np.arange(6.0).reshape(3, 2)


def changed(array: np.ndarray, index: Any, value: float) -> np.ndarray:
    array = array.copy()
    array[index] = value
    return array


BAD = [
    ("sampling", {"sampling": "asynchronous"}),
    *(("states", {"states": value}) for value in (0, 1.5, (8, 4), "x")),
    *(("actions", {"actions": value}) for value in (0, 1.5, (8, 4), "x")),
    *(("branching", {"branching": value}) for value in (0, 17, (2, 17), 2.5)),
    ("branching.*number of states, 4", {"states": (4, 16), "branching": (2, 5)}),
    *(("rewarded", {"rewarded": value}) for value in (0, (0, 0.5), 1.1, -1)),
    *(("ending", {"ending": value}) for value in ((0, 0.5), 1.1, -1)),
    ("ending", {"mdp": "FrozenLake-v1", "ending": 0.5}),
    *(("discount", {"discount": value}) for value in (1, 1.0, (0.9, 1.0), 1.5, -0.1, float("nan"), "x")),
    *(("noise", {"noise": value}) for value in (-1, (0, 1), float("inf"))),
    ("tails is one of normal, heavy.*fat", {"tails": "fat"}),
    ("noise of 0.*tails", {"tails": "heavy", "noise": 0.0}),
    *(("scale", {"scale": value}) for value in (-1, float("nan"), 101, (3, 0))),
    *(("epsilon", {"sampling": "trajectory", "epsilon": value}) for value in (-0.1, 1.1, "x")),
    ("epsilon", {"epsilon": 0.2}),
    ("states", {"mdp": "FrozenLake-v1", "states": 8}),
    ("mdp.*Nothing", {"mdp": "Nothing-v7"}),
    ("CartPole.*none", {"mdp": "CartPole-v1"}),
    ("mdp", {"mdp": 3}),
    ("mdp", {"mdp": (CHAIN,)}),
    (r"transitions.*\(2, 3\)", {"mdp": (CHAIN[0], PAY)}),
    (r"rewards have shape.*\(2, 2\)", {"mdp": (CHAIN, PAY[:2])}),
    ("state 1, action 0.*sum to 1.5", {"mdp": (changed(CHAIN, (1, 0, 1), 0.5), PAY)}),
    ("state 1, action 0.*-0.5", {"mdp": (changed(CHAIN, (1, 0, 1), -0.5), PAY)}),
    ("state 1, action 0 is nan", {"mdp": (changed(CHAIN, (1, 0, 1), np.nan), PAY)}),
    ("finite.*state 2, action 1 is nan", {"mdp": (CHAIN, changed(PAY, (2, 1), np.nan))}),
    ("finite.*state 2, action 1 is inf", {"mdp": (CHAIN, changed(PAY, (2, 1), np.inf))}),
    ("rewards.*0", {"mdp": (CHAIN, 0.0 * PAY)}),
]


@pytest.mark.parametrize(("named", "options"), BAD)
def test_an_option_that_cannot_be_honoured_is_refused(named: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=named):
        gym.make(ID, **options)


def test_the_users_own_process_can_be_played() -> None:
    for sampling in ("synchronous", "trajectory"):
        env = gym.make(ID, mdp=(CHAIN, PAY), sampling=sampling, horizon=3)
        env.reset(seed=0)
        for _ in range(3):
            observation, *_ = env.step(np.zeros(1, np.float32))
            assert observation in env.observation_space


def test_a_process_of_many_branches_pays_what_its_next_state_pays() -> None:
    """More branches than a byte can number."""
    states, rng = 300, np.random.default_rng(0)
    transitions = rng.dirichlet(np.ones(states), (states, 2))
    rewards = np.broadcast_to(np.arange(1.0, states + 1), (states, 2, states))
    family = QLearning(mdp=(transitions, rewards), scale=0.0, noise=0.0, discount=0.0)
    task = draw_tasks(family, 0, 2, 8)
    for t in range(8):
        next_state, reward = family.transitions(task, np.full(2, t))
        assert np.array_equal(reward, next_state + 1.0)


@pytest.mark.parametrize("factor", [1e200, 1e-200, 1j])
def test_rewards_whose_squares_are_no_numbers_are_refused(factor: complex) -> None:
    with pytest.raises(ValueError, match="rewards"):
        QLearning(mdp=(np.full((2, 2, 2), 0.5), np.ones((2, 2)) * factor))


@pytest.mark.parametrize("arrays", [("a", "b"), ([[[1.0]], [[1.0, 0.0]]], [[1.0]])])
def test_arrays_that_are_none_are_refused(arrays: Any) -> None:
    with pytest.raises(ValueError, match="transitions"):
        QLearning(mdp=arrays)


def test_discounts_of_a_given_process_are_inside_their_range() -> None:
    task = draw_tasks(QLearning(mdp="FrozenLake-v1", discount=(0.8, 0.99)), 0, 300, 2)
    assert 0.8 < task.discount.min() < 0.81
    assert 0.989 < task.discount.max() < 0.99


def test_exploration_is_0_or_a_range_above_0() -> None:
    with pytest.raises(ValueError, match="epsilon is 0 or a range above 0"):
        gym.make("metalearn_env:MetaLearn/QLearning-v0", sampling="trajectory", epsilon=(0.0, 0.5))
