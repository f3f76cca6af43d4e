"""Longs and shorts of equal weight: by hand, by property, and against another engine."""

import importlib.util

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import TradingConfig
from pipeline.trading.fills import Fills
from pipeline.trading.performance import count_sessions_a_year
from pipeline.trading.positions import take_long_short, trade
from pipeline.trading.view import TradingView, view_trading
from tests.conftest import skip_unless
from tests.pipeline.trading.test_positions import SESSIONS, fills_of, rows_of, walk_of
from tests.pipeline.trading.test_trading_engine import run_engine

FREE = TradingConfig(cost_bps=0, slippage_bps=0, borrow_bps=0, long_short=2)


def relative(p: np.ndarray, model: str = "gru", target: str = "relative") -> pd.DataFrame:
    return rows_of(p, model=model).assign(target=target)


def view(
    fills: Fills, p: np.ndarray, settings: TradingConfig = FREE, target: str = "relative"
) -> TradingView:
    even = np.broadcast_to(np.linspace(0.4, 0.6, p.shape[1]), p.shape)
    both = pd.concat([relative(p, target=target), relative(even, "reversal_5", target)])
    return view_trading(both, fills, settings, model="gru", baseline="reversal_5", trials=1, draws=200)


def test_the_highest_are_long_and_the_lowest_short_with_equal_weights() -> None:
    fills = walk_of(3, sessions=3, symbols=6)
    held = take_long_short(relative([[0.51, 0.6, 0.4, 0.55, 0.5, 0.45]]), fills, most=2)
    assert held.weights[0].tolist() == [0, 0.25, -0.25, 0.25, 0, -0.25]
    assert np.abs(held.weights).sum() == 1


def test_fewer_symbols_than_places_make_two_halves() -> None:
    held = take_long_short(relative([[0.51, 0.6, 0.4]]), walk_of(3, sessions=3), most=10)
    assert held.weights[0].tolist() == [0, 0.5, -0.5]


def test_equal_forecasts_share_what_is_left_and_all_equal_is_no_position() -> None:
    fills = walk_of(3, sessions=4, symbols=4)
    held = take_long_short(relative([[0.6, 0.6, 0.6, 0.4], [0.5, 0.5, 0.5, 0.5]]), fills, most=1)
    assert held.weights[0] == pytest.approx([1 / 6, 1 / 6, 1 / 6, -0.5])
    assert held.weights[1].tolist() == [0, 0, 0, 0]


@given(seed=st.integers(0, 1000), most=st.integers(1, 8), levels=st.sampled_from([2, 5, 1000]))
def test_longs_and_shorts_balance_and_no_short_is_forecast_above_a_long(
    seed: int, most: int, levels: int
) -> None:
    rng = np.random.default_rng(seed)
    p = 0.4 + 0.2 * rng.integers(0, levels, (20, 7)) / levels
    weights = take_long_short(relative(p), walk_of(seed, sessions=30, symbols=7), most=most).weights
    assert weights.sum(axis=1) == pytest.approx(np.zeros(20), abs=1e-12)
    assert (np.abs(weights).sum(axis=1) <= 1 + 1e-12).all()
    for row, forecast in zip(weights, p, strict=True):
        if (row > 0).any():
            assert forecast[row > 0].min() >= forecast[row < 0].max()


def test_costs_and_borrowed_shares_by_hand() -> None:
    fills = fills_of([[10, 20], [10, 20]], [[10, 20], [11, 19]])
    held = take_long_short(relative([[0.6, 0.4]]), fills, most=1)
    track = trade(held, fills.intraday_return, cost=0.001, borrow=0.0002)
    assert track.gross == pytest.approx([0.5 * 0.1 - 0.5 * -0.05])
    assert track.traded == pytest.approx([0.5 * 2.1 + 0.5 * 1.95])
    assert track.net == pytest.approx(track.gross - 0.001 * track.traded - 0.0002 * 0.5)


def test_the_yearly_fee_is_paid_by_the_session() -> None:
    fills = walk_of(4, sessions=200, symbols=6)
    p = np.random.default_rng(4).uniform(0.4, 0.6, (199, 6))
    free, dear = (view(fills, p, FREE.model_copy(update={"borrow_bps": fee})) for fee in (0.0, 500.0))
    year = count_sessions_a_year(fills.sessions)
    ends = [each.curves["model"].iloc[-1] for each in (free, dear)]
    assert ends[1] / ends[0] == pytest.approx((1 - 0.05 / year / 2) ** 199, rel=1e-3)


def test_skill_in_picking_earns_whatever_the_market_does() -> None:
    fills = walk_of(5, sessions=300, symbols=8)
    ranks = fills.intraday_return[1:].argsort(axis=1).argsort(axis=1)
    told = view(fills, 0.45 + 0.1 * ranks / 7)
    assert told.results["model"].total.low > 0
    assert told.excess_bps is not None
    assert told.excess_bps.low > 0


def test_a_night_cannot_be_traded_after_the_close() -> None:
    fills = walk_of(6, sessions=60, symbols=6)
    told = view(fills, np.random.default_rng(1).uniform(0.4, 0.6, (59, 6)), target="overnight_relative")
    assert told.results == {}
    assert "nobody can buy at that close" in told.sentence


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore:DatetimeIndex.dayofweek is deprecated:pandas.errors.Pandas4Warning:backtesting"
)
def test_each_leg_earns_what_another_engine_says() -> None:
    """The engine trades one symbol: the legs of the first symbol, whose weight is 1/4 long or short, at full size."""
    skip_unless(importlib.util.find_spec("backtesting") is not None, "the package backtesting")
    import backtesting

    fills = walk_of(9, sessions=120, symbols=6)
    p = np.random.default_rng(9).uniform(0.3, 0.7, (119, 6))
    held = take_long_short(relative(p), fills, most=2)
    sides = np.sign(held.weights[:, 0])
    theirs = run_engine(backtesting, fills, np.append(sides, 0.0), 0.0003)["_trades"]
    alone = trade(held, np.where(np.arange(6) == 0, fills.intraday_return, np.nan), cost=0.0003)
    inside = sides != 0
    assert len(theirs) == inside.sum() > 50
    assert pd.DatetimeIndex(theirs["EntryTime"]).normalize().tolist() == SESSIONS[1:120][inside].tolist()
    assert theirs["ReturnPct"].to_numpy() == pytest.approx(alone.net[inside] * 4, abs=1e-9)
