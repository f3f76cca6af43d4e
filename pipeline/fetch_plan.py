"""What to ask the source for tonight, symbol by symbol: all that is needed, and no more."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import pandas as pd

from pipeline.fetch_log import FetchLog
from pipeline.listing import find_listings, recent_bars
from pipeline.sessions import Calendar
from pipeline.store import PriceStore

__all__ = ["AUDIT_EVERY", "OVERLAP", "Asking", "plan_asking"]

OVERLAP = 15
"""Sessions asked for again every evening: what a vendor revises, he revises soon."""

AUDIT_EVERY = 20
"""Sessions within which the whole history of each symbol is asked for once, in turn, and compared."""


@dataclass(frozen=True)
class Asking:
    """One request for bars: the sessions from `start` on, or the whole history."""

    start: pd.Timestamp
    is_whole: bool


def plan_asking(
    store: PriceStore,
    log: FetchLog,
    calendar: Calendar,
    instruments: Mapping[str, str],
    symbols: Sequence[str],
    *,
    beginning: pd.Timestamp,
    last: pd.Timestamp,
    now: datetime,
) -> dict[str, Asking]:
    """Return what to ask for; a symbol that is left out has all that there can be tonight.

    The whole history is asked for the first time, in quarantine, when `beginning` was moved earlier, and as an audit
    on every twentieth session; else the sessions from a little before the last settled bar, so that revisions are
    seen. Delisted symbols are asked for on their audits only.

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
    whole = Asking(beginning, is_whole=True)
    bars, whole_from = recent_bars(store, calendar, symbols, last), log.whole_from()
    newest = bars.groupby("symbol")["session"].max()
    settled = bars[bars["status"] == "settled"].groupby("symbol")["session"].max()
    oldest_open = bars[bars["status"] == "provisional"].groupby("symbol")["session"].min()
    holds, listings = log.holds(), find_listings(bars, log, calendar, symbols, last)
    plan = {}
    for symbol in symbols:
        is_audit = _is_audit(symbol, calendar, last)
        is_doubted = instruments.get(symbol, symbol) in holds or whole_from.get(symbol, beginning) > beginning
        if symbol not in settled or symbol not in whole_from or is_doubted:
            plan[symbol] = whole
        elif listings[symbol].state == "delisted" and not is_audit:
            continue
        elif newest[symbol] < last or _is_due(oldest_open.get(symbol), calendar, now):
            place = max(calendar.position(settled[symbol]) - OVERLAP, 0)
            plan[symbol] = whole if is_audit else Asking(calendar.sessions[place], is_whole=False)
    return plan


def _is_due(provisional: pd.Timestamp | None, calendar: Calendar, now: datetime) -> bool:
    return provisional is not None and calendar.settled_at(provisional) <= now


def _is_audit(symbol: str, calendar: Calendar, session: pd.Timestamp) -> bool:
    return (zlib.crc32(symbol.encode()) - calendar.position(session)) % AUDIT_EVERY == 0
