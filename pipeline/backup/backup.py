"""Copies of a workspace, made while evenings run, and the way back.

What points goes before what it points at: the ledger, the tracked runs and the lists of models first, then the prices,
then everything else. Prices, models and settings are only added to, so all that a copied row names is in the copy.
A copy counts only after it was unpacked and read again.
"""

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import pandas as pd

from pipeline.backup.archive import Packer, Progress, unpack
from pipeline.errors import InputError, NextdayError
from pipeline.ledger.hash_chain import Verification
from pipeline.ledger.ledger import Ledger
from pipeline.prices.store import PriceStore
from pipeline.storage.files import hold_lock
from pipeline.storage.workspace import Workspace

__all__ = ["Backup", "Contents", "StoredUniverse", "back_up", "newest", "restore"]

_LEFT_OUT: Final = {"cache", "locks", "prefect"}
_NAME: Final = "%Y-%m-%dT%H%M%SZ.tar"
_NAMES: Final = "20??-??-??T??????Z.tar"
_POINTERS: Final = ("models/*/champion.json", "models/*/versions.json")
_BUSY_SECONDS: Final = 60.0


@dataclass(frozen=True)
class StoredUniverse:
    """The prices of a universe: how many symbols, the newest session, the version."""

    name: str
    symbols: int
    last: pd.Timestamp | None
    seq: int


@dataclass(frozen=True)
class Contents:
    """What a copy holds, as those who work with it read it.

    Attributes:
        made_by, made_at: Which nextday made the copy, and when (UTC).
        files: How many files it has.
        universes: Every price store.
        ledger: What its verification found; None where there is no ledger.
    """

    made_by: str
    made_at: str
    files: int
    universes: list[StoredUniverse]
    ledger: Verification | None


@dataclass(frozen=True)
class Backup:
    """A copy that was made: its file, what it holds, and the older ones that went."""

    path: Path
    contents: Contents
    removed: list[Path]


def back_up(home: Path, target: Path, *, now: datetime, keep: int, progress: Progress) -> Backup:
    """Copy a workspace into one file; evenings may run meanwhile.

    Args:
        home: The workspace.
        target: A file that ends in .tar, which is replaced; else a folder, in which the copy is named after `now`.
        now: The time, UTC.
        keep: In a folder: how many copies to keep, this one counted.
        progress: Shows the progress.

    Raises:
        InputError: there is no workspace, or the target cannot be one.
        WorkspaceBusyError: another backup is at work in that folder.
        NextdayError: something cannot be read or written, or the copy does not read back. Older copies stay.
    """
    path = target if target.suffix == ".tar" else target / now.strftime(_NAME)
    _check_places(Workspace(home), path)
    with _told(path.parent), _working(path.parent / ".nextday-backup.half", path.parent) as half:
        whole = half / "archive"
        whole.touch(0o600)
        with whole.open("wb") as file:
            packer = Packer(file)
            _pack(home, packer, half / "database", progress)
            packer.seal(now.isoformat(timespec="seconds"))
            file.flush()
            os.fsync(file.fileno())
        contents = _unpacked(whole, half / "tried", home, progress)
        whole.replace(path)
    old = [] if path == target else sorted(path.parent.glob(_NAMES))[:-keep]
    for each in old:
        each.unlink(missing_ok=True)
    return Backup(path, contents, old)


def newest(place: Path) -> Path:
    """Return the newest copy of a folder; a file is the copy itself.

    Raises:
        InputError: there is none.
    """
    if not place.is_dir():
        return place
    found = sorted(place.glob(_NAMES))
    if not found:
        raise InputError("There is no backup in this folder", where=str(place), fix="name its file")
    return found[-1]


def restore(archive: Path, home: Path, *, progress: Progress) -> Contents:
    """Make a workspace from a copy, whole or not at all; it may lie elsewhere than the one that was copied.

    Args:
        archive: The file.
        home: The workspace to make; there is nothing in it yet.
        progress: Shows the progress.

    Raises:
        InputError: the workspace is not empty, or the file is no whole backup.
        WorkspaceBusyError: another restore is at work there.
        NextdayError: something cannot be written, or a newer nextday made the copy.
    """
    _check_empty(home)
    half = home.with_name(f"{home.name}.half")
    with _told(home.parent), _working(half, half / "locks"):
        contents = _unpacked(archive, half / "whole", archive, progress)
        os.sync()  # else a power cut may leave the new name with nothing behind it
        _check_empty(home)
        (half / "whole").replace(home)
    return contents


def _check_places(workspace: Workspace, path: Path) -> None:
    if not workspace.home.is_dir() or not any(workspace.home.iterdir()):
        raise InputError(
            "There is no workspace to copy", where=str(workspace.home), fix="name it with --home DIR"
        )
    workspace.check()
    if path.absolute().is_relative_to(workspace.home.absolute()):
        raise InputError(
            "A backup inside of what it copies is none", where=str(path), fix="name a place elsewhere"
        )
    if path.is_dir():
        raise InputError("This is a folder", where=str(path), fix="name a file, or a folder without .tar")


def _check_empty(home: Path) -> None:
    if home.exists() and (not home.is_dir() or any(home.iterdir())):
        raise InputError(
            "There is something in this workspace already, and a restore overwrites nothing",
            where=str(home),
            fix=f"name another with --home DIR, or: mv {home} {home}.old",
        )


@contextmanager
def _told(place: Path) -> Iterator[None]:
    """Say in our words what the disk or SQLite has to complain about."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise NextdayError(
            f"The copy was broken off: {reason}",
            where=str(getattr(error, "filename", None) or place),
            fix="see to disk space and rights, then run this again; what was there before is unchanged",
        ) from None


@contextmanager
def _working(half: Path, locks: Path) -> Iterator[Path]:
    """Give a folder to work in, for its owner alone: what a killed one left in it goes, and in the end the folder."""
    half.mkdir(mode=0o700, parents=True, exist_ok=True)
    with hold_lock(locks / ".nextday-backup.lock", 0, f"the copies in {half.parent}"):
        for left in half.iterdir():
            if left != locks:
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        try:
            yield half
        finally:
            shutil.rmtree(half, ignore_errors=True)


def _pack(home: Path, packer: Packer, scratch: Path, progress: Progress) -> None:
    """Add every file, in an order in which nothing is named that is not there."""
    for path in Workspace(home).databases:
        _copy_database(path, scratch)
        packer.add(_name(path, home), scratch)
        scratch.unlink()
    for pattern in _POINTERS:
        for path in home.glob(pattern):
            packer.add(_name(path, home), path)
    for store in _stores(home):
        with store.locked_files() as files:
            _add(packer, home, files, progress(f"copy prices {store.folder.name}", len(files)))
    done = packer.names
    rest = [path for path in _files(home) if _name(path, home) not in done]
    _add(packer, home, rest, progress("copy files", len(rest)))


def _add(
    packer: Packer, home: Path, paths: list[Path], shown: AbstractContextManager[Callable[[str], None]]
) -> None:
    with shown as advance:
        for path in paths:
            with suppress(FileNotFoundError):  # one that vanishes meanwhile was not meant to stay
                packer.add(_name(path, home), path)
            advance(_name(path, home))


def _name(path: Path, home: Path) -> str:
    return path.relative_to(home).as_posix()


def _copy_database(path: Path, copy: Path) -> None:
    """Copy a database as of one moment, whoever writes to it."""
    with (
        closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=_BUSY_SECONDS)
        ) as one,
        closing(sqlite3.connect(copy)) as other,
    ):
        one.backup(other)


def _stores(home: Path) -> list[PriceStore]:
    folders = sorted((home / "prices").glob("*"))
    return [PriceStore(folder) for folder in folders if (folder / "_delta_log").is_dir()]


def _files(home: Path) -> list[Path]:
    """Return the files outside of the databases and the stores; what is hidden is being written or is a lock."""
    apart = {*_LEFT_OUT, *(_name(store.folder, home) for store in _stores(home))}
    databases = [_name(path, home) for path in Workspace(home).databases]
    sides = {f"{name}{end}" for name in databases for end in ("", "-wal", "-shm", "-journal")}
    found = []
    for path in sorted(home.rglob("*")):
        name = path.relative_to(home)
        is_apart = any(str(part) in apart for part in [name, *name.parents])
        is_hidden = any(part.startswith(".") for part in name.parts) or path.suffix == ".lock"
        if path.is_file() and not (is_apart or is_hidden or str(name) in sides):
            found.append(path)
    return found


def _unpacked(archive: Path, folder: Path, source: Path, progress: Progress) -> Contents:
    """Unpack a copy and read all of it: what this returns from is a workspace that works."""
    folder.mkdir(mode=0o700)
    manifest = unpack(archive, folder, progress)
    Workspace(folder).check()
    try:
        universes = [_examined(store) for store in _stores(folder)]
        ledger = Workspace(folder).ledger
        verification = Ledger(ledger, read_only=True).verify() if ledger.exists() else None
    except NextdayError as error:
        raise _unreadable(error.what, source) from None
    if verification and not verification.ok:
        raise _unreadable(f"the ledger's seal is broken: {verification.problems[0]}", source)
    return Contents(manifest.made_by, manifest.made_at, len(manifest.files), universes, verification)


def _examined(store: PriceStore) -> StoredUniverse:
    store.scan()
    bars = store.read(columns=[])
    last = None if bars.empty else bars["session"].max()
    return StoredUniverse(store.folder.name, bars["symbol"].nunique(), last, store.seq())


def _unreadable(why: str, source: Path) -> NextdayError:
    return NextdayError(
        f"The copy does not read back. {why}",
        where=str(source),
        fix="`nextday doctor` says what is damaged in a workspace; backups of before are as they were",
    )
