"""A published folder: only what changed is written, what nextday did not write is never touched."""

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Final

from pipeline.errors import InputError
from pipeline.storage.files import write_bytes

__all__ = ["MANIFEST", "PublishedFolder"]

MANIFEST: Final = "published.json"
"""The list of the files that nextday wrote, with the sha256 of each."""

_NAMED = 8


@dataclass
class PublishedFolder:
    """A folder that is written file by file, each of them atomically.

    Attributes:
        folder: The folder; it is made if it does not exist.
        before: The files that an earlier publication wrote, with the sha256 of each.
        now: Those of this one.
        written: How many of them changed.
        removed: How many of the earlier ones are gone.
    """

    folder: Path
    before: dict[str, str] = field(default_factory=dict)
    now: dict[str, str] = field(default_factory=dict)
    written: int = 0
    removed: int = 0

    @classmethod
    def open(cls, folder: Path, private: Sequence[Path], paths: Collection[str]) -> "PublishedFolder":
        """Open a folder for these files, after checking that nothing of another's would be overwritten.

        Args:
            folder: The folder.
            private: Folders that must neither be published nor hold what is published, such as the workspace.
            paths: What will be written, as paths with slashes.

        Raises:
            InputError: it is, holds or lies in a private folder; or it holds other files of these names.
        """
        for place in private:
            if folder == place or folder.is_relative_to(place) or place.is_relative_to(folder):
                raise InputError(
                    "The published folder and the workspace must lie apart: what is in the one is for everybody, the "
                    "other is private",
                    where=f"--to {folder}",
                    fix=f"name a folder that neither is, holds nor lies in {place}",
                )
        if folder.exists() and not folder.is_dir():
            raise InputError(
                "This is not a folder", where=f"--to {folder}", fix="name a folder, or a new one"
            )
        opened = cls(folder, _read_manifest(folder / MANIFEST))
        opened._refuse_foreign([*paths, MANIFEST])
        opened._write_manifest(
            dict.fromkeys(paths, "") | opened.before
        )  # a killed run's files are known, too
        return opened

    def put(self, path: str, content: bytes) -> None:
        """Write a file, unless it holds this content already.

        Raises:
            NextdayError: it cannot be written.
        """
        file = self.folder / path
        if not (file.is_file() and not file.is_symlink() and file.read_bytes() == content):
            write_bytes(file, content)
            self.written += 1
        self.now[path] = hashlib.sha256(content).hexdigest()

    def finish(self) -> None:
        """Remove what an earlier publication wrote and this one did not, and write the list of files."""
        for path in sorted(self.before.keys() - self.now.keys() - {MANIFEST}):
            file = self.folder / path
            if file.is_file() and not self._has_link(path):
                file.unlink()
                self.removed += 1
                for parent in file.relative_to(self.folder).parents:
                    place = self.folder / parent
                    if place != self.folder and place.is_dir() and not any(place.iterdir()):
                        place.rmdir()
        self._write_manifest(self.now)

    def _write_manifest(self, files: dict[str, str]) -> None:
        facts = {"made_by": f"nextday {version('nextday')}", "files": dict(sorted(files.items()))}
        content = (json.dumps(facts, indent=1) + "\n").encode()
        file = self.folder / MANIFEST
        if not (file.is_file() and file.read_bytes() == content):
            write_bytes(file, content)

    def _refuse_foreign(self, paths: list[str]) -> None:
        is_own = bool(self.before)
        foreign = [
            path
            for path in paths
            if self._has_link(path)
            or (
                (self.folder / path).exists()
                and path not in self.before
                and not (path == MANIFEST and is_own)
            )
        ]
        if foreign:
            more = f" and {len(foreign) - _NAMED:,} more" if len(foreign) > _NAMED else ""
            raise InputError(
                f"The folder holds files that nextday did not write: {', '.join(sorted(foreign)[:_NAMED])}{more}",
                where=f"--to {self.folder}",
                fix="name an empty or new folder, or move these files away",
            )

    def _has_link(self, path: str) -> bool:
        """Whether the file would be written through a link, to some other place."""
        parents = PurePosixPath(path).parents
        return any((self.folder / parent).is_symlink() for parent in parents if str(parent) != ".")


def _read_manifest(file: Path) -> dict[str, str]:
    """Return the files of an earlier publication; none that would lie elsewhere, whatever the list says."""
    try:
        files = json.loads(file.read_text(encoding="utf-8"))["files"]
        named = {str(path): str(digest) for path, digest in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    inside = {path for path in named if not PurePosixPath(path).is_absolute() and ".." not in path.split("/")}
    return {path: digest for path, digest in named.items() if path in inside and path not in ("", ".")}
