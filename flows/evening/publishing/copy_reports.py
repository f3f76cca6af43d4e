"""Copy the reports to the object store of [storage]: a failure costs no forecast, and is told by the doctor."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from flows.runtime.context import Run
from flows.runtime.progress import log_line
from flows.runtime.tasks import task
from pipeline.errors import NextdayError
from pipeline.formatting import count, format_instant
from pipeline.report.site.addresses import INDEX, find_backtest
from pipeline.storage.files import write_text
from pipeline.storage.object_folder import ObjectFolder, State

__all__ = ["LastCopy", "copy_reports", "read_last_copy", "reports_address"]

_NEWEST: Final = ("record.json", "latest.json", "latest.csv", INDEX)
"""What is copied after everything else, in this order: it names the newest evening and links to its page."""

_BACKTESTS: Final = ("backtest", "backtests")
_MINUTES = 15
"""Far more than the pages of thousands of symbols take."""


@dataclass(frozen=True)
class LastCopy:
    """How the last attempt ended.

    Attributes:
        at: When (UTC, ISO 8601).
        url: Where to.
        problem: Why it is not complete, and the fix; empty if it is.
        files: What the store has: size and time of the last change of the local file, by name.
    """

    at: str
    url: str
    problem: str = ""
    files: Mapping[str, tuple[int, int]] = field(default_factory=dict)


def reports_address(run: Run) -> str:
    """Return where the reports of the universe are copied to; empty if nowhere, as with those of a simulation."""
    address = run.config.storage.reports
    return f"{address.rstrip('/')}/{run.name}" if address and not run.in_simulation else ""


def copy_reports(run: Run) -> None:
    """Copy what the object store lacks of the universe's reports, also of earlier evenings; nothing unless asked to.

    The forecasts are sealed by then. Whatever fails is shown, written down for the doctor, and tried again by the next
    run.
    """
    if not (url := reports_address(run)):
        return
    at, problem = format_instant(run.clock()), ""
    before = read_last_copy(run.workspace.last_copy(run.name))
    copied = {name: (size, changed) for name, (size, changed) in before.files.items()} if before else {}
    copied = copied if before and before.url == url else {}
    try:
        _copy(run.workspace.reports / run.name, url, copied)
    except Exception as error:  # as whatever a client of a store may raise
        problem = " ".join((str(error) if isinstance(error, NextdayError) else repr(error)).split())
        log_line(
            "the forecasts are sealed and reported, but the reports are not all copied; the next run tries again. "
            f"{problem}"
        )
    last = LastCopy(at, url, problem, dict(copied))
    try:
        write_text(run.workspace.last_copy(run.name), json.dumps(asdict(last)) + "\n")
    except NextdayError as error:
        log_line(f"how the copy of the reports ended cannot be written down: {error}")


@task("copy reports", timeout=_MINUTES * 60)
def _copy(folder: Path, url: str, copied: State) -> None:
    names = _list_reports(folder)
    last = [name for name in _NEWEST if name in names]
    written = ObjectFolder(url).copy(folder, [name for name in names if name not in last], last, copied)
    log_line(f"reports: {count(written, 'file')} copied to {url}")


def _list_reports(folder: Path) -> list[str]:
    """Return the files of the universe's reports, by name; of the backtests the page that the index links alone."""
    linked = find_backtest(folder)
    found = [linked] if linked else []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if (
            path.is_file()
            and name.parts[0] not in _BACKTESTS
            and not any(p.startswith(".") for p in name.parts)
        ):
            found.append(name.as_posix())
    return found


def read_last_copy(path: Path) -> LastCopy | None:
    """Return how the last attempt ended; None before the first one, or where the note is damaged."""
    try:
        return LastCopy(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
