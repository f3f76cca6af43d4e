from datetime import UTC, date, datetime, timedelta

import pandas as pd
import pytest

from pipeline.errors import ConfigError, NextdayError
from pipeline.sessions import Calendar, calendar

DELAY = timedelta(minutes=45)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "session"),
    [
        ("2018-12-10T21:44", "2018-12-07"),  # the Monday closed at 21:00 UTC, 44 minutes ago
        ("2018-12-10T21:45", "2018-12-10"),
        ("2018-12-09T12:00", "2018-12-07"),  # a Sunday
        ("2018-12-05T23:00", "2018-12-04"),  # the day of mourning for President Bush
        ("2018-11-23T18:45", "2018-11-23"),  # closed at 13:00 New York, the day after Thanksgiving
        ("2018-11-23T18:44", "2018-11-21"),
        ("2018-07-10T20:45", "2018-07-10"),  # summer time: closes at 20:00 UTC
    ],
)
def test_a_session_counts_from_its_close_and_the_delay_on(xnys: Calendar, now: str, session: str) -> None:
    assert xnys.last_closed_session(at(now), DELAY) == pd.Timestamp(session)


def test_the_next_session_leaps_over_weekends_and_holidays(xnys: Calendar) -> None:
    assert xnys.next_session(pd.Timestamp("2018-12-31")) == pd.Timestamp("2019-01-02")
    assert xnys.next_session(pd.Timestamp("2018-12-21"), 2) == pd.Timestamp("2018-12-26")


def test_a_day_that_is_no_session_is_refused(xnys: Calendar) -> None:
    with pytest.raises(NextdayError, match="2018-12-25 is not a session of XNYS"):
        xnys.next_session(pd.Timestamp("2018-12-25"))


def test_a_calendar_that_has_ended_says_so() -> None:
    bombay = calendar("XBOM", date(2020, 1, 1), at("2026-11-21T12:00"))
    with pytest.raises(NextdayError, match="ends on 2026-12"):
        bombay.next_session(bombay.sessions[-1])


def test_a_bar_settles_an_hour_into_the_next_session_or_after_eighteen_hours(xnys: Calendar) -> None:
    assert xnys.settled_at(pd.Timestamp("2018-12-10")) == pd.Timestamp("2018-12-11T15:00", tz="UTC")
    assert xnys.settled_at(pd.Timestamp("2018-12-14")) == pd.Timestamp("2018-12-15T15:00", tz="UTC")


def test_a_time_without_an_offset_is_the_exchanges_own(xnys: Calendar) -> None:
    assert xnys.instant(datetime(2018, 12, 10, 18)) == at("2018-12-10T23:00")  # noqa: DTZ001
    assert xnys.instant(datetime(2018, 7, 10, 18)) == at("2018-07-10T22:00")  # noqa: DTZ001
    assert xnys.instant(at("2018-07-10T18:00")) == at("2018-07-10T18:00")


@pytest.mark.parametrize(
    ("name", "words"),
    [("24/7", "never closes"), ("24/5", "never closes"), ("XNYSE", "XNYS"), ("XTAE", "cannot be built")],
)
def test_a_calendar_that_cannot_be_used_is_refused(name: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        calendar(name, date(1999, 1, 1), at("2026-11-21T12:00"))
    assert words in str(caught.value)
    assert "[universe] calendar" in str(caught.value)


def test_markets_in_the_east_have_their_own_days() -> None:
    tokyo = calendar("XTKS", date(2018, 1, 1), at("2019-01-01T00:00"))
    assert tokyo.last_closed_session(at("2018-12-10T06:45"), DELAY) == pd.Timestamp("2018-12-10")
    assert tokyo.timezone == "Asia/Tokyo"
