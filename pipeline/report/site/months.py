"""The calendar of sessions: which were forecast in time, which late, which not at all, and when no market was open."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

import pandas as pd

__all__ = ["Day", "Month", "Year", "count_years", "list_months"]

_SHOWN: Final = 24
"""Months that are drawn; older ones are counted by year."""


@dataclass(frozen=True)
class Day:
    """A day of the calendar.

    Attributes:
        date: YYYY-MM-DD.
        number: The day of the month; 0 for a place before the first one.
        state: live, late, missed or closed; empty before the first session and after the last one.
        link: The evening's report, from the index; empty where there is none.
        words: What happened, for a tooltip.
    """

    date: str
    number: int
    state: str
    link: str
    words: str


@dataclass(frozen=True)
class Month:
    """A month: its name, the first letters of its weekdays, and its days in rows of whole weeks."""

    name: str
    weekdays: tuple[str, ...]
    days: tuple[Day, ...]


@dataclass(frozen=True)
class Year:
    """A year in numbers of sessions."""

    name: str
    live: int
    late: int
    missed: int


def judge_days(record: pd.DataFrame, sessions: pd.DatetimeIndex) -> pd.DataFrame:
    """Return each session from the first forecast one to the last: state (live, late, missed), rows, live (rows).

    A session counts as late if one of its rows is: live rows of it stay live in every score.

    Args:
        record: The champion rows.
        sessions: All sessions of the calendar.
    """
    evenings = record.assign(is_live=record["kind"] == "live").groupby("as_of")
    found = evenings.agg(day=("target_session", "min"), rows=("kind", "size"), live=("is_live", "sum"))
    found = found.groupby("day")[["rows", "live"]].sum()
    if found.empty:
        return found.assign(state=pd.Series(dtype="str"))
    between = sessions[(sessions >= found.index[0]) & (sessions <= found.index[-1])]
    every = found.reindex(found.index.union(between), fill_value=0)
    state = pd.Series("late", index=every.index).mask(every["rows"] == every["live"], "live")
    return every.assign(state=state.mask(every["rows"] == 0, "missed"))


def list_months(judged: pd.DataFrame, weekdays: frozenset[int], dated: Collection[str]) -> list[Month]:
    """Return the last months of the calendar, the newest first.

    Args:
        judged: Of `judge_days`.
        weekdays: The days of the week with sessions as a rule.
        dated: The sessions whose reports there are, YYYY-MM-DD.
    """
    if judged.empty:
        return []
    days = _Days(judged, weekdays, frozenset(dated))
    months = pd.period_range(judged.index[0], judged.index[-1], freq="M")[::-1][:_SHOWN]
    return [days.month(month) for month in months]


class _Days:
    """The days of the calendar by month."""

    def __init__(self, judged: pd.DataFrame, weekdays: frozenset[int], dated: frozenset[str]) -> None:
        self._first, self._last = judged.index[0], judged.index[-1]
        self._weekdays, self._dated = weekdays, dated
        self._shown = sorted(weekdays | {day.day_of_week for day in judged.index})
        columns = (judged[name].tolist() for name in ("state", "rows", "live"))
        self._found = dict(zip(judged.index, zip(*columns, strict=True), strict=True))

    def month(self, month: pd.Period) -> Month:
        every = pd.date_range(month.start_time, month.end_time.normalize())
        days = [day for day in every if day.day_of_week in self._shown]
        blank = [Day("", 0, "", "", "")] * self._shown.index(days[0].day_of_week)
        letters = tuple("MTWTFSS"[day] for day in self._shown)
        return Month(f"{month.start_time:%B %Y}", letters, (*blank, *map(self._day, days)))

    def _day(self, day: pd.Timestamp) -> Day:
        name = f"{day:%Y-%m-%d}"
        link = f"{name}/report.html" if name in self._dated else ""
        if day not in self._found:
            is_closed = self._first <= day <= self._last and day.day_of_week in self._weekdays
            state = "closed" if is_closed else ""
            return Day(name, day.day, state, link, f"{name} {state}".rstrip())
        state, rows, live = self._found[day]
        words = f"{name} {state}" + (f", {rows:,} forecasts" if rows else "")
        return Day(name, day.day, state, link, words + (f", {live:,} live" if 0 < live < rows else ""))


def count_years(judged: pd.DataFrame) -> list[Year]:
    """Return the number of sessions of each state by year, the newest first."""
    if judged.empty:
        return []
    counts = judged.groupby([pd.DatetimeIndex(judged.index).year, "state"]).size().unstack(fill_value=0)
    return [
        Year(str(year), *(int(row.get(state, 0)) for state in ("live", "late", "missed")))
        for year, row in counts.sort_index(ascending=False).iterrows()
    ]
