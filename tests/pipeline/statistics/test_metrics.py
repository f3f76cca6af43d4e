"""Metrics against scikit-learn, closed forms and a pencil."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn import metrics as sk
from statsmodels.stats.proportion import proportion_confint

from pipeline.statistics import metrics

RNG = np.random.default_rng(3)


@st.composite
def forecasts(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities with many ties and outcomes of both classes; none takes no side."""
    n = draw(st.integers(2, 40))
    p = draw(st.lists(st.sampled_from([0.02, 0.3, 0.49, 0.51, 0.52, 0.7, 0.999]), min_size=n, max_size=n))
    y = draw(st.lists(st.integers(0, 1), min_size=n, max_size=n).filter(lambda y: 0 < sum(y) < len(y)))
    return np.array(p), np.array(y, float)


def simulate(sessions: int, symbols: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return p, y and session of rows that share a shock each session."""
    session = np.repeat(np.arange(sessions), symbols)
    shock = RNG.normal(0, 1, sessions)[session]
    p = np.round(RNG.uniform(0.4, 0.6, len(session)), 3)
    return p, (shock + RNG.normal(0, 1, len(session)) < norm.ppf(p) * math.sqrt(2)).astype(float), session


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(forecasts())
def test_every_metric_agrees_with_scikit_learn(case: tuple[np.ndarray, np.ndarray]) -> None:
    p, y = case
    assert metrics.hit_rate(p, y) == pytest.approx(sk.accuracy_score(y, p > 0.5))
    assert metrics.brier(p, y) == pytest.approx(sk.brier_score_loss(y, p))
    assert metrics.log_loss(p, y) == pytest.approx(sk.log_loss(y, p))
    assert metrics.auc(p, y) == pytest.approx(sk.roc_auc_score(y, p))
    assert metrics.mcc(p, y) == pytest.approx(sk.matthews_corrcoef(y, p > 0.5))
    assert metrics.balanced_accuracy(p, y) == pytest.approx(sk.balanced_accuracy_score(y, p > 0.5))


def test_a_pencil_gives_the_same_numbers() -> None:
    p, y = np.array([0.8, 0.6, 0.4, 0.3]), np.array([1.0, 0.0, 0.0, 1.0])
    assert metrics.hit_rate(p, y) == 0.5
    assert metrics.mcc(p, y) == 0.0
    assert metrics.brier(p, y) == pytest.approx((0.04 + 0.36 + 0.16 + 0.49) / 4)
    assert metrics.brier_skill(p, y, np.full(4, 0.5)) == pytest.approx(1 - 0.2625 / 0.25)
    assert metrics.log_loss(p, y) == pytest.approx(-math.log(0.8 * 0.4 * 0.6 * 0.3) / 4)
    assert metrics.auc(p, y) == 0.5
    assert metrics.base_rate(y) == 0.5


def test_one_half_exactly_has_no_direction() -> None:
    p, y = np.array([0.5, 0.5, 0.6, 0.4, 0.3]), np.array([1.0, 0.0, 1.0, 0.0, 1.0])
    assert metrics.hit_rate(p, y) == pytest.approx(2 / 3)
    assert metrics.mcc(p, y) == pytest.approx(sk.matthews_corrcoef(y[2:], p[2:] > 0.5))


def test_a_certain_miss_costs_the_clipped_loss_and_not_infinity() -> None:
    assert metrics.log_loss(np.array([1.0, 1.0]), np.array([0.0, 1.0])) == pytest.approx(
        6 * math.log(10), rel=1e-4
    )


@pytest.mark.parametrize("y", [np.empty(0), np.ones(3), np.zeros(3)])
def test_what_is_not_defined_is_nan_and_never_an_error(y: np.ndarray) -> None:
    p = np.linspace(0.4, 0.7, len(y))
    assert math.isnan(metrics.auc(p, y))
    assert math.isnan(metrics.mcc(p, y))
    assert math.isnan(metrics.balanced_accuracy(p, y))
    assert math.isnan(metrics.brier_skill(p, y, y))
    if not len(y):
        rest = (metrics.hit_rate, metrics.brier, metrics.log_loss, metrics.ece)
        assert all(math.isnan(metric(p, y)) for metric in rest)
        assert math.isnan(metrics.base_rate(y))
        assert metrics.reliability(p, y).empty
        assert metrics.effective_n(y, y) == 0


def test_a_calibrated_forecast_has_the_calibration_error_of_chance_alone() -> None:
    n, bins = 20_000, 10
    p = RNG.uniform(0.45, 0.55, n)
    errors = [metrics.ece(p, (RNG.random(n) < p).astype(float), bins) for _ in range(40)]
    chance = 0.5 * math.sqrt(2 / math.pi) * math.sqrt(bins / n)
    assert np.mean(errors) == pytest.approx(chance, rel=0.15)
    assert metrics.ece(p + 0.1, (RNG.random(n) < p).astype(float), bins) == pytest.approx(0.1, abs=0.01)


def test_the_diagram_has_equal_bins_and_wilson_intervals() -> None:
    p = np.arange(1, 101) / 101
    y = (np.arange(100) % 3 == 0).astype(float)
    table = metrics.reliability(p, y, bins=4)
    assert list(table.columns) == ["mean_p", "share_up", "n", "low", "high"]
    assert table["n"].tolist() == [25, 25, 25, 25]
    assert table["mean_p"].to_numpy() == pytest.approx(p.reshape(4, 25).mean(axis=1))
    assert table["share_up"].to_numpy() == pytest.approx(y.reshape(4, 25).mean(axis=1))
    for line, happened in zip(table.itertuples(), y.reshape(4, 25).sum(axis=1), strict=True):
        assert (line.low, line.high) == pytest.approx(proportion_confint(happened, 25, method="wilson"))


def test_equal_probabilities_share_a_bin() -> None:
    table = metrics.reliability(np.array([0.53] * 9 + [0.6]), np.array([1.0, 0.0] * 5))
    assert table["n"].sum() == 10
    assert table["n"].tolist() == [9, 1]


def test_rows_that_move_as_one_count_once_a_session() -> None:
    session = np.repeat(np.arange(50), 20)
    together = np.repeat(RNG.integers(0, 2, 50).astype(float), 20)
    alone = RNG.integers(0, 2, 1000).astype(float)
    assert metrics.effective_n(together, session) == pytest.approx(50)
    assert 700 < metrics.effective_n(alone, session) <= 1000
    assert metrics.effective_n(np.ones(1000), session) == 50


def test_the_diagram_is_wider_where_sessions_move_as_one() -> None:
    p, y, session = simulate(200, 30)
    naive, blocked = metrics.reliability(p, y), metrics.reliability(p, y, session=session)
    assert (blocked["high"] - blocked["low"]).mean() > 1.2 * (naive["high"] - naive["low"]).mean()
    assert blocked["share_up"].equals(naive["share_up"])
