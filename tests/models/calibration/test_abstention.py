"""Abstention: the target coverage is met where it can be, and ties are reported."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.calibration.abstention import Abstention, fit_abstention

RNG = np.random.default_rng(8)


@pytest.mark.parametrize("target", [0.05, 0.3, 0.6, 0.95])
def test_without_ties_the_threshold_is_a_quantile_of_the_confidence(target: float) -> None:
    p_up = RNG.beta(30, 28, 1000)
    fitted = fit_abstention(p_up[:, None], target)
    confidence = np.sort(np.abs(p_up - 0.5))[::-1]
    assert fitted.threshold == (confidence[round(1000 * target) - 1],)
    assert fitted.achieved == pytest.approx((target,))
    assert (fitted.rows, fitted.tied) == ((1000,), (0.001,))


def test_both_directions_count_by_their_distance_from_one_half() -> None:
    p_up = np.array([0.30, 0.45, 0.49, 0.52, 0.54, 0.58])
    fitted = fit_abstention(p_up[:, None], 0.5)
    assert p_up[np.abs(p_up - 0.5) >= fitted.threshold].tolist() == [0.30, 0.45, 0.58]


def test_a_network_with_one_probability_for_all_rows_never_abstains() -> None:
    fitted = fit_abstention(np.full((50, 1), 0.53), 0.1)
    assert fitted.achieved == fitted.tied == (1.0,)
    assert fitted.threshold == (pytest.approx(0.03),)


def test_equal_confidences_abstain_together_and_the_nearer_coverage_is_taken() -> None:
    levels = np.repeat([0.60, 0.56, 0.53], [20, 50, 30])
    assert fit_abstention(levels[:, None], 0.6).achieved == (0.7,)
    assert fit_abstention(levels[:, None], 0.4).achieved == (0.2,)
    assert fit_abstention(levels[:, None], 0.45).achieved == (0.7,)  # as near: the larger
    for target in (0.3, 0.6):  # below the middle of the fifty, and above it
        assert fit_abstention(levels[:, None], target).tied == (0.5,)


def test_horizons_have_their_own_threshold_and_rows_without_a_label_are_left_out() -> None:
    p_up = RNG.beta(30, 28, (400, 2))
    p_up[::4, 1] = np.nan
    both = fit_abstention(p_up, 0.6)
    for horizon in (0, 1):
        alone = fit_abstention(p_up[np.isfinite(p_up[:, horizon])][:, [horizon]], 0.6)
        assert (both.threshold[horizon], both.rows[horizon]) == (alone.threshold[0], alone.rows[0])


def test_a_coverage_of_one_is_no_abstention() -> None:
    assert fit_abstention(RNG.beta(30, 28, (40, 2)), 1.0) == Abstention(1.0, (0, 0), (1, 1), (0, 0), (40, 40))


@given(st.lists(st.floats(0.001, 0.999), min_size=1, max_size=80), st.floats(0.01, 0.99))
def test_no_other_threshold_comes_nearer_to_the_target(values: list[float], target: float) -> None:
    p_up = np.array(values)
    fitted = fit_abstention(p_up[:, None], target)
    confidence = np.abs(p_up - 0.5)
    share = np.mean(confidence >= fitted.threshold[0])
    assert share == pytest.approx(fitted.achieved[0])
    assert all(abs(np.mean(confidence >= c) - target) >= abs(share - target) - 1e-12 for c in confidence)
    assert Abstention.from_json(json.loads(json.dumps(fitted.to_json(), allow_nan=False))) == fitted


def test_a_level_that_reaches_the_target_exactly_is_the_one_it_falls_on() -> None:
    levels = np.repeat([0.60, 0.56, 0.53], [20, 50, 30])
    fitted = fit_abstention(levels[:, None], 0.7)
    assert (fitted.achieved, fitted.tied) == ((0.7,), (0.5,))


def test_the_rule_that_never_abstains_covers_every_row_of_every_horizon() -> None:
    assert Abstention.never(2) == Abstention(1.0, (0.0, 0.0), (1.0, 1.0), (0.0, 0.0), (0, 0))
