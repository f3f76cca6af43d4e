"""Days on which the calendar and the bars of a whole universe contradict each other."""

from typing import Final

import numpy as np
import pandas as pd

from pipeline.market.universe import Universe

__all__ = ["count_bars", "find_unknown_closures", "find_unknown_sessions"]

_AROUND: Final = 11
"""Sessions whose median says how many bars are usual: a closure of a week in the middle does not move it."""

_SILENT: Final = 0.1
"""A session with so small a share of the usual bars was none: vendors leave a stale row here and there."""

_MOST: Final = 0.5
"""A closed day with more than this share of the usual bars was a session."""

_CLOSED: Final = "if the exchange was closed, write the day into the file of [universe] closures"
_OPEN: Final = "if the exchange was open, write its hours into the file of [universe] closures"


def count_bars(
    bars: pd.DataFrame, universe: Universe, sessions: pd.DatetimeIndex
) -> tuple["pd.Series[int]", "pd.Series[int]"]:
    """Return how many members have a bar, by day, and how many there are.

    Args:
        bars: symbol and session of each bar, on days that are no session too.
        universe: Who belongs when.
        sessions: Days to count as well, with a bar or without.
    """
    days = sessions.union(pd.DatetimeIndex(bars["session"].unique()))
    belongs = universe.membership(days, universe.symbols)
    row = days.get_indexer(pd.DatetimeIndex(bars["session"]))
    column = belongs.columns.get_indexer(pd.Index(bars["symbol"]))
    counts = (column >= 0) & belongs.to_numpy()[row, column]
    return pd.Series(np.bincount(row[counts], minlength=len(days)), index=days), belongs.sum(axis=1)


def find_unknown_closures(
    bars: "pd.Series[int]", members: "pd.Series[int]", sessions: pd.DatetimeIndex, name: str
) -> pd.DataFrame:
    """Return the days on which an exchange was closed or open and its calendar says otherwise.

    A session counts as an unknown closure if hardly a member has a bar on it while members have theirs on the
    sessions around; the newest session is left out, for its bars may be still to come. A day that is no session
    counts as an unknown session if most of the members that have bars around have one on it.

    Args:
        bars: How many members have a bar, by day.
        members: How many members there are, by day.
        sessions: The calendar's sessions from the first bar to the newest, ascending.
        name: The calendar's.

    Returns:
        session, rule, evidence, fix; by session.
    """
    on = bars.reindex(sessions, fill_value=0)
    usual = on.rolling(_AROUND, center=True, min_periods=1).median()
    silent = on[(on <= _SILENT * usual) & (usual >= 2)].drop(sessions[-1:], errors="ignore")
    off = bars[~bars.index.isin(sessions) & (bars >= 2)]
    busy = off[off > _MOST * usual.reindex(off.index, method="ffill")]
    parts = [
        _told(members[silent.index], silent, "unknown closure", f"{name} has a session", _CLOSED),
        _told(members[busy.index], busy, "unknown session", f"{name} has no session", _OPEN),
    ]
    return pd.concat(parts).sort_values("session", ignore_index=True)


def find_unknown_sessions(findings: pd.DataFrame, answered: int, name: str) -> pd.DataFrame:
    """Return a finding for each closed day on which most of an evening's answers have a bar, which none may keep.

    Args:
        findings: Of the checks of the answers (quality.FINDING_COLUMNS).
        answered: How many symbols answered with bars.
        name: The calendar's.

    Returns:
        quality.FINDING_COLUMNS, the calendar in the place of the symbol.
    """
    off = findings[findings["rule"] == "no session"].groupby("session")["symbol"].nunique()
    busy = off[(off >= 2) & (off > _MOST * answered)]
    detail = [
        f"{name} has no session, and {count} of {answered} symbols have a bar; {_OPEN}" for count in busy
    ]
    return pd.DataFrame(
        {"symbol": name, "session": busy.index, "rule": "unknown session", "detail": detail}, dtype=object
    )


def _told(members: "pd.Series[int]", bars: "pd.Series[int]", rule: str, says: str, fix: str) -> pd.DataFrame:
    evidence = [
        f"{says}, and {have} of {listed} members have a bar"
        for have, listed in zip(bars, members, strict=True)
    ]
    told = pd.DataFrame({"session": bars.index, "rule": rule, "evidence": evidence})
    return told.assign(fix=fix)
