"""What has become of a listing: trading, suspended, delisted; states are read off the record, never stored."""

from dataclasses import dataclass
from typing import Literal

import pandas as pd

from pipeline.fetch_log import FetchLog
from pipeline.sessions import Calendar
from pipeline.store import PriceStore

__all__ = ["DELISTED_AFTER", "SUSPENDED_AFTER", "Listing", "find_listings", "recent_bars"]

DELISTED_AFTER = 5
"""Sessions in a row on which the source must not know a symbol: one evening's 404 is as likely an outage."""

SUSPENDED_AFTER = 10
"""Sessions in a row without a bar, while the source knows the symbol."""

_RECENT = (
    60  # sessions that tell the state of nearly every symbol: the whole of a large store need not be read
)


@dataclass(frozen=True)
class Listing:
    """A symbol's state.

    Attributes:
        state: `unknown` where the source never gave a bar.
        last: The last session with a bar, None without one.
        evidence: One sentence; empty where the listing trades.
    """

    state: Literal["trading", "suspended", "delisted", "unknown"]
    last: pd.Timestamp | None
    evidence: str = ""


def find_listings(
    store: PriceStore, log: FetchLog, calendar: Calendar, symbols: list[str], last: pd.Timestamp
) -> dict[str, Listing]:
    """Return the state of each symbol at the close of session `last`.

    Raises:
        StoreError: the store or the log cannot be read.
    """
    bars = recent_bars(store, calendar, symbols, last).groupby("symbol")["session"].max()
    unknown = log.times_unknown()
    return {symbol: _state(bars.get(symbol), unknown.get(symbol, 0), calendar, last) for symbol in symbols}


def recent_bars(
    store: PriceStore, calendar: Calendar, symbols: list[str], last: pd.Timestamp
) -> pd.DataFrame:
    """Return symbol, session and status of the bars of the last months; of symbols without such a bar, of all theirs.

    Raises:
        StoreError: the store cannot be read.
    """
    since = calendar.sessions[max(calendar.position(last) - _RECENT, 0)]
    recent = store.read(last, since=since, symbols=symbols, columns=["status"])
    others = sorted(set(symbols) - set(recent["symbol"]))
    older = store.read(last, symbols=others, columns=["status"]) if others else recent.head(0)
    bars = pd.concat([recent, older], ignore_index=True)
    return bars[bars["session"].isin(calendar.sessions)]  # a closure may have been written down since


def _state(newest: pd.Timestamp | None, unknown: int, calendar: Calendar, last: pd.Timestamp) -> Listing:
    if newest is None:
        return Listing("unknown", None, "the source never gave a bar")
    absent = len(calendar.sessions_between(newest, last)) - 1
    ended = f"the last bar is of {newest:%Y-%m-%d}"
    if unknown >= DELISTED_AFTER and absent >= DELISTED_AFTER:
        return Listing("delisted", newest, f"the source knew no such symbol on {unknown} sessions; {ended}")
    if absent >= SUSPENDED_AFTER:
        return Listing("suspended", newest, f"no bar on {absent} sessions; {ended}")
    return Listing("trading", newest)
