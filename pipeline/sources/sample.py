"""The sample source: S&P 500 and NASDAQ Composite, 1999 to 2018, from the `arch` package; it needs no network."""

from datetime import datetime
from functools import cache

import pandas as pd
from arch.data import nasdaq, sp500

from pipeline.sources import BAR_COLUMNS, Fetched

__all__ = ["SampleSource"]

_LOADERS = {"^GSPC": sp500.load, "^IXIC": nasdaq.load}


class SampleSource:
    """Two indices over twenty years (5,031 sessions of XNYS), from the `arch` package."""

    name = "sample"
    historical = True
    is_local = True
    threads = 1

    def symbols(self) -> list[str]:
        """Return the two indices."""
        return sorted(_LOADERS)

    def fetch(self, symbol: str, start: pd.Timestamp, end: pd.Timestamp, now: datetime) -> Fetched:
        """Return the bars in [start, end]; a symbol other than the two is `not_found`."""
        if symbol not in _LOADERS:
            return Fetched(
                symbol, "not_found", now, reason=f"the sample has only {' and '.join(self.symbols())}"
            )
        bars = _bars(symbol)
        bars = bars[(bars["session"] >= start) & (bars["session"] <= end)].reset_index(drop=True)
        if bars.empty:
            return Fetched(symbol, "empty", now, reason="the sample ends on 2018-12-31")
        return Fetched(
            symbol, "ok", now, bars=bars, adjustment="raw", currency="USD", timezone="America/New_York"
        )


@cache
def _bars(symbol: str) -> pd.DataFrame:
    table = _LOADERS[symbol]().rename(columns=lambda name: str(name).lower().replace(" ", "_"))
    table["session"] = table.index.astype("datetime64[us]")
    table["dividend"], table["split"] = 0.0, 1.0
    bars: pd.DataFrame = table[BAR_COLUMNS].astype(dict.fromkeys(BAR_COLUMNS[1:], float))
    return bars.reset_index(drop=True)
