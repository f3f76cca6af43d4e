"""What was known beforehand of the coming sessions, against the days as the newspapers had them."""

from datetime import date

import pandas as pd
import pytest

from pipeline.market.calendar import Calendar, calendar
from pipeline.market.closures import Override
from tests.conftest import NOW


def ahead(days: Calendar, session: str) -> tuple[str, int, int, bool, bool]:
    """Return the day expected next, the sessions since and to a holiday, whether it is a half day, and a turn."""
    at = pd.DatetimeIndex([session])
    following = days.schedule.next_expected(at)
    return (
        f"{following[0]:%Y-%m-%d}",
        int(days.schedule.sessions_since_holiday(at, following)[0]),
        int(days.schedule.sessions_to_holiday(following)[0]),
        bool(days.schedule.is_half_day(following)[0]),
        bool(days.schedule.is_turn_of_month(following)[0]),
    )


@pytest.mark.parametrize(
    ("session", "expected"),
    [
        ("2018-11-20", ("2018-11-21", 10, 0, False, False)),  # the day before Thanksgiving
        ("2018-11-21", ("2018-11-23", 0, 10, True, False)),  # the half day after it
        ("2018-11-29", ("2018-11-30", 5, 10, False, True)),  # the last session of November
        ("2018-12-21", ("2018-12-24", 10, 0, True, False)),  # a half day before Christmas
        ("2018-12-24", ("2018-12-26", 0, 3, False, False)),  # 27, 28 and 31 December until New Year
        ("2019-01-03", ("2019-01-04", 2, 10, False, True)),  # 2, 3, 4 January are the first three sessions
        ("2019-01-04", ("2019-01-07", 3, 9, False, False)),  # ten sessions on the 21st is a holiday
    ],
)
def test_the_next_session_is_described_by_the_exchanges_rules(
    xnys: Calendar, session: str, expected: tuple[str, int, int, bool, bool]
) -> None:
    assert ahead(xnys, session) == expected


def test_nobody_knew_of_september_2001_or_a_day_of_mourning_beforehand(xnys: Calendar) -> None:
    assert xnys.next_session(pd.Timestamp("2001-09-10")) == pd.Timestamp("2001-09-17")
    assert ahead(xnys, "2001-09-10")[:3] == ("2001-09-11", 5, 10)  # Labor Day was the third
    assert ahead(xnys, "2001-09-17")[:2] == ("2001-09-18", 1)  # by then it is known
    assert ahead(xnys, "2018-12-04")[0] == "2018-12-05"
    assert ahead(xnys, "2018-12-06")[:2] == ("2018-12-07", 1)


def test_a_day_added_to_the_closures_was_not_known_beforehand_either() -> None:
    closed = Override(date(2018, 12, 12), None, None)
    days = calendar("XNYS", date(2018, 1, 1), NOW, (closed,))
    assert ahead(days, "2018-12-11")[0] == "2018-12-12"
    assert ahead(days, "2018-12-13")[:2] == ("2018-12-14", 1)


def test_a_calendar_that_lists_its_holidays_day_by_day_has_only_those_of_the_past() -> None:
    days = calendar("XSHG", date(2018, 1, 1), NOW)
    # The Spring Festival of 2019: closed from the fourth to the eighth of February.
    assert ahead(days, "2019-02-01")[2] == 10
    assert ahead(days, "2019-02-11")[:2] == ("2019-02-12", 1)


def test_the_first_sessions_of_a_calendar_have_no_holiday_behind_them() -> None:
    days = calendar("XNYS", date(2018, 2, 1), NOW)
    assert ahead(days, "2018-02-01")[1] == 10
