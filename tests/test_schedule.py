"""From nothing to a scheduled evening: a real Prefect server, a real worker, and `nextday deploy`."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from signal import SIGKILL
from threading import Thread
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pandas as pd
import pytest
from prefect.server.schemas.schedules import CronSchedule
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import deploy
from flows.deploy import POOL, connect, deployment_variables, server_url
from flows.run import PROJECT, default_config, open_run
from pipeline.errors import NextdayError
from pipeline.ledger import Ledger
from tests.command_line import CommandLine, told

CRONS = {"nightly": "30 18 * * MON-FRI", "retrain": "0 8 * * SAT"}
EVENING = "2018-12-31T23:00:00+00:00"
NEW_YORK = ZoneInfo("America/New_York")


def wait_for(look: Callable[[], Any], seconds: float, what: str) -> Any:
    """Return what `look` finds, asking again every second."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = look()
        if found is not None:
            return found
        time.sleep(1)
    raise AssertionError(f"{what}: not within {seconds:.0f} s")


class Place:
    """A server, a workspace, and `nextday` with both."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.url = f"http://127.0.0.1:{free.getsockname()[1]}/api"
        self.folder, self.home = folder, folder / "w"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        self.environment = kept | {
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_API_URL": self.url,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "5",
            "DO_NOT_TRACK": "1",
        }

    @contextmanager
    def started(self, *arguments: str) -> Iterator[Path]:
        """Keep a `prefect` command running; its log is what the block is given."""
        log = self.folder / f"{arguments[0]}.log"
        with log.open("w") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "prefect", *arguments],
                env=self.environment,
                cwd=self.folder,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield log
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(30)
            # What is left of the group, if anything: a worker's flow run, or a process that did not listen.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, SIGKILL)
            process.wait(30)

    def nextday(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(Path(sys.executable).with_name("nextday")), "--home", str(self.home), *arguments],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )

    def ask(self, path: str, **body: Any) -> Any:
        answer = httpx.post(f"{self.url}/{path}", json=body, timeout=30)
        answer.raise_for_status()
        return answer.json()

    def deployments(self) -> dict[str, dict[str, Any]]:
        return {found["name"]: found for found in self.ask("deployments/filter")}

    def is_up(self) -> bool | None:
        with suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/health", timeout=5).is_success or None
        return None


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A server that `nextday deploy` has been run against, once."""
    place = Place(tmp_path_factory.mktemp("schedule"))
    port = place.url.removesuffix("/api").rsplit(":", 1)[1]
    with place.started("server", "start", "--host", "127.0.0.1", "--port", port):
        wait_for(place.is_up, 180, "the server is up")
        done = place.nextday("deploy")
        assert done.returncode == 0, done.stderr
        assert f"prefect worker start --pool {POOL}" in done.stdout
        yield place


@pytest.fixture(scope="module")
def evening(place: Place) -> Iterator[dict[str, Any]]:
    """The run that a schedule started, finished; its worker keeps waiting."""
    with place.started("worker", "start", "--pool", POOL, "--name", "w1") as log:
        soon = datetime.now(UTC) + timedelta(seconds=40)
        schedule = {"interval": 86400, "anchor_date": soon.isoformat(), "timezone": "UTC"}
        nightly = place.deployments()["nightly"]["id"]
        answer = httpx.post(
            f"{place.url}/deployments/{nightly}/schedules",
            json=[{"schedule": schedule, "active": True, "parameters": {"now": EVENING}, "slug": "soon"}],
        )
        answer.raise_for_status()

        def ended() -> dict[str, Any] | None:
            states = {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]}}
            found = place.ask("flow_runs/filter", flow_runs={"state": states})
            return next((run for run in found if run["parameters"].get("now") == EVENING), None)

        run = wait_for(ended, 360, "the scheduled run has ended")
        assert run["state_name"] == "Completed", log.read_text()[-4000:]
        yield run


@pytest.mark.proof
def test_deploying_makes_the_pool_and_both_deployments(place: Place) -> None:
    pools = place.ask("work_pools/filter")
    assert [(pool["name"], pool["type"]) for pool in pools] == [(POOL, "process")]
    deployments = place.deployments()
    assert set(deployments) == {"nightly", "retrain"}
    for name, found in deployments.items():
        (schedule,) = found["schedules"]
        assert schedule["active"]
        assert schedule["schedule"]["cron"] == CRONS[name]
        assert schedule["schedule"]["timezone"] == "America/New_York"
        assert found["entrypoint"] == f"flows/{name}.py:{name}"
        assert found["parameters"] == {"config": str(default_config()), "home": str(place.home)}
        assert found["global_concurrency_limit"]["limit"] == 1
        assert found["concurrency_options"]["collision_strategy"] == "ENQUEUE"


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


@pytest.mark.parametrize(
    ("after", "utc"),
    [
        ("2026-07-01", ["07-01 22:30", "07-02 22:30", "07-03 22:30"]),
        ("2026-12-01", ["12-01 23:30", "12-02 23:30", "12-03 23:30"]),
        ("2026-10-30", ["10-30 22:30", "11-02 23:30", "11-03 23:30"]),
        ("2027-03-12", ["03-12 23:30", "03-15 22:30", "03-16 22:30"]),
    ],
)
def test_the_hour_follows_new_york_through_winter_and_summer(after: str, utc: list[str]) -> None:
    schedule = CronSchedule(cron=CRONS["nightly"], timezone="America/New_York")
    starts = asyncio.run(schedule.get_dates(3, datetime.fromisoformat(f"{after}T00:00:00+00:00")))
    assert [f"{start.astimezone(UTC):%m-%d %H:%M}" for start in starts] == utc


@pytest.mark.proof
def test_deploying_again_changes_no_schedule_and_leaves_a_paused_one_paused(place: Place) -> None:
    retrain = place.deployments()["retrain"]
    paused = f"{place.url}/deployments/{retrain['id']}/schedules/{retrain['schedules'][0]['id']}"
    httpx.patch(paused, json={"active": False}).raise_for_status()
    before = {name: (found["id"], found["schedules"]) for name, found in place.deployments().items()}
    done = place.nextday("deploy")
    assert done.returncode == 0, done.stderr
    after = {name: (found["id"], found["schedules"]) for name, found in place.deployments().items()}
    for name, (identity, schedules) in before.items():
        assert after[name][0] == identity
        assert [plain(one) for one in after[name][1]] == [plain(one) for one in schedules]
    httpx.patch(paused, json={"active": True}).raise_for_status()


def plain(schedule: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in schedule.items() if name != "updated"}


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
    assert "deployment nightly: next run" in done.stdout
    assert f"worker w1 waits at the work pool {POOL}" in done.stdout


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


def test_a_refusing_server_is_an_error_with_a_way_out() -> None:
    with pytest.raises(NextdayError) as refused, connect("http://127.0.0.1:9/api") as client:
        client.read_work_pools()
    assert "PREFECT_API_AUTH_STRING" in refused.value.way_out


def test_the_projects_own_configuration_has_plain_names(tmp_path: Path) -> None:
    run = open_run(home=tmp_path / "w")
    assert deployment_variables(run, default_config()) == {
        "NEXTDAY_PROJECT": str(PROJECT),
        "NEXTDAY_CONFIG": str(PROJECT / "nextday.toml"),
        "NEXTDAY_HOME": str(tmp_path / "w"),
        "NEXTDAY_UNIVERSE": "sample",
        "NEXTDAY_SUFFIX": "",
        "NEXTDAY_TIMEZONE": "America/New_York",
        "NEXTDAY_NIGHTLY": CRONS["nightly"],
        "NEXTDAY_RETRAIN": CRONS["retrain"],
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
