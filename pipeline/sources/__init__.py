"""Where bars come from: one protocol, and the sources that speak it."""

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
    """One symbol's answer.

    Attributes:
        symbol: The symbol asked for.
        outcome: What the source said; only `ok` carries bars.
        bars: BAR_COLUMNS in the vendor's own units, one row a session (tz-naive exchange date), ascending;
            NaN where the vendor has none; split = 1.0 and dividend = 0.0 where nothing took effect.
        adjustment: How the vendor's OHLC are adjusted.
        observed_at: When the source answered (UTC).
        reason: One sentence for people where outcome is not `ok`.
        currency, timezone: As the vendor states them, "" where it does not.
        lists_actions: Whether the vendor lists splits and dividends: then none in the bars means none.
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


class PriceSource(Protocol):
    """A place to have bars from.

    `historical` is true where the data ended in the past: such a source can never be stale, and its forecasts
    are never live. `is_local` is true where reading the whole history again costs nothing. `threads` is how many
    symbols may be asked for at once.
    """

    name: str
    historical: bool
    is_local: bool
    threads: int

    def symbols(self) -> list[str]:
        """Return the symbols that the source has, sorted; empty if it cannot list them."""
        ...

    def fetch(self, symbol: str, start: pd.Timestamp, end: pd.Timestamp, now: datetime) -> Fetched:
        """Return the bars of sessions in [start, end]; never raises for what the vendor did wrong."""
        ...
