"""What the network looks at, through a real evening: kept, told on the page, told again."""

from pathlib import Path

import pandas as pd
import pytest

from flows.evening import explain
from flows.runtime.context import open_run
from flows.training.evaluation import load_evaluation
from models.explain import inspection
from pipeline.evaluation.attributions import FILE
from tests.conftest import network_settings
from tests.support.command_line import CommandLine
from tests.support.own_process import EVENING

pytestmark = [pytest.mark.slow, pytest.mark.own_process(*EVENING)]

HERE = ("--config", "nextday.toml", "--home", "w", "--now", "2018-12-20T22:00Z")
TABLES = {"sensitivity.csv", "memory.csv", "gradients.csv", "importance.csv"}


def a_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], mode: str
) -> CommandLine:
    line = CommandLine(folder, monkeypatch, capsys)
    settings = network_settings(members=2, epochs=2).replace("[training]", f'[training]\nmode = "{mode}"')
    Path("nextday.toml").write_text(f"{settings}\n[labels]\nhorizons = [1, 5]\n")
    return line


@pytest.mark.parametrize("mode", ["windowed", pytest.param("sequence", marks=pytest.mark.proof)])
def test_an_evening_keeps_what_its_network_looks_at_and_tells_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], mode: str
) -> None:
    line = a_line(tmp_path, monkeypatch, capsys, mode)
    assert line(*HERE, "forecast").code == 0
    run = open_run(Path("nextday.toml"), Path("w"), None)
    report = next(Path("w/reports/sample").glob("*/report.html"))
    version = str(run.ledger.record(run.name)["model_version"].iloc[0])
    folder = run.workspace.evaluation(run.name, version)
    assert TABLES | {"sensitivity.svg", "importance.svg"} <= {path.name for path in folder.iterdir()}
    kept_of_training = load_evaluation(folder).insight
    assert kept_of_training is not None
    assert kept_of_training.sensitivity["lag"].max() == (4 if mode == "windowed" else 19)
    assert set(kept_of_training.sensitivity["member"]) == {1, 2}
    for table in (kept_of_training.sensitivity, kept_of_training.memory, kept_of_training.importance):
        assert set(table["horizon"]) == {1, 5}
    assert set(kept_of_training.importance["part"]) == {"test"}

    kept = pd.read_csv(report.with_name(FILE))
    assert set(kept["symbol"]) == {"^GSPC", "^IXIC"}
    for _, rows in kept.groupby(["symbol", "horizon"]):
        assert rows["attribution"].sum() == pytest.approx(
            (rows["logit"] - rows["baseline_logit"]).iloc[0], abs=2e-3
        )
    if mode == "windowed":
        assert kept["logit"].to_numpy() == pytest.approx(kept["forecast_logit"].to_numpy(), abs=1e-5)
    artifacts = {path.name for path in Path("w/mlflow").rglob("*") if path.is_file()}
    assert TABLES | {FILE} <= artifacts

    page = report.read_text()
    part = page[page.index("What the network looks at") : page.index("<h2>Prices")]
    assert "How far back it looks" in part
    assert "What moved these forecasts" in part
    assert line(*HERE, "forecast").code == 0  # everything stands: no model is asked, what is kept is told
    assert part in report.read_text()
    assert line(*HERE, "report").code == 0
    assert part in report.read_text()


@pytest.mark.proof
def test_what_is_not_kept_is_said_and_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = a_line(tmp_path, monkeypatch, capsys, "windowed")
    assert line(*HERE, "forecast").code == 0
    run = open_run(Path("nextday.toml"), Path("w"), None)
    report = next(Path("w/reports/sample").glob("*/report.html"))
    version = str(run.ledger.record(run.name)["model_version"].iloc[0])
    report.with_name(FILE).write_text("damaged\n")
    (run.workspace.evaluation(run.name, version) / "memory.csv").unlink()  # as a former version left it
    assert line(*HERE, "report").code == 0
    page = report.read_text()
    assert "looks at was not kept" in page
    assert "The attributions of the forecasts cannot be read" in page
    assert "Verdict on the method" in page
    report.with_name(FILE).unlink()
    assert line(*HERE, "report").code == 0
    assert "What moved each of these forecasts was not kept" in report.read_text()


def test_whatever_happens_to_those_who_look_inside_an_evening_is_sealed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        asked.append("in vain")
        raise MemoryError("no room to look inside")

    asked: list[str] = []
    line = a_line(tmp_path, monkeypatch, capsys, "windowed")
    monkeypatch.setattr(explain, "_attribute", fail)
    monkeypatch.setattr(inspection, "inspect", fail)
    assert line(*HERE, "forecast").code == 0
    assert asked == ["in vain"] * 2
    assert len(open_run(Path("nextday.toml"), Path("w"), None).ledger.record("sample")) == 4
    assert next(Path("w/reports/sample").glob("*/report.html")).exists()
