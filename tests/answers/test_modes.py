"""A fitted ensemble says what plain Keras says with its weights: window by window, or one session at a time."""

from typing import Any

import keras
import numpy as np
import pytest
from scipy.special import expit, logit

from models.calibration.calibrator import Calibration
from models.calibration.temperature import Temperature
from models.ensembles.pooled import RecurrentEnsemble, RecurrentModel
from models.networks.network import Kind, Network
from models.networks.recurrent import KINDS
from models.scaling import LIMIT
from models.training.trainer import Training
from models.windows import Mode

pytestmark = [pytest.mark.slow, pytest.mark.own_process]

SYMBOLS, SESSIONS, LOOKBACK, UNITS = 5, 200, 6, 7
RANGES = {"train": range(100), "stop": range(101, 130), "calibrate": range(131, 160)}


def market() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a sign that repeats, in unscaled inputs, with sessions that are not valid in between."""
    rng = np.random.default_rng(3)
    signs = np.cumprod(np.where(rng.random((SYMBOLS, SESSIONS)) < 0.7, 1, -1), axis=1)
    x = np.stack([5 + 0.2 * signs * rng.random(signs.shape), rng.normal(-1, 3, signs.shape)], axis=-1)
    y = np.full((SYMBOLS, SESSIONS, 1), np.nan, np.float32)
    y[:, :-1, 0] = signs[:, 1:] > 0
    mask = rng.random(signs.shape) < 0.95
    x[~mask] = 1e5
    return x.astype(np.float32), mask, y


def fitted(kind: Kind, mode: Mode) -> RecurrentEnsemble:
    network = Network(kind, features=2, lookback=LOOKBACK, units=UNITS, layers=2, mode=mode)
    training = Training(epochs=4, learning_rate=0.02, chunk=40)
    recipe = RecurrentModel(network, training, members=2, calibration=Calibration("temperature"))
    return recipe.fit(*market(), **RANGES, seed=5)


def scaled(ensemble: RecurrentEnsemble, x: np.ndarray) -> np.ndarray:
    scale = ensemble.members.scaling
    mean, variance = (each.astype(np.float64) for each in (scale.mean, scale.variance))
    return np.clip((x - mean) / np.sqrt(variance), -LIMIT, LIMIT)


def calibrated(ensemble: RecurrentEnsemble, logits: np.ndarray) -> np.ndarray:
    """Return sigmoid(b + (z - b) / T) of the members' mean logit."""
    curve, base = ensemble.calibrator.curves[0], logit(ensemble.base_rate[0])
    assert isinstance(curve, Temperature)
    return expit(base + (logits.mean(axis=0) - base) / curve.temperature)


def plain(kind: Kind, weights: list[np.ndarray]) -> keras.Model:
    """Return the network as anybody would write it in Keras."""
    layer: Any = KINDS[kind]
    model = keras.Sequential(
        [keras.Input((LOOKBACK, 2)), layer(UNITS, return_sequences=True), layer(UNITS), keras.layers.Dense(1)]
    )
    model.set_weights(weights)
    return model


@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
def test_windowed_mode_is_a_plain_keras_model_over_windows(kind: Kind) -> None:
    x, mask, _ = market()
    ensemble = fitted(kind, "windowed")
    found = ensemble.predict(x, mask).p_up[:, :, 0]
    rows = np.argwhere(np.isfinite(found))
    windows = np.stack([x[symbol, session - LOOKBACK + 1 : session + 1] for symbol, session in rows])
    logits = [
        plain(kind, weights).predict(scaled(ensemble, windows), verbose=0)[:, 0]
        for weights in ensemble.members.weights
    ]
    assert len(rows) > 0.6 * mask.sum()
    assert np.ptp(found[np.isfinite(found)]) > 0.1
    assert found[np.isfinite(found)] == pytest.approx(calibrated(ensemble, np.array(logits)), abs=1e-6)


def step(kind: Kind, weights: list[np.ndarray], x: np.ndarray) -> np.ndarray:
    """Return logits [symbol, session] after each session of x, the cells called one session at a time."""
    first, second = KINDS[kind](UNITS).cell, KINDS[kind](UNITS).cell
    for cell, width in ((first, 2), (second, UNITS)):
        cell.build((1, width))
    *recurrent, w, c = weights
    first.set_weights(recurrent[: len(recurrent) // 2])
    second.set_weights(recurrent[len(recurrent) // 2 :])
    states = [[np.zeros((len(x), UNITS), np.float32)] * (1 + (kind == "lstm")) for _ in range(2)]
    logits = []
    for session in np.moveaxis(x, 1, 0):
        below, states[0] = first(session.astype(np.float32), states[0])
        above, states[1] = second(below, states[1])
        logits.append((np.asarray(above) @ w + c)[:, 0])
    return np.stack(logits, axis=1)


@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
def test_sequence_mode_is_the_cells_stepped_over_the_valid_sessions(kind: Kind) -> None:
    x, mask, _ = market()
    ensemble = fitted(kind, "sequence")
    found = ensemble.predict(x, mask).p_up[:, :, 0]
    # Each symbol's valid sessions, one after another; what follows the last of them is left out of the comparison.
    closed = np.zeros((3, SESSIONS, 2))
    for symbol in range(3):
        closed[symbol, : mask[symbol].sum()] = scaled(ensemble, x[symbol, mask[symbol]])
    stepped = calibrated(
        ensemble, np.array([step(kind, weights, closed) for weights in ensemble.members.weights])
    )
    for symbol in range(3):
        valid = mask[symbol]
        assert not valid.all()
        expected = stepped[symbol, : valid.sum()]
        expected[: LOOKBACK - 1] = np.nan
        assert found[symbol, valid] == pytest.approx(expected, abs=1e-6, nan_ok=True)
        assert np.isnan(found[symbol, ~valid]).all()
