"""Simulated evenings through the real flow, on the sample: what stands in the ledger, and what a pencil says."""

import json
import re
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from arch.data import nasdaq, sp500
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId, LogFilter, LogFilterFlowRunId
from prefect.client.schemas.sorting import FlowRunSort, TaskRunSort

from flows.evening.forecasting import replay
from flows.evening.reporting import rebuild_report
from flows.nightly import Evening, nightly
from flows.retrain import retrain
from flows.runtime import progress
from flows.runtime.context import open_run
from flows.runtime.tracking import tracking
from pipeline.errors import InputError, NextdayError
from pipeline.ledger.ledger import Ledger
from pipeline.market.calendar import Calendar
from pipeline.prices.store import PriceStore
from pipeline.schema import FORECAST_KEY, FORECASTS
from tests.conftest import network_settings
from tests.pipeline.report.test_documents import valid
from tests.support.own_process import EVENING

pytestmark = [pytest.mark.slow, pytest.mark.own_process(*EVENING), pytest.mark.usefixtures("prefect_server")]

SMALL = network_settings(members=2, epochs=3, test_sessions=100)
CLOSES = {"^GSPC": sp500.load()["Close"], "^IXIC": nasdaq.load()["Close"]}


class Place:
    """A workspace, its configuration, and evenings in it.

    Args:
        folder: Where both lie.
        xnys: The calendar.
        in_prefect: Run evenings in Prefect, whose server the test must have: each step costs requests. Default: as the
            plain functions that they are without a server.
    """

    def __init__(self, folder: Path, xnys: Calendar, *, in_prefect: bool = False) -> None:
        self._forecast = nightly if in_prefect else nightly.fn
        self.config, self.home, self.calendar = folder / "nextday.toml", folder / "data", xnys
        self.config.write_text(SMALL)
        self.began = datetime.now(UTC)  # the server has runs of other test files too

    def evening(self, session: str) -> datetime:
        return (self.calendar.closes[pd.Timestamp(session)] + timedelta(hours=2)).to_pydatetime()

    def run(self, session: str) -> Evening:
        return self.run_at(self.evening(session))

    def run_at(self, now: datetime) -> Evening:
        return self._forecast(config=self.config, home=self.home, now=now)

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.home / "ledger.sqlite")

    def record(self) -> pd.DataFrame:
        return self.ledger.record("sample")


@pytest.fixture(scope="module")
def ten(tmp_path_factory: pytest.TempPathFactory, xnys: Calendar) -> tuple[Place, list[Evening]]:
    folder = tmp_path_factory.mktemp("ten")
    place, plain = Place(folder, xnys, in_prefect=True), Place(folder, xnys)
    sessions = xnys.sessions_between(pd.Timestamp("2018-12-10"), pd.Timestamp("2018-12-21"))
    assert len(sessions) == 10
    in_prefect = (*sessions[:2], sessions[-1])  # whose runs and artifacts are looked at
    return place, [
        (place if session in in_prefect else plain).run(f"{session:%Y-%m-%d}") for session in sessions
    ]


def happened(symbol: str, target: pd.Timestamp) -> float:
    """Return 1 if the newspaper's close was above the one before, else 0."""
    closes = CLOSES[symbol]
    at = closes.index.get_loc(target)
    return float(closes.iloc[at] > closes.iloc[at - 1])


def test_ten_evenings_leave_ten_forecasts_a_symbol_and_nine_outcomes(
    ten: tuple[Place, list[Evening]],
) -> None:
    place, evenings = ten
    record = place.record()
    assert len(record) == 20
    assert record["outcome"].notna().sum() == 18
    assert [evening.new_rows for evening in evenings] == [2] * 10
    assert [evening.settled for evening in evenings] == [0] + [2] * 9
    assert set(record["kind"]) == {"late"}
    assert record["model_version"].nunique() == 1
    assert place.ledger.verify().ok


def test_each_forecast_is_for_the_next_session_and_made_of_the_sessions_before(
    ten: tuple[Place, list[Evening]], xnys: Calendar
) -> None:
    place, evenings = ten
    for evening in evenings:
        assert evening.report.target_session == xnys.next_session(evening.report.as_of)
    # The Monday before Christmas is forecast on the Friday before, at a time when nobody knew its close.
    last = place.record().iloc[-1]
    assert (last["as_of"], last["target_session"]) == (pd.Timestamp("2018-12-21"), pd.Timestamp("2018-12-24"))
    assert PriceStore(place.home / "prices" / "sample").read()["session"].max() == pd.Timestamp("2018-12-21")


def test_outcomes_are_what_the_newspaper_printed(ten: tuple[Place, list[Evening]]) -> None:
    settled = ten[0].record().dropna(subset="outcome")
    assert settled["outcome"].tolist() == [
        happened(row.symbol, row.target_session) for row in settled.itertuples()
    ]
    closes = CLOSES["^GSPC"]
    first = settled[settled["symbol"] == "^GSPC"].iloc[0]
    assert first["realized_return"] == pytest.approx(
        closes[pd.Timestamp("2018-12-11")] / closes[pd.Timestamp("2018-12-10")] - 1
    )


def test_the_score_of_the_record_is_what_a_pencil_gives(ten: tuple[Place, list[Evening]]) -> None:
    place, evenings = ten
    settled = place.record().dropna(subset="outcome")
    p, y = settled["p_up"].to_numpy(), settled["outcome"].to_numpy()
    scores = evenings[-1].report.live_scores
    ours = scores[(scores["model"] == "gru") & (scores["group"] == "late")].set_index("metric")
    assert ours.loc["hit_rate", "value"] == pytest.approx(np.mean((p > 0.5) == (y == 1)))
    assert ours.loc["brier", "value"] == pytest.approx(np.mean((p - y) ** 2))
    assert ours.loc["log_loss", "value"] == pytest.approx(-np.mean(np.log(np.where(y == 1, p, 1 - p))))
    picking = ["rank_ic", "rank_icir", "top_minus_bottom"]  # they need five stocks a session
    assert (ours.loc[picking, "n"] == 0).all()
    of_rows = ours.drop(
        ["auc_between_sessions", *picking]
    )  # the first counts sessions that rose or fell as a whole
    assert (of_rows["n"] == 18).all()
    assert (of_rows["sessions"] == 9).all()


def test_no_training_label_lies_after_the_first_evening(ten: tuple[Place, list[Evening]]) -> None:
    place, evenings = ten
    champion = tracking(open_run(place.config, place.home, place.evening("2018-12-21"))).champion("sample")
    assert champion is not None
    assert champion.trained_through == pd.Timestamp("2018-12-10")
    ranges = evenings[0].report.ranges
    assert ranges["last_session"].max() < pd.Timestamp("2018-12-10")
    parts = ranges[ranges["fit"] == "score"].set_index("part")
    assert parts.loc["test", "sessions"] == 100
    assert parts.loc["calibrate", "last_session"] < parts.loc["test", "first_session"]


def test_running_twice_adds_nothing(ten: tuple[Place, list[Evening]]) -> None:
    place, evenings = ten
    store = PriceStore(place.home / "prices" / "sample")
    head, seq, csv = place.ledger.head(), store.seq(), evenings[-1].paths.forecast_csv.read_bytes()
    again = place.run("2018-12-21")
    assert again.new_rows == 0
    assert again.settled == 0
    assert (place.ledger.head(), store.seq()) == (head, seq)
    assert again.paths.forecast_csv.read_bytes() == csv


def test_a_sealed_session_is_made_again_to_the_last_bit(ten: tuple[Place, list[Evening]]) -> None:
    place, _ = ten
    run = open_run(place.config, place.home, place.evening("2018-12-21"))
    made = replay(run, pd.Timestamp("2018-12-13"))
    assert made.is_same
    assert len(made.rows) == 2
    assert made.rows["difference"].abs().max() <= 1e-6


def test_the_documents_of_an_evening_say_what_the_ledger_holds(ten: tuple[Place, list[Evening]]) -> None:
    place, evenings = ten
    latest, record = (
        valid(p.read_text()) for p in (evenings[-1].paths.latest_json, evenings[-1].paths.record_json)
    )
    assert latest["ledger_head"] == record["ledger_head"] == place.ledger.head().hash
    newest = place.record().tail(2)
    assert [row["p_up"] for row in latest["forecasts"]] == newest["p_up"].tolist()
    (figures,) = record["figures"]
    assert [figures[name] for name in ("role", "kind", "sealed", "settled", "open")] == [
        "champion",
        "late",
        20,
        18,
        2,
    ]
    hits = next(score for score in figures["scores"] if score["metric"] == "hit_rate")
    settled = place.record().dropna(subset="outcome")
    assert hits["value"] == pytest.approx(np.mean((settled["p_up"] > 0.5) == (settled["outcome"] == 1)))
    assert (hits["n"], hits["sessions"], hits["low"]) == (
        18,
        9,
        None,
    )  # ten sessions are the least for an interval


def test_the_csv_has_the_promised_columns_and_latest_is_the_newest(ten: tuple[Place, list[Evening]]) -> None:
    _, evenings = ten
    wanted = (
        "target_session,symbol,direction,p_up,low,high,baseline_p_up,as_of,last_close,issued_at,kind,"
        "model_version,data_version,config_digest,coverage,survivorship_biased,horizon,last_call,"
        "differs_from_base_rate,p_low,p_high,data_coverage,target"
    )
    text = evenings[-1].paths.forecast_csv.read_text()
    assert text.splitlines()[0] == wanted
    assert evenings[-1].paths.latest_csv.read_text() == text
    table = pd.read_csv(evenings[-1].paths.forecast_csv)
    assert table["symbol"].tolist() == ["^GSPC", "^IXIC"]
    assert ((table["low"] <= table["p_up"]) & (table["p_up"] <= table["high"])).all()
    assert (table["direction"] == np.where(table["p_up"] > 0.5, "up", "down")).all()
    record = evenings[-1].report.record
    closed = record[record["target_session"] == evenings[-1].report.as_of].set_index("symbol")
    is_right = (closed["direction"] == "up") == (closed["outcome"] == 1.0)
    assert table["last_call"].tolist() == ["right" if is_right[s] else "wrong" for s in table["symbol"]]


def test_the_page_says_what_kind_of_numbers_these_are(ten: tuple[Place, list[Evening]]) -> None:
    page = ten[1][-1].paths.html.read_text()
    assert ten[0].ledger.head().hash in page
    assert "fitted once more through 2018-12-10" in page
    assert "survivorship" in page.lower()
    assert "http-equiv" in page
    assert 'src="http' not in page


def test_the_artifacts_are_in_prefect(ten: tuple[Place, list[Evening]]) -> None:
    with get_client(sync_client=True) as client:
        answer = client._client.post("/artifacts/filter", json={"sort": "CREATED_DESC"})
    own = [row for row in answer.json() if datetime.fromisoformat(row["created"]) >= ten[0].began]
    # The newest of each key; the bar of a training that takes long has none.
    found = {row["key"]: row for row in reversed(own) if row["type"] != "progress"}
    assert set(found) == {"nextday-sample-summary", "nextday-sample-forecasts"}
    assert ten[1][-1].report.verdict is not None
    assert ten[1][-1].report.verdict.conclusion.lower() in found["nextday-sample-summary"]["data"].lower()
    assert f"The whole report: `{ten[1][-1].paths.html}`" in found["nextday-sample-summary"]["data"]
    assert len(json.loads(found["nextday-sample-forecasts"]["data"])) == 2


def test_runs_and_tasks_are_named_after_their_session(ten: tuple[Place, list[Evening]]) -> None:
    with get_client(sync_client=True) as client:
        newest = FlowRunSort.START_TIME_ASC
        evenings = [
            run
            for run in client.read_flow_runs(sort=newest)
            if run.name.startswith("sample ") and run.start_time and run.start_time >= ten[0].began
        ]
        first = client.read_task_runs(
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[evenings[0].id])),
            sort=TaskRunSort.EXPECTED_START_TIME_ASC,
        )
        logs = client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[evenings[0].id])))
    assert [run.name for run in evenings][:2] == ["sample 2018-12-10", "sample 2018-12-11"]
    names = [task.name for task in first]
    # These two run beside each other, and start in either order.
    assert sorted(names[8:10]) == ["inspect network", "train the champion"]
    assert names[:8] + names[10:] == [
        "fetch prices of ^GSPC and 1 more",
        "check prices",
        "catch up",
        "settle",
        "decide on challengers",
        "make sequences through 2018-12-10",
        "train",
        "score",
        "register",
        "promote",
        "forecast from 2018-12-10",
        "make sequences through 2018-12-10",
        "explain",
        "seal forecasts from 2018-12-10",
        "forecast challengers",
        "write report",
        "track",
        "publish",
        "write site",
    ]
    assert {"nextday", "sample", "2018-12-10"} <= set(evenings[0].tags)
    assert not any(task.tags for task in first)  # a tagged task waits for a slot of the server's
    told = [log.message for log in logs]
    assert any(re.fullmatch(r"train: \d+\.\d s", line) for line in told)
    assert "checked 1984 bars: 1984 new, 0 findings" in told


def test_the_training_is_tracked_with_its_model_and_joined_to_the_flow_run(
    ten: tuple[Place, list[Evening]],
) -> None:
    import mlflow

    place, evenings = ten
    client = mlflow.MlflowClient(f"sqlite:///{place.home / 'mlflow.db'}")
    version = client.get_model_version_by_alias("nextday-sample", "champion")
    run = client.get_run(version.run_id)
    assert evenings[0].report.model["version"] in version.tags.values()
    assert run.data.tags["flow_run_id"]
    assert run.data.params["model.units"] == "4"
    assert run.data.metrics["details/gru.hit_rate.n"] == evenings[0].report.scores.iloc[0]["n"]
    assert len(client.get_metric_history(run.info.run_id, "champion/member-1/loss")) >= 1
    kept = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert {"model", "report.html", "reliability.svg", "training.svg", "scores.csv"} <= kept


def test_a_rebuilt_report_is_that_of_the_evening(ten: tuple[Place, list[Evening]]) -> None:
    place, evenings = ten
    run = open_run(place.config, place.home, place.evening("2018-12-21"))
    before = evenings[3].paths.forecast_csv.read_text()
    paths = rebuild_report(run, evenings[3].report.as_of)
    assert paths.forecast_csv.read_text() == before
    assert pd.read_csv(paths.latest_csv)["as_of"].iloc[0] == "2018-12-21"


def test_a_lost_evaluation_costs_the_scores_and_not_the_report(ten: tuple[Place, list[Evening]]) -> None:
    place, evenings = ten
    run = open_run(place.config, place.home, place.evening("2018-12-21"))
    kept = place.home / "evaluations"
    kept.rename(place.home / "elsewhere")
    page = rebuild_report(run, evenings[0].report.as_of).html.read_text()
    (place.home / "elsewhere").rename(kept)
    assert "No score is shown" in page
    assert "nextday retrain" in page
    assert "No score is shown" not in rebuild_report(run, evenings[0].report.as_of).html.read_text()


@pytest.mark.proof
def test_missed_evenings_are_caught_up_with_the_model_of_then_and_the_first_row_stands(
    tmp_path: Path, xnys: Calendar
) -> None:
    place = Place(tmp_path, xnys, in_prefect=True)
    first = place.run("2018-12-10")
    place.run("2018-12-13")
    record = place.record()
    assert [f"{day:%m-%d}" for day in record["as_of"].unique()] == ["12-10", "12-11", "12-12", "12-13"]
    assert set(record["model_version"]) == {first.report.model["version"]}
    assert set(record["kind"]) == {"late"}

    # A champion that was trained later changes no row that stands.
    key = [*FORECAST_KEY, "p_up", "model_version"]
    told: list[str] = []

    class KeptLines(progress.PlainProgress):
        def log_line(self, line: str) -> None:
            told.append(line)

    at_once = '\n[promotion]\nrule = "always"\n'
    place.config.write_text(SMALL + at_once)
    with progress.progress_shown_by(KeptLines()):
        retrain(config=place.config, home=place.home, now=place.evening("2018-12-13"))
    assert "the scores are survivorship-biased: the constituent list has no entry and exit dates" in told
    again = place.run("2018-12-13")
    pd.testing.assert_frame_equal(place.record()[key], record[key])
    assert again.new_rows == 0
    assert any("the first row of a forecast stands" in note for note in again.report.notes)

    # An edited configuration does not either, and the report names what was edited.
    place.config.write_text(SMALL.replace("units = 4", "units = 5") + at_once)
    edited = place.run("2018-12-13")
    pd.testing.assert_frame_equal(place.record()[list(FORECASTS.columns)], record[list(FORECASTS.columns)])
    assert any("[model]" in note for note in edited.report.notes)
    later = place.run("2018-12-14")
    assert later.new_rows == 2
    assert later.report.model["version"] != first.report.model["version"]


@pytest.mark.proof
def test_reports_that_a_killed_run_left_out_are_written_and_old_ones_that_were_removed_are_not(
    tmp_path: Path, xnys: Calendar
) -> None:
    place = Place(tmp_path, xnys, in_prefect=True)
    place.run("2018-12-10")
    place.run("2018-12-13")
    reports = place.home / "reports" / "sample"
    whole = {path: path.read_bytes() for path in reports.glob("2018-12-1[123]/*.csv")}
    days = {path.parent.name for path in whole}
    assert days == {"2018-12-11", "2018-12-12", "2018-12-13"}
    for day in ("2018-12-12", "2018-12-13"):
        (reports / day / "report.html").unlink()
        (reports / day / "forecast.csv").unlink()
    place.run("2018-12-13")
    assert all((reports / day / "report.html").exists() for day in days)
    forecasts = [path for path in whole if path.name == "forecast.csv"]
    assert all(path.read_bytes() == whole[path] for path in forecasts)
    shutil.rmtree(reports / "2018-12-11")
    place.run("2018-12-13")
    assert not (reports / "2018-12-11").exists()


@pytest.mark.proof
def test_a_clock_set_back_finds_no_model_of_its_own_future(tmp_path: Path, xnys: Calendar) -> None:
    place = Place(tmp_path, xnys, in_prefect=True)
    place.run("2018-12-13")
    head = place.ledger.head()
    with pytest.raises(InputError, match="No model was known on 2018-12-10"):
        place.run("2018-12-10")
    assert place.ledger.head() == head
    # What was sealed by then is still told, without asking any model.
    assert place.run("2018-12-13").new_rows == 0
    # A damaged champion is fixed as its error says, though an equal training makes an equal version.
    champion = tracking(open_run(place.config, place.home, place.evening("2018-12-13"))).champion("sample")
    assert champion is not None
    (champion.directory / "member-1.keras").write_bytes(b"damaged")
    with pytest.raises(NextdayError, match="missing or damaged") as refused:
        place.run("2018-12-14")
    assert "nextday retrain" in refused.value.fix
    retrain(config=place.config, home=place.home, now=place.evening("2018-12-13"))
    assert place.run("2018-12-14").new_rows == 2


def test_equal_seeds_give_equal_forecasts_in_another_workspace(
    ten: tuple[Place, list[Evening]], tmp_path: Path, xnys: Calendar
) -> None:
    twin = Place(tmp_path, xnys)
    twin.run("2018-12-10")
    columns = ["symbol", "as_of", "p_up", "low", "high", "direction"]
    record = ten[0].record()
    pd.testing.assert_frame_equal(
        twin.record()[columns],
        record[record["as_of"] == record["as_of"].min()][columns].reset_index(drop=True),
    )


def test_a_holiday_and_a_session_that_is_still_open_end_well(ten: tuple[Place, list[Evening]]) -> None:
    place, _ = ten
    head = place.ledger.head()
    # The afternoon of the next session, an hour before its close: the last closed one is still the Friday.
    open_session = place.run_at(datetime(2018, 12, 24, 17, 0, tzinfo=UTC))
    assert open_session.new_rows == 0
    assert open_session.report.as_of == pd.Timestamp("2018-12-21")
    assert place.ledger.head() == head
    # Christmas: the session before is the half day of the 24th.
    christmas = place.run_at(datetime(2018, 12, 25, 20, tzinfo=UTC))
    assert christmas.report.as_of == pd.Timestamp("2018-12-24")
    assert christmas.report.target_session == pd.Timestamp("2018-12-26")
