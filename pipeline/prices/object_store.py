"""The files of a price store on an object store, and their copies in the workspace's cache, which all reads use.

The files of a Delta table never change once written, so a copy is as good as the original: a read lists the store's log
and fetches what is new. Keys and endpoint come from the environment (AWS_*), and no message repeats an answer of the
server: it may hold a key's name.
"""

import os
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pyarrow.fs as pa_fs
from deltalake.fs import DeltaStorageHandler

from pipeline.errors import StoreError, StoreUnreachableError
from pipeline.storage.files import atomic_write, hold_lock

__all__ = ["ObjectStore", "describe_failure", "is_failure"]

_LOG: Final = "_delta_log"
_COPIED: Final = re.compile(r"\d{20}\.(json|checkpoint\b.*)")
"""What of the log is copied; its hint at the last checkpoint is the one file that changes, and only saves a listing."""

_THREADS: Final = 8
_CHUNK: Final = 1 << 20
_LOCK_TIMEOUT: Final = 600.0  # seconds
_ATTEMPTS: Final = 3
_OPTIONS: Final = {"max_retries": "4", "retry_timeout": "60s", "connect_timeout": "5s", "timeout": "60s"}
_ENDPOINTS: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")


class ObjectStore:
    """A folder of an object store.

    Args:
        url: Its address, e.g. s3://bucket/prefix/universe.
        copies: The local folder of the copies; it can be deleted without loss.
    """

    def __init__(self, url: str, copies: Path) -> None:
        self.url, self.copies = url, copies
        # Two writers never make the same commit: the store creates an object only where there is none.
        self.options = _OPTIONS | ({"aws_conditional_put": "etag"} if url.startswith("s3:") else {})

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Let no other process of this machine change the copies within the block.

        Raises:
            WorkspaceBusyError: another process did for too long.
        """
        path = self.copies.with_name(f".{self.copies.name}.copies.lock")
        with hold_lock(path, _LOCK_TIMEOUT, f"the copies of {self.url}"):
            yield

    def refresh(self, listed: str) -> None:
        """Bring the copies of the log and of the file `listed` up to date; the caller holds the lock.

        Raises:
            StoreUnreachableError: the store does not answer, or refuses.
        """
        for attempt in range(_ATTEMPTS):
            try:
                # First the checksums: they then name no commit that is not in the log.
                self._refresh_file(listed)
                self._refresh_log()
                return
            except FileNotFoundError:  # a maintenance elsewhere has just removed it
                if attempt == _ATTEMPTS - 1:
                    raise self._failed(OSError("its log changes all the time")) from None
            except OSError as error:
                raise self._failed(error) from None

    def fetch(self, names: Iterable[str]) -> None:
        """Copy the files that are not there yet; one that the store lacks is left out.

        Raises:
            StoreUnreachableError: the store does not answer, or refuses.
        """

        def copy(name: str) -> None:
            try:
                self._copy(name)
            except FileNotFoundError:
                return

        missing = [name for name in names if not (self.copies / name).exists()]
        try:
            with ThreadPoolExecutor(_THREADS) as pool:
                list(pool.map(copy, missing))
        except OSError as error:
            raise self._failed(error) from None

    def forget(self, names: Iterable[str] | None = None) -> None:
        """Delete the copies of these files; default: of the log."""
        log = [f"{_LOG}/{path.name}" for path in (self.copies / _LOG).glob("*")]
        for name in log if names is None else names:
            (self.copies / name).unlink(missing_ok=True)

    def upload(self, name: str, path: Path) -> None:
        """Store a local file under a name, all of it or nothing.

        Raises:
            StoreUnreachableError: the store does not answer, or refuses.
        """
        try:
            with path.open("rb") as file, self._files.open_output_stream(name, buffer_size=2 * _CHUNK) as out:
                while part := file.read(_CHUNK):
                    out.write(part)
        except OSError as error:
            raise self._failed(error) from None

    def sizes(self) -> dict[str, int]:
        """Return the bytes of every file by its name.

        Raises:
            StoreUnreachableError: the store does not answer, or refuses.
        """
        try:
            return {each.path: each.size for each in self._list("", recursive=True)}
        except OSError as error:
            raise self._failed(error) from None

    def prune(self) -> None:
        """Delete the copies of files that the store has no more; the caller holds the lock."""
        kept = {*self.sizes()}
        for path in self.copies.rglob("*"):
            if path.is_file() and path.relative_to(self.copies).as_posix() not in kept:
                path.unlink(missing_ok=True)

    @cached_property
    def _files(self) -> pa_fs.FileSystem:
        return pa_fs.PyFileSystem(DeltaStorageHandler(self.url, self.options))

    def _list(self, folder: str, *, recursive: bool = False) -> list[pa_fs.FileInfo]:
        chosen = pa_fs.FileSelector(folder, allow_not_found=True, recursive=recursive)
        return [each for each in self._files.get_file_info(chosen) if each.type == pa_fs.FileType.File]

    def _refresh_file(self, name: str) -> None:
        path = self.copies / name
        try:
            with self._files.open_input_stream(name) as stream:
                content = stream.read()
        except FileNotFoundError:
            path.unlink(missing_ok=True)
            return
        if not path.exists() or path.read_bytes() != content:
            with atomic_write(path) as file:
                file.write(content)

    def _refresh_log(self) -> None:
        there = {each.base_name: each for each in self._list(_LOG) if _COPIED.fullmatch(each.base_name)}
        folder = self.copies / _LOG
        folder.mkdir(parents=True, exist_ok=True)
        copied = {path.name: path.stat() for path in folder.iterdir()}
        for name in copied.keys() - there.keys():
            (folder / name).unlink(missing_ok=True)
        changed = [
            each
            for name, each in there.items()
            if name not in copied or (copied[name].st_size, copied[name].st_mtime_ns) != _state(each)
        ]
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(lambda each: self._copy(each.path, each.mtime_ns), changed))

    def _copy(self, name: str, changed_at: int | None = None) -> None:
        with self._files.open_input_stream(name) as stream, atomic_write(self.copies / name) as file:
            while part := stream.read(_CHUNK):
                file.write(part)
            file.flush()
            if changed_at is not None:
                os.utime(file.fileno(), ns=(changed_at, changed_at))

    def _failed(self, error: Exception) -> StoreError:
        return describe_failure(error, self.url, "what is stored stays as it is")


def is_failure(error: Exception) -> bool:
    """Return whether an error of deltalake is about the connection or the server, not about the table's content."""
    return bool(
        re.search(r"Generic \S+ error|Error performing [A-Z]+|necessary privileges|builder error", str(error))
    )


def describe_failure(error: Exception, url: str, outcome: str) -> StoreUnreachableError:
    """Return the error that names bucket, endpoint and what to do; the server's own words are left out."""
    text = str(error)
    status = re.search(r"\b([45]\d\d) [A-Z][a-z]+", text)
    code = status[1] if status else ""
    if "NoSuchBucket" in text:
        what, fix = "does not have this bucket", "create the bucket, or correct [storage] prices"
    elif code in {"401", "403"} or "necessary privileges" in text:
        what = f"refuses access ({code or '403'})"
        fix = "check the keys (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) and what they may do in this bucket"
    elif code:
        what, fix = f"answers with errors ({code})", "wait until it works again"
    elif "Error performing" in text or "credential" in text.lower():
        what = "cannot be reached"
        fix = "check the network, AWS_ENDPOINT_URL, AWS_REGION and the keys"
    else:
        what, fix = "cannot be used", "check [storage] prices and the AWS_* variables"
    return StoreUnreachableError(
        f"The object store of the prices {what}",
        where=f"{url} at {_endpoint()}",
        fix=f"{fix}, then run this again; {outcome}",
    )


def _endpoint() -> str:
    """Return the server's address without a user, a password or a query."""
    given = next((os.environ[name] for name in _ENDPOINTS if os.environ.get(name)), "")
    parts = urlsplit(given)
    return (
        f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if parts.netloc else "the provider's endpoint"
    )


def _state(facts: pa_fs.FileInfo) -> tuple[int, int]:
    return facts.size, facts.mtime_ns
