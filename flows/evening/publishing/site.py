"""Rebuild the site of the universe: every evening, and when a person asks for it."""

from pathlib import Path
from typing import Any

import pandas as pd

from flows.evening.model_card import list_promotions
from flows.evening.reporting import gather_again
from flows.runtime.context import Run
from flows.runtime.progress import log_line
from flows.runtime.tasks import task
from flows.training.verified_champion import Champions
from pipeline.errors import InputError, NextdayError
from pipeline.monitoring.acceptance import Acceptance, read_acceptances
from pipeline.report.evening_report import Report
from pipeline.report.site.addresses import find_backtest, index_path, list_dated
from pipeline.report.site.build import Built, build_site
from pipeline.report.site.inputs import SHOWN, SiteInputs, list_listings, name_listings

__all__ = ["rebuild_site", "show_site", "write_site"]

_MINUTES = 15
"""Far more than the pages of thousands of symbols take."""


def show_site(run: Run, report: Report) -> None:
    """Rebuild the site after an evening; no error in here costs the evening: `nextday doctor` tells of an old site."""
    try:
        write_site(run, report)
    except Exception as error:
        log_line(
            f"the forecasts are sealed and reported, but the site is not rebuilt ({error}); `nextday site --rebuild` "
            "tries again"
        )


@task("write site", timeout=_MINUTES * 60)
def write_site(run: Run, report: Report, is_rebuilt: bool = False) -> Built:
    """Write the pages of the site whose inputs have changed.

    Args:
        run: The run.
        report: The report of the newest forecasts.
        is_rebuilt: Whether this is no nightly run.

    Raises:
        StoreError: the prices cannot be read.
        NextdayError: a page cannot be written.
    """
    folder = index_path(run.workspace.reports, run.name).parent
    built = build_site(_collect(run, report, folder, is_rebuilt), folder, run.workspace.site(run.name))
    log_line(f"site: {built.index} ({built.written:,} of {built.pages:,} pages rebuilt)")
    return built


def rebuild_site(run: Run, *, whole: bool) -> Built:
    """Rebuild the site from the ledger, as of the newest sealed session; the caller must hold the universe's lock.

    Args:
        run: The run.
        whole: Whether every page is written again, and not only those whose inputs have changed.

    Raises:
        InputError: the ledger has no forecast yet.
        NextdayError: the site cannot be built.
    """
    record = run.ledger.universe_record(run.name)
    if record.last_as_of is None:
        raise InputError(
            f"The ledger has no forecast of {run.name!r}",
            where=str(run.workspace.ledger),
            fix="`nextday forecast` makes one, and the site",
        )
    if whole:
        run.workspace.site(run.name).unlink(missing_ok=True)
    standing = record.rows[record.rows["as_of"] == record.last_as_of]
    return write_site(run, gather_again(run, standing, record, Champions(run)), is_rebuilt=True)


def _collect(run: Run, report: Report, folder: Path, is_rebuilt: bool) -> SiteInputs:
    current, entries = run.universe.current, run.universe.entries
    known = run.calendar.sessions[: run.calendar.position(report.as_of) + 1]
    listings = list_listings(report, current)
    held = run.fetch_log.quarantined().values()
    events = run.fetch_log.events()
    return SiteInputs(
        report=report,
        prices=run.store.read_block(known[-SHOWN:], listings, report.data_version),
        sessions=run.calendar.sessions,
        weekdays=run.calendar.weekdays,
        current=current,
        undated=int(entries[["first", "last"]].isna().all(axis=1).sum()),
        listed=len(entries),
        left_out=len(_names(report, current) - {*run.universe.members(report.as_of)}),
        promotions=list_promotions(run),
        acceptances=_read_acceptances(run),
        quarantined={current.get(entry.symbol, entry.symbol): entry for entry in held},
        quarantine=events.assign(symbol=[current.get(symbol, symbol) for symbol in events["symbol"]]),
        dated=list_dated(folder),
        backtest=find_backtest(folder),
        is_rebuilt=is_rebuilt,
    )


def _names(report: Report, current: Any) -> set[str]:
    listings: pd.Series[str] = name_listings(report.record, current)
    return {*listings.unique()}


def _read_acceptances(run: Run) -> list[Acceptance]:
    """Return who accepted which alarm; nothing where that cannot be read: the doctor says so."""
    try:
        return read_acceptances(run.workspace.alarms(run.name))
    except NextdayError:
        return []
