from datetime import UTC, date, datetime, timedelta

import pandas as pd
import pytest

from pipeline.errors import ConfigError, NextdayError
from pipeline.market.calendar import Calendar, calendar

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


def test_the_next_session_skips_weekends_and_holidays(xnys: Calendar) -> None:
    assert xnys.next_session(pd.Timestamp("2018-12-31")) == pd.Timestamp("2019-01-02")
    assert xnys.next_session(pd.Timestamp("2018-12-21"), 2) == pd.Timestamp("2018-12-26")


def test_a_day_that_is_no_session_is_refused(xnys: Calendar) -> None:
    with pytest.raises(NextdayError, match="2018-12-25 is not a session of XNYS"):
        xnys.next_session(pd.Timestamp("2018-12-25"))


def test_no_session_is_known_after_the_end_of_a_calendar() -> None:
    bombay = calendar("XBOM", date(2020, 1, 1), at("2026-11-21T12:00"))
    with pytest.raises(NextdayError, match="ends on 2026-12-31: the sessions after 2026-12-31 are unknown"):
        bombay.next_session(bombay.sessions[-1])


@pytest.mark.parametrize("name", ["XBOM", "XSHG", "XSES"])
def test_a_calendar_that_ended_before_the_clock_is_an_error(name: str) -> None:
    with pytest.raises(NextdayError) as caught:
        calendar(name, date(2020, 1, 1), at("2027-01-05T18:00")).last_closed_session(
            at("2027-01-05T18:00"), DELAY
        )
    assert f"The calendar {name} ends on 2026-12-31: at 2027-01-05 18:00Z" in str(caught.value)
    assert "a newer release of exchange-calendars" in str(caught.value)


def test_until_its_last_evening_a_calendar_is_whole() -> None:
    singapore = calendar("XSES", date(2020, 1, 1), at("2026-12-31T10:00"))
    assert singapore.last_closed_session(at("2026-12-31T10:00"), DELAY) == pd.Timestamp("2026-12-31")
    assert singapore.ends == pd.Timestamp("2026-12-31")


def test_prices_that_ended_need_no_session_after_the_calendars_end() -> None:
    later = at("2028-03-01T12:00")
    shanghai = calendar("XSHG", date(2020, 1, 1), later)
    last = shanghai.last_closed_session(later, DELAY, may_have_ended=True)
    assert last == shanghai.sessions[-1] == pd.Timestamp("2026-12-31")


def test_a_calendar_of_rules_does_not_end(xnys: Calendar) -> None:
    assert xnys.ends is None
    hong_kong = calendar("XHKG", date(2020, 1, 1), at("2026-11-21T12:00"))
    assert hong_kong.ends is None  # it ends in 2049, beyond the year that is looked at


def test_a_bar_settles_an_hour_into_the_next_session_or_after_eighteen_hours(xnys: Calendar) -> None:
    assert xnys.settled_at(pd.Timestamp("2018-12-10")) == pd.Timestamp("2018-12-11T15:00", tz="UTC")
    assert xnys.settled_at(pd.Timestamp("2018-12-14")) == pd.Timestamp("2018-12-15T15:00", tz="UTC")


def test_a_time_without_an_offset_is_the_exchanges_own(xnys: Calendar) -> None:
    assert xnys.instant(datetime(2018, 12, 10, 18)) == at("2018-12-10T23:00")  # noqa: DTZ001
    assert xnys.instant(datetime(2018, 7, 10, 18)) == at("2018-07-10T22:00")  # noqa: DTZ001
    assert xnys.instant(at("2018-07-10T18:00")) == at("2018-07-10T18:00")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("24/7", "never closes"),
        ("24/5", "never closes"),
        ("CMES", "never closes"),
        ("XNYSE", "XNYS"),
        ("XTAE", "cannot be built"),
        ("XTAE", "[prices] start from 2026-01-05"),
        ("ASEX", "XHEL has the same time zone"),
        ("XBSE", "XHEL has the same time zone"),
        ("XCYS", "XHEL has the same time zone"),
        ("XBEL", "XZAG has the same time zone"),
    ],
)
def test_a_calendar_that_cannot_be_used_is_refused_with_a_fix(name: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        calendar(name, date(1999, 1, 1), at("2026-11-21T12:00"))
    assert words in str(caught.value)
    assert "[universe] calendar" in str(caught.value)
    assert "fix" in str(caught.value)


@pytest.mark.parametrize(
    ("zone", "name"),
    [
        ("Europe/Athens", "XHEL"),
        ("Europe/Bucharest", "XHEL"),
        ("Asia/Nicosia", "XHEL"),
        ("Europe/Belgrade", "XZAG"),
    ],
)
def test_the_calendar_that_is_named_instead_has_the_same_time_zone(zone: str, name: str) -> None:
    noon = pd.date_range("1999-01-01", "2027-11-21", tz="UTC") + pd.Timedelta(hours=12)
    instead = calendar(name, date(1999, 1, 1), at("2026-11-21T12:00"))
    here, there = (noon.tz_convert(z).tz_localize(None) for z in (zone, instead.timezone))
    assert (here == there).all()


def test_tel_aviv_can_be_used_from_its_new_week_on() -> None:
    tel_aviv = calendar("XTAE", date(2026, 1, 5), at("2026-11-21T12:00"))
    assert tel_aviv.sessions[0] == pd.Timestamp("2026-01-05")
    assert set(tel_aviv.sessions.day_of_week) == {0, 1, 2, 3, 4}


@pytest.mark.parametrize(
    ("name", "session", "opens", "closes"),
    [
        # nyse.com, holidays and trading hours: 13:00 on the eve of Independence Day and after Thanksgiving
        ("XNYS", "2024-07-03", "13:30", "17:00"),
        ("XNYS", "2024-11-29", "14:30", "18:00"),
        ("XNYS", "2024-03-08", "14:30", "21:00"),  # winter time until 2024-03-10
        ("XNYS", "2024-03-11", "13:30", "20:00"),
        ("XNYS", "2024-11-01", "13:30", "20:00"),
        ("XNYS", "2024-11-04", "14:30", "21:00"),
        # londonstockexchange.com: 8:00 to 16:30, 12:30 on Christmas Eve
        ("XLON", "2024-03-28", "08:00", "16:30"),
        ("XLON", "2024-04-02", "07:00", "15:30"),
        ("XLON", "2024-12-24", "08:00", "12:30"),
        # jpx.co.jp: 9:00 to 15:00 without summer time, 15:30 from 2024-11-05 on
        ("XTKS", "2024-01-04", "00:00", "06:00"),
        ("XTKS", "2024-07-01", "00:00", "06:00"),
        ("XTKS", "2024-11-05", "00:00", "06:30"),
        # asx.com.au: 10:00 to 16:00, summer time from October to April: the evening before in UTC
        ("XASX", "2024-04-05", "-1 23:00", "05:00"),
        ("XASX", "2024-04-08", "00:00", "06:00"),
        ("XASX", "2024-10-04", "00:00", "06:00"),
        ("XASX", "2024-10-08", "-1 23:00", "05:00"),
    ],
)
def test_hours_are_those_that_the_exchange_has_published(
    name: str, session: str, opens: str, closes: str
) -> None:
    days = calendar(name, date(2023, 1, 2), at("2025-01-20T12:00"))
    day = pd.Timestamp(session)
    before = pd.Timedelta(days=1) if opens.startswith("-1 ") else pd.Timedelta(0)
    assert days.opens[day] == pd.Timestamp(f"{session} {opens[-5:]}", tz="UTC") - before
    assert days.closes[day] == pd.Timestamp(f"{session} {closes}", tz="UTC")


@pytest.mark.parametrize(
    ("name", "closed"),
    [
        ("XNYS", "2025-01-09"),  # the national day of mourning for President Carter
        ("XNYS", "2024-06-19"),
        ("XNYS", "2024-03-29"),
        ("XLON", "2022-09-19"),  # the funeral of Queen Elizabeth II
        ("XLON", "2023-05-08"),  # the coronation of King Charles III
        ("XTKS", "2019-05-01"),  # the accession of Emperor Naruhito
        ("XASX", "2022-09-22"),  # the Australian day of mourning
        ("XBOM", "2024-11-20"),  # the election in Maharashtra
    ],
)
def test_days_on_which_exchanges_were_closed_are_known(name: str, closed: str) -> None:
    days = calendar(name, date(2019, 1, 2), at("2025-01-20T12:00"))
    assert pd.Timestamp(closed) not in days.sessions


@pytest.mark.parametrize(
    ("now", "session"),
    [
        ("2024-11-29T18:44", "2024-11-27"),  # 44 minutes after the early close, Thanksgiving before it
        ("2024-11-29T18:45", "2024-11-29"),
        ("2024-03-11T20:45", "2024-03-11"),  # the Monday after the clocks went forward
        ("2024-11-04T20:45", "2024-11-01"),  # the Monday after they went back
        ("2024-11-04T21:45", "2024-11-04"),
    ],
)
def test_the_delay_counts_from_the_real_close(now: str, session: str) -> None:
    days = calendar("XNYS", date(2024, 1, 2), at("2025-01-20T12:00"))
    assert days.last_closed_session(at(now), DELAY) == pd.Timestamp(session)


def test_markets_in_the_east_have_their_own_days() -> None:
    tokyo = calendar("XTKS", date(2018, 1, 1), at("2019-01-01T00:00"))
    assert tokyo.last_closed_session(at("2018-12-10T06:45"), DELAY) == pd.Timestamp("2018-12-10")
    assert tokyo.timezone == "Asia/Tokyo"
