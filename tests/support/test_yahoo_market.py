"""The stand-in for Yahoo: each thing that Yahoo does to a history, as it arrives through the real yfinance."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest
from yfinance.data import SingletonMeta

from pipeline.sources.yahoo import YahooSource
from tests.support.yahoo_market import Broken, Quirk, Shown, Stock
from tests.support.yahoo_quirks import (
    Carried,
    Extra,
    ListedTwice,
    Missing,
    Null,
    Replaced,
    Rescaled,
    Twice,
    Unadjusted,
    Unlisted,
    Unsettled,
    Unsorted,
    late,
)
from tests.support.yahoo_server import YahooServer

# One source serves all tests, and what it says about warnings when it is made ends with the first of them.
pytestmark = pytest.mark.slow

DAYS = pd.bdate_range("2024-03-04", "2024-03-15")
"""Two weeks; clocks in New York went forward on Sunday the 10th."""

SPLIT = {"2024-03-12": (2, 1)}
PAID = {"2024-03-12": 1.0}
PRICES = ["open", "high", "low", "close"]


def trades(close: Any = 100.0, days: pd.DatetimeIndex = DAYS) -> pd.DataFrame:
    """Return bars that open at 98, reach from 96 to 102 and trade 1000 shares, around a close of 100."""
    share = np.broadcast_to(np.asarray(close, float), len(days)) / 100
    bars = {"open": 98 * share, "high": 102 * share, "low": 96 * share, "close": 100 * share, "volume": 1000}
    return pd.DataFrame(bars, index=days)


@pytest.fixture(scope="module")
def wire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[YahooServer, YahooSource]]:
    folder = tmp_path_factory.mktemp("yahoo")
    with pytest.MonkeyPatch.context() as patch, YahooServer(folder) as server:
        patch.setattr(SingletonMeta, "_instances", {})
        settings = {"proxy": server.proxy, "ca_bundle": str(server.ca_bundle), "timeout": 5}
        yield server, YahooSource(cache_dir=folder / "cache", requests_per_second=1000, **settings)


@pytest.fixture
def ask(wire: tuple[YahooServer, YahooSource]) -> Callable[..., pd.DataFrame]:
    """Return a fetch of one stock's bars, by session, at a clock; it fails unless they are ok."""
    server, source = wire

    def fetch(stock: Stock, clock: str = "2024-03-15", *, start: str = "2024-03-01") -> pd.DataFrame:
        server.stocks["A"], server.clock = stock, pd.Timestamp(clock)
        window = pd.Timestamp(start), pd.Timestamp("2024-03-31")
        found = source.fetch("A", *window, datetime(2024, 4, 1, tzinfo=UTC))
        assert (found.outcome, found.reason) == ("ok", "")
        found.bars.attrs["currency"] = found.currency
        return found.bars.set_index("session")

    return fetch


Ask = Callable[..., pd.DataFrame]


def listed(bars: pd.DataFrame) -> dict[str, float]:
    """Return the splits that arrived."""
    return {f"{day:%m-%d}": ratio for day, ratio in bars["split"].items() if ratio != 1}


def paid(bars: pd.DataFrame) -> dict[str, float]:
    """Return the dividends that arrived."""
    return {f"{day:%m-%d}": cash for day, cash in bars["dividend"].items() if cash}


# The clock


@pytest.mark.parametrize(
    ("clock", "last", "close"),
    [
        ("2024-03-12", "2024-03-12", 100),  # a day is its end
        ("2024-03-12T13:29Z", "2024-03-11", 100),
        ("2024-03-12T13:30Z", "2024-03-12", 98),  # summer time: New York opens at 13:30 UTC
        ("2024-03-08T14:29Z", "2024-03-07", 100),
        ("2024-03-08T14:30Z", "2024-03-08", 98),  # winter time
        ("2024-03-12T16:45-04:00", "2024-03-12", 100),
    ],
)
def test_the_clock_is_an_instant_or_the_end_of_a_day(ask: Ask, clock: str, last: str, close: float) -> None:
    bars = ask(Stock(trades()), clock)
    assert bars.index[-1] == pd.Timestamp(last)
    assert bars["close"].iloc[-1] == close


def test_the_open_session_has_an_unfinished_bar_with_the_time_of_its_last_trade(
    ask: Ask, wire: tuple[YahooServer, YahooSource]
) -> None:
    # Two and a half hours of six and a half are over at noon.
    noon = "2024-03-12T12:00-04:00"
    bar = ask(Stock(trades()), noon).iloc[-1]
    share = 2.5 / 6.5
    assert bar[PRICES].tolist() == pytest.approx([98, 98 + 4 * share, 98 - 2 * share, 98 + 2 * share])
    assert bar["volume"] == np.floor(1000 * share)
    stamps = wire[0].stocks["A"].chart(pd.Timestamp(noon), 0, 9e9)["chart"]["result"][0]
    assert stamps["timestamp"][-1] == stamps["meta"]["regularMarketTime"] == pd.Timestamp(noon).timestamp()
    assert stamps["timestamp"][-2] == pd.Timestamp("2024-03-11T09:30-04:00").timestamp()


def test_an_early_close_ends_the_session(ask: Ask) -> None:
    stock = Stock(trades(), early={"2024-03-12": "13:00"})
    assert ask(stock, "2024-03-12T12:59-04:00")["close"].iloc[-1] < 100
    assert ask(stock, "2024-03-12T13:00-04:00")["close"].iloc[-1] == 100


# Actions


def test_a_split_halves_the_past_from_the_open_of_its_session(ask: Ask) -> None:
    stock = Stock(trades(np.where(DAYS < "2024-03-12", 200.0, 100.0)), splits=SPLIT)
    assert ask(stock, "2024-03-11")["close"].tolist() == [200] * 6
    bars = ask(stock)
    assert (bars["close"] == 100).all()
    assert bars["volume"].tolist() == [2000] * 6 + [1000] * 4
    assert listed(bars) == {"03-12": 2}


def test_a_dividend_lowers_the_adjusted_past_alone_even_when_it_lies_after_the_window(ask: Ask) -> None:
    stock = Stock(trades(), dividends=PAID)
    bars = ask(stock)
    assert paid(bars) == {"03-12": 1}
    assert bars["adj_close"].tolist() == pytest.approx([99] * 6 + [100] * 4)
    assert (bars["close"] == 100).all()
    early = stock.chart(pd.Timestamp("2024-03-15"), 0, pd.Timestamp("2024-03-08").timestamp())["chart"][
        "result"
    ][0]
    assert early["indicators"]["adjclose"][0]["adjclose"] == pytest.approx([99] * 4)
    assert early["events"] == {}


def test_a_split_and_a_dividend_on_one_day_and_a_split_after_it(ask: Ask) -> None:
    close = np.select([DAYS < "2024-03-12", DAYS < "2024-03-14"], [200.0, 100.0], 50.0)
    stock = Stock(trades(close), dividends=PAID, splits={**SPLIT, "2024-03-14": (2, 1)})
    bars = ask(stock)
    assert paid(bars) == {"03-12": 0.5}
    assert (bars["close"] == 50).all()
    assert bars["adj_close"].tolist() == pytest.approx([49.5] * 6 + [50] * 4)


def test_capital_gains_are_listed_for_a_fund(ask: Ask) -> None:
    bars = ask(Stock(trades(), gains=PAID, kind="ETF"))
    assert paid(bars) == {"03-12": 1}
    assert bars["adj_close"].iloc[0] == pytest.approx(99)


def test_a_late_split_is_unknown_until_it_comes(ask: Ask) -> None:
    close = np.where(DAYS < "2024-03-12", 200.0, 100.0)
    stock = Stock(trades(close), splits=SPLIT)
    stock = stock.with_quirks(*late("2024-03-12", stock.after("2024-03-12", 2)))
    evening = ask(stock, "2024-03-13")
    assert evening["close"].tolist() == [200] * 6 + [100] * 2
    assert evening["volume"].tolist() == [1000] * 8
    assert listed(evening) == {}
    bars = ask(stock, "2024-03-14")
    assert (bars["close"] == 100).all()
    assert listed(bars) == {"03-12": 2}


@pytest.mark.parametrize(
    ("quirk", "closes", "splits"),
    [
        (Unadjusted("2024-03-12"), [200] * 6 + [100] * 4, {"03-12": 2}),  # listed, prices not adjusted yet
        (Unlisted("2024-03-12"), [100] * 10, {}),  # adjusted, not listed
        (Unadjusted("2024-03-12", last="2024-03-06"), [200] * 3 + [100] * 7, {"03-12": 2}),
        (Unadjusted("2024-03-12", first="2024-03-07"), [100] * 3 + [200] * 3 + [100] * 4, {"03-12": 2}),
        (ListedTwice("2024-03-12"), [100] * 10, {"03-12": 2, "03-13": 2}),
    ],
)
def test_a_split_can_be_done_by_halves(
    ask: Ask, quirk: Quirk, closes: list[float], splits: dict[str, float]
) -> None:
    stock = Stock(trades(np.where(DAYS < "2024-03-12", 200.0, 100.0)), splits=SPLIT, quirks=(quirk,))
    bars = ask(stock)
    assert bars["close"].tolist() == closes
    assert listed(bars) == splits


def test_an_unadjusted_part_holds_older_dividends_as_they_were(ask: Ask) -> None:
    close = np.where(DAYS < "2024-03-12", 200.0, 100.0)
    paying = Stock(trades(close), splits=SPLIT, dividends={"2024-03-06": 4.0})
    assert paid(ask(paying)) == {"03-06": 2}
    assert paid(ask(paying.with_quirks(Unadjusted("2024-03-12")))) == {"03-06": 4}


def test_a_split_is_lost_after_it_has_been_shown(ask: Ask) -> None:
    stock = Stock(trades(), splits=SPLIT, quirks=(Unlisted("2024-03-12", since="2024-03-14"),))
    assert [listed(ask(stock, day)) for day in ("2024-03-13", "2024-03-14")] == [{"03-12": 2}, {}]


def test_a_late_dividend_is_in_neither_the_list_nor_the_adjusted_close(ask: Ask) -> None:
    stock = Stock(trades(), dividends=PAID, quirks=late("2024-03-12", "2024-03-14"))
    evening = ask(stock, "2024-03-13")
    assert paid(evening) == {}
    assert evening["adj_close"].tolist() == pytest.approx([100] * 8)
    bars = ask(stock, "2024-03-14")
    assert paid(bars) == {"03-12": 1}
    assert bars["adj_close"].tolist() == pytest.approx([99] * 6 + [100] * 3)


def test_a_dividend_can_be_listed_and_not_be_in_the_adjusted_close(ask: Ask) -> None:
    bars = ask(Stock(trades(), dividends=PAID, quirks=(Unadjusted("2024-03-12"),)))
    assert paid(bars) == {"03-12": 1}
    assert bars["adj_close"].tolist() == pytest.approx([100] * 10)


# Rows


def test_the_newest_bar_settles_when_the_next_session_opens(ask: Ask) -> None:
    stock = Stock(trades(), quirks=(Unsettled({"volume": 1 / 0.73, "high": 1.01, "open": 0.99}),))
    evening = ask(stock, "2024-03-12").loc["2024-03-12"]
    assert evening["volume"] == round(1000 / 0.73)
    assert evening[PRICES].tolist() == pytest.approx([98 * 0.99, 102 * 1.01, 96, 100])
    before, after = (ask(stock, f"2024-03-13T{time}Z").loc["2024-03-12"] for time in ("13:29", "13:30"))
    assert before.tolist() == pytest.approx(evening.tolist())
    assert after[PRICES].tolist() == [98, 102, 96, 100]
    assert after["volume"] / before["volume"] == pytest.approx(0.73, abs=1e-3)


def test_a_single_close_is_revised_later(ask: Ask) -> None:
    revised = Unsettled({"close": 1.01}, "2024-03-08", until="2024-03-13")
    stock = Stock(trades(), quirks=(revised,))
    first, second = ask(stock, "2024-03-12"), ask(stock, "2024-03-13")
    assert first["close"].tolist() == pytest.approx([100] * 4 + [101] + [100] * 2)
    assert first["adj_close"].tolist() == pytest.approx(first["close"].tolist())
    assert second["close"].tolist() == [100] * 8


def test_a_null_row_on_an_ex_date_still_carries_the_event(ask: Ask) -> None:
    bars = ask(Stock(trades(), dividends=PAID, quirks=(Null("2024-03-12"),)))
    assert bars.loc["2024-03-12", [*PRICES, "volume", "adj_close"]].isna().all()
    assert bars.drop(pd.Timestamp("2024-03-12")).notna().all(axis=None)
    assert paid(bars) == {"03-12": 1}


def test_sessions_are_missing_for_some_evenings(ask: Ask) -> None:
    stock = Stock(
        trades(), quirks=(Missing("2024-03-06", "2024-03-07", since="2024-03-12", until="2024-03-14"),)
    )
    assert [len(ask(stock, f"2024-03-{day}")) for day in (11, 12, 13, 14)] == [6, 5, 6, 9]
    bars = ask(stock, "2024-03-13")
    assert not bars.index.isin(pd.DatetimeIndex(["2024-03-06", "2024-03-07"])).any()


def test_of_a_duplicate_stamp_yfinance_keeps_the_first_and_of_a_duplicate_live_bar_the_last(ask: Ask) -> None:
    bars = ask(Stock(trades(), quirks=(Twice("2024-03-06", {"close": 0.99}),)))
    assert bars["close"].tolist() == pytest.approx([100] * 2 + [99] + [100] * 7)
    stock = Stock(trades(), quirks=(Twice(factors={"volume": 0.5}),))
    noon = pd.Timestamp("2024-03-12T12:00-04:00")
    sent = stock.chart(noon, 0, 9e9)["chart"]["result"][0]
    assert [pd.Timestamp(stamp, unit="s") for stamp in sent["timestamp"][-2:]] == [
        pd.Timestamp("2024-03-12 13:30"),
        pd.Timestamp("2024-03-12 16:00"),
    ]
    assert sent["indicators"]["quote"][0]["volume"][-2:] == [192, 384]
    live = ask(stock, str(noon))
    assert live.index.is_unique
    assert live["volume"].iloc[-1] == 384


def test_rows_in_any_order_arrive_in_order(ask: Ask) -> None:
    walk = trades(np.arange(100.0, 110.0))
    stock = Stock(walk, quirks=(Unsorted(),))
    stamps = stock.chart(pd.Timestamp("2024-03-15"), 0, 9e9)["chart"]["result"][0]["timestamp"]
    assert stamps != sorted(stamps)
    bars = ask(stock)
    assert bars.index.tolist() == DAYS.tolist()
    assert bars["close"].tolist() == walk["close"].tolist()


def test_a_sunday_has_the_row_of_friday(ask: Ask) -> None:
    bars = ask(Stock(trades(np.arange(100.0, 110.0)), quirks=(Extra("2024-03-10"),)))
    assert bars.loc["2024-03-08":"2024-03-11", "close"].tolist() == [104, 104, 105]
    assert len(bars) == 11


def test_a_suspension_has_no_rows_or_flat_ones_without_volume(ask: Ask) -> None:
    halted = trades(np.arange(100.0, 110.0)).drop(DAYS[4:7])
    assert ask(Stock(halted)).index.tolist() == [*DAYS[:4], *DAYS[7:]]
    carried = Carried(tuple(f"{day:%Y-%m-%d}" for day in DAYS[4:7]))
    bars = ask(Stock(halted, quirks=(carried,)))
    assert bars.loc[DAYS[4:7], [*PRICES, "volume"]].to_numpy().tolist() == [[103] * 4 + [0]] * 3
    assert bars["close"].tolist() == pytest.approx([100, 101, 102, 103, 103, 103, 103, 107, 108, 109])


@pytest.mark.parametrize("currency", ["GBp", "GBP", None])
def test_pence_and_pounds_are_mixed_up(ask: Ask, currency: str | None) -> None:
    stock = Stock(trades(), dividends=PAID, currency="GBP")
    whole = ask(stock.with_quirks(Rescaled(100, currency)))
    assert whole.attrs["currency"] == (currency or "GBP")
    assert (whole["close"] == 10_000).all()
    assert (whole["volume"] == 1000).all()
    assert paid(whole) == {"03-12": 100}
    assert whole["adj_close"].iloc[0] == pytest.approx(9_900)
    part = ask(stock.with_quirks(Rescaled(0.01, currency, first="2024-03-07", last="2024-03-08")))
    assert part["close"].tolist() == pytest.approx([100] * 3 + [1] * 2 + [100] * 5)


def test_an_index_has_no_volume(ask: Ask) -> None:
    assert ask(Stock(trades().assign(volume=0), kind="INDEX"))["volume"].isna().all()
    nothing = Stock(trades().assign(volume=np.nan), kind="INDEX")
    sent = nothing.chart(pd.Timestamp("2024-03-15"), 0, 9e9)["chart"]["result"][0]
    assert sent["indicators"]["quote"][0]["volume"] == [None] * 10
    assert ask(nothing)["volume"].isna().all()


def test_single_precision_is_what_yahoo_computes_with(ask: Ask) -> None:
    close = np.linspace(100.01, 130.03, 10).round(2)
    exact, single = (ask(Stock(trades(close), dividends=PAID, single=on)) for on in (False, True))
    np.testing.assert_array_equal(single["close"], close.astype("float32").astype(float))
    assert (single["close"] != exact["close"]).any()
    np.testing.assert_allclose(single["adj_close"], exact["adj_close"], rtol=6e-8)


# Symbols


def test_a_symbol_is_given_to_another_company(ask: Ask, wire: tuple[YahooServer, YahooSource]) -> None:
    other = Stock(trades(7.0, DAYS[2:]), splits={"2024-03-08": (3, 1)})
    stock = Stock(trades(), quirks=(Replaced(other, since="2024-03-13"),))
    assert ask(stock, "2024-03-12")["close"].tolist() == [100] * 7
    bars = ask(stock, "2024-03-13")
    assert bars.index[0] == DAYS[2]
    assert bars["close"].tolist() == pytest.approx([7 / 3] * 2 + [7] * 4)
    first = stock.chart(pd.Timestamp("2024-03-13"), 0, 9e9)["chart"]["result"][0]["meta"]["firstTradeDate"]
    assert pd.Timestamp(first, unit="s") == pd.Timestamp("2024-03-06 14:30")


def test_a_delisted_symbol_and_the_old_name_of_a_renamed_one_are_unknown_from_a_day_on(
    wire: tuple[YahooServer, YahooSource],
) -> None:
    server, source = wire
    server.stocks["OLD"] = Stock(trades(), quirks=(Broken("not found", since="2024-03-12"),))
    server.stocks["NEW"] = Stock(trades(), quirks=(Broken("not found", until="2024-03-12"),))
    seen = []
    for day in ("2024-03-11", "2024-03-12"):
        server.clock = pd.Timestamp(day)
        found = [source.fetch(s, DAYS[0], DAYS[-1], datetime(2024, 4, 1, tzinfo=UTC)) for s in ("OLD", "NEW")]
        seen.append([(answer.outcome, len(answer.bars)) for answer in found])
    assert seen == [[("ok", 6), ("not_found", 0)], [("not_found", 0), ("ok", 7)]]


def test_quirks_work_on_what_earlier_ones_show_and_a_new_one_is_a_few_lines(ask: Ask) -> None:
    class Doubled(Quirk):
        def show(self, shown: Shown) -> Shown:
            return replace(shown, bars=shown.bars.assign(volume=shown.bars["volume"] * 2))

    stock = Stock(trades(), quirks=(Doubled(), Unsettled({"volume": 0.5}), Doubled(until="2024-03-14")))
    assert ask(stock, "2024-03-13")["volume"].tolist() == [4000] * 7 + [2000]
    assert ask(stock, "2024-03-14")["volume"].tolist() == [2000] * 8 + [1000]
