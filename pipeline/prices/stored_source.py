"""The bars that a workspace has stored, as a source: a simulation asks no vendor about the past."""

from datetime import datetime
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.prices.store import PriceStore
from pipeline.sources import BAR_COLUMNS, Fetched

__all__ = ["StoredSource"]


class StoredSource:
    """The stored bars of a universe, each as it was known at the clock.

    A bar that was first observed after the clock, as everything before the first fetch, is given as it was first
    observed: what a vendor revised before that is not known.

    Args:
        store: Where they are stored; it is only read.
    """

    name = "stored"
    historical = False
    is_local = False
    threads = 1

    def __init__(self, store: PriceStore) -> None:
        self._store = store

    def symbols(self) -> list[str]:
        """Return the stored symbols."""
        return self._store.symbols()

    def fetch(self, symbol: str, start: pd.Timestamp, end: pd.Timestamp, now: datetime) -> Fetched:
        """Return the bars of sessions in [start, end] as they were known at `now`.

        Raises:
            StoreError: the store cannot be read.
        """
        known = _read(
            self._store.folder, self._store.url, self._store.seq(), tuple(self._store.instruments.items())
        )
        rows = known.get(symbol)
        if rows is None:
            return Fetched(symbol, "not_found", now, reason="no bar of it is stored")
        rows = rows[(rows["session"] >= start) & (rows["session"] <= end)]
        rows = rows[(rows["observed_at"] <= pd.Timestamp(now)) | ~rows["session"].duplicated()]
        rows = rows.drop_duplicates("session", keep="last")
        if rows.empty:
            return Fetched(
                symbol, "empty", now, reason=f"no bar from {start:%Y-%m-%d} to {end:%Y-%m-%d} is stored"
            )
        last = rows.iloc[-1]
        return Fetched(
            symbol,
            "ok",
            now,
            bars=rows.assign(adj_close=np.nan)[BAR_COLUMNS].reset_index(drop=True),
            adjustment="split+dividend" if last["adjustment"] == "split+dividend" else "raw",
            currency="" if pd.isna(last["currency"]) else str(last["currency"]),
            lists_actions=True,
            may_lack_range=True,
        )


@lru_cache(maxsize=1)
def _read(
    folder: Path, url: str, seq: int, instruments: tuple[tuple[str, str], ...]
) -> dict[str, pd.DataFrame]:
    """Return every version of every bar by symbol, session and version; read once for all evenings of a process."""
    store = PriceStore(folder, {instrument: symbol for symbol, instrument in instruments}, url=url)
    rows = store.versions()[
        ["symbol", "session", *BAR_COLUMNS[1:-1], "adjustment", "currency", "observed_at", "seq"]
    ]
    rows = rows[rows["seq"] <= seq]
    return {
        str(symbol): each.reset_index(drop=True) for symbol, each in rows.groupby("symbol", observed=True)
    }
