"""A saved model: one folder of plain files, made in one stroke, named by the digest of what it holds."""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, Final
from zipfile import ZipFile, ZipInfo

from models.errors import ModelError

__all__ = [
    "CLASSIFIER",
    "METADATA",
    "PER_SYMBOL",
    "POOLED",
    "SYMBOL_ARRAYS",
    "make_reproducible",
    "member_file",
    "model_version",
    "parse_metadata",
    "read_metadata",
    "verify",
    "write_metadata",
    "writing",
]

METADATA: Final = "model.json"
"""The file that describes the others and holds their digests."""

POOLED: Final = "recurrent"
"""The `family` in the metadata of one ensemble for all symbols."""

PER_SYMBOL: Final = "recurrent, one a symbol"
"""The `family` in the metadata of an ensemble for each symbol."""

CLASSIFIER: Final = "classifier"
"""The `family` in the metadata of a classifier of scikit-learn."""

SYMBOL_ARRAYS: Final = "symbols.npz"
"""The file with the weights and input scales of all symbols' ensembles."""

_FIX: Final = "restore the folder from where it was copied, or train again"


def model_version(directory: Path) -> str:
    """Return the model's version: 16 hex digits of the SHA-256 of its files' names and SHA-256 digests.

    Raises:
        ModelError: if there is no such model.
    """
    if not (directory / METADATA).is_file():
        raise ModelError("there is no model here", where=str(directory), fix=_FIX)
    return sha256(json.dumps(_digests(directory), sort_keys=True).encode()).hexdigest()[:16]


def verify(directory: Path, version: str) -> None:
    """Raise unless the folder still holds exactly the model of this version.

    Raises:
        ModelError: naming both versions.
    """
    found = model_version(directory)
    if found != version:
        raise ModelError(
            f"the model's files are not those of version {version}: they make {found}",
            where=str(directory),
            fix=_FIX,
        )


@contextmanager
def writing(directory: Path) -> Iterator[Path]:
    """Give a folder to write into: it becomes `directory` when the block ends well, and vanishes otherwise.

    What a killed writer of the same folder left is removed.

    Raises:
        ModelError: if `directory` already holds something, for a model is never overwritten; or if the disk refuses.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ModelError("there is something here already", where=str(directory), fix="save to a new folder")
    draft = directory.with_name(f".saving-{directory.name}")
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        yield draft
        draft.replace(directory)
    except OSError as error:
        raise ModelError(
            f"cannot save: {error.strerror or error}",
            where=str(directory),
            fix="look at the folder's rights and the free space, then run this again",
        ) from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def make_reproducible(archive: Path) -> None:
    """Take the hour of saving and the addresses of objects out of a .keras file: equal networks, equal bytes.

    Without this, a training that was killed and done again would make another version of the same model.
    """
    with ZipFile(archive) as saved:
        parts = {name: saved.read(name) for name in saved.namelist()}
    parts["metadata.json"] = re.sub(rb', "date_saved": "[^"]*"', b"", parts["metadata.json"])
    seen: dict[bytes, int] = {}
    parts["config.json"] = re.sub(
        rb'("shared_object_id": )(\d+)',
        lambda found: found[1] + b"%d" % seen.setdefault(found[2], len(seen)),
        parts["config.json"],
    )
    with ZipFile(archive, "w") as plain:
        for name, content in parts.items():
            plain.writestr(ZipInfo(name), content)


def member_file(number: int) -> str:
    """Return the file name of a pooled ensemble's member, from 1."""
    return f"member-{number}.keras"


def write_metadata(directory: Path, metadata: dict[str, Any]) -> None:
    """Write the metadata, with the digests of the files that are there by now."""
    text = json.dumps({**metadata, "files": _digests(directory)}, indent=1, allow_nan=False)
    (directory / METADATA).write_text(text + "\n", encoding="utf-8")


def read_metadata(directory: Path) -> dict[str, Any]:
    """Return the metadata, after comparing every file that it lists with its digest.

    Raises:
        ModelError: naming the file that is missing or damaged.
    """
    metadata = parse_metadata(directory)
    for name, digest in metadata["files"].items():
        _check_file(directory / name, digest)
    return metadata


def parse_metadata(directory: Path) -> dict[str, Any]:
    """Return the metadata of a model whose files have just been verified: none is hashed again.

    Raises:
        ModelError: there is no metadata, or it cannot be read.
    """
    path = directory / METADATA
    try:
        metadata = json.loads(path.read_text(encoding="utf-8"))
        return {**metadata, "files": dict(metadata["files"])}
    except FileNotFoundError:
        raise ModelError("there is no model here", where=str(path), fix=_FIX) from None
    except (OSError, ValueError, KeyError, TypeError) as broken:
        raise ModelError(f"cannot read: {broken!r}", where=str(path), fix=_FIX) from None


def _check_file(path: Path, digest: str) -> None:
    if not path.is_file():
        raise ModelError("a file of the model is missing", where=str(path), fix=_FIX)
    if _digest(path) != digest:
        raise ModelError("a file of the model has changed since it was saved", where=str(path), fix=_FIX)


def _digests(directory: Path) -> dict[str, str]:
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): _digest(path) for path in files}


def _digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()
