"""The calendar against the bars: unscheduled closures and sessions that the calendar does not have."""

from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.market.calendar import Calendar, calendar
from pipeline.market.closures import Override
from pipeline.market.universe import Universe
from pipeline.prices.ingest.fetch_log import FetchLog
from pipeline.prices.ingest.quality import FINDING_COLUMNS, no_findings
from pipeline.prices.ingest.store_check import check_store
from pipeline.prices.ingest.unknown_closures import count_bars, find_unknown_closures, find_unknown_sessions
from pipeline.prices.store import PriceStore
from tests.conftest import prices_of, vendor_bars

NOW = datetime(2025, 2, 3, 22, tzinfo=UTC)
FIRST, LAST = pd.Timestamp("2024-10-01"), pd.Timestamp("2025-01-31")


def sessions(name: str = "XNYS") -> pd.DatetimeIndex:
    return calendar(name, date(2024, 9, 2), NOW).sessions_between(FIRST, LAST)


def counted(days: pd.DatetimeIndex, bars: dict[str, int], members: int = 30) -> tuple["pd.Series[int]", ...]:
    """Return bars of all members on every session but those given."""
    have = pd.Series(members, index=days)
    for day, count in bars.items():
        have[pd.Timestamp(day)] = count
    have = have.sort_index()
    return have, pd.Series(members, index=have.index)


def found(bars: dict[str, int], members: int = 30, name: str = "XNYS") -> list[tuple[str, str]]:
    days = sessions(name)
    wrong = find_unknown_closures(*counted(days, bars, members), days, name)
    return [(f"{row.session:%Y-%m-%d}", row.rule) for row in wrong.itertuples()]


def test_a_session_without_a_bar_of_any_member_is_an_unknown_closure() -> None:
    days = sessions()
    wrong = find_unknown_closures(*counted(days, {"2024-12-10": 0}), days, "XNYS")
    assert wrong.to_dict("records") == [
        {
            "session": pd.Timestamp("2024-12-10"),
            "rule": "unknown closure",
            "evidence": "XNYS has a session, and 0 of 30 constituents have a bar",
            "fix": "if the exchange was closed, write the day into the file of [universe] closures",
        }
    ]


def test_a_closed_day_on_which_most_members_have_a_bar_is_an_unknown_session() -> None:
    days = sessions("XBOM")
    wrong = find_unknown_closures(*counted(days, {"2024-11-01": 28}), days, "XBOM")
    assert wrong["evidence"].tolist() == ["XBOM has no session, and 28 of 30 constituents have a bar"]
    assert wrong["rule"].tolist() == ["unknown session"]
    assert "write its hours" in wrong["fix"].iloc[0]


@pytest.mark.parametrize(
    ("bars", "rules"),
    [
        ({}, []),
        ({"2024-12-10": 3}, [("2024-12-10", "unknown closure")]),  # a stale row here and there
        ({"2024-12-10": 4}, []),  # an outage of the source, or a hole of many
        ({f"{LAST:%Y-%m-%d}": 0}, []),  # the newest session: its bars may come yet
        ({"2025-01-30": 0}, [("2025-01-30", "unknown closure")]),
        ({"2024-12-25": 15}, []),
        ({"2024-12-25": 16}, [("2024-12-25", "unknown session")]),
        ({"2024-12-15": 1}, []),  # a Sunday row of one symbol
        (
            dict.fromkeys(("2024-12-09", "2024-12-10", "2024-12-11", "2024-12-12"), 0),
            [(f"2024-12-{day:02}", "unknown closure") for day in (9, 10, 11, 12)],
        ),
    ],
)
def test_only_a_whole_universe_shows_a_closure(bars: dict[str, int], rules: list[tuple[str, str]]) -> None:
    assert found(bars) == rules


def test_one_symbol_alone_says_nothing_about_the_exchange() -> None:
    assert found({"2024-12-10": 0, "2024-12-25": 1}, members=1) == []
    assert found({"2024-12-10": 0}, members=2) == [("2024-12-10", "unknown closure")]


def test_the_calendar_of_new_york_knows_the_day_of_mourning_by_itself() -> None:
    assert pd.Timestamp("2025-01-09") not in sessions()
    assert found({}) == []


def test_bars_are_counted_of_members_only() -> None:
    days = pd.DatetimeIndex(["2024-12-09", "2024-12-10", "2024-12-11"])
    entries = pd.DataFrame({"symbol": ["A", "B"], "first": [pd.NaT, days[1]], "last": pd.NaT})
    members = Universe("u", entries.astype({"first": "datetime64[us]", "last": "datetime64[us]"}))
    sunday = pd.Timestamp("2024-12-08")
    bars = pd.DataFrame(
        {"symbol": ["A", "A", "B", "B", "C"], "session": [days[0], sunday, days[0], days[1], days[1]]}
    )
    have, listed = count_bars(bars, members, days)
    assert have.to_dict() == {sunday: 1, days[0]: 1, days[1]: 1, days[2]: 0}
    assert listed.to_dict() == {sunday: 1, days[0]: 1, days[1]: 2, days[2]: 2}


@pytest.mark.parametrize(("traded", "days"), [("A", 0), ("AB", 0), ("ABC", 1)])
def test_a_runs_answers_show_a_session_that_the_calendar_lacks(traded: str, days: int) -> None:
    diwali = pd.Timestamp("2024-11-01")
    found = pd.DataFrame(
        [(symbol, diwali, "no session", "XBOM was closed") for symbol in traded], columns=FINDING_COLUMNS
    )
    wrong = find_unknown_sessions(found, 5, "XBOM")
    assert wrong["session"].tolist() == [diwali] * days
    assert list(wrong.columns) == FINDING_COLUMNS
    assert find_unknown_sessions(no_findings(), 5, "XBOM").empty


def stored(tmp_path: Path, days: Calendar, without: pd.Timestamp) -> PriceStore:
    """Return a store in which five symbols have a bar on each session but one, and all of them the Sunday after."""
    store = PriceStore(tmp_path / "prices" / "u")
    on = days.sessions_between(FIRST, LAST).drop(without)
    bars = {symbol: vendor_bars(on, np.full(len(on), 10.0)) for symbol in "ABCDE"}
    store.append(prices_of(bars, days), run="r")
    return store


def log(store: PriceStore) -> FetchLog:
    return FetchLog(store.folder.with_name("u.fetches.sqlite"))


def everybody() -> Universe:
    entries = pd.DataFrame({"symbol": list("ABCDE"), "first": pd.NaT, "last": pd.NaT})
    return Universe("u", entries.astype({"first": "datetime64[us]", "last": "datetime64[us]"}))


def test_prices_check_reports_an_unknown_closure_once_for_all_members(tmp_path: Path) -> None:
    days, storm = calendar("XNYS", date(2024, 9, 3), NOW), pd.Timestamp("2024-12-10")
    store = stored(tmp_path, days, storm)
    rows = check_store(store, log(store), days, everybody(), last=LAST, now=NOW).rows
    on_that_day = rows[rows["session"] == storm]
    assert on_that_day[["symbol", "rule", "needs_person"]].values.tolist() == [
        ["XNYS", "unknown closure", True]
    ]
    assert "0 of 5 constituents have a bar" in on_that_day["evidence"].iloc[0]
    assert "[universe] closures" in on_that_day["done"].iloc[0]


def test_a_listed_closure_is_no_finding(tmp_path: Path) -> None:
    days, storm = calendar("XNYS", date(2024, 9, 3), NOW), pd.Timestamp("2024-12-10")
    store = stored(tmp_path, days, storm)
    told = calendar("XNYS", date(2024, 9, 3), NOW, (Override(storm.date()),))
    assert check_store(store, log(store), told, everybody(), last=LAST, now=NOW).rows.empty


def test_bars_of_a_removed_session_are_one_finding(tmp_path: Path) -> None:
    days = calendar("XNYS", date(2024, 9, 3), NOW)
    store = stored(tmp_path, days, pd.Timestamp("2024-12-10"))
    closed = pd.Timestamp("2024-11-12")
    told = calendar("XNYS", date(2024, 9, 3), NOW, (Override(date(2024, 12, 10)), Override(closed.date())))
    rows = check_store(store, log(store), told, everybody(), last=LAST, now=NOW).rows
    assert rows[["symbol", "session", "rule"]].values.tolist() == [["XNYS", closed, "unknown session"]]
    assert "5 of 5 constituents have a bar" in rows["evidence"].iloc[0]


def test_a_closure_of_the_newest_stored_session_leaves_the_check_whole(tmp_path: Path) -> None:
    days, hole = calendar("XNYS", date(2024, 9, 3), NOW), pd.Timestamp("2024-12-10")
    store = stored(tmp_path, days, hole)
    told = calendar("XNYS", date(2024, 9, 3), NOW, (Override(hole.date()), Override(LAST.date())))
    found = check_store(store, log(store), told, everybody(), last=LAST, now=NOW)
    assert found.newest == pd.Timestamp("2025-01-30")
    assert found.rows[["session", "rule"]].values.tolist() == [[LAST, "unknown session"]]
