"""The files of a price store: a Delta Lake table, one folder per year, in a folder or on an object store."""

import math
import secrets
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs as pa_fs
from deltalake import (
    ColumnProperties,
    CommitProperties,
    DeltaTable,
    PostCommitHookProperties,
    WriterProperties,
    write_deltalake,
)
from deltalake.exceptions import DeltaError

from pipeline.errors import StoreError
from pipeline.prices.table_location import TableLocation

__all__ = ["Compaction", "OvertakenError", "StoreFiles"]

_FORMAT = 1
"""Version of the rows' format. It rises when an older nextday would misread them; a store without one has format 1."""

_BATCH = 1 << 16  # rows
_READ_AHEAD = 2  # batches, and files: more of them cost memory and are no faster
_WRITING = WriterProperties(
    compression="ZSTD",
    compression_level=1,
    # Prices in cents repeat, so the default dictionary encoding suits them; volumes do not repeat.
    column_properties={"volume": ColumnProperties(dictionary_enabled=False, encoding="BYTE_STREAM_SPLIT")},
)

_KEEP_LOG = PostCommitHookProperties(create_checkpoint=True, cleanup_expired_logs=False)
"""Only a compaction removes commits from the log: a reader may be comparing them with their checksums."""

_HOUR = timedelta(hours=1)
_READER_GRACE = _HOUR
"""How long a compaction keeps the replaced files at least: open readers may still read them."""


@dataclass(frozen=True)
class Compaction:
    """The size of the folder before and after a compaction; all files count, those of the Delta log too."""

    files_before: int
    files_after: int
    bytes_before: int
    bytes_after: int


class OvertakenError(Exception):
    """Another writer has committed since the version that an append was made for; nothing was appended."""


class StoreFiles:
    """An append-only Delta table.

    Args:
        folder: Its folder; of an object store, that of the copies in the cache.
        url: The address on an object store; default: it lies in the folder.

    Never call merge() or delete() on the table: they write strings as Arrow's string_view, and pyarrow cannot filter
    such a column (apache/arrow#49368).
    """

    def __init__(self, folder: Path, url: str = "") -> None:
        self._place = TableLocation(folder, url)

    def version(self) -> int:
        """Return the number of the newest commit, -1 where nothing was ever appended.

        Raises:
            StoreError: the log cannot be read.
        """
        table = self._table()
        return -1 if table is None else int(table.version())

    def refreshed(self) -> AbstractContextManager[None]:
        """Keep the local files of the newest version as they are within the block.

        Raises:
            StoreError: an object store does not answer, or refuses.
        """
        return self._place.refreshed()

    def rows(self, columns: Sequence[str], wanted: ds.Expression | None = None) -> pa.Table | None:
        """Return the rows that match the filter `wanted`, in no order; None where nothing was ever appended.

        The column `instrument_id` is dictionary-encoded (pa.DictionaryArray).

        Raises:
            StoreError: the files cannot be read.
        """
        table = self._table()
        if table is None:
            return None
        try:
            dataset = self._dataset(table, wanted)
            return dataset.to_table(columns=list(columns), filter=wanted).combine_chunks()
        except (DeltaError, OSError, pa.ArrowException) as error:
            raise self._place.unreadable(error) from None

    def batches(
        self, columns: Sequence[str], wanted: ds.Expression | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows that match the filter `wanted`, in batches.

        The columns `instrument_id` and `source` are dictionary-encoded; each batch has its own dictionary.

        Raises:
            StoreError: the files cannot be read.
        """
        table = self._table()
        if table is None:
            return
        try:
            yield from self._dataset(table, wanted, "instrument_id", "source").to_batches(
                columns=list(columns),
                filter=wanted,
                batch_size=_BATCH,
                batch_readahead=_READ_AHEAD,
                fragment_readahead=_READ_AHEAD,
            )
        except (DeltaError, OSError, pa.ArrowException) as error:
            raise self._place.unreadable(error) from None

    def unique(self, column: str) -> list[str]:
        """Return the distinct values of a text column, sorted.

        Raises:
            StoreError: the files cannot be read.
        """
        table = self._table()
        if table is None:
            return []
        lowest, highest = _statistics(table, f"min.{column}", f"max.{column}")
        if lowest.null_count == 0 and lowest.equals(highest):  # each file holds a single value
            return sorted(lowest.unique().to_pylist())
        return sorted(
            {text for batch in self.batches([column]) for text in batch[column].unique().to_pylist()}
        )

    def highest(self, column: str) -> int | None:
        """Return the maximum of an integer column, read from the statistics of the files.

        Raises:
            StoreError: the files cannot be read.
        """
        table = self._table()
        highest: int | None = table and pc.max(_statistics(table, f"max.{column}")[0]).as_py()
        return highest

    def lowest(self, column: str) -> int | None:
        """Return the minimum of an integer column, as `highest` does."""
        table = self._table()
        lowest: int | None = table and pc.min(_statistics(table, f"min.{column}")[0]).as_py()
        return lowest

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

    def active_files(self) -> list[Path]:
        """Return the files of the newest version, Delta log included; none where nothing was ever appended.

        Raises:
            StoreError: the log cannot be read.
        """
        table = self._table()
        if table is None:
            return []
        names = _list_files(table)
        self._place.fetch(names)
        return [*self._place.log_files(), *sorted(self._place.folder / name for name in names)]

    def count_unchecked(self) -> int:
        """Return the number of data files in the newest version that have no checksum yet.

        Raises:
            StoreError: the log cannot be read.
        """
        table = self._table()
        return 0 if table is None else len(self._place.checksums.missing(_list_files(table)))

    def count_files(self) -> int:
        """Return the number of data files in the newest version.

        Raises:
            StoreError: the log cannot be read.
        """
        table = self._table()
        return 0 if table is None else len(table.file_uris())

    def scan(self) -> None:
        """Read every row once, in batches, to find missing or damaged files.

        Raises:
            StoreError: a file is missing or damaged.
        """
        table = self._table()
        if table is None:
            return
        try:
            for _ in self._dataset(table, None).to_batches(batch_size=_BATCH, fragment_readahead=_READ_AHEAD):
                pass
        except (DeltaError, OSError, pa.ArrowException) as error:
            raise self._place.unreadable(error) from None

    def append(self, blocks: Sequence[pd.DataFrame], run: str, *, after: int) -> None:
        """Append the rows of all blocks, all of them or none, as the first commit after a version.

        Raises:
            OvertakenError: another writer has committed after that version.
            StoreError: the files cannot be written.
        """
        token = secrets.token_hex(8)
        try:
            write_deltalake(
                self._place.open(after) if after >= 0 else self._place.name,
                _by_year(blocks),
                mode="append" if after >= 0 else "error",
                partition_by=["year"],
                description=f"nextday prices, format {_FORMAT}",  # kept by the first append
                writer_properties=_WRITING,
                # Two appends never conflict for Delta, so a second try would commit rows chosen before the other's.
                commit_properties=CommitProperties({"run": run, "append": token}, max_commit_retries=0),
                post_commithook_properties=_KEEP_LOG,
                storage_options=self._place.options,
            )
        except (DeltaError, OSError) as error:
            is_local = not self._place.url and isinstance(error, OSError)
            if is_local or self.version() <= after:
                raise self._place.unwritable(error, "either all rows were appended or none") from None
            if token not in self._place.commit(after + 1):  # else the answer was lost, not the commit
                raise OvertakenError from None
        self.list_checksums()

    def list_checksums(self) -> None:
        """Add the checksums that are missing: a writer that was killed, or found the disk full, could not.

        On an object store another machine may have committed meanwhile, and listed files that this list lacks: whoever
        writes the list last names the files of both.

        Raises:
            StoreError: the files cannot be read.
        """
        table = self._table()
        while table and self._place.record(_list_files(table)) and self._place.url:
            table = self._table()

    def compact(self, keep: timedelta) -> Compaction:
        """Merge the small files of each year, then remove the files that no version younger than `keep` needs.

        Files that this compaction replaced are kept for open readers; the next compaction removes them.

        Raises:
            StoreError: the files cannot be read or written.
        """
        files_before, bytes_before = self._place.size()
        if self._table() is not None:
            try:
                self._place.remove_staged()
                table = self._place.open()
                # What is compacted gets a new checksum: damage must not become part of it.
                self._place.check_files(_list_files(table))
                _compact_and_vacuum(table, max(math.ceil(keep / _HOUR), math.ceil(_READER_GRACE / _HOUR)))
                self._place.record(_list_files(table))
                table.cleanup_metadata()
                self._place.record(_list_files(table))
                self._place.prune()
            except (DeltaError, OSError) as error:
                raise self._place.unwritable(error, "no bar was lost") from None
        files_after, bytes_after = self._place.size()
        return Compaction(files_before, files_after, bytes_before, bytes_after)

    def _table(self) -> DeltaTable | None:
        """Return the newest version, as the folder or the copies have it."""
        with self._place.refreshed():
            newest = self._place.check_log()
            try:
                is_there = DeltaTable.is_deltatable(str(self._place.folder))
                table = DeltaTable(str(self._place.folder)) if is_there else None
            except (DeltaError, OSError) as error:
                raise self._place.unreadable(error) from None
        if newest > (-1 if table is None else table.version()):
            raise self._place.unreadable(
                ValueError(f"its log does not lead to commit {newest}, which was made")
            )
        written_in = int(((table and table.metadata().description) or "").rpartition("format ")[2] or 1)
        if written_in > _FORMAT:
            raise StoreError(
                f"A newer nextday wrote these prices, in format {written_in}; this one reads formats up to {_FORMAT}",
                where=self._place.name,
                fix="install that version or a newer one, or name another workspace with --home DIR",
            )
        return table

    def _dataset(self, table: DeltaTable, wanted: ds.Expression | None, *coded: str) -> ds.Dataset:
        """Return the files of a version as a dataset, each with its year and its first and last session.

        Those that may have a row that matches `wanted` are compared with their checksums.

        deltalake's own dataset is not used: it spends half a millisecond per file on the bounds of every column, and
        its file system is written in Python. Arrow's threads still hold those files when the interpreter exits, which
        sometimes crashed the process after all work was done.
        """
        files = pa_fs.SubTreeFileSystem(str(self._place.folder.absolute()), pa_fs.LocalFileSystem())
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
            form.make_fragment(
                path.as_py(), files, partition_expression=_bounds_expression(year, first, last)
            )
            for path, year, first, last in zip(*bounds, strict=True)
        ]
        dataset = ds.FileSystemDataset(parts, schema, form, files)
        self._place.check_files([part.path for part in dataset.get_fragments(wanted)])
        return dataset


def _list_files(table: DeltaTable) -> list[str]:
    """Return the data files of a version, by their paths in the folder."""
    return list(pa.table(table.get_add_actions())["path"].to_pylist())


def _statistics(table: DeltaTable, *names: str) -> list[pa.ChunkedArray]:
    """Return columns of the Delta log's statistics, one value per file."""
    actions = pa.table(table.get_add_actions(flatten=True))
    return [actions[name] for name in names]


def _bounds_expression(year: pa.Scalar, first: pa.Scalar, last: pa.Scalar) -> ds.Expression:
    inside = pc.field("year") == year
    if first.is_valid and last.is_valid:
        inside &= (pc.field("session") >= first) & (pc.field("session") <= last)
    return inside


def _by_year(blocks: Sequence[pd.DataFrame]) -> pa.RecordBatchReader:
    """Return the rows year by year: a writer with one open file at a time is faster and needs less memory."""
    years = [rows["session"].dt.year.to_numpy(np.int32) for rows in blocks]
    tables = [
        pa.Table.from_pandas(rows.assign(year=year), preserve_index=False).combine_chunks()
        for rows, year in zip(blocks, years, strict=True)
    ]
    parts = (
        table.take(pa.array(np.flatnonzero(year == one)))
        for one in np.unique(np.concatenate(years))
        for table, year in zip(tables, years, strict=True)
    )
    return pa.RecordBatchReader.from_batches(
        tables[0].schema, (batch for part in parts for batch in part.to_batches())
    )


def _compact_and_vacuum(table: DeltaTable, hours: int) -> None:
    table.optimize.compact(writer_properties=_WRITING, post_commithook_properties=_KEEP_LOG)
    kept = dict.fromkeys(
        ("delta.deletedFileRetentionDuration", "delta.logRetentionDuration"), f"interval {hours} hours"
    )
    if not kept.items() <= table.metadata().configuration.items():
        table.alter.set_table_properties(kept)
    # Files that a killed writer left belong to no version: only a full vacuum finds them, and it spares young files.
    table.vacuum(hours, dry_run=False, enforce_retention_duration=False, full=True)
    table.create_checkpoint()  # readers start from here, however long the log has grown
