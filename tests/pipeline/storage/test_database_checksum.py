"""A changed byte of a SQLite file is told; a commit that was not noted is not mistaken for one."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.errors import StoreError
from pipeline.storage.database_checksum import check_database, note_database


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "u.sqlite"
    write(path, "CREATE TABLE held (symbol TEXT)")
    write(path, "INSERT INTO held VALUES ('ABC')")
    note_database(path)
    return path


def write(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(statement)


def test_every_changed_byte_is_told(path: Path) -> None:
    whole = path.read_bytes()
    check_database(path, "restore it")
    for place in [*range(0, 100, 7), whole.index(b"ABC"), len(whole) - 1]:
        changed = bytearray(whole)
        changed[place] ^= 1
        if changed[24:28] > whole[24:28] or changed[18:20] == b"\2\2":
            continue
        path.write_bytes(changed)
        with pytest.raises(StoreError, match="is damaged, compared") as error:
            check_database(path, "restore it")
        assert error.value.fix.startswith("restore it; ")
    for cut in (0, 50, 4096):
        path.write_bytes(whole[:cut])
        with pytest.raises(StoreError):
            check_database(path, "restore it")


def test_a_database_that_is_gone_is_told(path: Path) -> None:
    path.unlink()
    with pytest.raises(StoreError, match="is gone"):
        check_database(path, "restore it")


def test_a_commit_that_was_not_noted_is_taken_as_it_is(path: Path) -> None:
    write(path, "INSERT INTO held VALUES ('XYZ')")
    check_database(path, "restore it")
    note_database(path)
    check_database(path, "restore it")


def test_a_damaged_note_is_told_and_one_that_is_missing_is_not(path: Path) -> None:
    note = path.with_name("u.sqlite.sha256")
    note.write_text(note.read_text()[:20])
    with pytest.raises(StoreError) as error:
        check_database(path, "restore it")
    assert str(note) in error.value.fix
    note.unlink()
    check_database(path, "restore it")


def test_a_write_ahead_log_is_left_to_sqlite(path: Path) -> None:
    write(path, "PRAGMA journal_mode = WAL")
    write(path, "INSERT INTO held VALUES ('XYZ')")
    check_database(path, "restore it")
    note_database(path)
    check_database(path, "restore it")
