"""The folders of a universe's backtests, one each, and `backtest`, a link that leads to the newest.

    reports/<universe>/backtests/2026-11-30T213005Z-gru-3f2a1b9c/   when it was made, the model, a digest
    reports/<universe>/backtest -> backtests/2026-11-30T213005Z-gru-3f2a1b9c

Where the disk has no links, `backtest` is a copy of the newest folder. An earlier nextday wrote its only backtest into
`backtest` itself: that folder is kept among the others.
"""

import csv
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

from pipeline.errors import NextdayError
from pipeline.storage.files import measure_folder, remove_folder, write_bytes

__all__ = [
    "link_newest",
    "link_restored",
    "list_links",
    "name_backtest",
    "place_backtest",
    "remove_backtests",
]

_LINK: Final = "backtest"
_FOLDERS: Final = "backtests"
_TIME: Final = "%Y-%m-%dT%H%M%SZ"
_NAMES: Final = "????-??-??T??????Z-*"
_COPY: Final = "copy_of.txt"
"""The file that says that `backtest` is a copy, and of which folder; the next backtest replaces it.

A backup, which holds no links, holds this file in place of each.
"""


def name_backtest(made_at: datetime, model: str, digest: str) -> str:
    """Return the name of a backtest's folder: names sort by time.

    Args:
        made_at: When it was made.
        model: The name of its model.
        digest: Of its settings and prices.
    """
    return f"{made_at.astimezone(UTC):{_TIME}}-{model}-{digest[:8]}"


def place_backtest(home: Path, name: str) -> Path:
    """Return the folder of a backtest below the universe's reports."""
    return home / _FOLDERS / name


def link_newest(home: Path, folder: Path) -> None:
    """Let `backtest` lead to a folder; what an earlier nextday left in its place is kept.

    Raises:
        NextdayError: the disk refuses.
    """
    link = home / _LINK
    try:
        if link.is_dir() and not link.is_symlink() and not (link / _COPY).exists():
            _keep_earlier(link)
        if not _point_to(link, folder):
            _copy(folder, link)
    except OSError as error:
        raise NextdayError(
            f"The link to the newest backtest cannot be made: {error.strerror or error}",
            where=str(link),
            fix=f"the backtest itself is in {folder}; remove what is in the way of the link, then run this again",
        ) from None


def list_links(workspace: Path) -> dict[str, bytes]:
    """Return what a backup holds in place of the links: by file name, relative to the workspace, the content."""
    links = sorted(link for link in workspace.glob(f"reports/*/{_LINK}") if link.is_symlink())
    return {
        (link / _COPY).relative_to(workspace).as_posix(): f"{link.readlink().name}\n".encode()
        for link in links
    }


def link_restored(workspace: Path) -> None:
    """Make the links anew: to the folder that the backup names, else to the backtest that was made last.

    Raises:
        NextdayError: the disk refuses.
    """
    for home in sorted({path.parent for path in workspace.glob(f"reports/*/{_FOLDERS}")}):
        found, named = sorted((home / _FOLDERS).glob(_NAMES)), _read_name(home / _LINK / _COPY)
        if known := [folder for folder in found if folder.name == named]:
            link_newest(home, known[0])
        elif found and (named or not (home / _LINK).exists()):
            link_newest(home, max(found, key=_recorded_at))


def _read_name(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""


def remove_backtests(home: Path, before: date) -> tuple[int, int]:
    """Remove the backtests made before a day, except the one that `backtest` leads to.

    Args:
        home: The universe's reports.
        before: The first day whose backtests stay.

    Returns:
        The number of backtests, and the bytes of their files.
    """
    found = sorted((home / _FOLDERS).glob(_NAMES))
    newest = {(home / _LINK).resolve().name, *(path.name for path in found[-1:])}
    old = [path for path in found if path.name < before.isoformat() and path.name not in newest]
    size = 0
    for path in old:
        size += measure_folder(path)
        remove_folder(path)
    return len(old), size


def _keep_earlier(folder: Path) -> None:
    if not any(folder.iterdir()):
        folder.rmdir()
        return
    kept = place_backtest(folder.parent, f"{_made_at(folder):{_TIME}}-earlier")
    kept.parent.mkdir(exist_ok=True)
    folder.rename(kept)


def _made_at(folder: Path) -> datetime:
    """Return when the backtest in a folder was made: as its forecasts say, else when the folder was written."""
    return _read_time(folder) or datetime.fromtimestamp(folder.stat().st_mtime, UTC)


def _recorded_at(folder: Path) -> str:
    """Return when the backtest in a folder among the others was made, as in names: as its forecasts say, else named."""
    made_at = _read_time(folder)
    return f"{made_at:{_TIME}}" if made_at else folder.name


def _read_time(folder: Path) -> datetime | None:
    with suppress(OSError, ValueError, csv.Error), (folder / "forecasts.csv").open(encoding="utf-8") as file:
        issued_at = next(csv.DictReader(file), {}).get("issued_at") or ""
        return datetime.fromisoformat(issued_at).astimezone(UTC)
    return None


def _point_to(link: Path, folder: Path) -> bool:
    """Make or move the link, and return whether this disk has links."""
    made = link.with_name(f".{link.name}.link")
    made.unlink(missing_ok=True)
    try:
        made.symlink_to(Path(_FOLDERS) / folder.name, target_is_directory=True)
    except (OSError, NotImplementedError):
        return False
    try:
        if link.is_dir() and not link.is_symlink():  # a copy, from before this disk had links
            remove_folder(link)
        made.replace(link)
    finally:
        made.unlink(missing_ok=True)
    return True


def _copy(folder: Path, copy: Path) -> None:
    if copy.is_dir():
        remove_folder(copy)  # of an earlier backtest, which may have had other files
    write_bytes(copy / _COPY, f"{folder.name}\n".encode())
    for path in sorted(folder.iterdir()):
        write_bytes(copy / path.name, path.read_bytes())
