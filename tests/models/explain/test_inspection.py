"""Looking into fitted ensembles: every kind of network, both modes, histories with holes."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from models.ensembles.members import Members
from models.ensembles.pooled import RecurrentEnsemble, RecurrentModel
from models.explain.attribution import TOLERANCE, attribute, explain, read_before
from models.explain.diagnostics import measure_sensitivity
from models.explain.inspection import inspect
from models.networks.network import Network
from models.networks.recurrent import build
from models.scaling import Scaling
from models.serving.ensemble import ServedEnsemble
from models.serving.network import ServedNetwork
from models.training.trainer import Training

pytestmark = [pytest.mark.slow, pytest.mark.own_process]

SYMBOLS, SESSIONS, FEATURES = 6, 300, 3
LOOKBACK = 5
SCALING = Scaling(np.array([1, -2, 0.5], np.float32), np.array([4, 0.01, 1], np.float32))

NETWORKS = [
    Network(kind, FEATURES, LOOKBACK, units=4, layers=2, horizons=2, convolution=c, attention=a, mode=mode)
    for kind, c, a, mode in [
        ("rnn", 0, False, "windowed"),
        ("gru", 3, False, "windowed"),
        ("lstm", 0, True, "windowed"),
        ("rnn", 3, True, "sequence"),
        ("gru", 0, True, "sequence"),
        ("lstm", 3, False, "sequence"),
    ]
]


def panel(seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    chance = np.random.default_rng(seed)
    x = chance.normal(SCALING.mean, np.sqrt(SCALING.variance), (SYMBOLS, SESSIONS, FEATURES)).astype(
        np.float32
    )
    mask = np.ones((SYMBOLS, SESSIONS), bool)
    mask[1, :40] = False
    mask[2, [90, 91, 200]] = False
    y = (chance.random((SYMBOLS, SESSIONS, 2)) < 0.5).astype(np.float32)
    y[:, -1] = np.nan
    return x, mask, y


def random_weights(network: Network, seed: int) -> list[np.ndarray]:
    chance = np.random.default_rng(seed)
    return [chance.normal(0, 0.4, a.shape).astype(np.float32) for a in build(network, seed=0).get_weights()]


def an_ensemble(network: Network) -> RecurrentEnsemble:
    """Return an untrained ensemble: two members with random weights, read from the first session."""
    members = Members(network, SCALING, [random_weights(network, seed) for seed in (1, 2)])
    nothing: Any = None
    rate = np.full(2, 0.5)
    return RecurrentEnsemble(network, Training(), (1, 2), members, nothing, rate, [], nothing, 0, 0)


def served(network: Network) -> ServedEnsemble:
    """Return the same as it is served from its files."""
    members, nothing = ServedNetwork(network, [random_weights(network, seed) for seed in (1, 2)]), None
    return ServedEnsemble(network, SCALING, members, nothing, np.full(2, 0.5), {})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "network", NETWORKS, ids=lambda n: f"{n.kind}-{n.convolution}-{n.attention}-{n.mode}"
)
def test_sensitivity_and_attributions_hold_for_every_network(network: Network) -> None:
    length = LOOKBACK if network.mode == "windowed" else 3 * LOOKBACK
    model, weights = build(network, seed=0), random_weights(network, 3)
    x = np.random.default_rng(2).normal(size=(4, length, FEATURES)).astype(np.float32)
    model.set_weights(weights)

    def logits(inputs: np.ndarray) -> np.ndarray:
        z = np.float64(np.asarray(model(inputs)))
        return z if network.mode == "windowed" else z[:, -1]

    step = 1e-2
    moves = step * np.eye(length * FEATURES, dtype=np.float32).reshape(-1, 1, length, FEATURES)
    moved = [logits((x + sign * moves).reshape(-1, length, FEATURES)) for sign in (1, -1)]
    by_hand = ((moved[0] - moved[1]) / (2 * step)).reshape(length, FEATURES, 4, 2).transpose(2, 0, 1, 3)
    expected = np.linalg.norm(by_hand, axis=2).mean(axis=0)[::-1]
    found = measure_sensitivity(model, [weights], x)[0]
    # Differences of float32 logits; a rectified convolution has kinks.
    assert found == pytest.approx(expected, rel=0.1, abs=2e-2 * expected.max())
    attribution = attribute(ServedNetwork(network, [weights]), x)
    apart = logits(x) - logits(np.zeros_like(x))
    assert attribution.values.sum(axis=(1, 2)) == pytest.approx(apart, abs=TOLERANCE)


@pytest.mark.parametrize("network", NETWORKS[:1] + NETWORKS[4:5], ids=lambda n: n.mode)
def test_a_forecast_is_explained_over_the_sessions_that_it_read(network: Network) -> None:
    x, mask, _ = panel()
    fitted, ensemble = an_ensemble(network), served(network)
    mask[3, : SESSIONS - LOOKBACK - 1] = False  # forecast, but with less than twice the lookback behind it
    rows = np.flatnonzero(fitted.members.usable(mask)[:, -1]).astype(np.int32) * SESSIONS + SESSIONS - 1
    found = explain(ensemble, x, mask, rows)
    assert found.attribution.adds_up.all()
    moved = found.attribution.logit - found.baseline
    assert found.attribution.values.sum(axis=(1, 2)) == pytest.approx(moved, abs=TOLERANCE)
    assert found.whole == pytest.approx(fitted.members.logits(x, mask, rows).mean(axis=0), abs=1e-6)
    if network.mode == "windowed":
        assert set(found.sessions) == {LOOKBACK}
        assert found.attribution.logit == pytest.approx(found.whole, abs=1e-5)
    else:
        assert set(found.sessions) == {LOOKBACK, 2 * LOOKBACK}
        longest = read_before(x, mask, rows[:1], 2 * LOOKBACK)
        valid = np.ones((1, 2 * LOOKBACK), bool)
        alone = fitted.members.logits(longest, valid, np.array([2 * LOOKBACK - 1], np.int32)).mean(axis=0)
        assert found.attribution.logit[:1] == pytest.approx(alone, abs=1e-5)
        short = found.sessions == LOOKBACK
        assert (found.attribution.values[short, LOOKBACK:] == 0).all()


def test_sessions_without_a_bar_are_closed_up() -> None:
    x, mask, _ = panel()
    read = read_before(x, mask, np.array([2 * SESSIONS + 92], np.int32), 4)
    assert np.array_equal(read[0], x[2, [87, 88, 89, 92]])


@pytest.mark.parametrize("mode", ["windowed", "sequence"])
def test_the_one_feature_that_an_ensemble_learned_is_found(mode: Any) -> None:
    x, mask, y = panel()
    y[:, :-1] = np.repeat(x[:, :-1, 1:2] > SCALING.mean[1], 2, axis=2)
    y[:, -1] = np.nan
    recipe = RecurrentModel(
        Network("gru", FEATURES, LOOKBACK, units=4, horizons=2, mode=mode),
        Training(epochs=15, batch_size=64, chunk=30, learning_rate=0.03, patience=6),
        members=2,
    )
    ranges = {"train": range(0, 160), "calibrate": range(200, 240)}
    fitted = recipe.fit(x, mask, y, **ranges, stop=range(161, 199), seed=1)
    found = inspect(fitted, x, mask, y, **ranges, judge=range(241, SESSIONS), seed=1)
    lags = LOOKBACK if mode == "windowed" else 4 * LOOKBACK
    assert found.sensitivity.shape == (2, lags, 2)
    assert [memory.half for memory in found.memory] == [0, 0]
    strength = np.nanmean(found.importance, axis=1)
    assert (strength[1] > 0.3).all()
    assert (np.abs(strength[[0, 2]]) < 0.1 * strength[1]).all()
    assert set(found.judged) <= set(range(241, SESSIONS))
    assert {one.layer for one in found.gradients} == {"recurrent_1", "logits"}
    again = inspect(fitted, x, mask, y, **ranges, judge=range(241, SESSIONS), seed=1)
    assert np.array_equal(found.importance, again.importance, equal_nan=True)


def test_an_inspection_does_not_change_the_ensemble() -> None:
    x, mask, y = panel()
    fitted = an_ensemble(NETWORKS[0])
    before = fitted.members.logits(x, mask, np.array([SESSIONS - 1], np.int32))
    inspect(fitted, x, mask, y, train=range(100), calibrate=range(101, 200), judge=range(201, 299), seed=0)
    after = replace(fitted).members.logits(x, mask, np.array([SESSIONS - 1], np.int32))
    assert np.array_equal(before, after)
