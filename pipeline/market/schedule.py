"""What an exchange's rules say beforehand of its coming sessions: holidays and half days.

A closure outside of the rules (September 2001, a hurricane, a day of mourning) was not known beforehand: until it
happened, a session was expected on that day. exchange_calendars lists such days apart, as ad hoc. Calendars that list
every holiday so (XSHG, XBOM) have none that is known beforehand, only those of the past.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["FARTHEST", "Schedule", "plan_schedule"]

FARTHEST: Final = 10
"""Sessions: a holiday that is farther away counts as this far."""

_FIRST_OF_MONTH: Final = 3

Counts = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Schedule:
    """Days of one exchange, tz-naive midnights, ascending.

    Attributes:
        expected: On which a session was expected beforehand: the sessions, and the closures outside of the rules.
        holidays: Weekdays with sessions on which the exchange is closed by rule.
        closures: All such days on which it was closed, by rule or not.
        half_days: Sessions that close early by rule.
    """

    expected: pd.DatetimeIndex
    holidays: pd.DatetimeIndex
    closures: pd.DatetimeIndex
    half_days: pd.DatetimeIndex

    def next_expected(self, sessions: pd.DatetimeIndex) -> pd.DatetimeIndex:
        """Return, by session, the day of the next session as it was expected at its close."""
        place = self.expected.searchsorted(sessions, side="right")
        return self.expected[np.minimum(place, len(self.expected) - 1)]

    def is_half_day(self, days: pd.DatetimeIndex) -> NDArray[np.bool_]:
        """Return whether the session closes early by rule."""
        return np.asarray(days.isin(self.half_days))

    def is_turn_of_month(self, days: pd.DatetimeIndex) -> NDArray[np.bool_]:
        """Return whether the day is the last expected one of its month or one of the first three.

        Lakonishok and Smidt (1988), Are seasonal anomalies real? A ninety-year perspective.
        """
        month = self.expected.to_period("M")
        is_last = np.append(month[1:] != month[:-1], False)
        before = np.arange(len(month)) - np.searchsorted(month.asi8, month.asi8)
        return np.asarray(days.isin(self.expected[is_last | (before < _FIRST_OF_MONTH)]))

    def sessions_to_holiday(self, days: pd.DatetimeIndex) -> Counts:
        """Return how many sessions lie between the day and the next holiday by rule; FARTHEST at most."""
        later = self.holidays.searchsorted(days, side="right")
        at = self.expected.searchsorted(self.holidays)
        count = np.append(at, len(self.expected) + FARTHEST)[later] - self.expected.searchsorted(days) - 1
        return np.clip(count, 0, FARTHEST)

    def sessions_since_holiday(self, sessions: pd.DatetimeIndex, days: pd.DatetimeIndex) -> Counts:
        """Return how many sessions lie between the last closure and the day, as known at the close of the session.

        Args:
            sessions: At whose close it is known.
            days: The next day expected after each (`next_expected`).
        """
        past = _last_before(self.closures, sessions)
        planned = _last_before(self.holidays, days)
        closed = np.fmax(past, planned)  # NaT where there is none
        held = self.expected[~self.expected.isin(self.closures)]
        count = held.searchsorted(sessions, side="right") - held.searchsorted(pd.DatetimeIndex(closed))
        return np.where(np.isnat(closed), FARTHEST, np.clip(count, 0, FARTHEST))


def plan_schedule(built: Any, sessions: pd.DatetimeIndex) -> Schedule:
    """Return the schedule of a calendar.

    Args:
        built: The calendar of exchange_calendars.
        sessions: Its sessions with the corrections of [universe] closures, which nobody knew beforehand.
    """
    week = np.array([day == "1" for day in built.weekmask])
    days = pd.date_range(sessions[0], sessions[-1], unit="us")
    closed = days[week[days.day_of_week] & ~days.isin(sessions)]
    is_known = ~closed.isin(built.sessions) & ~closed.isin(_naive(built.adhoc_holidays))
    early = built.early_closes[
        ~built.early_closes.isin(_naive(day for _, some in built.special_closes_adhoc for day in some))
    ]
    return Schedule(
        expected=sessions.union(closed[~is_known]),
        holidays=closed[is_known],
        closures=closed,
        half_days=early.as_unit("us"),
    )


def _naive(days: Iterable[Any]) -> pd.DatetimeIndex:
    return pd.DatetimeIndex([pd.Timestamp(day).tz_localize(None).normalize() for day in days])


def _last_before(days: pd.DatetimeIndex, others: pd.DatetimeIndex) -> NDArray[np.datetime64]:
    """Return the last of `days` before each of the others, NaT where there is none."""
    known = np.append(np.datetime64("NaT", "us"), days.to_numpy("datetime64[us]"))
    return known[days.searchsorted(others)]
