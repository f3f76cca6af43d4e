"""Temperature, Platt and isotonic: each against another implementation, and what all of them promise."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from models.calibration.curves import METHODS, curve_from_json, curve_to_json, fit_curve, name_curve
from models.calibration.isotonic import fit_isotonic
from models.calibration.platt import fit_platt, smooth_targets
from models.calibration.temperature import MAX_SLOPE, Temperature, fit_slope, fit_temperature

RNG = np.random.default_rng(4)


def draw(p: np.ndarray) -> np.ndarray:
    return (RNG.random(p.shape) < p).astype(float)


class Logits(ClassifierMixin, BaseEstimator):
    """A classifier for scikit-learn whose decision function is the logit that it is given."""

    def fit(self, x: np.ndarray, y: np.ndarray) -> "Logits":
        self.classes_ = np.unique(y)
        return self

    def decision_function(self, x: np.ndarray) -> np.ndarray:
        return x[:, 0]

    def predict(self, x: np.ndarray) -> np.ndarray:
        return x[:, 0] > 0


def calibrated(method: str, logits: np.ndarray, y: np.ndarray) -> np.ndarray:
    machine = CalibratedClassifierCV(Logits(), method=method, cv=2, ensemble=False)
    return machine.fit(logits[:, None], y).predict_proba(logits[:, None])[:, 1]


# Temperature


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


def test_an_overconfident_network_gets_the_temperature_that_corrects_it() -> None:
    truth = logit(0.53) + RNG.normal(0, 0.5, 200_000)
    shouted = logit(0.53) + 3 * (truth - logit(0.53))
    assert fit_temperature(shouted, draw(expit(truth)), 0.53).temperature == pytest.approx(3, rel=0.05)


def test_logits_that_point_the_wrong_way_leave_the_base_rate_and_nothing_else() -> None:
    logits = RNG.normal(0, 1, 1000)
    curve = fit_temperature(logits, draw(expit(-logits)), 0.53)
    assert curve.temperature == math.inf
    assert curve.p_up(logits) == pytest.approx(np.full(1000, 0.53))


def test_sharpening_is_bounded() -> None:
    logits = RNG.normal(0, 0.1, 1000)
    y = (logits > 0).astype(float)
    assert fit_slope(logits, y, 0.5) == fit_platt(logits, y).slope == MAX_SLOPE


def test_a_training_range_of_ups_only_still_gives_probabilities() -> None:
    p_up = Temperature(1.0, 1.0).p_up(np.array([-800.0, 0.0, 800.0]))
    assert np.all((p_up >= 0) & (p_up <= 1))


# Platt


def test_platts_line_is_that_of_a_logistic_regression_without_a_penalty_on_his_targets() -> None:
    logits = RNG.normal(0.3, 1, 1500)
    y = draw(expit(0.7 * logits - 0.2))
    share = smooth_targets(y)
    # A target between 0 and 1 is an up of that weight and a down of the rest.
    reference = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(
        np.tile(logits, 2)[:, None], np.repeat([1, 0], 1500), sample_weight=np.concatenate([share, 1 - share])
    )
    curve = fit_platt(logits, y)
    assert curve.slope == pytest.approx(reference.coef_[0, 0], rel=1e-5)
    assert curve.intercept == pytest.approx(reference.intercept_[0], rel=1e-5)


def test_platt_equals_scikit_learns_sigmoid() -> None:
    logits = RNG.normal(0.3, 1, 800)
    y = draw(expit(0.7 * logits - 0.2))
    assert fit_platt(logits, y).p_up(logits) == pytest.approx(calibrated("sigmoid", logits, y), abs=1e-5)


def test_the_targets_are_those_of_the_paper() -> None:
    assert smooth_targets(np.array([1.0, 1, 1, 0])) == pytest.approx([4 / 5, 4 / 5, 4 / 5, 1 / 3])


@pytest.mark.parametrize("y", [np.ones(50), np.zeros(50)], ids=["ups only", "downs only"])
def test_outcomes_of_one_kind_leave_platt_a_finite_constant(y: np.ndarray) -> None:
    p_up = fit_platt(RNG.normal(0, 1, 50), y).p_up(np.array([-3.0, 3.0]))
    assert p_up == pytest.approx(np.full(2, 51 / 52 if y[0] else 1 / 52), abs=1e-6)


def test_platt_never_reverses_a_network() -> None:
    logits = RNG.normal(0, 1, 1000)
    y = draw(expit(0.4 - logits))
    curve = fit_platt(logits, y)
    assert curve.slope == 0
    assert curve.p_up(logits) == pytest.approx(np.full(1000, smooth_targets(y).mean()), abs=1e-6)


# Isotonic


@pytest.mark.parametrize("decimals", [1, 12], ids=["many ties", "no ties"])
def test_the_isotonic_curve_is_that_of_scikit_learn(decimals: int) -> None:
    logits = np.round(RNG.normal(0, 1, 700), decimals)
    y = draw(expit(0.8 * logits))
    sessions = 70
    reference = IsotonicRegression(y_min=1 / 72, y_max=71 / 72, out_of_bounds="clip").fit(logits, y)
    curve, everywhere = fit_isotonic(logits, y, sessions), np.linspace(-5, 5, 2001)
    assert curve.p_up(everywhere) == pytest.approx(reference.predict(everywhere), abs=1e-12)
    assert curve.p_up(logits) == pytest.approx(np.clip(calibrated("isotonic", logits, y), 1 / 72, 71 / 72))


def test_violators_are_pooled_as_by_hand() -> None:
    # Ayer et al.'s rule on a case small enough for paper: 1, 0, 1 pools into 2/3, and 0 before it stands alone.
    curve = fit_isotonic(np.array([0.0, 1, 2, 3, 4]), np.array([0.0, 1, 1, 0, 1]), sessions=8)
    assert curve.logits == (0, 1, 3, 4)
    assert curve.shares == pytest.approx((1 / 10, 2 / 3, 2 / 3, 9 / 10))


def test_an_isotonic_curve_of_one_point_returns_its_share() -> None:
    curve = fit_isotonic(np.full(8, 0.2), np.array([1.0, 0, 0, 0] * 2), sessions=8)
    assert (curve.logits, curve.shares) == ((0.2,), (0.25,))
    assert curve.p_up(np.array([-9.0, 0.2, 9.0])).tolist() == [0.25] * 3


# What every method promises

ROWS = st.lists(st.tuples(st.floats(-8, 8, width=32), st.integers(0, 1)), min_size=1, max_size=60)
ASKED = st.lists(st.floats(-12, 12), min_size=1, max_size=30)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=150, deadline=None)
@given(rows=ROWS, asked=ASKED, base_rate=st.floats(0.05, 0.95))
def test_a_curve_never_falls_stays_inside_and_comes_back_from_json(
    method: str, rows: list[tuple[float, int]], asked: list[float], base_rate: float
) -> None:
    logits, y = np.array(rows, float).T
    curve = fit_curve(method, logits, y, base_rate=base_rate, session=np.arange(len(rows)))
    again = curve_from_json(json.loads(json.dumps(curve_to_json(curve), allow_nan=False)))
    assert again == curve
    assert name_curve(again) == method
    z = np.sort(np.concatenate([asked, asked, logits, np.nextafter(logits, 99), np.nextafter(logits, -99)]))
    p_up = curve.p_up(z)
    assert np.all(np.diff(p_up) >= 0)
    assert np.all((p_up > 0) & (p_up < 1))
    for value in asked:  # alone or among others, first or last: an equal logit gets an equal answer
        assert len({*p_up[z == value], *curve.p_up(np.array([value]))}) == 1


@pytest.mark.parametrize("method", METHODS)
def test_a_logit_far_outside_is_never_certain(method: str) -> None:
    curve = fit_curve(
        method, np.array([-8.0, -7.5]), np.array([0.0, 1.0]), base_rate=0.5, session=np.arange(2)
    )
    p_up = curve.p_up(np.array([-1e4, -12.0, 11.0, 1e4]))
    assert ((p_up > 0) & (p_up < 1)).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", range(3))
def test_on_noise_every_method_stays_near_the_base_rate(method: str, seed: int) -> None:
    """On twenty thousand rows of noise, p_up deviates from the base rate by a fraction of a standard error."""
    rng = np.random.default_rng(seed)
    logits, y = rng.normal(0.1, 0.1, 20_000), (rng.random(20_000) < 0.52).astype(float)
    p_up = fit_curve(method, logits, y, base_rate=0.52, session=np.arange(20_000) // 100).p_up(
        rng.normal(0.1, 0.1, 5000)
    )
    assert np.mean(np.abs(p_up - 0.52)) < 0.02
