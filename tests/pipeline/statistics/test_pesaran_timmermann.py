"""Pesaran and Timmermann's test against the table of counts it comes from, and on sessions that move as one."""

import math

import numpy as np
import pytest
from scipy.stats import chi2_contingency

from pipeline.statistics.pesaran_timmermann import pesaran_timmermann
from pipeline.statistics.significance import diebold_mariano

RNG = np.random.default_rng(17)


def independent(n: int, skill: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows of ten a session, in which a side is right with 0.5 + skill, and ups are common."""
    up = (RNG.random(n) < 0.6).astype(float)
    right = RNG.random(n) < 0.5 + skill
    return np.where(right == (up == 1), 0.6, 0.4), up, np.arange(n) // 10


def together(sessions: int, symbols: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows without skill: a call a session, the same for all, and outcomes that share a shock."""
    session = np.arange(sessions).repeat(symbols)
    shock = RNG.normal(size=sessions)[session]
    y = (shock + RNG.normal(size=len(session)) > 0).astype(float)
    return RNG.choice([0.45, 0.55], sessions)[session], y, session


@pytest.mark.parametrize("skill", [-0.02, 0.0, 0.05])
def test_its_square_is_the_chi_square_of_the_table_of_directions_and_outcomes(skill: float) -> None:
    p, y, session = independent(800, skill)
    table = [[np.sum((p > 0.5) == side, where=y == up) for side in (True, False)] for up in (1, 0)]
    expected = chi2_contingency(table, correction=False).statistic
    found = pesaran_timmermann(p, y, session)
    assert found.independent_statistic**2 == pytest.approx(expected * 800 / 799)
    assert math.copysign(1, found.independent_statistic) == math.copysign(1, found.hit_rate - found.by_chance)


def test_the_variance_is_the_difference_that_the_paper_prints() -> None:
    p, y, session = independent(300, 0.1)
    said, rose, n = np.mean(p > 0.5), y.mean(), 300
    by_chance = rose * said + (1 - rose) * (1 - said)
    of_hits = by_chance * (1 - by_chance) / n
    of_chance = (2 * rose - 1) ** 2 * said * (1 - said) / n + (2 * said - 1) ** 2 * rose * (1 - rose) / n
    of_chance += 4 * rose * said * (1 - rose) * (1 - said) / n**2
    found = pesaran_timmermann(p, y, session)
    assert found.by_chance == pytest.approx(by_chance)
    expected = (found.hit_rate - by_chance) / math.sqrt(of_hits - of_chance)
    assert found.independent_statistic == pytest.approx(expected)


def test_the_robust_statistic_is_that_of_the_session_sums_of_products() -> None:
    p, y, session = together(120, 8)
    sums = ((p > 0.5) - np.mean(p > 0.5)) * (y - y.mean())
    expected = diebold_mariano(sums.reshape(120, 8).sum(axis=1), horizon=2)
    found = pesaran_timmermann(p, y, session, horizon=2)
    assert found.statistic == pytest.approx(expected.statistic)
    assert found.p_value == pytest.approx(
        expected.p_value / 2 if expected.statistic > 0 else 1 - expected.p_value / 2
    )
    assert (found.n, found.sessions) == (960, 120)


def test_on_independent_rows_both_agree() -> None:
    found = pesaran_timmermann(*independent(20_000, 0.02))
    assert found.statistic == pytest.approx(found.independent_statistic, rel=0.15)
    assert found.p_value < 0.001


def test_sessions_that_move_as_one_reject_falsely_without_the_robust_variance_only() -> None:
    found = [pesaran_timmermann(*together(150, 20)) for _ in range(300)]
    assert 0.02 <= np.mean([f.p_value < 0.05 for f in found]) <= 0.09
    assert np.mean([f.independent_p_value < 0.05 for f in found]) > 0.2


def test_a_drift_that_all_ride_is_no_skill() -> None:
    session = np.arange(200).repeat(5)
    y = (RNG.random(1000) < 0.6).astype(float)
    found = pesaran_timmermann(np.where(RNG.random(1000) < 0.9, 0.6, 0.4), y, session)
    assert found.hit_rate > 0.55
    assert found.p_value > 0.05


def test_one_direction_only_or_none_has_no_statistic() -> None:
    y, session = np.array([1.0, 0.0] * 20), np.arange(40)
    for p in (np.full(40, 0.6), np.full(40, 0.5)):
        found = pesaran_timmermann(p, y, session)
        assert math.isnan(found.statistic)
        assert math.isnan(found.p_value)
    few = pesaran_timmermann(np.array([0.6, 0.4, 0.6]), y[:3], session[:3])
    assert math.isnan(few.p_value)
    assert not math.isnan(few.independent_p_value)
