"""Days on which the calendar contradicts the bars of a whole universe."""

from typing import Final

import numpy as np
import pandas as pd

from pipeline.market.universe import Universe

__all__ = ["count_bars", "find_unknown_closures", "find_unknown_sessions"]

_WINDOW: Final = 11
"""Window (sessions) of the median number of bars: a closure of one week does not move that median."""

_CLOSED_SHARE: Final = 0.1
"""A session with at most this share of the usual bars was a closure: vendors leave a few stale rows."""

_OPEN_SHARE: Final = 0.5
"""A closed day with more than this share of the usual bars was a session."""

_FIX_CLOSED: Final = "if the exchange was closed, write the day into the file of [universe] closures"
_FIX_OPEN: Final = "if the exchange was open, write its hours into the file of [universe] closures"


def count_bars(
    bars: pd.DataFrame, universe: Universe, sessions: pd.DatetimeIndex
) -> tuple["pd.Series[int]", "pd.Series[int]"]:
    """Return the number of members with a bar, and the number of members, by day.

    Args:
        bars: symbol and session of each bar, also on days that are no session.
        universe: The members by date.
        sessions: Days to count even without any bar.
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
    """Return the days on which the bars show a closure or a session that the calendar does not have.

    A session is an unknown closure if hardly any member has a bar on it while members have bars on the sessions around
    it; the newest session is left out, as its bars may still come. A day that is no session is an unknown session if
    most members with bars around it have one on it.

    Args:
        bars: The number of members with a bar, by day.
        members: The number of members, by day.
        sessions: The calendar's sessions from the first bar to the newest, ascending.
        name: The calendar's name.

    Returns:
        session, rule, evidence, fix; by session.
    """
    on = bars.reindex(sessions, fill_value=0)
    usual = on.rolling(_WINDOW, center=True, min_periods=1).median()
    silent = on[(on <= _CLOSED_SHARE * usual) & (usual >= 2)].drop(sessions[-1:], errors="ignore")
    off = bars[~bars.index.isin(sessions) & (bars >= 2)]
    busy = off[off > _OPEN_SHARE * usual.reindex(off.index, method="ffill")]
    parts = [
        _describe(members[silent.index], silent, "unknown closure", f"{name} has a session", _FIX_CLOSED),
        _describe(members[busy.index], busy, "unknown session", f"{name} has no session", _FIX_OPEN),
    ]
    return pd.concat(parts).sort_values("session", ignore_index=True)


def find_unknown_sessions(findings: pd.DataFrame, answered: int, name: str) -> pd.DataFrame:
    """Return a finding for each closed day on which most answers of a run have a bar; none of these bars is stored.

    Args:
        findings: The findings of the checks of the answers (quality.FINDING_COLUMNS).
        answered: The number of symbols whose answer had bars.
        name: The calendar's name.

    Returns:
        quality.FINDING_COLUMNS, with the calendar's name as symbol.
    """
    off = findings[findings["rule"] == "no session"].groupby("session")["symbol"].nunique()
    busy = off[(off >= 2) & (off > _OPEN_SHARE * answered)]
    detail = [
        f"{name} has no session, and {count} of {answered} symbols have a bar; {_FIX_OPEN}" for count in busy
    ]
    return pd.DataFrame(
        {"symbol": name, "session": busy.index, "rule": "unknown session", "detail": detail}, dtype=object
    )


def _describe(
    members: "pd.Series[int]", bars: "pd.Series[int]", rule: str, claim: str, fix: str
) -> pd.DataFrame:
    evidence = [
        f"{claim}, and {have} of {listed} constituents have a bar"
        for have, listed in zip(bars, members, strict=True)
    ]
    days = pd.DataFrame({"session": bars.index, "rule": rule, "evidence": evidence})
    return days.assign(fix=fix)
