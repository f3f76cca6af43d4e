"""Atomic writes of files, and locks."""

import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from pipeline.errors import NextdayError, WorkspaceBusyError

__all__ = [
    "atomic_write",
    "claimed_folder",
    "digest_files",
    "hold_lock",
    "measure_folder",
    "remove_abandoned",
    "remove_claimed",
    "remove_folder",
    "removed_at_end",
    "share_content",
    "write_bytes",
    "write_pages",
    "write_text",
]


@contextmanager
def hold_lock(path: Path, timeout: float, what: str = "this workspace") -> Iterator[None]:
    """Hold the lock of `what`: the file `path`, which is created with its folder.

    Raises:
        WorkspaceBusyError: another process held it for `timeout` seconds.
        NextdayError: the file cannot be created.
    """
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=timeout)
    except Timeout:
        since = f" for {timeout:.0f} s" if timeout else ""
        raise WorkspaceBusyError(
            f"Another run has been using {what}{since}; this run stopped",
            where=str(path),
            fix="nothing is lost: wait for the other run, whose results will not be computed again",
        ) from None
    except OSError as error:
        raise NextdayError(
            f"The workspace cannot be locked: {error.strerror or error}",
            where=str(path),
            fix="check the permissions of that file and its folder",
        ) from None
    try:
        yield
    finally:
        lock.release()


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8 atomically, as `write_bytes` does."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically, as `atomic_write` does.

    Raises:
        NextdayError: the file cannot be written.
    """
    with atomic_write(path) as file:
        file.write(content)


def write_pages(folder: Path, pages: Mapping[str, str]) -> None:
    """Write many files that can be made again, by their paths below `folder`: readers see the old content or the new.

    Unlike `write_text` it does not wait until the disk holds them, so hundreds take no longer than their bytes: a power
    cut may leave some of them empty, and the caller must be able to tell.

    Raises:
        NextdayError: a file cannot be written; those before it are.
    """
    for name, text in pages.items():
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with _replaced(path, is_awaited=False) as file:
                file.write(text.encode())
        except OSError as error:
            raise _cannot_write(path, error) from None


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a file for an atomic write: readers see the old content or the new one.

    A temporary file is renamed when the block ends, and removed if the block fails. Temporary files that killed
    writers of the same file have left are removed.

    Raises:
        NextdayError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f".{escape(path.name)}.*"):
            remove_abandoned(left)
        with _replaced(path, is_awaited=True) as file:
            yield file
    except OSError as error:
        raise _cannot_write(path, error) from None


@contextmanager
def _replaced(path: Path, *, is_awaited: bool) -> Iterator[BinaryIO]:
    """Open a temporary file that takes the name `path` when the block ends; `is_awaited`: once the disk holds it."""
    with _claimed_file(path) as (temporary, file):
        try:
            yield file
            file.flush()
            if is_awaited:
                os.fsync(file.fileno())  # otherwise a power cut may leave the new name with an empty file
            temporary.replace(path)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def _cannot_write(path: Path, error: OSError) -> NextdayError:
    return NextdayError(
        f"Cannot write: {error.strerror}",
        where=str(path),
        fix="check the path, its permissions and the free space, then run this again",
    )


@contextmanager
def _claimed_file(path: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """Open a new temporary file next to `path` that `remove_abandoned` leaves alone until the block ends."""
    while True:
        temporary = path.with_name(f".{path.name}.{secrets.randbelow(_NUMBERS)}")
        with temporary.open("xb") as file:
            if _is_claimed(file.fileno(), temporary):
                with removed_at_end(temporary):
                    yield temporary, file
                return


@contextmanager
def claimed_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Make a folder in `parent` that `remove_abandoned` leaves alone until the block ends, and remove it then.

    Raises:
        OSError: it cannot be made.
    """
    while True:
        path = parent / f"{prefix}{secrets.randbelow(_NUMBERS)}"
        path.mkdir(parents=True)
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            continue
        try:
            if _is_claimed(descriptor, path):
                with removed_at_end(path):
                    try:
                        yield path
                    finally:
                        remove_folder(path)
                return
        finally:
            os.close(descriptor)


_claimed: set[Path] = set()
"""The temporary files and folders of this process."""


@contextmanager
def removed_at_end(path: Path) -> Iterator[None]:
    """Let `remove_claimed` remove the file or folder, if this process ends inside the block."""
    _claimed.add(path)
    try:
        yield
    finally:
        _claimed.discard(path)


def remove_claimed() -> None:
    """Remove this process's temporary files and folders, right before it ends inside of their blocks."""
    for path in list(_claimed):
        if path.is_dir():
            remove_folder(path)
        with suppress(OSError):
            path.unlink()


def remove_abandoned(path: Path) -> bool:
    """Remove a temporary file or folder whose maker has ended, and return whether it was one.

    Its maker holds a lock on it, which ends with the process, however that ends. A process id would not do: another
    container that shares the workspace has other ones. A file system without such locks keeps what was left.
    """
    if not path.name.rpartition(".")[2].isdecimal():
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        if not _lock(descriptor):
            return False
        if path.is_dir():
            remove_folder(path)
        else:
            path.unlink(missing_ok=True)
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)


_NUMBERS = 10**12


def _is_claimed(descriptor: int, path: Path) -> bool:
    """Lock what this process has just made; False if `remove_abandoned` came in between."""
    try:
        return _lock(descriptor) and path.exists()
    except OSError:  # no such locks here, so nothing removes it either
        return True


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def digest_files(folder: Path) -> dict[str, str]:
    """Return the sha256 of each file in a folder, by name; hidden (half-written) ones are left out.

    Raises:
        OSError: the folder or a file cannot be read.
    """
    paths = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def measure_folder(path: Path) -> int:
    """Return the bytes that go with a folder: of all files below it but those with another name elsewhere."""
    found = [file.stat() for file in path.rglob("*") if file.is_file()]
    return sum(each.st_size for each in found if each.st_nlink == 1)


def share_content(original: Path, copy: Path) -> None:
    """Let an equal copy be another name of the original, which takes no space; where that cannot be, it stays a copy.

    Whoever writes the original anew, as this module does, leaves the copy as it is.
    """
    link = copy.with_name(f".{copy.name}.link")
    with suppress(OSError):
        link.unlink(missing_ok=True)
        link.hardlink_to(original)
        try:
            link.replace(copy)
        finally:
            link.unlink(missing_ok=True)


def remove_folder(path: Path) -> None:
    """Remove a folder, even if a signal that ends the run arrives during the removal."""
    try:
        shutil.rmtree(path, ignore_errors=True)
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise
