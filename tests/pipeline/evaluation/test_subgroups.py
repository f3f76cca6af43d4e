"""Scores by group: the same numbers as of the group's rows alone, and p-values that allow for how many there are."""

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.multitest import multipletests

from pipeline.errors import NextdayError
from pipeline.evaluation.subgroups import FAMILIES, score_groups
from pipeline.evaluation.verdict import ENOUGH_SESSIONS
from pipeline.market.universe import Universe
from pipeline.schema import GROUP_SCORES
from pipeline.statistics import metrics, significance
from tests.pipeline.evaluation.test_scores import stack, truth


def moves(keys: pd.DataFrame, seed: int = 0) -> "pd.Series[float]":
    as_of = keys["as_of"].unique()
    return pd.Series(np.random.default_rng(seed).gamma(2, 0.01, len(as_of)), index=as_of)


def grouped(
    sessions: int = 300, symbols: int = 4, **options: object
) -> tuple[pd.DataFrame, pd.DataFrame, np.ndarray]:
    keys, p = truth(sessions, symbols, seed=41, signal=0.06)
    rows = stack(keys, gru=p, base_rate=0.53)
    return score_groups(rows, model="gru", baseline="base_rate", draws=100, **options), keys, p


def test_every_family_splits_all_the_rows() -> None:
    keys, p = truth(300, 4, seed=41, signal=0.06)
    p = p + np.random.default_rng(1).normal(0, 0.01, len(p))
    rows = stack(keys, gru=p, base_rate=0.53)
    entries = pd.DataFrame({"symbol": ["S0", "S1", "S2", "S3"], "first": pd.NaT, "last": pd.NaT})
    universe = Universe("u", entries.assign(sector=["Ships", "Banks", "Ships", "Banks"]))
    found = score_groups(
        rows, model="gru", baseline="base_rate", volatility=moves(keys), universe=universe, draws=50
    )
    losses = found[found["metric"] == "log_loss"]
    assert list(found.columns) == list(GROUP_SCORES.columns)
    assert tuple(losses["family"].unique()) == FAMILIES
    assert (losses.groupby("family")["n"].sum() == 1200).all()
    by = losses.groupby("family", sort=False)["group"].agg(list).to_dict()
    assert by["symbol"] == ["S0", "S1", "S2", "S3"]
    assert by["sector"] == ["Banks", "Ships"]
    assert losses.loc[losses["family"] == "sector", "n"].tolist() == [600, 600]
    assert by["year"] == ["2015", "2016"]
    assert by["volatility"] == ["calm", "middling", "wild"]
    assert by["weekday"] == ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday"]
    assert by["confidence"] == ["least sure", "less sure", "middling", "surer", "surest"]
    assert losses.loc[losses["family"] == "volatility", "sessions"].tolist() == [100, 100, 100]
    assert losses.loc[losses["family"] == "confidence", "n"].tolist() == [240] * 5


def test_a_group_is_scored_by_its_rows_alone() -> None:
    found, keys, p = grouped()
    own = (keys["symbol"] == "S2").to_numpy()
    y, p = keys["outcome"].to_numpy()[own], p[own]
    line = found[(found["group"] == "S2")].set_index("metric")
    assert line.loc["log_loss", "value"] == pytest.approx(metrics.log_loss(p, y))
    assert line.loc["log_loss", "baseline_value"] == pytest.approx(metrics.log_loss(np.full(300, 0.53), y))
    assert line.loc["hit_rate", "value"] == pytest.approx(metrics.hit_rate(p, y))
    assert line.loc["hit_rate", "baseline_value"] == pytest.approx(y.mean())
    gain = metrics.log_losses(np.full(300, 0.53), y) - metrics.log_losses(p, y)
    expected = significance.diebold_mariano(gain).p_value
    assert line.loc["log_loss", "p_value"] == pytest.approx(expected)
    assert line.loc["log_loss", "effective_n"] == metrics.effective_n(
        metrics.log_losses(p, y), np.arange(300)
    )
    assert (line["low"] < line["value"]).all()
    assert (line["value"] < line["high"]).all()


@pytest.mark.slow
def test_p_values_allow_for_the_groups_of_their_family() -> None:
    found, _, _ = grouped()
    for _, family in found.groupby(["family", "metric"]):
        tested = family[family["p_value"].notna()]
        assert (family["groups"] == len(tested)).all()
        if len(tested):
            expected = multipletests(tested["p_value"], method="holm")[1]
            assert tested["adjusted_p"].to_numpy() == pytest.approx(expected)


def test_holms_adjustment_is_that_of_statsmodels_and_keeps_what_was_not_tested() -> None:
    p_values = np.random.default_rng(3).beta(0.5, 3, 30)
    expected = multipletests(p_values, method="holm")[1]
    assert significance.adjust_p_values(p_values) == pytest.approx(expected)
    holed = np.insert(p_values, [0, 10], np.nan)
    assert significance.adjust_p_values(holed) == pytest.approx(
        np.insert(expected, [0, 10], np.nan), nan_ok=True
    )
    assert len(significance.adjust_p_values(np.empty(0))) == 0


def test_a_group_with_too_few_sessions_is_shown_and_not_tested() -> None:
    found, _, _ = grouped(sessions=ENOUGH_SESSIONS + 4)
    weekdays = found[(found["family"] == "weekday")]
    assert len(weekdays) == 10
    assert weekdays[["p_value", "adjusted_p"]].isna().all(axis=None)
    assert (weekdays["groups"] == 0).all()
    assert weekdays[["low", "high"]].notna().all(axis=None)
    assert found.loc[found["family"] == "symbol", "p_value"].notna().all()


def test_where_the_skill_lies_is_found() -> None:
    keys, p = truth(400, 3, seed=42, signal=0.12)
    p = np.where(keys["symbol"] == "S1", p, np.where(p > 0.53, 0.54, 0.52))
    keys = keys.assign(
        outcome=keys["outcome"].where(keys["symbol"] == "S1", np.random.default_rng(2).integers(0, 2, 1200))
    )
    found = score_groups(stack(keys, gru=p, base_rate=0.53), model="gru", baseline="base_rate", draws=100)
    symbols = found[(found["family"] == "symbol") & (found["metric"] == "log_loss")].set_index("group")
    assert symbols.loc["S1", "adjusted_p"] < 0.01
    assert (symbols.loc[["S0", "S2"], "adjusted_p"] > 0.05).all()


@pytest.mark.slow
def test_noise_makes_a_finding_no_more_often_than_its_family_is_allowed_to() -> None:
    raw = adjusted = 0
    for seed in range(60):
        keys, _ = truth(250, 12, seed=500 + seed)
        noise = 0.53 + 0.01 * np.random.default_rng(seed).choice([-1, 1], len(keys))
        rows = stack(keys, gru=noise, base_rate=0.53)
        found = score_groups(rows, model="gru", baseline="base_rate", draws=10)
        symbols = found[(found["family"] == "symbol") & (found["metric"] == "log_loss")]
        raw += bool((symbols["p_value"] < 0.05).any())
        adjusted += bool((symbols["adjusted_p"] < 0.05).any())
    assert raw > 15
    assert adjusted <= 8


def test_forecasts_that_are_all_alike_have_one_group_of_confidence_and_no_difference() -> None:
    keys, _ = truth(100, 3, seed=43)
    same = score_groups(
        stack(keys, gru=0.53 * (1 - 3e-16), base_rate=0.53), model="gru", baseline="base_rate", draws=20
    )
    alike = same[same["family"] == "confidence"]
    assert set(alike["group"]) == {"all alike"}
    assert (alike["p_value"] == 1).all()


def test_rows_whose_volatility_is_not_known_are_in_no_third() -> None:
    keys, p = truth(90, 2, seed=44, signal=0.05)
    known = moves(keys)
    known.iloc[:30] = np.nan
    rows = stack(keys, gru=p, base_rate=0.53)
    found = score_groups(rows, model="gru", baseline="base_rate", volatility=known, draws=20)
    thirds = found[(found["family"] == "volatility") & (found["metric"] == "log_loss")]
    assert thirds["n"].sum() == 120
    without = score_groups(rows, model="gru", baseline="base_rate", draws=20)
    assert "volatility" not in set(without["family"])


def test_nothing_settled_yet_has_no_groups_and_a_missing_model_is_named() -> None:
    keys, p = truth(20, 2, seed=45)
    rows = stack(keys, gru=p, base_rate=0.53)
    assert score_groups(rows.assign(outcome=np.nan), model="gru", baseline="base_rate").empty
    with pytest.raises(NextdayError, match="no forecast by 'lstm'"):
        score_groups(rows, model="lstm", baseline="base_rate")
