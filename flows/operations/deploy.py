"""Deploy the flows to Prefect: the work pool, and prefect.yaml with project and workspace filled in."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas import filters
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound, PrefectException
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.workers.process import ProcessWorker

from flows.operations.automations import deploy_automations
from flows.operations.schedule import FLOWS, PLANNED, check_schedule
from flows.runtime.context import Run, open_run
from flows.runtime.locations import PROJECT, SETTINGS, SHIPPED, default_config
from flows.runtime.prefect_api import prefect_command, server_url
from pipeline.errors import ConfigError, InputError, NextdayError

__all__ = [
    "PATIENCE",
    "POOL",
    "connect",
    "deploy",
    "deployment_variables",
    "flow_name",
    "worker_command",
]

POOL = "nextday-local"
"""The work pool where nobody names another: runs are processes on the worker's machine."""

_DEPLOYMENTS = "prefect.yaml"

PATIENCE = 60.0
"""Seconds that `deploy` waits for a server: a new one answers 10 to 40 seconds after its start."""


@contextmanager
def connect(url: str) -> Iterator[SyncPrefectClient]:
    """Open Prefect's client for the server at `url`; it uses PREFECT_API_AUTH_STRING if set.

    Raises:
        NextdayError: the server refused a request.
    """
    try:
        with temporary_settings({PREFECT_API_URL: url}), get_client(sync_client=True) as client:
            yield client
    except (httpx.HTTPError, PrefectException) as error:
        raise NextdayError(
            f"The Prefect server refused: {(str(error) or type(error).__name__).splitlines()[0]}",
            where=url,
            fix="if the server has a password, set PREFECT_API_AUTH_STRING=user:password; otherwise nextday deploy",
        ) from None


def worker_command(url: str, pool: str = POOL) -> str:
    """Return the shell command that starts a worker, without which no run starts.

    Limited to one run at a time: after a long outage dozens of late runs may wait, each with its own TensorFlow.
    """
    return prefect_command(f"worker start --pool {pool} --limit 1", url)


def flow_name(deployment: DeploymentResponse) -> str:
    """Return the name of the flow that a deployment runs; earlier ones name its file, later ones its module."""
    return (deployment.entrypoint or "").rpartition(":")[2].rpartition(".")[2]


def deploy(config: Path | None, home: Path | None, pool: str = "") -> list[str]:
    """Deploy prefect.yaml, the one beside the settings or the shipped one; again: applies changed settings only.

    Args:
        config: The settings file.
        home: The workspace.
        pool: The work pool, of any type; default: the one that these deployments use, at first `POOL`, which is
            created as a process pool. Runs get the absolute paths of settings and workspace, so those in a container
            need the same paths there.

    Returns:
        Lines with the next steps.

    Raises:
        ConfigError: a line of [schedule] is not a cron line, or does not fit the calendar; or another settings file is
            deployed under the same name.
        InputError: there is no such work pool.
        NextdayError: no server answers, or Prefect refused; its message is included.
    """
    run, path = open_run(config, home), (config or default_config()).resolve()
    variables = deployment_variables(run, path)
    check_schedule(run, path)
    for place in (path, run.workspace.home):
        if "{{" in str(place):
            raise ConfigError(
                "Prefect fills in what stands between {{ and }}, also in a path",
                where=str(place),
                fix="rename it",
            )
    url = server_url(PATIENCE)
    with connect(url) as client:
        _require_own_names(client, url, run, path, variables["NEXTDAY_SUFFIX"])
        mine = filters.DeploymentFilter(tags=filters.DeploymentFilterTags(all_=["nextday", run.name]))
        former = {each.work_pool_name for each in client.read_deployments(deployment_filter=mine)}
        chosen = pool or (former.pop() if len(former) == 1 else None) or POOL
        _require_pool(client, url, chosen)
    own = path.with_name(_DEPLOYMENTS)
    file = own if path.name == SETTINGS and own.is_file() else SHIPPED / _DEPLOYMENTS
    _deploy_all(file, os.environ | variables | {"NEXTDAY_POOL": chosen, "PREFECT_API_URL": url})
    with connect(url) as client:
        automations = deploy_automations(client, run.name, client.read_deployments(deployment_filter=mine))
    suffix, timezone = variables["NEXTDAY_SUFFIX"], run.calendar.timezone
    planned = {name: f"{getattr(run.config.schedule, name)}  ({timezone})" for name in PLANNED}
    return [
        *(
            f"deployed {name}/{name}{suffix}: {planned.get(name, 'no schedule, it is started by hand')}"
            for name in FLOWS
        ),
        *automations,
        f"keep a worker running: {worker_command(url, chosen)}",
        f"start a run now:       {prefect_command(f'deployment run nightly/nightly{suffix}', url)}",
        f"Prefect's UI:          {url.removesuffix('/api')}",
    ]


def deployment_variables(run: Run, config: Path) -> dict[str, str]:
    """Return the variables of prefect.yaml.

    A configuration other than the project's gets separate deployments, named after its universe.
    """
    path = config.resolve()
    return {
        "NEXTDAY_CONFIG": str(path),
        "NEXTDAY_HOME": str(run.workspace.home),
        "NEXTDAY_UNIVERSE": run.name,
        "NEXTDAY_SUFFIX": "" if path == SHIPPED / SETTINGS else f"-{run.name}",
        "NEXTDAY_TIMEZONE": run.calendar.timezone,
        **{f"NEXTDAY_{name.upper()}": str(getattr(run.config.schedule, name)) for name in PLANNED},
    }


def _require_own_names(client: SyncPrefectClient, url: str, run: Run, config: Path, suffix: str) -> None:
    """Refuse to replace the deployments of another settings file, or to deploy its universe a second time.

    A file that is gone has been moved or renamed: its deployments are replaced.
    """
    names = {f"{name}{suffix}" for name in FLOWS}
    tagged = filters.DeploymentFilter(tags=filters.DeploymentFilterTags(all_=["nextday"]))
    taken: dict[Path, list[str]] = {}
    for deployment in client.read_deployments(deployment_filter=tagged):
        other = Path(deployment.parameters.get("config") or config)
        if other != config and other.exists() and (deployment.name in names or run.name in deployment.tags):
            taken.setdefault(other, []).append(f"{flow_name(deployment)}/{deployment.name}")
    for other, deployed in taken.items():
        raise ConfigError(
            f"Another settings file is deployed under the same names, or with the same universe: {other} as "
            f"{', '.join(sorted(deployed))}",
            where=str(config),
            fix="give one of the two another [universe] name, and keep its settings outside of a checkout; or delete "
            f"each of these deployments: {prefect_command('deployment delete NAME', url)}",
        )


def _require_pool(client: SyncPrefectClient, url: str, pool: str) -> None:
    """Create nextday's own work pool where it is not there yet; any other one has to be."""
    if pool != POOL:
        try:
            client.read_work_pool(pool)
        except ObjectNotFound:
            create = f"work-pool create {pool} --type TYPE"
            raise InputError(
                f"There is no work pool {pool!r}",
                where=url,
                fix=f"create it: {prefect_command(create, url)}; docs/container.md has job templates for docker and "
                "kubernetes",
            ) from None
        return
    template = ProcessWorker.get_default_base_job_template()
    with suppress(ObjectAlreadyExists):
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process", base_job_template=template))


def _deploy_all(file: Path, environment: dict[str, str]) -> None:
    arguments = ["--no-prompt", "deploy", "--all", "--prefect-file", str(file)]
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
        output = (done.stdout + done.stderr).strip()[-800:]
        raise NextdayError(f"Prefect refused to deploy:\n{output}", where=arguments[-1])
