"""The fetch plan: the minimal request for each symbol in this run."""

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
"""Sessions before the last settled bar that are requested again each time: most revisions come soon."""

AUDIT_EVERY = 20
"""Sessions within which the whole history of each symbol is requested and compared once; symbols take turns."""


@dataclass(frozen=True)
class FetchRequest:
    """A request for one symbol's bars from `start` on; `is_whole` where that is the whole history."""

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
    """Return the request for each symbol; a symbol without one has every bar that can exist by now.

    The whole history is requested the first time, in quarantine, after `beginning` was moved earlier, and as an audit
    on every twentieth session. Otherwise the request starts `OVERLAP` sessions before the last settled bar, so that
    revisions are seen. Delisted symbols are requested on their audits only, unless so many are delisted that the source
    must be failing.

    Args:
        store: The stored bars.
        log: The earlier answers and the quarantine.
        calendar: The exchange's sessions.
        instruments: instrument_id by symbol.
        symbols: The symbols of the universe.
        beginning: The first session of the history.
        last: The last closed session.
        now: The current time (UTC): decides which provisional bars can have settled.
    """
    whole = FetchRequest(beginning, is_whole=True)
    bars, whole_from = recent_bars(store, calendar, symbols, last), log.whole_from()
    quarantined = log.quarantined()
    newest = bars.groupby("symbol")["session"].max()
    settled = bars[bars["status"] == "settled"].groupby("symbol")["session"].max()
    due = _find_due(bars, calendar, now)
    delisted = _find_delisted(find_listings(bars, log, calendar, symbols, last))
    audited = log.last_whole_answer()
    plan = {}
    for symbol in symbols:
        is_quarantined = instruments.get(symbol, symbol) in quarantined
        starts_late = whole_from.get(symbol, beginning) > beginning
        if symbol not in settled or symbol not in whole_from or is_quarantined or starts_late:
            plan[symbol] = whole
            continue
        is_audit = _is_audit(symbol, calendar, audited[symbol], last)
        start = calendar.sessions[max(calendar.position(settled[symbol]) - OVERLAP, 0)]
        is_incomplete = newest[symbol] < last or any(session > start for session in due.get(symbol, []))
        if is_audit and (is_incomplete or symbol in delisted):
            plan[symbol] = whole
        elif is_incomplete and symbol not in delisted:
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


def _find_delisted(listings: Mapping[str, Listing]) -> set[str]:
    """Return the delisted symbols; none where there are so many that the source must be failing."""
    delisted = {symbol for symbol, listing in listings.items() if listing.state == "delisted"}
    return delisted if len(listings) - len(delisted) >= MIN_COVERAGE * len(listings) else set()


def _is_audit(symbol: str, calendar: Calendar, audited: pd.Timestamp, last: pd.Timestamp) -> bool:
    """Whether a symbol's turn has come since its last audit; a hash of the symbol spreads turns over the sessions."""
    offset = zlib.crc32(symbol.encode()) % AUDIT_EVERY
    turns = [(int(calendar.sessions.searchsorted(day)) - offset) // AUDIT_EVERY for day in (audited, last)]
    return turns[1] > turns[0]
