"""The input scale comes from the training sessions alone."""

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from models.scaling import LIMIT, fit_scaling, replace_outliers

X = np.random.default_rng(2).normal(3, 7, (5, 40, 3)).astype(np.float32)
MASK = np.random.default_rng(3).random((5, 40)) < 0.9


def test_the_scale_is_that_of_the_valid_training_rows() -> None:
    reference = StandardScaler().fit(X[:, 10:30][MASK[:, 10:30]])
    scaling = fit_scaling(X, MASK, range(10, 30))
    assert scaling.mean == pytest.approx(reference.mean_, rel=1e-5)
    assert scaling.variance == pytest.approx(reference.var_, rel=1e-5)


def test_rows_outside_training_or_masked_do_not_move_the_scale() -> None:
    changed = X.copy()
    changed[:, 30:] = 1e6
    changed[~MASK] = -1e6
    before, after = fit_scaling(X, MASK, range(30)), fit_scaling(changed, MASK, range(30))
    assert np.array_equal(before.mean, after.mean)
    assert np.array_equal(before.variance, after.variance)


@pytest.mark.slow  # it imports TensorFlow
def test_the_scale_of_the_saved_layers_is_the_same_bit_for_bit() -> None:
    from models.networks.network import Network
    from models.networks.recurrent import build_deployable

    scaling = fit_scaling(X, MASK, range(40))
    saved = build_deployable(Network("gru", features=3, lookback=4, units=2), scaling)
    x = (100 * X).astype(np.float32)
    layers = [saved.get_layer(name) for name in ("scale", "into_unit", "cut_off", "out_of_unit")]
    expected = x
    for layer in layers:
        expected = layer(expected)
    assert np.array_equal(scaling.apply_as_saved(x), np.asarray(expected))
    assert scaling.apply_as_saved(x) == pytest.approx(scaling.apply(x), abs=1e-6)


def test_tails_are_cut_off() -> None:
    scaling = fit_scaling(X, MASK, range(40))
    extreme = np.array([1e9, -1e9, scaling.mean[2]], dtype=np.float32)
    assert scaling.apply(extreme).tolist() == [LIMIT, -LIMIT, 0]


def test_a_feature_that_never_moved_is_centred_and_bounded() -> None:
    still = X.copy()
    still[:, :, 1] = 0.1
    scaling = fit_scaling(still, MASK, range(40))
    assert scaling.apply(still)[:, :, 1] == pytest.approx(0, abs=1e-6)
    assert np.abs(scaling.apply(X)).max() <= LIMIT


def returns(symbols: int, sessions: int) -> np.ndarray:
    """Return fat-tailed daily returns of 1%, and a feature of half the size."""
    rng = np.random.default_rng(4)
    daily = 0.01 * rng.standard_t(4, (symbols, sessions)) / np.sqrt(2)
    return np.stack([daily, daily / 2], axis=-1).astype(np.float32)


@pytest.mark.parametrize("symbols", [1, 20])
def test_one_bar_at_a_tenth_does_not_shrink_the_inputs(symbols: int) -> None:
    healthy, valid = returns(symbols, 500), np.ones((symbols, 500), dtype=bool)
    faulty = healthy.copy()
    faulty[0, 100:102, 0] = -2.3, 2.3
    before, after = (fit_scaling(x, valid, range(500)) for x in (healthy, faulty))
    assert np.sqrt(after.variance / before.variance) == pytest.approx(1, abs=0.01)
    assert after.mean == pytest.approx(before.mean, abs=1e-4)
    assert after.apply(faulty)[0, 100:102, 0].tolist() == [-LIMIT, LIMIT]


def test_healthy_tails_keep_every_digit_of_the_scale() -> None:
    x = returns(20, 500)
    rows = x.reshape(-1, 2)
    assert np.abs(rows[:, 0]).max() > 0.07  # a crash, of seven standard deviations
    assert replace_outliers(rows) is rows
    assert len(replace_outliers(rows[:0])) == 0


def test_a_column_that_hardly_ever_moves_has_no_outliers() -> None:
    rows = np.zeros((100, 2), dtype=np.float32)
    rows[7, 0] = 1e6
    assert replace_outliers(rows) is rows


@pytest.mark.parametrize("symbols", [1, 20])
def test_a_wrong_bar_stands_apart_from_a_crash_and_in_a_month_of_volatilities_too(symbols: int) -> None:
    healthy, valid = returns(symbols, 500), np.ones((symbols, 500), dtype=bool)
    healthy[0, 50, 0] = -0.35
    healthy[..., 1] = np.abs(healthy[..., 1]) + 0.01
    faulty = healthy.copy()
    faulty[0, 100:102, 0] = -2.3, 2.3
    faulty[0, 100:120, 1] = 0.7
    before, after = (fit_scaling(x, valid, range(500)) for x in (healthy, faulty))
    assert np.sqrt(after.variance / before.variance) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("seed", range(5))
def test_a_heavy_tail_keeps_all_its_values(seed: int) -> None:
    rows = np.random.default_rng(seed).lognormal(0, 2, (20_000, 1)).astype(np.float32)
    assert replace_outliers(rows) is rows
