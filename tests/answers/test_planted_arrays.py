"""What was planted in arrays is found as well as it can be, in both modes.

A session's return has a random sign; the label is that of the return some sessions ago with a known probability,
which no forecast can beat: the best possible hit rate.
"""

from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from models.ensembles.pooled import RecurrentEnsemble, RecurrentModel
from models.networks.network import Kind, Network
from models.training.trainer import Training
from models.windows import Mode

pytestmark = [pytest.mark.slow, pytest.mark.own_process]

SYMBOLS, SESSIONS, LOOKBACK, LAG = 40, 1000, 41, 39
RANGES = {"train": range(700), "stop": range(740, 800), "calibrate": range(840, 880)}
TEST = slice(920, SESSIONS)
PLAIN: dict[str, Any] = {}
ATTENTION: dict[str, Any] = {"attention": True}
CONVOLUTION: dict[str, Any] = {"convolution": 40}
"""Either brings the session of then within one step: a plain network would have to carry it through forty."""


def echo(probability: float, lag: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return x, mask and y; y[:, t] is the sign of x[:, t - lag] with the given probability."""
    rng = np.random.default_rng(1)
    returns = rng.standard_normal((SYMBOLS, SESSIONS))
    is_echo = rng.random((SYMBOLS, SESSIONS)) < probability
    y = np.full((SYMBOLS, SESSIONS, 1), np.nan, np.float32)
    y[:, lag:, 0] = (returns[:, : SESSIONS - lag] > 0) == is_echo[:, lag:]
    return returns[:, :, None].astype(np.float32), np.ones((SYMBOLS, SESSIONS), bool), y


def autoregression(repeats: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return x, mask and y of returns whose sign is that of the one before with the given probability."""
    rng = np.random.default_rng(2)
    turns = np.where(rng.random((SYMBOLS, SESSIONS)) < repeats, 1, -1)
    returns = np.cumprod(turns, axis=1) * rng.lognormal(-4, 0.5, turns.shape)
    y = np.full((SYMBOLS, SESSIONS, 1), np.nan, np.float32)
    y[:, :-1, 0] = returns[:, 1:] > 0
    return returns[:, :, None].astype(np.float32), np.ones((SYMBOLS, SESSIONS), bool), y


def learned(
    kind: Kind,
    mode: Mode,
    extras: dict[str, Any],
    market: tuple[np.ndarray, np.ndarray, np.ndarray],
    **settings: Any,
) -> RecurrentEnsemble:
    sizes = {"features": 1, "lookback": LOOKBACK, "units": 8} | settings.pop("sizes", {}) | extras
    training = Training(
        **{"epochs": 12, "learning_rate": 0.01, "chunk": 200, "schedule": "cosine", "patience": 6} | settings
    )
    return RecurrentModel(Network(kind, mode=mode, **sizes), training, members=1).fit(
        *market, **RANGES, seed=3
    )


def hits(fitted: RecurrentEnsemble, market: tuple[np.ndarray, np.ndarray, np.ndarray]) -> tuple[int, int]:
    """Return the hits among the forecasts of the test, and their number."""
    x, mask, y = market
    p_up, label = fitted.predict(x, mask).p_up[:, TEST], y[:, TEST]
    known = np.isfinite(label) & np.isfinite(p_up)
    return int(np.sum((p_up[known] > 0.5) == (label[known] > 0.5))), int(known.sum())


def assert_as_good_as_can_be(
    fitted: RecurrentEnsemble, market: tuple[np.ndarray, np.ndarray, np.ndarray], probability: float
) -> None:
    """Labels are drawn one by one, so the hits of the best rule are binomial."""
    found, rows = hits(fitted, market)
    low, high = binom.interval(0.99, rows, probability)
    assert rows >= 3000
    assert low <= found <= high, (low, found, high)


@pytest.mark.parametrize("mode", ["windowed", "sequence"])
@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
def test_a_planted_sign_is_found_by_every_kind_in_both_modes(kind: Kind, mode: Mode) -> None:
    market = autoregression(0.62)
    short = {"lookback": 6, "units": 8}
    assert_as_good_as_can_be(
        learned(kind, mode, PLAIN, market, sizes=short, epochs=8, chunk=60), market, 0.62
    )


@pytest.mark.proof
@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_an_echo_of_forty_sessions_is_found_in_windows(kind: Kind) -> None:
    market = echo(0.9, LAG)
    fitted = learned(kind, "windowed", ATTENTION, market, sizes={"units": 16})
    assert_as_good_as_can_be(fitted, market, 0.9)
