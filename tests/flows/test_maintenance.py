"""Maintenance speeds up reads and frees disk space, and changes no data."""

import json
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from prefect.client.orchestration import get_client

from flows.maintenance import maintenance
from flows.runtime import tasks
from pipeline.ledger.ledger import Ledger
from pipeline.market.calendar import Calendar
from pipeline.prices.delta_table import Compaction
from pipeline.prices.store import PriceStore
from pipeline.storage.files import digest_files
from pipeline.storage.workspace import Workspace
from pipeline.tracking.registry import Registry
from tests.conftest import NOW, prices_of, vendor_bars
from tests.pipeline.ledger.test_sealed_ledger import issue
from tests.pipeline.storage.test_workspace import another_process_holds
from tests.support.command_line import HERE, CommandLine, contents, told

WEEK = pd.DatetimeIndex(["2018-12-28", "2018-12-31", "2019-01-02", "2019-01-03"])


@pytest.fixture
def nextday(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    return CommandLine(tmp_path, monkeypatch, capsys)


def scatter(home: Path, days: Calendar, evenings: int = 10) -> PriceStore:
    """Fill a store with evenings that each revise the one before: two files an evening."""
    store = PriceStore(home / "prices" / "sample")
    for evening in range(evenings):
        bars = vendor_bars(WEEK, np.array([10.0, 11 + evening, 12, 13 + evening]))
        store.append(prices_of({"A": bars}, days), run="r")
    return store


@pytest.mark.slow
def test_what_was_known_when_is_read_as_before_from_fewer_files(nextday: CommandLine, xnys: Calendar) -> None:
    store = scatter(Path("w"), xnys)
    known = [store.versions(), *(store.read(seq=seq) for seq in range(1, 11))]
    assert store.count_files() == 20
    said = nextday(*HERE, "maintain")
    assert said.code == 0, said.err
    assert "prices: read from 2 files, before from 20;" in said.err
    assert "replaced files are kept for 30 days" in said.err
    assert store.count_files() == 2
    for before, after in zip(
        known, [store.versions(), *(store.read(seq=seq) for seq in range(1, 11))], strict=True
    ):
        pd.testing.assert_frame_equal(after, before)
    again = nextday(*HERE, "maintain")
    assert "prices: read from 2 files, before from 2;" in again.err


def test_the_settings_say_how_long_replaced_files_stay(
    nextday: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[timedelta] = []
    monkeypatch.setattr(
        PriceStore, "compact", lambda self, keep: asked.append(keep) or Compaction(9, 9, 1, 1)
    )
    Path("nextday.toml").write_text("[prices]\nkeep_days = 7\n")
    assert "for 7 days" in nextday(*HERE, "maintain").err
    assert asked == [timedelta(days=7)]
    Path("nextday.toml").write_text("[prices]\nkeep_days = 0\n")
    assert nextday(*HERE, "maintain").code == 2


def test_an_empty_workspace_has_nothing_to_maintain(nextday: CommandLine) -> None:
    said = nextday(*HERE, "maintain")
    assert said.code == 0
    assert "prices: read from 0 files, before from 0;" in said.err


def test_what_killed_runs_left_goes_and_what_living_ones_write_stays(nextday: CommandLine) -> None:
    Workspace(Path("w").resolve()).create()
    left = ["reports/sample/2018-12-11/.a.csv.7", "settings/.c.json.7", ".workspace.json.7"]
    left += ["models/sample/.new/member.keras", "models/sample/.saving-a/member.keras"]
    stay = ["models/sample/.registry.lock", "models/other/.new/member.keras", "settings/.c.json.1"]
    for name in left + stay:
        (Path("w") / name).parent.mkdir(parents=True, exist_ok=True)
        (Path("w") / name).write_text("hal")
    with another_process_holds(Path("w/settings/.c.json.1")):
        said = nextday(*HERE, "maintain")
    assert "5 leftovers of killed runs removed" in said.err
    assert [name for name in left if (Path("w") / name).exists()] == []
    assert [name for name in stay if not (Path("w") / name).exists()] == []


def test_a_databases_log_is_checkpointed(nextday: CommandLine) -> None:
    ledger = Ledger(Path("w/ledger.sqlite"))
    issue(ledger, 0, ["AAPL"])
    with closing(
        sqlite3.connect("w/ledger.sqlite")
    ) as reader:  # it keeps the log from being folded in at the end
        reader.execute("SELECT count(*) FROM forecasts").fetchall()
        issue(ledger, 1, ["AAPL"])
        assert Path("w/ledger.sqlite-wal").stat().st_size > 0
        assert nextday(*HERE, "maintain").code == 0
        assert Path("w/ledger.sqlite-wal").stat().st_size == 0
    assert ledger.verify().ok


def test_a_damaged_database_does_not_keep_the_prices_from_being_joined(
    nextday: CommandLine, xnys: Calendar
) -> None:
    store = scatter(Path("w"), xnys, 2)
    Path("w/mlflow.db").write_text("no database at all")
    said = nextday(*HERE, "maintain")
    assert said.code == 0
    assert store.count_files() == 2
    assert Path("w/mlflow.db").read_text() == "no database at all"


def test_old_reports_go_and_the_ledger_stays_as_it_is(nextday: CommandLine) -> None:
    ledger = Ledger(Path("w/ledger.sqlite"))
    for day in range(34):
        issue(ledger, day, ["AAPL"])
    sessions = ledger.record("sample")
    for target in sessions["target_session"]:
        folder = Path(f"w/reports/sample/{target:%Y-%m-%d}")
        folder.mkdir(parents=True)
        (folder / "report.html").write_text("0" * 100_000)
    others = [Path("w/reports/sample/latest.csv"), Path("w/reports/sample/backtest/report.html")]
    others += [Path("w/reports/sample/backtests/2010-01-04T220000Z-gru-3f2a1b9c/report.html")]
    others += [Path("w/reports/other/2001-01-01/report.html")]
    for file in others:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
    Path("w/mlflow.db").write_text("no database at all")
    before = contents(Path("w"))
    assert "tracked run" not in nextday(*HERE, "maintain").err  # all are kept
    Path("nextday.toml").write_text("[retention]\nreport_sessions = 30\n")
    said = nextday(*HERE, "maintain")
    assert said.code == 0
    assert (
        "4 reports, 0 backtests, the files of 0 tracked runs and the charts of 0 models removed (0.4 MB)"
        in said.err
    )
    left = sorted(path.name for path in Path("w/reports/sample").glob("????-??-??"))
    assert left == [f"{target:%Y-%m-%d}" for target in sessions["target_session"]][4:]
    gone = before.keys() - contents(Path("w")).keys()
    assert len(gone) == 4
    assert all(name.startswith("reports/sample/") for name in gone)
    assert ledger.verify().ok
    pd.testing.assert_frame_equal(ledger.record("sample"), sessions)
    assert "tracked run" not in nextday(*HERE, "maintain").err


def test_of_models_that_forecast_none_of_the_kept_sessions_the_charts_go(nextday: CommandLine) -> None:
    ledger, registry = Ledger(Path("w/ledger.sqlite")), Registry(Path("w"), lambda folder: folder.name)
    for day in range(34):
        issue(ledger, day, ["AAPL"])
    sessions = ledger.record("sample")
    used = sessions["model_version"].iloc[0]
    for version, trained in (("a" * 16, 0), (used, 0), ("b" * 16, 0), ("c" * 16, 33)):
        folder = Workspace(Path("w")).evaluation("sample", version)
        folder.mkdir(parents=True)
        for name in ("scores.csv", "verdict.json", "training.svg", "memory.csv"):
            (folder / name).write_text(name)
        tags = {"trained_through": f"{sessions['as_of'].iloc[trained]:%Y-%m-%d}"}
        registry.add("sample", version, "run", 1, tags, digest_files(folder))
    registry.promote("sample", "b" * 16, NOW)
    Path("nextday.toml").write_text("[retention]\nreport_sessions = 30\n")
    said = nextday(*HERE, "maintain")
    assert said.code == 0, said.err
    assert "the charts of 1 model removed" in said.err
    for model in registry.versions("sample"):
        folder = Workspace(Path("w")).evaluation("sample", model.model_version)
        left = {"scores.csv", "verdict.json"}
        left |= set() if model.model_version == "a" * 16 else {"training.svg", "memory.csv"}
        assert {path.name for path in folder.iterdir()} == left
        assert model.evaluation == digest_files(folder)
    assert "charts" not in nextday(*HERE, "maintain").err


def test_too_few_reports_to_keep_are_refused_and_none_means_all(nextday: CommandLine) -> None:
    Path("nextday.toml").write_text("[retention]\nreport_sessions = 5\n")
    said = nextday(*HERE, "maintain")
    assert said.code == 2
    assert "write 0 to keep every report, or at least 30" in told(said)[0]
    ledger = Ledger(Path("w/ledger.sqlite"))
    for day in range(34):
        issue(ledger, day, ["AAPL"])
    folder = Path("w/reports/sample/2001-01-02")
    folder.mkdir(parents=True)
    Path("nextday.toml").write_text("[retention]\nreport_sessions = 0\n")
    assert nextday(*HERE, "maintain").code == 0
    assert folder.exists()


def test_it_waits_for_a_run_of_the_same_universe(
    nextday: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "PATIENCE", 0.1)
    place = Workspace(Path("w").resolve())
    with place.locked("sample", timeout=0, log=print):
        said = nextday(*HERE, "maintain")
    assert said.code == 1
    assert "another run is using the universe 'sample'" in said.err
    assert "'sample' for 0 s" in told(said)[0]


@pytest.mark.slow
def test_prefect_shows_what_was_done(tmp_path: Path, xnys: Calendar, prefect_server: None) -> None:
    scatter(tmp_path / "w", xnys, 3)
    (tmp_path / "nextday.toml").write_text("")
    done = maintenance(tmp_path / "nextday.toml", tmp_path / "w")
    assert (done.reads_before, done.reads_after) == (6, 2)
    key = {"artifacts": {"key": {"any_": ["nextday-sample-maintenance"]}}}
    with get_client(sync_client=True) as client:
        (found,) = client._client.post("/artifacts/latest/filter", json=key).json()
        client._client.delete(f"/artifacts/{found['latest_id']}").raise_for_status()
    shown = {row["what"]: (row["before"], row["after"]) for row in json.loads(found["data"])}
    assert shown["files that a read of all prices opens"] == (6, 2)
