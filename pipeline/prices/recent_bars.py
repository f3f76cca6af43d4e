"""The newest sessions of a price store, read once and shared by the steps of one run."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa

from pipeline.prices.bar_block import COLUMNS, Block, build_block
from pipeline.prices.store import PriceStore

__all__ = ["RecentBars"]

_STATED = ["session", "seq", "status", "observed_at"]


class RecentBars:
    """Answers `read`, `read_block` and `latest` as the store does; what lies outside of it is read from the store.

    Args:
        store: The store.
        since: The first session to read.
        last: The last session to read.
        seq: The version of the store.

    Attributes:
        since: The first session.

    Raises:
        StoreError: from every method too: the store cannot be read.
    """

    def __init__(self, store: PriceStore, since: pd.Timestamp, last: pd.Timestamp, seq: int) -> None:
        self.store, self.since, self._last, self._seq = store, since, last, seq
        self._batches = store.read_batches([*COLUMNS, "status", "observed_at"], last, seq, since=since)
        self._rows = _to_frame(self._batches)

    def read(
        self,
        as_of: pd.Timestamp,
        seq: int | None = None,
        *,
        since: pd.Timestamp | None = None,
        symbols: Sequence[str],
        columns: Sequence[str],
    ) -> pd.DataFrame:
        """Return symbol, session, seq and the asked columns; see PriceStore.read."""
        is_stated = set(columns) <= {"status"}
        if (
            since is None
            or not is_stated
            or not self._covers(since, as_of, self._seq if seq is None else seq)
        ):
            return self.store.read(as_of, seq, since=since, symbols=symbols, columns=columns)
        rows = self._of(symbols)
        rows = rows[(rows["session"] >= since) & (rows["session"] <= as_of)]
        rows = rows.sort_values(["symbol", "session", "seq"]).drop_duplicates(
            ["symbol", "session"], keep="last"
        )
        return rows[["symbol", "session", *columns, "seq"]].reset_index(drop=True)

    def read_block(self, sessions: pd.DatetimeIndex, symbols: Sequence[str], seq: int) -> Block:
        """Return the bars as one dense block; see PriceStore.read_block."""
        if not self._covers(sessions[0], sessions[-1], seq):
            return self.store.read_block(sessions, symbols, seq)
        return build_block(self._batches, symbols, sessions, instruments=self.store.instruments)

    def latest(
        self,
        column: Literal["session", "observed_at"],
        as_of: pd.Timestamp,
        seq: int | None = None,
        *,
        symbols: Sequence[str],
    ) -> pd.Timestamp | None:
        """Return the highest value of a column of all sessions up to `as_of`; see PriceStore.latest."""
        rows = self._of(symbols)
        highest = rows.loc[rows["session"] <= as_of, column].max()
        is_known = pd.notna(highest) and self._covers(as_of, as_of, self._seq if seq is None else seq)
        if is_known and column == "observed_at":
            # An older session's bar may have been observed later: the files' statistics exclude that, or it is read.
            older = self.store.observed_by(before=self.since)
            is_known = older is not None and highest >= older
        return highest if is_known else self.store.latest(column, as_of, seq, symbols=symbols)

    def first_seen(self, symbols: Sequence[str]) -> pd.DataFrame:
        """Return symbol, session and seq of these symbols' bars from `since` on: the version that each came with.

        A later revision of a bar has a higher one.
        """
        found: pd.DataFrame = self._of(symbols).groupby(["symbol", "session"])["seq"].min().reset_index()
        return found

    def _covers(self, first: pd.Timestamp, last: pd.Timestamp, seq: int) -> bool:
        return seq == self._seq and first >= self.since and last <= self._last

    def _of(self, symbols: Sequence[str]) -> pd.DataFrame:
        """Return the rows of these symbols, superseded ones too, with `symbol`."""
        names = {self.store.instruments.get(symbol, symbol): symbol for symbol in symbols}
        symbol = self._rows["instrument_id"].map(names)
        return self._rows.assign(symbol=symbol.astype("str"))[symbol.notna()]


def _to_frame(batches: Sequence[pa.RecordBatch]) -> pd.DataFrame:
    """Return instrument_id, session, seq, status and observed_at of the rows."""
    if not batches:
        kinds = {"instrument_id": "str", "session": "datetime64[us]", "seq": "int64", "status": "str"}
        observed = pd.Series([], dtype="datetime64[us, UTC]")
        return pd.DataFrame({name: pd.Series([], dtype=kind) for name, kind in kinds.items()}).assign(
            observed_at=observed
        )
    table = pa.Table.from_batches(batches)
    rows: pd.DataFrame = table.select(_STATED).to_pandas()
    parts = [
        batch.column("instrument_id").dictionary_decode().to_numpy(zero_copy_only=False) for batch in batches
    ]
    return rows.assign(instrument_id=np.concatenate(parts))
