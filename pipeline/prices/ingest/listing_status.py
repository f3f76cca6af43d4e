"""The state of a listing (trading, suspended, delisted), derived from the record and never stored."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from pipeline.market.calendar import Calendar
from pipeline.prices.ingest.fetch_log import FetchLog
from pipeline.prices.recent_bars import RecentBars
from pipeline.prices.store import PriceStore

__all__ = ["DELISTED_AFTER", "RECENT", "SUSPENDED_AFTER", "Listing", "find_listings", "recent_bars"]

DELISTED_AFTER = 5
"""Consecutive sessions with `not_found` after which a symbol counts as delisted: a single 404 may be an outage."""

SUSPENDED_AFTER = 10
"""Sessions answered without a bar after which a symbol counts as suspended; outages do not count."""

RECENT = 60
"""Recent sessions that decide the state of nearly every symbol, so that a large store is not read whole."""


@dataclass(frozen=True)
class Listing:
    """A symbol's state.

    Attributes:
        state: `unknown` where the source never returned a bar.
        last: The last session with a bar, None without one.
        evidence: One sentence; empty while the listing trades.
    """

    state: Literal["trading", "suspended", "delisted", "unknown"]
    last: pd.Timestamp | None
    evidence: str = ""


def find_listings(
    bars: pd.DataFrame, log: FetchLog, calendar: Calendar, symbols: Sequence[str], last: pd.Timestamp
) -> dict[str, Listing]:
    """Return the state of each symbol at the close of session `last`.

    Args:
        bars: The symbols' bars (`recent_bars`).
        log: The source's answers; a source without a log counts as having answered on every session.
        calendar: The exchange's sessions.
        symbols: The symbols to classify.
        last: The last closed session.

    Raises:
        StoreError: the log cannot be read.
    """
    newest, streaks = bars.groupby("symbol")["session"].max(), log.not_found_streaks()
    answered = log.answered_since(calendar.sessions[max(calendar.position(last) - RECENT, 0)])
    listings = {}
    for symbol in symbols:
        end = newest.get(symbol)
        if end is None:
            listings[symbol] = Listing("unknown", None, "the source never returned a bar")
            continue
        absent = calendar.sessions_between(end, last)[1:]
        empty = len(absent) if answered is None else int(absent.isin(answered.get(symbol, [])).sum())
        listings[symbol] = _classify(end, empty, min(streaks.get(symbol, 0), len(absent)))
    return listings


def recent_bars(
    store: PriceStore | RecentBars, calendar: Calendar, symbols: Sequence[str], last: pd.Timestamp
) -> pd.DataFrame:
    """Return symbol, session and status of the recent bars; for symbols without a recent bar, of all their bars.

    Raises:
        StoreError: the store cannot be read.
    """
    since = calendar.sessions[max(calendar.position(last) - RECENT, 0)]
    recent = store.read(last, since=since, symbols=symbols, columns=["status"])
    others = sorted(set(symbols) - set(recent["symbol"]))
    older = store.read(last, symbols=others, columns=["status"]) if others else recent.head(0)
    bars = pd.concat([recent, older], ignore_index=True)
    return bars[
        bars["session"].isin(calendar.sessions)
    ]  # a day may have been added to [universe] closures since


def _classify(newest: pd.Timestamp, empty: int, not_found: int) -> Listing:
    ended = f"the last bar is of {newest:%Y-%m-%d}"
    if not_found >= DELISTED_AFTER:
        return Listing(
            "delisted", newest, f"the source did not know the symbol on {not_found} sessions; {ended}"
        )
    if empty >= SUSPENDED_AFTER:
        return Listing("suspended", newest, f"the source answered without a bar on {empty} sessions; {ended}")
    return Listing("trading", newest)
