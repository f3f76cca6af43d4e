"""Damage of the price files is told by the file's name before a price is read; what is whole raises no alarm."""

import hashlib
import shutil
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.errors import NextdayError, StoreError
from pipeline.market.calendar import Calendar
from pipeline.prices import checksums
from pipeline.prices.checksums import Checksums
from pipeline.prices.store import PriceStore
from tests.pipeline.prices.test_store import rows


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, xnys: Calendar) -> Path:
    """A store with a compaction, a checkpoint, and two commits after them."""
    folder = tmp_path_factory.mktemp("prices") / "u"
    store = PriceStore(folder)
    for evening in range(3):
        store.append(rows(xnys, [10.0 + evening, 11.0, 12.0]), run="r")
    store.compact(timedelta(0))
    for evening in range(3, 5):
        store.append(rows(xnys, [10.0 + evening, 11.0, 12.0, 13.0]), run="r")
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "u"))


def read_all(folder: Path) -> tuple[pd.DataFrame, int]:
    store = PriceStore(folder)
    return store.versions(), store.seq()


def needed(folder: Path) -> list[Path]:
    """Return the files that a read needs: the newest checkpoint, the commits after it, the data files."""
    log = sorted((folder / "_delta_log").glob("*.json"))
    checkpoint = max((folder / "_delta_log").glob("*.checkpoint.parquet"))
    listed = {line.split("  ")[1] for line in (folder / "_checksums").read_text().splitlines()[1:]}
    data = [path for path in folder.rglob("*.parquet") if str(path.relative_to(folder)) in listed]
    return [*(path for path in log if path.name[:20] > checkpoint.name[:20]), *data]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


@pytest.mark.parametrize("damage", [flip, cut, Path.unlink])
def test_each_file_that_a_read_needs_is_named_when_it_is_damaged(
    folder: Path, damage: Callable[[Path], None]
) -> None:
    files = needed(folder)
    assert len(files) > 4
    for path in files:
        whole = path.read_bytes()
        damage(path)
        with pytest.raises(StoreError, match="are damaged, compared with their checksums") as caught:
            read_all(folder)
        assert path.name in caught.value.what
        assert "nextday restore" in caught.value.fix
        path.unlink(missing_ok=True)
        path.write_bytes(whole)
    read_all(folder)


def test_all_damaged_files_are_named_at_once(folder: Path) -> None:
    damaged = [path for path in needed(folder) if path.parent.name.startswith("year")][:2]
    for path in damaged:
        flip(path)
    with pytest.raises(StoreError) as caught:
        read_all(folder)
    assert all(path.name in caught.value.what for path in damaged)


def test_a_damaged_list_is_named_and_may_be_deleted(folder: Path, xnys: Calendar) -> None:
    before, seq = read_all(folder)
    listed = folder / "_checksums"
    for damage in (flip, cut):
        whole = listed.read_bytes()
        damage(listed)
        with pytest.raises(StoreError, match="checksums of the prices cannot be used") as caught:
            read_all(folder)
        assert caught.value.where == str(listed)
        listed.write_bytes(whole)
    listed.unlink()
    pd.testing.assert_frame_equal(read_all(folder)[0], before)
    store = PriceStore(folder)
    assert store.count_unchecked() > 0
    store.append(rows(xnys, [20, 21]), run="r")
    assert (store.seq(), store.count_unchecked()) == (seq + 1, 0)


def test_a_store_of_an_earlier_version_is_read_and_completed(folder: Path, xnys: Calendar) -> None:
    (folder / "_checksums").unlink()
    store = PriceStore(folder)
    store.scan()
    store.append(rows(xnys, [20, 21]), run="r")
    flip(needed(folder)[-1])
    with pytest.raises(StoreError, match="its content has changed"):
        store.scan()


def test_a_commit_that_could_not_list_its_files_is_read_and_completed(
    folder: Path, xnys: Calendar, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer killed between its commit and the list."""
    with monkeypatch.context() as killed:
        killed.setattr(Checksums, "update", lambda self, names: None)
        PriceStore(folder).append(rows(xnys, [20, 21]), run="r")
    store = PriceStore(folder)
    assert store.read()["close"].min() == 12
    assert store.count_unchecked() == 1
    store.append(rows(xnys, [30, 31]), run="r")
    assert store.count_unchecked() == 0


def test_an_append_whose_list_finds_no_space_stands_and_the_next_one_completes_it(
    folder: Path, xnys: Calendar, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find_no_space(path: Path, text: str) -> None:
        raise NextdayError("Cannot write: No space left on device", where=str(path))

    with monkeypatch.context() as full:
        full.setattr(checksums, "write_text", find_no_space)
        assert PriceStore(folder).append(rows(xnys, [20, 21]), run="r") == 2
    store = PriceStore(folder)
    assert store.read()["close"].min() == 12
    assert store.count_unchecked() == 1
    assert store.append(rows(xnys, [20, 21]), run="r") == 0
    assert store.count_unchecked() == 0


def test_a_maintenance_that_was_killed_after_it_cleaned_the_log_raises_no_alarm(
    folder: Path, xnys: Calendar, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read_all(folder)[0]
    with monkeypatch.context() as killed:
        killed.setattr(Checksums, "update", lambda self, names: None)
        PriceStore(folder).compact(timedelta(0))
    checkpoint = max((folder / "_delta_log").glob("*.checkpoint.parquet")).name
    for path in (folder / "_delta_log").glob("*.json"):
        if path.name[:20] < checkpoint[:20]:
            path.unlink()
    pd.testing.assert_frame_equal(read_all(folder)[0], before)
    PriceStore(folder).compact(timedelta(0))
    pd.testing.assert_frame_equal(read_all(folder)[0], before)


def test_compaction_does_not_give_a_damaged_file_a_new_checksum(folder: Path) -> None:
    flip(next(path for path in needed(folder) if path.parent.name.startswith("year")))
    with pytest.raises(StoreError, match="its content has changed"):
        PriceStore(folder).compact(timedelta(0))


def test_the_list_can_be_checked_without_nextday(folder: Path) -> None:
    PriceStore(folder).compact(timedelta(0))
    tool = shutil.which("sha256sum")
    assert tool is not None
    done = subprocess.run(
        [tool, "--check", "--quiet", "_checksums"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    flip(needed(folder)[-1])
    assert (
        subprocess.run([tool, "--check", "--status", "_checksums"], cwd=folder, check=False).returncode == 1
    )


def test_only_the_files_of_the_wanted_sessions_are_compared(folder: Path) -> None:
    """A nightly read of recent sessions does not hash twenty years of prices."""
    (old,) = [path for path in needed(folder) if path.parent.name == "year=2018"][:1]
    flip(old)
    recent = PriceStore(folder).read(since=pd.Timestamp("2019-01-01"))
    assert not recent.empty
    with pytest.raises(StoreError):
        PriceStore(folder).read()


def test_what_was_read_once_is_not_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_all(folder)
    hashed = []
    monkeypatch.setattr(hashlib, "file_digest", lambda file, kind: hashed.append(file.name))
    read_all(folder)
    assert hashed == []


def test_a_version_number_that_forecasts_name_is_never_given_again(tmp_path: Path, xnys: Calendar) -> None:
    store = PriceStore(tmp_path / "u")
    store.append(rows(xnys, [10, 11]), run="r", above=41)
    assert store.seq() == 42
    store.append(rows(xnys, [10, 11, 12]), run="r", above=41)
    assert store.seq() == 43
    assert np.isfinite(store.read(seq=42)["close"]).all()
    assert store.read(seq=41).empty
