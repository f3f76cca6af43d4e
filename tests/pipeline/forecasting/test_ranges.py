"""The ranges that are proposed for a short history fit it, and leave enough to train on."""

import pytest

from pipeline.config import BacktestConfig, TrainingConfig
from pipeline.forecasting.ranges import MIN_TRAIN, fit_ranges, least_sessions

DEFAULTS = 1008
"""Sessions of the default test, stop and calibrate ranges."""


@pytest.mark.parametrize("gap", [1, 5, 20])
def test_whatever_is_proposed_fits(gap: int) -> None:
    proposed = {sessions: fit_ranges(sessions, gap) for sessions in range(150, 2100, 7)}
    assert proposed[150] is None
    for sessions, ranges in proposed.items():
        assert (ranges is None) == (sessions < least_sessions(gap))
        if ranges is not None:
            assert ranges.training(sessions, gap) >= max(MIN_TRAIN, 0.5 * (sessions - 4 * gap))
            assert (
                ranges.walk + ranges.stop + ranges.calibrate + 3 * gap < sessions - gap
            )  # a fold is left to test
            # The settings take them.
            TrainingConfig(stop_sessions=ranges.stop, calibrate_sessions=ranges.calibrate)
            BacktestConfig(train_sessions=ranges.walk, refit_sessions=ranges.refit)


def test_three_years_are_enough() -> None:
    ranges = fit_ranges(756 - 68, 1)
    assert ranges is not None
    assert (ranges.test, ranges.stop, ranges.calibrate) == (170, 80, 80)
    assert ranges.training(688, 1) == 354


def test_the_usual_ranges_have_the_same_proportions() -> None:
    ranges = fit_ranges(2 * DEFAULTS, 1)
    assert ranges is not None
    assert (ranges.test, ranges.stop, ranges.calibrate) == (500, 250, 250)
