"""The slope with a prior: its formula by brute force, and what it does where rows tell much, little or nothing."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit

from models.calibration.bayes import PRIOR_DEVIATION, PRIOR_MEAN, fit_bayes
from models.calibration.temperature import MAX_SLOPE, fit_slope

RNG = np.random.default_rng(8)
ROWS, SESSIONS = 40, 250
SESSION = np.repeat(np.arange(SESSIONS), ROWS)


def rows_of(slope: float, spread: float = 1.0, mood: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Return logits and outcomes of a true slope; `mood` moves all rows of a session together."""
    z = RNG.normal(0, spread, len(SESSION))
    shared = np.repeat(RNG.normal(0, mood, SESSIONS), ROWS) if mood else 0.0
    return z, (RNG.random(len(z)) < expit(slope * z + shared)).astype(float)


def by_brute_force(
    z: np.ndarray,
    y: np.ndarray,
    session: np.ndarray,
    gap: int,
    prior: tuple[float, float],
    base_rate: float = 0.5,
) -> float:
    """Return the mode of the adjusted posterior by minimizing it, with the derivatives by finite differences."""
    base, sessions = logit(base_rate), int(session.max()) + 1

    def likelihood(a: float) -> np.ndarray:
        p = expit(base + a * (z - base))
        return y * np.log(p) + (1 - y) * np.log1p(-p)

    def least(function: Callable[[float], float], low: float, high: float) -> float:
        found = minimize_scalar(function, bounds=(low, high), method="bounded", options={"xatol": 1e-9})
        return float(found.x)

    best = least(lambda a: -likelihood(a).sum(), -10, 10)
    h = 1e-4
    step = (likelihood(best + h) - likelihood(best - h)) / (2 * h)
    information = -((likelihood(best + h) - 2 * likelihood(best) + likelihood(best - h)).sum()) / h**2
    sums = np.bincount(session, weights=step)
    sums = sums - sums.mean()
    variance = sum(
        (1 - abs(lag) / gap)
        * float(sums[max(lag, 0) : sessions + min(lag, 0)] @ sums[max(-lag, 0) : sessions - max(lag, 0)])
        for lag in range(-gap + 1, gap)
    )
    weight = information / (variance * sessions / (sessions - 1))
    mean, deviation = prior
    return least(lambda a: (a - mean) ** 2 / (2 * deviation**2) - weight * likelihood(a).sum(), 0, MAX_SLOPE)


@pytest.mark.parametrize("gap", [1, 5])
@pytest.mark.parametrize("prior", [(0.5, 0.35), (1.0, 0.1)])
def test_the_slope_is_the_mode_of_the_adjusted_posterior(gap: int, prior: tuple[float, float]) -> None:
    z, y = rows_of(0.9, spread=0.2, mood=0.4)
    assert fit_bayes(z, y, 0.5, SESSION, gap=gap, prior=prior).slope == pytest.approx(
        by_brute_force(z, y, SESSION, gap, prior), abs=1e-3
    )


@pytest.mark.parametrize("gap", [1, 3])
def test_it_is_so_of_a_few_sessions_and_a_base_rate_away_from_one_half(gap: int) -> None:
    session, rng = np.repeat(np.arange(6), 50), np.random.default_rng(1)
    base = logit(0.25)
    z = base + rng.normal(0, 1, len(session))
    y = (rng.random(len(z)) < expit(base + 0.8 * (z - base))).astype(float)
    found = fit_bayes(z, y, 0.25, session + 100, gap=gap).slope
    expected = by_brute_force(z, y, session, gap, (PRIOR_MEAN, PRIOR_DEVIATION), 0.25)
    assert found == pytest.approx(expected, abs=1e-3)
    assert abs(found - PRIOR_MEAN) > 0.05


@pytest.mark.parametrize("side", [-1, 1])
def test_it_is_so_where_the_likelihood_has_its_maximum_beyond_all_slopes(side: int) -> None:
    session, rng = np.repeat(np.arange(20), 20), np.random.default_rng(2)
    z = rng.normal(0, 0.002, len(session))
    y = (side * z > 0).astype(float)
    expected = by_brute_force(z, y, session, 1, (PRIOR_MEAN, PRIOR_DEVIATION))
    assert fit_bayes(z, y, 0.5, session).slope == pytest.approx(expected, abs=1e-3)
    assert 0 < side * (expected - PRIOR_MEAN) < 0.5


def test_a_strong_signal_is_believed() -> None:
    z, y = rows_of(1.3)
    assert fit_bayes(z, y, 0.5, SESSION).slope == pytest.approx(fit_slope(z, y, 0.5), abs=0.02)


def test_rows_that_tell_little_leave_the_prior() -> None:
    z, y = rows_of(0.0, spread=1e-4)
    assert fit_bayes(z, y, 0.5, SESSION).slope == pytest.approx(PRIOR_MEAN, abs=0.01)


def test_equal_logits_leave_the_prior_and_the_base_rate() -> None:
    y = (RNG.random(len(SESSION)) < 0.6).astype(float)
    curve = fit_bayes(np.full(len(SESSION), logit(0.53)), y, 0.53, SESSION)
    assert curve.slope == PRIOR_MEAN
    assert curve.p_up(np.array([logit(0.53)])) == pytest.approx(0.53)


def test_rows_of_a_session_that_move_together_are_less_evidence() -> None:
    def distance(mood: float) -> float:
        slopes = []
        for _ in range(12):
            z = np.repeat(RNG.normal(0, 0.3, SESSIONS), ROWS)  # one opinion a session
            shared = np.repeat(RNG.normal(0, mood, SESSIONS), ROWS)
            y = (RNG.random(len(z)) < expit(shared)).astype(float)
            slopes.append(abs(fit_bayes(z, y, 0.5, SESSION).slope - PRIOR_MEAN))
        return float(np.mean(slopes))

    assert distance(1.5) < distance(0.0)


@pytest.mark.parametrize("flipped", [False, True], ids=["perfect", "upside down"])
def test_a_perfect_and_an_upside_down_network_stay_inside_the_bounds(flipped: bool) -> None:
    z = RNG.normal(0, 1, len(SESSION))
    slope = fit_bayes(z, ((z > 0) ^ flipped).astype(float), 0.5, SESSION).slope
    assert slope == (0.0 if flipped else MAX_SLOPE)


def test_a_tight_prior_wins_and_a_wide_one_leaves_the_likelihood() -> None:
    z, y = rows_of(0.9, spread=0.3)
    assert fit_bayes(z, y, 0.5, SESSION, prior=(0.2, 1e-4)).slope == pytest.approx(0.2, abs=1e-3)
    assert fit_bayes(z, y, 0.5, SESSION, prior=(0.2, 100)).slope == pytest.approx(
        fit_slope(z, y, 0.5), abs=1e-3
    )
    assert PRIOR_DEVIATION < 1
