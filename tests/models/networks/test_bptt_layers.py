"""The gradients that are written out by hand are those that TensorFlow derives from Keras' own layers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.networks import recurrent
from models.networks.network import Kind, Network
from models.networks.recurrent import KINDS, build, build_deployable, build_to_train
from models.scaling import Scaling
from models.training.trainer import Examples, Trainer, Training
from models.windows import closed_up, example_spans

pytestmark = [pytest.mark.slow, pytest.mark.own_process]

NO_SCALE = Scaling(np.zeros(4, np.float32), np.ones(4, np.float32))
INPUTS = np.random.default_rng(3).uniform(-2, 2, (5, 12, 4)).astype(np.float32)
NETWORKS = [
    Network("gru", features=4, lookback=6, units=8),
    Network("gru", features=4, lookback=6, units=8, mode="sequence", layers=3, horizons=2),
    Network("gru", features=4, lookback=6, units=8, mode="sequence", convolution=3, attention=True),
    Network("lstm", features=4, lookback=6, units=8, layers=2, attention=True),
    Network("lstm", features=4, lookback=6, units=8, mode="sequence"),
    Network("lstm", features=4, lookback=6, units=8, layers=2, convolution=2),
    Network("rnn", features=4, lookback=6, units=8, layers=2),
    Network("rnn", features=4, lookback=6, units=8, mode="sequence", convolution=3, attention=True),
]


def outputs_and_gradients(model: keras.Model, jit_compile: bool) -> list[np.ndarray]:
    """Return the outputs, and the gradients of a weighted sum of them to the inputs and to every weight."""

    @tf.function(jit_compile=jit_compile)
    def compute(inputs: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = model(inputs, training=True)
            flat = tf.reshape(outputs, [-1])
            total = tf.reduce_sum(flat * tf.cos(tf.range(tf.cast(tf.size(flat), tf.float32))))
        return [outputs, *tape.gradient(total, [inputs, *model.trainable_variables])]

    return [result.numpy() for result in compute(tf.constant(INPUTS))]


@pytest.mark.parametrize(
    ("network", "jit_compile"),
    [*((network, True) for network in NETWORKS), *((network, False) for network in NETWORKS[::3])],
    ids=str,
)
def test_outputs_and_all_gradients_are_those_of_the_deployed_network(
    network: Network, jit_compile: bool
) -> None:
    by_hand, stock = build_to_train(network, seed=1), build_deployable(network, NO_SCALE)
    rng = np.random.default_rng(4)
    weights = [rng.normal(0, 0.4, weight.shape).astype(np.float32) for weight in by_hand.get_weights()]
    for model in (by_hand, stock):
        model.set_weights(weights)
    ours, theirs = outputs_and_gradients(by_hand, jit_compile), outputs_and_gradients(stock, jit_compile)
    assert len(ours) == 2 + len(weights)
    # Sums of terms of either sign come out as exact as their terms, of about the largest gradient's size, are.
    rounding = 1e-6 * max(float(np.abs(part).max()) for part in theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert np.abs(other).max() > 10 * rounding
        assert one == pytest.approx(other, rel=1e-5, abs=rounding)


def examples(network: Network) -> Examples:
    """Return noise: 4 symbols, 40 sessions, some labels unknown, spans that no whole number of chunks fills."""
    rng = np.random.default_rng(5)
    mask, session = np.ones((4, 40), dtype=bool), np.arange(40)
    labels = (rng.random((4 * 40, network.horizons)) < 0.5).astype(np.float32)
    labels[rng.random(labels.shape) < 0.1] = np.nan
    train, stop = (
        example_spans(
            mask,
            np.flatnonzero(mask & (first <= session) & (session < last)).astype(np.int32),
            network.lookback,
            joined=network.mode == "sequence",
        )
        for first, last in ((network.lookback, 30), (31, 40))
    )
    panel = rng.standard_normal((4 * 40, 4)).astype(np.float32)
    return Examples(panel, labels, closed_up(mask), train, stop, base_rate=np.full(network.horizons, 0.5))


def trained(network: Network, runs: int = 1) -> list[list[np.ndarray]]:
    """Return the weights after an epoch, of as many runs of one trainer."""
    trainer = Trainer(network, Training(epochs=1, batch_size=16, chunk=12, learning_rate=1e-3))
    return [trainer.train(examples(network), seed=1)[0] for _ in range(runs)]


@pytest.mark.proof
@pytest.mark.parametrize("network", NETWORKS[1::2], ids=str)
def test_an_epoch_ends_where_keras_own_layers_end(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    by_hand, again = trained(network, runs=2)
    monkeypatch.setattr(recurrent, "TRAINED", KINDS)
    (stock,) = trained(network)
    start = build(network, seed=1).get_weights()
    for one, same, other in zip(by_hand, again, stock, strict=True):
        assert np.array_equal(one, same)
        assert np.abs(one - other).max() < 1e-6
    assert max(np.abs(one - before).max() for one, before in zip(by_hand, start, strict=True)) > 1e-3


@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
def test_the_deployed_network_holds_nothing_but_keras_own_layers(kind: Kind) -> None:
    network = Network(kind, features=4, lookback=6, units=32, layers=2)
    modules = {type(layer).__module__ for layer in build_deployable(network, NO_SCALE).layers}
    assert all(module.startswith("keras.") for module in modules)
    assert "models.networks.bptt_layers" in {
        type(layer).__module__ for layer in build_to_train(network, 1).layers
    }
