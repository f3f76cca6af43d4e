"""The sample source: S&P 500 and NASDAQ Composite, 1999 to 2018, from the `arch` package; it needs no network."""

from datetime import datetime
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pandas as pd

from pipeline.sources import BAR_COLUMNS, Fetched

__all__ = ["SampleSource"]

_TABLES = {"^GSPC": "sp500", "^IXIC": "nasdaq"}
"""The tables of `arch.data`, by symbol."""


class SampleSource:
    """Two indices over twenty years (5,031 sessions of XNYS), from the `arch` package."""

    name = "sample"
    historical = True
    is_local = True
    threads = 1

    def symbols(self) -> list[str]:
        """Return the two indices."""
        return sorted(_TABLES)

    def fetch(self, symbol: str, start: pd.Timestamp, end: pd.Timestamp, now: datetime) -> Fetched:
        """Return the bars in [start, end]; a symbol other than the two is `not_found`."""
        if symbol not in _TABLES:
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
    found = find_spec("arch")  # found, not imported: that takes seconds
    assert found is not None
    assert found.origin is not None
    name = _TABLES[symbol]
    table = pd.read_csv(Path(found.origin).parent / "data" / name / f"{name}.csv.gz", parse_dates=["Date"])
    table = table.rename(columns=lambda column: str(column).lower().replace(" ", "_"))
    table["session"] = table["date"].astype("datetime64[us]")
    table["dividend"], table["split"] = 0.0, 1.0
    bars: pd.DataFrame = table[BAR_COLUMNS].astype(dict.fromkeys(BAR_COLUMNS[1:], float))
    return bars.reset_index(drop=True)
