"""Decision processes of Gymnasium environments that list them, such as its toy texts. Imports Gymnasium where used."""

from __future__ import annotations

from metalearn_env.decision_process import DecisionProcess


def load_process(env_id: str) -> DecisionProcess:
    """Return the process of a Gymnasium id whose environment has ``P[state][action]``, the list of its outcomes.

    Args:
        env_id: such as "FrozenLake-v1", "FrozenLake8x8-v1", "CliffWalking-v1", "CliffWalkingSlippery-v1", "Taxi-v4".

    Raises:
        ValueError: there is no such id, or its environment has no ``P``.
    """
    import gymnasium as gym

    try:
        env = gym.make(env_id).unwrapped
    except gym.error.Error as error:
        raise ValueError(f"mdp {env_id!r} cannot be made: {error}") from error
    outcomes, start = getattr(env, "P", None), getattr(env, "initial_state_distrib", None)
    env.close()
    if outcomes is None:
        raise ValueError(f"mdp is the id of an environment with a table P of outcomes, and {env_id!r} has none")
    table = [
        [
            [(float(p), int(state), float(reward), bool(ends)) for p, state, reward, ends in of_state[action]]
            for action in range(len(of_state))
        ]
        for of_state in (outcomes[state] for state in range(len(outcomes)))
    ]
    return DecisionProcess(table, start)
