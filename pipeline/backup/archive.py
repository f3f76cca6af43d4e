"""The archive format of a backup: a plain tar whose last member, the manifest, lists the sha256 of every other member.

A truncated file has no manifest; a changed, missing or added member does not match it.
"""

import hashlib
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, Final

from pipeline.errors import InputError, NextdayError, printable

__all__ = ["Manifest", "Packer", "Progress", "unpack"]

Progress = Callable[[str, int], AbstractContextManager[Callable[[str], None]]]
"""Shows progress: `progress(title, total)` gives a function to call once per unit of work, with a description."""

_MANIFEST: Final = "manifest.json"
_FORMAT: Final = 1
_PART: Final = 1 << 20  # bytes


@dataclass(frozen=True)
class Manifest:
    """The manifest of an archive.

    Attributes:
        made_by: The version of nextday that made it.
        made_at: When, in UTC, as text.
        files: The sha256 of each file, by its name.
    """

    made_by: str
    made_at: str
    files: Mapping[str, str]


class Packer:
    """Writes an archive: add files, then seal it.

    It stores names, contents and times of files, but neither owners nor permissions.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._tar = tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115 -- seal ends it
        self._files: dict[str, str] = {}

    @property
    def names(self) -> set[str]:
        """The names of the files in it."""
        return set(self._files)

    def add(self, name: str, path: Path) -> None:
        """Add a file at its present size; anything appended to it meanwhile is left out.

        Raises:
            FileNotFoundError: it no longer exists.
            OSError: it cannot be read, was truncated meanwhile, or the archive cannot be written.
        """
        with path.open("rb") as file:
            facts, content = os.fstat(file.fileno()), _HashingReader(file)
            self._add(name, facts.st_size, int(facts.st_mtime), content)
        self._files[name] = content.sum.hexdigest()

    def seal(self, made_at: str) -> None:
        """Write the manifest and close the archive.

        Raises:
            OSError: it cannot be written.
        """
        facts = {"format": _FORMAT, "made_by": f"nextday {version('nextday')}", "made_at": made_at}
        content = json.dumps({**facts, "files": self._files}, indent=1).encode() + b"\n"
        self._add(_MANIFEST, len(content), 0, _HashingReader(BytesIO(content)))
        self._tar.close()

    def _add(self, name: str, size: int, time: int, content: "_HashingReader") -> None:
        member = tarfile.TarInfo(name)
        member.size, member.mtime, member.mode = size, time, 0o600
        self._tar.addfile(member, content)


class _HashingReader:
    """A file being read, with the sha256 of the part read so far."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.sum = file, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        part = self._file.read(size)
        self.sum.update(part)
        return part


def unpack(archive: Path, folder: Path, progress: Progress) -> Manifest:
    """Write every file of an archive into a folder of its own.

    Only regular files inside the folder are created: a link, a device, or a name that leads out of it is refused. So is
    an archive whose files would take more space than it has itself, or than there is.

    Args:
        archive: The file.
        folder: Where its files go; the caller creates it, and removes it if this fails.
        progress: Shows progress by file.

    Raises:
        InputError: it is not a backup of nextday.
        NextdayError: it is damaged, or was made by a newer nextday.
        OSError: a file cannot be written.
    """
    with _open_archive(archive) as tar:
        members = tar.getmembers()
        manifest = _read_manifest(tar, members, archive)
        names = [member.name for member in members[:-1]]
        if sorted(names) != sorted(manifest.files) or not all(map(_is_plain, members[:-1])):
            raise _damaged("its files are not those of its manifest", archive)
        _check_sizes(members, archive, folder)
        with progress("unpack", len(names)) as advance:
            for member in members[:-1]:
                if _extract(tar, member, folder / member.name) != manifest.files[member.name]:
                    raise _damaged(f"the content of {member.name} has changed", archive)
                advance(member.name)
    return manifest


@contextmanager
def _open_archive(archive: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(archive, "r:") as tar:
            yield tar
    except FileNotFoundError as error:
        if error.filename != str(archive):
            raise
        raise InputError("There is no such file", where=str(archive)) from None
    except tarfile.TarError as error:
        raise _damaged(str(error), archive) from None


def _read_manifest(tar: tarfile.TarFile, members: list[tarfile.TarInfo], archive: Path) -> Manifest:
    last = members[-1] if members and members[-1].name == _MANIFEST and members[-1].isreg() else None
    file = tar.extractfile(last) if last and last.size <= archive.stat().st_size else None
    if file is None:
        raise _damaged("it does not end with its manifest", archive)
    try:
        found = json.load(file)
        manifest = Manifest(
            printable(str(found["made_by"])), printable(str(found["made_at"])), dict(found["files"])
        )
        made_in = int(found["format"])
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(f"its manifest cannot be read, {error!r:.100}", archive) from None
    if made_in > _FORMAT:
        raise NextdayError(
            f"This backup has format {made_in}, made by {manifest.made_by}; this version reads formats up to {_FORMAT}",
            where=str(archive),
            fix="install that version of nextday or a newer one",
        )
    return manifest


def _check_sizes(members: list[tarfile.TarInfo], archive: Path, folder: Path) -> None:
    """Compare the sizes that the members declare with the archive, and with the disk."""
    declared = sum(member.size for member in members)
    if declared > archive.stat().st_size:  # as a sparse file may
        raise _damaged(f"its files would take {declared:,} bytes, more than it has", archive)
    if declared > (free := shutil.disk_usage(folder).free):
        raise NextdayError(
            f"The files of this backup take {declared:,} bytes, and the disk has {free:,} left",
            where=str(folder),
            fix="free some space there, or name another folder",
        )


def _is_plain(member: tarfile.TarInfo) -> bool:
    path = PurePosixPath(member.name)
    is_inside = not path.is_absolute() and ".." not in path.parts and str(path) == member.name
    return member.isreg() and is_inside and member.name.isprintable() and member.name != _MANIFEST


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> str:
    """Write a member to a path and return the sha256 of its content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content, digest = tar.extractfile(member), hashlib.sha256()
    assert content is not None  # it is a regular file
    with path.open("xb") as file:
        while part := content.read(_PART):
            digest.update(part)
            file.write(part)
    return digest.hexdigest()


def _damaged(why: str, archive: Path) -> InputError:
    return InputError(
        f"This is not a complete backup of nextday: {why}",
        where=str(archive),
        fix="use another one; `nextday backup` never leaves an incomplete file under a backup's name",
    )
