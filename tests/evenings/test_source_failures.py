"""How a source goes wrong, one test a line of docs/prices.md: provoked through the stand-in, and the defence seen."""

import inspect
import sqlite3
import threading
import tomllib
from dataclasses import replace
from functools import partialmethod
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yfinance as yf
from packaging.requirements import Requirement
from packaging.version import Version
from peewee import SqliteDatabase
from yfinance.scrapers.history import PriceHistory

from flows.runtime.locations import PROJECT
from pipeline.errors import SourceError
from pipeline.features.panel import build_panel
from pipeline.features.targets import part_returns
from pipeline.outputs import Output
from pipeline.prices.ingest.listing_status import find_listings, recent_bars
from pipeline.sources.yahoo import YahooSource
from tests.conftest import NOW
from tests.support import street as street_module
from tests.support.made_market import make_stock
from tests.support.street import Street, assert_true, rules
from tests.support.yahoo_market import Broken
from tests.support.yahoo_quirks import (
    Carried,
    Missing,
    Null,
    Replaced,
    Rescaled,
    Twice,
    Unlisted,
    Unsettled,
    late,
)

pytestmark = pytest.mark.slow

street = street_module.street

SIX = ("A", "B", "C", "D", "E", "F")
MONDAY, TUESDAY, WEDNESDAY = "2018-12-10", "2018-12-11", "2018-12-12"


def traded(street: Street, symbol: str, name: str = "close") -> "pd.Series[float]":
    return street.server.stocks[symbol].traded[name]


# 1


def test_the_first_429_ends_the_asking_and_the_next_run_asks_for_the_rest_only(street: Street) -> None:
    street.opens(*"ABCDEFGHIJKL")
    street.server.failing = lambda symbol, clock: "rate limited" if symbol == "F" else ""
    with pytest.raises(SourceError, match="stale") as error:
        street.evening(MONDAY)
    assert "rate_limited: Yahoo answered 429" in str(error.value)
    had = [s for s in "ABCDEFGHIJKL" if not street.bars(s, MONDAY).empty]
    # Four threads: F was asked for when two were done, and three more were on their way.
    assert len(had) >= 2
    assert set(had) <= set("ABCDEGHI")
    asked = {s: street.requests(s) for s in "ABCDEFGHIJKL"}
    assert asked["L"] == 0
    street.server.failing = lambda symbol, clock: ""
    market = street.evening(MONDAY, hours=3)
    assert market.covered == 12
    assert [s for s in "ABCDEFGHIJKL" if not street.requests(s)] == had


# 2


def test_an_outage_is_no_delisting_and_five_evenings_of_404_are_one(street: Street) -> None:
    street.opens(*"ABCDEFGHIJ")
    street.evening(MONDAY)
    street.quirk("A", Broken("server error", since=TUESDAY))
    street.quirk("B", Broken("not found", since=TUESDAY))
    before = street.bars("B", MONDAY)
    for number, session in enumerate(street.sessions(TUESDAY, "2018-12-26"), start=1):
        market = street.evening(session)
        assert market.missing["A"].startswith("transient: Yahoo is out of order (500")
        assert market.missing["B"].startswith("delisted" if number >= 5 else "not_found")
    run = street.run("2018-12-26")
    bars = recent_bars(run.store, run.calendar, ["A", "B", "C"], run.last_closed)
    states = find_listings(bars, run.fetch_log, run.calendar, ["A", "B", "C"], run.last_closed)
    assert [states[s].state for s in "ABC"] == ["trading", "delisted", "trading"]
    pd.testing.assert_frame_equal(street.bars("B"), before)


# 3


@pytest.mark.parametrize("quirk", [Missing, Null])
def test_a_session_that_many_lack_is_an_outage_and_is_filled_when_it_comes(
    street: Street, quirk: type[Missing | Null]
) -> None:
    street.opens(*SIX)
    street.evening(MONDAY)
    for symbol in "ABC":
        street.quirk(symbol, quirk(TUESDAY, until="2018-12-12"))
    with pytest.raises(SourceError, match="3 of 6 constituents have no bar on 2018-12-11"):
        street.evening(TUESDAY)
    assert street.bars("D", TUESDAY).index[-1] == pd.Timestamp(TUESDAY)
    assert street.evening(WEDNESDAY).covered == 6
    for symbol in SIX:
        assert_true(street, symbol, WEDNESDAY)


# 4


def test_an_unfinished_bar_is_not_stored_and_is_the_whole_one_later(street: Street) -> None:
    street.opens("A", "B")
    for hours in (-3, 0.5):  # in the middle of the session; after its close, before the delay is over
        assert street.evening(TUESDAY, hours).as_of == pd.Timestamp(MONDAY)
        assert street.bars("A", TUESDAY).index[-1] == pd.Timestamp(MONDAY)
    street.evening(TUESDAY)
    assert_true(street, "A", TUESDAY)


# 5


def test_a_bar_revised_overnight_is_a_new_version_and_the_old_one_stays_readable(street: Street) -> None:
    street.opens("A", "B")
    wild = {"volume": 0.73, "high": 1.01, "low": 0.99}
    street.quirk("A", Unsettled(wild, until=TUESDAY), Unsettled(wild, TUESDAY, until=WEDNESDAY))
    street.evening(MONDAY)
    seq = street.run(MONDAY).store.seq()
    last = street.bars("A", MONDAY).iloc[-1]
    assert last["status"] == "provisional"
    assert last["volume"] == pytest.approx(0.73 * traded(street, "A", "volume")[MONDAY], rel=1e-5)
    market = street.evening(TUESDAY)
    assert rules(market) == {}  # a bar that settles otherwise than it came is normal
    assert set(street.bars("A", TUESDAY)["status"][:-1]) == {"settled"}
    assert_true(street, "A", MONDAY)
    then = street.bars("A", MONDAY, seq=seq).iloc[-1]
    assert then["volume"] == last["volume"]


# 6


def test_the_last_day_twice_is_one_row(street: Street) -> None:
    street.opens("A", "B")
    street.quirk("A", Twice(factors={"close": 1.02, "high": 1.02, "volume": 0.5}))
    street.evening(MONDAY)
    assert street.bars("A").index.is_unique
    assert_true(street, "B", MONDAY)
    assert len(street.bars("A", MONDAY)) == len(street.bars("B", MONDAY))


# 7: tests/pipeline/prices/ingest/test_split_faults.py


# 8


def test_no_price_is_repaired_what_cannot_be_is_kept_out(street: Street) -> None:
    street.opens(*SIX)
    street.evening(MONDAY)
    street.quirk("A", Rescaled(100, first="2018-12-06", last="2018-12-06"))
    market = street.evening(TUESDAY)
    assert rules(market) == {"A": ["quarantine: unit fault"]}
    assert_true(street, "A", MONDAY)


# 9


def test_pence_for_pounds_are_a_unit_fault_whatever_the_currency_says(street: Street) -> None:
    street.opens(*SIX)
    street.evening(MONDAY)
    street.quirk("A", Rescaled(100))
    street.quirk("B", Rescaled(0.01, currency="GBP"))
    with pytest.raises(SourceError, match="2 of 6"):
        street.evening(TUESDAY)
    events = street.run(TUESDAY).fetch_log.events()
    assert dict(zip(events["symbol"], events["rule"], strict=True)) == {
        "A": "unit fault",
        "B": "currency changed",
    }
    assert_true(street, "A", MONDAY)


def test_a_new_bar_alone_in_pence_is_not_stored(street: Street) -> None:
    street.opens(*SIX)
    street.evening(MONDAY)
    street.quirk("A", Rescaled(100, first=TUESDAY, last=TUESDAY, until=WEDNESDAY))
    assert rules(street.evening(TUESDAY)) == {"A": ["quarantine: unit fault"]}
    street.evening(WEDNESDAY)
    assert_true(street, "A", WEDNESDAY)


def test_a_wrong_bar_in_a_first_answer_is_named_and_its_correction_comes_in(street: Street) -> None:
    street.opens(*SIX)
    street.quirk("A", Rescaled(0.1, first="2018-11-28", last="2018-11-28", until=TUESDAY))
    street.quirk("B", Rescaled(0.1, first=MONDAY, last=MONDAY, until=TUESDAY))
    market = street.evening(MONDAY)
    assert rules(market) == {"A": ["spike"], "B": ["quarantine: unexplained leap"]}
    assert "quarantine since" in market.missing["B"]
    assert street.bars("B", MONDAY).index[-1] == pd.Timestamp("2018-12-07")
    assert rules(street.evening(TUESDAY)) == {"A": ["revised"]}
    assert_true(street, "A", TUESDAY)
    assert_true(street, "B", TUESDAY)


# 10


def test_a_dividend_learnt_late_is_a_new_version_and_a_wrong_one_is_named(street: Street) -> None:
    sessions = street.days.sessions_between(pd.Timestamp(street.first), pd.Timestamp("2018-12-31"))
    pays = make_stock(street.days, sessions, 9, payouts={TUESDAY: 0.02})
    street.opens(*SIX, X=pays, Y=pays)
    street.quirk("X", *late(TUESDAY, "2018-12-13"))
    street.quirk("Y", Unlisted(TUESDAY))
    street.evening(MONDAY)
    market = street.evening(TUESDAY)
    assert rules(market) == {"Y": ["dividend in doubt"]}
    assert street.bars("X", TUESDAY)["dividend"].iloc[-1] == 0
    street.evening(WEDNESDAY)
    seq = street.run(WEDNESDAY).store.seq()
    assert rules(street.evening("2018-12-13"))["X"] == ["revised"]
    assert street.bars("X")["dividend"][TUESDAY] == pytest.approx(pays.dividends[TUESDAY], rel=1e-6)
    assert street.bars("X", seq=seq)["dividend"][TUESDAY] == 0


# 11


def test_a_row_without_prices_on_an_ex_date_gives_its_dividend_to_the_next_bar(street: Street) -> None:
    sessions = street.days.sessions_between(pd.Timestamp(street.first), pd.Timestamp("2018-12-31"))
    street.opens(*SIX, X=make_stock(street.days, sessions, 9, payouts={TUESDAY: 0.02}))
    street.quirk("X", Null(TUESDAY))
    street.evening(MONDAY)
    assert "open, high, low, close: the value is missing" in rules(street.evening(TUESDAY))["X"]
    assert "action moved" in rules(street.evening(WEDNESDAY))["X"]
    bars = street.bars("X")
    assert pd.Timestamp(TUESDAY) not in bars.index
    assert bars["dividend"][WEDNESDAY] == pytest.approx(
        street.server.stocks["X"].dividends[TUESDAY], rel=1e-6
    )


# 12


def test_every_option_that_shapes_a_bar_is_stated_and_yfinance_is_pinned(
    street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    stated: list[dict[str, object]] = []
    history = yf.Ticker.history

    def spy(ticker: yf.Ticker, **options: object) -> pd.DataFrame:
        stated.append(options)
        return history(ticker, **options)

    monkeypatch.setattr(yf.Ticker, "history", spy)
    street.opens("A", "B")
    street.evening(MONDAY)
    known = set(inspect.signature(PriceHistory.history).parameters) - {"self", "period", "raise_errors"}
    assert set(stated[0]) == known
    assert (stated[0]["repair"], stated[0]["auto_adjust"], stated[0]["interval"]) == (False, False, "1d")
    asked_for = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["dependencies"]
    pin = next(Requirement(line).specifier for line in asked_for if line.startswith("yfinance"))
    assert Version(version("yfinance")) in pin
    assert "1.8" not in pin


# 13


@pytest.mark.parametrize(
    ("timezone", "opens"),
    [("Asia/Tokyo", "09:00"), ("Europe/London", "08:00"), ("Pacific/Auckland", "10:00")],
)
def test_a_session_is_the_exchanges_own_day_on_both_sides_of_a_clock_change(
    street: Street, tmp_path: Path, timezone: str, opens: str
) -> None:
    days = pd.DatetimeIndex(["2018-03-23", "2018-03-26", "2018-10-26", "2018-10-29"])
    stock = replace(
        make_stock(street.days, days, 1), timezone=timezone, opens=opens, closes="16:30", early={}
    )
    street.server.stocks["A"] = stock
    street.server.clock = pd.Timestamp("2018-11-01", tz="UTC")
    source = YahooSource(
        cache_dir=tmp_path / "cache", proxy=street.server.proxy, ca_bundle=str(street.server.ca_bundle)
    )
    found = source.fetch("A", days[0], days[-1], NOW)
    assert found.outcome == "ok"
    assert found.bars["session"].tolist() == days.tolist()


# 14


def test_four_threads_mix_up_no_symbols(street: Street) -> None:
    symbols = [f"S{number:02d}" for number in range(40)]
    street.opens(*symbols)
    names = set()
    heard = street.server.heard
    street.server.heard = lambda request: (names.add(threading.current_thread().name), heard(request))[1]
    street.evening(MONDAY)
    assert len(names) >= 4
    for symbol in symbols:
        assert_true(street, symbol, MONDAY)


# 15


@pytest.mark.parametrize("harm", ["damaged", "locked", "no folder"])
def test_a_cache_of_yfinance_that_cannot_be_used_costs_a_request_and_no_evening(
    street: Street, harm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    street.opens("A", "B")
    cache = street.folder / "data" / "cache" / "yfinance"
    cache.mkdir(parents=True)
    if harm == "no folder":
        cache.rmdir()
        cache.write_text("a file where the folder should be")
    if harm == "damaged":
        (cache / "tkr-tz.db").write_bytes(b"no database, but long enough to be taken for one " * 100)
    holder = None
    if harm == "locked":
        impatient = partialmethod(SqliteDatabase.init, timeout=0.2)  # it waits for 5 seconds
        monkeypatch.setattr(SqliteDatabase, "init", impatient)
        holder = sqlite3.connect(cache / "tkr-tz.db", isolation_level=None)
        holder.execute("CREATE TABLE t (x)")
        holder.execute("BEGIN EXCLUSIVE")
    try:
        assert street.evening(MONDAY).covered == 2
    finally:
        if holder:
            holder.close()
    assert_true(street, "A", MONDAY)


# 16


def test_a_rename_is_joined_by_hand_and_the_history_goes_on(street: Street) -> None:
    street.opens(*SIX)
    street.server.stocks["NEW"] = street.server.stocks["A"].with_quirks(Broken("not found", until=TUESDAY))
    street.quirk("A", Broken("not found", since=TUESDAY))
    street.lists(*SIX)
    street.evening(MONDAY)
    assert "not_found" in street.evening(TUESDAY).missing["A"]
    street.lists("NEW,,,,A", *SIX[1:])
    market = street.evening(WEDNESDAY)
    assert (market.covered, market.missing, rules(market)) == (6, {}, {})
    bars = street.bars("NEW")
    assert set(bars["instrument_id"]) == {"A"}
    assert_true(street, "NEW", WEDNESDAY)
    assert len(street.run(WEDNESDAY).store.versions(symbols=["NEW"])) == len(bars) + 1  # Monday's bar settled


def test_a_symbol_given_to_another_company_is_symbol_reuse(street: Street) -> None:
    street.opens(*SIX)
    sessions = street.days.sessions_between(pd.Timestamp(street.first), pd.Timestamp("2018-12-31"))
    street.quirk("A", Replaced(make_stock(street.days, sessions, 77), since=TUESDAY))
    street.evening(MONDAY)
    assert rules(street.evening(TUESDAY)) == {"A": ["quarantine: symbol reuse"]}
    assert_true(street, "A", MONDAY)


# 17


def test_bars_without_trades_are_stored_and_neither_labelled_nor_traded(street: Street) -> None:
    street.opens("A", "B")
    holiday_of_its_own = pd.Timestamp("2018-12-06")
    stock = street.server.stocks["A"]
    street.server.stocks["A"] = replace(
        stock, traded=stock.traded.drop(holiday_of_its_own), quirks=(Carried(("2018-12-06",)),)
    )
    street.evening(MONDAY)
    bars = street.bars("A")
    assert bars["volume"][holiday_of_its_own] == 0
    sessions = street.days.sessions_between(pd.Timestamp("2018-12-03"), pd.Timestamp(MONDAY))
    panel = build_panel(street.run(MONDAY).store.read_block(sessions, ["A", "B"]))
    place = sessions.get_loc(holiday_of_its_own)
    assert panel.is_traded[place].tolist() == [False, True]
    assert np.isnan(part_returns(panel, Output("direction", 1))[place - 1, 0])
