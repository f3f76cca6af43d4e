"""The place of a Delta table: a local folder, or an object store with copies of its files in the cache.

What reads does so from local files, of either; each is compared with its checksum first.
"""

import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from deltalake import DeltaTable

from pipeline.errors import StoreError
from pipeline.prices.checksums import Checksums
from pipeline.prices.object_store import ObjectStore, describe_failure, is_failure
from pipeline.storage.files import atomic_write

__all__ = ["TableLocation"]

_FIX = (
    "restore the workspace from a backup (nextday restore); without one, move that folder away: the next run fetches "
    "the history again, but sealed forecasts can no longer be replayed"
)

_REMOTE_FIX = (
    "copy the prices of a backup there (nextday restore, then nextday prices copy); without one, move what is there "
    "away: the next run fetches the history again, but sealed forecasts can no longer be replayed"
)


class TableLocation:
    """The files of one table.

    Attributes:
        folder: The local files: the table's own, or the copies of an object store's.
        url: The address on an object store; "" for a folder.
        name: The one or the other, as messages name it and as deltalake opens it.
        options: What deltalake needs to open it.
        checksums: The checksums of the files.

    Args:
        folder: See above.
        url: See above.
    """

    def __init__(self, folder: Path, url: str = "") -> None:
        self.folder, self.url, self.name = folder, url, url or str(folder)
        self._fix = _REMOTE_FIX if url else _FIX
        self._remote = ObjectStore(url, folder) if url else None
        self.options = self._remote.options if self._remote else None
        self.checksums = Checksums(folder, self._fix, self.name)

    @contextmanager
    def refreshed(self) -> Iterator[None]:
        """Bring the copies of an object store's log up to date, and keep them so within the block.

        Raises:
            StoreError: the store does not answer, or refuses.
        """
        if self._remote is None:
            yield
            return
        with self._remote.locked():
            self._remote.refresh(self.checksums.path.name)
            yield

    def fetch(self, names: Iterable[str]) -> None:
        """Have local files under these names.

        Raises:
            StoreError: the store does not answer, or refuses.
        """
        if self._remote:
            self._remote.fetch(names)

    def check_log(self) -> int:
        """Compare the log with its checksums, inside `refreshed`: see `Checksums.check_log`.

        Raises:
            StoreError: a file is damaged or missing.
        """
        try:
            return self.checksums.check_log()
        except StoreError:
            if self._remote is None:
                raise
        self._remote.forget()  # it may be the copy that is damaged
        self._remote.refresh(self.checksums.path.name)
        return self.checksums.check_log()

    def check_files(self, names: Sequence[str]) -> None:
        """Have local files under these names, and compare them with their checksums.

        Raises:
            StoreError: a file is damaged or missing, or the store does not answer.
        """
        self.fetch(names)
        try:
            self.checksums.check_files(names)
        except StoreError:
            if self._remote is None:
                raise
            self._remote.forget(names)
            self._remote.fetch(names)
            self.checksums.check_files(names)

    def record(self, names: Sequence[str]) -> bool:
        """Add the missing checksums of these files and of the log, and return whether the list has changed.

        Raises:
            StoreError: a file cannot be read, or the store does not answer.
        """
        if self._remote is None:
            return self.checksums.update(names)
        with self.refreshed():
            self.fetch(self.checksums.missing(names))
            if not self.checksums.update(names):
                return False
            self._remote.upload(self.checksums.path.name, self.checksums.path)
            return True

    def open(self, version: int | None = None) -> DeltaTable:
        """Return a version of the table where it is written: on the object store, not the copies."""
        return DeltaTable(self.name, version=version, storage_options=self.options)

    def log_files(self) -> list[Path]:
        """Return the local files of the log, and that of the checksums."""
        log = sorted(path for path in (self.folder / "_delta_log").rglob("*") if path.is_file())
        return [*log, *([self.checksums.path] if self.checksums.path.exists() else [])]

    def commit(self, version: int) -> str:
        """Return the text of a commit, "" where there is none."""
        path = self.folder / "_delta_log" / f"{version:020}.json"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def size(self) -> tuple[int, int]:
        """Return the number of all files, and their bytes.

        Raises:
            StoreError: the store does not answer, or refuses.
        """
        if self._remote:
            sizes = [*self._remote.sizes().values()]
        else:
            sizes = [path.stat().st_size for path in self.folder.rglob("*") if path.is_file()]
        return len(sizes), sum(sizes)

    def names(self) -> set[str]:
        """Return the names of all files.

        Raises:
            StoreError: the store does not answer, or refuses.
        """
        if self._remote:
            return {*self._remote.sizes()}
        found = (path for path in self.folder.rglob("*") if path.is_file())
        return {path.relative_to(self.folder).as_posix() for path in found}

    def put(self, name: str, path: Path) -> None:
        """Store a local file under a name, all of it or nothing.

        Raises:
            NextdayError: it cannot be written, or the store does not answer.
        """
        if self._remote:
            self._remote.upload(name, path)
            return
        with path.open("rb") as file, atomic_write(self.folder / name) as copy:
            shutil.copyfileobj(file, copy)

    def remove_staged(self) -> None:
        """Remove what a killed writer left in a folder.

        deltalake stages a file under such a name and never lists it, so its vacuum cannot find it.
        """
        for path in self.folder.rglob("*#*"):
            if path.name.rpartition("#")[2].isdecimal():
                path.unlink(missing_ok=True)

    def prune(self) -> None:
        """Remove the copies of files that an object store has no more.

        Raises:
            StoreError: the store does not answer, or refuses.
        """
        if self._remote:
            with self._remote.locked():
                self._remote.prune()

    def unreadable(self, error: Exception) -> StoreError:
        """Return the error of a failed read."""
        if self.url and is_failure(error):
            return describe_failure(error, self.url, "what is stored stays as it is")
        reason = str(error).split("\n")[0]
        return StoreError(
            f"The price store cannot be read: {reason:.200}",
            where=self.name,
            fix=self._fix,
        )

    def unwritable(self, error: Exception, outcome: str) -> StoreError:
        """Return the error of a failed write, with what became of the rows."""
        if self.url and is_failure(error):
            return describe_failure(error, self.url, outcome)
        return StoreError(
            f"The price store cannot be written: {_cause(error):.200}",
            where=self.name,
            fix=f"{outcome}; check disk space and permissions, then run again",
        )


def _cause(error: Exception) -> str:
    """Return an error's message on one line; of a chain that ends in an OS error, only that one's message."""
    message = " ".join(re.sub(r"\x1b\[\d+m|↳", "", str(error)).split())
    os_error = re.search(r"([A-Z][^:A-Z]*) \(os error \d+\)$", message)
    return os_error[1] if os_error else message
