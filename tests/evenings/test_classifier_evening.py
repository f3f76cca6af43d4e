"""A champion that is a classifier, through real evenings: sealed, told, replayed, kept through a backup."""

from pathlib import Path

import pandas as pd
import pytest

from flows.evening import decay as alarm
from flows.evening.decay import explain_decay
from flows.runtime.context import Run, open_run
from flows.training.evaluation import load_evaluation
from flows.training.verified_champion import Champions
from models.ensembles.model_files import model_version
from pipeline.evaluation.attributions import FILE
from pipeline.monitoring.decay import Decay
from pipeline.outputs import MAIN, Output
from pipeline.tracking.registry import Registry
from tests.conftest import small_settings
from tests.support.command_line import CommandLine
from tests.support.own_process import EVENING

pytestmark = [pytest.mark.slow, pytest.mark.own_process(*EVENING)]

HERE = ("--config", "nextday.toml", "--home", "w", "--now", "2018-12-20T22:00Z")


def test_an_evening_with_boosting_is_sealed_explained_replayed_and_restored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = CommandLine(tmp_path, monkeypatch, capsys)
    settings = small_settings().replace("logistic", "boosting")
    Path("nextday.toml").write_text(f'{settings}\n[labels]\nhorizons = [1, 5]\n[alarm]\non_decay = "stop"\n')
    decays = [Decay(MAIN, "decayed", 50), Decay(Output("direction", 5), "as expected", 50)]
    monkeypatch.setattr(alarm, "judge_record", lambda run, record: decays)
    assert line(*HERE, "forecast").code == 0
    run = open_run(Path("nextday.toml"), Path("w"), None)
    record = run.ledger.record(run.name)
    assert len(record) == 4
    stopped = record.groupby("horizon")["direction"].unique()
    assert stopped[1].tolist() == ["none"]
    assert "none" not in stopped[5]
    folder = run.workspace.evaluation(run.name, str(record["model_version"].iloc[0]))
    evaluation = load_evaluation(folder)
    assert evaluation.verdict.model == "boosting"
    methods = set(evaluation.scores["model"])
    assert "boosting" in methods
    assert "gradient_boosting" not in methods  # it would be compared with itself
    assert evaluation.insight is not None
    assert evaluation.insight.memory.empty
    assert set(evaluation.insight.importance["horizon"]) == {1, 5}

    page = next(Path("w/reports/sample").glob("*/report.html"))
    assert "gradient boosting, 50 trees of at most 8 leaves" in page.read_text()
    assert "What the model looks at" in page.read_text()
    kept = pd.read_csv(page.with_name(FILE))
    for _, rows in kept.groupby(["symbol", "horizon"]):
        explained = (rows["logit"] - rows["baseline_logit"]).iloc[0]
        assert rows["attribution"].sum() == pytest.approx(explained, abs=1e-3)

    check_explanation(run, record, decays)
    assert line(*HERE, "forecast").code == 0
    assert len(run.ledger.record(run.name)) == 4
    assert line(*HERE, "backup", "kept.tar.gz").code == 0
    assert line("--home", "again", "restore", "kept.tar.gz").code == 0
    again = line("--config", "nextday.toml", "--home", "again", "replay", "2018-12-20")
    assert again.code == 0, again
    assert "4 forecasts recomputed: the same (largest difference 0.0e+00)" in again.out


def check_explanation(run: Run, record: pd.DataFrame, decays: list[Decay]) -> None:
    """The alarm reads what the champion's backtest promised, and compares its inputs with its training."""
    (champion,) = Registry(run.workspace.home, model_version).versions(run.name)
    floors = alarm._measure_floors(run, champion.model_version, champion.evaluation)
    assert set(floors) == {"1", "5"}
    assert all(-0.1 < floor < 0.1 for floor in floors.values())
    serving = Champions(run).serving()
    assert serving is not None
    said = explain_decay(run, record["as_of"].iloc[0], run.store.seq(), serving, decays)
    assert "last 60 sessions" in said
