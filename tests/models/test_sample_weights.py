"""Weights of rows: by their formulas, with mean 1 over the training rows, and of nothing later than the row."""

import numpy as np
import pytest

from models.sample_weights import HALF_LIFE, VOLATILITY, weigh_by_volatility, weigh_recent

TRAIN = range(300)


def panel() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    x = (rng.standard_normal((3, 400, 2)) * np.array([0.01, 0.02, 0.04])[:, None, None]).astype(np.float32)
    mask = rng.random((3, 400)) < 0.9
    mask[:, [250, 399]] = True
    x[~mask] = 0
    return x, mask


def test_a_row_counts_half_after_a_half_life() -> None:
    mask = np.ones((1, 2 * HALF_LIFE), bool)
    weights = weigh_recent(np.zeros((*mask.shape, 1), np.float32), mask, range(2 * HALF_LIFE))
    assert weights[0, -1] / weights[0, -1 - HALF_LIFE] == pytest.approx(2, rel=1e-5)
    assert weights.mean() == pytest.approx(1, rel=1e-5)


def test_weights_by_volatility_follow_their_formula() -> None:
    x, mask = panel()
    weights = weigh_by_volatility(0, x, mask, TRAIN)
    assert weights[:, :300][mask[:, :300]].mean() == pytest.approx(1, rel=1e-5)
    volatility = [
        np.sqrt(np.mean(x[symbol, : t + 1, 0][mask[symbol, : t + 1]][-VOLATILITY:].astype(float) ** 2))
        for symbol, t in ((0, 250), (1, 250), (2, 399))
    ]
    found = [weights[0, 250], weights[1, 250], weights[2, 399]]
    assert found[0] / found[1] == pytest.approx(volatility[1] / volatility[0], rel=1e-4)
    assert found[1] / found[2] == pytest.approx(volatility[2] / volatility[1], rel=1e-4)


def test_no_weight_knows_what_comes_after_its_row() -> None:
    x, mask = panel()
    changed = x.copy()
    changed[:, 320:] *= 10
    one, other = (weigh_by_volatility(0, each, mask, TRAIN) for each in (x, changed))
    np.testing.assert_array_equal(one[:, :320], other[:, :320])
    assert not np.array_equal(one[:, 320:], other[:, 320:])


def test_weights_are_cut_off_and_a_still_row_counts_as_the_median() -> None:
    x, mask = panel()
    x[0, :, 0] *= 1e-6
    x[1, :, 0] = 0
    weights = weigh_by_volatility(0, x, mask, TRAIN)
    assert weights.max() / weights.min() <= 16 * (1 + 1e-5)
    still = np.unique(weights[1][mask[1]])
    assert len(still) == 1
    assert np.isfinite(weights).all()
