"""The stored bars as one file for other programs: CSV or Parquet, whole or not at all."""

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

_BLOCK = 125  # symbols at a time: a large universe need not be in memory as a whole
_TEXTS = ["instrument_id", "symbol", "adjustment", "currency", "status", "source"]


def export_csv(
    store: PriceStore,
    target: Path | TextIO,
    as_of: pd.Timestamp | None = None,
    known_at: datetime | None = None,
) -> int:
    """Write the bars (schema.PRICES and seq) as CSV, by symbol and session, and return how many.

    Floats stand in the shortest form that reads back as the same number, times in ISO 8601 (UTC). A text that a
    spreadsheet would run is led by an apostrophe.

    Raises:
        InputError: there is no such bar.
        StoreError: the store cannot be read.
        NextdayError: the file cannot be written.
    """
    written = 0
    with _opened(target) as file:
        for bars in _blocks(store, as_of, known_at):
            _as_text(bars).to_csv(file, index=False, header=written == 0, lineterminator="\n")
            written += len(bars)
    return written


def export_parquet(
    store: PriceStore, path: Path, as_of: pd.Timestamp | None = None, known_at: datetime | None = None
) -> int:
    """Write the bars (schema.PRICES and seq) as Parquet, by symbol and session, and return how many.

    Raises:
        InputError: there is no such bar.
        StoreError: the store cannot be read.
        NextdayError: the file cannot be written.
    """
    blocks = _blocks(store, as_of, known_at)
    first = pa.Table.from_pandas(next(blocks), preserve_index=False)
    with atomic_write(path) as file, pq.ParquetWriter(file, first.schema) as writer:
        writer.write_table(first)
        written = len(first)
        for bars in blocks:
            writer.write_table(pa.Table.from_pandas(bars, first.schema, preserve_index=False))
            written += len(bars)
    return written


def _blocks(
    store: PriceStore, as_of: pd.Timestamp | None, known_at: datetime | None
) -> Iterator[pd.DataFrame]:
    seq, symbols, is_empty = store.seq(), store.symbols(), True  # a run may append in the meantime
    for first in range(0, len(symbols), _BLOCK):
        bars = store.read(as_of, seq, known_at=known_at, symbols=symbols[first : first + _BLOCK])
        if not bars.empty:
            is_empty = False
            yield bars
    if is_empty:
        raise InputError(
            "No bar was known then: nothing was written",
            where=f"the price store {store.folder}",
            fix="give a later --as-of or --known-at",
        )


@contextmanager
def _opened(target: Path | TextIO) -> Iterator[TextIO]:
    if not isinstance(target, Path):
        yield target
        return
    with atomic_write(target) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        try:
            yield text
            text.flush()
        finally:
            text.detach()  # the file below is closed by its owner


def _as_text(bars: pd.DataFrame) -> pd.DataFrame:
    told = {name: bars[name].map(_disarmed(bars[name])) for name in _TEXTS}
    return bars.assign(
        **told,
        session=bars["session"].dt.strftime("%Y-%m-%d"),
        observed_at=bars["observed_at"].dt.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
    )


def _disarmed(texts: "pd.Series[str]") -> dict[str, str]:
    return {text: disarm(text) for text in texts.dropna().unique()}
