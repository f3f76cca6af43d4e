"""The pages of a universe as they may leave the machine: its reports, without the paths of this machine."""

import html
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

__all__ = ["hide_places", "link_verifier", "list_pages"]

_TEXTS: Final = (".html", ".css", ".js", ".svg", ".csv", ".json", ".txt")
_OTHERS: Final = (".parquet", ".png", ".webp", ".ico", ".woff2")
_PRIVATE: Final = ("tracked.json",)
"""Files of a report that only this machine needs: the number of its run in MLflow."""


def list_pages(reports: Path) -> Iterator[str]:
    """Yield the pages of a universe and what belongs to them, as paths with slashes.

    Hidden files, links that lead elsewhere, and files of other kinds are left out. A link to a folder of the same
    reports, such as `backtest`, is published as a folder: pages link to it.

    Args:
        reports: The universe's folder of the workspace's reports.
    """
    if not reports.is_dir():
        return
    links = [path for path in sorted(reports.iterdir()) if path.is_symlink() and _leads_inside(path, reports)]
    for top in (reports, *links):
        for path in sorted(top.rglob("*")):
            place = path.relative_to(reports)
            is_kind = path.suffix in (*_TEXTS, *_OTHERS) and path.name not in _PRIVATE
            if is_kind and not any(part.startswith(".") for part in place.parts) and _is_plain(path, top):
                yield place.as_posix()


def link_verifier(name: str, content: bytes) -> bytes:
    """Return the index with a link to the page that checks the record, at its foot; other pages as they are."""
    foot = b"</footer>"
    if name != "index.html" or foot not in content:
        return content
    before, _, after = content.rpartition(foot)
    return (
        before
        + b'<p><a href="verify.html">Check in this browser that nothing was changed</a></p>'
        + foot
        + after
    )


def hide_places(name: str, content: bytes, places: Mapping[Path, str]) -> bytes:
    """Return the content of a page with other words for the paths of this machine.

    A remark in a report may name the file that it is about.

    Args:
        name: The page's path; only texts are changed.
        content: Its content.
        places: A word for each folder of this machine that must not be published.
    """
    if Path(name).suffix not in _TEXTS:
        return content
    text = content.decode("utf-8", errors="surrogateescape")
    for place in sorted(places, key=lambda each: -len(str(each))):
        if len(place.parts) > 1:  # a home of / would hide every slash
            forms = {str(place), html.escape(str(place)), json.dumps(str(place))[1:-1]}
            pattern = "|".join(map(re.escape, sorted(forms, key=len, reverse=True)))
            text = re.sub(rf"(?:{pattern})(?![\w-])", places[place], text)
    return text.encode("utf-8", errors="surrogateescape")


def _leads_inside(link: Path, reports: Path) -> bool:
    return link.is_dir() and link.resolve().is_relative_to(reports.resolve())


def _is_plain(path: Path, top: Path) -> bool:
    parts = [path, *(parent for parent in path.parents if parent.is_relative_to(top))]
    return path.is_file() and not any(part.is_symlink() for part in parts if part != top)
