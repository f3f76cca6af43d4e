"""Whole files or none, and locks."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from pipeline.errors import NextdayError, WorkspaceBusyError

__all__ = ["hold_lock", "whole_file", "write_bytes", "write_text"]


@contextmanager
def hold_lock(path: Path, timeout: float, what: str = "this workspace") -> Iterator[None]:
    """Hold the lock of `what` at `path`, a file that is made with its folder.

    Raises:
        WorkspaceBusyError: another process held it for `timeout` seconds.
        NextdayError: it cannot be made.
    """
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=timeout)
    except Timeout:
        since = f" for {timeout:.0f} s" if timeout else ""
        raise WorkspaceBusyError(
            f"Another run has been working on {what}{since}; this one left",
            where=str(path),
            fix="nothing is lost: wait for the other one; what it finishes need not be done again",
        ) from None
    except OSError as error:
        raise NextdayError(
            f"The workspace cannot be locked: {error.strerror or error}",
            where=str(path),
            fix="look at the rights of that file and its folder",
        ) from None
    try:
        yield
    finally:
        lock.release()


def write_text(path: Path, text: str) -> None:
    """Write a whole file of UTF-8, as `write_bytes` does."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file or nothing, as `whole_file` does.

    Raises:
        NextdayError: the file cannot be written.
    """
    with whole_file(path) as file:
        file.write(content)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file to write it whole or not at all: readers see the old content or the new one.

    It has its name when the block ends, and not if the block fails. What a killed writer of the same file left
    half-written is removed.

    Raises:
        NextdayError: the file cannot be written.
    """
    half = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_halves(path)
        with half.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # else a power cut may leave the new name with nothing behind it
        half.replace(path)
    except OSError as error:
        raise NextdayError(
            f"Cannot write: {error.strerror}",
            where=str(path),
            fix="look at the path, its rights and the free space, then run this again",
        ) from None
    finally:
        with suppress(OSError):
            half.unlink(missing_ok=True)


def _remove_in_spite_of_signals(path: Path) -> None:
    """Remove a folder, also where a signal that ends the run comes while it is being removed."""
    try:
        shutil.rmtree(path, ignore_errors=True)
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise


def _remove_halves(path: Path) -> None:
    for half in path.parent.glob(f".{escape(path.name)}.*"):
        if _is_dead_half(half):
            half.unlink(missing_ok=True)


def _is_dead_half(path: Path) -> bool:
    writer = path.name.rsplit(".", 1)[-1]
    return writer.isdecimal() and not _is_alive(int(writer))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is somebody else's
        return True
    return True
