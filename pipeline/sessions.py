"""Exchange calendars: what a session is, when it closed, which one comes next."""

import difflib
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any

import exchange_calendars as xc
import pandas as pd

from pipeline.errors import ConfigError, InputError, NextdayError

__all__ = ["Calendar", "calendar"]

_SETTLED_AFTER_OPEN = pd.Timedelta(hours=1)
_SETTLED_AFTER_CLOSE = pd.Timedelta(hours=18)
_BEYOND = date(2200, 1, 1)
"""Calendars count nanoseconds, which end in 2262."""


@dataclass(frozen=True, eq=False)
class Calendar:
    """The sessions of one exchange from `first` on; sessions are tz-naive midnights, instants are UTC.

    Attributes:
        name: The exchange_calendars name, for example XNYS.
        sessions: All sessions, ascending, datetime64[us].
        opens, closes: When each one opens and closes, indexed by session.
    """

    name: str
    timezone: str
    sessions: pd.DatetimeIndex
    opens: "pd.Series[pd.Timestamp]"
    closes: "pd.Series[pd.Timestamp]"

    def last_closed_session(self, now: datetime, delay: timedelta) -> pd.Timestamp:
        """Return the last session that has been closed for at least `delay` at `now`.

        Raises:
            InputError: `now` lies before the close of the first session.
        """
        count = int((self.closes + delay <= now).sum())
        if count == 0:
            raise InputError(
                f"{self.name} has no closed session from {self.sessions[0]:%Y-%m-%d} to {now:%Y-%m-%d %H:%M}Z",
                where="--now and [prices] start",
                way_out="give a later clock or an earlier start",
            )
        return self.sessions[count - 1]

    def next_session(self, session: pd.Timestamp, ahead: int = 1) -> pd.Timestamp:
        """Return the session `ahead` sessions after `session`.

        Raises:
            NextdayError: the calendar ends before it.
        """
        place = self.position(session) + ahead
        if place >= len(self.sessions):
            raise NextdayError(
                f"The calendar {self.name} ends on {self.sessions[-1]:%Y-%m-%d}: no session is known after "
                f"{session:%Y-%m-%d}",
                way_out="a newer release of exchange-calendars knows more sessions",
            )
        return self.sessions[place]

    def position(self, session: pd.Timestamp) -> int:
        """Return the number of `session` in `sessions`.

        Raises:
            InputError: it is no session.
        """
        place = int(self.sessions.searchsorted(session))
        if place >= len(self.sessions) or self.sessions[place] != session:
            nearest = [f"{day:%Y-%m-%d}" for day in self.sessions[max(place - 1, 0) : place + 1]]
            raise InputError(
                f"{session:%Y-%m-%d} is not a session of {self.name}",
                where=f"{self.name} from {self.sessions[0]:%Y-%m-%d} to {self.sessions[-1]:%Y-%m-%d}",
                way_out=f"nearest sessions: {' and '.join(nearest)}",
            )
        return place

    def sessions_between(self, first: pd.Timestamp, last: pd.Timestamp) -> pd.DatetimeIndex:
        """Return the sessions in [first, last]."""
        return self.sessions[(self.sessions >= first) & (self.sessions <= last)]

    def settled_at(self, session: pd.Timestamp) -> pd.Timestamp:
        """Return from when on a bar of `session` counts as settled: an hour into the next one, or 18 h on."""
        after_close = self.closes[session] + _SETTLED_AFTER_CLOSE
        place = self.position(session) + 1
        if place == len(self.sessions):
            return after_close
        return min(after_close, self.opens.iloc[place] + _SETTLED_AFTER_OPEN)

    def instant(self, when: datetime) -> datetime:
        """Return `when` in UTC; a time without an offset is the exchange's own.

        Raises:
            InputError: clocks there never showed it, or showed it twice, or it lies beyond what can be counted.
        """
        stamp = pd.Timestamp(when)
        try:
            here = stamp.tz_localize(self.timezone) if stamp.tzinfo is None else stamp
            return here.tz_convert("UTC").to_pydatetime()
        except (ValueError, OverflowError, NotImplementedError):
            raise InputError(
                f"{when.isoformat(' ')} is not one moment in {self.timezone}",
                where=f"the time zone of {self.name}",
                way_out="write the time with its offset, for example 2018-12-10T22:00Z",
            ) from None


def calendar(name: str, first: date, now: datetime) -> Calendar:
    """Return the calendar `name` from `first` to a year after `now`, as far as it is known.

    Raises:
        ConfigError: there is no such calendar, it cannot be built, or its market never closes.
        InputError: `now` lies before `first`, or beyond every calendar.
    """
    if not first < now.date() < _BEYOND:
        raise InputError(
            f"The clock stands at {now:%Y-%m-%d}; it can stand between {first:%Y-%m-%d} and {_BEYOND:%Y-%m-%d}",
            where="--now and [prices] start",
            way_out="give another clock or another start",
        )
    return _calendar(name, first, now.date() + timedelta(days=370))


@lru_cache(maxsize=8)
def _calendar(name: str, first: date, last: date) -> Calendar:
    built = _build(name, first, last)
    if (built.closes.to_numpy()[:-1] >= built.opens.to_numpy()[1:]).any():
        raise ConfigError(
            f"The market of the calendar {name!r} never closes: there is no next session to forecast",
            where="[universe] calendar",
            way_out="use the calendar of an exchange that closes, for example XNYS",
        )
    sessions = pd.DatetimeIndex(built.sessions.as_unit("us"))
    return Calendar(
        name=name,
        timezone=str(built.tz),
        sessions=sessions,
        opens=built.opens.set_axis(sessions).dt.as_unit("us"),
        closes=built.closes.set_axis(sessions).dt.as_unit("us"),
    )


def _build(name: str, first: date, last: date) -> Any:
    known = xc.get_calendar_names(include_aliases=True)
    if name not in known:
        nearest = difflib.get_close_matches(name.upper(), known, n=3, cutoff=0.4)
        raise ConfigError(
            f"There is no calendar {name!r}",
            where="[universe] calendar",
            way_out=f"nearest names: {', '.join(nearest) or 'XNYS'} (the names of exchange_calendars)",
        )
    try:
        bounds = type(xc.get_calendar(name))
        start = max(bound for bound in (pd.Timestamp(first), bounds.bound_min()) if bound is not None)
        end = min(bound for bound in (pd.Timestamp(last), bounds.bound_max()) if bound is not None)
        return xc.get_calendar(name, start=start, end=end)
    except (NotImplementedError, ValueError) as error:
        raise ConfigError(
            f"The calendar {name!r} cannot be built with this release of exchange_calendars: {error!s:.160}",
            where="[universe] calendar",
        ) from None
