"""Servers and workers that die in the middle of an evening: the ledger ends as if nothing had happened."""

import os
import shutil
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pandas as pd
import pytest

from pipeline.ledger.ledger import Ledger
from tests.conftest import small_settings
from tests.support.prefect_place import ENDED, Place, wait_for

pytestmark = pytest.mark.proof

TRAINED = "2018-12-10T23:30:00+00:00"
EVENING = "2018-12-20T23:30:00+00:00"
"""Seven sessions were missed before it: long enough to be struck in the middle."""

MISSED = [f"2018-12-{day}T23:30:00+00:00" for day in (11, 12, 13)]


class Stage:
    """A place whose server can be taken away, and workspaces with a champion of 10 December in them."""

    def __init__(self, folder: Path) -> None:
        self.place = Place(folder, small_settings())
        self.undisturbed: dict[str, Path] = {}

    def workspace(self, name: str) -> Path:
        """Return a new workspace that is as far as all the others."""
        home = self.place.folder / name
        shutil.copytree(self.place.home, home)
        return home

    def order(self, home: Path, now: str = EVENING) -> str:
        """Ask for an evening, as a person does in Prefect's pages, and return the run."""
        nightly = self.place.deployments()["nightly-sample"]
        parameters = nightly["parameters"] | {"home": str(home), "now": now}
        ordered = self.place.ask(f"deployments/{nightly['id']}/create_flow_run", parameters=parameters)
        return str(ordered["id"])

    def forecast(self, home: Path, now: str) -> None:
        done = self.place.nextday("--now", now, "forecast", home=home)
        assert done.returncode == 0, done.stderr

    def wait_for_the_middle(self, home: Path) -> None:
        """Come back when some of the evening's sessions are sealed and others are not."""
        before, after = len(record(self.place.home)), len(record(self.undisturbed["evening"]))
        wait_for(
            lambda: before < len(record(home)) < after or None, 120, "the run is in the middle", every=0.05
        )

    def wait_until_ended(self, *runs: str) -> list[str]:
        """Come back when Prefect calls all runs ended, and return what it calls them."""

        def ended() -> list[str] | None:
            states = [self.place.flow_run(run)["state"] for run in runs]
            return [state["name"] for state in states] if all(s["type"] in ENDED for s in states) else None

        names: list[str] = wait_for(ended, 180, "the runs have ended")
        return names

    def process(self, run: str) -> int:
        """Return the number of the process that works on a run."""
        return int(str(self.place.flow_run(run)["infrastructure_pid"]).rpartition(":")[2])


def record(home: Path) -> pd.DataFrame:
    return Ledger(home / "ledger.sqlite", read_only=True).record("sample")


def reports(home: Path) -> dict[str, str]:
    """Return every CSV of the reports by its path."""
    folder = home / "reports"
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*.csv"))}


def assert_nothing_is_lost_or_doubled(home: Path, undisturbed: Path) -> None:
    ledgers = [Ledger(folder / "ledger.sqlite", read_only=True) for folder in (home, undisturbed)]
    assert ledgers[0].verify().ok
    pd.testing.assert_frame_equal(record(home), record(undisturbed))
    assert not record(home).duplicated(["symbol", "as_of", "horizon"]).any()
    assert ledgers[0].head() == ledgers[1].head()
    assert reports(home) == reports(undisturbed)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """Deploy, train, and see once what an evening comes to that nobody disturbs."""
    stage = Stage(tmp_path_factory.mktemp("outage"))
    with stage.place.server():
        done = stage.place.nextday("deploy")
        assert done.returncode == 0, done.stderr
        stage.forecast(stage.place.home, TRAINED)
        stage.undisturbed["evening"] = stage.workspace("undisturbed")
        stage.forecast(stage.undisturbed["evening"], EVENING)
    return stage


def test_an_evening_is_sealed_and_reported_while_the_server_is_dead_and_its_return_changes_nothing(
    stage: Stage,
) -> None:
    home, whole = stage.workspace("server"), stage.undisturbed["evening"]
    with stage.place.server() as server, stage.place.worker("w1", "--limit", "1"):
        struck = stage.order(home)
        stage.wait_for_the_middle(home)
        server.kill()
        wait_for(lambda: reports(home) == reports(whole) or None, 120, "the evening is reported")
        assert_nothing_is_lost_or_doubled(home, whole)
        with stage.place.server():
            stage.wait_until_ended(struck)
            assert stage.wait_until_ended(stage.order(home)) == ["Completed"]
            assert_nothing_is_lost_or_doubled(home, whole)


def test_a_server_that_is_back_in_the_middle_of_the_run_costs_no_row(stage: Stage) -> None:
    home, whole = stage.workspace("restart"), stage.undisturbed["evening"]
    with stage.place.server() as server, stage.place.worker("w1", "--limit", "1"):
        struck = stage.order(home)
        stage.wait_for_the_middle(home)
        server.kill()
        with stage.place.server():
            stage.wait_until_ended(struck)
            assert_nothing_is_lost_or_doubled(home, whole)
            assert stage.wait_until_ended(stage.order(home)) == ["Completed"]
            assert_nothing_is_lost_or_doubled(home, whole)


def test_another_worker_finishes_at_once_what_a_killed_worker_and_its_run_have_left(stage: Stage) -> None:
    home = stage.workspace("worker")
    with stage.place.server():
        with stage.place.worker("w1", "--limit", "1") as worker:
            struck = stage.order(home)
            stage.wait_for_the_middle(home)
            process = stage.process(struck)
            worker.kill()
            with suppress(ProcessLookupError):
                os.kill(process, SIGKILL)
        assert len(record(home)) < len(record(stage.undisturbed["evening"]))
        with stage.place.worker("w2", "--limit", "1"):
            again = stage.order(home)
            assert stage.wait_until_ended(again) == ["Completed"]
        assert_nothing_is_lost_or_doubled(home, stage.undisturbed["evening"])
        # Prefect never hears of the end of the first run; the second one did not wait for it.
        assert stage.place.flow_run(struck)["state_name"] == "Running"
        an_hour_later = f"{datetime.now(UTC) + timedelta(hours=1):%Y-%m-%dT%H:%MZ}"
        said = stage.place.nextday("--now", an_hour_later, "doctor").stdout
        assert "is shown as online, but missed its last" in said
        stage.place.follow(said, "is Running, but has sent no heartbeat since")
        assert stage.place.flow_run(struck)["state_name"] == "Crashed"


def test_a_machine_that_lost_its_power_forecasts_again_as_soon_as_it_is_back(stage: Stage) -> None:
    home = stage.workspace("power")
    with stage.place.server() as server, stage.place.worker("w1", "--limit", "1") as worker:
        struck = stage.order(home)
        stage.wait_for_the_middle(home)
        process = stage.process(struck)
        for running in (server, worker):
            running.kill()
        with suppress(ProcessLookupError):
            os.kill(process, SIGKILL)
    with stage.place.server(), stage.place.worker("w2", "--limit", "1"):
        assert stage.wait_until_ended(stage.order(home)) == ["Completed"]
    assert_nothing_is_lost_or_doubled(home, stage.undisturbed["evening"])


def test_two_workers_with_four_runs_of_one_evening_seal_it_once(stage: Stage) -> None:
    home = stage.workspace("crowd")
    with (
        stage.place.server(),
        stage.place.worker("w1", "--limit", "2"),
        stage.place.worker("w2", "--limit", "2"),
    ):
        runs = [stage.order(home) for _ in range(4)]
        assert stage.wait_until_ended(*runs) == ["Completed"] * 4
    assert_nothing_is_lost_or_doubled(home, stage.undisturbed["evening"])


def test_evenings_that_were_planned_before_hours_without_a_server_run_late_and_in_order(stage: Stage) -> None:
    home, whole = stage.workspace("late"), stage.workspace("on-time")
    with stage.place.server() as server:
        for now in MISSED:
            stage.forecast(whole, now)
        planned = plan_in_the_past(stage.place, home)
        server.kill()
    with stage.place.server():
        wait_for(lambda: len(late_runs(stage.place, planned)) == 3 or None, 60, "the runs are late")
        with stage.place.worker("w1", "--limit", "1"):
            assert stage.wait_until_ended(*planned) == ["Completed"] * 3
    assert_nothing_is_lost_or_doubled(home, whole)


def plan_in_the_past(place: Place, home: Path) -> list[str]:
    """Let the server materialise three runs whose time is hours gone, and return them."""
    nightly = place.deployments()["nightly-sample"]
    for schedule in nightly["schedules"]:
        place.request("PATCH", f"deployments/{nightly['id']}/schedules/{schedule['id']}", {"active": False})
    began = datetime.now(UTC) - timedelta(hours=6)
    for hours, now in enumerate(MISSED):
        start = began + timedelta(hours=hours)
        schedule = {"interval": 86400, "anchor_date": start.isoformat(), "timezone": "UTC"}
        parameters = {"home": str(home), "now": now}
        item = {"schedule": schedule, "active": True, "parameters": parameters, "slug": f"missed-{hours}"}
        place.ask(f"deployments/{nightly['id']}/schedules", [item])
    window = {"start_time": began - timedelta(hours=1), "end_time": began + timedelta(hours=3)}
    body = {name: moment.isoformat() for name, moment in window.items()}
    place.ask(f"deployments/{nightly['id']}/schedule", **body)
    between = {"after_": body["start_time"], "before_": body["end_time"]}
    found = place.ask("flow_runs/filter", flow_runs={"expected_start_time": between})
    assert all(run["auto_scheduled"] for run in found)
    return [run["id"] for run in found]


def late_runs(place: Place, runs: list[str]) -> list[dict[str, Any]]:
    found = [place.flow_run(run) for run in runs]
    return [run for run in found if run["state_name"] == "Late"]
