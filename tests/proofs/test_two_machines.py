"""Two machines with a workspace each, and nothing in common but an MLflow server and a bucket for the reports."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import boto3
import pandas as pd
import pytest

from flows.nightly import Evening, nightly
from flows.operations.doctor import examine
from flows.retrain import retrain
from flows.runtime.progress import progress_shown_by
from pipeline.errors import TrackingUnreachableError
from pipeline.ledger.ledger import Ledger
from pipeline.market.calendar import Calendar
from pipeline.tracking.mlflow_database import open_client
from tests.conftest import small_settings
from tests.support.command_line import CommandLine, told
from tests.support.mlflow_server import PASSWORD, SharedMlflow, mlflow_server
from tests.support.object_store import BUCKET, SECRET, ObjectStore
from tests.support.own_process import EVENING

pytestmark = [pytest.mark.proof, pytest.mark.own_process(*EVENING)]

FIRST, SECOND, THIRD = "2018-12-26", "2018-12-27", "2018-12-28"


@pytest.fixture
def mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SharedMlflow]:
    folder = tmp_path / "mlflow"
    folder.mkdir()
    open_client(folder)  # its database, which takes the server seconds to make
    with mlflow_server(folder) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


class Lines:
    """The lines that a run shows."""

    def __init__(self) -> None:
        self.said = list[str]()

    def log_line(self, line: str) -> None:
        self.said.append(line)

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[object]:
        yield lambda note: None


class Machine:
    """A machine with settings and a workspace of its own."""

    def __init__(self, folder: Path, xnys: Calendar, storage: str) -> None:
        folder.mkdir()
        self.config, self.home, self.calendar = folder / "nextday.toml", folder / "data", xnys
        self.config.write_text(f'{small_settings()}[promotion]\nrule = "always"\n[storage]\n{storage}')
        self.lines = Lines()

    def clock(self, session: str) -> datetime:
        return (self.calendar.closes[pd.Timestamp(session)] + timedelta(hours=2)).to_pydatetime()

    def evening(self, session: str) -> Evening:
        self.lines.said.clear()
        with progress_shown_by(self.lines):
            return nightly.fn(config=self.config, home=self.home, now=self.clock(session))

    def retrain(self, session: str) -> None:
        retrain.fn(config=self.config, home=self.home, now=self.clock(session))

    def rows(self, session: str) -> pd.DataFrame:
        rows = Ledger(self.home / "ledger.sqlite").record("sample")
        return rows[rows["as_of"] == session].sort_values("symbol", ignore_index=True)

    def checks(self) -> dict[str, bool]:
        return {each.what: each.is_passed for each in examine(self.config, self.home, self.clock(THIRD))}


def in_bucket(s3: ObjectStore, folder: str) -> dict[str, datetime]:
    found = boto3.client("s3", endpoint_url=s3.endpoint).list_objects_v2(Bucket=BUCKET, Prefix=f"{folder}/")
    return {
        each["Key"].removeprefix(f"{folder}/"): each["LastModified"] for each in found.get("Contents", [])
    }


def check_copies(one: Machine, s3: ObjectStore, folder: str) -> None:
    """Seal an evening whose reports cannot be copied; the next one, after a training, copies those of both."""
    with s3.fault("500", "PUT"):
        assert one.evening(FIRST).new_rows == 2
    assert any("the reports are not all copied; the next run tries again" in line for line in one.lines.said)
    assert in_bucket(s3, folder) == {}
    assert any("the reports are not all copied" in what and not ok for what, ok in one.checks().items())
    one.retrain(SECOND)
    one.evening(SECOND)
    copied = in_bucket(s3, folder)
    assert {"index.html", "latest.csv", "latest.json", "record.json"} < copied.keys()
    for session in ("2018-12-27", "2018-12-28"):
        assert {f"{session}/{name}" for name in ("forecast.csv", "scores.csv", "report.html")} < copied.keys()
    assert max(copied, key=lambda name: (copied[name], name == "index.html")) == "index.html"
    checks = one.checks()
    assert any(what.startswith("[storage] the reports are copied to") and ok for what, ok in checks.items())


def check_outages(
    other: Machine, mlflow: SharedMlflow, nextday: CommandLine, patch: pytest.MonkeyPatch
) -> None:
    """Seal nothing without the server, for another model may have been promoted meanwhile."""
    with mlflow.failing("cut"), pytest.raises(TrackingUnreachableError) as away:
        other.evening(THIRD)
    assert away.value.exit_code == 2
    place = ("--config", str(other.config), "--home", str(other.home))
    with mlflow.failing("500"):
        said = nextday(*place, "--now", other.clock(THIRD).isoformat(), "forecast")
    assert said.code == 2
    assert "the MLflow server answers with errors (500)" in told(said)[0]
    assert mlflow.url in told(said)[1]
    patch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong")
    with pytest.raises(TrackingUnreachableError, match="refuses access"):
        other.evening(THIRD)
    patch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    assert other.rows(THIRD).empty


def test_what_one_machine_promotes_the_other_forecasts_with_and_an_outage_seals_nothing(
    mlflow: SharedMlflow,
    s3: ObjectStore,
    tmp_path: Path,
    xnys: Calendar,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    address = f'mlflow = "{mlflow.url}"\n'
    one = Machine(tmp_path / "one", xnys, f'{address}reports = "s3://{BUCKET}/{tmp_path.name}"\n')
    other = Machine(tmp_path / "other", xnys, address)

    check_copies(one, s3, f"{tmp_path.name}/sample")
    assert one.checks()[f"MLflow answers at {mlflow.url}, and names the same champion"]

    # The other machine has trained nothing, and forecasts the same, bit for bit.
    other.evening(SECOND)
    mine, yours = one.rows(SECOND), other.rows(SECOND)
    assert mine["model_version"].nunique() == 1
    assert mine["model_version"].iloc[0] != one.rows(FIRST)["model_version"].iloc[0]
    same = ["symbol", "model_version", "config_digest", "p_up", "low", "high", "direction", "baseline_p_up"]
    pd.testing.assert_frame_equal(mine[same], yours[same], check_exact=True)
    assert not any("training one" in line for line in other.lines.said)
    assert not (other.home / "mlflow.db").exists()

    check_outages(other, mlflow, CommandLine(tmp_path, monkeypatch, capsys), monkeypatch)

    # Gone after the champion is known: the evening is sealed, and recorded by the next run.
    with mlflow.failing("cut", after=2):
        assert other.evening(THIRD).new_rows == 2
    assert any("not tracked; the next run tries again" in line for line in other.lines.said)
    again = other.evening(THIRD)
    assert again.new_rows == 0
    assert "mlflow_run_id" in json.loads((again.paths.folder / "tracked.json").read_text())

    for file in (path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size):
        assert not any(secret.encode() in file.read_bytes() for secret in (PASSWORD, SECRET)), file
