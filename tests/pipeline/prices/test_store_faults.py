"""The price store while its writers are killed, crowd each other, or run out of disk: nothing is lost, nothing doubled,
and nobody ever reads half of an append."""

import functools
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path
from random import Random

import pandas as pd
import pyarrow.parquet as pq
import pytest

from pipeline.errors import StoreError
from pipeline.prices import delta_table
from pipeline.prices.store import PriceStore
from tests.support.disks import disk, mount, used_kilobytes
from tests.support.victims import (
    CONTEXT,
    append_beside_others,
    append_evenings,
    bars,
    evening_rows,
    ready_to_fork,
)

KILLS, EVENINGS, COMPACT_EVERY, SEED = 200, 20, 3, 20


@pytest.fixture(scope="module")
def writers() -> Iterator[None]:
    """Let every writer be a fork of a process that has done the imports once."""
    with ready_to_fork():
        yield


@pytest.fixture(scope="module")
def wanted() -> pd.DataFrame:
    """Every version that an undisturbed run of all evenings leaves: each evening's rows, with its number for a seq."""
    rows = [evening_rows(evening).assign(seq=evening + 1) for evening in range(EVENINGS)]
    return pd.concat(rows).sort_values(["symbol", "session", "seq"], ignore_index=True)


def assert_versions(store: PriceStore, wanted: pd.DataFrame, seq: int) -> None:
    known = wanted[wanted["seq"] <= seq].reset_index(drop=True)
    pd.testing.assert_frame_equal(store.versions()[known.columns], known, check_dtype=False)


def leftovers(store: PriceStore) -> list[str]:
    """Return the files that no read needs."""
    with store.locked_files() as needed:
        there = {path for path in store.folder.rglob("*") if path.is_file()}
        return sorted(str(path.relative_to(store.folder)) for path in there - set(needed))


class Story:
    """A store that grows by evenings, whose writer is killed again and again; each rerun takes up what was not told."""

    def __init__(self, folder: Path, wanted: pd.DataFrame) -> None:
        self.store, self.log, self.wanted = PriceStore(folder / "u"), folder / "log", wanted
        folder.mkdir()
        self.seq = self.untold = 0

    def steps(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def acknowledged(self) -> int:
        return max((int(step.split()[1]) + 1 for step in self.steps() if " " in step), default=0)

    def start(self) -> BaseProcess:
        task = (self.store.folder, self.log, self.acknowledged(), EVENINGS, COMPACT_EVERY)
        writer = CONTEXT.Process(target=append_evenings, args=task)
        writer.start()
        return writer

    def reaches(self, step: str, since: int, writer: BaseProcess) -> bool:
        """Wait for a step of this writer; False if it ended without it."""
        while step not in self.steps()[since:]:
            if not writer.is_alive():
                return step in self.steps()[since:]
            time.sleep(0.001)
        return True

    def strike(self, chance: Random) -> str:
        """Start a writer and kill it; return what it was doing, "done" if it had ended."""
        since, writer = len(self.steps()), self.start()
        aim, seconds = chance.choice([("ready", 0.3), ("write", 0.02), ("compact", 0.08)])
        self.reaches(aim, since, writer)
        time.sleep(chance.uniform(0, seconds))
        writer.kill()
        writer.join()
        return (self.steps()[since:] or ["start"])[-1].split()[0]

    def check(self) -> None:
        """Look at what the killed writer left, as whoever reads next would."""
        seq, told = self.store.seq(), self.acknowledged()
        assert told <= seq <= told + 1  # one that died after its commit could not say so
        assert seq >= self.seq
        self.untold += seq - told
        self.seq = seq
        assert_versions(self.store, self.wanted, seq)

    def finish(self) -> None:
        writer = self.start()
        writer.join(120)
        assert writer.exitcode == 0
        assert self.steps()[-1] == "done"
        assert_versions(self.store, self.wanted, EVENINGS)
        assert self.store.seq() == EVENINGS
        self.store.compact(timedelta(0))
        assert leftovers(self.store) == []
        assert_versions(self.store, self.wanted, EVENINGS)


@pytest.mark.proof
def test_killed_two_hundred_times_it_ends_as_if_undisturbed(
    tmp_path: Path, writers: None, wanted: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delta_table, "_READER_GRACE", timedelta(0))
    chance, struck = Random(SEED), Counter[str]()
    stories = [Story(tmp_path / "0", wanted)]
    while struck.total() < KILLS:
        during = stories[-1].strike(chance)
        stories[-1].check()
        if during == "done":
            stories[-1].finish()
            stories.append(Story(tmp_path / f"{len(stories)}", wanted))
        else:
            struck[during] += 1
    stories[-1].finish()
    untold = sum(story.untold for story in stories)
    print(f"\nkilled {dict(struck)} in {len(stories)} stories; {untold} had committed and could not say so")
    assert min(struck["write"], struck["compact"]) >= KILLS / 8, struck


def assert_whole(versions: pd.DataFrame, writers: int) -> None:
    """Check that each append is there as a whole, and that no two have one seq."""
    contested = versions[versions["symbol"] == "C"]
    assert contested["seq"].tolist() == list(range(1, len(contested) + 1))
    assert versions["seq"].max() == len(contested)
    whose = contested.set_index("seq")["close"] // 1000 - 1
    assert set(whose) <= set(range(writers))
    own = versions[versions["symbol"].str.match("[WX]")]
    for name in ("W", "X"):
        rows = own[own["symbol"].str.startswith(name)].set_index("seq")["symbol"].str[1:].astype(int)
        pd.testing.assert_series_equal(rows.sort_index(), whose.astype(int), check_names=False)


@pytest.mark.proof
@pytest.mark.parametrize("crowd", [2, 4])
def test_concurrent_writers_lose_and_duplicate_nothing_and_concurrent_readers_see_whole_appends(
    tmp_path: Path, writers: None, crowd: int
) -> None:
    store, evenings, reads = PriceStore(tmp_path / "u"), 15, 0
    tasks = [(store.folder, writer, evenings) for writer in range(crowd)]
    those = [CONTEXT.Process(target=append_beside_others, args=task) for task in tasks]
    for writer in those:
        writer.start()
    while any(writer.is_alive() for writer in those):
        versions = store.versions()
        if not versions.empty:
            assert_whole(versions, crowd)
            reads += 1
        if reads % 10 == 9:  # the third kind of guest: who joins the files
            store.compact(timedelta(0))
    assert [writer.exitcode for writer in those] == [0] * crowd
    versions = store.versions()
    assert_whole(versions, crowd)
    assert reads >= 10
    assert store.seq() == crowd * evenings
    counts = versions["symbol"].value_counts().to_dict()
    own = {f"{name}{writer}": evenings for name in "WX" for writer in range(crowd)}
    # The bar that all writers have is written once; the close of T goes up and down as the writers overtake each other.
    assert counts.pop("T") >= evenings
    assert counts == {**own, "C": crowd * evenings, "S": evenings}
    for writer in range(crowd):
        for name, first in ((f"W{writer}", 100.0), (f"X{writer}", 101.0)):
            closes = versions.loc[versions["symbol"] == name, "close"]
            assert closes.tolist() == [first + evening for evening in range(evenings)]


def run_out(
    store: PriceStore, place: Path, work: Callable[[], object], wanted: pd.DataFrame, seq: int
) -> int:
    """Give a disk 4 KB more each time until some work is done; look at the store after each failure, and count them."""
    for failures in range(400):
        assert mount(place, f"remount,size={used_kilobytes(place) + 4 * failures + 4}k") == 0
        try:
            work()
        except StoreError as error:
            refused = error
        else:
            assert mount(place, "remount,size=64000k") == 0
            return failures
        assert refused.what == "The price store cannot be written: No space left on device"
        assert (refused.where, "disk space" in refused.fix) == (str(store.folder), True)
        assert store.seq() == seq
        assert_versions(store, wanted, seq)
    raise AssertionError("it never ends")


@pytest.mark.proof
def test_a_disk_that_is_full_at_any_page_of_an_append_or_a_compaction_loses_nothing(
    tmp_path: Path, wanted: pd.DataFrame
) -> None:
    with disk(tmp_path / "disk", 64_000) as place:
        store, failures = PriceStore(place / "u"), []
        for evening in range(EVENINGS):
            rows = evening_rows(evening)
            if evening % 9 == 8:
                failures.append(run_out(store, place, lambda: store.compact(timedelta(0)), wanted, evening))
                assert_versions(store, wanted, evening)
            if evening % 6 == 0:
                append = functools.partial(store.append, rows, run="r")
                failures.append(run_out(store, place, append, wanted, evening))
            else:
                store.append(rows, run="r")
            assert store.seq() == evening + 1
        assert_versions(store, wanted, EVENINGS)
    print(f"\nthe disk was full {failures} times")
    assert min(failures) >= 3


@pytest.mark.proof
def test_an_append_whose_log_checkpoint_finds_no_space_is_stored_and_not_repeated(tmp_path: Path) -> None:
    """Every hundredth append, deltalake sums its log up, after the commit."""
    places = {"A": pd.Timestamp("2018-12-10")}
    with disk(tmp_path / "disk", 64_000) as place:
        store, told = PriceStore(place / "u"), 0
        for evening in range(99):
            store.append(bars(evening, places, 10.0 + evening), run="r")
        last = bars(99, places, 109.0)
        for pages in range(1, 40):
            assert mount(place, f"remount,size={used_kilobytes(place) + 4 * pages}k") == 0
            try:
                written = store.append(last, run="r")
            except StoreError as error:
                told += "either all rows were appended or none" in error.fix
            else:
                break
        assert mount(place, "remount,size=64000k") == 0
        assert told == pages - 1 > 0
        assert written == 1  # the commit was made, and counts, though its sum found no space
        assert store.append(last, run="r") == 0
        assert store.versions()["close"].tolist() == [10.0 + evening for evening in range(100)]
        assert store.versions()["seq"].tolist() == list(range(1, 101))


def test_staged_files_of_a_killed_writer_are_removed_by_the_next_compaction(tmp_path: Path) -> None:
    store = PriceStore(tmp_path / "u")
    store.append(evening_rows(0), run="r")
    staged = [store.folder / "year=2018" / "part-0.parquet#1", store.folder / "_delta_log" / "1.json#2"]
    for path in staged:
        path.write_bytes(b"hal")
    assert len(store.read()) == 5
    store.compact(timedelta(days=30))
    assert [path for path in staged if path.exists()] == []


@pytest.mark.slow
def test_no_file_of_thirty_appends_and_a_compaction_holds_a_type_that_cannot_be_filtered(
    tmp_path: Path,
) -> None:
    store = PriceStore(tmp_path / "u")
    for evening in range(30):
        store.append(evening_rows(evening), run="r")
    store.compact(timedelta(0))
    files = [*store.folder.glob("year=*/*.parquet")]
    assert len(files) > 30
    assert [str(path) for path in files if "string_view" in str(pq.read_schema(path))] == []
    assert len(store.read(symbols=["A"])) == 30
