"""Checksums of a price store's files: damage on the disk is told by the file's name, before a price is read from it.

The list lies in the store's folder and has the form of sha256sum, after one line with the digest of the list itself. It
is written after each commit; a file that it does not name (of an earlier nextday, or of a writer that was killed or
found the disk full just then) is read unchecked, and named by the next append, even of no row.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Final

from pipeline.errors import NextdayError, StoreError
from pipeline.storage.files import write_text

__all__ = ["Checksums"]

_NAME: Final = "_checksums"
"""Delta's vacuum leaves files alone whose names begin with an underscore."""

_TITLE: Final = "# sha256 of the lines below: "
_LOG: Final = re.compile(r"_delta_log/(\d{20})\.(json|checkpoint\b.*)")
_THREADS: Final = 4
_SHOWN: Final = 3  # damaged files named in one message

_verified: dict[str, tuple[tuple[int, int, int], str]] = {}
"""What this process has hashed: the state of each file (inode, size, time of change) and its digest."""


class Checksums:
    """The checksums of one store.

    Args:
        folder: The store's folder, or that of its copies.
        fix: What a user can do about a damaged file.
        place: The store's address in messages; default: the folder.
    """

    def __init__(self, folder: Path, fix: str, place: str = "") -> None:
        self.folder, self.path, self._fix = folder, folder / _NAME, fix
        self._shown = place or str(folder)

    def check_log(self) -> int:
        """Check the files of the Delta log that the next read needs, and return the newest commit listed; -1: none.

        Raises:
            StoreError: one is damaged or missing, or the list is.
        """
        listed = self._read()
        while faults := self._find_faults(self._needed_log(listed)):
            again = self._read()
            if again == listed:
                raise self._damaged(faults)
            listed = again  # a maintenance was at work
        return max((version for version, is_commit in map(_log_place, listed) if is_commit), default=-1)

    def check_files(self, names: Iterable[str]) -> None:
        """Check files of the store, by their paths in its folder.

        Raises:
            StoreError: one is damaged or missing, or the list is.
        """
        listed = self._read()
        if faults := self._find_faults({name: listed[name] for name in names if name in listed}):
            raise self._damaged(faults)

    def missing(self, names: Iterable[str]) -> set[str]:
        """Return those of these files that have no checksum yet.

        Raises:
            StoreError: the list is damaged.
        """
        return {*names} - {*self._read()}

    def update(self, names: Iterable[str]) -> bool:
        """List the files of the newest version, log included, and return whether the list has changed.

        The caller holds the writer's lock.

        What is listed already is not hashed again: damage in the meantime must not become the truth. A list that cannot
        be written stays as it is: the commit stands without it, and the next update adds what is missing.

        Raises:
            StoreError: the list is damaged, or a file cannot be read.
        """
        listed = self._read()
        log = (f"_delta_log/{path.name}" for path in (self.folder / "_delta_log").iterdir())
        wanted = sorted({*names, *(name for name in log if _LOG.fullmatch(name))})
        try:
            now = {name: listed.get(name) or _digest(self._place(name)) for name in wanted}
        except OSError as error:
            raise StoreError(
                f"A price file cannot be read: {error.strerror}", where=str(error.filename), fix=self._fix
            ) from None
        if now != listed:
            lines = "".join(f"{digest}  {name}\n" for name, digest in now.items())
            with suppress(NextdayError):
                write_text(self.path, f"{_TITLE}{hashlib.sha256(lines.encode()).hexdigest()}\n{lines}")
                return True
        return False

    def _read(self) -> dict[str, str]:
        try:
            content = self.path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except OSError as error:
            raise self._unreadable(error.strerror or str(error)) from None
        title, _, lines = content.partition(b"\n")
        if title != f"{_TITLE}{hashlib.sha256(lines).hexdigest()}".encode():
            raise self._unreadable("it was changed or cut")
        pairs = (line.split("  ", 1) for line in lines.decode().splitlines())
        return {name: digest for digest, name in pairs}

    def _needed_log(self, listed: Mapping[str, str]) -> dict[str, str]:
        """Return the newest checkpoint and the commits after it: what came before is not read any more."""
        log = {name: _log_place(name) for name in listed if _LOG.fullmatch(name)}
        there = [f"_delta_log/{path.name}" for path in (self.folder / "_delta_log").glob("*.checkpoint*")]
        newest = max((_log_place(name)[0] for name in there), default=-1)
        start = max((version for version, is_commit in log.values() if not is_commit), default=-1)
        return {
            name: listed[name]
            for name, (version, is_commit) in log.items()
            if (version > start if is_commit else version == start)
            # A maintenance that was killed may have removed it, once a newer checkpoint held the same.
            and (newest <= start or version > newest or (self.folder / name).exists())
        }

    def _find_faults(self, listed: Mapping[str, str]) -> dict[str, str]:
        """Return what is wrong, by the file's name."""
        unread = [name for name in listed if not _is_verified(self._place(name))]
        if len(unread) > 1:
            with ThreadPoolExecutor(_THREADS) as pool:
                list(pool.map(self._find_fault, unread, map(listed.get, unread)))
        faults = {name: self._find_fault(name, digest) for name, digest in listed.items()}
        return {name: fault for name, fault in faults.items() if fault}

    def _find_fault(self, name: str, digest: str | None) -> str:
        try:
            return "" if _digest(self._place(name)) == digest else "its content has changed"
        except FileNotFoundError:
            return "it is missing"
        except OSError as error:
            return error.strerror or str(error)

    def _place(self, name: str) -> str:
        return f"{self.folder}/{name}"

    def _damaged(self, faults: Mapping[str, str]) -> StoreError:
        named = "; ".join(f"{name}: {fault}" for name, fault in [*faults.items()][:_SHOWN])
        more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        return StoreError(
            f"The prices are damaged, compared with their checksums: {named}{more}",
            where=f"{self._shown}/{next(iter(faults))}",
            fix=self._fix,
        )

    def _unreadable(self, why: str) -> StoreError:
        return StoreError(
            f"The checksums of the prices cannot be used: {why}",
            where=f"{self._shown}/{_NAME}",
            fix="restore it from a backup, or delete it: the next append then takes the files as they are",
        )


def _log_place(name: str) -> tuple[int, bool]:
    """Return the version of a file of the Delta log, -1 for another file, and whether it is a commit."""
    found = _LOG.fullmatch(name)
    return (int(found[1]), found[2] == "json") if found else (-1, False)


def _digest(path: str) -> str:
    """Return a file's sha256; one that has not changed since this process read it is not read again."""
    if not _is_verified(path):
        with open(path, "rb") as file:  # noqa: PTH123 -- of thousands of paths, most are only compared
            state = _state(os.fstat(file.fileno()))
            _verified[path] = state, hashlib.file_digest(file, "sha256").hexdigest()
    return _verified[path][1]


def _is_verified(path: str) -> bool:
    try:
        return path in _verified and _verified[path][0] == _state(os.stat(path))  # noqa: PTH116 -- as above
    except OSError:
        return False


def _state(facts: os.stat_result) -> tuple[int, int, int]:
    return facts.st_ino, facts.st_size, facts.st_mtime_ns
