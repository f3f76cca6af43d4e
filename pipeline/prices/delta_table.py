"""The files of a price store: a Delta Lake table, one folder a year. Only this module touches deltalake."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs as pa_fs
from deltalake import ColumnProperties, CommitProperties, DeltaTable, WriterProperties, write_deltalake
from deltalake.exceptions import DeltaError

from pipeline.errors import StoreError

__all__ = ["Compaction", "StoreFiles"]

_FORMAT = 1
"""Of the rows; it rises when an older nextday would read them wrongly. A store that says nothing is of the first."""

_BATCH = 1 << 16  # rows
_READ_AHEAD = 2  # batches, and files: more of them cost memory and are no quicker
_WRITING = WriterProperties(
    compression="ZSTD",
    compression_level=1,
    # Prices repeat, in cents, and are best kept as a dictionary, which is the default; volumes do not.
    column_properties={"volume": ColumnProperties(dictionary_enabled=False, encoding="BYTE_STREAM_SPLIT")},
)

_HOUR = timedelta(hours=1)
_READING = _HOUR
"""Whoever opened the store before a compaction reads the files of then: they stay at least so long."""


@dataclass(frozen=True)
class Compaction:
    """What a compaction did to the folder: every file in it counts, the log's too."""

    files_before: int
    files_after: int
    bytes_before: int
    bytes_after: int


class StoreFiles:
    """Rows that are only ever appended.

    Never call merge() or delete() on the table: they write strings as Arrow's string_view, and no filter of pyarrow
    can be put on such a column (apache/arrow#49368).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def rows(self, columns: Sequence[str], wanted: ds.Expression | None = None) -> pa.Table | None:
        """Return the rows that are wanted, in no order; None where nothing was ever appended.

        The column `instrument_id` comes as codes (pa.DictionaryArray).

        Raises:
            StoreError: the files cannot be read.
        """
        table = self._table()
        if table is None:
            return None
        try:
            return self._dataset(table).to_table(columns=list(columns), filter=wanted).combine_chunks()
        except (DeltaError, OSError, pa.ArrowException) as error:
            raise self._unreadable(error) from None

    def batches(
        self, columns: Sequence[str], wanted: ds.Expression | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows that are wanted, a part at a time.

        The columns `instrument_id` and `source` come as codes, each part with a dictionary of its own.

        Raises:
            StoreError: the files cannot be read.
        """
        table = self._table()
        if table is None:
            return
        try:
            yield from self._dataset(table, "instrument_id", "source").to_batches(
                columns=list(columns),
                filter=wanted,
                batch_size=_BATCH,
                batch_readahead=_READ_AHEAD,
                fragment_readahead=_READ_AHEAD,
            )
        except (DeltaError, OSError, pa.ArrowException) as error:
            raise self._unreadable(error) from None

    def unique(self, column: str) -> list[str]:
        """Return the texts that stand in a column, sorted.

        Raises:
            StoreError: the files cannot be read.
        """
        table = self._table()
        if table is None:
            return []
        lowest, highest = _statistics(table, f"min.{column}", f"max.{column}")
        if lowest.null_count == 0 and lowest.equals(highest):  # each file holds one text alone
            return sorted(lowest.unique().to_pylist())
        return sorted({text for part in self.batches([column]) for text in part[column].unique().to_pylist()})

    def highest(self, column: str) -> int | None:
        """Return the highest value of a column of whole numbers, as the files' own statistics know it.

        Raises:
            StoreError: the files cannot be read.
        """
        table = self._table()
        if table is None:
            return None
        highest: int | None = pc.max(_statistics(table, f"max.{column}")[0]).as_py()
        return highest

    def bounds(self) -> pd.DataFrame:
        """Return what the log says of each file: first_session, last_session, observed_at (the latest; in ms).

        Raises:
            StoreError: the log cannot be read.
        """
        kinds = {
            "first_session": ("min.session", "datetime64[us]"),
            "last_session": ("max.session", "datetime64[us]"),
            "observed_at": ("max.observed_at", "datetime64[us, UTC]"),
        }
        table = self._table()
        if table is None:
            return pd.DataFrame({name: pd.Series([], dtype=kind) for name, (_, kind) in kinds.items()})
        known = _statistics(table, *(statistic for statistic, _ in kinds.values()))
        columns = zip(kinds.items(), known, strict=True)
        return pd.DataFrame({name: values.to_pandas().astype(kind) for (name, (_, kind)), values in columns})

    def needed(self) -> list[Path]:
        """Return the files that the newest version is read from, its log's among them; none without an append.

        Raises:
            StoreError: the log cannot be read.
        """
        table = self._table()
        if table is None:
            return []
        parts = pa.table(table.get_add_actions())["path"].to_pylist()
        log = [path for path in (self.folder / "_delta_log").rglob("*") if path.is_file()]
        return [*sorted(log), *sorted(self.folder / part for part in parts)]

    def count(self) -> int:
        """Return how many files a read of everything opens.

        Raises:
            StoreError: the log cannot be read.
        """
        table = self._table()
        return 0 if table is None else len(table.file_uris())

    def scan(self) -> None:
        """Read every row once, a part at a time: a file that is missing or damaged is found.

        Raises:
            StoreError: one is.
        """
        table = self._table()
        if table is None:
            return
        try:
            for _ in self._dataset(table).to_batches(batch_size=_BATCH, fragment_readahead=_READ_AHEAD):
                pass
        except (DeltaError, OSError, pa.ArrowException) as error:
            raise self._unreadable(error) from None

    def append(self, rows: pd.DataFrame, run: str) -> None:
        """Append rows, all of them or none.

        Raises:
            StoreError: the files cannot be written.
        """
        try:
            write_deltalake(
                str(self.folder),
                _by_year(rows),
                mode="append",
                partition_by=["year"],
                description=f"nextday prices, format {_FORMAT}",  # kept by the first append
                writer_properties=_WRITING,
                commit_properties=CommitProperties(custom_metadata={"run": run}),
            )
        except (DeltaError, OSError) as error:
            raise self._unwritable(error, "all of it was appended, or nothing") from None

    def compact(self, keep: timedelta) -> Compaction:
        """Join the small files of each year, then remove those that no version younger than `keep` needs.

        Files that a compaction has just replaced are still there for their readers; the next one removes them.

        Raises:
            StoreError: the files cannot be read or written.
        """
        files_before, bytes_before = self._size()
        table = self._table()
        if table is not None:
            try:
                self._remove_staged()
                _tidy(table, max(math.ceil(keep / _HOUR), math.ceil(_READING / _HOUR)))
            except (DeltaError, OSError) as error:
                raise self._unwritable(error, "no bar was lost") from None
        files_after, bytes_after = self._size()
        return Compaction(files_before, files_after, bytes_before, bytes_after)

    def _remove_staged(self) -> None:
        # deltalake writes a file under such a name first, and lists none of that name: no vacuum of it ever finds them.
        for path in self.folder.rglob("*#*"):
            if path.name.rpartition("#")[2].isdecimal():
                path.unlink(missing_ok=True)

    def _table(self) -> DeltaTable | None:
        try:
            table = DeltaTable(str(self.folder)) if DeltaTable.is_deltatable(str(self.folder)) else None
        except (DeltaError, OSError) as error:
            raise self._unreadable(error) from None
        made_in = int(((table and table.metadata().description) or "").rpartition("format ")[2] or 1)
        if made_in > _FORMAT:
            raise StoreError(
                f"A newer nextday wrote these prices, in format {made_in}; this one knows formats up to {_FORMAT}",
                where=str(self.folder),
                fix="install that nextday or a newer one, or name another workspace with --home DIR",
            )
        return table

    def _dataset(self, table: DeltaTable, *coded: str) -> ds.Dataset:
        """Return the files of a version, each with its year and its first and last session.

        deltalake's own dataset is not used. It spends half a millisecond a file on the bounds of every column. And its
        file system is Python, whose files Arrow's threads still hold when the interpreter ends: now and then the
        process died of that, after it had done everything.
        """
        files = pa_fs.SubTreeFileSystem(str(self.folder.absolute()), pa_fs.LocalFileSystem())
        options = ds.ParquetReadOptions(dictionary_columns=set(coded))
        form = ds.ParquetFileFormat(
            options, default_fragment_scan_options=ds.ParquetFragmentScanOptions(pre_buffer=True)
        )
        schema = pa.schema(table.schema().to_arrow())
        for name in coded:
            field = schema.field(name)
            schema = schema.set(
                schema.get_field_index(name), field.with_type(pa.dictionary(pa.int32(), field.type))
            )
        bounds = _statistics(table, "path", "partition.year", "min.session", "max.session")
        parts = [
            form.make_fragment(path.as_py(), files, partition_expression=_bounded(year, first, last))
            for path, year, first, last in zip(*bounds, strict=True)
        ]
        return ds.FileSystemDataset(parts, schema, form, files)

    def _size(self) -> tuple[int, int]:
        sizes = [path.stat().st_size for path in self.folder.rglob("*") if path.is_file()]
        return len(sizes), sum(sizes)

    def _unreadable(self, error: Exception) -> StoreError:
        reason = str(error).split("\n")[0]
        return StoreError(
            f"The price store cannot be read: {reason:.200}",
            where=str(self.folder),
            fix="put the folder back from a backup; without one move it away: the next run fetches the history "
            "again, and what is sealed can no longer be replayed",
        )

    def _unwritable(self, error: Exception, outcome: str) -> StoreError:
        return StoreError(
            f"The price store cannot be written: {_cause(error):.200}",
            where=str(self.folder),
            fix=f"{outcome}; see to disk space and permissions, then run again",
        )


def _cause(error: Exception) -> str:
    """Return what an error says on one line; of a chain that ends at the operating system, its words alone."""
    words = " ".join(re.sub(r"\x1b\[\d+m|↳", "", str(error)).split())
    found = re.search(r"([A-Z][^:A-Z]*) \(os error \d+\)$", words)
    return found[1] if found else words


def _statistics(table: DeltaTable, *names: str) -> list[pa.ChunkedArray]:
    """Return what the log says of each file."""
    known = pa.table(table.get_add_actions(flatten=True))
    return [known[name] for name in names]


def _bounded(year: pa.Scalar, first: pa.Scalar, last: pa.Scalar) -> ds.Expression:
    inside = pc.field("year") == year
    if first.is_valid and last.is_valid:
        inside &= (pc.field("session") >= first) & (pc.field("session") <= last)
    return inside


def _by_year(rows: pd.DataFrame) -> pa.RecordBatchReader:
    """Return the rows year by year: a writer with one file open at a time needs less time and less memory."""
    year = rows["session"].dt.year.to_numpy(np.int32)
    table = pa.Table.from_pandas(rows.assign(year=year), preserve_index=False).combine_chunks()
    parts = (table.take(pa.array(np.flatnonzero(year == one))) for one in np.unique(year))
    return pa.RecordBatchReader.from_batches(
        table.schema, (batch for part in parts for batch in part.to_batches())
    )


def _tidy(table: DeltaTable, hours: int) -> None:
    table.optimize.compact(writer_properties=_WRITING)
    kept = dict.fromkeys(
        ("delta.deletedFileRetentionDuration", "delta.logRetentionDuration"), f"interval {hours} hours"
    )
    if not kept.items() <= table.metadata().configuration.items():
        table.alter.set_table_properties(kept)
    # What a killed writer left belongs to no version: only a full vacuum looks for that, and it spares young files.
    table.vacuum(hours, dry_run=False, enforce_retention_duration=False, full=True)
    table.create_checkpoint()  # the log is read from here on, however many evenings it has
    table.cleanup_metadata()
