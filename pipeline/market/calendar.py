"""Exchange calendars: sessions, their opens and closes, and when their bars settle."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from typing import Any

import exchange_calendars as xc
import pandas as pd

from pipeline.errors import ConfigError, InputError, NextdayError
from pipeline.market.closures import Override
from pipeline.market.exchanges import suggest_names
from pipeline.market.schedule import Schedule, plan_schedule

__all__ = ["Calendar", "calendar"]

_SETTLED_AFTER_OPEN = pd.Timedelta(hours=1)
_SETTLED_AFTER_CLOSE = pd.Timedelta(hours=18)
_LIST_DAYS = "name an exchange in the same time zone, and list the days that differ in [universe] closures"
_FIXES = {
    **dict.fromkeys(("ASEX", "XBSE", "XCYS"), f"{_LIST_DAYS}: XHEL has the same time zone"),
    "XBEL": f"{_LIST_DAYS}: XZAG has the same time zone",
    "XTAE": "give a [prices] start from 2026-01-05 on: the exchange trades from Monday to Friday since",
}
"""Fixes for the calendars that no release can build with pandas 3: Orthodox Easter, and Sundays in Tel Aviv."""

_COMMON_MONTH = ("2026-03-02", "2026-03-31")
"""A month within the bounds of every calendar: building just this finds the calendar's class and bounds."""

_LATEST = date(2200, 1, 1)
"""Calendars use nanosecond timestamps, which end in 2262."""


@dataclass(frozen=True, eq=False)
class Calendar:
    """The sessions of one exchange from `first` on; sessions are tz-naive midnights, instants are UTC.

    Attributes:
        name: The exchange_calendars name, for example XNYS.
        sessions: All sessions, ascending, datetime64[us].
        timezone: The exchange's time zone, an IANA name.
        opens, closes: When each session opens and closes, indexed by session.
        schedule: What the exchange's rules say beforehand of its sessions.
        ends: The last day that the calendar covers; None where its rules have no end.
        overrides: The corrections of the calendar, already applied to the sessions.
    """

    name: str
    timezone: str
    sessions: pd.DatetimeIndex
    opens: "pd.Series[pd.Timestamp]"
    closes: "pd.Series[pd.Timestamp]"
    schedule: Schedule
    ends: pd.Timestamp | None = None
    overrides: tuple[Override, ...] = ()

    @property
    def weekdays(self) -> frozenset[int]:
        """The days of the week that have sessions as a rule, Monday is 0."""
        often = self.sessions.day_of_week.value_counts()
        return frozenset(int(day) for day in often.index[often > often.max() / 2])

    def last_closed_session(
        self, now: datetime, delay: timedelta, *, may_have_ended: bool = False
    ) -> pd.Timestamp:
        """Return the last session that has been closed for at least `delay` at `now`.

        Args:
            now: The current time.
            delay: How long after its close a session counts as closed.
            may_have_ended: Whether to accept the calendar's last session after its end, as for a historical source.

        Raises:
            InputError: `now` is before the close of the first session.
            NextdayError: the calendar ended before `now`, so that later sessions are unknown.
        """
        if self.ends is not None and self.day(now) > self.ends and not may_have_ended:
            raise self._ended(f"at {now:%Y-%m-%d %H:%M}Z later sessions are unknown")
        count = int((self.closes + delay <= now).sum())
        if count == 0:
            raise InputError(
                f"{self.name} has no closed session from {self.sessions[0]:%Y-%m-%d} to {now:%Y-%m-%d %H:%M}Z",
                where="--now and [prices] start",
                fix="give a later --now or an earlier [prices] start",
            )
        return self.sessions[count - 1]

    def next_session(self, session: pd.Timestamp, ahead: int = 1) -> pd.Timestamp:
        """Return the session `ahead` sessions after `session`.

        Raises:
            NextdayError: the calendar ends before it.
        """
        place = self.position(session) + ahead
        if place >= len(self.sessions):
            raise self._ended(f"the sessions after {session:%Y-%m-%d} are unknown")
        return self.sessions[place]

    def _ended(self, consequence: str) -> NextdayError:
        return NextdayError(
            f"The calendar {self.name} ends on {self.ends or self.sessions[-1]:%Y-%m-%d}: {consequence}",
            where="[universe] calendar",
            fix="install a newer release of exchange-calendars (it comes out before the exchange's year ends); "
            "missed sessions are backfilled",
        )

    def position(self, session: pd.Timestamp) -> int:
        """Return the index of `session` in `sessions`.

        Raises:
            InputError: it is no session.
        """
        place = int(self.sessions.searchsorted(session))
        if place >= len(self.sessions) or self.sessions[place] != session:
            nearest = [f"{day:%Y-%m-%d}" for day in self.sessions[max(place - 1, 0) : place + 1]]
            raise InputError(
                f"{session:%Y-%m-%d} is not a session of {self.name}",
                where=f"{self.name} from {self.sessions[0]:%Y-%m-%d} to {self.sessions[-1]:%Y-%m-%d}",
                fix=f"nearest sessions: {' and '.join(nearest)}",
            )
        return place

    def sessions_between(self, first: pd.Timestamp, last: pd.Timestamp) -> pd.DatetimeIndex:
        """Return the sessions in [first, last]."""
        return self.sessions[(self.sessions >= first) & (self.sessions <= last)]

    def settled_at(self, session: pd.Timestamp) -> pd.Timestamp:
        """Return when a bar of `session` counts as settled: 18 h after its close or 1 h into the next, if earlier."""
        after_close = self.closes[session] + _SETTLED_AFTER_CLOSE
        place = self.position(session) + 1
        if place == len(self.sessions):
            return after_close
        return min(after_close, self.opens.iloc[place] + _SETTLED_AFTER_OPEN)

    def day(self, now: datetime) -> pd.Timestamp:
        """Return the exchange's local date at `now`."""
        return pd.Timestamp(now).tz_convert(self.timezone).tz_localize(None).normalize()

    def instant(self, when: datetime) -> datetime:
        """Return `when` in UTC; a time without an offset is the exchange's local time.

        Raises:
            InputError: the local time does not exist or is ambiguous (clock change), or is out of range.
        """
        stamp = pd.Timestamp(when)
        try:
            local = stamp.tz_localize(self.timezone) if stamp.tzinfo is None else stamp
            return local.tz_convert("UTC").to_pydatetime()
        except (ValueError, OverflowError, NotImplementedError):
            raise InputError(
                f"{when.isoformat(' ')} is no unique instant in {self.timezone}",
                where=f"the time zone of {self.name}",
                fix="write the time with its offset, for example 2018-12-10T22:00Z",
            ) from None


def calendar(
    name: str,
    first: date,
    now: datetime,
    overrides: tuple[Override, ...] = (),
    *,
    may_never_close: bool = False,
) -> Calendar:
    """Return the calendar `name` from `first` to 400 days after `now`, or to its end if that is earlier.

    Args:
        name: A calendar of exchange_calendars.
        first: The first day.
        now: The current time.
        overrides: Corrections of the calendar, in the order of their file; those outside this range are not applied.
        may_never_close: Whether a session may begin when the one before ends, as for a context series.

    Raises:
        ConfigError: there is no such calendar, it cannot be built, or its market never closes.
        InputError: `now` is before `first` or after 2200; or an override contradicts the calendar.
    """
    if not first < now.date() < _LATEST:
        raise InputError(
            f"The clock is at {now:%Y-%m-%d}; it must be between {first:%Y-%m-%d} and {_LATEST:%Y-%m-%d}",
            where="--now and [prices] start",
            fix="give another --now or another [prices] start",
        )
    found = _calendar(name, first, now.date() + timedelta(days=400), overrides)
    if not may_never_close and (found.closes.to_numpy()[:-1] >= found.opens.to_numpy()[1:]).any():
        raise ConfigError(
            f"The market of the calendar {name!r} never closes: there is no next session to forecast",
            where="[universe] calendar",
            fix="use the calendar of an exchange that closes, for example XNYS",
        )
    return found


@lru_cache(maxsize=8)
def _calendar(name: str, first: date, last: date, overrides: tuple[Override, ...]) -> Calendar:
    built = _build(name, first, date(last.year, 12, 31))  # whole years: consecutive evenings share one
    hours = pd.DataFrame({"opens": built.opens, "closes": built.closes})
    hours = hours.set_axis(pd.DatetimeIndex(built.sessions.as_unit("us"))).loc[: pd.Timestamp(last)]
    hours = hours.apply(lambda instants: instants.dt.as_unit("us"))
    ends = built.bound_max()
    for number, override in enumerate(overrides, 1):
        if first <= override.session <= last:
            hours = _apply_override(hours, override, built, f"[universe] closures, data row {number}")
    return Calendar(
        name=name,
        timezone=str(built.tz),
        sessions=pd.DatetimeIndex(hours.index),
        opens=hours["opens"],
        closes=hours["closes"],
        schedule=plan_schedule(built, pd.DatetimeIndex(hours.index)),
        ends=ends if ends is not None and ends < pd.Timestamp(last) else None,
        overrides=overrides,
    )


def _apply_override(hours: pd.DataFrame, override: Override, built: Any, where: str) -> pd.DataFrame:
    """Return opens and closes by session with one session added, changed or removed."""
    day = pd.Timestamp(override.session)
    _require_in_bounds(day, built, where)
    before, after = hours[hours.index < day], hours[hours.index > day]
    if override.opens is None or override.closes is None:
        # A weekday holiday of the calendar may be listed: an older release may not have had it.
        if day not in hours.index and built.weekmask[day.weekday()] == "0":
            raise InputError(
                f"{day:%Y-%m-%d}, a {day:%A}, is no session of {built.name} anyway: is it a typo?",
                where=where,
                fix="write the session on which the exchange was closed, or remove the row",
            )
        return pd.concat([before, after])
    opens, closes = (_instant(day, hour, built.tz, where) for hour in (override.opens, override.closes))
    if (before["closes"].tail(1) >= opens).any() or (after["opens"].head(1) <= closes).any():
        raise InputError(
            f"The hours of {day:%Y-%m-%d} overlap those of an adjacent session",
            where=where,
            fix="write the hours in the exchange's local time",
        )
    index = pd.DatetimeIndex([day], dtype="datetime64[us]")
    return pd.concat([before, pd.DataFrame({"opens": [opens], "closes": [closes]}, index=index), after])


def _require_in_bounds(day: pd.Timestamp, built: Any, where: str) -> None:
    first, last = built.bound_min(), built.bound_max()
    is_before, is_after = first is not None and day < first, last is not None and day > last
    if is_before or is_after:
        ends = f"begins on {first:%Y-%m-%d}" if is_before else f"ends on {last:%Y-%m-%d}"
        raise InputError(
            f"{day:%Y-%m-%d} is outside the calendar {built.name}, which {ends}",
            where=where,
            fix="remove the row; only days within the calendar can be corrected",
        )


def _instant(day: pd.Timestamp, hour: time, timezone: Any, where: str) -> pd.Timestamp:
    try:
        return pd.Timestamp.combine(day, hour).tz_localize(timezone).tz_convert("UTC").as_unit("us")
    except ValueError as error:  # skipped or repeated by a clock change
        raise InputError(
            f"{day:%Y-%m-%d}: {hour:%H:%M} is no unique time in {timezone}: {error!s:.80}",
            where=where,
            fix="write the hours in the exchange's local time",
        ) from None


@lru_cache(maxsize=8)
def _build(name: str, first: date, last: date) -> Any:
    known = xc.get_calendar_names(include_aliases=True)
    if name not in known:
        nearest = suggest_names(name, known)
        raise ConfigError(
            f"There is no calendar {name!r}",
            where="[universe] calendar",
            fix=f"nearest names: {', '.join(nearest) or 'XNYS'} (the names of exchange_calendars)",
        )
    try:
        with suppress(ValueError):  # most calendars have no bounds, or none that matter
            return xc.get_calendar(name, start=pd.Timestamp(first), end=pd.Timestamp(last))
        bounds = type(xc.get_calendar(name, start=_COMMON_MONTH[0], end=_COMMON_MONTH[1]))
        start = max(bound for bound in (pd.Timestamp(first), bounds.bound_min()) if bound is not None)
        end = min(bound for bound in (pd.Timestamp(last), bounds.bound_max()) if bound is not None)
        return xc.get_calendar(name, start=start, end=end)
    except (NotImplementedError, ValueError) as error:
        raise ConfigError(
            f"The calendar {name!r} cannot be built with this release of exchange_calendars: {error!s:.100}",
            where="[universe] calendar",
            fix=_FIXES.get(name, f"{_LIST_DAYS}; or give another [prices] start"),
        ) from None
