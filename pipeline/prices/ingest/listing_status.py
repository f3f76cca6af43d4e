"""What has become of a listing: trading, suspended, delisted; states are read off the record, never stored."""

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
"""Sessions in a row on which the source must not know a symbol: one evening's 404 is as likely an outage."""

SUSPENDED_AFTER = 10
"""Sessions without a bar on which the source answered all the same: an outage is no suspension."""

RECENT = 60
"""Sessions that decide the state of nearly every symbol: the whole of a large store need not be read."""


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
    bars: pd.DataFrame, log: FetchLog, calendar: Calendar, symbols: Sequence[str], last: pd.Timestamp
) -> dict[str, Listing]:
    """Return the state of each symbol at the close of session `last`.

    Args:
        bars: Theirs (`recent_bars`).
        log: What was answered; a source whose answers are not kept has answered every time.
        calendar: Decides what a session is.
        symbols: Whose states.
        last: The last session that has closed.

    Raises:
        StoreError: the log cannot be read.
    """
    newest, unknown = bars.groupby("symbol")["session"].max(), log.times_unknown()
    heard = log.heard_since(calendar.sessions[max(calendar.position(last) - RECENT, 0)])
    listings = {}
    for symbol in symbols:
        end = newest.get(symbol)
        if end is None:
            listings[symbol] = Listing("unknown", None, "the source never gave a bar")
            continue
        absent = calendar.sessions_between(end, last)[1:]
        silent = len(absent) if heard is None else int(absent.isin(heard.get(symbol, [])).sum())
        listings[symbol] = _state(end, silent, min(unknown.get(symbol, 0), len(absent)))
    return listings


def recent_bars(
    store: PriceStore | RecentBars, calendar: Calendar, symbols: Sequence[str], last: pd.Timestamp
) -> pd.DataFrame:
    """Return symbol, session and status of the bars of the last months; of symbols without such a bar, of all theirs.

    Raises:
        StoreError: the store cannot be read.
    """
    since = calendar.sessions[max(calendar.position(last) - RECENT, 0)]
    recent = store.read(last, since=since, symbols=symbols, columns=["status"])
    others = sorted(set(symbols) - set(recent["symbol"]))
    older = store.read(last, symbols=others, columns=["status"]) if others else recent.head(0)
    bars = pd.concat([recent, older], ignore_index=True)
    return bars[bars["session"].isin(calendar.sessions)]  # a closure may have been written down since


def _state(newest: pd.Timestamp, silent: int, unknown: int) -> Listing:
    ended = f"the last bar is of {newest:%Y-%m-%d}"
    if unknown >= DELISTED_AFTER:
        return Listing("delisted", newest, f"the source knew no such symbol on {unknown} sessions; {ended}")
    if silent >= SUSPENDED_AFTER:
        return Listing(
            "suspended", newest, f"the source answered on {silent} sessions without a bar; {ended}"
        )
    return Listing("trading", newest)
