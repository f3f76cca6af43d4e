"""Several sessions ahead, from prices to page: every horizon is split, scored, sealed and reported by itself."""

from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.config import EvaluationConfig
from pipeline.errors import InputError, NextdayError
from pipeline.evaluation.scores import score
from pipeline.evaluation.verdict import best_baseline, judge
from pipeline.features.feature_sets import FEATURE_SETS
from pipeline.features.sequences import Sequences, build_sequences
from pipeline.forecasting.folds import scoring_fold
from pipeline.forecasting.forecast import forecast
from pipeline.forecasting.walk_forward import mask_labels
from pipeline.ledger.ledger import Ledger
from pipeline.market.calendar import Calendar
from pipeline.outputs import MAIN, describe_outputs, name_group, split_group
from pipeline.schema import GROUP_SCORES, SCORES
from pipeline.statistics import bootstrap
from tests.conftest import laid_out, prices_of, random_bars
from tests.pipeline.evaluation.test_scores import stack, truth
from tests.pipeline.features.test_sequences import members
from tests.pipeline.forecasting.test_folds import TRAINING, assert_no_label_reaches_on, block
from tests.pipeline.forecasting.test_walk_forward import Knowing, Said
from tests.pipeline.report.test_files import forecasts
from tests.support.made_sequences import NO_MEDIAN, directions, sequences_of

AHEAD = (1, 5, 20)


@dataclass
class Threefold(Knowing):
    """Says for each horizon what the feature of its place says."""

    threshold: np.ndarray = field(default_factory=lambda: np.array([0.0, 0.1, 0.2]))

    def predict(self, x, mask):  # type: ignore[no-untyped-def]
        p = np.where(mask[:, :, None], x[:, :, :3], np.nan).astype(float)
        p[:, : self.lookback - 1] = np.nan
        return Said(p, p - 0.1, p + 0.1)


def three_ahead(days: pd.DatetimeIndex) -> Sequences:
    rng = np.random.default_rng(0)
    returns = rng.normal(0, 0.01, (2, len(days), 3))
    x = rng.uniform(0.2, 0.8, (2, len(days), 3)).astype(np.float32)
    mask, y = np.ones((2, len(days)), bool), (returns > 0).astype(np.float32)
    return sequences_of(x, mask, y, ("A", "B"), days, AHEAD, ("f", "g", "h"), returns)


def test_each_horizon_issues_directions_by_its_own_threshold(xnys: Calendar) -> None:
    sequences = three_ahead(xnys.sessions[:200])
    rows = forecast(Threefold(), sequences, range(200), xnys)
    told = rows[rows["direction"] != "none"]
    least = (told["p_up"] - 0.5).abs().groupby(told["horizon"]).min()
    assert least.index.tolist() == [1, 5, 20]
    assert least.tolist() == pytest.approx([0.0, 0.1, 0.2], abs=0.01)
    assert (least >= [0.0, 0.1, 0.2]).all()


# --- time ---


def test_a_changed_future_changes_no_label_that_was_known(xnys: Calendar) -> None:
    sessions, cut = xnys.sessions[:200], 150
    bars = {symbol: random_bars(sessions, seed) for seed, symbol in enumerate(("A", "B"))}
    changed = {symbol: rows.copy() for symbol, rows in bars.items()}
    for rows in changed.values():
        rows.loc[cut + 1 :, ["open", "high", "low", "close"]] *= 3.0

    def made(table: dict[str, pd.DataFrame], upto: int) -> Sequences:
        kept = {symbol: rows.iloc[:upto] for symbol, rows in table.items()}
        panel = laid_out(prices_of(kept, xnys), sessions[:upto], ["A", "B"])
        return build_sequences(panel, FEATURE_SETS["default16"], members(["A", "B"]), directions(*AHEAD))

    whole, other, then = made(bars, 200), made(changed, 200), made(bars, cut + 1)
    for place, horizon in enumerate(AHEAD):
        known = cut - horizon + 1
        assert np.array_equal(whole.y[:, :known, place], other.y[:, :known, place], equal_nan=True)
        assert np.isnan(then.y[:, known:, place]).all()
        assert not np.isnan(then.y[:, known - 1, place]).any()
    as_it_stood = whole.through(sessions[cut])
    assert np.array_equal(as_it_stood.y, then.y, equal_nan=True)


def test_dates_cut_so_that_all_that_a_row_forecasts_lies_in_its_part() -> None:
    made, one = block(900, AHEAD), block(900)
    days = made.sessions
    ends = [days[k].date() for k in (400, 600, 800)]
    dates = EvaluationConfig(train_end=ends[0], validation_end=ends[1], test_end=ends[2])
    fold, alone = scoring_fold(made, dates, TRAINING), scoring_fold(one, dates, TRAINING)
    assert_no_label_reaches_on(fold, 20)
    assert fold.test.start == alone.test.start
    assert (days[fold.test.start + 1], days[fold.test.stop - 1 + 20]) == (days[601], days[800])
    assert fold.stop.start == alone.stop.start
    assert days[fold.train.stop - 1 + 20] <= days[400]


def test_a_large_loss_of_rows_to_the_gaps_is_an_error() -> None:
    with pytest.raises(InputError, match="80 are left out for labels 20 sessions ahead"):
        scoring_fold(block(300, AHEAD), EvaluationConfig(test_sessions=100), TRAINING)
    with pytest.raises(InputError) as caught:
        scoring_fold(block(200), EvaluationConfig(test_sessions=100), TRAINING)
    assert "left out" not in str(caught.value)


def test_a_dead_zone_is_one_of_the_next_session() -> None:
    made = three_ahead(block(500).sessions)
    fold = scoring_fold(made, EvaluationConfig(test_sessions=60), TRAINING)
    taught = mask_labels(made, fold, (-0.005, 0.005), refit=False).sequences.y
    learned = slice(fold.train.start, fold.stop.stop)
    small = np.abs(made.returns[:, learned]) <= 0.005
    assert np.array_equal(np.isnan(taught[:, learned, 0]), small[:, :, 0])
    assert not np.isnan(taught[:, learned, 1:]).any()


def test_each_horizon_names_its_own_session(xnys: Calendar) -> None:
    made = three_ahead(xnys.sessions[:300])
    rows = forecast(Threefold(threshold=np.zeros(3)), made, range(298, 300), xnys)
    assert rows["horizon"].tolist() == [*AHEAD] * 4
    for row in rows.to_dict("records"):
        place = made.sessions.get_loc(row["as_of"])
        assert row["target_session"] == xnys.sessions[place + row["horizon"]]
        said = made.x[made.symbols.index(row["symbol"]), place, AHEAD.index(row["horizon"])]
        assert row["p_up"] == pytest.approx(said)


def test_what_lies_beyond_the_calendar_is_not_forecast_and_the_rest_is(xnys: Calendar) -> None:
    ended = replace(xnys, sessions=xnys.sessions[:310])
    made = three_ahead(xnys.sessions[:300])
    rows = forecast(Threefold(threshold=np.zeros(3)), made, range(299, 300), ended)
    assert rows["horizon"].tolist() == [1, 5, 1, 5]
    assert rows["target_session"].max() == xnys.sessions[304]


@pytest.mark.parametrize("name", ["XNYS", "XSHG", "XTKS"])
def test_a_calendar_reaches_as_far_as_the_farthest_horizon(name: str) -> None:
    from pipeline.market.calendar import calendar

    days = calendar(name, date(2010, 1, 1), datetime(2019, 6, 1, tzinfo=UTC))
    assert (days.sessions > pd.Timestamp("2019-06-01")).sum() > 250


# --- scores ---


def overlapping(sessions: int, horizon: int, seed: int) -> pd.DataFrame:
    """Return forecasts without skill, which hardly change from day to day, of returns that overlap."""
    rng, symbols = np.random.default_rng(seed), 4
    steps = rng.normal(0, 1, (sessions + horizon, symbols)) + rng.normal(0, 1, (sessions + horizon, 1))
    level = np.vstack([np.zeros((1, symbols)), steps.cumsum(axis=0)])
    up = (level[horizon : horizon + sessions] > level[:sessions]).astype(float).ravel()
    mood = np.zeros((sessions, symbols))
    for t in range(1, sessions):
        mood[t] = 0.97 * mood[t - 1] + 0.24 * rng.normal(0, 1, symbols)
    keys, _ = truth(sessions, symbols, seed)
    keys = keys.assign(horizon=horizon, outcome=up)
    return stack(keys, gru=0.5 + 0.03 * np.clip(mood.ravel(), -3, 3), base_rate=0.5)


def test_horizons_are_never_scored_together() -> None:
    keys, p = truth(80, 2, seed=1, signal=0.05)
    both = stack(pd.concat([keys, keys.assign(horizon=5)]), gru=np.tile(p, 2), base_rate=0.53)
    for work in (
        lambda: score(both, baseline="base_rate"),
        lambda: judge(both, model="gru", baseline="base_rate"),
        lambda: best_baseline(both),
    ):
        with pytest.raises(NextdayError, match="several outputs \\(next session; 5 sessions ahead\\)"):
            work()


def test_blocks_are_as_long_as_the_outcomes_overlap() -> None:
    rows = overlapping(300, 20, seed=3)
    own = rows[rows["model"] == "gru"]
    losses = np.where(own["outcome"] == 1, -np.log(own["p_up"]), -np.log(1 - own["p_up"]))
    by_session = losses.reshape(300, 4).mean(axis=1)
    for horizon in (1, 20):
        scores = score(rows.assign(horizon=horizon), baseline="base_rate", draws=100, seed=5)
        line = scores[(scores["model"] == "gru") & (scores["metric"] == "log_loss")].iloc[0]
        length = max(bootstrap.choose_block_length(by_session), horizon)
        drawn = bootstrap._draw_sessions(300, block_length=length, draws=100, seed=5) @ by_session / 300
        assert (line["low"], line["high"]) == pytest.approx(bootstrap.percentile_interval(drawn))


def test_fewer_than_ten_spans_have_no_interval_and_no_test() -> None:
    far = {"baseline": "base_rate", "draws": 50}
    scores = score(overlapping(49, 5, seed=1), **far)
    assert scores[["low", "high", "p_value"]].isna().all(axis=None)
    enough = score(overlapping(50, 5, seed=1), **far)
    assert not enough.loc[enough["metric"] == "log_loss", ["low", "high"]].isna().any(axis=None)


def test_a_verdict_five_sessions_ahead_needs_five_times_the_sessions() -> None:
    keys, p = truth(300, 6, seed=1, signal=0.2)
    rows = stack(keys.assign(horizon=5), gru=p, base_rate=0.53)
    found = judge(rows, model="gru", baseline="base_rate")
    assert found.conclusion == "edge"
    assert "over 300 sessions (1,800 forecasts, 5 sessions ahead) gru's" in found.sentence
    short = rows[rows["target_session"] < rows["target_session"].max()]
    verdict = judge(short, model="gru", baseline="base_rate")
    assert verdict.conclusion == "not enough data"
    assert "a verdict needs 300 sessions" in verdict.sentence


@pytest.mark.slow
def test_overlap_is_not_taken_for_evidence() -> None:
    told, naive = [], []
    for seed in range(40):
        rows = overlapping(310, 5, seed=100 + seed)
        told.append(judge(rows, model="gru", baseline="base_rate", draws=200))
        naive.append(judge(rows.assign(horizon=1), model="gru", baseline="base_rate", draws=200))
    # With lags that cover the overlap p-values are larger, and an edge without skill is as rare as it should be.
    assert np.mean([v.p_value for v in told]) > np.mean([v.p_value for v in naive])
    assert sum(v.conclusion == "edge" for v in told) <= 4


# --- names ---


@pytest.mark.parametrize("group", ["all", "live", "late, sides taken", "large moves"])
def test_the_name_of_a_group_holds_its_horizon(group: str) -> None:
    assert name_group(group, MAIN) == group
    named = [split_group(name_group(group, output)) for output in directions(*AHEAD)]
    assert named == [(group, h) for h in AHEAD]
    [five] = directions(5)
    assert name_group("all", five) == "5 sessions ahead"
    assert name_group("late, sides taken", five) == "late, sides taken, 5 sessions ahead"


def test_a_score_has_its_horizon_in_a_column() -> None:
    rows = overlapping(60, 5, seed=1)
    scores = score(rows, baseline="base_rate", group="large moves", draws=20)
    assert (set(scores["group"]), set(scores["horizon"])) == ({"large moves"}, {5})
    assert list(SCORES.columns)[-3] == list(GROUP_SCORES.columns)[-2] == "horizon"
    assert list(SCORES.columns)[-1] == list(GROUP_SCORES.columns)[-1] == "target"


def test_the_names_of_horizons() -> None:
    assert describe_outputs([*directions(*AHEAD)]) == "1, 5 and 20 sessions ahead"
    assert describe_outputs([MAIN]) == "next session"


# --- the ledger ---

FRIDAY, MONDAY = pd.Timestamp("2018-12-07"), pd.Timestamp("2018-12-10")
OPEN = datetime(2018, 12, 10, 14, 30, tzinfo=UTC)


def three_issued(*symbols: str, issued_at: datetime, days: Calendar) -> pd.DataFrame:
    targets = {h: days.next_session(FRIDAY, h) for h in AHEAD}
    rows = [
        forecasts(*symbols, as_of=FRIDAY, target_session=targets[h], horizon=h, issued_at=issued_at)
        for h in AHEAD
    ]
    return pd.concat(rows, ignore_index=True).drop(columns=["kind", "is_new"])


@pytest.mark.parametrize(
    ("issued_at", "kind"),
    [(OPEN - timedelta(seconds=1), "live"), (OPEN, "late"), (OPEN + timedelta(days=1), "late")],
)
def test_no_horizon_is_live_once_the_next_session_has_opened(
    tmp_path: Path, xnys: Calendar, issued_at: datetime, kind: str
) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    rows = three_issued("A", issued_at=issued_at, days=xnys)
    standing = ledger.issue(
        rows,
        universe="u",
        opens={FRIDAY: OPEN},
        newest_observed_at=OPEN - timedelta(days=2),
        historical=False,
    )
    assert standing["kind"].tolist() == [kind] * 3
    assert ledger.verify().ok


def test_each_horizon_is_settled_by_itself_and_the_export_tells_them_apart(
    tmp_path: Path, xnys: Calendar
) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    rows = three_issued("A", "B", issued_at=OPEN - timedelta(hours=9), days=xnys)
    ledger.issue(rows, universe="u", opens={}, newest_observed_at=OPEN, historical=True)
    near = rows[rows["horizon"] == 1][["symbol", "as_of", "target_session", "horizon"]].assign(
        **NO_MEDIAN,
        outcome=1.0,
        realized_return=0.01,
        settled_at=pd.Timestamp(OPEN + timedelta(days=1)).as_unit("us"),
        data_version=8,
    )
    near = near.astype({"median_basis": "str", "void_reason": "str"})
    assert ledger.settle(near, universe="u") == 2
    record = ledger.record("u")
    assert record.groupby("horizon")["outcome"].count().to_dict() == {1: 2, 5: 0, 20: 0}
    ledger.export_csv("u", tmp_path / "record.csv")
    read = pd.read_csv(tmp_path / "record.csv")
    assert read.loc[read["outcome"].notna(), "horizon"].tolist() == [1, 1]
    assert len(read) == 6
