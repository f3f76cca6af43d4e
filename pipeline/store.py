"""The price store: append-only and bitemporal, on Delta Lake; what was once read can be read again.

Every append has a rising `seq`; the current view is the highest seq of each (symbol, session), and the view as
known at seq k, or at an instant, leaves later rows out. Nothing is overwritten. Only this module touches deltalake.
"""

import functools
import operator
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs as pa_fs
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError

from pipeline.errors import StoreError
from pipeline.schema import PRICES, empty, validated
from pipeline.workspace import hold

__all__ = ["VALUES", "PriceStore"]

VALUES = [
    "open",
    "high",
    "low",
    "close",
    "volume",
    "dividend",
    "split",
    "adjustment",
    "currency",
    "status",
    "source",
]
"""What a bar says: a row that differs in one of these from the one that stands is a new version."""

_KEY = ["symbol", "session"]
_PATIENCE = 600.0  # seconds for another writer to end
_BLOCK = 125  # symbols compared at a time: the whole of a large universe would be in memory three times


class PriceStore:
    """Bars as traded of one universe, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def append(self, prices: pd.DataFrame, *, run: str) -> int:
        """Append the rows that say something new, and return how many those were.

        Args:
            prices: Rows under schema.PRICES; a row equal in every value to the one that stands is not new.
            run: What wrote them, kept with the commit.

        Raises:
            NextdayError: a row breaks the schema.
            StoreError: the store cannot be written.
        """
        prices = validated(prices, PRICES)
        with hold(self.folder.with_name(f".{self.folder.name}.lock"), _PATIENCE):
            new = self.select_new(prices)
            if not new.empty:
                self._write(new.assign(seq=self.seq() + 1), run)
        return len(new)

    def select_new(self, prices: pd.DataFrame) -> pd.DataFrame:
        """Return the rows (schema.PRICES) that say something else than the one that stands, or stand alone.

        Raises:
            StoreError: the store cannot be read.
        """
        return pd.concat([prices.head(0), *(_changed(rows, self._beside(rows)) for rows in _blocks(prices))])

    def read(
        self,
        as_of: pd.Timestamp | None = None,
        seq: int | None = None,
        *,
        known_at: datetime | None = None,
        since: pd.Timestamp | None = None,
        symbols: Sequence[str] | None = None,
        columns: Sequence[str] = tuple(PRICES.columns),
    ) -> pd.DataFrame:
        """Return the bars of sessions up to `as_of`, as known at `seq` and at `known_at`, by symbol and session.

        Without arguments: everything that is known now.

        Args:
            as_of: The last session.
            seq: The version of the store.
            known_at: The last instant at which a row may have been observed.
            since: The first session.
            symbols: Of these only.
            columns: Of schema.PRICES; symbol, session and seq always come along.

        Raises:
            StoreError: the store cannot be read.
        """
        asked = [name for name in PRICES.columns if name in {*columns, *_KEY}]
        rows = self._rows([*asked, "seq"], _filter(as_of, seq, since, symbols, known_at))
        return _standing(rows)

    def latest(
        self,
        column: Literal["session", "observed_at"],
        as_of: pd.Timestamp,
        seq: int | None = None,
        *,
        symbols: Sequence[str],
    ) -> pd.Timestamp | None:
        """Return the highest value of a column among the bars of sessions up to `as_of`, None without a bar.

        Superseded rows count too: what stands was observed no earlier than they.

        Raises:
            StoreError: the store cannot be read.
        """
        highest = self._rows([column], _filter(as_of, seq, None, symbols))[column].max()
        return None if pd.isna(highest) else highest

    def versions(
        self, as_of: pd.Timestamp | None = None, *, symbols: Sequence[str] | None = None
    ) -> pd.DataFrame:
        """Return every row of sessions up to `as_of`, superseded ones too, by symbol, session and seq.

        Raises:
            StoreError: the store cannot be read.
        """
        rows = self._rows([*PRICES.columns, "seq"], _filter(as_of, None, None, symbols))
        return rows.sort_values([*_KEY, "seq"], ignore_index=True)

    def seq(self) -> int:
        """Return the seq of the last append, 0 for an empty store."""
        return int(pc.max(self._column("seq")).as_py() or 0)

    def symbols(self) -> list[str]:
        """Return the symbols that have a bar, sorted."""
        return sorted(self._column("symbol").unique().to_pylist())

    def sources(self) -> list[str]:
        """Return the names of the sources that bars came from, sorted."""
        return sorted(self._column("source").unique().to_pylist())

    def _column(self, name: str) -> pa.ChunkedArray:
        table = self._table()
        if table is None:
            return pa.chunked_array([[]], pa.null())
        try:
            return _dataset(table, self.folder).to_table(columns=[name])[name]
        except (DeltaError, OSError, pa.ArrowException) as error:
            raise _unreadable(error, self.folder) from None

    def _table(self) -> DeltaTable | None:
        try:
            return DeltaTable(str(self.folder)) if DeltaTable.is_deltatable(str(self.folder)) else None
        except (DeltaError, OSError) as error:
            raise _unreadable(error, self.folder) from None

    def _beside(self, rows: pd.DataFrame) -> pd.DataFrame:
        symbols = rows["symbol"].unique().tolist()
        return self.read(rows["session"].max(), since=rows["session"].min(), symbols=symbols, columns=VALUES)

    def _rows(self, columns: list[str], wanted: ds.Expression | None) -> pd.DataFrame:
        table = self._table()
        if table is None:
            return empty(PRICES).assign(seq=np.array([], dtype=np.int64))[columns]
        try:
            rows: pd.DataFrame = (
                _dataset(table, self.folder).to_table(columns=columns, filter=wanted).to_pandas()
            )
            return rows
        except (DeltaError, OSError, pa.ArrowException) as error:
            raise _unreadable(error, self.folder) from None

    def _write(self, rows: pd.DataFrame, run: str) -> None:
        rows = rows.assign(year=rows["session"].dt.year.astype("int32"))
        try:
            write_deltalake(
                str(self.folder),
                pa.Table.from_pandas(rows, preserve_index=False),
                mode="append",
                partition_by=["year"],
                commit_properties=CommitProperties(custom_metadata={"run": run}),
            )
        except (DeltaError, OSError) as error:
            raise StoreError(
                f"The price store cannot be written: {error!s:.200}",
                where=str(self.folder),
                way_out="nothing was appended; see to disk space and permissions, then run again",
            ) from None


def _dataset(table: DeltaTable, folder: Path) -> ds.Dataset:
    # deltalake's own file system is Python, and Arrow's threads still hold its files when the interpreter ends:
    # now and then the process died of that, after it had done everything. Arrow's own needs no interpreter.
    files = pa_fs.SubTreeFileSystem(str(folder.absolute()), pa_fs.LocalFileSystem())
    return table.to_pyarrow_dataset(filesystem=files)


def _unreadable(error: Exception, folder: Path) -> StoreError:
    reason = str(error).split("\n")[0]
    return StoreError(
        f"The price store cannot be read: {reason:.200}",
        where=str(folder),
        way_out="put the folder back from a backup; without one move it away: the next run fetches the history again, "
        "and what is sealed can no longer be replayed",
    )


def _filter(
    as_of: pd.Timestamp | None,
    seq: int | None,
    since: pd.Timestamp | None,
    symbols: Sequence[str] | None,
    known_at: datetime | None = None,
) -> ds.Expression | None:
    session, year = pc.field("session"), pc.field("year")
    parts = []
    if as_of is not None:
        parts += [session <= pa.scalar(as_of), year <= as_of.year]
    if since is not None:
        parts += [session >= pa.scalar(since), year >= since.year]
    if seq is not None:
        parts.append(pc.field("seq") <= seq)
    if known_at is not None:
        parts.append(pc.field("observed_at") <= pa.scalar(known_at, pa.timestamp("us", "UTC")))
    if symbols is not None:
        parts.append(pc.field("symbol").isin(pa.array(symbols, pa.string())))
    return functools.reduce(operator.and_, parts) if parts else None


def _standing(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the row with the highest seq of each key, by symbol and session."""
    symbol, _ = pd.factorize(rows["symbol"], sort=True)
    session = rows["session"].to_numpy()
    order = np.lexsort((rows["seq"].to_numpy(), session, symbol))
    symbol, session = symbol[order], session[order]
    # Two closes of one session in one append cannot be: the schema forbids it.
    is_last = np.ones(len(rows), dtype=bool)
    is_last[:-1] = (symbol[1:] != symbol[:-1]) | (session[1:] != session[:-1])
    return rows.take(order[is_last]).reset_index(drop=True)


def _blocks(prices: pd.DataFrame) -> Iterator[pd.DataFrame]:
    symbols = prices["symbol"].unique()
    for first in range(0, len(symbols), _BLOCK):
        yield prices[prices["symbol"].isin(symbols[first : first + _BLOCK])]


def _changed(prices: pd.DataFrame, standing: pd.DataFrame) -> pd.DataFrame:
    if standing.empty:
        return prices
    both = prices[_KEY].merge(standing, on=_KEY, how="left", validate="one_to_one")
    same = np.ones(len(prices), dtype=bool)
    for name in VALUES:
        old, new = both[name], prices[name].reset_index(drop=True)
        same &= ((old == new) | (old.isna() & new.isna())).to_numpy()
    return prices[~same]
