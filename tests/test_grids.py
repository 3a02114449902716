"""Grid worlds to train on: decision processes that Gymnasium's checker and the family both take."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

pytest.importorskip("agents")

from agents.grids import MOVES, WORLDS, grid_id
from metalearn_env.families.q_learning import QLearning
from metalearn_env.pool import draw_tasks


@pytest.mark.parametrize("name", [grid_id(index) for index in range(WORLDS)])
def test_a_world_is_an_environment_and_a_process(name: str) -> None:
    env = gym.make(name).unwrapped
    check_env(env)
    table = env.get_wrapper_attr("P")
    rows, columns = env.get_wrapper_attr("shape")
    for state, of_state in table.items():
        assert len(of_state) == len(MOVES)
        for outcomes in of_state.values():
            assert sum(probability for probability, *_ in outcomes) == pytest.approx(1.0)
            for _, onto, _, ends in outcomes:
                near = abs(onto // columns - state // columns) + abs(onto % columns - state % columns) <= 1
                assert near or onto == 0 or ends
    goal = rows * columns - 1
    assert {outcome[1:] for of_pair in table[goal].values() for outcome in of_pair} == {(goal, 0.0, True)}
    task = draw_tasks(QLearning(mdp=name), 0, 8, 5)
    assert (np.abs(task.optimum).max(axis=1) > 0.0).all()


@pytest.mark.parametrize("name", [grid_id(index, "Errand") for index in (0, 1)])
def test_an_errand_has_an_end_that_is_worth_going_to(name: str) -> None:
    env = gym.make(name).unwrapped
    check_env(env)
    outcomes = [one for of_state in env.get_wrapper_attr("P").values() for (one,) in of_state.values()]
    assert {probability for probability, *_ in outcomes} == {1.0}
    assert {reward for *_, reward, ends in outcomes if ends} == {max(reward for *_, reward, _ in outcomes)}
    task = draw_tasks(QLearning(mdp=name), 0, 8, 5)
    assert (np.abs(task.optimum).max(axis=1) > 0.0).all()


def test_worlds_differ() -> None:
    tables = {str(gym.make(grid_id(index)).unwrapped.get_wrapper_attr("P")) for index in range(WORLDS)}
    assert len(tables) == WORLDS
