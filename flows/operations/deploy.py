"""Hand the flows to Prefect: a work pool, and prefect.yaml with the project and the workspace filled in."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectAlreadyExists, PrefectException
from prefect.server.schemas.schedules import CronSchedule
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.workers.process import ProcessWorker

from flows.runtime.context import PROJECT, Run, default_config, open_run
from flows.runtime.progress import log_line
from pipeline.errors import ConfigError, NextdayError

__all__ = [
    "FLOWS",
    "PATIENCE",
    "PLANNED",
    "POOL",
    "connect",
    "deploy",
    "deployment_variables",
    "planned_evening",
    "prefect_command",
    "server_url",
    "worker_command",
]

POOL = "nextday-local"

FLOWS = {"nightly": "after-close", "retrain": "weekly", "maintenance": "monthly", "backtest": ""}
"""What is deployed: the slug of the schedule that the line of that name in [schedule] plans; empty: none does."""

PLANNED = [name for name, slug in FLOWS.items() if slug]
"""What starts by itself."""

PATIENCE = 60.0
"""Seconds that `deploy` waits for a server: one that was just started answers after 10 to 40."""

_MOST = 1000
"""Starts looked at in a day: a cron line that plans more is none for evenings."""

_PREFECT = Path(sys.executable).with_name("prefect")


def server_url(patience: float = 0) -> str:
    """Return the API's address, checked to answer.

    Args:
        patience: Seconds to go on asking.

    Raises:
        ConfigError: the address holds a password.
        NextdayError: no Prefect server answers there.
    """
    url = str(PREFECT_API_URL.value() or "http://127.0.0.1:4200/api").rstrip("/")
    if "@" in url:
        raise ConfigError(
            "The address of the Prefect server holds a password, which messages and commands would repeat",
            where="PREFECT_API_URL",
            fix="take it out there, and set PREFECT_API_AUTH_STRING=user:password",
        )
    refusal, end = _refusal(url), time.monotonic() + patience
    if refusal and patience:
        log_line(f"waiting for the Prefect server at {url}: one that was just started takes a while")
    while refusal and time.monotonic() < end:
        time.sleep(1)
        refusal = _refusal(url)
    if refusal:
        raise NextdayError(
            f"No Prefect server answers: {refusal}",
            where=url,
            fix=f"start one and keep it running: {prefect_command('server start --host 127.0.0.1')}"
            "\n           (a server elsewhere: set PREFECT_API_URL to its address, ending in /api; unset it, and a "
            "command by hand needs none)",
        )
    return url


@contextmanager
def connect(url: str) -> Iterator[SyncPrefectClient]:
    """Open Prefect's own client of the server at `url`, which knows its password too.

    Raises:
        NextdayError: the server refused something.
    """
    try:
        with temporary_settings({PREFECT_API_URL: url}), get_client(sync_client=True) as client:
            yield client
    except (httpx.HTTPError, PrefectException) as error:
        raise NextdayError(
            f"The Prefect server refused: {(str(error) or type(error).__name__).splitlines()[0]}",
            where=url,
            fix="a server with a password: set PREFECT_API_AUTH_STRING=user:password; else nextday deploy",
        ) from None


def prefect_command(arguments: str, url: str = "") -> str:
    """Return a line for the shell: this environment's `prefect`, talking to the server at `url`."""
    return f"{f'PREFECT_API_URL={url} ' if url else ''}{_PREFECT} {arguments}"


def worker_command(url: str) -> str:
    """Return what starts a worker: nothing runs without one.

    One run at a time: after a long outage dozens of late runs may wait, and each is a TensorFlow of its own.
    """
    return prefect_command(f"worker start --pool {POOL} --limit 1", url)


def deploy(config: Path | None, home: Path | None) -> list[str]:
    """Create the process work pool and deploy prefect.yaml; doing it again changes only what the settings changed.

    Returns:
        The lines that tell what to do next.

    Raises:
        ConfigError: a line of [schedule] is no cron.
        NextdayError: no server answers, or Prefect refused; its own words are in the message.
    """
    run, path = open_run(config, home), (config or default_config()).resolve()
    variables = deployment_variables(run, path)
    for name in PLANNED:
        _cron(name, run, path)
    url = server_url(PATIENCE)
    with connect(url) as client:
        _create_pool(client)
    _deploy_all(os.environ | variables | {"PREFECT_API_URL": url})
    suffix, timezone = variables["NEXTDAY_SUFFIX"], run.calendar.timezone
    planned = {name: f"{getattr(run.config.schedule, name)}  ({timezone})" for name in PLANNED}
    return [
        *(
            f"deployed {name}/{name}{suffix}: {planned.get(name, 'no schedule, it starts when it is asked for')}"
            for name in FLOWS
        ),
        f"keep a worker running: {worker_command(url)}",
        f"try it at once:        {prefect_command(f'deployment run nightly/nightly{suffix}', url)}",
        f"look at it:            {url.removesuffix('/api')}",
    ]


def deployment_variables(run: Run, config: Path) -> dict[str, str]:
    """Return what prefect.yaml asks for.

    A configuration other than the project's own gets deployments of its own, named after its universe.
    """
    path = config.resolve()
    return {
        "NEXTDAY_PROJECT": str(PROJECT),
        "NEXTDAY_CONFIG": str(path),
        "NEXTDAY_HOME": str(run.workspace.home),
        "NEXTDAY_UNIVERSE": run.name,
        "NEXTDAY_SUFFIX": "" if path == PROJECT / "nextday.toml" else f"-{run.name}",
        "NEXTDAY_TIMEZONE": run.calendar.timezone,
        **{f"NEXTDAY_{name.upper()}": str(getattr(run.config.schedule, name)) for name in PLANNED},
    }


def _refusal(url: str) -> str:
    try:
        httpx.get(f"{url}/health", timeout=10).raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return str(error) or type(error).__name__
    return ""


def planned_evening(run: Run, before: datetime) -> datetime | None:
    """Return when [schedule] planned the last nightly run before a time; None: none in the 40 days before.

    Raises:
        ConfigError: the line is no cron.
    """
    schedule = _cron("nightly", run, "[schedule]")
    for days in (1, 8, 40):
        starts = asyncio.run(schedule.get_dates(_MOST, before - timedelta(days=days), before))
        if starts:
            return starts[-1]
    return None


def _cron(name: str, run: Run, where: Path | str) -> CronSchedule:
    line = getattr(run.config.schedule, name)
    try:
        return CronSchedule(cron=line, timezone=run.calendar.timezone)
    except ValueError:
        raise ConfigError(
            f"[schedule] {name} = {line!r} is no cron line",
            where=str(where),
            fix="minute, hour, day, month, weekday, for example 30 18 * * MON-FRI",
        ) from None


def _create_pool(client: SyncPrefectClient) -> None:
    """Create the work pool; one that is there stays as its owner has set it up."""
    template = ProcessWorker.get_default_base_job_template()
    with suppress(ObjectAlreadyExists):
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process", base_job_template=template))


def _deploy_all(environment: dict[str, str]) -> None:
    arguments = ["--no-prompt", "deploy", "--all", "--prefect-file", str(PROJECT / "prefect.yaml")]
    done = subprocess.run(
        [sys.executable, "-m", "prefect", *arguments],
        env=environment,
        cwd=PROJECT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        words = (done.stdout + done.stderr).strip()[-800:]
        raise NextdayError(f"Prefect refused to deploy:\n{words}", where=arguments[-1])
