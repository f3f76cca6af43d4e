"""Corrections of an exchange calendar: listed in a file, and applied again in every replay."""

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flows.prices.reader import open_stored_prices
from flows.runtime.context import Run, open_run, with_former_settings
from pipeline.config import digest
from pipeline.errors import InputError, NextdayError
from pipeline.market.calendar import Calendar, calendar
from pipeline.market.closures import Override, from_rows, read_overrides, to_rows
from pipeline.prices.ingest.fetch_log import Answer, FetchLog
from pipeline.prices.ingest.fetch_plan import OVERLAP, plan_requests
from pipeline.prices.ingest.quality import check
from pipeline.prices.store import PriceStore
from tests.conftest import NOW, prices_of, vendor_bars

pytestmark = pytest.mark.slow

DELAY = timedelta(minutes=45)
LATE_2024 = datetime(2024, 12, 2, 12, tzinfo=UTC)


def bombay(*overrides: Override) -> Calendar:
    return calendar("XBOM", date(2024, 1, 1), LATE_2024, overrides)


def new_york(*overrides: Override) -> Calendar:
    return calendar("XNYS", date(2024, 1, 1), LATE_2024, overrides)


def utc(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="UTC")


def test_a_day_on_which_the_exchange_was_closed_is_no_session() -> None:
    storm = date(2024, 10, 29)
    days = new_york(Override(storm))
    monday, tuesday = pd.Timestamp("2024-10-28"), pd.Timestamp(storm)
    assert tuesday not in days.sessions
    assert tuesday not in days.closes.index
    assert days.next_session(monday) == pd.Timestamp("2024-10-30")
    assert days.last_closed_session(datetime(2024, 10, 29, 23, tzinfo=UTC), DELAY) == monday
    assert len(days.sessions) == len(new_york().sessions) - 1
    assert tuesday in new_york().sessions


def test_a_listed_early_close_closes_early() -> None:
    days = new_york(Override(date(2024, 10, 29), time(9, 30), time(13)))
    assert days.closes[pd.Timestamp("2024-10-29")] == utc("2024-10-29T17:00")  # summer time: UTC-4
    assert days.opens[pd.Timestamp("2024-10-29")] == utc("2024-10-29T13:30")
    assert days.sessions.equals(new_york().sessions)


def test_a_late_open_settles_the_bar_before_it_later() -> None:
    days = new_york(Override(date(2024, 10, 29), time(11), time(16)))
    assert days.settled_at(pd.Timestamp("2024-10-28")) == utc("2024-10-29T14:00")  # 18 h after the close
    early = new_york(Override(date(2024, 10, 29), time(8), time(16)))
    assert early.settled_at(pd.Timestamp("2024-10-28")) == utc("2024-10-29T13:00")


def test_an_extra_session_is_inserted_in_order() -> None:
    # Muhurat trading of Diwali: one hour in the evening of a holiday.
    days = bombay(Override(date(2024, 11, 1), time(18), time(19)))
    friday = pd.Timestamp("2024-11-01")
    assert days.next_session(pd.Timestamp("2024-10-31")) == friday
    assert days.next_session(friday) == pd.Timestamp("2024-11-04")
    assert days.closes[friday] == utc("2024-11-01T13:30")  # India keeps UTC+5:30
    assert friday not in bombay().sessions
    assert days.sessions.is_monotonic_increasing


def test_a_session_on_a_saturday_can_be_listed() -> None:
    assert (
        pd.Timestamp("2024-05-18") in bombay(Override(date(2024, 5, 18), time(9, 15), time(12, 30))).sessions
    )


def test_calendars_with_equal_overrides_are_one_value_and_others_are_not() -> None:
    closed = Override(date(2024, 10, 29))
    assert new_york(closed) is new_york(Override(date(2024, 10, 29)))
    assert new_york(closed) is not new_york()
    assert new_york(closed).overrides == (closed,)
    assert new_york().overrides == ()


def test_a_closure_that_the_calendar_knows_too_changes_nothing() -> None:
    # As after an update of exchange-calendars: an evening must not fail of a row that is needed no longer.
    assert new_york(Override(date(2024, 12, 25))).sessions.equals(new_york().sessions)


def test_overrides_outside_the_calendars_range_are_not_applied() -> None:
    long_ago, far_off = Override(date(2001, 9, 11)), Override(date(2031, 1, 9))
    assert new_york(long_ago, far_off).sessions.equals(new_york().sessions)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (
            Override(date(2024, 10, 27)),
            "2024-10-27, a Sunday, is no session of XNYS anyway: is it a typo?",
        ),
        (Override(date(2024, 3, 10), time(2, 30), time(4)), "02:30 is no unique time in America/New_York"),
    ],
)
def test_an_override_that_contradicts_the_calendar_is_refused_with_its_row(
    override: Override, words: str
) -> None:
    with pytest.raises(InputError) as caught:
        new_york(Override(date(2024, 10, 29)), override)
    assert words in str(caught.value)
    assert "[universe] closures, data row 2" in str(caught.value)


def test_a_day_beyond_the_end_of_the_calendar_is_refused() -> None:
    after = datetime(2026, 11, 26, 12, tzinfo=UTC)
    with pytest.raises(InputError, match="2027-02-01 is outside the calendar XBOM, which ends on 2026-12-31"):
        calendar("XBOM", date(2024, 1, 1), after, (Override(date(2027, 2, 1), time(9, 15), time(15, 30)),))


def test_hours_that_overlap_an_adjacent_session_are_refused() -> None:
    # Futures of ICE open on the evening before: Tuesday has begun on Monday at 20:01.
    with pytest.raises(InputError, match="overlap those of an adjacent session"):
        calendar("IEPA", date(2024, 1, 1), LATE_2024, (Override(date(2024, 10, 28), time(8), time(23)),))


def written(tmp_path: Path, rows: str) -> Path:
    path = tmp_path / "closures.csv"
    path.write_text(f"# what the calendar has wrong\nsession,opens,closes,why\n{rows}\n")
    return path


def test_the_file_is_read_row_by_row(tmp_path: Path) -> None:
    path = written(
        tmp_path, "2025-01-09,,,mourning\n2024-11-29, 9:30 ,13:00,\n# and\n2024-11-01,18:00,19:00,muhurat"
    )
    overrides = read_overrides(path)
    assert overrides == (
        Override(date(2025, 1, 9)),
        Override(date(2024, 11, 29), time(9, 30), time(13)),
        Override(date(2024, 11, 1), time(18), time(19)),
    )
    assert from_rows(to_rows(overrides)) == overrides


def test_a_file_without_a_row_changes_nothing(tmp_path: Path) -> None:
    assert read_overrides(written(tmp_path, "")) == ()


@pytest.mark.parametrize(
    ("rows", "words", "row"),
    [
        ("2025-01-09,,,\n09.01.2025,,,", "'09.01.2025' in the column 'session' is not a date", 2),
        (",,,nothing", "it names no session", 1),
        ("2025-01-09,9:30,,", "give both hours", 1),
        ("2025-01-09,,16:00,", "give both hours", 1),
        ("2025-01-09,16:00,9:30,", "closes at 09:30, which is not after it opens at 16:00", 1),
        ("2025-01-09,9:30,24:00,", "'24:00' is no time of day", 1),
        ("2025-01-09,9.30,16:00,", "'9.30' is no time of day", 1),
        ("2025-01-09,,,\n2025-01-10,,,\n2025-01-09,9:30,13:00,", "2025-01-09 is listed twice", 3),
    ],
)
def test_an_invalid_row_is_named(tmp_path: Path, rows: str, words: str, row: int) -> None:
    with pytest.raises(InputError) as caught:
        read_overrides(written(tmp_path, rows))
    assert words in str(caught.value)
    assert f"closures.csv, data row {row}" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "The closures file cannot be read"),
        ("", "The closures file cannot be read"),
        ("session\n2025-01-09\n", "needs one column 'session', one column 'opens', one column 'closes'"),
        ("date,opens,closes\n2025-01-09,,\n", "needs one column 'session'"),
        ("session,opens,closes,opens\n2025-01-09,,,\n", "needs one column 'session'"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "closures.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_overrides(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


SETTINGS = """
[universe]
name = "u"
source = "files"
path = "prices.csv"
historical = true
symbols = ["A"]
{closures}
"""
STORM = pd.Timestamp("1999-09-16")  # a hurricane in New York; the exchange stayed open


def run(folder: Path, rows: str | None) -> Run:
    sessions = calendar("XNYS", date(1999, 1, 1), NOW).sessions[:260]
    bars = vendor_bars(sessions, 100 + np.arange(260)).assign(symbol="A").rename(columns={"session": "date"})
    bars.to_csv(folder / "prices.csv", index=False)
    if rows is not None:
        written(folder, rows)
    line = "" if rows is None else 'closures = "closures.csv"'
    (folder / "nextday.toml").write_text(SETTINGS.format(closures=line))
    return open_run(folder / "nextday.toml", folder / "data", NOW)


def test_the_closures_of_the_settings_apply_to_every_calendar(tmp_path: Path) -> None:
    made = run(tmp_path, f"{STORM:%Y-%m-%d},,,")
    assert STORM not in made.calendar.sessions
    answer = made.source.fetch("A", made.calendar.sessions[0], made.last_closed, NOW)
    checked = check([answer], made.calendar, made.last_closed, source="files", historical=True)
    assert checked.findings[["session", "rule"]].values.tolist() == [[STORM, "no session"]]
    made.store.append(checked.prices, run="r")
    stored = open_stored_prices(tmp_path / "nextday.toml", tmp_path / "data", NOW)
    assert STORM not in stored.calendar.sessions


def test_a_replay_sees_the_sessions_of_then(tmp_path: Path) -> None:
    before = run(tmp_path, None)
    before.save_settings()
    closed = run(tmp_path, f"{STORM:%Y-%m-%d},,,")
    closed.save_settings()
    assert before.digest != closed.digest
    assert STORM in with_former_settings(closed, before.digest).calendar.sessions
    again = with_former_settings(before, closed.digest).calendar
    assert again.sessions.equals(closed.calendar.sessions)
    assert again.overrides == (Override(STORM.date()),)


def test_settings_without_closures_keep_their_digest(tmp_path: Path) -> None:
    made = run(tmp_path, None)
    assert "closures" not in made.resolved["settings"]["universe"]
    assert made.digest == digest({"settings": made.config.resolved(), "members": [["A", None, None]]})


def live(folder: Path, name: str, now: datetime) -> Run:
    settings = f'[universe]\nname = "u"\nsource = "yahoo"\nsymbols = ["A"]\ncalendar = "{name}"\n'
    (folder / "nextday.toml").write_text(settings)
    return open_run(folder / "nextday.toml", folder / "data", now)


@pytest.mark.parametrize(
    ("day", "is_well"),
    [("2026-11-20", True), ("2026-11-30", True), ("2026-12-01", False), ("2027-01-04", False)],
)
def test_the_doctor_warns_a_month_before_a_calendar_ends(tmp_path: Path, day: str, is_well: bool) -> None:
    from flows.operations.doctor import _check_calendar

    made = live(tmp_path, "XSHG", datetime(2026, 11, 20, 12, tzinfo=UTC))
    (finding,) = _check_calendar(replace(made, now=datetime.fromisoformat(day).replace(hour=9, tzinfo=UTC)))
    assert finding.is_passed is is_well
    assert "the calendar XSHG has sessions until 2026-12-31" in finding.what
    assert is_well or "newer release of exchange-calendars" in finding.fix


def test_the_doctor_does_not_warn_of_a_calendar_that_does_not_end(tmp_path: Path) -> None:
    from flows.operations.doctor import _check_calendar

    assert _check_calendar(live(tmp_path, "XLON", datetime(2026, 11, 20, 12, tzinfo=UTC))) == []


def test_a_live_evening_after_the_calendars_end_fails_and_a_historical_one_does_not(tmp_path: Path) -> None:
    made = live(tmp_path, "XSHG", datetime(2026, 11, 20, 12, tzinfo=UTC))
    later = replace(made, now=datetime(2027, 1, 5, 12, tzinfo=UTC))
    with pytest.raises(NextdayError, match="The calendar XSHG ends on 2026-12-31"):
        _ = later.last_closed
    object.__setattr__(later.source, "historical", True)
    assert later.last_closed == pd.Timestamp("2026-12-31")


def test_a_closure_of_the_last_stored_session_does_not_stop_the_next_evening(tmp_path: Path) -> None:
    tuesday, wednesday = pd.Timestamp("2024-10-29"), pd.Timestamp("2024-10-30")
    on = new_york().sessions_between(pd.Timestamp("2024-09-03"), tuesday)
    seen = datetime(2024, 10, 29, 22, tzinfo=UTC)
    store, log = PriceStore(tmp_path / "p" / "u"), FetchLog(tmp_path / "p" / "u.fetches.sqlite")
    store.append(prices_of({"A": vendor_bars(on, np.full(len(on), 10.0))}, new_york(), seen), run="r")
    log.record(tuesday, [Answer("A", "ok", is_whole=True, asked_from=on[0], observed_at=seen)])
    told = new_york(Override(tuesday.date()))
    tonight = datetime(2024, 10, 30, 22, tzinfo=UTC)
    plan = plan_requests(store, log, told, {"A": "A"}, ["A"], beginning=on[0], last=wednesday, now=tonight)
    assert plan["A"].start == told.sessions[told.position(pd.Timestamp("2024-10-28")) - OVERLAP]
