"""The ranking of a session's stocks: against scipy and pandas, by pencil, and where there is nothing to rank."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pipeline.statistics import auc, ranking
from pipeline.statistics.ranking import SessionRanking

RNG = np.random.default_rng(17)


def rank(p: np.ndarray, returns: np.ndarray, session: np.ndarray) -> SessionRanking:
    ranked = ranking.ranks_within_sessions(auc.rank_levels(p), session)
    return ranking.rank_sessions(ranked, returns, ranking.rank_returns(returns, session), session)


def simulate(sizes: list[int], digits: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return p with ties, returns that follow it a little, and sessions of these sizes."""
    session = np.repeat(np.arange(len(sizes)), sizes)
    p = np.round(0.5 + 0.03 * RNG.normal(size=len(session)), digits)
    returns = (
        0.2 * (p - 0.5) + 0.02 * RNG.normal(size=len(session)) + 0.01 * RNG.normal(size=len(sizes))[session]
    )
    return p, np.round(returns, 3), session


def test_one_session_by_pencil() -> None:
    """Ten stocks; the forecasts rank them 1 to 10, but for the best two, which change places in the returns."""
    p = np.linspace(0.41, 0.59, 10)
    returns = np.array([-0.05, -0.04, -0.03, -0.02, -0.01, 0.01, 0.02, 0.03, 0.05, 0.04])
    found = rank(p, returns, np.zeros(10, int))
    # Spearman without ties: 1 - 6 sum(d^2) / (n (n^2 - 1)), with d = 1 twice.
    assert found.ic[0] == pytest.approx(1 - 6 * 2 / 990)
    # A fifth of ten are two: (5% + 4%) / 2 above, (-5% - 4%) / 2 below.
    assert found.spread[0] == pytest.approx(0.09)
    assert found.ic_variance[0] == pytest.approx(1 / 9)


def test_the_information_coefficient_is_spearmans_correlation_session_by_session() -> None:
    p, returns, session = simulate([5, 6, 40, 5, 17, 100])
    found = rank(p, returns, session)
    for number in range(6):
        own = session == number
        assert found.ic[number] == pytest.approx(stats.spearmanr(p[own], returns[own]).statistic)


def test_the_groups_are_the_fifths_of_each_session() -> None:
    p, returns, session = simulate([5, 9, 10, 26], digits=9)
    found = rank(p, returns, session)
    for number, size in enumerate([1, 1, 2, 5]):
        own = pd.Series(returns[session == number], index=p[session == number]).sort_index()
        assert found.spread[number] == pytest.approx(own.iloc[-size:].mean() - own.iloc[:size].mean())


def test_stocks_tied_across_a_border_share_the_places_left() -> None:
    """Of ten stocks two are the top: one is highest, four tie for the other place, so each is a quarter of it."""
    p = np.array([0.6, 0.5, 0.5, 0.5, 0.5, 0.45, 0.44, 0.43, 0.4, 0.4])
    returns = np.array([0.01, 0.02, 0.03, 0.04, 0.05, 0.0, 0.0, 0.0, -0.02, -0.04])
    found = rank(p, returns, np.zeros(10, int))
    assert found.spread[0] == pytest.approx((0.01 + 0.14 / 4) / 2 + 0.03)
    shuffled = [rank(p + 1e-9 * RNG.random(10), returns, np.zeros(10, int)).spread[0] for _ in range(1500)]
    assert np.mean(shuffled) == pytest.approx(found.spread[0], abs=5e-4)


def test_equal_forecasts_rank_nothing() -> None:
    _, returns, session = simulate([8, 8])
    found = rank(np.full(16, 0.53), returns, session)
    assert found.ic.tolist() == found.spread.tolist() == [0, 0]


@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_session_with_fewer_than_five_stocks_does_not_count(size: int) -> None:
    p, returns, session = simulate([size, 5, size])
    found = rank(p, returns, session)
    for values in (found.ic, found.ic_variance, found.spread, found.spread_variance):
        assert np.isnan(values).tolist() == [True, False, True]


def test_a_session_with_an_unknown_return_or_equal_returns_does_not_count() -> None:
    p, returns, session = simulate([6, 6, 6])
    returns[2], returns[6:12] = np.nan, 0.01
    found = rank(p, returns, session)
    assert np.isnan(found.ic).tolist() == np.isnan(found.spread).tolist() == [True, True, False]


def test_the_variances_without_skill_are_those_of_returns_dealt_at_random() -> None:
    p, returns, session = simulate([12], digits=2)
    expected = rank(p, returns, session)
    dealt = [rank(p, RNG.permutation(returns), session) for _ in range(3000)]
    for name in ("ic", "spread"):
        values = np.array([getattr(each, name)[0] for each in dealt])
        assert values.mean() == pytest.approx(0, abs=4 * values.std() / math.sqrt(len(values)))
        assert values.var() == pytest.approx(getattr(expected, f"{name}_variance")[0], rel=0.12)


def test_the_information_ratio_is_the_mean_over_the_standard_deviation() -> None:
    series = np.array([0.02, -0.01, 0.05, 0.0])
    assert ranking.information_ratio(series) == pytest.approx(series.mean() / series.std(ddof=1))
    assert math.isnan(ranking.information_ratio(np.full(5, 0.02)))
    assert math.isnan(ranking.information_ratio(series[:1]))
    assert math.isnan(ranking.information_ratio(series[:0]))


def test_rows_are_worth_about_themselves_where_each_stock_moves_alone_and_less_where_ranks_persist() -> None:
    p, _, session = simulate([30] * 400, digits=9)
    alone = rank(p, RNG.normal(size=12_000), session)
    rows = np.full(400, 30.0)
    worth = ranking.effective_n_of_means(alone.ic, alone.ic_variance, rows)
    assert 9_000 < worth <= 12_000
    # Half of the stocks follow a factor of their own, which the forecasts are sorted by.
    side = np.sign(RNG.normal(size=12_000))
    follows = RNG.normal(size=400)[session] * side
    together = rank(p + 10 * side, follows + RNG.normal(size=12_000), session)
    assert ranking.effective_n_of_means(together.ic, together.ic_variance, rows) < 4_000
    assert ranking.effective_n_of_means(together.spread, together.spread_variance, rows) < 4_000
    assert math.isnan(ranking.effective_n_of_means(np.empty(0), np.empty(0), np.empty(0)))
    assert ranking.effective_n_of_means(np.zeros(3), np.ones(3), np.full(3, 9.0)) == 3
