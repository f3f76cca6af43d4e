"""Check the installation, and give a fix for each problem."""

import importlib.metadata
import shutil
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import cache, partial
from pathlib import Path

import pandas as pd
from packaging.version import Version

from flows.operations.decay_checks import check_decay
from flows.operations.health import HealthCheck, describe_error, failed, passed, run_check
from flows.operations.notify_checks import check_addresses
from flows.operations.publishing import check_commits
from flows.operations.site_checks import check_copies, check_site
from flows.runtime.context import Run, open_run
from flows.runtime.custom_code import describe_audit_gap, list_code
from flows.runtime.locations import absolute_path, default_config
from flows.runtime.tracking import registry, shared_models, tracking
from models.ensembles.model_files import model_version
from pipeline.backup.wholeness import REPLACE, find_damage
from pipeline.errors import NextdayError
from pipeline.formatting import count
from pipeline.ledger.known_head import RECOVER, ledger_exists
from pipeline.ledger.ledger import Ledger
from pipeline.report.facts import OLD_MODEL
from pipeline.tracking.challengers import ChallengerBook

__all__ = ["HealthCheck", "examine"]

_PATIENCE = timedelta(minutes=90)
"""Time that a nightly run may take: it may wait for another run, or train its first model."""

_SOON = timedelta(days=30)
"""Time before the calendar ends at which the check fails: enough to install a newer release."""

_MIN_FREE = 2.0
"""GiB: a training, its tracked copy and a report take far less; a nightly run on a full disk is lost."""

_MANY_FILES = 1000
"""A nightly run adds one or two, fetching a history again one per year; reading a thousand takes seconds."""

_PINS = {
    "prefect": ("3.8.8", "3.9", "3.9 needs packages that are not released"),
    "fastapi": ("0", "0.151", "the Prefect server does not start with a newer one"),
    "sqlalchemy": (
        "2",
        "2.1",
        "with 2.1 Prefect never creates a scheduled run, and reports that only in its own log",
    ),
    "yfinance": ("1.7", "1.8", "responses of other releases have not been tested"),
}


def examine(config: Path | None, home: Path | None, now: datetime | None) -> list[HealthCheck]:
    """Check packages, settings, disk, calendar, custom code, prices, champion, ledger, last forecast and schedule."""
    found = list(_check_packages())
    try:
        run = open_run(config, home, now)
    except NextdayError as error:
        return [*found, failed(f"settings: {error.what}", describe_error(error))]
    path = absolute_path(config or default_config())
    found.append(passed(f"settings {run.digest}, workspace {run.workspace.home}"))
    for check in (
        _check_disk,
        _check_calendar,
        _check_evenings,
        _check_custom_code,
        _check_prices,
        _check_quarantine,
        _check_mlflow,
        _check_champion,
        _check_digests,
        _check_ledger,
        _check_last_forecast,
        check_decay,
        check_site,
        check_copies,
        check_addresses,
        check_commits,
        partial(_check_schedule, path),
    ):
        found += run_check(check, run)
    return found


def _check_packages() -> Iterator[HealthCheck]:
    for name, (least, below, why) in _PINS.items():
        version = importlib.metadata.version(name)
        is_passed = Version(least) <= Version(version) < Version(below)
        yield HealthCheck(
            is_passed,
            f"{name} {version}",
            f"{why}: install from requirements.lock (make clean, make forecast)",
        )
    installed = _read_installed(tuple(sys.path))
    yield from _check_builds({name for name, _ in installed})
    for package in ("pipeline", "models", "flows"):
        ends = f"\n{package}\n", f"\n{package}/"
        others = {name for name, lines in installed if any(end in lines for end in ends)} - {"nextday"}
        if others:
            yield failed(
                f"the package {package!r} also belongs to {', '.join(others)}",
                "install nextday in a virtual environment of its own",
            )


def _check_builds(names: set[str]) -> Iterator[HealthCheck]:
    """Fail where two builds of TensorFlow have overwritten each other's files; which one works is chance."""
    if {"tensorflow", "tensorflow-cpu"} <= {name.lower().replace("_", "-") for name in names}:
        yield failed(
            "tensorflow and tensorflow-cpu are both installed, and overwrite each other's files",
            "remove both, then install one: pip uninstall --yes tensorflow tensorflow-cpu; pip install --no-deps "
            "tensorflow-cpu==2.21.0 (with a GPU: tensorflow==2.21.0)",
        )


@cache  # to read them all takes half a second, and they stay what they are while a process runs
def _read_installed(path: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return the distributions on a path: their names, and what packages they list."""
    return [(each.name, _contents(each)) for each in importlib.metadata.distributions(path=[*path])]


def _contents(installed: importlib.metadata.Distribution) -> str:
    """Return the lines of a distribution's packages and files, unparsed: metadata.packages_distributions() is slow."""
    return "\n".join(["", installed.read_text("top_level.txt") or "", installed.read_text("RECORD") or ""])


def _check_disk(run: Run) -> list[HealthCheck]:
    free = shutil.disk_usage(run.workspace.home).free / 2**30
    what = f"{free:,.1f} GiB free in {run.workspace.home}"
    if free >= _MIN_FREE:
        return [passed(what)]
    return [
        failed(
            what, f"free some space, for example {run.workspace.cache} and old reports; then nextday forecast"
        )
    ]


def _check_calendar(run: Run) -> list[HealthCheck]:
    """Fail early when the calendar is about to end: no forecast can be made after its last session."""
    ends = run.calendar.ends
    if ends is None or run.is_historical:
        return []
    what = f"the calendar {run.calendar.name} has sessions until {ends:%Y-%m-%d}"
    if ends - run.calendar.day(run.now) > _SOON:
        return [passed(what)]
    return [failed(f"{what}; after it nothing is forecast", "install a newer release of exchange-calendars")]


def _check_custom_code(run: Run) -> list[HealthCheck]:
    """Fail where a live forecast would be refused: custom code has to pass the audit first."""
    code = list_code(run)
    if not code or run.is_historical:
        return []
    gap = describe_audit_gap(run, code)
    return [failed(gap, "nextday audit")] if gap else [passed(f"{' and '.join(code)} passed the audit")]


def _check_evenings(run: Run) -> list[HealthCheck]:
    """Fail where the schedule starts no run in time: the other checks measure by its starts."""
    from flows.operations.schedule import check_schedule

    if run.is_historical:
        return []
    check_schedule(run, "[schedule]")
    return [passed(f"[schedule] fits {run.calendar.name}: a nightly run starts after each session's close")]


def _due(run: Run) -> pd.Timestamp:
    """Return the newest session that should be forecast by now.

    It is due once its nightly run, as planned in [schedule], should have ended, and at the latest when the next session
    opens: a schedule without a start in time does not put it off.
    """
    from flows.operations.schedule import planned_evening

    planned = planned_evening(run, run.now - _PATIENCE)
    opened = int((run.calendar.opens <= run.now).sum())
    before = run.calendar.sessions[max(opened - 2, 0)]
    return max(run.closed_by(planned or run.now), min(before, run.last_closed))


def _check_prices(run: Run) -> list[HealthCheck]:
    prices = run.store.read(symbols=run.universe.symbols, columns=[])
    if prices.empty:
        return [failed("no prices yet", "nextday forecast")]
    last, due = prices["session"].max(), _due(run)
    behind = len(run.calendar.sessions_between(last, due)) - 1
    what = f"prices reach {last:%Y-%m-%d} ({prices['symbol'].nunique()} symbols, version {run.store.seq()})"
    if unchecked := run.store.count_unchecked():
        what += f"; {count(unchecked, 'file')} without a checksum yet, the next update adds it"
    files = run.store.count_files()
    fragmented = [failed(f"the prices are in {files:,} small files: reads are slow", "nextday maintain")]
    found = fragmented if files > _MANY_FILES else []
    if run.is_historical or behind <= 0:
        return [passed(what + ("; the source is historical" if run.is_historical else "")), *found]
    return [
        *found,
        failed(
            f"{what}: {behind} sessions behind {due:%Y-%m-%d}",
            "nextday update lists the source's answer for each symbol",
        ),
    ]


def _check_quarantine(run: Run) -> list[HealthCheck]:
    """List the symbols in quarantine: one with a late split leaves it without help, the others need a person."""
    every = [run.universe, *(run.of_context(part).universe for part in run.context)]
    ids = {id_ for each in every for id_ in each.instruments.values()}
    held = sorted(entry.symbol for id_, entry in run.fetch_log.quarantined().items() if id_ in ids)
    if not held:
        return [passed("no symbol is in quarantine")]
    named = ", ".join(held[:5]) + (", ..." if len(held) > 5 else "")
    return [
        failed(
            f"{count(len(held), 'symbol')} in quarantine: {named}", "nextday prices quarantine list shows why"
        )
    ]


def _check_mlflow(run: Run) -> list[HealthCheck]:
    """Ask the MLflow server who serves; nothing without one.

    Raises:
        TrackingUnreachableError: it does not answer, or refuses.
    """
    shared = shared_models(run)
    if shared is None:
        return []
    named = shared.champion(run.name)
    serving = registry(run).serving(run.name)
    if named == (serving.model_version if serving else ""):
        return [passed(f"MLflow answers at {shared.server}, and names the same champion")]
    what = f"MLflow answers at {shared.server}, and names {named or 'no champion'}: the next run follows"
    return [passed(what)]


def _check_champion(run: Run) -> list[HealthCheck]:
    book = tracking(run)
    champion = book.champion(run.name)
    if champion is None:
        return [failed("no champion yet", "nextday forecast trains one")]
    last = run.last_closed
    if run.is_historical:
        last = run.store.read(symbols=run.universe.symbols, columns=[])["session"].max()
    age = len(run.calendar.sessions_between(champion.trained_through, last)) - 1
    what = f"champion {champion.model_version}, trained through {champion.trained_through:%Y-%m-%d}, {age} sessions old"
    found = [
        HealthCheck(age <= OLD_MODEL, what, "nextday models list: promote a challenger, or nextday retrain")
    ]
    found += _check_challengers(run, champion.model_version)
    repair = f"nextday promote {champion.model_version}"
    return found + [failed(problem, repair) for problem in book.mirror(run.name)]


def _check_challengers(run: Run, serving: str) -> list[HealthCheck]:
    """Compare what is written down of promotions and challengers with the models that are there."""
    book = ChallengerBook(run.workspace.home)
    try:
        standing, noted = book.challengers(run.name), book.promotions(run.name)
    except NextdayError as error:
        return [failed(f"{error.what} ({error.where})", error.fix)]
    found = []
    if noted and noted[-1].model_version != serving:
        what = f"the last promotion written down is that of {noted[-1].model_version}, and {serving} serves"
        found.append(
            failed(what, f"nextday promote {noted[-1].model_version}, then nextday rollback if not meant")
        )
    for each in standing:
        try:
            registry(run).verify(run.name, each.model_version)
        except NextdayError as error:
            found.append(
                failed(f"challenger {each.name}: {error.what}", f"nextday models withdraw {each.name}")
            )
        else:
            found.append(passed(f"challenger {each.name}: {each.model_version}, since {each.since}"))
    return found


def _check_digests(run: Run) -> list[HealthCheck]:
    """Compare models, evaluations, settings and trials with their digests, as a backup does."""
    damage = find_damage(run.workspace.home, model_version)
    if not damage:
        return [passed("models, evaluations, settings and trials agree with their digests")]
    return [failed(each, REPLACE) for each in damage]


def _check_last_forecast(run: Run) -> list[HealthCheck]:
    """Detect a missed session without Prefect: nothing else notices a schedule that has silently stopped."""
    if run.is_historical or not ledger_exists(run.workspace.ledger):
        return []
    due, last = _due(run), Ledger(run.workspace.ledger, read_only=True).last_as_of(run.name)
    if last is not None and last >= due:
        return [passed(f"the last session is forecast: from {last:%Y-%m-%d}")]
    return [
        failed(
            f"no forecast from {due:%Y-%m-%d}, though its nightly run should be over; the last one is "
            + (f"from {last:%Y-%m-%d}" if last is not None else "still to come"),
            "nextday forecast shows why, and catches up; before the next open its rows are still live",
        )
    ]


def _check_ledger(run: Run) -> list[HealthCheck]:
    path = run.workspace.ledger
    if not ledger_exists(path):
        return [failed("no ledger yet", "nextday forecast")]
    verification = Ledger(path, read_only=True).verify()
    what = f"ledger: {verification.forecasts} forecasts, {verification.outcomes} outcomes"
    if verification.ok:
        return [passed(" ".join([what, *verification.beginnings]))]
    return [
        failed(
            f"{what}, and its seal is broken: {verification.problems[0]}",
            f"`nextday ledger verify` lists every change; {RECOVER}: {path}",
        )
    ]


def _check_schedule(config: Path, run: Run) -> list[HealthCheck]:
    from prefect.settings import PREFECT_API_URL

    from flows.operations.prefect_server import examine_schedule
    from flows.runtime.prefect_api import server_url

    if not PREFECT_API_URL.value():
        try:
            server_url()
        except NextdayError:
            return [
                passed(
                    "no Prefect server is in use (PREFECT_API_URL is not set): nothing but you starts the evenings"
                )
            ]
    return examine_schedule(run, config)
