"""Diagnostics of networks, against closed forms and networks with a planted memory."""

import keras
import numpy as np
import pytest

from models.explain.attribution import TOLERANCE, attribute
from models.explain.diagnostics import (
    describe_memory,
    measure_gradient_norms,
    measure_importance,
    measure_sensitivity,
)
from models.networks.network import Network
from models.networks.recurrent import build
from models.serving.network import ServedNetwork

pytestmark = [pytest.mark.slow, pytest.mark.own_process]

LENGTH, FEATURES, UNITS = 12, 3, 6
CHANCE = np.random.default_rng(4)
WINDOWS = CHANCE.normal(size=(300, LENGTH, FEATURES)).astype(np.float32)


def orthogonal(size: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(7).normal(size=(size, size)))[0]


ELMAN = Network("rnn", features=FEATURES, lookback=LENGTH, units=UNITS, horizons=2)


def elman(factor: float) -> tuple[keras.Model, list[np.ndarray]]:
    """Return an Elman network whose recurrent matrix is `factor` times orthogonal, and its weights."""
    model = build(ELMAN, seed=1)
    chance = np.random.default_rng(2)
    weights = [
        chance.normal(size=(FEATURES, UNITS)),
        factor * orthogonal(UNITS),
        np.zeros(UNITS),
        chance.normal(size=(UNITS, 2)),
        np.zeros(2),
    ]
    return model, [array.astype(np.float32) for array in weights]


def trained_to_read(model: keras.Model, feature: int, lag: int) -> list[np.ndarray]:
    """Return weights fitted to predict the sign of one feature at one lag."""
    x = np.random.default_rng(5).normal(size=(2000, LENGTH, FEATURES)).astype(np.float32)
    model.compile(keras.optimizers.Adam(0.01), keras.losses.BinaryCrossentropy(from_logits=True))
    model.fit(x, (x[:, -1 - lag, feature] > 0).astype(np.float32), epochs=30, batch_size=100, verbose=0)
    return model.get_weights()


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.5])
def test_sensitivity_is_the_product_of_matrices_where_tanh_is_its_own_argument(factor: float) -> None:
    model, weights = elman(factor)
    w_xh, w_hh, _, w_hy, _ = (np.float64(array) for array in weights)
    found = measure_sensitivity(model, [weights], 1e-4 * WINDOWS)
    by_hand = [
        np.linalg.norm(w_xh @ np.linalg.matrix_power(w_hh, lag) @ w_hy, axis=0) for lag in range(LENGTH)
    ]
    assert found.shape == (1, LENGTH, 2)
    assert found[0] == pytest.approx(np.array(by_hand), rel=2e-3)


@pytest.mark.parametrize(
    ("factor", "diagnosis"),
    [(0.5, "vanishing"), (0.97, "in between"), (1.0, "in between"), (1.1, "in between"), (1.5, "exploding")],
)
def test_vanishing_and_exploding_gradients_are_named(factor: float, diagnosis: str) -> None:
    model, weights = elman(factor)
    memory = describe_memory(measure_sensitivity(model, [weights], 1e-4 * WINDOWS)[0, :, 0], LENGTH)
    assert memory.diagnosis == diagnosis
    assert memory.decay == pytest.approx(factor, rel=0.1)


def test_saturated_units_forget_what_their_matrix_would_keep() -> None:
    model, weights = elman(1.0)
    assert describe_memory(measure_sensitivity(model, [weights], 5 * WINDOWS)[0, :, 0], LENGTH).decay < 0.7


def test_a_gated_network_remembers_what_its_gates_hold() -> None:
    # Gates that stay shut keep a share sigmoid(z) of the state: the candidate of each session decays with it.
    model = build(Network("gru", features=1, lookback=LENGTH, units=1), seed=1)
    bias = np.zeros((2, 3), np.float32)
    bias[0, 0] = np.log(9)
    weights = [np.array([[0, 0, 1]]), np.zeros((1, 3)), bias, np.ones((1, 1)), np.zeros(1)]
    found = measure_sensitivity(model, [[np.float32(array) for array in weights]], 1e-3 * WINDOWS[..., :1])
    assert found[0, :, 0] == pytest.approx(0.1 * 0.9 ** np.arange(LENGTH), rel=1e-3)
    assert describe_memory(found[0, :, 0], LENGTH).decay == pytest.approx(0.9, abs=1e-3)


def test_halves_and_most_are_shares_of_all_sensitivity() -> None:
    memory = describe_memory(np.array([0.5, 0.25, 0.15, 0.05, 0.05]), lookback=5)
    assert (memory.half, memory.most) == (0, 3)


def test_rounding_far_back_does_not_slow_the_decay() -> None:
    clean = 0.2 ** np.arange(40.0)
    rounded = np.maximum(clean, 1e-9)
    assert describe_memory(rounded, 40).decay == pytest.approx(0.2, rel=1e-6)


def test_a_network_that_reads_nothing_is_called_blind_and_one_that_overflows_exploding() -> None:
    assert describe_memory(np.zeros(5), 5).diagnosis == "blind"
    assert describe_memory(np.array([1, 1e30, np.inf]), 3).diagnosis == "exploding"
    assert describe_memory(np.array([1.0, 0, 0]), 3).diagnosis == "vanishing"


def test_the_lag_and_the_feature_that_were_learned_stand_out() -> None:
    network = Network("gru", features=FEATURES, lookback=LENGTH, units=8)
    model = build(network, seed=3)
    weights = trained_to_read(model, feature=1, lag=4)
    assert measure_sensitivity(model, [weights], WINDOWS)[0, :, 0].argmax() == 4
    attribution = attribute(ServedNetwork(network, [weights]), WINDOWS)
    strength = np.abs(attribution.values).mean(axis=(0, 3))
    assert np.unravel_index(strength.argmax(), strength.shape) == (4, 1)


@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
def test_attributions_add_up_to_the_logit(kind: str) -> None:
    network = Network(kind, features=FEATURES, lookback=LENGTH, units=8, horizons=2)
    model = build(network, seed=3)
    chance = np.random.default_rng(1)
    members = [
        [chance.normal(0, 0.5, array.shape).astype(np.float32) for array in model.get_weights()] for _ in "ab"
    ]
    found = attribute(ServedNetwork(network, members), WINDOWS)
    logits = []
    for weights in members:
        model.set_weights(weights)
        logits.append((np.asarray(model(WINDOWS)), np.asarray(model(np.zeros_like(WINDOWS[:1])))))
    expected, baseline = np.mean([z for z, _ in logits], axis=0), np.mean([b for _, b in logits], axis=0)
    assert found.values.shape == (300, LENGTH, FEATURES, 2)
    assert found.logit == pytest.approx(expected, abs=1e-4)
    assert found.values.sum(axis=(1, 2)) == pytest.approx(expected - baseline, abs=TOLERANCE)
    assert found.adds_up.all()


def test_attributions_of_a_linear_network_are_its_terms() -> None:
    _, weights = elman(0.8)
    w_xh, w_hh, _, w_hy, _ = (np.float64(array) for array in weights)
    tiny = 1e-3 * WINDOWS
    found = attribute(ServedNetwork(ELMAN, [weights]), tiny).values
    for lag in (0, 3, LENGTH - 1):
        terms = tiny[:, -1 - lag, :, None] * (w_xh @ np.linalg.matrix_power(w_hh, lag) @ w_hy)
        assert found[:, lag] == pytest.approx(terms, abs=1e-6)


def test_a_row_whose_attributions_do_not_add_up_says_so() -> None:
    _, weights = elman(1.0)
    found = attribute(ServedNetwork(ELMAN, [[1e4 * array for array in weights]]), WINDOWS[:2])
    assert not found.adds_up.any()


def test_only_the_feature_that_the_network_reads_is_important() -> None:
    model, weights = elman(0.5)
    weights[0][[0, 2]] = 0
    y = np.repeat(WINDOWS[:, -1, 1:2] > 0, 2, axis=1).astype(np.float32)
    y[:5] = np.nan
    weights[3] *= np.sign(weights[0][1] @ weights[3])
    rises = measure_importance(model, [weights, weights], WINDOWS, y, seed=1)
    assert rises.shape == (FEATURES, 300, 2)
    assert np.isnan(rises[:, :5]).all()
    mean = np.nanmean(rises, axis=(1, 2))
    assert mean[1] > 0.2
    assert mean[[0, 2]] == pytest.approx([0, 0], abs=1e-6)


def test_permutations_follow_the_seed() -> None:
    model, weights = elman(0.5)
    y = (CHANCE.normal(size=(300, 2)) > 0).astype(np.float32)
    first, again, other = (measure_importance(model, [weights], WINDOWS, y, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_gradient_norms_are_those_of_the_mean_log_loss() -> None:
    model, weights = elman(0.9)
    labels = (CHANCE.normal(size=(100, 2)) > 0).astype(np.float32)
    labels[:10, 0] = np.nan
    found = measure_gradient_norms(model, [weights], WINDOWS[:100], labels)
    assert [(one.layer, one.part) for one in found] == [
        ("recurrent_1", "kernel"),
        ("recurrent_1", "recurrent_kernel"),
        ("recurrent_1", "bias"),
        ("logits", "kernel"),
        ("logits", "bias"),
    ]
    model.set_weights(weights)
    z = np.float64(np.asarray(model(WINDOWS[:100])))
    known = np.isfinite(labels)
    error = np.where(known, 1 / (1 + np.exp(-z)) - np.nan_to_num(labels), 0) / known.sum()
    # The gradient of the mean log loss with respect to a logit is (p - y) / n, and the bias adds to every logit.
    assert found[-1].norms == pytest.approx([np.linalg.norm(error.sum(axis=0))], rel=1e-4)
    step = 1e-3
    moved = [array.copy() for array in weights]
    slopes = np.zeros(UNITS)
    for unit in range(UNITS):
        losses = []
        for sign in (1, -1):
            moved[2][unit] = sign * step
            model.set_weights(moved)
            z = np.float64(np.asarray(model(WINDOWS[:100])))
            losses.append(np.nansum(np.logaddexp(0, z) - labels * z) / known.sum())
        moved[2][unit] = 0
        slopes[unit] = (losses[0] - losses[1]) / (2 * step)
    assert found[2].norms == pytest.approx([np.linalg.norm(slopes)], rel=2e-2)
