"""`nextday prices check`: what is wrong with the stored bars, and what needs a person."""

from datetime import UTC, date, datetime

import numpy as np
import pandas as pd
import pytest

from pipeline.market.calendar import Calendar, calendar
from pipeline.market.universe import Universe
from pipeline.prices.ingest.fetch_log import Answer, FetchLog
from pipeline.prices.ingest.quality import check
from pipeline.prices.ingest.store_check import check_store
from pipeline.prices.store import PriceStore
from pipeline.sources import Fetched
from tests.conftest import prices_of, vendor_bars
from tests.support import stored_week
from tests.support.command_line import HERE, CommandLine, Said
from tests.support.stored_week import FIRST, SECOND, THIRD, WEEK, rows, settings

pytestmark = pytest.mark.slow

days, store, nextday = stored_week.days, stored_week.store, stored_week.nextday


def findings(said: Said) -> list[str]:
    return [" ".join(line.split()) for line in said.out.splitlines() if line.split(" ")[0] in ("FIX", "note")]


def test_good_prices_need_no_user(nextday: CommandLine) -> None:
    said = nextday(*HERE, "prices", "check")
    assert said.code == 0
    assert findings(said) == ["note A 2018-12-13: revised before it settled"]
    assert "close 52 -> 52.25" in said.out
    assert "observed 2018-12-14 22:00 UTC" in said.out
    assert "kept as version 2" in said.out
    assert "2 rows superseded, 1 of them settled with no other change" in said.out
    assert [line.split() for line in said.out.splitlines() if line.startswith("B ")] == [
        ["B", "2018-12-10", "2018-12-13", "4", "4", "100.0%"]
    ]


def test_a_missing_session_is_named_and_its_coverage_counted(
    nextday: CommandLine, store: PriceStore, days: Calendar
) -> None:
    settings('symbols = ["A", "B", "C"]')
    holed = rows(days, "C", [10, 11, 12, 13], FIRST)
    store.append(holed[holed["session"] != WEEK[1]], run="r")
    said = nextday(*HERE, "prices", "check")
    assert said.code == 1  # 3 of 4 is less than four fifths
    assert "note C 2018-12-11: missing session" in findings(said)
    assert "FIX C 2018-12-13: low coverage" in findings(said)
    assert "3 of 4 sessions" in said.out


def test_a_member_without_a_bar_and_one_whose_bars_end_are_named(
    nextday: CommandLine, store: PriceStore, days: Calendar
) -> None:
    settings('symbols = ["A", "B", "C", "D"]')
    store.append(rows(days, "C", [10, 11, 12], FIRST), run="r")
    found = findings(nextday(*HERE, "prices", "check"))
    assert "FIX D 2018-12-13: no bar" in found
    assert "note C 2018-12-13: bars end early" in found


def test_a_symbol_without_a_bar_for_long_needs_the_user(store: PriceStore) -> None:
    days = calendar("XNYS", date(2018, 11, 1), datetime(2018, 12, 20, 22, tzinfo=UTC))
    sessions = days.sessions[:30]
    bars = {"A": vendor_bars(sessions, np.full(30, 10.0)), "C": vendor_bars(sessions[:19], np.full(19, 10.0))}
    store.append(prices_of(bars, days), run="r")
    entries = pd.DataFrame({"symbol": ["A", "C"], "first": pd.NaT, "last": pd.NaT})

    log = FetchLog(store.folder.with_name("u.fetches.sqlite"))

    def gone(members: pd.DataFrame) -> list[tuple[str, bool]]:
        universe = Universe("u", members.astype({"first": "datetime64[us]", "last": "datetime64[us]"}))
        found = check_store(store, log, days, universe, last=sessions[-1], now=THIRD).rows
        found = found[found["rule"].isin(["bars end early", "suspended", "delisted"])]
        return [*zip(found["rule"], found["needs_person"], strict=True)]

    assert gone(entries) == [("suspended", True)]
    for session in sessions[19:24]:
        log.record(session, [Answer("C", "not_found", False, sessions[0], FIRST)])
    assert gone(entries) == [("delisted", True)]
    assert gone(entries.assign(last=[pd.NaT, sessions[18]])) == []  # it left


def test_a_bar_that_should_have_settled_waits_for_the_next_run_and_then_for_the_user(
    nextday: CommandLine, store: PriceStore, days: Calendar
) -> None:
    settings('symbols = ["C"]')
    store.append(rows(days, "C", [10, 11, 12, 13], THIRD, provisional=1), run="r")
    said = nextday(*HERE, "prices", "check")
    # The bar of the 13th settles 18 hours after its close at 21:00 UTC; on the 17th it was still provisional.
    assert said.code == 1
    assert "FIX C 2018-12-13: not settled" in findings(said)
    assert (
        "due to settle at 2018-12-14 15:00 UTC; other bars were fetched until 2018-12-17 22:00 UTC"
        in said.out
    )


def test_a_provisional_bar_is_no_fault_before_its_time_nor_before_the_next_fetch(
    nextday: CommandLine, store: PriceStore, days: Calendar
) -> None:
    settings('symbols = ["C"]', name="v")
    other = PriceStore(store.folder.with_name("v"))
    other.append(rows(days, "C", [10, 11, 12, 13], FIRST, provisional=1), run="r")
    early = nextday(*HERE[:-1], "2018-12-14T14:59Z", "prices", "check")
    assert (early.code, findings(early)) == (0, [])
    late = nextday(*HERE[:-1], "2018-12-14T18:00Z", "prices", "check")
    assert (late.code, findings(late)) == (0, ["note C 2018-12-13: not settled"])
    assert "nothing was fetched since" in late.out


@pytest.mark.parametrize(("close", "needs_person"), [(11.1, False), (5.5, True), (11.0001, None)])
def test_a_revised_settled_close_is_named_and_a_jump_needs_the_user(
    nextday: CommandLine, store: PriceStore, days: Calendar, close: float, needs_person: bool | None
) -> None:
    store.append(rows(days, "B", [close], THIRD, first=1), run="r")
    said = nextday(*HERE, "prices", "check")
    named = [line for line in findings(said) if "revised after it settled" in line]
    marks = {None: [], False: ["note"], True: ["FIX"]}[needs_person]
    assert named == [f"{mark} B 2018-12-11: revised after it settled" for mark in marks]
    assert said.code == (1 if needs_person else 0)


def test_a_jump_that_was_undone_needs_no_user(
    nextday: CommandLine, store: PriceStore, days: Calendar
) -> None:
    for close, seen in ((5.5, SECOND), (11.0, THIRD)):
        store.append(rows(days, "B", [close], seen, first=1), run="r")
    said = nextday(*HERE, "prices", "check")
    # Back from 5.5 to 11 is a leap too, away from a close that does not stand.
    assert [line[:4] for line in findings(said) if "after it settled" in line] == ["note", "note"]
    assert said.code == 0


def test_stored_bars_that_break_a_rule_or_the_calendar_are_named(
    nextday: CommandLine, store: PriceStore, days: Calendar, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = rows(days, "B", [10, 11, 12, 13], THIRD)
    bad.loc[0, "low"] = 99.0
    bad.loc[3, "session"] = pd.Timestamp("2018-12-09")
    with monkeypatch.context() as patch:  # another hand wrote them
        patch.setattr("pipeline.prices.store.validated", lambda frame, schema: frame)
        store.append(bad.iloc[[0, 3]], run="r")
    said = nextday(*HERE, "prices", "check")
    assert said.code == 1
    assert "FIX B 2018-12-10: low lies above high" in findings(said)
    assert "FIX B 2018-12-09: no session" in findings(said)


def test_a_stored_leap_needs_the_user_and_a_doubtful_dividend_is_a_note(
    nextday: CommandLine, store: PriceStore, days: Calendar
) -> None:
    settings('symbols = ["C"]')
    closes = 400 + 4.0 * (np.arange(20) % 3)
    closes[11] /= 10
    paid = np.where(np.arange(20) == 7, 0.08, 0.0)
    answer = Fetched(
        "C", "ok", FIRST, bars=vendor_bars(days.sessions[:20], closes, dividend=paid), currency="GBp"
    )
    store.append(check([answer], days, WEEK[-1], source="test", historical=True).prices, run="r")
    said = nextday(*HERE, "prices", "check")
    assert said.code == 1
    found = findings(said)
    assert f"FIX C {days.sessions[11]:%Y-%m-%d}: spike" in found
    assert f"note C {days.sessions[7]:%Y-%m-%d}: dividend in doubt" in found
    assert "from 404 to 40.8" in said.out
    assert "a corrected history will replace it" in " ".join(said.out.split())


def test_a_corrected_bar_needs_no_user(nextday: CommandLine, store: PriceStore, days: Calendar) -> None:
    settings('symbols = ["C"]')
    closes = 400 + 4.0 * (np.arange(20) % 3)
    for factor, seen in ((0.1, FIRST), (1.0, THIRD)):
        bars = vendor_bars(days.sessions[:20], closes * np.where(np.arange(20) == 11, factor, 1.0))
        store.append(prices_of({"C": bars}, days, seen), run="r")
    found = findings(nextday(*HERE, "prices", "check"))
    assert [line for line in found if "C 2018-11" in line] == [
        f"note C {days.sessions[11]:%Y-%m-%d}: revised after it settled"
    ]


def test_many_findings_are_counted_and_all_of_them_can_be_listed(
    nextday: CommandLine, store: PriceStore, days: Calendar
) -> None:
    for place in range(4):
        for symbol in ("B", "C"):
            store.append(rows(days, symbol, [20.0], FIRST, first=place), run="r")
            store.append(rows(days, symbol, [20.5], THIRD, first=place), run="r")
    short, whole = nextday(*HERE, "prices", "check"), nextday(*HERE, "prices", "check", "--all")
    left = len(findings(whole)) - len(findings(short))
    assert left > 0
    assert f"{left} more findings: nextday prices check --all lists them" in short.out
    marked = [line for line in findings(whole) if line.startswith("FIX")]
    assert [line for line in findings(short) if line.startswith("FIX")] == marked


def test_only_the_jump_that_corrects_a_leap_needs_no_user(
    nextday: CommandLine, store: PriceStore, days: Calendar
) -> None:
    settings('symbols = ["C"]')
    closes, place = 400 + 4.0 * (np.arange(20) % 3), np.arange(20)
    first = closes * np.where(place == 11, 0.1, 1.0)
    for values, seen in ((first, FIRST), (closes * np.where(place == 0, 1.23, 1.0), THIRD)):
        store.append(prices_of({"C": vendor_bars(days.sessions[:20], values)}, days, seen), run="r")
    found = [line for line in findings(nextday(*HERE, "prices", "check")) if "after it settled" in line]
    assert found == [
        f"FIX C {days.sessions[0]:%Y-%m-%d}: revised after it settled",
        f"note C {days.sessions[11]:%Y-%m-%d}: revised after it settled",
    ]
