"""What to ask the source for tonight, symbol by symbol: all that is needed, and no more."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import pandas as pd

from pipeline.market.calendar import Calendar
from pipeline.market.universe import MIN_COVERAGE
from pipeline.prices.ingest.fetch_log import FetchLog
from pipeline.prices.ingest.listing_status import Listing, find_listings, recent_bars
from pipeline.prices.store import PriceStore

__all__ = ["AUDIT_EVERY", "OVERLAP", "FetchRequest", "plan_requests"]

OVERLAP = 15
"""Sessions asked for again every evening: what a vendor revises, he revises soon."""

AUDIT_EVERY = 20
"""Sessions within which the whole history of each symbol is asked for once, in turn, and compared."""


@dataclass(frozen=True)
class FetchRequest:
    """One request for bars: the sessions from `start` on, or the whole history."""

    start: pd.Timestamp
    is_whole: bool


def plan_requests(
    store: PriceStore,
    log: FetchLog,
    calendar: Calendar,
    instruments: Mapping[str, str],
    symbols: Sequence[str],
    *,
    beginning: pd.Timestamp,
    last: pd.Timestamp,
    now: datetime,
) -> dict[str, FetchRequest]:
    """Return what to ask for; a symbol that is left out has all that there can be tonight.

    The whole history is asked for the first time, in quarantine, when `beginning` was moved earlier, and as an audit
    on every twentieth session; else the sessions from a little before the last settled bar, so that revisions are
    seen. Delisted symbols are asked for on their audits only, unless so many are that the source must be out of order.

    Args:
        store: What is there.
        log: What was answered.
        calendar: Decides what a session is.
        instruments: instrument_id by symbol.
        symbols: Of the universe.
        beginning: Where the history shall begin.
        last: The last session that has closed.
        now: The time it is (UTC): from when on a provisional bar is asked for again.
    """
    whole = FetchRequest(beginning, is_whole=True)
    bars, whole_from, holds = recent_bars(store, calendar, symbols, last), log.whole_from(), log.holds()
    newest = bars.groupby("symbol")["session"].max()
    settled = bars[bars["status"] == "settled"].groupby("symbol")["session"].max()
    due = _find_due(bars, calendar, now)
    gone = _find_gone(find_listings(bars, log, calendar, symbols, last))
    audited = log.last_whole()
    plan = {}
    for symbol in symbols:
        is_doubted = instruments.get(symbol, symbol) in holds or whole_from.get(symbol, beginning) > beginning
        if symbol not in settled or symbol not in whole_from or is_doubted:
            plan[symbol] = whole
            continue
        is_audit = _is_audit(symbol, calendar, audited[symbol], last)
        start = calendar.sessions[max(calendar.position(settled[symbol]) - OVERLAP, 0)]
        is_waiting = newest[symbol] < last or any(session > start for session in due.get(symbol, []))
        if is_audit and (is_waiting or symbol in gone):
            plan[symbol] = whole
        elif is_waiting and symbol not in gone:
            plan[symbol] = FetchRequest(start, is_whole=False)
    return plan


def _find_due(bars: pd.DataFrame, calendar: Calendar, now: datetime) -> dict[str, list[pd.Timestamp]]:
    """Return the provisional bars of each symbol that can have settled by now."""
    due: dict[str, list[pd.Timestamp]] = {}
    provisional = bars[bars["status"] == "provisional"]
    for symbol, session in zip(provisional["symbol"], provisional["session"], strict=True):
        if calendar.settled_at(session) <= now:
            due.setdefault(symbol, []).append(session)
    return due


def _find_gone(listings: Mapping[str, Listing]) -> set[str]:
    """Return who is delisted; nobody, where so many are that the source must be out of order."""
    gone = {symbol for symbol, listing in listings.items() if listing.state == "delisted"}
    return gone if len(listings) - len(gone) >= MIN_COVERAGE * len(listings) else set()


def _is_audit(symbol: str, calendar: Calendar, audited: pd.Timestamp, last: pd.Timestamp) -> bool:
    """Whether a symbol's turn has come since its last audit; turns are spread over the sessions by its name."""
    offset = zlib.crc32(symbol.encode()) % AUDIT_EVERY
    turns = [(int(calendar.sessions.searchsorted(day)) - offset) // AUDIT_EVERY for day in (audited, last)]
    return turns[1] > turns[0]
