"""Back up a workspace while other runs may be writing to it, and restore it.

References are copied before the files that they refer to: first the ledger, the tracked runs and the lists of models,
then the prices, then everything else. Prices, models and settings are append-only, so everything that a copied row
names is in the backup. A backup gets its name only after it was unpacked and read again.
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
from pipeline.backup.wholeness import REPLACE, find_damage
from pipeline.errors import InputError, NextdayError
from pipeline.ledger.known_head import RECOVER, ledger_exists
from pipeline.ledger.ledger import Ledger
from pipeline.ledger.migration import migrate
from pipeline.ledger.verification import Verification
from pipeline.prices.ingest.fetch_log_tables import copy_logs, list_logs
from pipeline.prices.store import PriceStore
from pipeline.storage.backtest_folders import link_restored, list_links
from pipeline.storage.files import hold_lock
from pipeline.storage.ledger_database import LedgerDatabase
from pipeline.storage.workspace import Workspace

__all__ = ["Backup", "Contents", "StoredUniverse", "back_up", "newest", "restore"]

_LEFT_OUT: Final = {"cache", "locks", "prefect"}
_NAME: Final = "%Y-%m-%dT%H%M%SZ.tar"
_NAMES: Final = "20??-??-??T??????Z.tar"
_HEAD: Final = "ledger.head.json"
_POINTERS: Final = (
    *(f"models/*/{name}.json" for name in ("champion", "versions", "challengers", "promotions")),
    "trials/*.sha256",
)
_BUSY_SECONDS: Final = 60.0
_DAMAGED: Final = ("SQLITE_CORRUPT", "SQLITE_NOTADB")


@dataclass(frozen=True)
class StoredUniverse:
    """The price store of a universe in a backup: number of symbols, newest session, version."""

    name: str
    symbols: int
    last: pd.Timestamp | None
    seq: int


@dataclass(frozen=True)
class Contents:
    """The contents of a backup, as read from the unpacked files.

    Attributes:
        made_by, made_at: The version of nextday that made the backup, and when (UTC).
        files: Number of files.
        universes: Every price store.
        ledger: Result of the ledger's verification; None if there is no ledger.
    """

    made_by: str
    made_at: str
    files: int
    universes: list[StoredUniverse]
    ledger: Verification | None


@dataclass(frozen=True)
class Backup:
    """A new backup: its file, its contents, and the older backups that were removed."""

    path: Path
    contents: Contents
    removed: list[Path]


def back_up(
    home: Path,
    target: Path,
    *,
    now: datetime,
    keep: int,
    progress: Progress,
    digest: Callable[[Path], str],
    ledger_address: str = "",
) -> Backup:
    """Back up a workspace into one file; other runs may write to it meanwhile.

    Args:
        home: The workspace.
        target: A file that ends in .tar, which is replaced; otherwise a folder, in which the backup is named by `now`.
        now: The time, UTC.
        keep: In a folder: number of backups to keep, this one included.
        progress: Shows the progress.
        digest: Returns the model_version of the files in a folder; raises if they are not a model.

        ledger_address: [storage] ledger: a ledger and fetch logs on PostgreSQL go into the backup as files.

    Raises:
        InputError: there is no workspace, or the target cannot be used.
        LedgerError: the ledger is gone, or its database cannot be reached.
        WorkspaceBusyError: another backup is running in that folder.
        NextdayError: something cannot be read or written, or the backup does not read back. Older backups stay.
    """
    path = target if target.suffix == ".tar" else target / now.strftime(_NAME)
    _check_paths(Workspace(home), path)
    ledger = Workspace(home, ledger_address).ledger
    is_there = ledger_exists(ledger)  # one that was lost would be copied as none
    with (
        _explain_errors(path.parent),
        _work_folder(path.parent / ".nextday-backup.half", path.parent) as half,
    ):
        whole = half / "archive"
        whole.touch(0o600)
        with whole.open("wb") as file:
            packer = Packer(file)
            if isinstance(ledger, LedgerDatabase):
                _pack_exported(Workspace(home, ledger_address), packer, half / "exported", is_there)
            _pack(home, packer, half / "database", progress)
            packer.seal(now.isoformat(timespec="seconds"))
            file.flush()
            os.fsync(file.fileno())
        contents = _unpack_and_read(whole, half / "tried", home, progress)
        if damage := find_damage(half / "tried", digest):
            raise _unreadable("; ".join(damage), home, REPLACE)
        whole.replace(path)
    old = [] if path == target else sorted(path.parent.glob(_NAMES))[:-keep]
    for each in old:
        each.unlink(missing_ok=True)
    return Backup(path, contents, old)


def newest(place: Path) -> Path:
    """Return the newest backup in a folder; a file is returned as it is.

    Raises:
        InputError: there is none.
    """
    if not place.is_dir():
        return place
    found = sorted(place.glob(_NAMES))
    if not found:
        raise InputError(
            "There is no backup in this folder",
            where=str(place),
            fix="name the backup's file, or another folder",
        )
    return found[-1]


def restore(archive: Path, home: Path, *, progress: Progress) -> Contents:
    """Restore a workspace from a backup, completely or not at all; its path may differ from the original's.

    Args:
        archive: The backup's file.
        home: The workspace to create; it must be empty or missing.
        progress: Shows the progress.

    Raises:
        InputError: the workspace is not empty, or the file is not a complete backup.
        WorkspaceBusyError: another restore is running there.
        NextdayError: something cannot be written, or the backup was made by a newer nextday.
    """
    _check_empty(home)
    half = home.with_name(f"{home.name}.half")
    with _explain_errors(home.parent), _work_folder(half, half / "locks"):
        contents = _unpack_and_read(archive, half / "whole", archive, progress)
        link_restored(half / "whole")
        os.sync()  # otherwise a power failure may leave empty files under the new name
        _check_empty(home)
        (half / "whole").replace(home)
    return contents


def _check_paths(workspace: Workspace, path: Path) -> None:
    if not workspace.home.is_dir() or not any(workspace.home.iterdir()):
        raise InputError(
            "There is no workspace to back up", where=str(workspace.home), fix="name it with --home DIR"
        )
    workspace.check()
    if path.absolute().is_relative_to(workspace.home.absolute()):
        raise InputError(
            "A backup cannot lie inside the workspace that it copies",
            where=str(path),
            fix="name a path outside of it",
        )
    if path.is_dir():
        raise InputError(
            "The target of the backup ends in .tar, but is a folder",
            where=str(path),
            fix="name a file, or a folder without .tar",
        )


def _check_empty(home: Path) -> None:
    if home.exists() and (not home.is_dir() or any(home.iterdir())):
        raise InputError(
            "This workspace is not empty, and a restore overwrites nothing",
            where=str(home),
            fix=f"name another with --home DIR, or: mv {home} {home}.old",
        )


@contextmanager
def _explain_errors(place: Path) -> Iterator[None]:
    """Turn an error of the disk or of SQLite into a NextdayError."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise NextdayError(
            f"The backup or restore failed: {reason}",
            where=str(getattr(error, "filename", None) or place),
            fix="check disk space and permissions, then run this again; existing files are unchanged",
        ) from None


@contextmanager
def _work_folder(half: Path, locks: Path) -> Iterator[Path]:
    """Yield a private folder to work in, without what a killed run left in it, and remove it at the end."""
    half.mkdir(mode=0o700, parents=True, exist_ok=True)
    with hold_lock(locks / ".nextday-backup.lock", 0, f"the backups in {half.parent}"):
        for left in half.iterdir():
            if left != locks:
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        try:
            yield half
        finally:
            shutil.rmtree(half, ignore_errors=True)


def _pack(home: Path, packer: Packer, scratch: Path, progress: Progress) -> None:
    """Add every file, references before the files that they refer to."""
    if _HEAD not in packer.names:
        with suppress(FileNotFoundError):
            packer.add(_HEAD, home / _HEAD)
    for path in Workspace(home).databases:
        if _name(path, home) in packer.names:  # a file that was copied to PostgreSQL
            continue
        _copy_database(path, scratch)
        packer.add(_name(path, home), scratch)
        scratch.unlink()
    for pattern in _POINTERS:
        for path in home.glob(pattern):
            packer.add(_name(path, home), path)
    for name, content in list_links(home).items():
        scratch.write_bytes(content)
        packer.add(name, scratch)
        scratch.unlink()
    for store in _stores(home):
        with store.locked_files() as files:
            _add(packer, home, files, progress(f"copy prices {store.folder.name}", len(files)))
    done = packer.names
    rest = [path for path in _files(home) if _name(path, home) not in done]
    _add(packer, home, rest, progress("copy files", len(rest)))


def _pack_exported(workspace: Workspace, packer: Packer, folder: Path, has_ledger: bool) -> None:
    """Add the ledger and the fetch logs on PostgreSQL as the files that a restored workspace has."""
    exported, copy = Workspace(folder), folder / "database"
    if has_ledger:
        migrate(workspace.ledger, exported.ledger_file)
        packer.add(_HEAD, folder / _HEAD)
    copy_logs(workspace, exported, list_logs(workspace))
    for path in exported.databases:
        _copy_database(path, copy)
        packer.add(_name(path, folder), copy)
        copy.unlink()


def _add(
    packer: Packer, home: Path, paths: list[Path], shown: AbstractContextManager[Callable[[str], None]]
) -> None:
    with shown as advance:
        for path in paths:
            with suppress(FileNotFoundError):  # a file removed meanwhile was temporary
                packer.add(_name(path, home), path)
            advance(_name(path, home))


def _name(path: Path, home: Path) -> str:
    return path.relative_to(home).as_posix()


def _copy_database(path: Path, copy: Path) -> None:
    """Copy a database as of one moment, even while other processes write to it."""
    try:
        with (
            closing(
                sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=_BUSY_SECONDS)
            ) as one,
            closing(sqlite3.connect(copy)) as other,
        ):
            one.backup(other)
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorname", "") not in _DAMAGED:
            raise
        raise NextdayError(
            f"The database {path.name} is damaged: {error}",
            where=str(path),
            fix="restore it from an earlier backup, or move it away: what it held is lost then; "
            f"for the ledger: {RECOVER}",
        ) from None


def _stores(home: Path) -> list[PriceStore]:
    folders = sorted((home / "prices").glob("*"))
    return [PriceStore(folder) for folder in folders if (folder / "_delta_log").is_dir()]


def _files(home: Path) -> list[Path]:
    """Return the files outside of databases and price stores, without locks and hidden (half-written) files."""
    excluded = {*_LEFT_OUT, *(_name(store.folder, home) for store in _stores(home))}
    databases = [_name(path, home) for path in Workspace(home).databases]
    # A snapshot has another change counter than the file, so it gets a checksum of its own with its next commit.
    ends = ("", "-wal", "-shm", "-journal", ".sha256")
    database_files = {f"{name}{end}" for name in databases for end in ends}
    found = []
    for path in sorted(home.rglob("*")):
        name = path.relative_to(home)
        is_excluded = any(str(part) in excluded for part in [name, *name.parents])
        is_hidden = any(part.startswith(".") for part in name.parts) or path.suffix == ".lock"
        if path.is_file() and not (is_excluded or is_hidden or str(name) in database_files):
            found.append(path)
    return found


def _unpack_and_read(archive: Path, folder: Path, source: Path, progress: Progress) -> Contents:
    """Unpack a backup and read all of it; on return, the folder is a working workspace."""
    folder.mkdir(mode=0o700)
    manifest = unpack(archive, folder, progress)
    Workspace(folder).check()
    try:
        universes = [_describe_store(store) for store in _stores(folder)]
        ledger = Workspace(folder).ledger
        verification = Ledger(ledger, read_only=True).verify() if ledger_exists(ledger) else None
    except NextdayError as error:
        raise _unreadable(error.what, source) from None
    if verification and not verification.ok:
        raise _unreadable(f"the ledger's seal is broken: {verification.problems[0]}", source)
    return Contents(manifest.made_by, manifest.made_at, len(manifest.files), universes, verification)


def _describe_store(store: PriceStore) -> StoredUniverse:
    store.scan()
    bars = store.read(columns=[])
    last = None if bars.empty else bars["session"].max()
    return StoredUniverse(store.folder.name, bars["symbol"].nunique(), last, store.seq())


def _unreadable(why: str, source: Path, fix: str = "") -> NextdayError:
    return NextdayError(
        f"The backup does not read back. {why}",
        where=str(source),
        fix=fix or "`nextday doctor` finds damage in a workspace; earlier backups are unchanged",
    )
