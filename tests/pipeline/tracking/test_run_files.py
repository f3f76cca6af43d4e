"""The files of old tracked runs go; everything else that MLflow knows of them stays."""

import shutil
from datetime import date
from pathlib import Path

import pytest
from mlflow import MlflowClient

from pipeline.tracking.run_files import remove_run_files
from pipeline.tracking.runs import Tracking
from tests.pipeline.tracking.test_runs import TAGS, digest, record, save_model

pytestmark = pytest.mark.slow


def record_evening(tracking: Tracking, day: str, universe: str = "sample") -> str:
    tracking.home.mkdir(exist_ok=True)
    report = tracking.home / "report.html"
    report.write_text("a report")
    return tracking.record_forecast(
        universe=universe,
        run_name=f"{universe} for {day}",
        tags={"now": f"{day}T22:00:00+00:00", "ledger_head": day},
        metrics={"forecasts": 2.0},
        artifacts=[report],
    )


def files(client: MlflowClient, run: str) -> list[str]:
    return [item.path for item in client.list_artifacts(run)]


def test_files_of_runs_before_the_day_go_and_their_figures_stay(tmp_path: Path) -> None:
    home = tmp_path / "w"
    tracking = Tracking(home, digest)
    old, edge = record_evening(tracking, "2018-12-10"), record_evening(tracking, "2018-12-11")
    other = record_evening(tracking, "2018-12-10", "other")
    trained = {
        name: record(
            tracking,
            save_model(home, name),
            tags=TAGS | {"now": "2018-12-09T22:00:00+00:00"},
            artifacts=[home / "report.html"],
        ).run_id
        for name in ("serving", "former")
    }
    assert remove_run_files(home, "sample", date(2018, 12, 11), [trained["serving"]])[0] == 2
    client = MlflowClient(f"sqlite:///{home}/mlflow.db")
    assert files(client, old) == files(client, trained["former"]) == []
    assert files(client, edge) == files(client, other) == ["report.html"]
    assert files(client, trained["serving"]) == ["model", "report.html"]
    assert client.get_run(old).data.metrics == {"forecasts": 2.0}
    assert len([*(home / "models" / "sample").glob("*/model.json")]) == 2
    assert remove_run_files(home, "sample", date(2018, 12, 11), [trained["serving"]]) == (0, 0)
    assert record_evening(tracking, "2018-12-10") == old  # known as recorded, and not written again
    assert files(client, old) == []
    shutil.rmtree(home / "mlflow")
    assert remove_run_files(home, "sample", date(2030, 1, 1)) == (0, 0)


def test_without_a_database_nothing_is_made(tmp_path: Path) -> None:
    assert remove_run_files(tmp_path, "sample", date(2030, 1, 1)) == (0, 0)
    assert [*tmp_path.iterdir()] == []
