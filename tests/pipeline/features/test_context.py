"""Which value of a context series was known at which close: across zones, clock changes, holidays, lags and gaps."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from pipeline.features.context import CARRIED, Context, Series, join, known_instants
from pipeline.inputs_config import Lag
from pipeline.market.calendar import Calendar, calendar

CLOCK = datetime(2025, 12, 1, tzinfo=UTC)
AT_CLOSE = Lag()


def days_of(name: str) -> Calendar:
    return calendar(name, date(2018, 1, 1), CLOCK, may_never_close=True)


def numbered(days: Calendar, lag: Lag = AT_CLOSE, missing: Sequence[str] = ()) -> Series:
    """Return a series whose value is the number of its session, from 1 on."""
    value = np.arange(1.0, len(days.sessions) + 1)
    value[days.sessions.isin(pd.DatetimeIndex(missing))] = np.nan
    return Series("S", days.sessions, known_instants(days, lag), value)


def read_at(universe: str, session: str, series: str, lag: Lag = AT_CLOSE) -> str:
    """Return the session of the series whose value is known at the close of the universe's session."""
    days, other = days_of(universe), days_of(series)
    found = Context((numbered(other, lag),), days.closes, "mask").join(pd.DatetimeIndex([session]))["S"]
    assert not found.is_carried.any()
    assert found.value[0] == other.sessions.get_loc(found.session[0]) + 1
    return f"{found.session[0]:%Y-%m-%d}"


@pytest.mark.parametrize(
    ("universe", "session", "series", "expected"),
    [
        ("XNYS", "2018-12-11", "XTKS", "2018-12-11"),  # Tokyo closes at 06:00 UTC, New York at 21:00
        ("XTKS", "2018-12-11", "XNYS", "2018-12-10"),
        ("XNYS", "2018-12-11", "XLON", "2018-12-11"),
        ("XLON", "2018-12-11", "XNYS", "2018-12-10"),
        ("XNYS", "2018-12-11", "XNYS", "2018-12-11"),  # the same instant
        ("XNYS", "2018-12-11", "XCBF", "2018-12-10"),  # the VIX closes at 16:15, a quarter of an hour later
        (
            "XNYS",
            "2018-12-11",
            "24/7",
            "2018-12-10",
        ),  # a day of a market that never closes ends at midnight UTC
        # Sydney closes at 16:00: 06:00 UTC in winter, as Tokyo does, and 05:00 in summer time.
        ("XASX", "2018-07-10", "XTKS", "2018-07-10"),
        ("XASX", "2018-12-11", "XTKS", "2018-12-10"),
        ("XASX", "2018-10-05", "XTKS", "2018-10-05"),  # the Friday before Sydney's clock change
        ("XASX", "2018-10-09", "XTKS", "2018-10-05"),  # Tuesday after it; Tokyo was closed on Monday
        ("XASX", "2025-07-10", "XTKS", "2025-07-09"),  # since November 2024 Tokyo closes at 15:30
        # The weeks in which America has changed its clocks and Europe has not.
        ("XLON", "2018-03-13", "XNYS", "2018-03-12"),
        ("XNYS", "2018-10-30", "XLON", "2018-10-30"),
        # Holidays of one of the two: the newest value stands.
        ("XNYS", "2018-12-24", "XTKS", "2018-12-21"),
        ("XNYS", "2019-05-02", "XTKS", "2019-04-26"),  # Tokyo's ten days of May 2019
        ("XTKS", "2019-05-07", "XNYS", "2019-05-06"),
        ("XTKS", "2018-12-06", "XNYS", "2018-12-04"),  # New York mourned on the fifth
        # Half days.
        ("XNYS", "2018-12-24", "XLON", "2018-12-24"),
        ("XNYS", "2018-11-23", "XCBF", "2018-11-21"),
    ],
)
def test_a_value_is_joined_by_the_instant_at_which_it_was_known(
    universe: str, session: str, series: str, expected: str
) -> None:
    assert read_at(universe, session, series) == expected


@pytest.mark.parametrize(
    ("session", "series", "lag", "expected"),
    [
        ("2018-12-11", "XNYS", Lag(sessions=1), "2018-12-10"),  # a rate published on the next day
        ("2018-12-06", "XNYS", Lag(sessions=1), "2018-12-04"),
        ("2018-12-11", "XNYS", Lag(duration=timedelta(minutes=15)), "2018-12-10"),
        ("2018-12-11", "XNYS", Lag(duration=timedelta(days=7)), "2018-12-04"),
        ("2018-12-12", "XNYS", Lag(duration=timedelta(days=7)), "2018-12-04"),  # there was none on the fifth
        ("2018-12-11", "XTKS", Lag(duration=timedelta(hours=15)), "2018-12-11"),  # 21:00 UTC
        (
            "2018-07-10",
            "XTKS",
            Lag(duration=timedelta(hours=15)),
            "2018-07-09",
        ),  # New York closes at 20:00 UTC
        ("2018-12-11", "XTKS", Lag(sessions=2), "2018-12-07"),
    ],
)
def test_a_lag_is_counted_in_sessions_of_the_series_or_in_hours(
    session: str, series: str, lag: Lag, expected: str
) -> None:
    assert read_at("XNYS", session, series, lag) == expected


def test_nothing_is_known_before_the_first_value_and_the_last_lags_beyond_the_calendar() -> None:
    days = days_of("XNYS")
    late = numbered(days, Lag(sessions=3))
    assert np.isnat(late.known_at[-3:]).all()
    found = Context((late,), days.closes, "carry").join(days.sessions[:5])["S"]
    np.testing.assert_array_equal(found.value, [np.nan, np.nan, np.nan, 1, 2])
    assert found.session[:3].isna().all()
    empty = late.part(0, 0)
    nothing = Context((empty,), days.closes, "carry").join(days.sessions[:5])["S"]
    assert np.isnan(nothing.value).all()


def test_a_missing_value_masks_or_the_last_one_stands_for_five_sessions() -> None:
    days = days_of("XNYS")
    sessions = days.sessions[10:20]
    missing = [f"{day:%Y-%m-%d}" for day in sessions[1:8]]
    closes = days.closes.loc[sessions].dt.tz_localize(None).to_numpy("datetime64[us]")
    masked = join(numbered(days, missing=missing), closes, carry=False)
    np.testing.assert_array_equal(masked.value, [11, *[np.nan] * 7, 19, 20])
    assert not masked.is_carried.any()
    carried = join(numbered(days, missing=missing), closes, carry=True)
    np.testing.assert_array_equal(carried.value, [11, *[11.0] * CARRIED, np.nan, np.nan, 19, 20])
    assert carried.is_carried.tolist() == [False, *[True] * CARRIED, False, False, False, False]
    assert (carried.session[1:6] == sessions[0]).all()


def test_what_is_known_by_a_close_and_needed_from_one_are_what_the_join_reads() -> None:
    days, tokyo = days_of("XNYS"), days_of("XTKS")
    gap = [f"{day:%Y-%m-%d}" for day in tokyo.sessions[100:103]]
    whole = Context((numbered(tokyo, missing=gap),), days.closes, "carry")
    first, last = days.sessions[97], days.sessions[130]
    part = whole.known_by(last).needed_from(first)
    between = days.sessions_between(first, last)
    expected, found = whole.join(between)["S"], part.join(between)["S"]
    np.testing.assert_array_equal(found.value, expected.value)
    np.testing.assert_array_equal(found.is_carried, expected.is_carried)
    assert len(part.series[0].value) < len(between) + CARRIED + 5
    changed = whole.with_changed(last, lambda value: value * 0 - 1).join(days.sessions[:140])["S"]
    same = whole.join(days.sessions[:140])["S"]
    np.testing.assert_array_equal(changed.value[:131], same.value[:131])
    assert (changed.value[131:] == -1).all()
    assert replace(whole, missing="mask").join(between)["S"].value.size == len(between)
