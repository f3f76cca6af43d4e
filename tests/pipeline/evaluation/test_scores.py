"""Scores on planted truths."""

import math
from functools import partial

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from pipeline.errors import NextdayError
from pipeline.evaluation.scores import score
from pipeline.evaluation.session_sums import METRICS
from pipeline.evaluation.verdict import best_baseline, judge, list_candidates
from pipeline.schema import GROUP_SCORES, MIN_SESSIONS, SCORES, empty, validated
from pipeline.statistics import auc, bootstrap, metrics
from pipeline.statistics.reliability import decompose_brier

CALLS = ("hit_rate", "balanced_accuracy", "mcc")


def truth(sessions: int, symbols: int, seed: int, signal: float = 0.0) -> tuple[pd.DataFrame, np.ndarray]:
    """Return keys with outcomes that share a shock, and what is knowable of each: its chance of going up."""
    rng = np.random.default_rng(seed)
    days = pd.bdate_range("2015-01-01", periods=sessions + 1).as_unit("us")
    p = np.clip(0.53 + signal * rng.choice([-1, 1], sessions * symbols), 0, 1)
    shared = rng.random(sessions).repeat(symbols)
    draw = np.where(rng.random(len(p)) < 0.3, shared, rng.random(len(p)))
    keys = pd.DataFrame(
        {
            "symbol": [f"S{i}" for i in range(symbols)] * sessions,
            "as_of": days[:-1].repeat(symbols),
            "target_session": days[1:].repeat(symbols),
            "horizon": 1,
            "outcome": (draw < p).astype(float),
        }
    )
    return keys, p


def stack(keys: pd.DataFrame, **forecasts: object) -> pd.DataFrame:
    frames = [keys.assign(model=name, p_up=p) for name, p in forecasts.items()]
    return pd.concat(frames, ignore_index=True)


def test_scores_are_the_metrics_of_the_rows() -> None:
    keys, p = truth(60, 5, seed=6, signal=0.1)
    rows = stack(keys, gru=p, base_rate=0.53)
    scores = score(rows, baseline="base_rate", draws=200).set_index(["model", "metric"])
    y = keys["outcome"].to_numpy()
    expected = {
        "hit_rate": sk.accuracy_score(y, p > 0.5),
        "balanced_accuracy": sk.balanced_accuracy_score(y, p > 0.5),
        "mcc": sk.matthews_corrcoef(y, p > 0.5),
        "brier": sk.brier_score_loss(y, p),
        "brier_skill": 1 - sk.brier_score_loss(y, p) / np.mean((0.53 - y) ** 2),
        "log_loss": sk.log_loss(y, p),
        "auc": sk.roc_auc_score(y, p),
    }
    assert set(expected) < set(METRICS)
    assert scores.loc["gru"].index.tolist() == list(METRICS)
    for metric, value in expected.items():
        line = scores.loc[("gru", metric)]
        assert line["value"] == pytest.approx(value)
        assert line["low"] < value < line["high"]
        assert (line["n"], line["sessions"], line["baseline"]) == (300, 60, "base_rate")
        assert scores.loc[("base_rate", metric), "value"] == pytest.approx(
            line["baseline_value"], nan_ok=True
        )
    assert scores.loc[("gru", "auc"), "p_value"] < 0.05
    assert scores.loc["base_rate"]["p_value"].isna().all()


def _by_copies(name: str, p: np.ndarray, y: np.ndarray) -> float:
    """Score drawn rows; each copy of a session of three rows is a session of its own."""
    return float(getattr(auc, name)(p, y, np.arange(len(p)) // 3))


def test_the_interval_is_that_of_drawing_the_rows_themselves() -> None:
    keys, p = truth(40, 3, seed=7, signal=0.1)
    scores = score(stack(keys, gru=p, base_rate=0.53), baseline="base_rate", draws=50, seed=9)
    y, session = keys["outcome"].to_numpy(), np.arange(40).repeat(3)
    losses = metrics.log_losses(p, y).reshape(40, 3).mean(axis=1)
    block_length = bootstrap.choose_block_length(losses)
    copies = bootstrap._draw_sessions(40, block_length=block_length, draws=50, seed=9).astype(int)
    of_rows = {name: getattr(metrics, name) for name in ("mcc", "balanced_accuracy", "brier", "auc")}
    of_rows |= {name: partial(_by_copies, name) for name in ("auc_within_sessions", "auc_between_sessions")}
    for metric, of_drawn in of_rows.items():
        rows = [
            np.concatenate([np.tile(np.flatnonzero(session == s), c[s]) for s in range(40)]) for c in copies
        ]
        drawn = [of_drawn(p[r], y[r]) for r in rows]
        line = scores[(scores["model"] == "gru") & (scores["metric"] == metric)].iloc[0]
        assert (line["low"], line["high"]) == pytest.approx(bootstrap.percentile_interval(np.array(drawn)))


def test_the_interval_of_what_chance_lifts_is_mirrored_at_the_value() -> None:
    keys, known = truth(60, 5, seed=29, signal=0.25)
    p = known + np.random.default_rng(29).choice([-0.05, 0.01, 0.04], len(known)) + 0.06
    y, session = keys["outcome"].to_numpy(), np.arange(60).repeat(5)
    lines = score(stack(keys, gru=p, base_rate=0.53), baseline="base_rate", draws=50, seed=3)
    found = lines[lines["model"] == "gru"].set_index("metric")
    losses = metrics.log_losses(p, y).reshape(60, 5).mean(axis=1)
    copies = bootstrap.resample_sessions(losses, draws=50, seed=3).astype(int)
    samples = [np.repeat(np.arange(300), c[session]) for c in copies]
    for metric in ("miscalibration", "discrimination"):
        value = getattr(decompose_brier(p, y), metric)
        drawn = np.array([getattr(decompose_brier(p[r], y[r]), metric) for r in samples])
        low, high = bootstrap.percentile_interval(drawn)
        line = found.loc[metric]
        assert (line["value"], line["low"], line["high"]) == pytest.approx(
            (value, max(2 * value - high, 0), max(2 * value - low, 0))
        )
    place = metrics.bins_of_equal_count(p, 10)
    gaps = np.array([np.bincount(place[r], (y - p)[r], 10) / len(r) for r in [np.arange(300), *samples]])
    reach = np.quantile(np.abs(gaps[1:] - gaps[0]).sum(axis=1), 0.95)
    value = np.abs(gaps[0]).sum()
    assert found.loc["ece", ["value", "low", "high"]].tolist() == pytest.approx(
        [value, max(value - reach, 0), value + reach]
    )


def test_the_p_values_by_drawing_are_those_of_the_rows_and_mirrored_where_chance_lifts() -> None:
    keys, _ = truth(60, 5, seed=36)
    p, base = np.random.default_rng(36).choice([0.45, 0.52, 0.57], 300), np.full(300, 0.53)
    y, session = keys["outcome"].to_numpy(), np.arange(60).repeat(5)
    lines = score(stack(keys, gru=p, base_rate=base), baseline="base_rate", draws=100, seed=3)
    found = lines[lines["model"] == "gru"].set_index("metric")["p_value"]
    losses = metrics.log_losses(p, y).reshape(60, 5).mean(axis=1)
    copies = bootstrap.resample_sessions(losses, draws=100, seed=3).astype(int)
    samples = [np.repeat(np.arange(300), c[session]) for c in copies]

    def gain(r: np.ndarray, metric: str) -> float:
        if metric == "balanced_accuracy":
            return metrics.balanced_accuracy(p[r], y[r]) - metrics.balanced_accuracy(base[r], y[r])
        own, other = decompose_brier(p[r], y[r]), decompose_brier(base[r], y[r])
        return float(getattr(own, metric) - getattr(other, metric))

    for metric in ("balanced_accuracy", "miscalibration", "discrimination"):
        drawn = np.array([gain(r, metric) for r in samples])
        mirrored = 2 * gain(np.arange(300), metric) - drawn
        plain, lifted = (bootstrap.bootstrap_p_value(each) for each in (drawn, mirrored))
        assert plain != lifted
        assert found[metric] == pytest.approx(plain if metric == "balanced_accuracy" else lifted)


def test_with_more_forecasts_than_bins_the_values_are_those_of_the_rows_all_the_same() -> None:
    keys, known = truth(400, 5, seed=30, signal=0.1)
    p = known + np.random.default_rng(30).normal(0, 0.02, len(known))
    y = keys["outcome"].to_numpy()
    lines = score(stack(keys, gru=p, base_rate=0.53), baseline="base_rate", draws=20)
    found = lines[lines["model"] == "gru"].set_index("metric")["value"]
    parts = decompose_brier(p, y)
    assert len(np.unique(p)) > auc.BINS
    assert found["miscalibration"] == pytest.approx(parts.miscalibration, rel=1e-12)
    assert found["discrimination"] == pytest.approx(parts.discrimination, rel=1e-12)
    assert found["auc"] == pytest.approx(sk.roc_auc_score(y, p), rel=1e-12)


def test_neither_the_order_of_rows_nor_another_model_moves_a_score() -> None:
    keys, p = truth(50, 3, seed=10, signal=0.1)
    rows = stack(keys, gru=p, base_rate=0.53)
    more = pd.concat([rows, stack(keys, last_sign=1 - p)]).sample(frac=1, random_state=0)
    alone, among = (
        score(r, baseline="base_rate", draws=50).set_index(["model", "metric"]) for r in (rows, more)
    )
    pd.testing.assert_frame_equal(alone.loc[["gru"]], among.loc[["gru"]])


def test_abstentions_count_for_probabilities_and_not_for_calls() -> None:
    keys, p = truth(40, 2, seed=11, signal=0.1)
    p = np.where(np.arange(80) < 20, 0.5, p)
    scores = score(stack(keys, gru=p, base_rate=0.53), baseline="base_rate", draws=50)
    sizes = scores[scores["model"] == "gru"].set_index("metric")[["n", "sessions"]]
    for metric, (n, sessions) in sizes.drop("auc_between_sessions").iterrows():
        assert (n, sessions) == ((60, 30) if metric in CALLS else (80, 40))


def test_a_model_without_any_direction_has_no_hit_rate() -> None:
    keys, _ = truth(30, 2, seed=12)
    scores = score(stack(keys, gru=0.5, base_rate=0.53), baseline="base_rate", draws=50)
    mute = scores[(scores["model"] == "gru") & scores["metric"].isin(CALLS)]
    assert mute[["value", "low", "high", "p_value"]].isna().all(axis=None)
    assert mute["n"].tolist() == [60, 60, 60]


def test_rows_without_an_outcome_are_left_out() -> None:
    keys, p = truth(40, 2, seed=13, signal=0.1)
    unknown = keys.assign(outcome=keys["outcome"].where(np.arange(80) % 4 > 0))
    whole = score(stack(unknown, gru=p, base_rate=0.53), baseline="base_rate", draws=50)
    kept = np.arange(80) % 4 > 0
    cut = score(stack(keys[kept], gru=p[kept], base_rate=0.53), baseline="base_rate", draws=50)
    pd.testing.assert_frame_equal(whole, cut)
    assert set(whole.loc[whole["metric"] != "auc_between_sessions", "n"]) == {60}


def test_the_group_names_the_rows_and_groups_stack() -> None:
    keys, p = truth(30, 2, seed=14)
    rows = stack(keys, gru=p, base_rate=0.5)
    both = pd.concat([score(rows, baseline="base_rate", group=g, draws=20) for g in ("live", "late")])
    assert set(validated(both, SCORES)["group"]) == {"live", "late"}


def test_a_thousand_samples_are_drawn_unless_others_are_asked_for() -> None:
    keys, p = truth(30, 2, seed=14, signal=0.1)
    rows = stack(keys, gru=p, base_rate=0.52)
    one, other = (score(rows, baseline="base_rate", **draws) for draws in ({}, {"draws": 1000, "seed": 0}))
    pd.testing.assert_frame_equal(one, other)


def test_nothing_settled_yet_is_an_empty_table() -> None:
    keys, _ = truth(3, 2, seed=15)
    rows = stack(keys.assign(outcome=np.nan), gru=0.5, base_rate=0.53)
    scores = score(rows, baseline="base_rate")
    assert scores.empty
    assert list(scores.columns) == list(SCORES.columns)


def test_a_first_evening_has_values_and_no_interval() -> None:
    keys, _ = truth(1, 2, seed=16)
    scores = score(stack(keys.assign(outcome=[1.0, 0.0]), gru=0.6, base_rate=0.53), baseline="base_rate")
    hit_rate = scores[(scores["model"] == "gru") & (scores["metric"] == "hit_rate")].iloc[0]
    assert hit_rate["value"] == 0.5
    assert math.isnan(hit_rate["low"])
    assert math.isnan(hit_rate["p_value"])


def test_models_must_have_the_same_rows_once() -> None:
    keys, p = truth(30, 2, seed=17)
    rows = stack(keys, gru=p, base_rate=0.53)
    with pytest.raises(NextdayError, match="gru has no p_up on 1 of 60 rows"):
        score(rows.drop(index=5), baseline="base_rate")
    with pytest.raises(NextdayError, match=r"gru has .* more than one on 1"):
        judge(pd.concat([rows, rows.iloc[[5]]]), model="gru", baseline="base_rate")
    with pytest.raises(NextdayError, match="gru has no p_up on 1 of 60 rows"):
        best_baseline(rows.assign(p_up=rows["p_up"].where(rows.index != 5)))
    with pytest.raises(NextdayError, match=r"outcomes of .* differ"):
        score(
            rows.assign(outcome=rows["outcome"].where(rows.index != 5, 1 - rows["outcome"])),
            baseline="base_rate",
        )


def test_a_model_that_is_not_there_is_named() -> None:
    keys, p = truth(30, 2, seed=18)
    rows = stack(keys, gru=p, base_rate=0.53)
    with pytest.raises(NextdayError, match="no forecast by 'boosting'; there are base_rate, gru"):
        score(rows, baseline="boosting")
    with pytest.raises(NextdayError, match="no forecast by 'lstm'"):
        judge(rows, model="lstm", baseline="base_rate")


def test_the_best_baseline_has_the_lowest_mean_of_session_means() -> None:
    day = pd.Timestamp("2015-01-02").as_unit("us")
    keys = pd.DataFrame({"symbol": ["A", "A", "B", "C"], "outcome": [0.0, 1.0, 1.0, 1.0], "horizon": 1})
    keys["as_of"] = [day, *[day + pd.Timedelta(days=1)] * 3]
    keys["target_session"] = keys["as_of"] + pd.Timedelta(days=1)
    # By rows the first is better (0.58 < 0.69 a row), by sessions it is worse (0.80 > 0.69 a session).
    rows = stack(keys, up=0.7, even=0.5)
    assert sk.log_loss(keys["outcome"], np.full(4, 0.7)) < math.log(2)
    assert best_baseline(rows) == "even"
    assert best_baseline(rows.iloc[::-1]) == "even"


def test_a_rule_that_ranks_stocks_is_not_the_best_baseline_by_log_loss() -> None:
    keys, p = truth(60, 3, seed=27, signal=0.1)
    rows = stack(keys, reversal_5=p, momentum_252_21=p, base_rate=0.53, always_up=0.6)
    assert best_baseline(rows) == "base_rate"
    assert list_candidates(rows) == {"base_rate", "always_up"}


def test_a_choice_without_outcomes_is_refused() -> None:
    keys, _ = truth(3, 2, seed=19)
    with pytest.raises(NextdayError, match="No baseline can be chosen"):
        best_baseline(stack(keys.assign(outcome=np.nan), base_rate=0.5))


def test_what_chance_lifts_has_an_interval_that_takes_the_lift_back() -> None:
    keys, p = truth(250, 8, seed=23, signal=0.05)
    noisy = p + np.random.default_rng(1).normal(0, 0.01, len(p))
    lines = score(stack(keys, gru=noisy, base_rate=0.53), baseline="base_rate", draws=300)
    lifted = lines[(lines["model"] == "gru") & lines["metric"].isin(["ece", "miscalibration"])]
    # The forecast is nearly calibrated: what its rows show is chance, and zero is in the interval.
    assert (lifted["low"] == 0).all()
    assert (lifted["high"] > 0).all()
    shifted = score(stack(keys, gru=noisy + 0.2, base_rate=0.53), baseline="base_rate", draws=300)
    far = shifted[(shifted["model"] == "gru")].set_index("metric")
    assert far.loc["ece", "low"] < 0.2 < far.loc["ece", "high"]
    assert far.loc["miscalibration", "low"] < 0.2**2 < far.loc["miscalibration", "high"] < 1.5 * 0.2**2
    assert far.loc[["ece", "miscalibration"], "p_value"].max() < 0.05


def test_the_parts_of_the_brier_score_add_up() -> None:
    keys, p = truth(60, 5, seed=24, signal=0.1)
    lines = score(stack(keys, gru=p, base_rate=0.53), baseline="base_rate", draws=20)
    for _, own in lines.groupby("model"):
        value = own.set_index("metric")["value"]
        parts = value["miscalibration"] - value["discrimination"] + value["uncertainty"]
        assert parts == pytest.approx(value["brier"])


def test_every_score_has_its_effective_n() -> None:
    keys, p = truth(100, 10, seed=25, signal=0.1)
    lines = score(stack(keys, gru=p, base_rate=0.53), baseline="base_rate", draws=20)
    own, y = lines[lines["model"] == "gru"].set_index("metric"), keys["outcome"].to_numpy()
    session = np.arange(100).repeat(10)
    hits = ((p > 0.5) == (y == 1)).astype(float)
    assert own.loc["hit_rate", "effective_n"] == pytest.approx(metrics.effective_n(hits, session))
    losses = metrics.log_losses(p, y)
    assert own.loc["log_loss", "effective_n"] == pytest.approx(metrics.effective_n(losses, session))
    between = own.loc["auc_between_sessions"]
    share = y.reshape(100, 10).mean(axis=1)
    assert between["effective_n"] == between["sessions"] == (share != 0.5).sum()
    assert between["n"] == 10 * between["sessions"]
    assert (lines["effective_n"] <= lines["n"]).all()
    assert (lines["effective_n"] < lines["n"]).any()


def broken(column: str, value: object) -> pd.DataFrame:
    keys, p = truth(40, 2, seed=26, signal=0.1)
    lines = score(stack(keys, gru=p, base_rate=0.53), baseline="base_rate", draws=20)
    return lines.astype({column: object}).assign(
        **{column: lines[column].astype(object).where(lines.index > 0, value)}
    )


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("n", None),
        ("n", 0),
        ("effective_n", 0.0),
        ("effective_n", 1e9),
        ("sessions", 0),
        ("low", np.nan),
        ("high", np.nan),
        ("low", 2.0),
        ("baseline", None),
        ("p_value", 1.5),
    ],
)
def test_a_score_without_n_interval_or_baseline_cannot_be_built(column: str, value: object) -> None:
    frame = broken(column, value)
    with pytest.raises(NextdayError, match="Scores rows break their rules"):
        validated(frame.infer_objects(), SCORES)


@pytest.mark.parametrize(("horizon", "enough"), [(1, MIN_SESSIONS), (5, 5 * MIN_SESSIONS)])
def test_an_interval_is_missing_only_without_a_value_or_without_sessions(horizon: int, enough: int) -> None:
    keys, p = truth(40, 2, seed=27, signal=0.1)
    line = score(stack(keys, gru=p, base_rate=0.53), baseline="base_rate", draws=20).head(1)
    bare = line.assign(horizon=horizon, low=np.nan, high=np.nan, sessions=enough - 1)
    assert len(validated(bare, SCORES)) == 1
    assert len(validated(bare.assign(sessions=enough, value=np.nan), SCORES)) == 1
    with pytest.raises(NextdayError, match="interval_or_a_reason"):
        validated(bare.assign(sessions=enough), SCORES)
    with pytest.raises(NextdayError, match="interval_or_a_reason"):
        validated(bare.assign(high=0.6), SCORES)


def test_an_empty_table_of_scores_is_one_too() -> None:
    assert validated(empty(SCORES), SCORES).empty
    assert validated(empty(GROUP_SCORES), GROUP_SCORES).empty


def test_scores_from_before_the_effective_n_was_kept_are_still_scores() -> None:
    keys, p = truth(40, 2, seed=28, signal=0.1)
    lines = score(stack(keys, gru=p, base_rate=0.53), baseline="base_rate", draws=20)
    assert validated(lines.assign(effective_n=np.nan), SCORES)["effective_n"].isna().all()
