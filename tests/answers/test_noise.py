"""On noise there is nothing to find: over twenty draws no network is better than the base rate beyond chance.

Two figures are tested, each at a size of one in a thousand.

The log loss that the forecasts save against the base rate is a number a draw. Under noise its mean is not above zero:
a one-sided t test over the draws, and a sign test beside it.

The deviation of p_up from the base rate comes from the calibrator's slope s alone, fitted on n rows that the
network has not seen. With d the distance of a logit from the base rate's, the likelihood ratio of s against 0 is
s^2 sum(d^2) p (1 - p), and under noise the square of max(0, Z) with Z standard normal, for s is not below zero
(Chernoff 1954, "On the distribution of the likelihood ratio"). A small s moves p_up by p (1 - p) s d, so the root
mean square is sqrt(p (1 - p) / n) max(0, Z): of mean 0.399 and standard deviation 0.584 in units of the root.
"""

import numpy as np
import pytest
from scipy.stats import binom, norm, t

from models.ensembles.pooled import RecurrentModel
from models.networks.network import Network
from models.training.trainer import Training
from models.windows import Mode

pytestmark = [pytest.mark.slow, pytest.mark.proof]

DRAWS, SYMBOLS, SESSIONS, UPS = 20, 20, 700, 0.53
RANGES = {"train": range(350), "stop": range(351, 420), "calibrate": range(421, 520)}
TEST = slice(521, SESSIONS)
SIZE = 0.001


def noise(draw: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return inputs that tell nothing, and labels that are ups a little more often than downs."""
    rng = np.random.default_rng([7, draw])
    x = rng.standard_normal((SYMBOLS, SESSIONS, 4)).astype(np.float32)
    y = (rng.random((SYMBOLS, SESSIONS, 1)) < UPS).astype(np.float32)
    return x, rng.random((SYMBOLS, SESSIONS)) < 0.99, y


def log_loss(p_up: np.ndarray, y: np.ndarray) -> np.ndarray:
    return -np.log(np.where(y > 0.5, p_up, 1 - p_up))


@pytest.mark.parametrize("mode", ["windowed", "sequence"])
def test_on_noise_no_network_is_better_than_the_base_rate_beyond_chance(mode: Mode) -> None:
    network = Network("gru", features=4, lookback=8, units=16, mode=mode)
    recipe = RecurrentModel(network, Training(epochs=6, learning_rate=5e-3, chunk=60, patience=3), members=2)
    saved, deviations = np.empty(DRAWS), np.empty(DRAWS)
    for draw in range(DRAWS):
        x, mask, y = noise(draw)
        fitted = recipe.fit(x, mask, y, **RANGES, seed=draw)
        p_up, label, base = fitted.predict(x, mask).p_up, y[:, TEST], fitted.base_rate[0]
        test = p_up[:, TEST]
        saved[draw] = np.nanmean(log_loss(base, label) - log_loss(test, label))
        calibrate = p_up[:, 421:520]
        unit = np.sqrt(base * (1 - base) / np.isfinite(calibrate).sum())
        deviations[draw] = np.sqrt(np.nanmean((test - base) ** 2)) / unit
    statistic = saved.mean() / (saved.std(ddof=1) / np.sqrt(DRAWS))
    assert statistic < t.isf(SIZE, DRAWS - 1)
    assert np.sum(saved > 1e-9) <= binom.isf(SIZE, DRAWS, 0.5)
    # Of twenty the largest, and their mean; a fifth more for what a small slope leaves out.
    assert deviations.max() < 1.2 * norm.isf(SIZE / DRAWS)
    assert deviations.mean() < 1.2 * (0.399 + norm.isf(SIZE) * 0.584 / np.sqrt(DRAWS))
