"""The candles of a symbol: where they are drawn, and what stands for a bar without an open."""

from dataclasses import replace

import numpy as np
import pandas as pd

from pipeline.report.site.price_chart import CANDLES, Prices, plot_candles

DAYS = pd.bdate_range("2018-01-01", periods=101).to_numpy("datetime64[D]")


def bars() -> Prices:
    close = 100 + np.arange(100.0)
    nothing = np.zeros(100)
    return Prices(DAYS, close, close - 0.5, close + 1, close - 1, nothing, nothing + 1)


def count(plot: str, style: str) -> int:
    found = plot.partition(f'class="{style}" d="')[2].partition('"')[0]
    return found.count("Z")


def test_the_newest_sessions_are_candles_and_a_fall_is_told_from_a_rise() -> None:
    prices = bars()
    prices.open[-7:] = prices.close[-7:] + 0.5
    plot = str(plot_candles("A", prices))
    assert (count(plot, "rise"), count(plot, "fall"), count(plot, "alone")) == (CANDLES - 7, 7, 0)
    assert "60 sessions to 2018-05-18: between 139.00 and 200.00." in plot


def test_a_session_with_a_close_alone_is_a_stroke_and_one_without_a_bar_is_a_gap() -> None:
    prices = bars()
    prices.open[-3], prices.close[-9] = np.nan, np.nan
    plot = str(plot_candles("A", prices))
    assert (count(plot, "rise"), count(plot, "alone")) == (CANDLES - 2, 1)


def test_closes_alone_are_no_candles() -> None:
    prices, nothing = bars(), np.full(100, np.nan)
    assert plot_candles("A", replace(prices, open=nothing)) is None
    assert plot_candles("A", replace(prices, open=prices.close, high=prices.close, low=prices.close)) is None
    assert plot_candles("A", replace(prices, close=nothing, open=nothing, high=nothing, low=nothing)) is None
