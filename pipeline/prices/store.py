"""The price store: append-only and bitemporal, so that every earlier view can be read again.

Each append has a rising `seq`. The current view has the row with the highest seq of each (instrument_id, session); the
view as known at seq k, or at an instant, ignores later rows. Nothing is overwritten.
"""

import functools
import operator
import random
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from numpy.typing import DTypeLike, NDArray

from pipeline.errors import StoreError
from pipeline.market.universe import CONTEXT
from pipeline.prices.bar_block import COLUMNS, Block, build_block
from pipeline.prices.changed_bars import VALUES, bar_ids, changed, chunks
from pipeline.prices.delta_table import Compaction, OvertakenError, StoreFiles
from pipeline.schema import PRICES, empty, validated
from pipeline.storage.files import hold_lock

__all__ = ["VALUES", "Compaction", "PriceStore"]

_KEY = ["instrument_id", "session"]
_LOCK_TIMEOUT = 600.0  # seconds to wait for another writer
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0  # seconds after another machine's commit, doubled each time


class PriceStore:
    """Bars as traded of one universe, in one folder or on an object store.

    Args:
        folder: The store's folder; nothing else lives in it. Of an object store: the folder of its copies.
        current: The current symbol of each renamed instrument_id, which the rows are read by and returned under; an
            instrument_id without an entry is its own symbol.
        url: The address on an object store; default: it lies in the folder.
    """

    def __init__(
        self, folder: Path, current: Mapping[str, str] = MappingProxyType({}), *, url: str = ""
    ) -> None:
        self.folder, self.url, self.place = folder, url, url or str(folder)
        self._files = StoreFiles(folder, url)
        self._current = current
        self.instruments = {symbol: instrument for instrument, symbol in current.items()}
        # Rows stored before the two symbols were joined in `formerly`: the symbol now belongs to another instrument_id.
        self._superseded = [symbol for symbol in self.instruments if symbol not in current]

    def append(self, *blocks: pd.DataFrame, run: str, selected_at: int | None = None, above: int = 0) -> int:
        """Append the new rows, all of them or none, and return their number.

        Args:
            blocks: Rows of schema.PRICES, no bar in two blocks; a row whose values all equal those of the stored bar is
                not new. Blocks of a large history are never joined, which would take twice their memory.
            run: The run that writes them, stored with the commit.
            selected_at: The seq at which `select_new` chose them: if it is still the newest, all of them are new.
            above: The highest seq that forecasts were made from: a store that was lost since never gives it again.

        Raises:
            NextdayError: a row violates the schema.
            StoreError: the store cannot be written.
        """
        valid, pause = [validated(prices, PRICES) for prices in blocks], _FIRST_PAUSE
        with self._lock():
            while True:
                version, newest = self._files.version(), self.seq()
                chosen = valid if newest == selected_at else [self.select_new(prices) for prices in valid]
                new = [prices.assign(seq=max(newest, above) + 1) for prices in chosen if len(prices)]
                try:
                    if new:
                        self._files.append(new, run, after=version)
                    else:
                        self._files.list_checksums()
                    return sum(map(len, new))
                except OvertakenError:  # by another machine: choose again, from what it has stored
                    time.sleep(pause * random.uniform(0.5, 1))
                    pause = min(2 * pause, _LONGEST_PAUSE)

    def compact(self, keep: timedelta) -> Compaction:
        """Merge small files, then remove the files that no version of the table younger than `keep` needs.

        No row and no seq is lost, and concurrent readers are not disturbed.

        Raises:
            StoreError: the store cannot be read or written.
        """
        with self._lock():
            return self._files.compact(keep)

    @contextmanager
    def locked_files(self) -> Iterator[list[Path]]:
        """Keep writers out inside the `with` block, and yield the files of the current version.

        Raises:
            StoreError: the store cannot be read.
        """
        with self._lock():
            files = self._files.active_files()
            with self._files.refreshed():
                yield files

    def count_files(self) -> int:
        """Return the number of data files of the current version.

        Raises:
            StoreError: the store cannot be read.
        """
        return self._files.count_files()

    def count_unchecked(self) -> int:
        """Return the number of data files that have no checksum yet: the next append takes it.

        Raises:
            StoreError: the store cannot be read.
        """
        return self._files.count_unchecked()

    def scan(self) -> None:
        """Read every row once, keeping none, to find missing or damaged files.

        Raises:
            StoreError: a file is missing or damaged.
        """
        self._files.scan()

    def select_new(self, prices: pd.DataFrame, stored: pd.DataFrame | None = None) -> pd.DataFrame:
        """Return the rows (schema.PRICES) whose bar is not stored, or stored with other values.

        Args:
            prices: The rows.
            stored: instrument_id, session and VALUES of all stored bars in the span of the rows; default: read.

        Raises:
            StoreError: the store cannot be read.
        """
        if stored is not None:
            return changed(prices, stored)
        return pd.concat([prices.head(0), *(changed(rows, self._stored(rows)) for rows in chunks(prices))])

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

        Without arguments: everything that is known now. The column `symbol` holds current symbols.

        Args:
            as_of: The last session.
            seq: The version of the store.
            known_at: The latest instant at which a returned row may have been observed.
            since: The first session.
            symbols: The symbols to read, None for all.
            columns: Columns of schema.PRICES; symbol, session and seq are always included.

        Raises:
            StoreError: the store cannot be read.
        """
        return self._rows(columns, self._select_symbols(symbols), _filter(as_of, seq, since, known_at))

    def read_block(
        self,
        sessions: pd.DatetimeIndex,
        symbols: Sequence[str],
        seq: int | None = None,
        *,
        known_at: datetime | None = None,
        dtype: DTypeLike = np.float64,
    ) -> Block:
        """Return the bars of these sessions and symbols, as known at `seq` and at `known_at`, as one dense block.

        Args:
            sessions: Calendar sessions, ascending, at least one.
            symbols: In the order of the block.
            seq: The version of the store.
            known_at: The latest instant at which a returned row may have been observed.
            dtype: The block's dtype, see `build_block`.

        Raises:
            StoreError: the store cannot be read.
        """
        wanted = _filter(sessions[-1], seq, sessions[0], known_at)
        rows = self._files.batches(["instrument_id", "session", *COLUMNS, "seq"], wanted)
        return build_block(rows, symbols, sessions, instruments=self.instruments, dtype=dtype)

    def read_batches(
        self, columns: Sequence[str], as_of: pd.Timestamp, seq: int, *, since: pd.Timestamp
    ) -> list[pa.RecordBatch]:
        """Return the rows from `since` to `as_of` as known at `seq`, superseded ones too: see bar_block.build_block.

        Raises:
            StoreError: the store cannot be read.
        """
        wanted = ["instrument_id", "session", *columns, "seq"]
        return list(self._files.batches(wanted, _filter(as_of, seq, since)))

    def latest(
        self,
        column: Literal["session", "observed_at"],
        as_of: pd.Timestamp,
        seq: int | None = None,
        *,
        symbols: Sequence[str],
    ) -> pd.Timestamp | None:
        """Return the maximum of a column over the bars of sessions up to `as_of`, None without a bar.

        Superseded rows count too, which changes nothing: the row that superseded them was observed no earlier.

        Raises:
            StoreError: the store cannot be read.
        """
        rows = self._files.rows([column], _all_of(self._select_symbols(symbols), _filter(as_of, seq)))
        highest = None if rows is None else pc.max(rows[column]).as_py()
        return None if highest is None else pd.Timestamp(highest)

    def versions(
        self, as_of: pd.Timestamp | None = None, *, symbols: Sequence[str] | None = None
    ) -> pd.DataFrame:
        """Return all rows of sessions up to `as_of`, superseded ones included, by symbol, session and seq.

        Raises:
            StoreError: the store cannot be read.
        """
        return self._rows(PRICES.columns, self._select_symbols(symbols), _filter(as_of), superseded=True)

    def seq(self) -> int:
        """Return the seq of the last append, 0 for an empty store."""
        return self._files.highest("seq") or 0

    def require_version(self, seq: int) -> None:
        """Check that the store reaches back to a version: one that was lost begins again with a higher one.

        Raises:
            StoreError: it does not, or cannot be read.
        """
        first = self._files.lowest("seq")
        if first is None or seq < first:
            raise StoreError(
                f"The prices of version {seq} are gone: this store begins with "
                + (f"version {first}" if first else "its next append"),
                where=self.place,
                fix="only a backup has them (nextday restore); without it their forecasts cannot be replayed",
            )

    def observed_at(self) -> pd.Timestamp | None:
        """Return the observation time of the newest row, None for an empty store."""
        rows = self._files.rows(["observed_at"], None)
        highest = None if rows is None else pc.max(rows["observed_at"]).as_py()
        return None if highest is None else pd.Timestamp(highest)

    def observed_by(self, before: pd.Timestamp | None = None) -> pd.Timestamp | None:
        """Return a time by which every bar was observed, from the files' statistics alone; None: they do not know.

        Args:
            before: Only the files with bars of sessions before this one; default: all files.

        Raises:
            StoreError: the store cannot be read.
        """
        files = self._files.bounds()
        if before is not None:
            files = files[~(files["first_session"] >= before)]
        if files.empty:
            return pd.Timestamp(0, tz="UTC")
        # The statistics keep milliseconds.
        return None if files["observed_at"].isna().any() else files["observed_at"].max() + pd.Timedelta("1ms")

    def newest_session(self) -> pd.Timestamp | None:
        """Return the newest session of the files' statistics, superseded rows too; None: none is known.

        Raises:
            StoreError: the store cannot be read.
        """
        newest = self._files.bounds()["last_session"].max()
        return None if pd.isna(newest) else newest

    def symbols(self) -> list[str]:
        """Return the current symbols that have a bar, sorted; of context series only those named in `current`."""
        names = [name for name in self._files.unique("instrument_id") if name not in self._superseded]
        known = [name for name in names if name in self._current or not name.startswith(CONTEXT)]
        return sorted(self._current_symbols(known))

    def sources(self) -> list[str]:
        """Return the names of the sources that bars came from, sorted."""
        return self._files.unique("source")

    def _lock(self) -> AbstractContextManager[None]:
        return hold_lock(self.folder.with_name(f".{self.folder.name}.lock"), _LOCK_TIMEOUT)

    def _current_symbols(self, instruments: Sequence[str]) -> list[str]:
        return [self._current.get(instrument, instrument) for instrument in instruments]

    def _stored(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the stored bars of the instruments of these rows, over the span of their sessions."""
        instruments = _is_any_of(rows["instrument_id"].unique().tolist())
        span = _filter(rows["session"].max(), since=rows["session"].min())
        return self._rows([*_KEY, *VALUES], instruments, span)

    def _rows(
        self, columns: Iterable[str], *wanted: ds.Expression | None, superseded: bool = False
    ) -> pd.DataFrame:
        """Return the columns with symbol, session and seq, sorted by these; the last row of each bar, or all rows."""
        names = [name for name in PRICES.columns if name in {*columns, "symbol", "session"}]
        stored = [name for name in names if name not in {"instrument_id", "symbol"}]
        table = self._files.rows(["instrument_id", *stored, "seq"], _all_of(*wanted))
        if table is None:
            return empty(PRICES).assign(seq=np.array([], dtype=np.int64))[[*names, "seq"]]
        rows: pd.DataFrame = table.to_pandas()
        code, instruments = pd.factorize(rows["instrument_id"])
        symbols = self._current_symbols(instruments.tolist())
        rows["symbol"] = pd.array(symbols, dtype="str").take(code)
        rank = np.argsort(sorted(range(len(symbols)), key=lambda n: (symbols[n], instruments[n])))
        order = _sort_order(rank[code], rows["session"], rows["seq"], superseded)
        return rows.take(order).reset_index(drop=True)[[*names, "seq"]]

    def _select_symbols(self, symbols: Sequence[str] | None) -> ds.Expression | None:
        if symbols is not None:
            return _is_any_of([self.instruments.get(symbol, symbol) for symbol in symbols])
        return ~_is_any_of(self._superseded) if self._superseded else None


def _is_any_of(instruments: Sequence[str]) -> ds.Expression:
    return pc.field("instrument_id").isin(pa.array(instruments, pa.string()))


def _all_of(*parts: ds.Expression | None) -> ds.Expression | None:
    given = [part for part in parts if part is not None]
    return functools.reduce(operator.and_, given) if given else None


def _filter(
    as_of: pd.Timestamp | None = None,
    seq: int | None = None,
    since: pd.Timestamp | None = None,
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
    return _all_of(*parts)


def _sort_order(
    instrument: NDArray[np.int64],
    session: "pd.Series[pd.Timestamp]",
    seq: "pd.Series[int]",
    superseded: bool,
) -> NDArray[np.int64]:
    """Return the row numbers sorted by instrument, session and seq; without `superseded` only the last of each bar."""
    bar = bar_ids(instrument, session)
    order = np.lexsort((seq.to_numpy(), bar))
    # One append never has two rows of one bar: the schema forbids it.
    return order if superseded else order[np.diff(bar[order], append=-1) != 0]
