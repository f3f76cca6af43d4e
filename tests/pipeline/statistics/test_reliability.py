"""Isotonic recalibration against scikit-learn, and a band that holds the truth."""

import math
from xml.etree import ElementTree

import numpy as np
import pytest
from sklearn import metrics as sk
from sklearn.isotonic import IsotonicRegression

from pipeline.report.charts.evaluation import draw_recalibration
from pipeline.statistics.reliability import (
    POINTS,
    decompose_brier,
    recalibrate,
    recalibrated_brier,
    trace_reliability,
)

RNG = np.random.default_rng(11)


def rows(n: int, digits: int, bend: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Return forecasts and outcomes whose chance is 0.5 + bend (p - 0.5)."""
    p = np.round(RNG.uniform(0.3, 0.7, n), digits)
    return p, (RNG.random(n) < 0.5 + bend * (p - 0.5)).astype(float)


@pytest.mark.parametrize("digits", [1, 2, 9])
def test_the_parts_are_those_of_scikit_learns_isotonic_regression(digits: int) -> None:
    p, y = rows(500, digits)
    curve = IsotonicRegression().fit(p, y).predict(p)
    parts, brier, share = decompose_brier(p, y), sk.brier_score_loss(y, p), y.mean()
    assert parts.uncertainty == pytest.approx(share * (1 - share))
    assert parts.miscalibration == pytest.approx(brier - np.mean((curve - y) ** 2))
    assert parts.discrimination == pytest.approx(share * (1 - share) - np.mean((curve - y) ** 2))
    assert parts.miscalibration - parts.discrimination + parts.uncertainty == pytest.approx(brier)


def test_a_pencil_gives_the_same_parts() -> None:
    # 0.2 and 0.4 stand the wrong way round (1/2 and 0 went up) and are pooled to 1/4; 0.9 went up.
    p, y = np.array([0.2, 0.2, 0.4, 0.4, 0.9]), np.array([1.0, 0.0, 0.0, 0.0, 1.0])
    parts = decompose_brier(p, y)
    after = 4 * 0.25 * 0.75 / 5
    assert parts.uncertainty == pytest.approx(0.4 * 0.6)
    assert parts.discrimination == pytest.approx(0.24 - after)
    assert parts.miscalibration == pytest.approx((0.64 + 0.04 + 0.16 + 0.16 + 0.01) / 5 - after)


def test_a_constant_has_no_discrimination_and_misses_by_its_distance() -> None:
    y = (RNG.random(400) < 0.6).astype(float)
    parts = decompose_brier(np.full(400, 0.53), y)
    assert parts.discrimination == pytest.approx(0)
    assert parts.miscalibration == pytest.approx((0.53 - y.mean()) ** 2)


def test_no_row_has_no_parts() -> None:
    assert math.isnan(decompose_brier(np.empty(0), np.empty(0)).miscalibration)
    assert trace_reliability(np.empty(0), np.empty(0), np.empty(0, np.intp)).empty


def test_bins_without_rows_have_no_curve_and_cost_nothing() -> None:
    count, ups = np.array([2.0, 0.0, 3.0]), np.array([1.0, 0.0, 3.0])
    assert recalibrate(count, ups) == pytest.approx([0.5, math.nan, 1.0], nan_ok=True)
    assert float(recalibrated_brier(count, ups)) == pytest.approx(2 * 0.25 / 5)
    both = recalibrated_brier(np.stack([count, count]), np.stack([ups, np.zeros(3)]))
    assert both == pytest.approx([0.1, 0.0])


def test_the_diagram_never_falls_and_holds_every_row() -> None:
    p, y = rows(3000, 9)
    curve = trace_reliability(p, y, np.arange(3000) // 30, draws=50)
    assert len(curve) == POINTS
    assert curve["n"].sum() == 3000
    assert (np.diff(curve["share_up"]) >= 0).all()
    assert (np.diff(curve["mean_p"]) > 0).all()
    assert (curve["low"] <= curve["high"]).all()


def test_the_band_holds_the_truth_and_leaves_a_false_claim_out() -> None:
    p, y = rows(30_000, 2, bend=0.2)
    curve = trace_reliability(p, y, np.arange(30_000) // 30, draws=200)
    truth = 0.5 + 0.2 * (curve["mean_p"] - 0.5)
    assert ((curve["low"] <= truth) & (truth <= curve["high"])).mean() > 0.85
    ends = curve.iloc[[2, -3]]
    assert ((ends["mean_p"] < ends["low"]) | (ends["mean_p"] > ends["high"])).all()


def test_sessions_that_move_as_one_widen_the_band() -> None:
    session = np.arange(200).repeat(20)
    p = np.round(RNG.uniform(0.4, 0.6, 4000), 2)
    alone = (RNG.random(4000) < p).astype(float)
    together = (RNG.random(200)[session] < p).astype(float)
    narrow, wide = (trace_reliability(p, y, session, draws=200) for y in (alone, together))
    assert (wide["high"] - wide["low"]).mean() > 1.5 * (narrow["high"] - narrow["low"]).mean()


def test_too_few_sessions_have_a_curve_without_a_band() -> None:
    p, y = rows(45, 2)
    curve = trace_reliability(p, y, np.arange(45) // 5)
    assert curve[["low", "high"]].isna().all(axis=None)
    assert curve["share_up"].notna().all()


@pytest.mark.parametrize(("n", "digits"), [(3000, 9), (3000, 1), (45, 2)])
def test_the_figure_says_in_words_what_it_draws(n: int, digits: int) -> None:
    p, y = rows(n, digits)
    parts, curve = decompose_brier(p, y), trace_reliability(p, y, np.arange(n) // 15, draws=30)
    figure = draw_recalibration(curve, parts, "5 sessions ahead")
    ElementTree.fromstring(figure.replace("<svg", '<svg xmlns:xlink="x"', 1))
    assert "isotonic recalibration of the forecasts, 5 sessions ahead</title>" in figure
    first = curve.iloc[0]
    assert f"{first['mean_p']:.1%} forecast, {first['share_up']:.1%} recalibrated" in figure
    assert f"discrimination {parts.discrimination:.4f}" in figure
    assert "nan" not in figure.lower()


def test_one_and_the_same_forecast_is_drawn_as_a_dot() -> None:
    y = (RNG.random(300) < 0.55).astype(float)
    p = np.full(300, 0.53)
    curve = trace_reliability(p, y, np.arange(300) // 3, draws=30)
    assert len(curve) == 1
    assert "53.0% forecast" in draw_recalibration(curve, decompose_brier(p, y))
