"""The doctor reports each problem with its fix."""

from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.operations import doctor
from flows.operations.doctor import examine
from pipeline.ledger.ledger import Ledger
from pipeline.market.calendar import Calendar
from pipeline.prices.store import PriceStore
from tests.conftest import prices_of, random_bars
from tests.flows.operations.conftest import NOW, Patient
from tests.pipeline.ledger.test_sealed_ledger import forge, issue
from tests.support.command_line import CommandLine

pytestmark = pytest.mark.usefixtures("no_server")


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


def test_without_a_server_there_is_no_schedule_to_complain_of(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.runtime.prefect_api._check_server", lambda url: "nobody listens")
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        assert "no Prefect server is in use (PREFECT_API_URL is not set)" in patient.praise


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


def test_two_builds_of_tensorflow_in_one_environment_are_named(
    patient: Patient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "TensorFlow" not in patient.praise
    for build in ("tensorflow", "tensorflow_cpu"):
        info = tmp_path / "site" / f"{build}-2.21.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {build}\nVersion: 2.21.0\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert "pip uninstall --yes tensorflow tensorflow-cpu" in patient.complaint("are both installed").fix


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("RECORD", "models/__init__.py,,\n"),
        ("top_level.txt", "models\n"),
    ],  # a project in editable mode lists no file
)
def test_another_projects_package_of_the_same_name_is_named(
    patient: Patient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, text: str
) -> None:
    info = tmp_path / "site" / "other_project-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other-project\nVersion: 1.0\n")
    (info / file).write_text(text)
    assert not [each for each in doctor._check_packages() if not each.is_passed]
    monkeypatch.syspath_prepend(str(info.parent))
    fix = patient.complaint("the package 'models' also belongs to other-project").fix
    assert "virtual environment of its own" in fix


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
        assert "nextday retrain" in live.complaint(told).fix
    else:
        assert told in live.praise


def test_a_server_and_a_store_that_do_not_answer_are_named(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = "http://127.0.0.1:9"
    for name, value in {"ENDPOINT_URL": nobody, "ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    with patient.config.open("a") as settings:
        settings.write(f'[storage]\nmlflow = "{nobody}"\nreports = "s3://desk/reports"\n')
    found = {each.what: each for each in examine(patient.config, patient.home, NOW) if not each.is_passed}
    server = found["The champion cannot be told: the MLflow server cannot be reached"]
    store = found["The object store of the reports cannot be reached"]
    assert server.fix.startswith(f"{nobody}: check the network and [storage] mlflow")
    assert store.fix.startswith(f"s3://desk/reports/sample at {nobody}: check the network")
