"""The doctor reports each problem with its fix."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace, TracebackType
from uuid import uuid4

import pandas as pd
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
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.operations import doctor, prefect_server
from flows.operations.deploy import FLOWS
from flows.operations.doctor import examine
from flows.operations.health import HealthCheck
from pipeline.ledger.ledger import Ledger
from pipeline.market.calendar import Calendar
from pipeline.prices.store import PriceStore
from tests.conftest import prices_of, random_bars
from tests.pipeline.ledger.test_sealed_ledger import forge, issue
from tests.support.command_line import CommandLine

NOBODY = "http://127.0.0.1:9/api"
NOW = datetime(2018, 12, 20, 22, tzinfo=UTC)
DUE = datetime(2018, 12, 20, 23, 30, tzinfo=UTC)


@pytest.fixture(autouse=True)
def no_server() -> Iterator[None]:
    with temporary_settings({PREFECT_API_URL: NOBODY}):
        yield


class Patient:
    """A workspace to check."""

    def __init__(self, folder: Path) -> None:
        self.config, self.home = folder / "nextday.toml", folder / "w"
        self.config.write_text("[prices]\nstart = 2018-11-01\n")

    def complaint(self, words: str) -> HealthCheck:
        """Return the one failed check whose text contains these words."""
        found = [item for item in examine(self.config, self.home, NOW) if not item.is_passed]
        (said,) = [item for item in found if words in item.what]
        assert said.fix
        return said

    @property
    def praise(self) -> str:
        return "\n".join(item.what for item in examine(self.config, self.home, NOW) if item.is_passed)


@pytest.fixture
def patient(tmp_path: Path) -> Patient:
    return Patient(tmp_path)


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
        entrypoint=f"flows/{name}.py:{name}",
        parameters={"home": str(home)},
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


def test_a_new_workspace_lacks_prices_champion_ledger_and_server(patient: Patient) -> None:
    for missing in ("no prices yet", "no champion yet", "no ledger yet"):
        assert "nextday forecast" in patient.complaint(missing).fix
    assert "prefect server start" in patient.complaint("No Prefect server answers").fix


def test_a_failed_check_sets_the_exit_code_and_prints_its_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = CommandLine(tmp_path, monkeypatch, capsys)("--config", "nextday.toml", "--home", "w", "doctor")
    assert said.code == 1
    lines = said.out.splitlines()
    complaints = [at for at, line in enumerate(lines) if line.startswith("FIX  ")]
    assert len(complaints) == 4
    assert all(lines[at + 1].startswith("     ") and lines[at + 1].strip() for at in complaints)


def test_settings_that_cannot_be_read_end_the_checks_with_the_nearest_key(patient: Patient) -> None:
    patient.config.write_text("[model]\nunit = 3\n")
    found = examine(patient.config, patient.home, NOW)
    assert not found[-1].is_passed
    assert "unit" in found[-1].what
    assert "units" in found[-1].what + found[-1].fix


@pytest.mark.parametrize(
    ("package", "version"), [("fastapi", "0.165.0"), ("sqlalchemy", "2.1.0"), ("prefect", "3.9.1")]
)
def test_a_package_that_stops_the_schedule_is_named(
    patient: Patient, monkeypatch: pytest.MonkeyPatch, package: str, version: str
) -> None:
    pinned = doctor.importlib.metadata.version
    monkeypatch.setattr(
        doctor.importlib.metadata, "version", lambda name: version if name == package else pinned(name)
    )
    assert "requirements.lock" in patient.complaint(f"{package} {version}").fix


@pytest.fixture
def live(patient: Patient, xnys: Calendar) -> Patient:
    """A workspace of today's prices, which reach Friday the 14th and should reach Wednesday the 19th."""
    patient.config.write_text(
        '[universe]\nname = "sample"\nsource = "files"\npath = "a.csv"\n[prices]\nstart = 2018-11-01\n'
    )
    sessions = xnys.sessions_between(pd.Timestamp("2018-12-03"), pd.Timestamp("2018-12-14"))
    patient.config.with_name("a.csv").write_text("Date,Symbol,Open,High,Low,Close\n2018-12-03,A,1,1,1,1\n")
    store = PriceStore(patient.home / "prices" / "sample")
    store.append(prices_of({"A": random_bars(sessions, 1)}, xnys, NOW), run="test")
    return patient


def test_live_prices_that_lag_are_counted_in_sessions(live: Patient) -> None:
    # It is five in the afternoon of Thursday the 20th: only this evening has not been due yet.
    assert "3 sessions behind 2018-12-19" in live.complaint("prices reach 2018-12-14").what


def test_prices_in_many_small_files_are_joined_by_the_maintenance(
    live: Patient, xnys: Calendar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_MANY_FILES", 1)
    assert "small files" not in " ".join(item.what for item in examine(live.config, live.home, NOW))
    sessions = xnys.sessions_between(pd.Timestamp("2018-12-17"), pd.Timestamp("2018-12-18"))
    store = PriceStore(live.home / "prices" / "sample")
    store.append(prices_of({"A": random_bars(sessions, 2)}, xnys, NOW), run="test")
    assert live.complaint("the prices are in 2 small files").fix == "nextday maintain"
    store.compact(timedelta(days=30))
    assert "small files" not in " ".join(item.what for item in examine(live.config, live.home, NOW))


def test_a_missed_session_is_reported_without_prefect(live: Patient) -> None:
    ledger = Ledger(live.home / "ledger.sqlite")
    issue(ledger, 0, ["A"])
    said = live.complaint("no forecast from 2018-12-19, though its nightly run should be over")
    assert "the last one is from 2018-12-10" in said.what
    assert "nextday forecast" in said.fix


@pytest.mark.parametrize(
    ("now", "due"),
    [
        # In New York: Wednesday 19:55, Thursday 19:59 and Thursday 20:01.
        ("2018-12-20T00:55Z", "2018-12-18"),
        ("2018-12-21T00:59Z", "2018-12-19"),
        ("2018-12-21T01:01Z", "2018-12-20"),
        # The Sunday, the evening of the half day before Christmas, and Christmas itself.
        ("2018-12-23T20:00Z", "2018-12-21"),
        ("2018-12-25T01:01Z", "2018-12-24"),
        ("2018-12-26T12:00Z", "2018-12-24"),
    ],
)
def test_an_evening_is_missed_an_hour_and_a_half_after_its_time_and_never_on_a_holiday(
    live: Patient, now: str, due: str
) -> None:
    issue(Ledger(live.home / "ledger.sqlite"), 0, ["A"])
    found = examine(live.config, live.home, datetime.fromisoformat(now))
    assert any(f"no forecast from {due}" in item.what for item in found)


def test_a_nearly_full_disk_is_reported_before_a_run_is_lost(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: SimpleNamespace(free=2**30))
    assert str(patient.home / "cache") in patient.complaint("1.0 GiB free").fix


def test_a_changed_ledger_row_is_reported_with_the_command_that_lists_all(patient: Patient) -> None:
    issue(Ledger(patient.home / "ledger.sqlite"), 0, ["AAPL", "MSFT"])
    assert "ledger: 2 forecasts, 0 outcomes" in patient.praise
    forge(patient.home / "ledger.sqlite", "UPDATE forecasts SET p_up = 0.9 WHERE symbol = 'AAPL'")
    said = patient.complaint("seal is broken")
    assert "as_of 2018-12-10" in said.what
    assert "nextday ledger verify" in said.fix
    assert str(patient.home) in said.fix


def test_a_file_that_is_no_ledger_is_left_as_it_is(patient: Patient) -> None:
    patient.home.mkdir()
    (patient.home / "ledger.sqlite").write_bytes(b"something else" * 100)
    assert patient.complaint("ledger").fix
    assert (patient.home / "ledger.sqlite").read_bytes() == b"something else" * 100


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


def test_a_worker_that_is_gone_is_named(patient: Patient, server: Server) -> None:
    server.workers = [worker("w1", "OFFLINE", seconds=9e6)]
    assert "prefect worker start --pool nextday-local" in patient.complaint("no worker is running").fix


def test_a_killed_worker_is_named_while_prefect_still_calls_it_online(
    patient: Patient, server: Server
) -> None:
    server.workers = [worker("w1", "ONLINE", seconds=75)]
    said = patient.complaint("worker w1 is shown as online, but missed its last 2 heartbeats")
    assert "prefect worker start" in said.fix


@pytest.mark.parametrize(("trained_through", "age"), [("2018-09-19", 64), ("2018-09-20", 63)])
def test_a_model_older_than_a_quarter_of_a_year_is_to_be_trained_again(
    live: Patient, monkeypatch: pytest.MonkeyPatch, trained_through: str, age: int
) -> None:
    live.config.write_text(live.config.read_text().replace("2018-11-01", "2018-06-01"))
    champion = SimpleNamespace(model_version="abc", trained_through=pd.Timestamp(trained_through))
    book = SimpleNamespace(champion=lambda _: champion, mirror=lambda _: [])
    monkeypatch.setattr(doctor, "tracking", lambda _: book)
    told = f"champion abc, trained through {trained_through}, {age} sessions old"
    if age > 63:
        assert live.complaint(told).fix == "nextday retrain"
    else:
        assert told in live.praise
