"""Intervals that hold the truth as often as they say, and a test against another library."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import statsmodels.api as sm
from arch.bootstrap import StationaryBootstrap, optimal_block_length
from arch.covariance.kernel import Bartlett
from scipy.stats import norm, ttest_1samp

from pipeline import schema
from pipeline.statistics import bootstrap
from pipeline.statistics import significance as sig

RNG = np.random.default_rng(5)


def autoregression(rho: float, sessions: int) -> np.ndarray:
    noise = RNG.normal(0, 1, sessions)
    series = np.empty(sessions)
    series[0] = noise[0]
    for i in range(1, sessions):
        series[i] = rho * series[i - 1] + math.sqrt(1 - rho**2) * noise[i]
    return series


@pytest.mark.parametrize(("sessions", "lag", "rho"), [(30, 2, 0.0), (250, 4, 0.4), (504, 9, -0.3)])
def test_the_test_is_that_of_a_hac_regression_on_a_constant(sessions: int, lag: int, rho: float) -> None:
    difference = 0.1 + autoregression(rho, sessions)
    other = sm.OLS(difference, np.ones(sessions)).fit(
        cov_type="HAC", cov_kwds={"maxlags": lag, "use_correction": False}, use_t=True
    )
    found = sig.diebold_mariano(difference, lag=lag)
    assert found.statistic == pytest.approx(other.tvalues[0] * math.sqrt((sessions - 1) / sessions))
    assert found.difference == pytest.approx(other.params[0])


def test_without_autocovariances_the_test_is_students() -> None:
    difference = RNG.normal(0.2, 1, 50)
    found, other = sig.diebold_mariano(difference, lag=0), ttest_1samp(difference, 0)
    # Student divides by n - 1 and the correction for h = 1 multiplies by sqrt((n - 1) / n): the same number.
    assert (found.statistic, found.p_value) == pytest.approx((other.statistic, other.pvalue))


def test_longer_horizons_are_corrected_and_take_their_overlap_along() -> None:
    difference = RNG.normal(0, 1, 100)
    short, long = (sig.diebold_mariano(difference, horizon=h, lag=7) for h in (1, 5))
    assert long.statistic / short.statistic == pytest.approx(math.sqrt((101 - 10 + 20 / 100) / 99))
    assert sig.diebold_mariano(difference, horizon=9).lag == 8
    assert sig.diebold_mariano(difference).lag == 4


@pytest.mark.parametrize("rho", [0.0, 0.4])
def test_equal_forecasts_are_rejected_about_as_often_as_announced(rho: float) -> None:
    p_values = np.array([sig.diebold_mariano(autoregression(rho, 250)).p_value for _ in range(600)])
    assert 0.03 < np.mean(p_values < 0.05) < 0.11


@pytest.mark.parametrize("n", [10, 11, 250])
@pytest.mark.parametrize("lag", [0, 4, 9, 30])
def test_the_long_run_variance_is_newey_and_west_s_sum(n: int, lag: int) -> None:
    series = autoregression(0.5, n)
    distance = series - series.mean()
    covariances = [float(distance[k:] @ distance[: n - k]) / n for k in range(min(lag, n - 1) + 1)]
    expected = covariances[0] + sum(2 * (1 - k / (lag + 1)) * c for k, c in enumerate(covariances) if k)
    assert sig.long_run_variance(series, lag) == pytest.approx(expected, rel=1e-12)
    assert sig.long_run_variance(np.ones(n), lag) == 0


def test_no_difference_at_all_and_a_certain_one() -> None:
    assert sig.diebold_mariano(np.zeros(100)).p_value == 1
    assert sig.diebold_mariano(np.full(100, -0.1)).p_value == 0
    assert sig.diebold_mariano(np.full(100, -0.1)).statistic == -math.inf


def test_too_few_sessions_give_neither_an_interval_nor_a_test() -> None:
    few = schema.MIN_SESSIONS - 1
    drawn = bootstrap.resample_sessions(RNG.normal(0, 1, few), draws=50, seed=0)
    assert math.isnan(bootstrap.percentile_interval(drawn @ np.ones(few))[0])
    assert math.isnan(bootstrap.bootstrap_p_value(drawn @ np.ones(few)))
    assert math.isnan(sig.diebold_mariano(RNG.normal(0, 1, few)).p_value)
    assert math.isnan(sig.diebold_mariano(np.empty(0)).difference)


def test_every_sample_has_as_many_sessions_as_there_are_and_equal_seeds_agree() -> None:
    drawn = bootstrap._draw_sessions(80, block_length=4, draws=300, seed=1)
    assert drawn.shape == (300, 80)
    assert (drawn.sum(axis=1) == 80).all()
    assert drawn.mean(axis=0) == pytest.approx(np.ones(80), abs=0.4)
    assert (drawn == bootstrap._draw_sessions(80, block_length=4, draws=300, seed=1)).all()
    assert (drawn != bootstrap._draw_sessions(80, block_length=4, draws=300, seed=2)).any()


def test_the_spread_of_drawn_means_is_the_closed_form_of_politis_and_romano() -> None:
    """Lemma 1 of their paper: the variance, given the series, of the mean of a stationary resample."""
    n, block = 120, 5.0
    series = autoregression(0.5, n)
    centred = series - series.mean()
    circular = np.array([centred @ np.roll(centred, -k) / n for k in range(n)])
    k = np.arange(1, n)
    weight = (1 - k / n) * (1 - 1 / block) ** k
    expected = (circular[0] + 2 * (weight * circular[1:]).sum()) / n
    drawn = bootstrap._draw_sessions(n, block_length=block, draws=8000, seed=3) @ series / n
    assert drawn.var() == pytest.approx(expected, rel=0.08)


def test_blocks_grow_with_dependence_and_are_never_shorter_than_a_session() -> None:
    lengths = [bootstrap.choose_block_length(autoregression(rho, 2000)) for rho in (0.0, 0.5, 0.9)]
    assert 1 <= lengths[0] < lengths[1] < lengths[2]
    assert bootstrap.choose_block_length(np.ones(100)) == 1
    assert bootstrap.choose_block_length(np.ones(3)) == 1
    # For an AR(1): (2 rho / (1 - rho^2))^(2/3) n^(1/3), Politis and White (2004), section 3.
    assert lengths[1] == pytest.approx((2 * 0.5 / 0.75) ** (2 / 3) * 2000 ** (1 / 3), rel=0.5)


SHAPES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "plain": lambda series: series,
    "rounded": lambda series: np.round(series),
    "rare": lambda series: (series > 1).astype(float),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sessions", [10, 11, 29, 60, 250, 1500])
def test_block_length_and_long_run_variance_are_those_of_arch(sessions: int, shape: str) -> None:
    for rho in (-0.8, 0.0, 0.3, 0.95):
        series = SHAPES[shape](autoregression(rho, sessions))
        if np.ptp(series) == 0:
            continue
        with np.errstate(all="ignore"):
            length = float(optimal_block_length(series)["stationary"].iloc[0])
        expected = max(length, 1.0) if math.isfinite(length) else 1.0
        assert bootstrap.choose_block_length(series) == pytest.approx(expected, rel=1e-9)
        for lag in (0, 1, 4, 9):
            other = float(Bartlett(series, bandwidth=lag).cov.long_run[0, 0])
            assert sig.long_run_variance(series, lag) == pytest.approx(other, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("sessions", "block_length"), [(10, 1.0), (80, 4.0), (500, 7.3)])
def test_the_drawn_sessions_are_those_of_arch(sessions: int, block_length: float) -> None:
    other = StationaryBootstrap(block_length, np.arange(sessions), seed=np.random.default_rng(7))
    expected = [np.bincount(data[0], minlength=sessions) for data, _ in other.bootstrap(50)]
    assert (bootstrap._draw_sessions(sessions, block_length=block_length, draws=50, seed=7) == expected).all()


def test_the_interval_of_a_shared_shock_holds_the_truth_and_that_of_independent_rows_does_not() -> None:
    sessions, symbols, runs = 120, 30, 200
    by_session, by_row = 0, 0
    for seed in range(runs):
        shock = RNG.normal(0, 0.6, (sessions, 1))
        shares = (shock + RNG.normal(0, 0.8, (sessions, symbols)) > 0).mean(axis=1)
        block_length = bootstrap.choose_block_length(shares)
        drawn = bootstrap._draw_sessions(sessions, block_length=block_length, draws=200, seed=seed)
        low, high = bootstrap.percentile_interval(drawn @ shares / sessions)
        by_session += low <= 0.5 <= high
        by_row += abs(shares.mean() - 0.5) <= 1.96 * 0.5 / math.sqrt(sessions * symbols)
    assert 0.9 <= by_session / runs <= 0.98
    assert by_row / runs < 0.7


def test_the_interval_leaves_out_draws_that_are_not_defined() -> None:
    drawn = np.append(np.arange(1001.0), np.nan)
    assert bootstrap.percentile_interval(drawn) == pytest.approx((25, 975))
    assert math.isnan(bootstrap.percentile_interval(np.full(3, np.nan))[1])


def test_the_p_value_of_draws_is_twice_the_rarer_sign() -> None:
    assert bootstrap.bootstrap_p_value(np.append(np.full(970, 1.0), np.full(29, -1.0))) == pytest.approx(0.06)
    assert bootstrap.bootstrap_p_value(-np.append(np.full(970, 1.0), np.full(29, -1.0))) == pytest.approx(
        0.06
    )
    assert bootstrap.bootstrap_p_value(np.ones(999)) == pytest.approx(0.002)
    assert bootstrap.bootstrap_p_value(np.zeros(999)) == 1


def test_distinguishing_52_percent_from_50_needs_as_many_forecasts_as_its_power_says() -> None:
    n = sig.forecasts_needed(0.52)
    assert n == 3863
    threshold = 0.5 + norm.ppf(0.95) * 0.5 / math.sqrt(n)
    assert norm.sf((threshold - 0.52) / math.sqrt(0.52 * 0.48 / n)) == pytest.approx(0.8, abs=1e-3)
    assert sig.forecasts_needed(0.66) <= 60 < sig.forecasts_needed(0.65)


@pytest.mark.parametrize(
    ("n", "mean"),
    # Harter (1961), "Expected values of normal order statistics", Biometrika 48, table 1.
    [
        (1, 0.0),
        (2, 0.56419),
        (3, 0.84628),
        (5, 1.16296),
        (10, 1.53875),
        (20, 1.86748),
        (50, 2.24907),
        (100, 2.50759),
    ],
)
def test_the_mean_of_the_largest_is_that_of_the_published_table(n: int, mean: float) -> None:
    assert sig.expected_maximum(n) == pytest.approx(mean, abs=1e-5)
