"""The made-up market: what happens in it, and that its truth is what the stand-in builds on."""

import numpy as np
import pandas as pd
import pytest

from pipeline.market.calendar import Calendar
from tests.support.made_market import Listing, MadeMarket, make_market, make_stock
from tests.support.yahoo_market import Stock

LAST = "2018-12-31"


@pytest.fixture(scope="module")
def market(xnys: Calendar) -> MadeMarket:
    return make_market(xnys, "2018-01-02", LAST)


def at_the_end(stock: Stock) -> pd.DataFrame:
    return stock.honest(stock.clock(pd.Timestamp(LAST))).bars


def test_two_splits_eleven_dividends_one_rename_and_one_delisting(market: MadeMarket, xnys: Calendar) -> None:
    assert list(market.listings) == [f"S{number:02d}" for number in range(12)]
    assert (market.actions["split"] != 1).sum() == 2
    assert (market.actions["dividend"] > 0).sum() == 11
    busy = xnys.sessions_between(pd.Timestamp("2018-01-02"), pd.Timestamp(LAST))[-60:]
    assert market.actions["session"].isin(busy[1:-6]).all()
    (renamed,) = (each for each in market.listings.values() if each.renamed)
    symbol, _ = renamed.renamed
    assert list(renamed.stocks) == [renamed.instrument_id, symbol] == [symbol[:-1], symbol]
    fails = {
        name: [stock.failing(stock.clock(pd.Timestamp(when))) for when in (busy[0], LAST)]
        for name, stock in market.stocks.items()
    }
    assert fails[renamed.instrument_id] == ["", "not found"]
    assert fails[symbol] == ["not found", ""]
    (gone,) = (name for name, each in market.listings.items() if each.stock.traded.index[-1] != busy[-1])
    assert fails.pop(gone) == ["", "not found"]
    lived = market.listings[gone].stock.traded.index
    assert lived.tolist() == xnys.sessions_between(lived[0], lived[-1]).tolist()
    assert len(lived) < 251 == market.traded["session"].nunique()
    assert {*market.stocks} - {*fails} == {gone}
    assert sum(fault != ["", ""] for fault in fails.values()) == 2


def test_the_same_seed_gives_the_same_market_and_another_one_another(
    market: MadeMarket, xnys: Calendar
) -> None:
    again = make_market(xnys, "2018-01-02", LAST)
    pd.testing.assert_frame_equal(again.traded, market.traded)
    pd.testing.assert_frame_equal(again.actions, market.actions)
    assert not make_market(xnys, "2018-01-02", LAST, seed=21).actions.equals(market.actions)


def test_prices_are_whole_cents_within_their_range(market: MadeMarket) -> None:
    traded = market.traded
    prices = traded[["open", "high", "low", "close"]]
    np.testing.assert_allclose(prices * 100, (prices * 100).round(), atol=1e-6)
    assert traded["low"].le(prices.min(axis=1)).all()
    assert traded["high"].ge(prices.max(axis=1)).all()
    assert prices.gt(0).all(axis=None)


def test_the_total_return_is_what_yahoos_adjusted_close_moves_by(market: MadeMarket) -> None:
    for name, each in market.listings.items():
        adjusted = at_the_end(each.stock)["adj_close"]
        truth = market.total_return[name].dropna()
        np.testing.assert_allclose(truth / truth.iloc[0], adjusted / adjusted.iloc[0], rtol=1e-12)
        assert truth.iloc[0] == each.stock.traded["close"].iloc[0]


def test_the_total_return_of_a_split_and_a_dividend_by_hand(xnys: Calendar) -> None:
    days = xnys.sessions_between(pd.Timestamp("2018-03-05"), pd.Timestamp("2018-03-08"))
    stock = make_stock(
        xnys, days, 1, splits={"2018-03-06": (2, 1)}, payouts={"2018-03-06": 0.01, "2018-03-08": 0.02}
    )
    close, cash = stock.traded["close"].tolist(), list(stock.dividends.values())
    assert list(stock.dividends) == ["2018-03-06", "2018-03-08"]
    assert cash == [pytest.approx(0.005 * close[0], abs=5e-4), pytest.approx(0.02 * close[2], abs=5e-4)]
    market = MadeMarket({"A": Listing("A", stock)})
    returns = (market.total_return["A"] / market.total_return["A"].shift()).dropna().tolist()
    assert returns == pytest.approx(
        [close[1] / (close[0] / 2 - cash[0]), close[2] / close[1], close[3] / (close[2] - cash[1])]
    )


def test_a_longer_walk_begins_with_the_shorter_one(xnys: Calendar) -> None:
    days = xnys.sessions_between(pd.Timestamp("2018-01-02"), pd.Timestamp(LAST))
    short, long = (make_stock(xnys, part, 7).traded for part in (days[:100], days))
    pd.testing.assert_frame_equal(short, long.iloc[:100])


def test_the_exchanges_hours_hold_early_closes(market: MadeMarket) -> None:
    stock = market.listings["S03"].stock
    assert (stock.timezone, stock.opens, stock.closes) == ("America/New_York", "09:30", "16:00")
    assert stock.early == {"2018-07-03": "13:00", "2018-11-23": "13:00", "2018-12-24": "13:00"}
