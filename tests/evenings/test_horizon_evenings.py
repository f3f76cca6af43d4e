"""Several sessions ahead through the real flow: what stands in the ledger, and what a planted signal comes to."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from arch.data import nasdaq, sp500

from flows.evening.forecasting import replay
from flows.evening.reporting import rebuild_report
from flows.nightly import Evening
from flows.retrain import retrain
from flows.runtime.context import open_run
from flows.training.compute import open_compute
from flows.training.evaluation import load_evaluation
from flows.training.history import History
from flows.training.scoring import score_further_outputs, score_procedure
from flows.training.train import train_procedure
from pipeline.market.calendar import Calendar
from pipeline.outputs import Output
from tests.conftest import network_settings
from tests.evenings.test_evenings import Place
from tests.flows.training.test_planted import SETTINGS, planted
from tests.support.made_sequences import directions
from tests.support.own_process import EVENING

pytestmark = [pytest.mark.slow, pytest.mark.proof, pytest.mark.own_process(*EVENING)]

AHEAD = (1, 3, 8)
CLOSES = {"^GSPC": sp500.load()["Close"], "^IXIC": nasdaq.load()["Close"]}


def with_horizons(text: str, horizons: tuple[int, ...]) -> str:
    return f"{text}\n[labels]\nhorizons = {list(horizons)}\n"


def a_place(folder: Path, xnys: Calendar, horizons: tuple[int, ...]) -> Place:
    place = Place(folder, xnys)
    place.config.write_text(with_horizons(network_settings(members=2, epochs=3), horizons))
    return place


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory, xnys: Calendar) -> tuple[Place, list[Evening]]:
    """An evening, and those one, three and eight sessions later."""
    place = a_place(tmp_path_factory.mktemp("month"), xnys, AHEAD)
    first = xnys.sessions.get_loc(pd.Timestamp("2018-11-20"))
    return place, [place.run(f"{xnys.sessions[first + k]:%Y-%m-%d}") for k in (0, *AHEAD)]


def test_every_evening_leaves_a_row_a_symbol_and_horizon(
    month: tuple[Place, list[Evening]], xnys: Calendar
) -> None:
    place, evenings = month
    record = place.record()
    assert len(record) == 9 * 2 * 3  # what was missed between the evenings is caught up at every horizon
    assert [evening.new_rows for evening in evenings] == [6, 6, 6, 6]
    for row in record.itertuples():
        assert row.target_session == xnys.next_session(row.as_of, row.horizon)
    assert place.ledger.verify().ok


def test_each_row_is_settled_once_its_own_session_has_come(month: tuple[Place, list[Evening]]) -> None:
    place, evenings = month
    assert [evening.settled for evening in evenings] == [0, 2, 6, 22]
    record = place.record()
    last = evenings[-1].report.as_of
    assert (record["settled_at"].notna() == (record["target_session"] <= last)).all()
    for row in record[record["settled_at"].notna()].itertuples():
        closes = CLOSES[row.symbol]
        change = closes[row.target_session] / closes[row.as_of] - 1
        assert row.realized_return == pytest.approx(change)
        assert row.outcome == float(change > 0)


def test_the_record_is_scored_by_horizon(month: tuple[Place, list[Evening]]) -> None:
    place, evenings = month
    scores = evenings[-1].report.live_scores
    sizes = scores[scores["metric"] == "log_loss"].groupby(["group", "horizon"])["n"].first().to_dict()
    assert sizes == {("late", 1): 16, ("late", 3): 12, ("late", 8): 2}
    settled = place.record().query("horizon == 3").dropna(subset="outcome")
    hits = ((settled["p_up"] > 0.5) == (settled["outcome"] == 1)).mean()
    own = scores[(scores["model"] == "gru") & (scores["horizon"] == 3)].set_index("metric")
    assert own.loc["hit_rate", "value"] == pytest.approx(hits)


def test_base_rate_calibration_gap_and_verdict_are_those_of_the_horizon(
    month: tuple[Place, list[Evening]],
) -> None:
    place, evenings = month
    report = evenings[-1].report
    assert report.forecasts.groupby("horizon")["baseline_p_up"].nunique().tolist() == [1, 1, 1]
    assert report.forecasts["baseline_p_up"].nunique() == 3
    assert report.model["calibration"].count("slope") == 3
    assert report.model["outputs"] == "1, 3 and 8 sessions ahead"
    ranges = report.ranges[report.ranges["fit"] == "score"].set_index("part")
    days = place.calendar
    for part, following in (("train", "stop"), ("stop", "calibrate"), ("calibrate", "test")):
        last = days.position(ranges.loc[part, "last_session"])
        assert days.position(ranges.loc[following, "first_session"]) == last + 9
    assert list(report.further) == [*directions(3, 8)]
    kept = load_evaluation(place.home / "evaluations" / "sample" / report.model["version"])
    assert kept.further == report.further
    assert set(kept.scores["group"]) == {"all"}
    n = kept.scores[kept.scores["metric"] == "log_loss"].groupby("horizon")["n"].first()
    assert list(n.index) == [1, 3, 8]
    assert n.max() <= 2 * 60  # none holds the rows of another one


def test_a_sealed_session_is_made_again_at_every_horizon(month: tuple[Place, list[Evening]]) -> None:
    place, evenings = month
    run = open_run(place.config, place.home, place.evening(f"{evenings[-1].report.as_of:%Y-%m-%d}"))
    made = replay(run, evenings[1].report.as_of)
    assert made.is_same
    assert sorted(made.rows["horizon"]) == [1, 1, 3, 3, 8, 8]


def test_reports_lie_by_next_session_and_running_twice_adds_nothing(
    month: tuple[Place, list[Evening]],
) -> None:
    place, evenings = month
    last = evenings[-1]
    reports = place.home / "reports" / "sample"
    assert len([*reports.glob("*/report.html")]) == 9
    assert last.paths.folder.name == f"{place.calendar.next_session(last.report.as_of):%Y-%m-%d}"
    head, text = place.ledger.head(), last.paths.forecast_csv.read_text()
    assert place.run(f"{last.report.as_of:%Y-%m-%d}").new_rows == 0
    assert place.ledger.head() == head
    run = open_run(place.config, place.home, place.evening(f"{last.report.as_of:%Y-%m-%d}"))
    rebuilt = rebuild_report(run, evenings[0].report.as_of)
    assert rebuilt.folder == evenings[0].paths.folder
    assert last.paths.latest_csv.read_text() == text


def test_a_horizon_that_is_asked_for_later_begins_with_the_next_training(
    tmp_path: Path, xnys: Calendar
) -> None:
    place = a_place(tmp_path, xnys, (1,))
    assert place.run("2018-12-10").new_rows == 2
    first = place.record()
    place.config.write_text(with_horizons(network_settings(members=2, epochs=3), (1, 5)))
    # The champion says what it knows, and the report what is to be done.
    evening = place.run("2018-12-11")
    assert set(evening.report.forecasts["horizon"]) == {1}
    assert any(
        "5 sessions ahead: the champion was not trained for it" in note for note in evening.report.notes
    )
    assert place.run("2018-12-11").new_rows == 0
    # Trained anew, the same evening gets what it lacks; what stands already stays.
    retrain.fn(config=place.config, home=place.home, now=place.evening("2018-12-11"))
    again = place.run("2018-12-11")
    assert again.new_rows == 2
    assert again.report.forecasts.groupby("horizon")["is_new"].all().to_dict() == {1: False, 5: True}
    record = place.record()
    stood = record[record["as_of"] == pd.Timestamp("2018-12-10")].reset_index(drop=True)
    pd.testing.assert_frame_equal(stood[["p_up", "model_version"]], first[["p_up", "model_version"]])
    # No longer asked for, it is no longer sealed, though the champion knows it.
    place.config.write_text(with_horizons(network_settings(members=2, epochs=3), (1,)))
    assert set(place.run("2018-12-12").report.forecasts["horizon"]) == {1}
    run = open_run(place.config, place.home, place.evening("2018-12-12"))
    assert all(replay(run, pd.Timestamp(day)).is_same for day in ("2018-12-10", "2018-12-11", "2018-12-12"))
    assert place.ledger.verify().ok


FIVE = with_horizons(
    SETTINGS.replace("lookback = 4", "lookback = 1")
    .replace("test_sessions = 200", "test_sessions = 320")
    .replace("epochs = 60", "epochs = 25"),
    (1, 5),
)


def test_a_signal_five_sessions_ahead_is_found_there_and_not_claimed_for_the_next(
    tmp_path: Path, xnys: Calendar
) -> None:
    run, known = planted(tmp_path, xnys, 0.5, seed=5, settings=FIVE)
    # A row is told which way sessions two to five ahead will go together: of the next one it says nothing.
    level = np.log(known.panel.adj_close)
    ahead = np.zeros_like(level)
    ahead[:-5] = np.sign(level[5:] - level[1:-4])
    x = known.sequences.x.copy()
    x[:, :, 0] = ahead.T
    told = History(known.panel, replace(known.sequences, x=x), known.seq)
    with open_compute(run, told.sequences) as workshop:
        walked, _, _ = train_procedure.fn(run, told, workshop)
    near, verdict = score_procedure.fn(run, walked)
    far, further = score_further_outputs.fn(run, walked)
    near, far = (scores.set_index(["model", "metric"]) for scores in (near, far))
    # Five independent normal steps agree in sign with the sum of four of them with 1/2 + asin(sqrt(4/5)) / pi.
    best = 0.5 + math.asin(math.sqrt(0.8)) / math.pi
    assert far.loc[("gru", "hit_rate"), "low"] <= best <= far.loc[("gru", "hit_rate"), "high"]
    assert far.loc[("gru", "log_loss"), "high"] < far.loc[("base_rate", "log_loss"), "low"]
    assert far["n"].max() == 40 * 320
    assert further[Output("direction", 5)].sessions == 320
    assert verdict.conclusion != "edge"
    assert near.loc[("gru", "auc"), "low"] <= 0.5 <= near.loc[("gru", "auc"), "high"]
    assert near.loc[("gru", "log_loss"), "value"] == pytest.approx(math.log(2), abs=0.003)
