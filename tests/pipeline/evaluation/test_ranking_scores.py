"""Scores of picking: rank IC, its ratio, and top minus bottom, as lines of the table of scores."""

import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats

from pipeline.errors import NextdayError
from pipeline.evaluation.scores import score
from pipeline.evaluation.session_sums import METRICS, RETURN_METRICS
from pipeline.formatting import format_interval, format_score
from pipeline.schema import MIN_SESSIONS, SCORES, validated
from pipeline.statistics import bootstrap, metrics, significance
from tests.pipeline.evaluation.test_scores import stack


def market(sessions: int, symbols: int, seed: int, skill: float = 0.0) -> tuple[pd.DataFrame, np.ndarray]:
    """Return keys with outcomes and returns that share a shock, and forecasts that know so much of each stock."""
    rng = np.random.default_rng(seed)
    days = pd.bdate_range("2015-01-01", periods=sessions + 1).as_unit("us")
    known, own = rng.normal(size=(2, sessions * symbols))
    returns = 0.01 * (rng.normal(size=sessions).repeat(symbols) + skill * known + own)
    keys = pd.DataFrame(
        {
            "symbol": [f"S{i}" for i in range(symbols)] * sessions,
            "as_of": days[:-1].repeat(symbols),
            "target_session": days[1:].repeat(symbols),
            "horizon": 1,
            "outcome": (returns > 0).astype(float),
            "realized_return": returns,
        }
    )
    return keys, 0.52 + 0.01 * known


def lines_of(rows: pd.DataFrame, model: str = "gru", **options: object) -> pd.DataFrame:
    scores = score(rows, baseline="base_rate", draws=200, **options)
    return scores[scores["model"] == model].set_index("metric")


def coefficients(keys: pd.DataFrame, p: np.ndarray) -> np.ndarray:
    by_session = keys.assign(p=p).groupby("target_session")
    return np.array([stats.spearmanr(rows["p"], rows["realized_return"]).statistic for _, rows in by_session])


def spreads(keys: pd.DataFrame, p: np.ndarray) -> np.ndarray:
    """Return the mean return of the two stocks with the highest p less that of the two with the lowest, [session]."""
    by_session = [
        rows.sort_values("p")["realized_return"] for _, rows in keys.assign(p=p).groupby("target_session")
    ]
    return np.array([by_p.tail(2).mean() - by_p.head(2).mean() for by_p in by_session])


def test_the_rank_ic_is_the_mean_of_spearmans_correlations_and_its_t_that_of_newey_and_west() -> None:
    keys, p = market(150, 12, seed=1, skill=0.15)
    line = lines_of(stack(keys, gru=p, base_rate=0.52)).loc["rank_ic"]
    ic = coefficients(keys, p)
    assert line["value"] == pytest.approx(ic.mean())
    fit = sm.OLS(ic, np.ones(150)).fit(
        cov_type="HAC", cov_kwds={"maxlags": significance.newey_west_lag(150), "use_correction": True}
    )
    assert line["t_statistic"] == pytest.approx(fit.tvalues[0])
    assert (line["n"], line["sessions"], line["baseline_value"]) == (1800, 150, 0)
    # The base rate ranks nothing, so the difference from it is the coefficient itself.
    assert line["p_value"] == pytest.approx(2 * stats.t.sf(abs(fit.tvalues[0]), 149))


def test_against_a_baseline_that_ranks_too_the_differences_by_session_are_tested() -> None:
    keys, p = market(150, 12, seed=11, skill=0.15)
    other = 0.5 + 0.02 * np.random.default_rng(12).normal(size=len(p)) + 0.5 * (p - 0.52)
    lines = lines_of(stack(keys, gru=p, base_rate=other))
    for metric, by_session in (("rank_ic", coefficients), ("top_minus_bottom", spreads)):
        line, difference = lines.loc[metric], by_session(keys, p) - by_session(keys, other)
        assert line["p_value"] == pytest.approx(significance.diebold_mariano(difference).p_value)
        assert line["baseline_value"] == pytest.approx(by_session(keys, other).mean())
        assert 1e-6 < line["p_value"] < 0.5


def test_the_interval_is_that_of_drawing_whole_sessions() -> None:
    keys, p = market(80, 9, seed=2, skill=0.2)
    lines, ic = lines_of(stack(keys, gru=p, base_rate=0.52), seed=4), coefficients(keys, p)
    y = keys["outcome"].to_numpy()
    losses = metrics.log_losses(p, y).reshape(80, 9).mean(axis=1)
    copies = bootstrap.resample_sessions(losses, draws=200, seed=4).astype(int)
    drawn = [np.repeat(ic, times) for times in copies]
    means = bootstrap.percentile_interval(np.array([each.mean() for each in drawn]))
    ratios = bootstrap.percentile_interval(np.array([each.mean() / each.std(ddof=1) for each in drawn]))
    assert tuple(lines.loc["rank_ic", ["low", "high"]]) == pytest.approx(means)
    assert tuple(lines.loc["rank_icir", ["low", "high"]]) == pytest.approx(ratios)
    assert lines.loc["rank_icir", "value"] == pytest.approx(ic.mean() / ic.std(ddof=1))


def test_top_minus_bottom_is_the_mean_difference_of_the_fifths() -> None:
    keys, p = market(60, 10, seed=3, skill=0.3)
    line = lines_of(stack(keys, gru=p, base_rate=0.52)).loc["top_minus_bottom"]
    assert line["value"] == pytest.approx(spreads(keys, p).mean())
    assert line["low"] < line["value"] < line["high"]
    assert line["t_statistic"] == pytest.approx(significance.diebold_mariano(spreads(keys, p)).statistic)


def test_the_t_of_the_auc_within_sessions_is_that_of_the_wins_beyond_half_of_the_pairs() -> None:
    keys, p = market(90, 8, seed=4, skill=0.2)
    line = lines_of(stack(keys, gru=p, base_rate=0.52)).loc["auc_within_sessions"]
    beyond, pairs = [], 0.0
    for _, rows in keys.assign(p=p).groupby("target_session"):
        ups, downs = (rows.loc[rows["outcome"] == y, "p"] for y in (1, 0))
        if len(ups) and len(downs):
            wins = stats.mannwhitneyu(ups, downs).statistic
            beyond.append(wins - len(ups) * len(downs) / 2)
            pairs += len(ups) * len(downs)
    assert line["value"] == pytest.approx(0.5 + sum(beyond) / pairs)
    assert line["t_statistic"] == pytest.approx(significance.diebold_mariano(np.array(beyond)).statistic)


def test_rows_of_several_sessions_ahead_are_tested_as_overlapping() -> None:
    keys, p = market(300, 8, seed=5, skill=0.1)
    line = lines_of(stack(keys.assign(horizon=5), gru=p, base_rate=0.52)).loc["rank_ic"]
    expected = significance.diebold_mariano(coefficients(keys, p), horizon=5)
    assert line["t_statistic"] == pytest.approx(expected.statistic)


def test_a_universe_of_four_has_no_score_of_picking_by_returns() -> None:
    keys, p = market(50, 4, seed=6, skill=0.2)
    found = lines_of(stack(keys, gru=p, base_rate=0.52)).loc[list(RETURN_METRICS)]
    numbers = ["value", "low", "high", "baseline_value", "p_value", "t_statistic", "effective_n"]
    assert found[numbers].isna().all(axis=None)
    assert (found[["n", "sessions"]] == 0).all(axis=None)


def test_only_sessions_with_five_stocks_count_and_too_few_of_them_have_no_interval() -> None:
    keys, p = market(40, 6, seed=7, skill=0.2)
    full = keys["target_session"].isin(keys["target_session"].unique()[: MIN_SESSIONS - 1])
    rows = keys.assign(outcome=keys["outcome"].where(full | (np.arange(240) % 6 < 4)))
    line = lines_of(stack(rows, gru=p, base_rate=0.52)).loc["rank_ic"]
    assert (line["n"], line["sessions"]) == (6 * (MIN_SESSIONS - 1), MIN_SESSIONS - 1)
    assert line["value"] == pytest.approx(coefficients(keys[full], p[full]).mean())
    assert line[["low", "high", "p_value", "t_statistic"]].isna().all()


def test_farther_ahead_as_many_more_sessions_are_needed_for_an_interval() -> None:
    keys, p = market(5 * MIN_SESSIONS, 6, seed=7, skill=0.2)
    rows = stack(keys.assign(horizon=5), gru=p, base_rate=0.52)
    enough = lines_of(rows).loc[list(RETURN_METRICS)]
    assert enough[["low", "high"]].notna().all(axis=None)
    short = lines_of(rows[rows["target_session"] < rows["target_session"].max()]).loc[list(RETURN_METRICS)]
    assert short["value"].notna().all()
    assert short[["low", "high", "p_value"]].isna().all(axis=None)


def test_rows_without_returns_have_the_other_scores_only() -> None:
    keys, p = market(40, 6, seed=8)
    rows = stack(keys, gru=p, base_rate=0.52)
    whole, bare = lines_of(rows), lines_of(rows.drop(columns="realized_return"))
    assert whole.index.tolist() == [*METRICS, *RETURN_METRICS]
    pd.testing.assert_frame_equal(bare, whole.loc[list(METRICS)])


@pytest.mark.parametrize(("column", "value"), [("n", 0), ("sessions", 0)])
def test_a_value_of_no_row_cannot_be_built(column: str, value: int) -> None:
    keys, p = market(40, 6, seed=9)
    lines = score(stack(keys, gru=p, base_rate=0.52), baseline="base_rate", draws=20)
    with pytest.raises(NextdayError, match="Scores rows break their rules"):
        validated(lines.assign(**{column: value, "effective_n": np.nan}), SCORES)


def test_scores_of_picking_are_printed_in_their_units_and_a_missing_one_with_its_reason() -> None:
    assert format_score(0.00123, "top_minus_bottom") == "+12.3 bp"
    assert format_interval(-0.000004, 0.002, "top_minus_bottom", 100) == "-0.04 to +20.00 bp"
    assert format_score(math.nan, "top_minus_bottom") == "–"
    assert format_score(0.0213, "rank_ic") == "0.0213"
    assert format_interval(math.nan, math.nan, "rank_ic", 0) == "– (too few stocks)"
    assert format_interval(math.nan, math.nan, "rank_ic", 9) == "– (under 10 sessions)"
