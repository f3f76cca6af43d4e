"""Look for what is wrong, and say how to fix it."""

import importlib.metadata
import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd
from packaging.version import Version

from flows.operations.health import Finding, mend, run_check, told, well
from flows.runtime.context import Run, open_run
from flows.runtime.custom_code import describe_audit_gap, list_code
from flows.runtime.tracking import tracking
from pipeline.errors import NextdayError
from pipeline.formatting import count
from pipeline.ledger.ledger import Ledger
from pipeline.report.facts import OLD_MODEL

__all__ = ["Finding", "examine"]

_PATIENCE = timedelta(minutes=90)
"""After a planned evening: one that waits for another run, or trains its first model, may take so long."""

_SOON = timedelta(days=30)
"""Before the end of a calendar: time enough to install a newer one."""

_LEAST_FREE = 2.0
"""GiB: a training, its tracked copy and a report take far less, an evening in the middle of a full disk is lost."""

_MANY_FILES = 1000
"""An evening adds one or two, a history that is fetched again one a year: reading a thousand takes seconds."""

_PINS = {
    "prefect": ("3.8.8", "3.9", "3.9 needs packages that are not released"),
    "fastapi": ("0", "0.151", "the Prefect server does not start with a newer one"),
    "sqlalchemy": (
        "2",
        "2.1",
        "with 2.1 Prefect never creates a scheduled run, and says so only in its own log",
    ),
    "yfinance": ("1.7", "1.8", "the answers of another release have not been checked"),
}


def examine(config: Path | None, home: Path | None, now: datetime | None) -> list[Finding]:
    """Look at packages, settings, disk, prices, champion, ledger, the last evening and the schedule."""
    found = list(_packages())
    try:
        run = open_run(config, home, now)
    except NextdayError as error:
        return [*found, mend(f"settings: {error.what}", told(error))]
    found.append(well(f"settings {run.digest}, workspace {run.workspace.home}"))
    for look in (
        _disk,
        _calendar,
        _own_code,
        _prices,
        _quarantine,
        _champion,
        _ledger,
        _last_evening,
        _schedule,
    ):
        found += run_check(look, run)
    return found


def _packages() -> Iterator[Finding]:
    for name, (least, below, why) in _PINS.items():
        version = importlib.metadata.version(name)
        is_well = Version(least) <= Version(version) < Version(below)
        yield Finding(
            is_well, f"{name} {version}", f"{why}: install from requirements.lock (make clean, make forecast)"
        )
    owners = importlib.metadata.packages_distributions()
    for package in ("pipeline", "models", "flows"):
        others = set(owners.get(package, ["nextday"])) - {"nextday"}
        if others:
            yield mend(
                f"the package {package!r} belongs to {', '.join(others)} too",
                "use an environment of its own",
            )


def _disk(run: Run) -> list[Finding]:
    free = shutil.disk_usage(run.workspace.home).free / 2**30
    what = f"{free:,.1f} GiB free in {run.workspace.home}"
    if free >= _LEAST_FREE:
        return [well(what)]
    return [
        mend(what, f"make room, for example {run.workspace.cache} and old reports; then nextday forecast")
    ]


def _calendar(run: Run) -> list[Finding]:
    """Say in time that the calendar knows no session beyond a day: after it there is no evening."""
    ends = run.calendar.ends
    if ends is None or run.is_historical:
        return []
    what = f"the calendar {run.calendar.name} knows sessions until {ends:%Y-%m-%d}"
    if ends - run.calendar.day(run.now) > _SOON:
        return [well(what)]
    return [mend(f"{what}; after it nothing is forecast", "install a newer release of exchange-calendars")]


def _own_code(run: Run) -> list[Finding]:
    """Say before the evening that it would be refused: own code has to pass the audit first."""
    code = list_code(run)
    if not code or run.is_historical:
        return []
    lack = describe_audit_gap(run, code)
    return [mend(lack, "nextday audit")] if lack else [well(f"{' and '.join(code)} passed the audit")]


def _due(run: Run) -> pd.Timestamp:
    """Return the session whose evening should be over by now, as [schedule] plans it."""
    from flows.operations.deploy import planned_evening

    planned = planned_evening(run, run.now - _PATIENCE)
    return run.closed_by(planned or run.now)


def _prices(run: Run) -> list[Finding]:
    prices = run.store.read(columns=[])
    if prices.empty:
        return [mend("no prices yet", "nextday forecast")]
    last, due = prices["session"].max(), _due(run)
    behind = len(run.calendar.sessions_between(last, due)) - 1
    what = f"prices reach {last:%Y-%m-%d} ({prices['symbol'].nunique()} symbols, version {run.store.seq()})"
    files = run.store.count_files()
    scattered = [mend(f"the prices lie in {files:,} small files: reads are slow", "nextday maintain")]
    found = scattered if files > _MANY_FILES else []
    if run.is_historical or behind <= 0:
        return [well(what + ("; the source is historical" if run.is_historical else "")), *found]
    return [
        *found,
        mend(
            f"{what}: {behind} sessions behind {due:%Y-%m-%d}",
            "nextday update says what the source answered for each symbol",
        ),
    ]


def _quarantine(run: Run) -> list[Finding]:
    """Name whose source contradicts the store: a late split heals by itself, the rest waits for a person."""
    ids = run.universe.instruments.values()
    held = sorted(entry.symbol for id_, entry in run.fetch_log.quarantined().items() if id_ in ids)
    if not held:
        return [well("nobody is in quarantine")]
    named = ", ".join(held[:5]) + (", ..." if len(held) > 5 else "")
    return [
        mend(
            f"{count(len(held), 'symbol')} in quarantine: {named}", "nextday prices quarantine list says why"
        )
    ]


def _champion(run: Run) -> list[Finding]:
    book = tracking(run)
    champion = book.champion(run.name)
    if champion is None:
        return [mend("no champion yet", "nextday forecast trains one")]
    last = run.last_closed if not run.is_historical else run.store.read(columns=[])["session"].max()
    age = len(run.calendar.sessions_between(champion.trained_through, last)) - 1
    what = f"champion {champion.model_version}, trained through {champion.trained_through:%Y-%m-%d}, {age} sessions old"
    found = [Finding(age <= OLD_MODEL, what, "nextday retrain")]
    return found + [mend(fault, "nextday retrain") for fault in book.mirror(run.name)]


def _last_evening(run: Run) -> list[Finding]:
    """Miss an evening without asking Prefect: nobody else notices a schedule that has silently stopped."""
    if run.is_historical or not run.workspace.ledger.exists():
        return []
    due, last = _due(run), Ledger(run.workspace.ledger, read_only=True).last_as_of(run.name)
    if last is not None and last >= due:
        return [well(f"the last evening stands: forecast from {last:%Y-%m-%d}")]
    return [
        mend(
            f"no forecast from {due:%Y-%m-%d}, though its evening is over; the last one is "
            + (f"from {last:%Y-%m-%d}" if last is not None else "not there yet"),
            "nextday forecast says why, and catches up; before the next open it is still live",
        )
    ]


def _ledger(run: Run) -> list[Finding]:
    path = run.workspace.ledger
    if not path.exists():
        return [mend("no ledger yet", "nextday forecast")]
    verification = Ledger(path, read_only=True).verify()
    what = f"ledger: {verification.forecasts} forecasts, {verification.outcomes} outcomes"
    if verification.ok:
        return [well(what)]
    return [
        mend(
            f"{what}, and its seal is broken: {verification.problems[0]}",
            f"`nextday ledger verify` names everything that was changed; put a copy back from before that: {path}",
        )
    ]


def _schedule(run: Run) -> list[Finding]:
    from flows.operations.prefect_server import examine_schedule

    return examine_schedule(run)
