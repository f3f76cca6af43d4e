"""The networks are what their description and their papers say."""

import random
from pathlib import Path

import keras
import numpy as np
import pytest

from models.errors import ModelError
from models.networks.network import Kind, Network
from models.networks.recurrent import build, build_deployable, count_parameters
from models.scaling import Scaling
from models.windows import Mode

pytestmark = [pytest.mark.slow, pytest.mark.own_process]

SCALING = Scaling(np.array([1, -2, 0.5], dtype=np.float32), np.array([4, 0.01, 1], dtype=np.float32))
WINDOWS = np.random.default_rng(8).normal(0, 2, (16, 7, 3)).astype(np.float32)


def same(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    ("kind", "parameters"),
    # Input, recurrent and bias weights of each gate; Keras' GRU has two biases a gate.
    [("rnn", 3 * 8 + 8 * 8 + 8), ("gru", 3 * (3 * 8 + 8 * 8 + 2 * 8)), ("lstm", 4 * (3 * 8 + 8 * 8 + 8))],
)
def test_a_network_has_the_weights_of_its_equations(kind: Kind, parameters: int) -> None:
    assert (
        count_parameters(Network(kind, features=3, lookback=7, units=8, horizons=2)) == parameters + 2 * 8 + 2
    )


def test_rnn_is_elmans_network() -> None:
    model = build(Network("rnn", features=3, lookback=7, units=5), seed=1)
    w_xh, w_hh, b, w_hy, c = (np.float64(weight) for weight in model.get_weights())
    h = np.zeros((16, 5))
    for t in range(7):
        h = np.tanh(h @ w_hh + WINDOWS[:, t] @ w_xh + b)
    assert np.asarray(model(WINDOWS)) == pytest.approx(h @ w_hy + c, abs=1e-5)


@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
def test_the_scale_travels_inside_and_cuts_off_the_tails(kind: Kind) -> None:
    network = Network(kind, features=3, lookback=7, units=5)
    core, deployable = build(network, seed=1), build_deployable(network, SCALING)
    deployable.set_weights(core.get_weights())
    windows = WINDOWS.copy()
    windows[0, 3] = 1e9
    expected = core(np.clip((windows - [1, -2, 0.5]) / [2, 0.1, 1], -5, 5).astype(np.float32))
    assert np.asarray(deployable(windows)) == pytest.approx(np.asarray(expected), abs=1e-5)


def test_recurrent_weights_start_orthogonal() -> None:
    recurrent = build(Network("rnn", features=3, lookback=7, units=8), seed=1).get_weights()[1]
    assert recurrent @ recurrent.T == pytest.approx(np.eye(8), abs=1e-5)


def test_weights_follow_the_seed_and_no_global_generator() -> None:
    network = Network("gru", features=3, lookback=7, units=32, layers=2)
    first = build(network, seed=5).get_weights()
    random.seed(99)
    np.random.seed(98)
    keras.utils.set_random_seed(97)
    assert same(first, build(network, seed=5).get_weights())
    assert not same(first, build(network, seed=6).get_weights())


def test_layers_of_one_shape_start_differently() -> None:
    weights = build(Network("gru", features=8, lookback=7, units=8, layers=2), seed=5).get_weights()
    assert weights[0].shape == weights[3].shape
    assert not np.array_equal(weights[0], weights[3])


@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
def test_a_saved_network_loads_in_safe_mode_with_equal_logits(kind: Kind, tmp_path: Path) -> None:
    model = build_deployable(Network(kind, features=3, lookback=7, units=5, layers=2), SCALING)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True, compile=False)
    assert np.array_equal(np.asarray(loaded(WINDOWS)), np.asarray(model(WINDOWS)))


def test_a_description_that_cannot_be_built_is_refused() -> None:
    with pytest.raises(ModelError, match="rnn, gru, lstm"):
        Network("transformer", features=3, lookback=7)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="at least 1"):
        Network("gru", features=3, lookback=0)


@pytest.mark.parametrize("mode", ["windowed", "sequence"])
def test_a_linear_network_is_a_linear_map_of_the_window(mode: Mode) -> None:
    model = build(Network("linear", features=3, lookback=7, horizons=2, mode=mode), seed=1)
    kernel = np.random.default_rng(1).normal(size=(7, 3, 2)).astype(np.float32)
    model.set_weights([kernel, np.array([0.5, -1], np.float32)])
    made = np.asarray(model(WINDOWS))
    last = made if mode == "windowed" else made[:, -1]
    assert last == pytest.approx(np.einsum("btf,tfh->bh", WINDOWS, kernel) + np.array([0.5, -1]), abs=1e-4)


@pytest.mark.parametrize(
    ("lookback", "layers", "levels"), [(1, 1, 1), (2, 1, 1), (3, 1, 2), (20, 1, 5), (20, 2, 4)]
)
def test_a_tcn_has_as_many_levels_as_it_takes_to_read_the_lookback(
    lookback: int, layers: int, levels: int
) -> None:
    network = Network("tcn", features=3, lookback=lookback, units=5, layers=layers)
    assert network.dilations == tuple(2**level for level in range(levels))
    x = np.random.default_rng(1).normal(size=(4, 60, 3)).astype(np.float32)
    model = build(network, seed=1)
    weights = [np.abs(weight) + 0.1 for weight in model.get_weights()]  # nothing is cut off by relu
    model.set_weights(weights)
    for back, is_read in ((lookback - 1, True), (1 + layers * (2**levels - 1), False)):
        changed = np.abs(x)
        changed[:, -1 - back] += 1
        moved = np.asarray(model(changed)) != np.asarray(model(np.abs(x)))
        assert moved.all() == is_read, back


@pytest.mark.parametrize(("kind", "skip"), [("linear", False), ("tcn", False), ("tcn", True), ("gru", True)])
def test_later_sessions_change_no_earlier_logit(kind: Kind, skip: bool) -> None:
    network = Network(kind, features=3, lookback=4, units=5, mode="sequence", linear_skip=skip)
    model = build(network, seed=1)
    rng = np.random.default_rng(2)
    model.set_weights([rng.normal(size=weight.shape).astype(np.float32) for weight in model.get_weights()])
    changed = WINDOWS.copy()
    changed[:, 5:] += 3
    before, after = np.asarray(model(WINDOWS)), np.asarray(model(changed))
    assert np.array_equal(before[:, :5], after[:, :5])
    assert not np.array_equal(before[:, 5:], after[:, 5:])


@pytest.mark.parametrize(("kind", "skip"), [("linear", False), ("tcn", True), ("gru", True)])
def test_the_last_weight_is_the_bias_of_the_logits(kind: Kind, skip: bool) -> None:
    for mode in ("windowed", "sequence"):
        model = build(Network(kind, 3, 7, 5, 2, 2, mode=mode, linear_skip=skip), seed=1)
        assert model.weights[-1] is model.get_layer("logits").bias


def test_parts_that_a_kind_lacks_are_refused() -> None:
    for wrong in ({"kind": "tcn", "attention": True}, {"kind": "linear", "convolution": 2}):
        with pytest.raises(ModelError, match="belong to recurrent networks"):
            Network(features=3, lookback=7, **wrong)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="no linear skip"):
        Network("linear", 3, 7, linear_skip=True)


def test_a_description_is_that_of_earlier_versions_where_nothing_new_is_in_it() -> None:
    assert "linear_skip" not in Network("gru", 3, 7).to_json()
    skipping = Network("gru", 3, 7, linear_skip=True)
    assert Network(**skipping.to_json()) == skipping
