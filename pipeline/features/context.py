"""Context series: what was known of an index, a volatility or a rate at each close of the universe.

A value is joined by the instant at which it was known, the close of its session on its own exchange plus its lag, never
by its date. What closes after the universe's close comes a session later: for New York, Tokyo's close is that of the
same day; for Tokyo, New York's is yesterday's.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.inputs_config import Lag
from pipeline.market.calendar import Calendar

__all__ = ["CARRIED", "Context", "Joined", "Series", "first_needed", "join", "known_instants"]

Floats = NDArray[np.float64]
Instants = NDArray[np.datetime64]

CARRIED: Final = 5
"""Sessions of its own calendar over which a missing value may be replaced by the last one."""


@dataclass(frozen=True, eq=False)
class Series:
    """The values of one series, one per session of its own calendar.

    Attributes:
        symbol: Its symbol.
        sessions: The sessions, ascending.
        known_at: When the value of each was known: UTC, without a time zone, datetime64[us], ascending.
        value: The total-return close, NaN where it is missing.
    """

    symbol: str
    sessions: pd.DatetimeIndex
    known_at: Instants
    value: Floats

    def part(self, first: int, stop: int) -> "Series":
        """Return the sessions with the numbers from `first` to before `stop`."""
        rows = slice(max(first, 0), max(stop, 0))
        return replace(
            self, sessions=self.sessions[rows], known_at=self.known_at[rows], value=self.value[rows]
        )


@dataclass(frozen=True, eq=False)
class Context:
    """Context series beside a panel.

    Attributes:
        series: The series.
        closes: When each session of the universe closes, UTC, by session.
        missing: Whether a missing value masks the row, or the last one is carried on.
    """

    series: tuple[Series, ...]
    closes: "pd.Series[pd.Timestamp]"
    missing: Literal["mask", "carry"]

    def close_of(self, session: pd.Timestamp) -> np.datetime64:
        """Return when a session of the universe closes, as in `Series.known_at`."""
        close: np.datetime64 = _naive(self.closes.loc[[session]])[0]
        return close

    def known_by(self, session: pd.Timestamp) -> "Context":
        """Return the values that were known at the close of a session."""
        return self._each(lambda each: each.part(0, _count_known(each, self.close_of(session))))

    def needed_from(self, session: pd.Timestamp) -> "Context":
        """Return the values that the rows from a session on depend on."""
        close = self.close_of(session)
        return self._each(lambda each: each.part(first_needed(each.known_at, close), len(each.value)))

    def with_changed(self, session: pd.Timestamp, change: Callable[[Floats], Floats]) -> "Context":
        """Return the series with the values changed that became known after the close of a session."""

        def changed(each: Series) -> Series:
            stop, value = _count_known(each, self.close_of(session)), each.value.copy()
            value[stop:] = change(value[stop:])
            return replace(each, value=value)

        return self._each(changed)

    def join(self, sessions: pd.DatetimeIndex) -> "dict[str, Joined]":
        """Return, by symbol, what was known of each series at the close of each session of the universe."""
        closes = _naive(self.closes.reindex(sessions))
        return {each.symbol: join(each, closes, carry=self.missing == "carry") for each in self.series}

    def _each(self, change: Callable[[Series], Series]) -> "Context":
        return replace(self, series=tuple(map(change, self.series)))


@dataclass(frozen=True, eq=False)
class Joined:
    """What was known of a series at each close of the universe, [session].

    Attributes:
        value: The newest value; NaN where it is missing.
        session: The session of the series that it is of; NaT without a value.
        is_carried: Whether the value due was missing, and an earlier one stands for it.
    """

    value: Floats
    session: pd.DatetimeIndex
    is_carried: NDArray[np.bool_]


def join(series: Series, closes: Instants, *, carry: bool) -> Joined:
    """Return what was known of a series at each close.

    The value due is that of the newest session known by then: on a day on which the exchange of the series is closed,
    it is that of its last session, and nothing is missing.

    Args:
        series: The series.
        closes: The closes of the universe, as in `Series.known_at`.
        carry: Whether the last of the CARRIED sessions before stands for a missing value.
    """
    due = np.searchsorted(series.known_at, closes, side="right") - 1
    places = np.arange(len(series.value))
    usable = pd.Series(np.where(np.isfinite(series.value), places, np.nan))
    if carry:
        usable = usable.ffill(limit=CARRIED)
    place = np.append(usable.to_numpy(), np.nan)[due]  # -1, nothing is due yet, is the last one
    is_known = np.isfinite(place)
    at = np.where(is_known, place, 0).astype(int)
    value = np.append(series.value, np.nan)[np.where(is_known, at, len(series.value))]
    session = np.append(series.sessions.to_numpy("datetime64[us]"), np.datetime64("NaT", "us"))
    return Joined(
        value=value,
        session=pd.DatetimeIndex(session[np.where(is_known, at, len(series.value))]),
        is_carried=is_known & (at < due),
    )


def known_instants(calendar: Calendar, lag: Lag) -> Instants:
    """Return when the value of each session of a calendar is known, as in `Series.known_at`.

    NaT where that is after the calendar's last close.
    """
    closes = _naive(calendar.closes)
    later = np.full(len(closes), np.datetime64("NaT", "us"))
    later[: max(len(closes) - lag.sessions, 0)] = closes[lag.sessions :]
    return later + np.timedelta64(lag.duration)


def first_needed(known_at: Instants, close: np.datetime64) -> int:
    """Return the number of the first session that what is known at `close` may depend on."""
    return max(int(np.searchsorted(known_at, close, side="right")) - 1 - CARRIED, 0)


def _count_known(series: Series, close: np.datetime64) -> int:
    return int(np.searchsorted(series.known_at, close, side="right"))


def _naive(instants: "pd.Series[pd.Timestamp]") -> Instants:
    return instants.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy("datetime64[us]")
