"""The doctor reports each problem of the schedule on a Prefect server with its fix."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace, TracebackType
from uuid import uuid4

import prefect
import pytest
from prefect.client.schemas.filters import DeploymentFilter, FlowRunFilter
from prefect.client.schemas.objects import (
    DeploymentSchedule,
    FlowRun,
    State,
    StateType,
    Worker,
    WorkerStatus,
)
from prefect.client.schemas.responses import DeploymentResponse, GlobalConcurrencyLimitResponse
from prefect.client.schemas.schedules import CronSchedule

from flows.operations import prefect_server
from flows.operations.schedule import FLOWS
from tests.flows.operations.conftest import NOBODY, NOW, Patient

pytestmark = pytest.mark.usefixtures("no_server")

DUE = datetime(2018, 12, 20, 23, 30, tzinfo=UTC)


class Server:
    """The answers of Prefect's client that the doctor uses: a working schedule, unless a test changes it."""

    def __init__(self, home: Path) -> None:
        self.version, self.is_paused = prefect.__version__, False
        self.deployments = [
            deployment(home, "nightly", "30 18 * * MON-FRI"),
            deployment(home, "retrain", "0 8 * * SAT"),
            deployment(home, "maintenance", "0 12 1 * *"),
            deployment(home, "backtest", ""),
        ]
        self.runs = [flow_run(one, "Scheduled", DUE) for one in self.deployments if one.schedules]
        self.beats: list[datetime] = []
        self.workers = [worker("w1", "ONLINE", seconds=20)]

    @property
    def nightly(self) -> DeploymentResponse:
        return self.deployments[0]

    def __enter__(self) -> "Server":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def api_version(self) -> str:
        return self.version

    def read_deployments(self, **_: object) -> list[DeploymentResponse]:
        return self.deployments

    def read_flow_runs(
        self, *, deployment_filter: DeploymentFilter, flow_run_filter: FlowRunFilter, **_: object
    ) -> list[FlowRun]:
        assert deployment_filter.id
        assert flow_run_filter.state
        assert flow_run_filter.state.type
        of, types = deployment_filter.id.any_ or [], flow_run_filter.state.type.any_ or []
        return [run for run in self.runs if run.deployment_id in of and run.state and run.state.type in types]

    def read_events(self, *_: object, **__: object) -> SimpleNamespace:
        return SimpleNamespace(events=[SimpleNamespace(occurred=beat) for beat in self.beats])

    def read_work_pool(self, _: str) -> SimpleNamespace:
        return SimpleNamespace(is_paused=self.is_paused)

    def read_workers_for_work_pool(self, _: str) -> list[Worker]:
        return self.workers


def schedules(name: str, cron: str) -> list[DeploymentSchedule]:
    planned = CronSchedule(cron=cron, timezone="America/New_York")
    return [DeploymentSchedule(schedule=planned, active=True, slug=FLOWS.get(name))]


def deployment(home: Path, name: str, cron: str) -> DeploymentResponse:
    return DeploymentResponse(
        id=uuid4(),
        name=name,
        flow_id=uuid4(),
        entrypoint=f"flows.{name}.{name}",
        parameters={"home": str(home)},
        work_pool_name="nextday-local",
        schedules=schedules(name, cron) if cron else [],
    )


def flow_run(of: DeploymentResponse, state: str, since: datetime) -> FlowRun:
    kind = (
        StateType.SCHEDULED
        if state in ("Scheduled", "Late", "AwaitingConcurrencySlot")
        else StateType.RUNNING
    )
    return FlowRun(
        id=uuid4(),
        name="brave-otter",
        flow_id=of.flow_id,
        deployment_id=of.id,
        state=State(type=kind, name=state, timestamp=since),
        state_name=state,
        expected_start_time=since,
        infrastructure_pid="4711",
    )


def worker(name: str, status: str, seconds: float) -> Worker:
    heard = NOW - timedelta(seconds=seconds)
    return Worker(
        name=name,
        work_pool_id=uuid4(),
        status=WorkerStatus(status),
        last_heartbeat_time=heard,
        heartbeat_interval_seconds=30,
    )


@pytest.fixture
def server(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server that answers from now on."""
    server = Server(patient.home)
    monkeypatch.setattr(prefect_server, "server_url", lambda: NOBODY)
    monkeypatch.setattr(prefect_server, "connect", lambda _: server)
    return server


def test_a_server_without_deployments_needs_a_deploy(patient: Patient, server: Server) -> None:
    server.deployments = []
    for flow in FLOWS:
        assert patient.complaint(f"no {flow} deployment of 'sample'").fix == "nextday deploy"


def test_a_working_schedule_passes(patient: Patient, server: Server) -> None:
    server.workers.append(worker("old", "OFFLINE", seconds=9e6))
    assert f"Prefect {prefect.__version__} answers" in patient.praise
    assert "deployment nightly/nightly: next run 2018-12-20 23:30Z" in patient.praise
    assert "worker w1 is running" in patient.praise


def test_a_server_of_another_version_is_to_be_started_from_this_environment(
    patient: Patient, server: Server
) -> None:
    server.version = "3.1.0"
    said = patient.complaint("is Prefect 3.1.0, and this is")
    assert "bin/prefect server start --host 127.0.0.1" in said.fix


def test_a_second_settings_file_of_the_same_universe_is_named(patient: Patient, server: Server) -> None:
    server.nightly.parameters["config"] = "/elsewhere/nextday.toml"
    said = patient.complaint("uses another settings file: /elsewhere/nextday.toml")
    assert "[universe] name" in said.fix
    assert "deployment delete nightly/nightly" in said.fix
    server.nightly.parameters["config"] = str(patient.config)
    assert "deployment nightly/nightly: next run" in patient.praise


def test_a_deployment_that_works_elsewhere_is_named(patient: Patient, server: Server) -> None:
    server.nightly.parameters["home"] = "/elsewhere"
    assert "--home" in patient.complaint("another workspace: /elsewhere").fix


def test_a_schedule_without_runs_is_named(patient: Patient, server: Server) -> None:
    server.runs = server.runs[1:]
    assert "SQLAlchemy" in patient.complaint("nightly/nightly has no scheduled run").fix


def test_a_paused_schedule_is_resumed_by_its_own_name(patient: Patient, server: Server) -> None:
    schedule = server.nightly.schedules[0]
    schedule.active = False
    fix = patient.complaint("a schedule of nightly/nightly is paused").fix
    assert fix.endswith(f"prefect deployment schedule resume nightly/nightly {schedule.id}")


def test_a_schedule_that_was_edited_but_not_deployed_is_named(patient: Patient, server: Server) -> None:
    patient.config.write_text('[prices]\nstart = 2018-11-01\n[schedule]\nnightly = "0 20 * * MON-FRI"\n')
    assert patient.complaint("does not run as planned in [schedule]").fix == "nextday deploy"


def test_a_backtest_needs_no_schedule_and_may_have_one_of_its_own(patient: Patient, server: Server) -> None:
    assert "deployment backtest/backtest: no schedule, it is started by hand" in patient.praise
    walk = server.deployments[-1]
    walk.schedules = schedules("own", "0 10 * * SUN")
    server.runs.append(flow_run(walk, "Scheduled", DUE))
    assert "deployment backtest/backtest: next run 2018-12-20 23:30Z" in patient.praise
    walk.schedules[0].active = False
    assert patient.complaint("a schedule of backtest/backtest is paused")


def test_late_runs_are_counted_from_the_oldest(patient: Patient, server: Server) -> None:
    server.runs += [flow_run(server.nightly, "Late", NOW - timedelta(hours=hours)) for hours in (5, 2)]
    said = patient.complaint("nightly/nightly: 2 late, the oldest was due 2018-12-20 17:00Z")
    assert "worker start --pool nextday-local --limit 1" in said.fix


def test_a_run_whose_process_is_gone_is_named_with_the_way_to_end_it(
    patient: Patient, server: Server
) -> None:
    lost = flow_run(server.nightly, "Running", NOW - timedelta(hours=3))
    server.runs.append(lost)
    said = patient.complaint("brave-otter is Running, but has sent no heartbeat since 2018-12-20 19:00Z")
    assert "pid 4711" in said.fix
    assert f"prefect api POST /flow_runs/{lost.id}/set_state" in said.fix
    # A long training goes on sending heartbeats.
    server.beats = [NOW - timedelta(minutes=2)]
    assert "deployment nightly/nightly: next run" in patient.praise


def test_a_slot_that_a_crash_has_kept_is_freed_by_hand(patient: Patient, server: Server) -> None:
    limit = f"deployment:{server.nightly.id}"
    server.nightly.global_concurrency_limit = GlobalConcurrencyLimitResponse(
        id=uuid4(), name=limit, limit=1, active=True, active_slots=1, slot_decay_per_second=0
    )
    server.runs.append(flow_run(server.nightly, "AwaitingConcurrencySlot", NOW - timedelta(hours=1)))
    said = patient.complaint("1 of 1 slots are taken, but 0 are running")
    assert f"prefect global-concurrency-limit update {limit} --active-slots 0" in said.fix
    assert "nextday deploy" in patient.complaint("1 waiting for a slot since 2018-12-20 21:00Z").fix


def test_a_paused_pool_is_named(patient: Patient, server: Server) -> None:
    server.is_paused = True
    assert "prefect work-pool resume nextday-local" in patient.complaint("is paused").fix


def test_the_pool_of_the_deployments_is_looked_at(patient: Patient, server: Server) -> None:
    for each in server.deployments:
        each.work_pool_name = "in-docker"
    assert "is running for the work pool in-docker" in patient.praise
    server.is_paused = True
    assert "prefect work-pool resume in-docker" in patient.complaint("is paused").fix
    server.runs.append(flow_run(server.nightly, "Late", NOW - timedelta(hours=5)))
    assert "worker start --pool in-docker" in patient.complaint("1 late").fix


def test_a_deployment_of_an_earlier_version_names_its_file(patient: Patient, server: Server) -> None:
    server.nightly.entrypoint = "flows/nightly.py:nightly"
    assert "deployment nightly/nightly: next run" in patient.praise


def test_a_worker_that_is_gone_is_named(patient: Patient, server: Server) -> None:
    server.workers = [worker("w1", "OFFLINE", seconds=9e6)]
    assert "prefect worker start --pool nextday-local" in patient.complaint("no worker is running").fix


def test_a_killed_worker_is_named_while_prefect_still_calls_it_online(
    patient: Patient, server: Server
) -> None:
    server.workers = [worker("w1", "ONLINE", seconds=75)]
    said = patient.complaint("worker w1 is shown as online, but missed its last 2 heartbeats")
    assert "prefect worker start" in said.fix
