"""Temperature scaling towards the base rate."""

import math

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from models.calibration import MAX_SLOPE, Calibrator, fit_calibrator, fit_slope

RNG = np.random.default_rng(4)


def draw(p: np.ndarray) -> np.ndarray:
    return (RNG.random(p.shape) < p).astype(np.float32)


def test_the_slope_is_that_of_a_logistic_regression_through_the_base_rate() -> None:
    logits = RNG.normal(0, 1, 2000)
    y = draw(expit(0.6 * logits))
    reference = LogisticRegression(fit_intercept=False, C=1e12, tol=1e-10).fit(logits[:, None], y)
    assert fit_slope(logits, y, base_rate=0.5) == pytest.approx(reference.coef_[0, 0], rel=1e-5)


def test_the_slope_solves_the_closed_form_where_all_logits_are_equal() -> None:
    base_rate, word, happened = 0.4, 0.7, 0.6
    y = np.array([1.0] * 6 + [0.0] * 4)
    expected = (logit(happened) - logit(base_rate)) / (logit(word) - logit(base_rate))
    assert fit_slope(np.full(10, logit(word)), y, base_rate) == pytest.approx(expected)


def test_an_overconfident_network_gets_the_temperature_that_mends_it() -> None:
    truth = logit(0.53) + RNG.normal(0, 0.5, 200_000)
    y = draw(expit(truth))
    shouted = logit(0.53) + 3 * (truth - logit(0.53))
    calibrator = fit_calibrator(shouted[:, None], y[:, None], np.array([0.53]))
    assert calibrator.temperature[0] == pytest.approx(3, rel=0.05)


def test_logits_that_point_the_wrong_way_leave_the_base_rate_and_nothing_else() -> None:
    logits = RNG.normal(0, 1, 1000)
    calibrator = fit_calibrator(logits[:, None], draw(expit(-logits))[:, None], np.array([0.53]))
    assert calibrator.temperature == (math.inf,)
    assert calibrator.p_up(logits[:, None]) == pytest.approx(np.full((1000, 1), 0.53))


def test_sharpening_is_bounded() -> None:
    logits = RNG.normal(0, 0.1, 1000)
    assert fit_slope(logits, (logits > 0).astype(np.float32), 0.5) == MAX_SLOPE


def test_horizons_are_calibrated_apart_and_unknown_labels_are_left_out() -> None:
    logits = RNG.normal(0, 1, (500, 2))
    y = draw(expit(logits * [0.3, 0.9]))
    y[::3, 1] = np.nan
    known = ~np.isnan(y[:, 1])
    calibrator = fit_calibrator(logits, y, np.array([0.5, 0.45]))
    assert calibrator.slope[0] == fit_slope(logits[:, 0], y[:, 0], 0.5)
    assert calibrator.slope[1] == fit_slope(logits[known, 1], y[known, 1], 0.45)


def test_a_training_range_of_ups_only_still_gives_probabilities() -> None:
    p_up = Calibrator((1.0,), (1.0,)).p_up(np.array([[-800.0], [0.0], [800.0]]))
    assert np.all((p_up >= 0) & (p_up <= 1))
