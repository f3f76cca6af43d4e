"""Check the Prefect server: its version, and nextday's schedules, runs, concurrency slots and workers."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import prefect
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas import filters
from prefect.client.schemas.objects import DeploymentSchedule, FlowRun, StateType, Worker
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.client.schemas.sorting import FlowRunSort
from prefect.events.filters import EventFilter, EventNameFilter, EventOccurredFilter, EventResourceFilter
from prefect.exceptions import ObjectNotFound

from flows.operations.automations import SILENCE
from flows.operations.deploy import POOL, connect, flow_name, worker_command
from flows.operations.health import HealthCheck, failed, passed
from flows.operations.schedule import FLOWS, PLANNED
from flows.runtime.context import Run
from flows.runtime.prefect_api import prefect_command, server_url

__all__ = ["examine_schedule"]

_MAX_MISSED = 2
"""Heartbeats that a worker may miss; Prefect shows it as online for somewhat more than three."""

_SLOT_STATES = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
_CRASHED = '{"state": {"type": "CRASHED", "message": "its process is gone"}, "force": true}'


def examine_schedule(run: Run, config: Path) -> list[HealthCheck]:
    """Check the server, the universe's deployments and the work pool.

    Args:
        run: The run.
        config: Its settings file, an absolute path.

    Raises:
        NextdayError: no server answers, or it refused.
    """
    url = server_url()
    with connect(url) as client:
        found = [_check_version(client, url)]
        mine = filters.DeploymentFilter(tags=filters.DeploymentFilterTags(all_=["nextday", run.name]))
        deployments = client.read_deployments(deployment_filter=mine)
        for flow in FLOWS:
            of_flow = [each for each in deployments if flow_name(each) == flow]
            if not of_flow:
                found.append(
                    failed(f"Prefect at {url} has no {flow} deployment of {run.name!r}", "nextday deploy")
                )
            for deployment in of_flow:
                found += _DeploymentCheck(client, url, run, config, deployment).results()
        pools = {each.work_pool_name or POOL for each in deployments} or {POOL}
        return [*found, *(check for pool in sorted(pools) for check in _check_pool(client, url, run, pool))]


def _check_version(client: SyncPrefectClient, url: str) -> HealthCheck:
    theirs, ours = client.api_version(), prefect.__version__
    if theirs == ours:
        return passed(f"Prefect {theirs} answers at {url}")
    return failed(
        f"the server at {url} is Prefect {theirs}, and this is {ours}",
        f"stop it and start it from this environment: {prefect_command('server start --host 127.0.0.1')}",
    )


class _DeploymentCheck:
    """The checks of one deployment."""

    def __init__(
        self, client: SyncPrefectClient, url: str, run: Run, config: Path, deployment: DeploymentResponse
    ) -> None:
        self.client, self.url, self.run, self.deployment = client, url, run, deployment
        self.config = str(config)
        self.name = f"{flow_name(deployment)}/{deployment.name}"

    def results(self) -> list[HealthCheck]:
        other = self.deployment.parameters.get("config") or self.config
        if other != self.config:
            return [
                failed(
                    f"deployment {self.name} is of the same universe and uses another settings file: {other}",
                    "give one of the two another [universe] name, or delete the deployment if it is out of use: "
                    + prefect_command(f"deployment delete {self.name}", self.url),
                )
            ]
        home = self.deployment.parameters.get("home")
        if home != str(self.run.workspace.home):
            return [
                failed(
                    f"deployment {self.name} uses another workspace: {home}",
                    "nextday deploy, or give that workspace with --home",
                )
            ]
        active = self._runs(_SLOT_STATES)
        problems = [
            *self._check_schedules(),
            *self._check_overdue(),
            *self._check_zombies(active),
            *self._check_slots(active),
        ]
        if not self.deployment.schedules:
            return problems or [passed(f"deployment {self.name}: no schedule, it is started by hand")]
        return problems or [self._check_next_run()]

    def _check_schedules(self) -> Iterator[HealthCheck]:
        for schedule in self.deployment.schedules:
            if self.deployment.paused or not schedule.active:
                resume = f"deployment schedule resume {self.name} {schedule.id}"
                yield failed(f"a schedule of {self.name} is paused", prefect_command(resume, self.url))
            elif self._is_outdated(schedule):
                yield failed(
                    f"{self.name} does not run as planned in [schedule]: {schedule.schedule}",
                    "nextday deploy",
                )
        if not self.deployment.schedules and flow_name(self.deployment) in PLANNED:
            yield failed(f"{self.name} has no schedule", "nextday deploy")

    def _is_outdated(self, schedule: DeploymentSchedule) -> bool:
        planned = schedule.schedule
        if not isinstance(planned, CronSchedule) or schedule.slug != FLOWS[flow_name(self.deployment)]:
            return False
        wanted = getattr(self.run.config.schedule, flow_name(self.deployment))
        return (planned.cron, planned.timezone) != (wanted, self.run.calendar.timezone)

    def _check_overdue(self) -> Iterator[HealthCheck]:
        waiting = [run for run in self._runs([StateType.SCHEDULED]) if run.state_name != "Scheduled"]
        late = [run for run in waiting if run.state_name == "Late"]
        if late:
            yield failed(
                f"{self.name}: {len(late)} late, the oldest was due {_time(late[0])}",
                "keep a worker running, it starts them one by one: "
                + worker_command(self.url, self.deployment.work_pool_name or POOL),
            )
        if queued := [run for run in waiting if run.state_name == "AwaitingConcurrencySlot"]:
            yield failed(
                f"{self.name}: {len(queued)} waiting for a slot since {_time(queued[0])}", self._no_limit()
            )

    def _check_zombies(self, active: list[FlowRun]) -> Iterator[HealthCheck]:
        for run in active:
            since = self._last_sign(run)
            if self.run.now - since > SILENCE:
                yield failed(
                    f"{self.name}: the run {run.name} is {run.state_name}, but has sent no heartbeat "
                    f"since {since:%Y-%m-%d %H:%M}Z",
                    "check that its process is gone"
                    + (f" (pid {run.infrastructure_pid})" if run.infrastructure_pid else "")
                    + f", then end it: {prefect_command(f'api POST /flow_runs/{run.id}/set_state', self.url)}"
                    f" --data '{_CRASHED}'",
                )

    def _last_sign(self, run: FlowRun) -> datetime:
        """Return when the run last changed its state or sent a heartbeat."""
        beat = EventFilter(
            event=EventNameFilter(name=["prefect.flow-run.heartbeat"]),
            resource=EventResourceFilter(id=[f"prefect.flow-run.{run.id}"]),
            occurred=EventOccurredFilter(since=self.run.now - SILENCE, until=self.run.clock()),
        )
        beats = [event.occurred for event in self.client.read_events(beat, limit=1).events]
        changed = [run.state.timestamp] if run.state else []
        return max([*beats, *changed], default=self.run.now)

    def _check_slots(self, active: list[FlowRun]) -> Iterator[HealthCheck]:
        limit = self.deployment.global_concurrency_limit
        if limit and limit.active_slots > len(active):
            free = f"global-concurrency-limit update {limit.name} --active-slots 0"
            yield failed(
                f"{self.name}: {limit.active_slots} of {limit.limit} slots are taken, but {len(active)} are running",
                f"{prefect_command(free, self.url)}\n     then: {self._no_limit()}",
            )

    def _no_limit(self) -> str:
        return "nextday deploy removes the limit: nextday's own lock lets one run work at a time"

    def _check_next_run(self) -> HealthCheck:
        planned = self._runs([StateType.SCHEDULED])
        if not planned:
            return failed(
                f"{self.name} has no scheduled run",
                "nextday deploy; if there is still none after a minute, restart the server from this environment: one "
                "with SQLAlchemy 2.1 never creates any",
            )
        return passed(f"deployment {self.name}: next run {_time(planned[0])}")

    def _runs(self, states: list[StateType]) -> list[FlowRun]:
        in_states = filters.FlowRunFilterState(type=filters.FlowRunFilterStateType(any_=states))
        mine = filters.DeploymentFilter(id=filters.DeploymentFilterId(any_=[self.deployment.id]))
        return self.client.read_flow_runs(
            deployment_filter=mine,
            flow_run_filter=filters.FlowRunFilter(state=in_states),
            sort=FlowRunSort.NEXT_SCHEDULED_START_TIME_ASC,
        )


def _time(run: FlowRun) -> str:
    return f"{run.expected_start_time:%Y-%m-%d %H:%M}Z"


def _check_pool(client: SyncPrefectClient, url: str, run: Run, name: str) -> list[HealthCheck]:
    try:
        pool = client.read_work_pool(name)
    except ObjectNotFound:
        return [failed(f"Prefect at {url} has no work pool {name}", "nextday deploy")]
    found = []
    if pool.is_paused:
        found.append(
            failed(f"the work pool {name} is paused", prefect_command(f"work-pool resume {name}", url))
        )
    return [*found, _check_workers(client.read_workers_for_work_pool(name), url, run, name)]


def _check_workers(workers: list[Worker], url: str, run: Run, pool: str) -> HealthCheck:
    """Use the heartbeat, not the status: a killed worker stays online for a minute and a half."""
    ages = {worker.name: _age(worker, run) for worker in workers if worker.status == "ONLINE"}
    alive = [worker.name for worker in workers if ages.get(worker.name, _MAX_MISSED + 1) <= _MAX_MISSED]
    if alive:
        return passed(f"worker {', '.join(alive)} is running for the work pool {pool}")
    if ages:
        name = min(ages, key=lambda name: ages[name])
        what = f"worker {name} is shown as online, but missed its last {ages[name]:.0f} heartbeats"
        return failed(what, f"restart it, its process is gone or hangs: {worker_command(url, pool)}")
    return failed(
        f"no worker is running for the work pool {pool}: nothing would start", worker_command(url, pool)
    )


def _age(worker: Worker, run: Run) -> float:
    """Return the age of the last heartbeat, in heartbeats."""
    if worker.last_heartbeat_time is None:
        return _MAX_MISSED + 1
    interval = timedelta(seconds=worker.heartbeat_interval_seconds or 30)
    return (run.now - worker.last_heartbeat_time) / interval
