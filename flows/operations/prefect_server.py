"""Look at what a Prefect server knows of nextday: its version, schedules, runs, slots and workers."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import prefect
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas import filters
from prefect.client.schemas.objects import DeploymentSchedule, FlowRun, StateType, Worker
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.client.schemas.sorting import FlowRunSort
from prefect.events.filters import EventFilter, EventNameFilter, EventOccurredFilter, EventResourceFilter
from prefect.exceptions import ObjectNotFound

from flows.operations.deploy import FLOWS, PLANNED, POOL, connect, prefect_command, server_url, worker_command
from flows.operations.health import Finding, mend, well
from flows.runtime.context import Run

__all__ = ["SILENCE", "examine_schedule"]

SILENCE = timedelta(minutes=10)
"""A run sends a heartbeat every three minutes: after three missed ones its process is taken for dead."""

_BEATS = 2
"""Heartbeats that a worker may be late; Prefect calls it online for three and a while."""

_TAKEN = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
_ENDED = '{"state": {"type": "CRASHED", "message": "its process is gone"}, "force": true}'


def examine_schedule(run: Run) -> list[Finding]:
    """Look at the server, the universe's deployments and the work pool.

    Raises:
        NextdayError: no server answers, or it refused.
    """
    url = server_url()
    with connect(url) as client:
        found = [_version(client, url)]
        mine = filters.DeploymentFilter(tags=filters.DeploymentFilterTags(all_=["nextday", run.name]))
        deployments = client.read_deployments(deployment_filter=mine)
        for flow in FLOWS:
            named = [one for one in deployments if _flow(one) == flow]
            if not named:
                found.append(
                    mend(f"Prefect at {url} has no {flow} deployment of {run.name!r}", "nextday deploy")
                )
            for deployment in named:
                found += _Look(client, url, run, deployment).findings()
        return [*found, *_pool(client, url, run)]


def _flow(deployment: DeploymentResponse) -> str:
    return (deployment.entrypoint or "").rpartition(":")[2]


def _version(client: SyncPrefectClient, url: str) -> Finding:
    theirs, ours = client.api_version(), prefect.__version__
    if theirs == ours:
        return well(f"Prefect {theirs} answers at {url}")
    return mend(
        f"the server at {url} is Prefect {theirs}, and this is {ours}",
        f"stop it and start it from this environment: {prefect_command('server start --host 127.0.0.1')}",
    )


class _Look:
    """One deployment, looked at."""

    def __init__(self, client: SyncPrefectClient, url: str, run: Run, deployment: DeploymentResponse) -> None:
        self.client, self.url, self.run, self.deployment = client, url, run, deployment
        self.name = f"{_flow(deployment)}/{deployment.name}"

    def findings(self) -> list[Finding]:
        home = self.deployment.parameters.get("home")
        if home != str(self.run.workspace.home):
            return [
                mend(
                    f"deployment {self.name} works in another workspace: {home}",
                    "nextday deploy, or name that workspace with --home",
                )
            ]
        taken = self._runs(_TAKEN)
        wrong = [*self._schedules(), *self._overdue(), *self._zombies(taken), *self._slots(taken)]
        if not self.deployment.schedules:
            return wrong or [well(f"deployment {self.name}: no schedule, it starts when it is asked for")]
        return wrong or [self._next_run()]

    def _schedules(self) -> Iterator[Finding]:
        for schedule in self.deployment.schedules:
            if self.deployment.paused or not schedule.active:
                resume = f"deployment schedule resume {self.name} {schedule.id}"
                yield mend(f"a schedule of {self.name} is paused", prefect_command(resume, self.url))
            elif self._is_outdated(schedule):
                yield mend(
                    f"{self.name} is not planned as [schedule] says: {schedule.schedule}", "nextday deploy"
                )
        if not self.deployment.schedules and _flow(self.deployment) in PLANNED:
            yield mend(f"{self.name} has no schedule", "nextday deploy")

    def _is_outdated(self, schedule: DeploymentSchedule) -> bool:
        planned = schedule.schedule
        if not isinstance(planned, CronSchedule) or schedule.slug != FLOWS[_flow(self.deployment)]:
            return False
        wanted = getattr(self.run.config.schedule, _flow(self.deployment))
        return (planned.cron, planned.timezone) != (wanted, self.run.calendar.timezone)

    def _overdue(self) -> Iterator[Finding]:
        waiting = [run for run in self._runs([StateType.SCHEDULED]) if run.state_name != "Scheduled"]
        late = [run for run in waiting if run.state_name == "Late"]
        if late:
            yield mend(
                f"{self.name}: {len(late)} late, the oldest was due {_time(late[0])}",
                f"keep a worker running, it starts them one after the other: {worker_command(self.url)}",
            )
        if queued := [run for run in waiting if run.state_name == "AwaitingConcurrencySlot"]:
            yield mend(
                f"{self.name}: {len(queued)} waiting for a slot since {_time(queued[0])}", self._no_limit()
            )

    def _zombies(self, taken: list[FlowRun]) -> Iterator[Finding]:
        for run in taken:
            since = self._last_sign(run)
            if self.run.now - since > SILENCE:
                yield mend(
                    f"{self.name}: the run {run.name} is {run.state_name}, and nothing was heard of it "
                    f"since {since:%Y-%m-%d %H:%M}Z",
                    "see that its process is gone"
                    + (f" (pid {run.infrastructure_pid})" if run.infrastructure_pid else "")
                    + f", then end it: {prefect_command(f'api POST /flow_runs/{run.id}/set_state', self.url)}"
                    f" --data '{_ENDED}'",
                )

    def _last_sign(self, run: FlowRun) -> datetime:
        """Return when the run changed its state or sent a heartbeat last."""
        beat = EventFilter(
            event=EventNameFilter(name=["prefect.flow-run.heartbeat"]),
            resource=EventResourceFilter(id=[f"prefect.flow-run.{run.id}"]),
            occurred=EventOccurredFilter(since=self.run.now - SILENCE, until=self.run.clock()),
        )
        beats = [event.occurred for event in self.client.read_events(beat, limit=1).events]
        changed = [run.state.timestamp] if run.state else []
        return max([*beats, *changed], default=self.run.now)

    def _slots(self, taken: list[FlowRun]) -> Iterator[Finding]:
        limit = self.deployment.global_concurrency_limit
        if limit and limit.active_slots > len(taken):
            free = f"global-concurrency-limit update {limit.name} --active-slots 0"
            yield mend(
                f"{self.name}: {limit.active_slots} of {limit.limit} slots are taken, and {len(taken)} run",
                f"{prefect_command(free, self.url)}\n      then: {self._no_limit()}",
            )

    def _no_limit(self) -> str:
        return (
            "nextday deploy takes the limit away: nextday's own lock sees to it that one run works at a time"
        )

    def _next_run(self) -> Finding:
        planned = self._runs([StateType.SCHEDULED])
        if not planned:
            return mend(
                f"{self.name} has no scheduled run",
                "nextday deploy; if there is none a minute later, restart the server from this environment: one "
                "with SQLAlchemy 2.1 never creates any",
            )
        return well(f"deployment {self.name}: next run {_time(planned[0])}")

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


def _pool(client: SyncPrefectClient, url: str, run: Run) -> list[Finding]:
    try:
        pool = client.read_work_pool(POOL)
    except ObjectNotFound:
        return [mend(f"Prefect at {url} has no work pool {POOL}", "nextday deploy")]
    found = []
    if pool.is_paused:
        found.append(
            mend(f"the work pool {POOL} is paused", prefect_command(f"work-pool resume {POOL}", url))
        )
    return [*found, _workers(client.read_workers_for_work_pool(POOL), url, run)]


def _workers(workers: list[Worker], url: str, run: Run) -> Finding:
    """Prefer the heartbeat to the status: a killed worker is called online for a minute and a half."""
    ages = {worker.name: _age(worker, run) for worker in workers if worker.status == "ONLINE"}
    alive = [worker.name for worker in workers if ages.get(worker.name, _BEATS + 1) <= _BEATS]
    if alive:
        return well(f"worker {', '.join(alive)} waits at the work pool {POOL}")
    if ages:
        name = min(ages, key=lambda name: ages[name])
        what = f"worker {name} is called online, and missed its last {ages[name]:.0f} heartbeats"
        return mend(what, f"start it again, its process is gone or hangs: {worker_command(url)}")
    return mend(f"no worker waits at the work pool {POOL}: nothing would start", worker_command(url))


def _age(worker: Worker, run: Run) -> float:
    """Return the age of the last heartbeat, in heartbeats."""
    if worker.last_heartbeat_time is None:
        return _BEATS + 1
    interval = timedelta(seconds=worker.heartbeat_interval_seconds or 30)
    return (run.now - worker.last_heartbeat_time) / interval
