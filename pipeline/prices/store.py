"""The price store: append-only and bitemporal; what was once read can be read again.

Every append has a rising `seq`; the current view is the highest seq of each (instrument_id, session), and the view as
known at seq k, or at an instant, leaves later rows out. Nothing is overwritten.
"""

import functools
import operator
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

from pipeline.prices.bar_block import COLUMNS, Block, lay_out
from pipeline.prices.delta_table import Compaction, StoreFiles
from pipeline.schema import PRICES, empty, validated
from pipeline.storage.files import hold_lock

__all__ = ["VALUES", "Compaction", "PriceStore"]

VALUES = [*COLUMNS, "currency", "status", "source"]
"""What a bar says: a row that differs in one of these from the one that stands is a new version."""

_KEY = ["instrument_id", "session"]
_SAME = dict.fromkeys(COLUMNS, 1e-06) | {"volume": 1e-4}
"""Numbers that differ by a smaller share are the same: vendors compute in single precision, and round volumes to whole
shares after they adjusted them for splits."""
_FAR = 1 << 32  # days: no session lies so far from another
_PATIENCE = 600.0  # seconds for another writer to end
_ROWS = 500_000  # compared at a time, about: a long history of many would be in memory three times


class PriceStore:
    """Bars as traded of one universe, in one folder.

    Args:
        folder: Of this store alone.
        current: The symbol that the rows of an instrument_id are shown under and asked for by; without an entry it is
            the instrument_id itself.
    """

    def __init__(self, folder: Path, current: Mapping[str, str] = MappingProxyType({})) -> None:
        self.folder = folder
        self._files = StoreFiles(folder)
        self._current = current
        self.instruments = {symbol: instrument for instrument, symbol in current.items()}
        # Rows of a time when nobody had joined the two symbols: what bears the symbol now is another instrument.
        self._superseded = [symbol for symbol in self.instruments if symbol not in current]

    def append(self, prices: pd.DataFrame, *, run: str, selected_at: int | None = None) -> int:
        """Append the rows that say something new, and return how many those were.

        Args:
            prices: Rows under schema.PRICES; a row equal in every value to the one that stands is not new.
            run: What wrote them, kept with the commit.
            selected_at: The seq that `select_new` chose them at: without an append since, all of them are new.

        Raises:
            NextdayError: a row breaks the schema.
            StoreError: the store cannot be written.
        """
        prices = validated(prices, PRICES)
        with self._held():
            new = prices if self.seq() == selected_at else self.select_new(prices)
            if not new.empty:
                self._files.append(new.assign(seq=self.seq() + 1), run)
        return len(new)

    def compact(self, keep: timedelta) -> Compaction:
        """Join small files, then remove those that no version of the folder younger than `keep` needs.

        No row and no seq is ever lost, and who reads meanwhile reads on.

        Raises:
            StoreError: the store cannot be read or written.
        """
        with self._held():
            return self._files.compact(keep)

    @contextmanager
    def at_rest(self) -> Iterator[list[Path]]:
        """Keep writers out for the block, and give the files that the store is read from now.

        Raises:
            StoreError: the store cannot be read.
        """
        with self._held():
            yield self._files.needed()

    def files(self) -> int:
        """Return how many files a read of everything opens.

        Raises:
            StoreError: the store cannot be read.
        """
        return self._files.count()

    def scan(self) -> None:
        """Read every row once, without keeping any: whatever is missing or damaged is found.

        Raises:
            StoreError: something is.
        """
        self._files.scan()

    def select_new(self, prices: pd.DataFrame, stored: pd.DataFrame | None = None) -> pd.DataFrame:
        """Return the rows (schema.PRICES) that say something else than the one that stands, or stand alone.

        Args:
            prices: The rows.
            stored: instrument_id, session and VALUES of all bars that stand where the rows might go; default: read.

        Raises:
            StoreError: the store cannot be read.
        """
        if stored is not None:
            return _changed(prices, stored)
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

        Without arguments: everything that is known now. The column `symbol` is the current one.

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
        return self._rows(columns, self._of(symbols), _filter(as_of, seq, since, known_at))

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
            known_at: The last instant at which a row may have been observed.
            dtype: Of the block, see `lay_out`.

        Raises:
            StoreError: the store cannot be read.
        """
        wanted = _filter(sessions[-1], seq, sessions[0], known_at)
        rows = self._files.batches(["instrument_id", "session", *COLUMNS, "seq"], wanted)
        return lay_out(rows, symbols, sessions, instruments=self.instruments, dtype=dtype)

    def read_batches(
        self, columns: Sequence[str], as_of: pd.Timestamp, seq: int, *, since: pd.Timestamp
    ) -> list[pa.RecordBatch]:
        """Return the rows from `since` to `as_of` as known at `seq`, superseded ones too: see bar_block.lay_out.

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
        """Return the highest value of a column among the bars of sessions up to `as_of`, None without a bar.

        Superseded rows count too: what stands was observed no earlier than they.

        Raises:
            StoreError: the store cannot be read.
        """
        rows = self._files.rows([column], _both(self._of(symbols), _filter(as_of, seq)))
        highest = None if rows is None else pc.max(rows[column]).as_py()
        return None if highest is None else pd.Timestamp(highest)

    def versions(
        self, as_of: pd.Timestamp | None = None, *, symbols: Sequence[str] | None = None
    ) -> pd.DataFrame:
        """Return every row of sessions up to `as_of`, superseded ones too, by symbol, session and seq.

        Raises:
            StoreError: the store cannot be read.
        """
        return self._rows(PRICES.columns, self._of(symbols), _filter(as_of), superseded=True)

    def seq(self) -> int:
        """Return the seq of the last append, 0 for an empty store."""
        return self._files.highest("seq") or 0

    def observed_at(self) -> pd.Timestamp | None:
        """Return when the newest row was observed, None for an empty store."""
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
        """Return the symbols that have a bar, sorted."""
        stored = self._files.unique("instrument_id")
        return sorted(self._shown([name for name in stored if name not in self._superseded]))

    def sources(self) -> list[str]:
        """Return the names of the sources that bars came from, sorted."""
        return self._files.unique("source")

    def _held(self) -> AbstractContextManager[None]:
        return hold_lock(self.folder.with_name(f".{self.folder.name}.lock"), _PATIENCE)

    def _shown(self, instruments: Sequence[str]) -> list[str]:
        return [self._current.get(instrument, instrument) for instrument in instruments]

    def _beside(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the bars that stand where these rows might go."""
        wanted = _is_any_of(rows["instrument_id"].unique().tolist())
        spanned = _filter(rows["session"].max(), since=rows["session"].min())
        return self._rows([*_KEY, *VALUES], wanted, spanned)

    def _rows(
        self, columns: Iterable[str], *wanted: ds.Expression | None, superseded: bool = False
    ) -> pd.DataFrame:
        """Return the columns, symbol, session and seq, by symbol, session and seq; of each bar the last row, or all."""
        asked = [name for name in PRICES.columns if name in {*columns, "symbol", "session"}]
        stored = [name for name in asked if name not in {"instrument_id", "symbol"}]
        table = self._files.rows(["instrument_id", *stored, "seq"], _both(*wanted))
        if table is None:
            return empty(PRICES).assign(seq=np.array([], dtype=np.int64))[[*asked, "seq"]]
        rows: pd.DataFrame = table.to_pandas()
        code, instruments = pd.factorize(rows["instrument_id"])
        shown = self._shown(instruments.tolist())
        rows["symbol"] = pd.array(shown, dtype="str").take(code)
        place = np.argsort(sorted(range(len(shown)), key=lambda n: (shown[n], instruments[n])))
        order = _in_order(place[code], rows["session"], rows["seq"], superseded)
        return rows.take(order).reset_index(drop=True)[[*asked, "seq"]]

    def _of(self, symbols: Sequence[str] | None) -> ds.Expression | None:
        if symbols is not None:
            return _is_any_of([self.instruments.get(symbol, symbol) for symbol in symbols])
        return ~_is_any_of(self._superseded) if self._superseded else None


def _is_any_of(instruments: Sequence[str]) -> ds.Expression:
    return pc.field("instrument_id").isin(pa.array(instruments, pa.string()))


def _both(*parts: ds.Expression | None) -> ds.Expression | None:
    asked = [part for part in parts if part is not None]
    return functools.reduce(operator.and_, asked) if asked else None


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
    return _both(*parts)


def _in_order(
    instrument: NDArray[np.int64],
    session: "pd.Series[pd.Timestamp]",
    seq: "pd.Series[int]",
    superseded: bool,
) -> NDArray[np.int64]:
    """Return where the rows are, by instrument, session and seq; without superseded ones the last of each bar."""
    bar = _cells(instrument, session)
    order = np.lexsort((seq.to_numpy(), bar))
    # Two closes of one session in one append cannot be: the schema forbids it.
    return order if superseded else order[np.diff(bar[order], append=-1) != 0]


def _cells(instrument: NDArray[np.int64], session: "pd.Series[pd.Timestamp]") -> NDArray[np.int64]:
    """Return one number for each pair, which rises with the instrument, then with the session."""
    return instrument * _FAR + session.to_numpy("datetime64[D]").astype(np.int64)


def _blocks(prices: pd.DataFrame) -> Iterator[pd.DataFrame]:
    code, instruments = pd.factorize(prices["instrument_id"])
    size = max(_ROWS * len(instruments) // max(len(prices), 1), 1)
    for first in range(0, len(instruments), size):
        inside = (code >= first) & (code < first + size)
        yield prices if inside.all() else prices[inside]


def _changed(prices: pd.DataFrame, standing: pd.DataFrame) -> pd.DataFrame:
    if standing.empty:
        return prices
    code, _ = pd.factorize(pd.concat([standing["instrument_id"], prices["instrument_id"]]))
    there, here = code[: len(standing)], code[len(standing) :]
    place = pd.Index(_cells(there, standing["session"])).get_indexer(
        pd.Index(_cells(here, prices["session"]))
    )
    same = place >= 0
    for name in VALUES:
        old, new = standing[name].array.take(place), prices[name].array
        equal = np.abs(new - old) <= _SAME[name] * np.abs(old) if name in _SAME else old == new
        is_unsaid = new.isna() if name == "currency" else old.isna() & new.isna()
        same &= np.asarray(equal | is_unsaid, dtype=bool)
    return prices[~same]
