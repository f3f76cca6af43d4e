"""Atomic writes of files, and locks."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from pipeline.errors import NextdayError, WorkspaceBusyError

__all__ = [
    "atomic_write",
    "digest_files",
    "hold_lock",
    "is_dead_temporary",
    "remove_folder",
    "write_bytes",
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


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a file for an atomic write: readers see the old content or the new one.

    A temporary file is renamed when the block ends, and removed if the block fails. Temporary files that killed
    writers of the same file have left are removed.

    Raises:
        NextdayError: the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_dead_temporaries(path)
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # otherwise a power cut may leave the new name with an empty file
        temporary.replace(path)
    except OSError as error:
        raise NextdayError(
            f"Cannot write: {error.strerror}",
            where=str(path),
            fix="check the path, its permissions and the free space, then run this again",
        ) from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def digest_files(folder: Path) -> dict[str, str]:
    """Return the sha256 of each file in a folder, by name; hidden (half-written) ones are left out.

    Raises:
        OSError: the folder or a file cannot be read.
    """
    paths = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def remove_folder(path: Path) -> None:
    """Remove a folder, even if a signal that ends the run arrives during the removal."""
    try:
        shutil.rmtree(path, ignore_errors=True)
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise


def _remove_dead_temporaries(path: Path) -> None:
    for temporary in path.parent.glob(f".{escape(path.name)}.*"):
        if is_dead_temporary(temporary):
            temporary.unlink(missing_ok=True)


def is_dead_temporary(path: Path) -> bool:
    """Return whether a file is a temporary one whose writer, named by its process id, is dead."""
    writer = path.name.rsplit(".", 1)[-1]
    return writer.isdecimal() and not _is_alive(int(writer))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it belongs to another user
        return True
    return True
