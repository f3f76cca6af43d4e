"""A folder of an object store that people read: whole files with their media type, copied where they have changed.

Keys and endpoint come from the environment (AWS_*), and no message repeats an answer of the server.
"""

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pyarrow.fs as pa_fs

from pipeline.errors import CopyError

__all__ = ["ObjectFolder", "State"]

_MEDIA: Final = {
    ".html": "text/html; charset=utf-8",
    ".csv": "text/csv; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
"""A browser shows what it is told is a page, and stores everything else."""

_THREADS: Final = 8
_ATTEMPTS: Final = 4
_CONNECT_SECONDS, _REQUEST_SECONDS = 5.0, 60.0
_ENDPOINTS: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")

State = dict[str, tuple[int, int]]
"""Size in bytes and time of the last change (ns) of a local file, by its name."""


@dataclass(frozen=True)
class ObjectFolder:
    """A folder of an object store.

    Attributes:
        url: Its address, s3://bucket/prefix.
    """

    url: str

    def sizes(self) -> dict[str, int]:
        """Return the bytes of every file in the folder, by its name.

        Raises:
            CopyError: the store does not answer, or refuses.
        """
        chosen = pa_fs.FileSelector(self._root, allow_not_found=True, recursive=True)
        try:
            found = self._files.get_file_info(chosen)
            bucket = self._root.partition("/")[0]
            if not found and self._files.get_file_info(bucket).type == pa_fs.FileType.NotFound:
                raise OSError("NO_SUCH_BUCKET")
        except OSError as error:
            raise self._failed(error) from None
        return {each.path.removeprefix(f"{self._root}/"): each.size for each in found if each.is_file}

    def write(self, name: str, path: Path) -> None:
        """Write a local file under a name, all of it or nothing.

        Raises:
            CopyError: the store does not answer, or refuses.
        """
        media = _MEDIA.get(path.suffix, "application/octet-stream")
        content = path.read_bytes()
        try:
            with self._files.open_output_stream(
                f"{self._root}/{name}", metadata={"Content-Type": media}
            ) as out:
                out.write(content)
        except OSError as error:
            raise self._failed(error) from None

    def copy(self, folder: Path, names: Sequence[str], last: Sequence[str], copied: State) -> int:
        """Write the files that the store lacks, or has otherwise; nothing is ever removed.

        Args:
            folder: The local folder.
            names: The files below it.
            last: Those that are written after all of them, in this order: what links to the others.
            copied: What earlier copies have written; it is brought up to date, also where this one fails.

        Returns:
            How many files were written.

        Raises:
            CopyError: the store does not answer, or refuses.
        """
        there = self.sizes()
        now = {name: _describe(folder / name) for name in (*names, *last)}
        for name in [
            name for name in copied if copied[name] != now.get(name) or there.get(name) != now[name][0]
        ]:
            del copied[name]

        def write(name: str) -> None:
            self.write(name, folder / name)
            copied[name] = now[name]

        lacking = now.keys() - copied.keys()
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(write, [name for name in names if name in lacking]))
        for name in last:
            if name in lacking:
                write(name)
        return len(lacking)

    @cached_property
    def _files(self) -> pa_fs.S3FileSystem:
        server = urlsplit(_endpoint())
        return pa_fs.S3FileSystem(
            region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1",
            endpoint_override=server.netloc or None,
            scheme=server.scheme or "https",
            allow_delayed_open=True,  # one request for a small file
            connect_timeout=_CONNECT_SECONDS,
            request_timeout=_REQUEST_SECONDS,
            retry_strategy=pa_fs.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
        )

    @property
    def _root(self) -> str:
        return self.url.removeprefix("s3://").rstrip("/")

    def _failed(self, error: OSError) -> CopyError:
        text = str(error)
        if "NO_SUCH_BUCKET" in text or "NoSuchBucket" in text:
            what, fix = "does not have this bucket", "create the bucket, or correct [storage] reports"
        elif re.search(
            r"ACCESS_DENIED|INVALID_ACCESS_KEY|SIGNATURE|InvalidAccessKeyId|HTTP status 40[13]", text
        ):
            what = "refuses access"
            fix = "check the keys (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) and what they may do in this bucket"
        elif "NETWORK_CONNECTION" in text or "curlCode" in text:
            what, fix = "cannot be reached", "check the network, AWS_ENDPOINT_URL and AWS_REGION"
        elif code := re.search(r"HTTP status (\d{3})", text):
            what, fix = f"answers with errors ({code[1]})", "wait until it works again"
        else:
            what, fix = "cannot be used", "check [storage] reports and the AWS_* variables"
        server = _endpoint() or "the provider's endpoint"
        return CopyError(f"The object store of the reports {what}", where=f"{self.url} at {server}", fix=fix)


def _endpoint() -> str:
    """Return the server's address in the environment, without a user, a password or a query; empty: the provider's."""
    given = next((os.environ[name] for name in _ENDPOINTS if os.environ.get(name)), "")
    parts = urlsplit(given)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if parts.netloc else ""


def _describe(path: Path) -> tuple[int, int]:
    facts = path.stat()
    return facts.st_size, facts.st_mtime_ns
