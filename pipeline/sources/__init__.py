"""Price sources: the protocol `PriceSource` and its implementations."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

import pandas as pd

from pipeline.market.corporate_actions import Adjustment

__all__ = ["BAR_COLUMNS", "Fetched", "Outcome", "PriceSource", "no_bars"]

Outcome = Literal["ok", "empty", "not_found", "rate_limited", "transient", "bad_payload"]

BAR_COLUMNS = ["session", "open", "high", "low", "close", "volume", "dividend", "split", "adj_close"]


def no_bars() -> pd.DataFrame:
    """Return an empty frame of vendor bars."""
    return pd.DataFrame(
        {c: pd.Series(dtype="datetime64[us]" if c == "session" else float) for c in BAR_COLUMNS}
    )


@dataclass(frozen=True)
class Fetched:
    """The result of fetching one symbol.

    Attributes:
        symbol: The requested symbol.
        outcome: The outcome of the fetch; only `ok` comes with bars.
        bars: BAR_COLUMNS in the vendor's own units, one row per session (tz-naive exchange date), ascending;
            NaN where the vendor has no value; split = 1.0 and dividend = 0.0 where nothing took effect.
        adjustment: How the vendor's OHLC are adjusted.
        observed_at: When the source answered (UTC).
        reason: One sentence for the user where the outcome is not `ok`.
        currency, timezone: As stated by the vendor, "" if it does not state them.
        lists_actions: Whether the vendor lists splits and dividends, so that none listed means there was none.
        may_lack_range: Whether a bar without high or low is what there is; otherwise it is a fault, and is dropped.
        findings: What a built-in source itself found in the answer: session, rule and detail of each.
        notes: Sentences for the log: how the source was read, and what of it was not; equal ones are shown once.
    """

    symbol: str
    outcome: Outcome
    observed_at: datetime
    bars: pd.DataFrame = field(default_factory=no_bars)
    adjustment: Adjustment = "raw"
    reason: str = ""
    currency: str = ""
    timezone: str = ""
    lists_actions: bool = False
    may_lack_range: bool = False
    findings: tuple[tuple[pd.Timestamp, str, str], ...] = ()
    notes: tuple[str, ...] = ()


class PriceSource(Protocol):
    """A source of daily bars.

    `historical` is true where the data ended in the past: such a source is never stale, and its forecasts are never
    live. `is_local` is true where reading the whole history again costs nothing. `threads` is the number of symbols
    that may be fetched concurrently.
    """

    name: str
    historical: bool
    is_local: bool
    threads: int

    def symbols(self) -> list[str]:
        """Return the available symbols, sorted; empty if the source cannot list them."""
        ...

    def fetch(self, symbol: str, start: pd.Timestamp, end: pd.Timestamp, now: datetime) -> Fetched:
        """Return the bars of sessions in [start, end]; a failure of the vendor is an outcome, never an exception."""
        ...
