"""Where the pages of a site are: names of files, which files are the site's, and links between them.

Every link is relative, so that the folder can be copied anywhere.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = [
    "INDEX",
    "SYMBOLS",
    "find_backtest",
    "index_path",
    "list_dated",
    "list_site",
    "name_page",
    "symbol_address",
]

INDEX: Final = "index.html"
SYMBOLS: Final = "symbols"
"""The folder of the symbols' pages."""

_PLAIN: Final = re.compile(r"[A-Z0-9]")
_RESERVED: Final = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)")
"""Names that Windows keeps for devices, whatever follows the first dot."""
_DATED: Final = re.compile(r"\d{4}-\d\d-\d\d")


def name_page(symbol: str) -> str:
    """Return the file name of a symbol's page: "aapl.html", "brk_2fb.html" for BRK/B.

    Capital letters and digits keep their place, in small letters; every other character is an underscore and its code
    point. So no two symbols share a file, also where names do not differ by case, and none leaves the folder.
    """
    name = "".join(each.lower() if _PLAIN.fullmatch(each) else f"_{ord(each):02x}" for each in symbol)
    return f"{'__' if _RESERVED.fullmatch(name) else ''}{name}.html"


def symbol_address(symbol: str) -> str:
    """Return the link from the index to a symbol's page."""
    return f"{SYMBOLS}/{name_page(symbol)}"


def index_path(reports: Path, universe: str) -> Path:
    """Return the path of a universe's index below the workspace's reports."""
    return reports / universe / INDEX


def list_dated(folder: Path) -> list[str]:
    """Return the names of the evenings' folders that hold a report, in order of time."""
    if not folder.is_dir():
        return []
    return sorted(
        path.name
        for path in folder.iterdir()
        if _DATED.fullmatch(path.name) and (path / "report.html").is_file()
    )


def find_backtest(folder: Path) -> str:
    """Return the link from the index to the newest backtest's page; empty where there is none."""
    pages = [folder / "backtest" / "report.html", *folder.glob("backtest/*/report.html")]
    found = [page for page in pages if page.is_file()]
    newest = max(found, key=lambda page: page.stat().st_mtime_ns, default=None)
    return newest.relative_to(folder).as_posix() if newest else ""


def list_site(folder: Path) -> Iterator[Path]:
    """Yield the files of a site: its index, the symbols' pages, and the evenings' reports that the calendar links.

    Args:
        folder: The universe's folder below the workspace's reports.
    """
    if (folder / INDEX).is_file():
        yield folder / INDEX
    yield from sorted((folder / SYMBOLS).glob("[!.]*.html"))
    yield from (folder / name / "report.html" for name in list_dated(folder))
