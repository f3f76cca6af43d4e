"""The checksum of a SQLite file with a rollback journal: a changed byte is told, where SQLite itself would not notice.

The note next to the file holds its sha256 and its change counter, which every commit raises. A higher counter in the
file means that another program wrote to it, or that a writer was killed before it could say so: such a file is taken
as it is, and checked again from the next note on.
"""

import hashlib
from pathlib import Path
from typing import Final

from pipeline.errors import StoreError
from pipeline.storage.files import write_text

__all__ = ["check_database", "note_database"]

_COUNTER: Final = slice(24, 28)  # of the file's header, big-endian
_FORMATS: Final = slice(18, 20)  # 1: a rollback journal, 2: a write-ahead log, where the counter stands still


def check_database(path: Path, fix: str) -> None:
    """Compare a database with its note; without one, or in WAL mode, nothing is compared.

    Raises:
        StoreError: the file is gone, or it or its note was changed or cut.
    """
    note = _place(path)
    if not note.exists() or Path(f"{path}-journal").exists():  # SQLite will roll back first
        return
    if not path.exists():
        raise StoreError(
            f"{path.name} is gone", where=str(path), fix=f"{fix}; to begin a new one, delete {note}"
        )
    content = path.read_bytes()
    counter, _, digest = note.read_text(encoding="utf-8", errors="replace").strip().partition(" ")
    if _is_in_wal_mode(content):
        return
    is_noted = counter.isascii() and counter.isdecimal() and len(counter) <= 10 and len(digest) == 64
    if is_noted and (_counter(content) > int(counter) or digest == hashlib.sha256(content).hexdigest()):
        return
    raise StoreError(
        f"{path.name} is damaged, compared with its checksum",
        where=str(path),
        fix=f"{fix}; to take it as it is, delete {note}",
    )


def note_database(path: Path) -> None:
    """Write down the checksum of a database that was just committed.

    Raises:
        NextdayError: the note cannot be written.
    """
    content = path.read_bytes()
    if not _is_in_wal_mode(content):
        write_text(_place(path), f"{_counter(content)} {hashlib.sha256(content).hexdigest()}\n")


def _place(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _counter(content: bytes) -> int:
    return int.from_bytes(content[_COUNTER], "big")


def _is_in_wal_mode(content: bytes) -> bool:
    return content[_FORMATS] == b"\x02\x02"
