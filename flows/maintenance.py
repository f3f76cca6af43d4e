"""The monthly flow: compact the price files and the databases, and remove old reports and what killed runs left."""

import sqlite3
from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd
from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.context import FlowRunContext

from flows.runtime.context import Run
from flows.runtime.progress import PREFECT_ERRORS, log_line, log_quietly
from flows.runtime.tasks import MAX_SECONDS, open_locked_run, task
from flows.training.evaluation import ESSENTIAL
from models.ensembles.model_files import model_version
from pipeline.formatting import count
from pipeline.ledger.known_head import ledger_exists
from pipeline.prices.delta_table import Compaction
from pipeline.report.files import remove_reports
from pipeline.storage.backtest_folders import remove_backtests
from pipeline.tracking.registry import Registry
from pipeline.tracking.run_files import remove_run_files

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
        old: Removed reports, and tracked runs whose files were removed, with their bytes.
    """

    reads_before: int
    reads_after: int
    folder: Compaction
    databases: dict[str, tuple[int, int]]
    leftovers: list[Path]
    old: "OldFiles"


@dataclass(frozen=True)
class OldFiles:
    """What [retention] lets go: numbers, and the bytes of all."""

    reports: int = 0
    backtests: int = 0
    tracked_runs: int = 0
    evaluations: int = 0
    size: int = 0


@flow(name="maintenance", timeout_seconds=MAX_SECONDS, persist_result=False)
def maintenance(
    config: Path | None = None, home: Path | None = None, now: datetime | None = None
) -> Maintenance:
    """Speed up reads and free disk space; no bar, version, forecast or model is ever removed.

    Args:
        config: The configuration file.
        home: The workspace.
        now: The clock; default: the wall clock.
    """
    with open_locked_run(config, home, now) as run:
        leftovers = run.workspace.remove_leftovers(run.name)
        before = run.store.count_files()
        folder = compact_prices(run)
        after, old = run.store.count_files(), remove_old_files(run)
        done = Maintenance(before, after, folder, tidy_databases(run), leftovers, old)
    for line in _summary(done, run):
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


@task("remove old files")
def remove_old_files(run: Run) -> OldFiles:
    """Remove the reports, backtests and MLflow's files from before the newest `report_sessions` with forecasts.

    Models that forecast none of those sessions keep the essential files of their evaluations: scores, verdicts and the
    forecasts of the test. `nextday report` writes an old report again, from what stays. The serving model's training
    keeps all files, and the newest backtest stays.
    """
    kept = run.config.retention.report_sessions
    if not kept or not ledger_exists(run.workspace.ledger):
        return OldFiles()
    rows = run.ledger.universe_record(run.name).rows
    sessions = rows["as_of"].drop_duplicates().sort_values()
    if len(sessions) <= kept:
        return OldFiles()
    first = sessions.iloc[-kept]
    # A report is named by the session after: that of the session before `first` is for `first` itself.
    reports, size = remove_reports(run.workspace.reports, run.name, (first + pd.Timedelta(days=1)).date())
    backtests, of_backtests = remove_backtests(run.workspace.reports / run.name, first.date())
    registry = Registry(run.workspace.home, model_version)
    serving = registry.serving(run.name)
    used = {*rows.loc[rows["as_of"] >= first, "model_version"], *([serving.model_version] if serving else [])}
    shortened, freed = _shorten_evaluations(run, registry, first, used)
    try:
        runs, more = remove_run_files(
            run.workspace.home, run.name, first.date(), [serving.run_id] if serving else []
        )
    except sqlite3.Error as error:  # nextday doctor checks the database
        log_quietly(f"the files of tracked runs are left as they are: {error}")
        runs, more = 0, 0
    return OldFiles(reports, backtests, runs, shortened, size + of_backtests + freed + more)


def _shorten_evaluations(
    run: Run, registry: Registry, first: pd.Timestamp, used: Collection[str]
) -> tuple[int, int]:
    """Remove all but the essential files of the evaluations of models before `first` that are not used since.

    Returns:
        The number of such evaluations, and the bytes of the removed files.
    """
    old = [
        model.model_version
        for model in registry.versions(run.name)
        if model.trained_through < first and model.model_version not in used
    ]
    found = {
        version: [
            path
            for path in run.workspace.evaluation(run.name, version).glob("*")
            if path.name not in ESSENTIAL
        ]
        for version in old
    }
    found = {version: paths for version, paths in found.items() if paths}
    if found:
        registry.shorten_evaluations(run.name, found, ESSENTIAL)
    size = 0
    for path in chain(*found.values()):
        size += path.stat().st_size * (path.stat().st_nlink == 1)  # MLflow may hold another name of it
        path.unlink()
    return len(found), size


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


def _summary(done: Maintenance, run: Run) -> list[str]:
    keep_days, old = run.config.prices.keep_days, done.old
    lines = [
        f"prices: read from {count(done.reads_after, 'file')}, before from {done.reads_before:,}; "
        f"{_mb(done.folder.bytes_after)} on disk, before {_mb(done.folder.bytes_before)}",
        f"replaced files are kept for {count(keep_days, 'day')}; no bar and no version was removed",
    ]
    for name, (before, after) in done.databases.items():
        lines.append(f"{name}: {_mb(after)}, before {_mb(before)}")
    if done.leftovers:
        lines.append(f"{count(len(done.leftovers), 'leftover')} of killed runs removed")
    if old.reports or old.backtests or old.tracked_runs or old.evaluations:
        lines.append(
            f"{count(old.reports, 'report')}, {count(old.backtests, 'backtest')}, the files of "
            f"{count(old.tracked_runs, 'tracked run')} and the charts of {count(old.evaluations, 'model')} removed "
            f"({_mb(old.size)}): older than the newest {run.config.retention.report_sessions} sessions, which "
            "[retention] keeps"
        )
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
        {"what": "old reports", "before": done.old.reports, "after": 0},
        {"what": "old backtests", "before": done.old.backtests, "after": 0},
        {"what": "old tracked runs with files", "before": done.old.tracked_runs, "after": 0},
        {"what": "old models with charts", "before": done.old.evaluations, "after": 0},
        {"what": "leftovers of killed runs", "before": len(done.leftovers), "after": 0},
    ]
    key = f"nextday-{universe.replace('_', '-')}-maintenance"
    create_table_artifact(rows, key=key, description=f"Maintenance of {universe}")


def _mb(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
