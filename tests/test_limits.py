"""The schedule of least risk. The limit of a family is tested with the family, Ritz values with the rules."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from metalearn_env.risk import Risk, expected_gaps, least_risk


def some_risk(inverse_batch: float, n: int = 6, p: int = 4) -> Risk:
    rng = np.random.default_rng(0)
    return Risk(rng.uniform(0.1, 1, (n, p)), rng.standard_normal((n, p)) ** 2, rng.uniform(0.01, 1, n), inverse_batch)


@pytest.mark.parametrize("inverse_batch", [1.0, 0.25])
def test_the_schedule_of_least_risk_is_what_an_optimiser_finds(inverse_batch: float) -> None:
    optimize = pytest.importorskip("scipy.optimize")
    risk, horizon = some_risk(inverse_batch), 8
    gap = expected_gaps(risk, least_risk(risk, horizon, sweeps=200))[-1]
    for row in range(6):
        alone = Risk(*(array[row : row + 1] for array in risk[:3]), inverse_batch)

        def last(steps: np.ndarray, alone: Risk = alone) -> float:
            return float(expected_gaps(alone, steps[:, None])[-1, 0])

        found = min(optimize.minimize(last, np.full(horizon, start)).fun for start in (0.1, 0.3, 0.6))
        assert gap[row] == pytest.approx(found, rel=1e-3)


def test_no_sweep_makes_the_risk_larger() -> None:
    risk = some_risk(0.5)
    gaps = [expected_gaps(risk, least_risk(risk, 20, sweeps))[-1] for sweeps in (1, 2, 3, 5, 10, 30)]
    assert all((after <= before * (1 + 1e-12)).all() for before, after in pairwise(gaps))


def test_without_noise_and_in_one_dimension_one_step_is_enough() -> None:
    risk = Risk(np.array([[0.5]]), np.array([[2.0]]), np.zeros(1), 0.0)
    assert expected_gaps(risk, least_risk(risk, 1))[:, 0] == pytest.approx([0.5, 0.0])


def test_the_gap_of_standing_still_stays() -> None:
    risk = some_risk(1.0)
    gaps = expected_gaps(risk, np.zeros((3, 6)))
    assert gaps == pytest.approx(np.tile(0.5 * (risk.eigenvalues * risk.squared_error).sum(axis=1), (4, 1)))
