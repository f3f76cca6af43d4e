"""The monthly flow: compact the price files and the databases, and remove the leftovers of killed runs."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.context import FlowRunContext

from flows.runtime.context import Run
from flows.runtime.progress import PREFECT_ERRORS, log_line, log_quietly
from flows.runtime.tasks import MAX_SECONDS, open_locked_run, task
from pipeline.formatting import count
from pipeline.prices.delta_table import Compaction

__all__ = ["Maintenance", "maintenance"]

_BUSY_SECONDS = 30.0


@dataclass(frozen=True)
class Maintenance:
    """The result of a maintenance.

    Attributes:
        reads_before, reads_after: Number of files that a read of all prices opens.
        folder: Files and bytes in the price store's folder, before and after.
        databases: Bytes of each database with its side files, before and after, by its name.
        leftovers: Removed files and folders of killed runs.
    """

    reads_before: int
    reads_after: int
    folder: Compaction
    databases: dict[str, tuple[int, int]]
    leftovers: list[Path]


@flow(name="maintenance", timeout_seconds=MAX_SECONDS, persist_result=False)
def maintenance(
    config: Path | None = None, home: Path | None = None, now: datetime | None = None
) -> Maintenance:
    """Speed up reads and free disk space; no bar, version or forecast is ever removed.

    Args:
        config: The configuration file.
        home: The workspace.
        now: The clock; default: the wall clock.
    """
    with open_locked_run(config, home, now) as run:
        leftovers = run.workspace.remove_leftovers(run.name)
        before = run.store.count_files()
        folder = compact_prices(run)
        done = Maintenance(before, run.store.count_files(), folder, tidy_databases(run), leftovers)
    for line in _summary(done, run.config.prices.keep_days):
        log_line(line)
    try:
        _publish(done, run.name)
    except PREFECT_ERRORS as error:
        log_line(f"maintenance is done, but not published in Prefect: {error}")
    return done


@task("compact prices")
def compact_prices(run: Run) -> Compaction:
    """Join the small files of the universe's prices; the replaced files are kept for `keep_days`."""
    return run.store.compact(timedelta(days=run.config.prices.keep_days))


@task("tidy databases")
def tidy_databases(run: Run) -> dict[str, tuple[int, int]]:
    """Checkpoint each database's log and update its statistics; return their bytes before and after."""
    found = {}
    for path in run.workspace.databases:
        before = _size(path)
        try:
            with closing(sqlite3.connect(path, timeout=_BUSY_SECONDS)) as db:
                db.execute("PRAGMA optimize")  # first: it writes to the log too
                db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        # Another universe's run is using it, or it is damaged: nextday doctor checks that.
        except sqlite3.Error as error:
            log_quietly(f"{path.name} is left as it is: {error}")
        found[path.name] = (before, _size(path))
    return found


def _size(path: Path) -> int:
    return sum(each.stat().st_size for each in path.parent.glob(f"{path.name}*") if each.is_file())


def _summary(done: Maintenance, keep_days: int) -> list[str]:
    lines = [
        f"prices: read from {count(done.reads_after, 'file')}, before from {done.reads_before:,}; "
        f"{_mb(done.folder.bytes_after)} on disk, before {_mb(done.folder.bytes_before)}",
        f"replaced files are kept for {count(keep_days, 'day')}; no bar and no version was removed",
    ]
    for name, (before, after) in done.databases.items():
        lines.append(f"{name}: {_mb(after)}, before {_mb(before)}")
    if done.leftovers:
        lines.append(f"{count(len(done.leftovers), 'leftover')} of killed runs removed")
    return lines


def _publish(done: Maintenance, universe: str) -> None:
    if FlowRunContext.get() is None:
        return
    folder = done.folder
    rows: list[dict[str, Any]] = [
        {
            "what": "files that a read of all prices opens",
            "before": done.reads_before,
            "after": done.reads_after,
        },
        {"what": "files in the prices' folder", "before": folder.files_before, "after": folder.files_after},
        {"what": "prices", "before": _mb(folder.bytes_before), "after": _mb(folder.bytes_after)},
        *(
            {"what": name, "before": _mb(before), "after": _mb(after)}
            for name, (before, after) in done.databases.items()
        ),
        {"what": "leftovers of killed runs", "before": len(done.leftovers), "after": 0},
    ]
    key = f"nextday-{universe.replace('_', '-')}-maintenance"
    create_table_artifact(rows, key=key, description=f"Maintenance of {universe}")


def _mb(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
