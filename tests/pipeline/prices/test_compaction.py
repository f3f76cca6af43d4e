"""Compaction: many small files become few, and no reader, past or present, sees a difference."""

import os
import time
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from pipeline.errors import WorkspaceBusyError
from pipeline.market.calendar import Calendar
from pipeline.prices.delta_table import Compaction
from pipeline.prices.store import PriceStore
from pipeline.storage.files import hold_lock
from tests.pipeline.prices.test_store import WEEK, rows

pytestmark = pytest.mark.slow

MONTH = timedelta(days=30)


@pytest.fixture
def store(tmp_path: Path, xnys: Calendar) -> PriceStore:
    """Return a store of seven appends, each of which revised the one before."""
    store = PriceStore(tmp_path / "prices" / "u")
    for evening in range(7):
        store.append(rows(xnys, [10.0 + evening, 11.0 + evening, 12.0]), run="r")
    return store


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let files go without waiting for their readers."""
    monkeypatch.setattr("pipeline.prices.delta_table._READER_GRACE", timedelta(0))


def live_files(store: PriceStore) -> list[str]:
    return DeltaTable(str(store.folder)).file_uris()


def data_files(store: PriceStore) -> list[Path]:
    return [*store.folder.rglob("*.parquet")]


def views(store: PriceStore) -> list[pd.DataFrame]:
    return [store.versions(), *(store.read(seq=seq) for seq in range(1, 8))]


def test_every_view_of_every_seq_is_unchanged(store: PriceStore, at_once: None) -> None:
    before = views(store)
    for _ in range(2):
        store.compact(timedelta(0))
        for old, new in zip(before, views(store), strict=True):
            pd.testing.assert_frame_equal(old, new)
    assert store.seq() == 7


def test_files_are_merged_by_year_and_counted(store: PriceStore, at_once: None) -> None:
    assert len(live_files(store)) > 7
    done = store.compact(timedelta(0))
    assert len(live_files(store)) == 2
    assert done.files_after < done.files_before
    there = [path.stat().st_size for path in store.folder.rglob("*") if path.is_file()]
    assert (done.files_after, done.bytes_after) == (len(there), sum(there))
    assert store.compact(timedelta(0)).files_after <= done.files_after + 2


def test_an_append_after_a_compaction_is_the_next_seq(store: PriceStore, xnys: Calendar) -> None:
    store.compact(MONTH)
    assert store.append(rows(xnys, [16, 17, 12, 13]), run="r") == 1
    assert store.seq() == 8
    assert store.read()["session"].max() == WEEK[3]


def test_a_reader_that_opened_the_store_before_is_not_disturbed(store: PriceStore) -> None:
    opened = DeltaTable(str(store.folder)).to_pyarrow_dataset()
    count = opened.count_rows()
    store.compact(timedelta(0))  # even where nothing at all is to be kept
    assert opened.count_rows() == count
    assert len(opened.to_table()) == count


def test_a_version_younger_than_keep_can_be_opened_and_an_older_one_is_gone(
    store: PriceStore, at_once: None
) -> None:
    before = DeltaTable(str(store.folder))
    rows_then, files_then = before.to_pyarrow_table().num_rows, set(before.file_uris())
    store.compact(MONTH)
    again = DeltaTable(str(store.folder), version=before.version())
    assert again.to_pyarrow_table().num_rows == rows_then
    store.compact(timedelta(0))
    assert not {path for path in files_then if Path(path.removeprefix("file://")).exists()} - set(
        live_files(store)
    )


def test_files_of_a_killed_writer_are_removed_once_they_are_old(store: PriceStore) -> None:
    folder = data_files(store)[0].parent
    old, young = folder / "part-old.parquet", folder / "part-young.parquet"
    for path in (old, young):
        path.write_bytes(b"half of a file")
    os.utime(old, (time.time() - 40 * 86400,) * 2)
    store.compact(MONTH)
    assert not old.exists()
    assert young.exists()


def test_files_merged_long_after_they_were_written_stay_as_long_as_keep(store: PriceStore) -> None:
    before = data_files(store)
    for path in before:
        os.utime(path, (time.time() - 400 * 86400,) * 2)
    store.compact(MONTH)
    assert all(path.exists() for path in before)


def test_after_a_compaction_no_file_holds_a_type_that_cannot_be_filtered(store: PriceStore) -> None:
    store.compact(MONTH)
    types = {str(field.type) for path in live_files(store) for field in pq.read_schema(path)}
    assert "string" in types
    assert not any("view" in name for name in types)
    assert len(store.read(symbols=["A"])) == 3


def test_the_log_is_read_from_a_checkpoint_and_older_log_files_are_removed(store: PriceStore) -> None:
    log = store.folder / "_delta_log"
    store.compact(MONTH)
    version = DeltaTable(str(store.folder)).version()
    assert (log / f"{version:020}.checkpoint.parquet").exists()
    assert len([*log.glob("*.json")]) == version + 1  # a version of this month may start from any of them
    for path in log.iterdir():
        os.utime(path, (time.time() - 40 * 86400,) * 2)
    before = store.read()
    store.compact(MONTH)
    assert [path.name for path in log.glob("*.json")] == [f"{version:020}.json"]
    pd.testing.assert_frame_equal(store.read(), before)


def test_an_empty_store_has_nothing_to_merge(tmp_path: Path) -> None:
    assert PriceStore(tmp_path / "prices" / "u").compact(MONTH) == Compaction(0, 0, 0, 0)


def test_a_compaction_waits_for_the_writer(store: PriceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.prices.store._LOCK_TIMEOUT", 0.1)
    with (
        hold_lock(store.folder.with_name(f".{store.folder.name}.lock"), 1),
        pytest.raises(WorkspaceBusyError),
    ):
        store.compact(MONTH)
    assert len(live_files(store)) > 7
