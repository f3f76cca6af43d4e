"""Export of the stored bars to one CSV or Parquet file, written atomically."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TextIO

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.prices.store import PriceStore
from pipeline.storage.csv_output import disarm
from pipeline.storage.files import atomic_write

__all__ = ["export_csv", "export_parquet"]

_CHUNK = 125  # symbols at a time: a large universe need not fit in memory
_TEXTS = ["instrument_id", "symbol", "adjustment", "currency", "status", "source"]


def export_csv(
    store: PriceStore,
    target: Path | TextIO,
    as_of: pd.Timestamp | None = None,
    known_at: datetime | None = None,
) -> int:
    """Write the bars (schema.PRICES and seq) as CSV, by symbol and session, and return their number.

    Floats are written in the shortest form that reads back as the same number, times in ISO 8601 (UTC). A text that a
    spreadsheet would run as a formula is prefixed with an apostrophe.

    Args:
        store: The price store.
        target: A file to write, or an open text stream.
        as_of: The last session, None for all.
        known_at: The instant whose knowledge is exported, None for now.

    Raises:
        InputError: no bar matches.
        StoreError: the store cannot be read.
        NextdayError: the file cannot be written.
    """
    written = 0
    with _open_text(target) as file:
        for bars in _chunks(store, as_of, known_at):
            _as_text(bars).to_csv(file, index=False, header=written == 0, lineterminator="\n")
            written += len(bars)
    return written


def export_parquet(
    store: PriceStore, path: Path, as_of: pd.Timestamp | None = None, known_at: datetime | None = None
) -> int:
    """Write the bars (schema.PRICES and seq) as Parquet, by symbol and session, and return their number.

    Raises:
        InputError: no bar matches.
        StoreError: the store cannot be read.
        NextdayError: the file cannot be written.
    """
    chunks = _chunks(store, as_of, known_at)
    first = pa.Table.from_pandas(next(chunks), preserve_index=False)
    with atomic_write(path) as file, pq.ParquetWriter(file, first.schema) as writer:
        writer.write_table(first)
        written = len(first)
        for bars in chunks:
            writer.write_table(pa.Table.from_pandas(bars, first.schema, preserve_index=False))
            written += len(bars)
    return written


def _chunks(
    store: PriceStore, as_of: pd.Timestamp | None, known_at: datetime | None
) -> Iterator[pd.DataFrame]:
    seq, symbols, is_empty = (
        store.seq(),
        store.symbols(),
        True,
    )  # a fixed seq: another run may append meanwhile
    for first in range(0, len(symbols), _CHUNK):
        bars = store.read(as_of, seq, known_at=known_at, symbols=symbols[first : first + _CHUNK])
        if not bars.empty:
            is_empty = False
            yield bars
    if is_empty:
        raise InputError(
            "No bar was known then: nothing was written",
            where=f"the price store {store.place}",
            fix="give a later --as-of or --known-at",
        )


@contextmanager
def _open_text(target: Path | TextIO) -> Iterator[TextIO]:
    if not isinstance(target, Path):
        yield target
        return
    with atomic_write(target) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        try:
            yield text
            text.flush()
        finally:
            text.detach()  # atomic_write closes the binary file


def _as_text(bars: pd.DataFrame) -> pd.DataFrame:
    texts = {name: bars[name].map(_disarmed(bars[name])) for name in _TEXTS}
    return bars.assign(
        **texts,
        session=bars["session"].dt.strftime("%Y-%m-%d"),
        observed_at=bars["observed_at"].dt.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
    )


def _disarmed(texts: "pd.Series[str]") -> dict[str, str]:
    return {text: disarm(text) for text in texts.dropna().unique()}
