"""Prices on an object store: a real S3 server on loopback, which can refuse, fail and cut."""

import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import numpy as np
import pandas as pd
import pytest

from pipeline.config import Config
from pipeline.errors import InputError, StoreError, StoreUnreachableError
from pipeline.market.calendar import Calendar
from pipeline.prices import delta_table
from pipeline.prices.copying import copy_prices
from pipeline.prices.delta_table import StoreFiles
from pipeline.prices.location import open_store
from pipeline.prices.store import PriceStore
from pipeline.prices.table_location import TableLocation
from pipeline.storage.workspace import Workspace
from tests.conftest import prices_of, vendor_bars
from tests.support.object_store import BUCKET, KEY_ID, SECRET, ObjectStore

DAYS = pd.DatetimeIndex(["2018-12-28", "2018-12-31", "2019-01-02", "2019-01-03"])
CONTEXT = multiprocessing.get_context("spawn")
FORKED = 120  # seconds


def rows(xnys: Calendar, closes: list[float], symbol: str = "A") -> pd.DataFrame:
    return prices_of({symbol: vendor_bars(DAYS[: len(closes)], np.array(closes))}, xnys)


@pytest.fixture
def url(s3: ObjectStore) -> str:
    return f"s3://{BUCKET}/desk/{uuid4().hex}/u"


@pytest.fixture
def store(url: str, tmp_path: Path) -> PriceStore:
    return PriceStore(tmp_path / "one" / "u", url=url)


def test_another_machine_reads_what_one_has_appended(
    store: PriceStore, url: str, tmp_path: Path, xnys: Calendar
) -> None:
    assert (store.read().empty, store.seq()) == (True, 0)
    given = rows(xnys, [10, 11, 12])
    assert store.append(given, run="r") == 3
    other = PriceStore(tmp_path / "two" / "u", url=url)
    pd.testing.assert_frame_equal(other.read().drop(columns="seq"), given)
    assert other.append(rows(xnys, [10, 11, 12, 13]), run="r") == 1
    assert (store.seq(), len(store.read()), store.count_unchecked()) == (2, 4, 0)
    local = PriceStore(tmp_path / "folder" / "u")
    local.append(given, run="r")
    local.append(rows(xnys, [10, 11, 12, 13]), run="r")
    pd.testing.assert_frame_equal(store.versions(), local.versions())


def test_a_compaction_keeps_every_version(
    store: PriceStore, url: str, tmp_path: Path, xnys: Calendar, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (2, 3, 4):
        store.append(rows(xnys, [10 + number] * number), run="r")
    before = store.versions()
    reader = PriceStore(tmp_path / "two" / "u", url=url)
    reader.scan()
    monkeypatch.setattr(delta_table, "_READER_GRACE", timedelta(0))
    done = store.compact(timedelta(0))
    assert done.files_after < done.files_before
    for each in (store, reader, PriceStore(tmp_path / "three" / "u", url=url)):
        pd.testing.assert_frame_equal(each.versions(), before)
        assert each.count_unchecked() == 0
    copies = {path.name for path in store.folder.rglob("*.parquet") if "=" in path.parent.name}
    assert len(copies) == store.count_files()  # those of files that are gone are gone too


def test_a_damaged_copy_is_fetched_again_and_a_damaged_original_is_named(
    store: PriceStore, url: str, xnys: Calendar
) -> None:
    store.append(rows(xnys, [10, 11]), run="r")
    wanted = store.read()
    for copy in [*store.folder.rglob("*.parquet"), *store.folder.rglob("0*.json")]:
        copy.write_bytes(copy.read_bytes()[:-1] + b"?")
    pd.testing.assert_frame_equal(store.read(), wanted)
    file = next(store.folder.rglob("year=*/*.parquet"))
    file.write_bytes(b"gone")
    name = file.relative_to(store.folder).as_posix()
    remote = StoreFiles(store.folder, url)._place._remote
    assert remote is not None
    remote.upload(name, file)
    with pytest.raises(StoreError, match="its content has changed") as damaged:
        store.read()
    assert damaged.value.where == f"{url}/{name}"


@pytest.mark.parametrize(
    ("kind", "told"),
    [("403", "refuses access"), ("500", "answers with errors"), ("cut", "cannot be reached")],
)
def test_a_store_that_fails_is_told_without_a_key_and_loses_nothing(
    kind: str, told: str, store: PriceStore, url: str, s3: ObjectStore, xnys: Calendar
) -> None:
    store.append(rows(xnys, [10, 11]), run="r")
    before = store.versions()
    for method in ("", "PUT"):
        with s3.fault(kind, method), pytest.raises(StoreUnreachableError) as refused:
            store.append(rows(xnys, [10, 11, 12]), run="r")
        assert (told in refused.value.what, refused.value.exit_code) == (True, 2)
        assert refused.value.where == f"{url} at {s3.endpoint}"
        assert not any(secret in str(refused.value) for secret in (KEY_ID, SECRET))
        pd.testing.assert_frame_equal(store.versions(), before)
    assert store.append(rows(xnys, [10, 11, 12]), run="r") == 1
    assert store.seq() == 2


def test_a_missing_bucket_and_a_server_that_is_down_are_told(
    s3: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StoreUnreachableError, match="does not have this bucket"):
        PriceStore(tmp_path / "a" / "u", url="s3://no-such-bucket/u").seq()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://me:hidden@127.0.0.1:1")
    with pytest.raises(StoreUnreachableError, match="cannot be reached") as down:
        PriceStore(tmp_path / "b" / "u", url=f"s3://{BUCKET}/u").seq()
    assert "hidden" not in str(down.value)


def test_a_commit_whose_answer_is_lost_counts_once(
    store: PriceStore, s3: ObjectStore, xnys: Calendar
) -> None:
    store.append(rows(xnys, [10]), run="r")
    with s3.fault("answerless", "PUT", "_delta_log/00000000000000000001.json"):
        assert store.append(rows(xnys, [10, 11]), run="r") == 1
    assert (store.seq(), len(store.versions())) == (2, 2)


def test_rows_chosen_before_another_machine_wrote_are_chosen_again(
    store: PriceStore, url: str, tmp_path: Path, xnys: Calendar, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = PriceStore(tmp_path / "two" / "u", url=url)
    append = StoreFiles.append
    overtaken = []

    def late(self: StoreFiles, *given: object, **named: object) -> None:
        if not overtaken:
            overtaken.append(1)
            assert other.append(rows(xnys, [10, 11]), run="other") == 2
        append(self, *given, **named)  # type: ignore[arg-type]

    for _ in range(2):  # the first commit of all, and a later one
        monkeypatch.setattr(StoreFiles, "append", late)
        store.append(rows(xnys, [10, 11, 12]), run="r")
        monkeypatch.setattr(StoreFiles, "append", append)
        overtaken.clear()
        assert not store.versions().duplicated(["symbol", "session"]).any()
    assert (store.seq(), len(store.versions())) == (2, 3)


def test_a_list_of_checksums_from_before_another_machine_wrote_is_completed(
    store: PriceStore, url: str, tmp_path: Path, xnys: Calendar, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = PriceStore(tmp_path / "two" / "u", url=url)
    record, overtaken = TableLocation.record, list[int]()

    def late(self: TableLocation, names: Sequence[str]) -> bool:
        if not overtaken:
            overtaken.append(1)
            assert other.append(rows(xnys, [10, 11]), run="other") == 1
        return record(self, names)

    monkeypatch.setattr(TableLocation, "record", late)
    store.append(rows(xnys, [10]), run="r")
    assert overtaken
    assert (store.seq(), store.count_files(), store.count_unchecked()) == (2, 2, 0)


def write_evenings(folder: Path, url: str, symbol: str, begin: Path) -> None:
    xnys = new_calendar()
    store = PriceStore(folder / "u", url=url)
    begin.with_name(f"{begin.name}.{symbol}").touch()
    while not begin.exists():
        time.sleep(0.01)
    for number in range(1, 5):
        closes = [100.0 + day for day in range(number)]
        store.append(rows(xnys, closes, symbol), rows(xnys, closes, "BOTH"), run=symbol)


def new_calendar() -> Calendar:
    from datetime import date

    from pipeline.market.calendar import calendar
    from tests.conftest import NOW

    return calendar("XNYS", date(1999, 1, 1), NOW)


def started(tmp_path: Path, url: str, symbols: str) -> tuple[list[multiprocessing.process.BaseProcess], Path]:
    begin = tmp_path / "begin"
    writers = [
        CONTEXT.Process(target=write_evenings, args=(tmp_path / symbol, url, symbol, begin))
        for symbol in symbols
    ]
    for writer in writers:
        writer.start()
    while len([*tmp_path.glob("begin.*")]) < len(writers):
        assert all(writer.is_alive() for writer in writers)
        time.sleep(0.05)
    return [*writers], begin


@pytest.mark.proof
def test_two_machines_that_write_at_once_lose_and_double_nothing(
    url: str, tmp_path: Path, xnys: Calendar
) -> None:
    writers, begin = started(tmp_path, url, "AB")
    begin.touch()
    for writer in writers:
        writer.join(FORKED)
        assert writer.exitcode == 0
    kept = PriceStore(tmp_path / "reader" / "u", url=url).versions()
    assert kept.groupby("symbol").size().to_dict() == {"A": 4, "B": 4, "BOTH": 4}
    assert not kept.duplicated(["symbol", "session"]).any()
    commits = kept.groupby("seq").size()
    assert commits.index.tolist() == list(range(1, len(commits) + 1))


@pytest.mark.proof
@pytest.mark.parametrize("end", [signal.SIGCONT, signal.SIGKILL])
def test_a_writer_that_was_stopped_or_killed_amid_its_appends_doubles_nothing(
    end: signal.Signals, url: str, tmp_path: Path, xnys: Calendar
) -> None:
    (writer,), begin = started(tmp_path, url, "A")
    store = PriceStore(tmp_path / "two" / "u", url=url)
    begin.touch()
    while not store.seq():
        time.sleep(0.01)
    assert writer.pid
    os.kill(writer.pid, signal.SIGSTOP)
    closes = [100.0 + day for day in range(4)]
    store.append(rows(xnys, closes, "A"), rows(xnys, closes, "BOTH"), run="two")
    seq = store.seq()
    os.kill(writer.pid, end)
    writer.join(FORKED)
    assert writer.exitcode == (0 if end == signal.SIGCONT else -signal.SIGKILL)
    kept = store.versions()
    assert (store.seq(), len(kept)) == (seq, 8)  # what it had chosen before was not appended after
    assert not kept.duplicated(["symbol", "session"]).any()


def test_a_copy_there_and_back_has_every_version_and_never_covers_other_prices(
    store: PriceStore, s3: ObjectStore, tmp_path: Path, xnys: Calendar
) -> None:
    local, back, other = (PriceStore(tmp_path / name / "u") for name in ("local", "back", "other"))
    with pytest.raises(InputError, match="no prices to copy"):
        copy_prices(local, store)
    for number in (2, 3, 4):
        local.append(rows(xnys, [10 + number] * number), run="r")
    with s3.fault("cut", "PUT", "_delta_log/00000000000000000000"), pytest.raises(StoreUnreachableError):
        copy_prices(local, store)
    with pytest.raises(StoreError, match="it is missing"):
        store.append(rows(xnys, [5]), run="r")
    assert copy_prices(local, store) == len([path for path in local.folder.rglob("*") if path.is_file()])
    copy_prices(store, back)
    for copied in (store, back):
        pd.testing.assert_frame_equal(copied.versions(), local.versions())
    other.append(rows(xnys, [5]), run="r")
    with pytest.raises(InputError, match="Other prices lie there already"):
        copy_prices(other, store)
    assert store.append(rows(xnys, [14] * 4, symbol="B"), run="r") == 4


def test_the_setting_names_the_place_and_a_simulation_keeps_to_its_workspace(tmp_path: Path) -> None:
    def place(prices: str) -> str:
        storage = Config.model_validate({"storage": {"prices": prices}}).storage
        return open_store(Workspace(tmp_path), storage, "u").place

    assert place("") == str(tmp_path / "prices" / "u")
    assert place("s3://bucket/desk/") == "s3://bucket/desk/u"
    (tmp_path / "simulation.json").touch()
    assert place("s3://bucket/desk/") == str(tmp_path / "prices" / "u")


@pytest.mark.parametrize(
    "bad", ["s3://", "/folder", "http://host/x", "s3://key:secret@bucket/x", "s3://b/x?y=1"]
)
def test_what_is_no_object_store_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="prices"):
        Config.model_validate({"storage": {"prices": bad}})
