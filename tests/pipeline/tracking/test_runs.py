"""Tracked runs and models, read back with MLflow's own client."""

import hashlib
import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.errors import InputError, NextdayError
from pipeline.schema import SCORES, validated
from pipeline.storage.workspace import Workspace
from pipeline.tracking.mlflow_metrics import measure_trading
from pipeline.tracking.runs import TrackedRun, Tracking

pytestmark = pytest.mark.slow

EVENING = datetime(2018, 12, 31, 22, tzinfo=UTC)
CONFIG = {"universe": {"name": "sample", "symbols": ["^GSPC"] * 200, "path": ""}, "model": {"units": 16}}
TAGS = {"trained_through": "2018-12-31", "data_version": "7", "flow_run_name": "brave-owl"}


def digest(folder: Path) -> str:
    content = [(path.name, path.read_bytes().hex()) for path in sorted(folder.iterdir())]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def save_model(home: Path, content: str) -> Path:
    draft = home / "draft"
    draft.mkdir(parents=True)
    (draft / "model.json").write_text(content)
    (draft / "member-1.keras").write_bytes(content.encode() * 1000)
    folder = Workspace(home).model("sample", digest(draft))
    folder.parent.mkdir(parents=True, exist_ok=True)
    return draft.rename(folder)


def epochs() -> pd.DataFrame:
    """Two fits of two members, three epochs each; the loss tells which."""
    rows = [(fit, member, epoch) for fit in ("score", "champion") for member in (1, 2) for epoch in (1, 2, 3)]
    frame = pd.DataFrame(rows, columns=["fit", "member", "epoch"])
    loss = (frame["fit"] == "champion") * 100.0 + frame["member"] * 10 + frame["epoch"]
    return frame.assign(loss=loss, hit_rate=0.5, stop_loss=0.7, stop_hit_rate=0.5, gradient_norm=1.0)


def scores() -> pd.DataFrame:
    row = {"model": "gru", "group": "all", "metric": "hit_rate", "value": 0.52, "low": 0.49, "high": 0.55}
    row |= {
        "n": 1006,
        "effective_n": 700.0,
        "sessions": 504,
        "baseline": "base_rate",
        "baseline_value": 0.53,
        "p_value": 0.6,
        "horizon": 1,
        "target": "direction",
        "t_statistic": np.nan,
    }
    rows = [row, row | {"group": "^GSPC"}, row | {"metric": "auc", "value": np.nan}]
    return validated(pd.DataFrame(rows), SCORES)


def record(tracking: Tracking, folder: Path, **changes: Any) -> TrackedRun:
    arguments = {
        "universe": "sample",
        "run_name": "sample through 2018-12-31",
        "config": CONFIG,
        "config_digest": "c0ffee",
        "model_dir": folder,
        "model_version": folder.name,
        "tags": TAGS,
        "epochs": epochs(),
        "scores": scores(),
        "scored_model": "gru",
    }
    return tracking.record_training(**(arguments | changes))


def client(home: Path) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{home}/mlflow.db")


def runs(home: Path) -> list[Any]:
    experiment = client(home).get_experiment_by_name("nextday-sample")
    return list(client(home).search_runs([experiment.experiment_id]))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database without a run: making one takes seconds."""
    home = tmp_path_factory.mktemp("template")
    Tracking(home, digest).ui_command(5000)
    return home / "mlflow.db"


@pytest.fixture
def home(template: Path, tmp_path: Path) -> Path:
    # A path that a URL must quote.
    home = tmp_path / "my work #1 50% ü"
    home.mkdir()
    shutil.copy(template, home)
    return home


@pytest.fixture
def tracking(home: Path) -> Tracking:
    return Tracking(home, digest)


def test_a_training_is_recorded_completely(tracking: Tracking, home: Path) -> None:
    folder = save_model(home, "a")
    report = home / "report.html"
    report.write_text("<p>report</p>")
    made = record(tracking, folder, artifacts=[report])
    run = client(home).get_run(made.run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "sample through 2018-12-31"
    about = TAGS | {"model_version": folder.name, "config_digest": "c0ffee"}
    assert run.data.tags.items() >= (about | {"record": "training"}).items()
    assert run.data.params["model.units"] == "16"
    assert run.data.params["universe.path"] == ""
    assert run.data.params["universe.symbols"] == str(CONFIG["universe"]["symbols"])[:499] + "…"
    held = {item.path for item in client(home).list_artifacts(made.run_id)}
    assert held == {"report.html", "model"}
    assert client(home).get_model_version("nextday-sample", "1").tags == about


def test_every_epoch_of_every_member_is_a_point_of_its_own_curve(tracking: Tracking, home: Path) -> None:
    made = record(tracking, save_model(home, "a"))
    curve = client(home).get_metric_history(made.run_id, "champion/member-2/loss")
    assert [(point.step, point.value) for point in curve] == [(1, 121.0), (2, 122.0), (3, 123.0)]
    names = client(home).get_run(made.run_id).data.metrics
    assert len([name for name in names if "/member-" in name]) == 2 * 2 * 5


def test_a_score_is_recorded_with_its_interval_and_counts(tracking: Tracking, home: Path) -> None:
    made = record(tracking, save_model(home, "a"), epochs=epochs()[:0])
    evidence = {"": 0.52, ".low": 0.49, ".high": 0.55, ".n": 1006, ".effective_n": 700, ".baseline": 0.53}
    expected = {f"{'details/' if part else ''}gru.hit_rate{part}": value for part, value in evidence.items()}
    expected |= {f"_GSPC/{name}": value for name, value in expected.items()}
    expected |= {f"details/gru.auc{part}": value for part, value in evidence.items() if part}
    assert client(home).get_run(made.run_id).data.metrics == expected


def record_walk(tracking: Tracking, costs: str = "one") -> str:
    numbers = pd.DataFrame(
        [
            ("model", "gru", "sharpe", 0.4, -0.1, 0.9, 500, 900),
            ("model", "gru", "deflated_sharpe", 0.3, np.nan, np.nan, 500, 900),
            ("baseline", "best_before, traded alike", "turnover", 2.0, np.nan, np.nan, 500, 800),
            ("held", "buy and hold", "sharpe", 0.5, 0.0, 1.0, 500, 2),
            ("unreachable", "gru, close to close (not reachable)", "sharpe", 3.0, 2.0, 4.0, 500, 900),
        ],
        columns=["role", "name", "metric", "value", "low", "high", "sessions", "trades"],
    )
    return tracking.record_backtest(
        universe="sample",
        run_name="sample backtest",
        config=CONFIG,
        tags={"config_digest": "c0ffee", "trial_digest": costs},
        epochs=epochs()[:0],
        scores=scores()[:0],
        scored_model="gru",
        trading=measure_trading(numbers, {"model": "gru", "baseline": "best_before"}),
        artifacts=[],
    )


def test_trading_results_are_recorded_with_intervals_and_counts_and_only_for_the_given_roles(
    tracking: Tracking, home: Path
) -> None:
    run_id = record_walk(tracking)
    assert client(home).get_run(run_id).data.metrics == {
        "trading/gru.sharpe": 0.4,
        "trading/gru.sharpe.low": -0.1,
        "trading/gru.sharpe.high": 0.9,
        "trading/gru.sharpe.n": 500,
        "trading/gru.sharpe.trades": 900,
        "trading/gru.deflated_sharpe": 0.3,
        "trading/gru.deflated_sharpe.n": 500,
        "trading/gru.deflated_sharpe.trades": 900,
        "trading/best_before.turnover": 2.0,
        "trading/best_before.turnover.n": 500,
        "trading/best_before.turnover.trades": 800,
    }
    assert record_walk(tracking) == run_id
    assert record_walk(tracking, costs="two") != run_id  # the same forecasts, earning something else


def test_batches_beyond_what_mlflow_takes_at_once_arrive_whole(tracking: Tracking, home: Path) -> None:
    many = pd.concat([epochs().assign(epoch=lambda f, k=k: f["epoch"] + 3 * k) for k in range(40)])
    made = record(tracking, save_model(home, "a"), epochs=many, config={f"k{n}": n for n in range(250)})
    curve = client(home).get_metric_history(made.run_id, "score/member-1/gradient_norm")
    assert [point.step for point in curve] == list(range(1, 121))
    assert len(client(home).get_run(made.run_id).data.params) == 250


def test_the_alias_leads_to_the_very_files_that_serve(tracking: Tracking, home: Path, tmp_path: Path) -> None:
    folder = save_model(home, "a")
    made = record(tracking, folder)
    tracking.promote("sample", folder.name, promoted_at=EVENING)
    champion = tracking.champion("sample")
    assert champion is not None
    assert (champion.run_id, champion.number, champion.promoted_at) == (made.run_id, 1, EVENING)
    named = client(home).get_model_version_by_alias("nextday-sample", "champion")
    assert named.tags["promoted_at"] == EVENING.isoformat()
    copy = client(home).download_artifacts(named.run_id, "model", str(tmp_path))
    assert digest(Path(copy)) == folder.name
    assert tracking.mirror("sample") == []


def test_a_new_champion_takes_the_alias_and_the_former_one_says_when(tracking: Tracking, home: Path) -> None:
    first, second = save_model(home, "a"), save_model(home, "b")
    for days, folder in enumerate([first, second]):
        assert record(tracking, folder).version == days + 1
        tracking.promote("sample", folder.name, promoted_at=EVENING + timedelta(days=days))
    assert client(home).get_model_version_by_alias("nextday-sample", "champion").version in (2, "2")
    replaced = client(home).get_model_version("nextday-sample", "1").tags["replaced_at"]
    assert datetime.fromisoformat(replaced) == EVENING + timedelta(days=1)
    assert [model.number for model in tracking.versions("sample")] == [2, 1]


def test_the_same_training_again_is_neither_a_new_run_nor_a_new_version(
    tracking: Tracking, home: Path
) -> None:
    folder = save_model(home, "a")
    first, again = record(tracking, folder), record(tracking, folder, tags=TAGS | {"now": "an hour later"})
    assert first == again
    assert tracking.version("sample", folder.name).run_id == first.run_id
    assert len(client(home).search_model_versions("name = 'nextday-sample'")) == 1
    assert len(runs(home)) == 1


def test_the_same_model_from_other_settings_is_a_new_run_and_no_new_version(
    tracking: Tracking, home: Path
) -> None:
    folder = save_model(home, "a")
    first, again = record(tracking, folder), record(tracking, folder, config_digest="decaf")
    assert first.run_id != again.run_id
    assert first.version == again.version == 1
    assert tracking.version("sample", folder.name).run_id == first.run_id


class Killed(BaseException):
    """Stands in for a kill."""


@pytest.mark.parametrize("during", ["log_artifact", "create_model_version"])
def test_a_run_whose_writer_was_killed_is_resumed_and_completed(
    tracking: Tracking, home: Path, monkeypatch: pytest.MonkeyPatch, during: str
) -> None:
    folder, killer = save_model(home, "a"), Tracking(home, digest)
    for name in ("set_terminated", during):
        monkeypatch.setattr(killer._client, name, lambda *_: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        record(killer, folder, tags=TAGS | {"now": "18:30"})
    assert [run.info.status for run in runs(home)] == ["RUNNING"]
    made = record(tracking, folder, tags=TAGS | {"now": "18:40"})
    (run,) = runs(home)
    assert (run.info.run_id, run.info.status) == (made.run_id, "FINISHED")
    curve = client(home).get_metric_history(made.run_id, "score/member-1/loss")
    assert [(point.step, point.value) for point in curve] == [(1, 11.0), (2, 12.0), (3, 13.0)]
    assert {item.path for item in client(home).list_artifacts(made.run_id)} == {"model"}
    assert client(home).get_model_version("nextday-sample", "1").run_id == made.run_id


def test_another_run_that_never_ended_is_marked_as_killed_and_those_of_people_are_left(
    tracking: Tracking, home: Path
) -> None:
    record(tracking, save_model(home, "a"))
    experiment = client(home).get_experiment_by_name("nextday-sample").experiment_id
    ours = client(home).create_run(experiment, tags={"record": "forecast"}).info.run_id
    theirs = client(home).create_run(experiment).info.run_id
    record(tracking, save_model(home, "b"))
    assert client(home).get_run(ours).info.status == "KILLED"
    assert client(home).get_run(theirs).info.status == "RUNNING"


def test_a_registration_that_died_halfway_is_finished_by_the_next(tracking: Tracking, home: Path) -> None:
    folder = save_model(home, "a")
    record(tracking, folder)
    (home / "models/sample/versions.json").unlink()
    assert record(tracking, folder).version == 1
    assert [model.number for model in tracking.versions("sample")] == [1]


def test_an_alias_moved_by_hand_is_found_and_fixed(tracking: Tracking, home: Path) -> None:
    first, second = save_model(home, "a"), save_model(home, "b")
    record(tracking, first)
    record(tracking, second)
    tracking.promote("sample", second.name, promoted_at=EVENING)
    client(home).set_registered_model_alias("nextday-sample", "champion", "1")
    (sentence,) = tracking.mirror("sample")
    assert f"serves {second.name}" in sentence
    assert f"names {first.name}" in sentence
    client(home).delete_registered_model_alias("nextday-sample", "champion")
    assert "names none" in tracking.mirror("sample")[0]
    tracking.promote("sample", second.name, promoted_at=EVENING + timedelta(days=1))
    assert tracking.mirror("sample") == []
    champion = tracking.champion("sample")
    assert champion is not None
    assert champion.promoted_at == EVENING


def test_a_lost_database_is_found_and_the_champion_serves_all_the_same(
    tracking: Tracking, home: Path
) -> None:
    folder = save_model(home, "a")
    record(tracking, folder)
    tracking.promote("sample", folder.name, promoted_at=EVENING)
    (home / "mlflow.db").unlink()
    later = Tracking(home, digest)
    assert "names none" in later.mirror("sample")[0]
    assert later.champion("sample") is not None
    with pytest.raises(NextdayError, match="has lost the model"):
        later.promote("sample", folder.name, promoted_at=EVENING)
    record(later, folder)
    later.promote("sample", folder.name, promoted_at=EVENING)
    assert later.mirror("sample") == []


def test_looking_for_disagreement_in_a_fresh_workspace_makes_nothing(tmp_path: Path) -> None:
    assert Tracking(tmp_path, digest).mirror("sample") == []
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_breaks_off_is_marked_and_registers_nothing(tracking: Tracking, home: Path) -> None:
    with pytest.raises(NextdayError, match="cannot be tracked") as error:
        record(tracking, save_model(home, "a"), artifacts=[home / "missing.html"])
    assert error.value.where == str(home / "mlflow.db")
    (run,) = runs(home)
    assert run.info.status == "FAILED"
    assert tracking.versions("sample") == []
    assert client(home).search_registered_models() == []
    again = record(tracking, home / "models/sample" / run.data.tags["model_version"])
    assert [(run.info.run_id, run.info.status) for run in runs(home)] == [(again.run_id, "FINISHED")]


def test_a_model_elsewhere_or_under_another_version_is_not_registered(tracking: Tracking, home: Path) -> None:
    folder = save_model(home, "a")
    with pytest.raises(NextdayError, match="must be in"):
        record(tracking, folder, model_dir=shutil.copytree(folder, home / folder.name))
    with pytest.raises(NextdayError, match="missing or damaged"):
        record(tracking, folder, model_version="0" * 16)


def test_a_nightly_run_is_recorded_and_can_be_added_to(tracking: Tracking, home: Path) -> None:
    forecast = home / "forecast.csv"
    forecast.write_text("symbol\n")
    run_id = tracking.record_forecast(
        universe="sample",
        run_name="2019-01-02",
        tags={"ledger_head": "ab12"},
        metrics={"up": 1, "^GSPC p_up": 0.55, "undefined": float("nan")},
        artifacts=[forecast],
    )
    tracking.attach(run_id, [save_model(home, "a")], {"settled": "yes"})
    run = client(home).get_run(run_id)
    assert run.data.metrics == {"up": 1.0, "_GSPC p_up": 0.55}
    expected = {"ledger_head": "ab12", "record": "forecast", "settled": "yes"}
    assert run.data.tags.items() >= expected.items()
    assert len(client(home).list_artifacts(run_id)) == 2
    same = {"ledger_head": "ab12", "now": "an hour later"}
    assert run_id == tracking.record_forecast(
        universe="sample", run_name="2019-01-02", tags=same, metrics={"up": 1}
    )
    with pytest.raises(NextdayError, match="Nothing can be added to the tracked run nobody"):
        tracking.attach("nobody", tags={"a": "b"})


def test_a_universe_with_an_improper_name_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot name a universe"):
        Tracking(tmp_path, digest).record_forecast(universe="../x", run_name="", tags={}, metrics={})
    assert list(tmp_path.iterdir()) == []


def test_a_moved_workspace_works_on_and_never_writes_to_its_old_place(
    tracking: Tracking, home: Path, tmp_path: Path
) -> None:
    folder = save_model(home, "a")
    made = record(tracking, folder)
    tracking.promote("sample", folder.name, promoted_at=EVENING)
    home.rename(tmp_path / "moved")
    moved = Tracking(tmp_path / "moved", digest)
    champion = moved.champion("sample")
    assert champion is not None
    assert champion.directory == tmp_path / "moved/models/sample" / folder.name
    again = record(moved, save_model(tmp_path / "moved", "b"))
    for run_id in (made.run_id, again.run_id):
        uri = client(tmp_path / "moved").get_run(run_id).info.artifact_uri
        assert uri == f"{(tmp_path / 'moved').as_uri()}/mlflow/{run_id}/artifacts"
    copy = client(tmp_path / "moved").download_artifacts(made.run_id, "model", str(tmp_path))
    assert digest(Path(copy)) == folder.name
    assert not home.exists()
