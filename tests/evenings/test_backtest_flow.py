"""`nextday backtest`: every session is forecast by a fit that could not know it, and an interrupted walk goes on."""

import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flows import backtest as flow
from flows.backtest import Backtested, backtest
from flows.runtime import dask_cluster
from flows.runtime.context import open_run
from flows.runtime.tracking import tracking
from models.training.trainer import Trainer
from pipeline.errors import WorkspaceBusyError
from pipeline.report.backtest_report import FORECAST_COLUMNS
from pipeline.report.documents.answers import BacktestAnswer
from pipeline.schema import GROUP_SCORES, SCORES
from pipeline.tracking.trials import TrialBook
from tests.conftest import NOW, network_settings, small_settings
from tests.pipeline.report.test_documents import valid
from tests.support.command_line import HERE, CommandLine
from tests.support.own_process import EVENING
from tests.support.prefect_place import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.own_process(*EVENING)]

WALK = """
[backtest]
train_sessions = 300
refit_sessions = 200
"""


def walk_with(
    folder: Path, home: str = "data", out: Path | None = None, *, training: str = "", walk: str = ""
) -> Backtested:
    """Walk, with lines of [training] and [backtest] of its own."""
    settings, text = folder / "nextday.toml", network_settings("2014-09-15", members=2)
    settings.write_text(text.replace("[training]", f"[training]\n{training}") + WALK + walk)
    return backtest.fn(settings, folder / home, NOW, out)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("walk")


@pytest.fixture(scope="module")
def walked(folder: Path) -> Backtested:
    return walk_with(folder, out=folder / "out")


def read(walked: Backtested, name: str) -> pd.DataFrame:
    days = ["as_of", "target_session"] if name == "forecasts.csv" else []
    return pd.read_csv(walked.paths[name], parse_dates=days)


def test_the_files_lie_where_they_were_asked_for(folder: Path, walked: Backtested) -> None:
    assert sorted(path.name for path in (folder / "out").iterdir()) == [
        *("forecasts.csv", "groups.csv", "report.html", "scores.csv", "trading.csv")
    ]
    forecasts, scores = read(walked, "forecasts.csv"), read(walked, "scores.csv")
    assert list(forecasts.columns) == [*FORECAST_COLUMNS, "p_low", "p_high"]
    assert list(scores.columns) == list(SCORES.columns)
    assert list(read(walked, "groups.csv").columns) == list(GROUP_SCORES.columns)
    assert set(forecasts["kind"]) == {"backtest"}
    assert {"gru", "base_rate", "logistic_regression", "gradient_boosting"} <= set(scores["model"])
    assert set(scores["baseline"]) == {"best_before"}
    page = walked.paths["report.html"].read_text()
    assert walked.backtest.verdict.conclusion.capitalize() in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert len(page) < 2_000_000


def test_its_document_holds_every_score_and_every_number(walked: Backtested) -> None:
    answer = valid(BacktestAnswer.read(walked.backtest, walked.paths).to_text())
    scores, trading = read(walked, "scores.csv"), read(walked, "trading.csv")
    assert (len(answer["scores"]), len(answer["trading"])) == (len(scores), len(trading))
    assert [score["value"] for score in answer["scores"]] == [
        None if np.isnan(value) else pytest.approx(value, abs=1e-6) for value in scores["value"]
    ]
    assert answer["verdicts"][0]["conclusion"] == walked.backtest.verdict.conclusion
    assert answer["folds"] == walked.backtest.folds
    assert answer["files"]["report.html"] == str(walked.paths["report.html"])


def test_every_session_of_the_walk_is_forecast_once_and_the_next_fit_takes_over(walked: Backtested) -> None:
    forecasts, ranges = read(walked, "forecasts.csv"), walked.backtest.ranges
    assert not forecasts.duplicated(["symbol", "as_of"]).any()
    by_fold = forecasts.groupby("fold")["as_of"].agg(["min", "max", "nunique"])
    assert by_fold["nunique"].tolist()[:-1] == [200] * (len(by_fold) - 1)
    assert (by_fold["min"].to_numpy()[1:] > by_fold["max"].to_numpy()[:-1]).all()
    ends = ranges[ranges["part"] != "test"].groupby("fit", sort=False)["last_session"].max()
    assert (ends.to_numpy() < by_fold["min"].to_numpy()).all()
    assert forecasts["model_version"].nunique() == len(by_fold) == walked.backtest.folds
    moved = forecasts[forecasts["realized_return"] != 0]  # an unchanged close is neither up nor down
    assert ((moved["realized_return"] > 0) == (moved["outcome"] == 1)).all()
    assert forecasts.drop(moved.index)["outcome"].isna().all()


def test_the_baseline_of_each_fold_was_chosen_before_its_test(walked: Backtested) -> None:
    rows = walked.backtest.test_rows
    best = rows[rows["model"] == "best_before"]
    assert len(best) == (rows["model"] == "gru").sum()
    for fold, part in best.groupby("fold"):
        (name,) = part["chosen"].unique()
        own = rows[(rows["model"] == name) & (rows["fold"] == fold)]
        np.testing.assert_array_equal(part["p_up"], own["p_up"])
        assert re.search(rf"{name} in fold [^;]*\b{fold}\b", walked.backtest.method["prior-best baseline"])


def test_another_threshold_or_another_walk_is_another_setting_tried(
    folder: Path, walked: Backtested, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = []
    for more in ("", "[trading]\nthreshold = 0.02\n", 'window = "rolling"\n'):
        settings = folder / "counted.toml"
        settings.write_text(network_settings("2014-09-15", members=2) + WALK + more)
        digests.append(flow._digest_trial(open_run(settings, folder / "counted", NOW)))
    assert len(set(digests)) == 3


def test_nothing_of_it_enters_the_ledger_and_the_setting_is_counted(folder: Path, walked: Backtested) -> None:
    run = open_run(folder / "nextday.toml", folder / "data", NOW)
    assert run.ledger.record(run.name).empty
    (trial,) = TrialBook(run.workspace.trials(run.name)).read()
    found = walked.backtest.trading.deflated
    assert found
    assert (trial.study, trial.sharpe) == ("backtest", found.sharpe)
    assert (found.trials, found.ratios) == (1, 0)
    assert "1 setting was tried" in walked.backtest.tried
    assert not flow._checkpoints(run).exists()


def test_it_is_tracked_with_its_files_and_registers_no_model(folder: Path, walked: Backtested) -> None:
    run = open_run(folder / "nextday.toml", folder / "data", NOW)
    client = tracking(run)._client
    (kept,) = client.search_runs([client.get_experiment_by_name(f"nextday-{run.name}").experiment_id])
    assert kept.data.tags["record"] == "backtest"
    assert kept.data.metrics["gru.log_loss"] == pytest.approx(
        float(walked.backtest.scores.query("model == 'gru' and metric == 'log_loss'")["value"].iloc[0])
    )
    numbers = read(walked, "trading.csv").set_index(["role", "metric"]).sort_index()
    for role, name in (("model", "gru"), ("baseline", "best_before")):
        assert kept.data.metrics[f"trading/{name}.sharpe.low"] == pytest.approx(
            numbers.loc[(role, "sharpe"), "low"], rel=1e-4
        )
        for metric in ("total_return", "break_even_bps", "turnover", "max_drawdown"):
            said = kept.data.metrics[f"trading/{name}.{metric}"]
            assert said == pytest.approx(numbers.loc[(role, metric), "value"], rel=1e-4)
    assert {file.path for file in client.list_artifacts(kept.info.run_id)} == set(walked.paths)
    assert tracking(run).versions(run.name) == []


def test_an_interrupted_walk_goes_on_and_ends_as_one_that_was_not(
    folder: Path, walked: Backtested, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[int] = []
    train = Trainer.train

    def interrupted(trainer, examples, seed, **options):  # type: ignore[no-untyped-def]
        if len(trained) == 3:
            raise KeyboardInterrupt
        trained.append(seed)
        return train(trainer, examples, seed, **options)

    monkeypatch.setattr(Trainer, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        walk_with(folder, home="interrupted")
    monkeypatch.undo()
    assert len(trained) == 3
    counted: list[int] = []

    def noted(trainer, examples, seed, **options):  # type: ignore[no-untyped-def]
        counted.append(seed)
        return train(trainer, examples, seed, **options)

    monkeypatch.setattr(Trainer, "train", noted)
    again = walk_with(folder, home="interrupted")
    assert len(counted) == 2 * walked.backtest.folds - 3
    home = folder / "interrupted" / "reports" / "sample"
    made = again.paths["report.html"].parent
    assert made.parent == home / "backtests"
    assert made.name.startswith(f"{NOW:%Y-%m-%dT%H%M%SZ}-gru-")
    assert (home / "backtest").resolve() == made.resolve()
    np.testing.assert_array_equal(again.backtest.forecasts["p_up"], walked.backtest.forecasts["p_up"])
    pd.testing.assert_frame_equal(again.backtest.scores, walked.backtest.scores)


def test_a_warm_start_goes_from_fit_to_fit_where_no_label_is_known_too_early(
    folder: Path, walked: Backtested, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[bool] = []
    train = Trainer.train

    def noted(trainer, examples, seed, **options):  # type: ignore[no-untyped-def]
        given.append(options.get("start") is not None)
        return train(trainer, examples, seed, **options)

    monkeypatch.setattr(Trainer, "train", noted)
    warm = walk_with(folder, training="warm_start = true")
    further = warm.backtest.folds - 1
    assert warm.backtest.method["warm start"].startswith(f"{further} of {further} further fits")
    assert given == [False] * 2 + [True] * 2 * (warm.backtest.folds - 1)
    ranges = warm.backtest.ranges.set_index(["fit", "part"])
    for number in range(2, warm.backtest.folds + 1):
        known = ranges.loc[(f"fold {number - 1}", "stop"), "last_session"]
        assert known < ranges.loc[(f"fold {number}", "train"), "last_session"]
    first = warm.backtest.forecasts["fold"] == 1
    np.testing.assert_array_equal(
        warm.backtest.forecasts.loc[first, "p_up"], walked.backtest.forecasts.loc[first, "p_up"]
    )


def test_a_rolling_walk_learns_from_as_many_sessions_every_time(folder: Path, walked: Backtested) -> None:
    rolling = walk_with(folder, walk='window = "rolling"')
    trained = rolling.backtest.ranges.query("part == 'train'")["sessions"]
    assert set(trained) == {300}
    assert rolling.backtest.folds == walked.backtest.folds


def test_an_evening_need_not_wait_for_a_walk_but_a_second_walk_is_refused(
    folder: Path, walked: Backtested, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[str] = []

    def look(run, known, folds, workshop):  # type: ignore[no-untyped-def]
        with run.workspace.locked(run.name, timeout=0, log=waited.append):
            pass
        with pytest.raises(WorkspaceBusyError, match="a backtest of the universe"):
            backtest.fn(folder / "nextday.toml", folder / "data", NOW)
        raise KeyboardInterrupt

    monkeypatch.setattr(flow, "walk_history", look)
    with pytest.raises(KeyboardInterrupt):
        walk_with(folder)
    assert waited == []


@pytest.mark.proof
@pytest.mark.parametrize(
    ("processes", "sent"),
    [(1, signal.SIGKILL), (2, signal.SIGKILL), (2, signal.SIGTERM), (2, signal.SIGINT)],
)
def test_a_walk_that_is_ended_goes_on_to_the_same_files(
    folder: Path, walked: Backtested, processes: int, sent: signal.Signals
) -> None:
    settings, home = folder / "ended.toml", folder / f"ended-{processes}-{sent.name}"
    after = home.with_suffix(".out")
    text = network_settings("2014-09-15", members=2) + WALK
    settings.write_text(text.replace("[training]", f"[training]\nprocesses = {processes}"))
    nextday = [str(Path(sys.executable).with_name("nextday")), "--config", str(settings), "--home", str(home)]
    walk = [*nextday, "--now", "2019-06-01T12:00Z", "backtest", "--out", str(after)]
    with home.with_suffix(".log").open("w") as log:
        process = subprocess.Popen(walk, start_new_session=True, stdout=log, stderr=log)
    kept = home / "cache" / "backtest" / "sample"
    wait_for(lambda: len([*kept.glob("*.npz")]) >= 3 or None, 120, "three trainings", every=0.05)
    (os.killpg if sent == signal.SIGKILL else os.kill)(process.pid, sent)
    assert process.wait(30) != 0, home.with_suffix(".log").read_text()
    assert not after.exists()
    if sent != signal.SIGKILL:
        assert [*kept.glob("*.half.npz"), *kept.parents[1].glob(".scratch.*")] == []
    done = {file.name: file.stat().st_mtime_ns for file in kept.glob("????????????????????????????????.npz")}
    again = subprocess.Popen(walk, start_new_session=True, stderr=subprocess.DEVNULL)
    wait_for(lambda: len([*kept.glob("*.npz")]) > len(done) or again.poll(), 120, "one more", every=0.05)
    for name, written in done.items():
        with suppress(FileNotFoundError):  # the walk may be whole by now
            assert (kept / name).stat().st_mtime_ns == written
    assert again.wait(300) == 0
    before = read(walked, "forecasts.csv")
    np.testing.assert_array_equal(pd.read_csv(after / "forecasts.csv")["p_up"], before["p_up"])
    assert (after / "scores.csv").read_bytes() == walked.paths["scores.csv"].read_bytes()


@pytest.mark.proof
@pytest.mark.filterwarnings("ignore::DeprecationWarning:distributed")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_two_processes_and_dask_come_to_the_same_numbers(folder: Path, walked: Backtested) -> None:
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as dask:
        for place in ("processes = 2", f'scheduler = "{dask.scheduler_address}"'):
            made = walk_with(folder, training=place)
            np.testing.assert_array_equal(made.backtest.forecasts["p_up"], walked.backtest.forecasts["p_up"])
            pd.testing.assert_frame_equal(made.backtest.scores, walked.backtest.scores)


def test_what_cannot_be_walked_is_told_with_the_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nextday = CommandLine(tmp_path, monkeypatch, capsys)
    monkeypatch.setattr(dask_cluster, "_CONNECTING", 1)
    for text, code, words in [
        (small_settings("2018-01-02"), 2, "too little history for a walk"),
        (
            network_settings("2014-01-02").replace(
                "[training]", '[training]\nscheduler = "tcp://127.0.0.1:1"'
            )
            + WALK,
            *(1, "No Dask scheduler answers"),
        ),
        (network_settings().replace("[training]", '[training]\nscheduler = "somewhere"'), 2, "scheduler"),
    ]:
        Path("nextday.toml").write_text(text)
        said = nextday(*HERE, "backtest")
        assert said.code == code
        assert words in said.err
