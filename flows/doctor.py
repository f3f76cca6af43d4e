"""Look for what is wrong, and say how to mend it."""

import importlib.metadata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.version import Version

from flows.run import Run, open_run
from flows.tracked import tracking
from pipeline.errors import NextdayError
from pipeline.ledger import Ledger

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun
    from prefect.client.schemas.responses import DeploymentResponse

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
    path = run.workspace.ledger
    if not path.exists():
        return [Finding(False, "no ledger yet", "nextday forecast")]
    verification = Ledger(path, read_only=True).verify()
    what = f"ledger: {verification.forecasts} forecasts, {verification.outcomes} outcomes"
    if verification.ok:
        return [Finding(True, what)]
    return [
        Finding(
            False,
            f"{what}, and its seal is broken: {verification.problems[0]}",
            f"`nextday ledger verify` names everything that was changed; put a copy back from before that: {path}",
        )
    ]


def _schedule(run: Run) -> list[Finding]:
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags

    from flows.deploy import connect, server_url

    url = server_url()
    mine = DeploymentFilter(tags=DeploymentFilterTags(all_=["nextday", run.name]))
    with connect(url) as client:
        deployments = client.read_deployments(deployment_filter=mine)
        if not deployments:
            return [Finding(False, f"Prefect at {url} has no deployment of {run.name!r}", "nextday deploy")]
        found = [_deployment(client, run, deployment) for deployment in deployments]
        return [*found, _worker(client, url)]


def _deployment(client: "SyncPrefectClient", run: Run, deployment: "DeploymentResponse") -> Finding:
    home = deployment.parameters.get("home")
    if home != str(run.workspace.home):
        return Finding(
            False,
            f"deployment {deployment.name} works in another workspace: {home}",
            "nextday deploy, or name that workspace with --home",
        )
    waiting = _waiting(client, deployment)
    if not waiting:
        return Finding(
            False,
            f"deployment {deployment.name} has no scheduled run",
            "resume its schedule in Prefect, or nextday deploy; a server with SQLAlchemy 2.1 never creates one",
        )
    due = f"{waiting[0].next_scheduled_start_time:%Y-%m-%d %H:%M}Z"
    if waiting[0].state_name == "Late":
        return Finding(
            False, f"deployment {deployment.name}: a run was due {due} and is late", "keep a worker running"
        )
    return Finding(True, f"deployment {deployment.name}: next run {due}")


def _waiting(client: "SyncPrefectClient", deployment: "DeploymentResponse") -> "list[FlowRun]":
    from prefect.client.schemas import filters
    from prefect.client.schemas.objects import StateType
    from prefect.client.schemas.sorting import FlowRunSort

    scheduled = filters.FlowRunFilterStateType(any_=[StateType.SCHEDULED])
    return client.read_flow_runs(
        deployment_filter=filters.DeploymentFilter(id=filters.DeploymentFilterId(any_=[deployment.id])),
        flow_run_filter=filters.FlowRunFilter(state=filters.FlowRunFilterState(type=scheduled)),
        sort=FlowRunSort.NEXT_SCHEDULED_START_TIME_ASC,
        limit=1,
    )


def _worker(client: "SyncPrefectClient", url: str) -> Finding:
    from flows.deploy import POOL, worker_command

    online = [one.name for one in client.read_workers_for_work_pool(POOL) if one.status == "ONLINE"]
    if online:
        return Finding(True, f"worker {', '.join(online)} waits at the work pool {POOL}")
    return Finding(
        False, f"no worker waits at the work pool {POOL}: nothing would start", worker_command(url)
    )
