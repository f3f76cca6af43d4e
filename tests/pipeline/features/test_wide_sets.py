"""The columns of the larger sets, against their formulas with plain numbers."""

import numpy as np
import pandas as pd
import pytest

from pipeline.features.panel import Panel
from pipeline.features.wide_sets import RETURNS31, WIDE
from pipeline.market.calendar import Calendar
from tests.conftest import laid_out, prices_of, random_bars

COUNT = 300
SYMBOLS = ["A", "B", "C"]


@pytest.fixture(scope="module")
def panel(xnys: Calendar) -> Panel:
    sessions = xnys.sessions[:COUNT]
    bars = {symbol: random_bars(sessions, seed) for seed, symbol in enumerate(SYMBOLS)}
    bars["A"].loc[200, "dividend"] = 1.5
    return laid_out(prices_of(bars, xnys), sessions, SYMBOLS)


def everybody() -> np.ndarray:
    return np.ones((COUNT, len(SYMBOLS)), bool)


def test_the_lagged_returns_are_those_of_the_paper(panel: Panel) -> None:
    columns = RETURNS31.compute(panel, everybody())
    assert tuple(columns) == RETURNS31.columns
    assert len(columns) == 31
    p = panel.adj_close[:, 0]
    for lag in (1, 2, 20, 40, 240):
        assert columns[f"return_{lag}"][0].iloc[280] == pytest.approx(p[280] / p[280 - lag] - 1)


def test_the_wide_columns_are_their_formulas(panel: Panel) -> None:
    columns = WIDE.compute(panel, everybody())
    assert tuple(columns) == WIDE.columns
    t, p = 290, panel.adj_close[:, 0]
    log = np.log(p)
    step = np.diff(log, prepend=np.nan)
    scale = step[t - 62 : t + 1].std(ddof=1)
    night = log[t] - log[t - 1] - np.log(panel.close[t, 0] / panel.open[t, 0])
    expected = {
        "log_return_1": step[t],
        "scaled_return_lag_0": step[t] / scale,
        "scaled_return_lag_3": step[t - 3] / step[t - 65 : t - 2].std(ddof=1),
        "scaled_return_21": (log[t] - log[t - 21]) / (scale * np.sqrt(21)),
        "volatility_10": np.log(step[t - 9 : t + 1].std(ddof=1)),
        "volatility_ratio_5": np.log(step[t - 4 : t + 1].std(ddof=1) / step[t - 125 : t + 1].std(ddof=1)),
        "distance_from_mean_21": (log[t] - log[t - 20 : t + 1].mean()) / scale,
        "below_high_252": log[t] - log[t - 251 : t + 1].max(),
        "above_low_63": log[t] - log[t - 62 : t + 1].min(),
        "range": np.log(panel.high[t, 0] / panel.low[t, 0]),
        "overnight_1": night / scale,
        "intraday_1": np.log(panel.close[t, 0] / panel.open[t, 0]) / scale,
        "up_share_21": (step[t - 20 : t + 1] > 0).mean(),
        "volume_ratio_lagged_5": np.log(panel.volume[t - 1, 0] / panel.volume[t - 5 : t, 0].mean()),
        "skewness_21": pd.Series(step[t - 20 : t + 1]).skew(),
        "largest_fall_21": step[t - 20 : t + 1].min() / scale,
        "autocorrelation_21": (step[t - 20 : t + 1] * step[t - 21 : t]).mean()
        / step[t - 20 : t + 1].var(ddof=1),
    }
    for name, value in expected.items():
        assert columns[name][0].iloc[t] == pytest.approx(value), name


def test_ranks_are_taken_among_the_members_and_lie_around_zero(panel: Panel) -> None:
    belongs = everybody()
    ranks = WIDE.compute(panel, belongs)["universe_rank_return_5"]
    change = np.log(panel.adj_close[290] / panel.adj_close[285])
    assert ranks.iloc[290].tolist() == pytest.approx((change.argsort().argsort() - 1) / 2)
    belongs[:, 2] = False
    alone = WIDE.compute(panel, belongs)["universe_rank_return_5"].iloc[290].to_numpy()
    assert sorted(alone[:2]) == pytest.approx([-0.5, 0.5])
    belongs[:, 1] = False
    assert WIDE.compute(panel, belongs)["universe_rank_return_5"].iloc[290, 0] == 0


def test_an_unknown_open_costs_no_row(panel: Panel) -> None:
    blind = Panel(**{**vars(panel), "open": np.full_like(panel.open, np.nan)})
    columns = WIDE.compute(blind, everybody())
    assert (columns["overnight_5"].iloc[280:] == 0).all().all()
    assert all(np.isfinite(column.iloc[280:]).all().all() for column in columns.values())
