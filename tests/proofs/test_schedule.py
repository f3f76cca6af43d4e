"""From nothing to a scheduled evening: a real Prefect server, a real worker, and `nextday deploy`."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.operations import deploy
from flows.operations.deploy import POOL, connect, deployment_variables
from flows.runtime.context import open_run
from flows.runtime.locations import PROJECT, default_config
from flows.runtime.prefect_api import server_url
from pipeline.errors import NextdayError
from pipeline.ledger.ledger import Ledger
from pipeline.market.calendar import calendar
from tests.conftest import network_settings
from tests.support.command_line import CommandLine, told
from tests.support.prefect_place import ENDED, Place, wait_for

CRONS = {
    "nightly": "30 18 * * MON-FRI",
    "retrain": "0 8 * * SAT",
    "maintenance": "0 12 1 * *",
    "backtest": "",
}
EVENING = "2018-12-31T23:00:00+00:00"
NEW_YORK = ZoneInfo("America/New_York")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A server that `nextday deploy` has been run against, once."""
    place = Place(tmp_path_factory.mktemp("schedule"))
    with place.server():
        done = place.nextday("deploy")
        assert done.returncode == 0, done.stderr
        assert f"prefect worker start --pool {POOL}" in done.stdout
        yield place


@pytest.fixture(scope="module")
def evening(place: Place) -> Iterator[dict[str, Any]]:
    """The run that a schedule started, finished; its worker keeps waiting."""
    with place.worker("w1") as worker:
        soon = datetime.now(UTC) + timedelta(seconds=40)
        schedule = {"interval": 86400, "anchor_date": soon.isoformat(), "timezone": "UTC"}
        nightly = place.deployments()["nightly"]["id"]
        item = {"schedule": schedule, "active": True, "parameters": {"now": EVENING}, "slug": "soon"}
        place.ask(f"deployments/{nightly}/schedules", [item])

        def ended() -> dict[str, Any] | None:
            found = place.ask("flow_runs/filter", flow_runs={"state": {"type": {"any_": ENDED}}})
            own = (run for run in found if run["deployment_id"] == nightly)
            return next((run for run in own if run["parameters"].get("now") == EVENING), None)

        run = wait_for(ended, 360, "the scheduled run has ended")
        assert run["state_name"] == "Completed", worker.log.read_text()[-4000:]
        yield run


@contextmanager
def patched(place: Place, path: str, during: dict[str, Any], after: dict[str, Any]) -> Iterator[None]:
    """Set something on the server for the block, and set it right however the block ends."""
    place.request("PATCH", path, during)
    try:
        yield
    finally:
        place.request("PATCH", path, after)


def paused_pool(place: Place) -> AbstractContextManager[None]:
    """Let no worker take a run while the block lasts."""
    return patched(place, f"work_pools/{POOL}", {"is_paused": True}, {"is_paused": False})


def paused_schedule(place: Place, deployment: dict[str, Any]) -> AbstractContextManager[None]:
    path = f"deployments/{deployment['id']}/schedules/{deployment['schedules'][0]['id']}"
    return patched(place, path, {"active": False}, {"active": True})


def materialised(place: Place, deployment: str, first: str, last: str) -> list[datetime]:
    """Return the runs that the server makes of the schedule between two days, and leave none behind."""
    identity = place.deployments()[deployment]["id"]
    days = {"start_time": f"{first}T00:00:00+00:00", "end_time": f"{last}T00:00:00+00:00"}
    with paused_pool(place):
        place.ask(f"deployments/{identity}/schedule", **days, min_runs=20)
        between = {"after_": days["start_time"], "before_": days["end_time"]}
        found = place.ask("flow_runs/filter", flow_runs={"expected_start_time": between})
        place.ask("flow_runs/bulk_delete", flow_runs={"expected_start_time": between})
    assert {run["deployment_id"] for run in found} == {identity}
    assert all(run["auto_scheduled"] for run in found)
    return sorted(datetime.fromisoformat(run["expected_start_time"]) for run in found)


@pytest.mark.proof
def test_deploying_makes_the_pool_and_every_deployment(place: Place) -> None:
    pools = place.ask("work_pools/filter")
    assert [(pool["name"], pool["type"]) for pool in pools] == [(POOL, "process")]
    deployments = place.deployments()
    assert set(deployments) == set(CRONS)
    for name, found in deployments.items():
        planned = [(one["active"], one["schedule"]["cron"]) for one in found["schedules"]]
        assert planned == ([(True, CRONS[name])] if CRONS[name] else [])
        assert {one["schedule"]["timezone"] for one in found["schedules"]} <= {"America/New_York"}
        assert found["entrypoint"] == f"flows.{name}.{name}"
        assert found["pull_steps"] == []
        assert found["work_pool_name"] == POOL
        assert found["parameters"] == {"config": str(default_config()), "home": str(place.home)}
        assert found["global_concurrency_limit"] is None


@pytest.mark.proof
def test_the_runs_of_the_coming_days_stand_after_new_yorks_close(place: Place) -> None:
    scheduled = {"type": {"any_": ["SCHEDULED"]}}
    nightly = place.deployments()["nightly"]["id"]

    def planned() -> list[datetime] | None:
        runs = place.ask("flow_runs/filter", flow_runs={"state": scheduled})
        starts = [run["next_scheduled_start_time"] for run in runs if run["deployment_id"] == nightly]
        return [datetime.fromisoformat(start).astimezone(NEW_YORK) for start in starts] or None

    starts = wait_for(planned, 90, "runs are planned")
    assert len(starts) >= 3
    assert {f"{start:%H:%M}" for start in starts} == {"18:30"}
    assert all(start.weekday() < 5 for start in starts)


@pytest.mark.proof
@pytest.mark.parametrize(
    ("first", "last", "hours"),
    [
        ("2025-01-13", "2025-01-18", ["13 23:30", "14 23:30", "15 23:30", "16 23:30", "17 23:30"]),
        ("2025-07-14", "2025-07-19", ["14 22:30", "15 22:30", "16 22:30", "17 22:30", "18 22:30"]),
        # The clocks go forward on Sunday 9 March, and back on Sunday 2 November.
        ("2025-03-06", "2025-03-12", ["06 23:30", "07 23:30", "10 22:30", "11 22:30"]),
        ("2025-10-30", "2025-11-05", ["30 22:30", "31 22:30", "03 23:30", "04 23:30"]),
    ],
)
def test_the_server_plans_half_past_six_in_new_york_through_winter_summer_and_both_clock_changes(
    place: Place, first: str, last: str, hours: list[str]
) -> None:
    starts = materialised(place, "nightly", first, last)
    assert [f"{start:%d %H:%M}" for start in starts] == hours
    assert {f"{start.astimezone(NEW_YORK):%H:%M}" for start in starts} == {"18:30"}


@pytest.mark.proof
def test_the_server_plans_the_training_for_saturday_morning_on_both_sides_of_a_clock_change(
    place: Place,
) -> None:
    starts = materialised(place, "retrain", "2025-10-25", "2025-11-09")
    assert [f"{start:%m-%d %H:%M}" for start in starts] == ["10-25 12:00", "11-01 12:00", "11-08 13:00"]


@pytest.mark.proof
def test_the_server_plans_the_maintenance_for_noon_on_the_first_of_each_month(place: Place) -> None:
    starts = materialised(place, "maintenance", "2025-09-15", "2026-01-15")
    assert [f"{start.astimezone(NEW_YORK):%m-%d %H:%M}" for start in starts] == [
        f"{month:02}-01 12:00" for month in (10, 11, 12, 1)
    ]


@pytest.mark.proof
def test_each_planned_evening_uses_the_last_session_that_has_closed_by_then(place: Place) -> None:
    days = calendar("XNYS", date(2025, 1, 2), datetime(2025, 12, 31, tzinfo=UTC))
    delay = timedelta(minutes=45)
    thanksgiving = materialised(place, "nightly", "2025-11-26", "2025-11-29")
    # Thursday is Thanksgiving; Friday closes at 13:00 in New York and is forecast from that same evening.
    assert days.closes[pd.Timestamp("2025-11-28")] == pd.Timestamp("2025-11-28 18:00", tz="UTC")
    used = [f"{days.last_closed_session(start, delay):%a %d}" for start in thanksgiving]
    assert used == ["Wed 26", "Wed 26", "Fri 28"]
    # In summer 18:30 is still the evening of the session that has just closed, in UTC too.
    summer = materialised(place, "nightly", "2025-07-02", "2025-07-08")
    used = [f"{days.last_closed_session(start, delay):%a %d}" for start in summer]
    assert used == ["Wed 02", "Thu 03", "Thu 03", "Mon 07"]


@pytest.mark.proof
def test_deploying_again_changes_no_schedule_and_leaves_a_paused_one_paused(place: Place) -> None:
    with paused_schedule(place, place.deployments()["retrain"]):
        before = {name: (found["id"], found["schedules"]) for name, found in place.deployments().items()}
        done = place.nextday("deploy")
        assert done.returncode == 0, done.stderr
        after = {name: (found["id"], found["schedules"]) for name, found in place.deployments().items()}
    for name, (identity, schedules) in before.items():
        assert after[name][0] == identity
        assert [plain(one) for one in after[name][1]] == [plain(one) for one in schedules]
    assert not after["retrain"][1][0]["active"]


@pytest.mark.proof
def test_a_worker_runs_a_backtest_when_it_is_asked_to_and_a_schedule_of_ones_own_outlives_deploying(
    place: Place,
) -> None:
    settings, home = place.folder / "walks.toml", place.folder / "walks"
    text = network_settings("2014-01-02").replace("[prices]", '[universe]\nname = "walks"\n[prices]')
    text += "[backtest]\ntrain_sessions = 300\nrefit_sessions = 400\n"
    settings.write_text(text)
    own = ["--config", str(settings)]
    assert place.nextday(*own, "deploy", home=home).returncode == 0
    found = place.deployments()["backtest-walks"]
    assert found["schedules"] == []
    assert (
        "deployment backtest/backtest-walks: no schedule" in place.nextday(*own, "doctor", home=home).stdout
    )
    planned = {"schedule": {"cron": "0 10 * * SUN", "timezone": "America/New_York"}, "active": True}
    place.ask(f"deployments/{found['id']}/schedules", [planned])
    assert place.nextday(*own, "deploy", home=home).returncode == 0
    found = place.deployments()["backtest-walks"]
    assert [one["schedule"]["cron"] for one in found["schedules"]] == ["0 10 * * SUN"]
    assert found["parameters"] == {"config": str(settings), "home": str(home)}
    with place.worker("w2") as worker:
        path = f"deployments/{found['id']}/create_flow_run"
        identity = place.ask(path, parameters={"now": EVENING}, state={"type": "SCHEDULED"})["id"]
        run = wait_for(
            lambda: ((now := place.flow_run(identity))["state_type"] in ENDED and now) or None,
            *(360, "the backtest has ended"),
        )
        assert run["state_name"] == "Completed", worker.log.read_text()[-4000:]
    assert (home / "reports" / "walks" / "backtest" / "report.html").exists()


@pytest.mark.proof
@pytest.mark.parametrize("kind", ["docker", "kubernetes"])
def test_a_pool_of_containers_takes_the_deployments_with_the_template_of_the_docs(
    place: Place, kind: str
) -> None:
    folder = place.folder / kind
    folder.mkdir()
    settings = ["--config", str(folder / "nextday.toml")]
    (folder / "nextday.toml").write_text(f'[universe]\nname = "in-{kind}"\n')
    refused = place.nextday(*settings, "deploy", "--pool", kind, home=folder / "w")
    assert refused.returncode == 2
    assert f"There is no work pool '{kind}'" in refused.stderr
    template = PROJECT / "docs" / "container" / f"{kind}-pool.json"
    create = ["work-pool", "create", kind, "--type", kind, "--base-job-template", str(template)]
    made = subprocess.run(
        [sys.executable, "-m", "prefect", *create],
        env=place.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    for again in (["--pool", kind], []):  # without a name it stays where it is
        done = place.nextday(*settings, "deploy", *again, home=folder / "w")
        assert done.returncode == 0, done.stderr
        assert f"prefect worker start --pool {kind}" in done.stdout
        for flow in CRONS:
            found = place.deployments()[f"{flow}-in-{kind}"]
            assert (found["work_pool_name"], found["pull_steps"]) == (kind, [])
            assert found["parameters"] == {"config": str(folder / "nextday.toml"), "home": str(folder / "w")}
    said = place.nextday(*settings, "doctor", home=folder / "w").stdout
    assert f"no worker is running for the work pool {kind}" in said


def plain(schedule: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in schedule.items() if name != "updated"}


@contextmanager
def taken_slot(place: Place, deployment: dict[str, Any]) -> Iterator[None]:
    """Set a limit as nextday's first deployments had it, left as by a machine that lost its power during a run."""
    path = f"deployments/{deployment['id']}"
    with patched(place, path, {"concurrency_limit": 1}, {"concurrency_limit": None}):
        place.request("PATCH", f"v2/concurrency_limits/deployment:{deployment['id']}", {"active_slots": 1})
        yield


@pytest.mark.proof
def test_what_the_doctor_finds_is_mended_by_the_command_that_it_gives(place: Place) -> None:
    retrain = place.deployments()["retrain"]
    complaints = (
        "a schedule of retrain/retrain is paused",
        f"the work pool {POOL} is paused",
        "retrain/retrain: 1 of 1 slots are taken, but 0 are running",
    )
    with paused_schedule(place, retrain), paused_pool(place), taken_slot(place, retrain):
        said = place.nextday("doctor")
        assert said.returncode == 1
        for complaint in complaints:
            place.follow(said.stdout, complaint)
        after = place.nextday("doctor").stdout
        assert [complaint for complaint in complaints if complaint in after] == []
        assert place.nextday("deploy").returncode == 0
        assert place.deployments()["retrain"]["global_concurrency_limit"] is None


@pytest.mark.proof
def test_a_scheduled_evening_seals_two_forecasts_of_the_next_session(
    place: Place, evening: dict[str, Any]
) -> None:
    assert evening["auto_scheduled"]
    assert {"nextday", "sample"} <= set(evening["tags"])
    ledger = Ledger(place.home / "ledger.sqlite", read_only=True)
    assert ledger.verify().ok
    record = ledger.record("sample")
    assert record["symbol"].tolist() == ["^GSPC", "^IXIC"]
    assert set(record["target_session"]) == {pd.Timestamp("2019-01-02")}
    assert set(record["as_of"]) == {pd.Timestamp("2018-12-31")}
    assert (place.home / "reports" / "sample" / "2019-01-02" / "report.html").exists()


@pytest.mark.proof
def test_the_evening_is_shown_in_prefect(place: Place, evening: dict[str, Any]) -> None:
    artifacts = {found["key"]: found for found in place.ask("artifacts/latest/filter")}
    table, summary = artifacts["nextday-sample-forecasts"], artifacts["nextday-sample-summary"]
    assert {table["flow_run_id"], summary["flow_run_id"]} == {evening["id"]}
    assert (table["type"], summary["type"]) == ("table", "markdown")
    assert [row["symbol"] for row in json.loads(table["data"])] == ["^GSPC", "^IXIC"]
    assert "# sample: Wednesday 2019-01-02" in summary["data"]
    assert "No edge found" in summary["data"] or "Edge found" in summary["data"]


@pytest.mark.proof
def test_the_doctor_finds_nothing_to_mend_while_the_schedule_runs(
    place: Place, evening: dict[str, Any]
) -> None:
    done = place.nextday("doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "deployment nightly/nightly: next run" in done.stdout
    assert f"worker w1 is running for the work pool {POOL}" in done.stdout


@pytest.mark.slow
def test_without_a_server_deploy_says_how_to_start_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nextday = CommandLine(tmp_path, monkeypatch, capsys)
    monkeypatch.setattr(deploy, "PATIENCE", 0.5)
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        said = nextday("--home", "w", "deploy")
    assert said.code == 1
    assert "prefect server start" in "".join(told(said))
    assert "waiting for the Prefect server" in said.err


def test_a_server_that_is_still_starting_is_waited_for() -> None:
    answers = iter([503, 200])

    class Starting(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(next(answers))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Starting) as server:
        url = f"http://127.0.0.1:{server.server_port}/api"
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        with temporary_settings({PREFECT_API_URL: url}):
            assert server_url(30) == url
        server.shutdown()
    assert next(answers, None) is None


def test_a_schedule_that_is_no_cron_is_wrong_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nextday = CommandLine(tmp_path, monkeypatch, capsys)
    Path("nextday.toml").write_text('[schedule]\nretrain = "every Saturday"\n')
    said = nextday("--config", "nextday.toml", "--home", "w", "deploy")
    assert said.code == 2
    assert "[schedule] retrain = 'every Saturday'" in told(said)[0]


def test_a_refusing_server_is_an_error_with_a_fix() -> None:
    with pytest.raises(NextdayError) as refused, connect("http://127.0.0.1:9/api") as client:
        client.read_work_pools()
    assert "PREFECT_API_AUTH_STRING" in refused.value.fix


def test_the_projects_own_configuration_has_plain_names(tmp_path: Path) -> None:
    run = open_run(home=tmp_path / "w")
    assert deployment_variables(run, default_config()) == {
        "NEXTDAY_CONFIG": str(PROJECT / "nextday.toml"),
        "NEXTDAY_HOME": str(tmp_path / "w"),
        "NEXTDAY_UNIVERSE": "sample",
        "NEXTDAY_SUFFIX": "",
        "NEXTDAY_TIMEZONE": "America/New_York",
        "NEXTDAY_NIGHTLY": CRONS["nightly"],
        "NEXTDAY_RETRAIN": CRONS["retrain"],
        "NEXTDAY_MAINTENANCE": CRONS["maintenance"],
    }


def test_another_configuration_gets_deployments_of_its_own_in_its_exchanges_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "london.toml").write_text(
        '[universe]\nname = "london"\ncalendar = "XLON"\n[schedule]\nnightly = "0 18 * * MON-FRI"\n'
    )
    monkeypatch.chdir(tmp_path)
    path = Path("london.toml")
    variables = deployment_variables(open_run(path), path)
    assert variables["NEXTDAY_SUFFIX"] == "-london"
    assert variables["NEXTDAY_TIMEZONE"] == "Europe/London"
    assert variables["NEXTDAY_NIGHTLY"] == "0 18 * * MON-FRI"
    assert variables["NEXTDAY_CONFIG"] == str(tmp_path / "london.toml")
    assert variables["NEXTDAY_HOME"] == str(tmp_path / "data")
