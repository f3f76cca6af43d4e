"""Look for what is wrong, and say how to mend it."""

import importlib.metadata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from packaging.version import Version

from flows.run import Run, open_run
from flows.tracked import tracking
from pipeline.errors import NextdayError

__all__ = ["Finding", "examine"]

_OLD_MODEL = 63
"""Sessions, a quarter of a year: a weekly retrain that has failed twelve times should be noticed."""

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


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    is_well: bool
    what: str
    way_out: str = ""


def examine(config: Path | None, home: Path | None, now: datetime | None) -> list[Finding]:
    """Look at packages, settings, prices, champion, ledger and schedule."""
    found = list(_packages())
    try:
        run = open_run(config, home, now)
    except NextdayError as error:
        return [*found, Finding(False, f"settings: {error.what}", error.way_out or error.where)]
    found.append(Finding(True, f"settings {run.digest}, workspace {run.workspace.home}"))
    for look in (_prices, _champion, _ledger, _schedule):
        found += _guarded(look, run)
    return found


def _guarded(look: Callable[[Run], list[Finding]], run: Run) -> list[Finding]:
    try:
        return look(run)
    except NextdayError as error:
        return [Finding(False, error.what, error.way_out or error.where)]


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
            yield Finding(
                False,
                f"the package {package!r} belongs to {', '.join(others)} too",
                "use an environment of its own",
            )


def _prices(run: Run) -> list[Finding]:
    prices = run.store.read()
    if prices.empty:
        return [Finding(False, "no prices yet", "nextday forecast")]
    last = prices["session"].max()
    behind = len(run.calendar.sessions_between(last, run.last_closed)) - 1
    what = f"prices reach {last:%Y-%m-%d} ({prices['symbol'].nunique()} symbols, version {run.store.seq()})"
    if run.is_historical or behind <= 0:
        return [Finding(True, what + ("; the source is historical" if run.is_historical else ""))]
    return [
        Finding(False, f"{what}: {behind} sessions behind {run.last_closed:%Y-%m-%d}", "nextday forecast")
    ]


def _champion(run: Run) -> list[Finding]:
    book = tracking(run)
    champion = book.champion(run.name)
    if champion is None:
        return [Finding(False, "no champion yet", "nextday forecast trains one")]
    last = run.last_closed if not run.is_historical else run.store.read()["session"].max()
    age = len(run.calendar.sessions_between(champion.trained_through, last)) - 1
    what = f"champion {champion.model_version}, trained through {champion.trained_through:%Y-%m-%d}, {age} sessions old"
    found = [Finding(age <= _OLD_MODEL, what, "nextday retrain")]
    return found + [Finding(False, fault, "nextday retrain") for fault in book.mirror(run.name)]


def _ledger(run: Run) -> list[Finding]:
    if not run.workspace.ledger.exists():
        return [Finding(False, "no ledger yet", "nextday forecast")]
    verification = run.ledger.verify()
    what = f"ledger: {verification.forecasts} forecasts, {verification.outcomes} outcomes"
    return [Finding(verification.ok, what, "; ".join(verification.problems) or "")]


def _schedule(run: Run) -> list[Finding]:
    import httpx

    from flows.deploy import server_url

    url = server_url()
    answer = httpx.post(
        f"{url}/deployments/filter", json={"deployments": {"tags": {"all_": ["nextday", run.name]}}}
    )
    deployments = answer.json() if answer.is_success else []
    if not deployments:
        return [Finding(False, f"Prefect at {url} has no deployment of {run.name!r}", "nextday deploy")]
    return [_scheduled(url, deployment) for deployment in deployments]


def _scheduled(url: str, deployment: dict[str, object]) -> Finding:
    import httpx

    query = {
        "deployments": {"id": {"any_": [deployment["id"]]}},
        "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
        "sort": "NEXT_SCHEDULED_START_TIME_ASC",
        "limit": 1,
    }
    runs = httpx.post(f"{url}/flow_runs/filter", json=query).json()
    if not runs:
        return Finding(
            False,
            f"deployment {deployment['name']} has no scheduled run",
            "resume its schedule in Prefect, or nextday deploy; a server with SQLAlchemy 2.1 never creates one",
        )
    return Finding(True, f"deployment {deployment['name']}: next run {runs[0]['next_scheduled_start_time']}")
