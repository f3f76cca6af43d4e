"""The Sharpe ratio after luck: against the numbers that its authors printed, and against simulated trials."""

import math
import statistics
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from pipeline.statistics.sharpe import (
    LEAST_RATIOS,
    deflate,
    deflate_by_trials,
    expected_maximum_sharpe,
    probabilistic_sharpe,
    sharpe_of,
    sharpe_ratio,
)
from pipeline.statistics.significance import expected_maximum

# Bailey and López de Prado (2014), "The deflated Sharpe ratio", numerical example: 2.5 a year found in 1,250 daily
# returns as the best of 100, whose yearly ratios have the variance 1/2.
FOUND = 2.5 / math.sqrt(250)
SPREAD = 0.5 / 250


def test_the_example_of_the_paper_comes_out() -> None:
    luck = expected_maximum_sharpe(100, SPREAD)
    assert luck == pytest.approx(0.1132, abs=5e-5)
    said = probabilistic_sharpe(FOUND, sessions=1250, skewness=-3, kurtosis=10, benchmark=luck)
    assert said == pytest.approx(0.9004, abs=5e-5)


@pytest.mark.parametrize(("trials", "skewness", "kurtosis"), [(46, -3, 10), (88, 0, 3)])
def test_so_many_trials_leave_95_percent_as_the_paper_says(
    trials: int, skewness: float, kurtosis: float
) -> None:
    luck = expected_maximum_sharpe(trials, SPREAD)
    said = probabilistic_sharpe(FOUND, sessions=1250, skewness=skewness, kurtosis=kurtosis, benchmark=luck)
    assert said == pytest.approx(0.9505, abs=5e-5)


@pytest.mark.parametrize(("skewness", "kurtosis", "said"), [(-2.448, 10.164, 0.913), (0, 3, 0.982)])
def test_two_years_of_a_hedge_fund_are_as_sure_as_the_paper_says(
    skewness: float, kurtosis: float, said: float
) -> None:
    # Bailey and López de Prado (2012), "The Sharpe ratio efficient frontier": 0.458 a month in 24 months.
    found = probabilistic_sharpe(0.458, sessions=24, skewness=skewness, kurtosis=kurtosis)
    assert found == pytest.approx(said, abs=5e-4)


@pytest.mark.parametrize("trials", [10, 100, 1000])
def test_the_luckiest_trial_is_about_the_largest_of_so_many_normals(trials: int) -> None:
    assert expected_maximum_sharpe(trials, 4.0) == pytest.approx(2 * expected_maximum(trials), rel=0.03)


def test_a_single_trial_has_no_luck_to_take_off() -> None:
    returns = np.random.default_rng(1).normal(0.001, 0.01, 300)
    alone = deflate(returns, trials=1)
    assert alone is not None
    assert alone.luck == 0
    assert alone.probability == alone.above_zero


def test_more_trials_only_lower_the_probability() -> None:
    returns = np.random.default_rng(1).normal(0.001, 0.01, 300)
    said = [made.probability for trials in (1, 2, 10, 1000) if (made := deflate(returns, trials=trials))]
    assert said == sorted(said, reverse=True)
    assert said[0] > said[-1]


def test_the_best_of_many_without_skill_looks_sure_alone_and_is_not_when_deflated() -> None:
    rng, trials = np.random.default_rng(7), 50
    best = [max(rng.normal(0, 0.01, (trials, 250)), key=sharpe_ratio) for _ in range(100)]
    made = [each for returns in best if (each := deflate(returns, trials=trials))]
    assert np.mean([each.above_zero > 0.95 for each in made]) > 0.9
    assert np.mean([each.probability > 0.95 for each in made]) < 0.1
    assert 0.3 < np.mean([each.probability for each in made]) < 0.7


def test_the_example_of_the_paper_comes_out_of_ratios_with_its_variance() -> None:
    returns = np.random.default_rng(1).normal(0.001, 0.01, 300)
    some = deflate(returns, trials=1)
    assert some is not None
    alone = replace(some, sharpe=FOUND, sessions=1250, skewness=-3.0, kurtosis=10.0)
    ratios = np.random.default_rng(2).normal(size=60)
    ratios = 0.02 + math.sqrt(SPREAD) * (ratios - ratios.mean()) / ratios.std(ddof=1)
    made = deflate_by_trials(alone, trials=100, ratios=ratios.tolist())
    assert (made.trials, made.ratios) == (100, 60)
    assert made.luck == pytest.approx(0.1132, abs=5e-5)
    assert made.probability == pytest.approx(0.9004, abs=5e-5)


def test_the_variance_of_the_trials_is_measured_where_enough_of_them_have_a_ratio() -> None:
    returns = np.random.default_rng(1).normal(0.001, 0.01, 300)
    ratios = [0.05, -0.11, 0.2, 0.01, -0.07]
    assert len(ratios) == LEAST_RATIOS
    assumed, known = (deflate(returns, trials=20, ratios=some) for some in (ratios[:-1], ratios))
    assert assumed is not None
    assert known is not None
    assert (assumed.ratios, assumed.variance) == (0, 1 / 299)
    assert (known.ratios, known.variance) == (5, pytest.approx(statistics.variance(ratios)))
    assert known.luck == pytest.approx(
        math.sqrt(statistics.variance(ratios)) * expected_maximum_sharpe(20, 1)
    )
    assert known.probability < assumed.probability
    assert known.above_zero == assumed.above_zero


def test_normal_returns_have_the_probability_of_their_t_value() -> None:
    returns = np.random.default_rng(3).normal(0.0005, 0.01, 5000)
    made = deflate(returns, trials=1)
    assert made is not None
    assert made.above_zero == pytest.approx(norm.cdf(made.sharpe * math.sqrt(5000)), abs=0.01)


@pytest.mark.parametrize("returns", [[], [0.01], [0.0] * 50, [0.001] * 50])
def test_returns_that_never_change_have_no_ratio(returns: list[float]) -> None:
    assert math.isnan(sharpe_ratio(np.array(returns)))
    assert deflate(np.array(returns), trials=3) is None


def test_sums_alone_give_the_ratio() -> None:
    returns = np.random.default_rng(1).normal(0.001, 0.01, (3, 100))
    of_sums = sharpe_of(returns.sum(axis=1), (returns**2).sum(axis=1), 100)
    assert of_sums == pytest.approx(returns.mean(axis=1) / returns.std(axis=1, ddof=1))


def test_settings_that_hardly_differ_do_not_make_luck_smaller() -> None:
    returns = np.random.default_rng(1).normal(0.001, 0.01, 300)
    alike, assumed = (deflate(returns, trials=20, ratios=[0.1] * n) for n in (LEAST_RATIOS, 0))
    assert alike == assumed
