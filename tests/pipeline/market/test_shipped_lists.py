"""The lists in data/universes: they can be read, and have as many members on every session as their index had."""

import re
from datetime import UTC, date, datetime

import pandas as pd
import pytest

from pipeline.config import UniverseConfig
from pipeline.market.calendar import calendar
from pipeline.market.universe import Universe, universe
from tests.conftest import PROJECT

LISTS = PROJECT / "data" / "universes"
NAMES = ["dax40", "dow30", "us-sectors"]
NOW = datetime(2026, 11, 25, 22, tzinfo=UTC)


def read(name: str) -> Universe:
    return universe(UniverseConfig(name=name, file=f"{name}.csv"), LISTS, [])


def counts(name: str, exchange: str, first: date) -> "pd.Series[int]":
    members, sessions = read(name), calendar(exchange, first, NOW).sessions
    return members.membership(sessions[sessions >= pd.Timestamp(first)], members.symbols).sum(axis=1)


def test_every_list_is_tested_here() -> None:
    assert sorted(path.stem for path in LISTS.glob("*.csv")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_list_says_what_it_is_as_of_when_and_for_which_calendar(name: str) -> None:
    head = [
        line for line in (LISTS / f"{name}.csv").read_text(encoding="utf-8").splitlines() if line[0] == "#"
    ]
    text = " ".join(head)
    as_of = re.search(r"as of (\d{4}-\d\d-\d\d)", text)
    assert as_of is not None
    assert pd.Timestamp(as_of[1]) < pd.Timestamp(NOW).tz_localize(None)
    exchange = re.search(r"Calendar (\w+)", text)
    assert exchange is not None
    assert pd.Timestamp(as_of[1]) in calendar(exchange[1], date(2019, 1, 2), NOW).sessions
    assert "Source:" in text


@pytest.mark.parametrize("name", NAMES)
def test_no_symbol_is_listed_twice(name: str) -> None:
    entries = read(name).entries
    assert not entries["symbol"].duplicated().any()


def test_the_dow_has_thirty_members_on_every_session_since_2019() -> None:
    assert set(counts("dow30", "XNYS", date(2019, 4, 2))) == {30}
    assert not read("dow30").bias


@pytest.mark.parametrize(
    ("last", "first", "left", "came"),
    [  # as S&P Dow Jones Indices announced them
        ("2020-08-28", "2020-08-31", {"XOM", "PFE", "RTX"}, {"CRM", "AMGN", "HON"}),
        ("2024-02-23", "2024-02-26", {"WBA"}, {"AMZN"}),
        ("2024-11-07", "2024-11-08", {"INTC", "DOW"}, {"NVDA", "SHW"}),
        ("2026-06-26", "2026-06-29", {"VZ"}, {"GOOGL"}),
    ],
)
def test_a_symbol_that_left_the_dow_was_a_member_on_the_session_before(
    last: str, first: str, left: set[str], came: set[str]
) -> None:
    members = read("dow30")
    before, after = set(members.members(pd.Timestamp(last))), set(members.members(pd.Timestamp(first)))
    assert (before - after, after - before) == (left, came)
    days = calendar("XNYS", date(2019, 1, 2), NOW)
    assert days.next_session(pd.Timestamp(last)) == pd.Timestamp(first)


def test_raytheon_is_the_listing_that_was_united_technologies() -> None:
    assert read("dow30").instruments["RTX"] == "UTX"
    assert read("dow30").current["UTX"] == "RTX"


def test_the_dax_has_forty_members_of_today() -> None:
    assert set(counts("dax40", "XETR", date(2025, 9, 22))) == {40}
    assert read("dax40").bias
    assert all(symbol.endswith(".DE") for symbol in read("dax40").symbols)


@pytest.mark.parametrize(
    ("day", "funds"),
    [
        ("1998-12-21", 0),
        ("1998-12-22", 9),
        ("2015-10-07", 9),
        ("2015-10-08", 10),
        ("2018-06-18", 10),
        ("2018-06-19", 11),
        ("2026-06-29", 11),
    ],
)
def test_a_sector_fund_belongs_from_its_first_session_on(day: str, funds: int) -> None:
    assert len(read("us-sectors").members(pd.Timestamp(day))) == funds
