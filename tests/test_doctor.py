"""The doctor names what is wrong, and for each thing the way out."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace, TracebackType
from uuid import uuid4

import pandas as pd
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import deploy, doctor
from flows.doctor import Finding, examine
from pipeline.ledger import Ledger
from pipeline.sessions import Calendar
from pipeline.store import PriceStore
from tests.command_line import CommandLine
from tests.conftest import prices_of, random_bars
from tests.test_ledger_seal import forge, issue

NOBODY = "http://127.0.0.1:9/api"
NOW = datetime(2018, 12, 20, 22, tzinfo=UTC)


@pytest.fixture(autouse=True)
def no_server() -> Iterator[None]:
    with temporary_settings({PREFECT_API_URL: NOBODY}):
        yield


class Patient:
    """A workspace to look at."""

    def __init__(self, folder: Path) -> None:
        self.config, self.home = folder / "nextday.toml", folder / "w"
        self.config.write_text("[prices]\nstart = 2018-11-01\n")

    def complaint(self, words: str) -> Finding:
        """Return the one thing to mend that is told with these words."""
        found = [item for item in examine(self.config, self.home, NOW) if not item.is_well]
        (said,) = [item for item in found if words in item.what]
        assert said.way_out
        return said

    @property
    def praise(self) -> str:
        return "\n".join(item.what for item in examine(self.config, self.home, NOW) if item.is_well)


@pytest.fixture
def patient(tmp_path: Path) -> Patient:
    return Patient(tmp_path)


class Server:
    """What Prefect's client answers, as far as the doctor asks."""

    def __init__(self, home: Path, *, deployed: bool = True, runs: list[str], workers: list[str]) -> None:
        self.deployments = [
            SimpleNamespace(id=uuid4(), name="nightly", parameters={"home": str(home)})
        ] * deployed
        due = datetime(2018, 12, 20, 23, 30, tzinfo=UTC)
        self.runs = [SimpleNamespace(state_name=state, next_scheduled_start_time=due) for state in runs]
        self.workers = [SimpleNamespace(name="w1", status=status) for status in workers]

    def __enter__(self) -> "Server":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def read_deployments(self, **_: object) -> list[SimpleNamespace]:
        return self.deployments

    def read_flow_runs(self, **_: object) -> list[SimpleNamespace]:
        return self.runs

    def read_workers_for_work_pool(self, _: str) -> list[SimpleNamespace]:
        return self.workers


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> "Serve":
    return Serve(monkeypatch)


class Serve:
    """Let a server answer from now on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def __call__(self, server: Server) -> None:
        self._monkeypatch.setattr(deploy, "server_url", lambda: NOBODY)
        self._monkeypatch.setattr(deploy, "connect", lambda _: server)


def test_a_new_workspace_lacks_prices_champion_ledger_and_server(patient: Patient) -> None:
    for missing in ("no prices yet", "no champion yet", "no ledger yet"):
        assert "nextday forecast" in patient.complaint(missing).way_out
    assert "prefect server start" in patient.complaint("No Prefect server answers").way_out


def test_something_to_mend_is_an_exit_code_and_each_thing_has_its_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = CommandLine(tmp_path, monkeypatch, capsys)("--config", "nextday.toml", "--home", "w", "doctor")
    assert said.code == 1
    lines = said.out.splitlines()
    complaints = [at for at, line in enumerate(lines) if line.startswith("MEND  ")]
    assert len(complaints) == 4
    assert all(lines[at + 1].startswith("      ") and lines[at + 1].strip() for at in complaints)


def test_settings_that_cannot_be_read_end_the_examination_with_the_nearest_key(patient: Patient) -> None:
    patient.config.write_text("[model]\nunit = 3\n")
    found = examine(patient.config, patient.home, NOW)
    assert not found[-1].is_well
    assert "unit" in found[-1].what
    assert "units" in found[-1].what + found[-1].way_out


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
    assert "requirements.lock" in patient.complaint(f"{package} {version}").way_out


def test_live_prices_that_lag_are_counted_in_sessions(patient: Patient, xnys: Calendar) -> None:
    patient.config.write_text(
        '[universe]\nname = "u"\nsource = "files"\npath = "a.csv"\n[prices]\nstart = 2018-11-01\n'
    )
    sessions = xnys.sessions_between(pd.Timestamp("2018-12-03"), pd.Timestamp("2018-12-14"))
    patient.config.with_name("a.csv").write_text("Date,Symbol,Open,High,Low,Close\n2018-12-03,A,1,1,1,1\n")
    store = PriceStore(patient.home / "prices" / "u")
    store.append(prices_of({"A": random_bars(sessions, 1)}, xnys, NOW), run="test")
    # Friday the 14th is known; Monday to Thursday have closed since.
    said = patient.complaint("prices reach 2018-12-14")
    assert "4 sessions behind 2018-12-20" in said.what


def test_a_changed_ledger_row_is_told_with_the_way_to_the_whole_list(patient: Patient) -> None:
    issue(Ledger(patient.home / "ledger.sqlite"), 0, ["AAPL", "MSFT"])
    assert "ledger: 2 forecasts, 0 outcomes" in patient.praise
    forge(patient.home / "ledger.sqlite", "UPDATE forecasts SET p_up = 0.9 WHERE symbol = 'AAPL'")
    said = patient.complaint("seal is broken")
    assert "as_of 2018-12-10" in said.what
    assert "nextday ledger verify" in said.way_out
    assert str(patient.home) in said.way_out


def test_a_file_that_is_no_ledger_is_left_as_it_is(patient: Patient) -> None:
    patient.home.mkdir()
    (patient.home / "ledger.sqlite").write_bytes(b"something else" * 100)
    assert patient.complaint("ledger").way_out
    assert (patient.home / "ledger.sqlite").read_bytes() == b"something else" * 100


def test_an_idle_server_is_told_to_be_deployed_to(patient: Patient, serve: Serve) -> None:
    serve(Server(patient.home, deployed=False, runs=[], workers=[]))
    assert patient.complaint("has no deployment of 'sample'").way_out == "nextday deploy"


def test_a_deployment_that_works_elsewhere_is_named(patient: Patient, serve: Serve) -> None:
    serve(Server(Path("/elsewhere"), runs=["Scheduled"], workers=["ONLINE"]))
    assert "--home" in patient.complaint("another workspace: /elsewhere").way_out


def test_a_schedule_that_stands_still_is_named(patient: Patient, serve: Serve) -> None:
    serve(Server(patient.home, runs=[], workers=["ONLINE"]))
    assert "resume" in patient.complaint("nightly has no scheduled run").way_out


def test_a_late_run_and_a_worker_that_is_gone_are_named(patient: Patient, serve: Serve) -> None:
    serve(Server(patient.home, runs=["Late"], workers=["OFFLINE"]))
    assert "worker" in patient.complaint("was due 2018-12-20 23:30Z and is late").way_out
    assert "prefect worker start --pool nextday-local" in patient.complaint("no worker waits").way_out


def test_a_schedule_that_runs_is_well(patient: Patient, serve: Serve) -> None:
    serve(Server(patient.home, runs=["Scheduled"], workers=["OFFLINE", "ONLINE"]))
    assert "deployment nightly: next run 2018-12-20 23:30Z" in patient.praise
    assert "worker w1 waits" in patient.praise
