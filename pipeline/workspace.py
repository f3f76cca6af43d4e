"""The workspace: one folder that holds everything made at run time."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.errors import InputError, NextdayError, WorkspaceBusyError

__all__ = ["Workspace", "write_text"]


@dataclass(frozen=True)
class Workspace:
    """Where things lie. Paths only; `create` makes the folder."""

    home: Path

    @property
    def ledger(self) -> Path:
        """The sealed ledger of every universe."""
        return self.home / "ledger.sqlite"

    @property
    def reports(self) -> Path:
        """One folder a universe, in it one a target session."""
        return self.home / "reports"

    @property
    def cache(self) -> Path:
        """What can be deleted without loss."""
        return self.home / "cache"

    def prices(self, universe: str) -> Path:
        """The price store of a universe."""
        return self.home / "prices" / universe

    def model(self, universe: str, version: str) -> Path:
        """The files of one model."""
        return self.home / "models" / universe / version

    def evaluation(self, universe: str, version: str) -> Path:
        """What the training of one model found out about its procedure."""
        return self.home / "evaluations" / universe / version

    def create(self) -> None:
        """Make the folder.

        Raises:
            InputError: it cannot be made or written to.
        """
        way_out = "name another folder with --home DIR"
        try:
            self.home.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise InputError("The workspace is no folder", where=str(self.home), way_out=way_out) from None
        except OSError as error:
            raise InputError(
                f"The workspace cannot be made: {error.strerror}", where=str(self.home), way_out=way_out
            ) from None
        if not os.access(self.home, os.W_OK):
            raise InputError("The workspace cannot be written to", where=str(self.home), way_out=way_out)

    @contextmanager
    def locked(self, universe: str, *, timeout: float, tell: Callable[[str], None]) -> Iterator[None]:
        """Hold the universe's lock: one run at a time writes.

        Args:
            universe: Whose.
            timeout: Seconds to wait for another run.
            tell: Called once if there is one to wait for.

        Raises:
            WorkspaceBusyError: another run held it for `timeout` seconds.
        """
        folder = self.home / "locks"
        lock = FileLock(folder / f"{universe}.lock")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _acquire(lock, universe, timeout, tell)
        except Timeout:
            raise WorkspaceBusyError(
                f"Another run has been working on the universe {universe!r} for {timeout:.0f} s; this one left",
                where=str(self.home),
                way_out="nothing is lost: what the other run finishes need not be done again",
            ) from None
        except OSError as error:
            raise NextdayError(
                f"The workspace cannot be locked: {error.strerror or error}",
                where=lock.lock_file,
                way_out="look at the rights of that file and its folder",
            ) from None
        try:
            yield
        finally:
            lock.release()


def _acquire(lock: FileLock, universe: str, timeout: float, tell: Callable[[str], None]) -> None:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        tell(
            f"another run is working on the universe {universe!r}; waiting for up to {timeout / 60:.0f} minutes"
        )
        lock.acquire(timeout=timeout)


def write_text(path: Path, text: str) -> None:
    """Write a whole file or nothing: readers see the old text or the new one.

    Raises:
        NextdayError: the file cannot be written.
    """
    half = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        half.write_text(text, encoding="utf-8", newline="")
        half.replace(path)
    except OSError as error:
        with suppress(OSError):
            half.unlink(missing_ok=True)
        raise NextdayError(
            f"Cannot write: {error.strerror}",
            where=str(path),
            way_out="look at the path, its rights and the free space, then run this again",
        ) from None
