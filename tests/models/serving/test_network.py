"""The served network computes what Keras computes, and its gradients are those of TensorFlow."""

from itertools import product

import numpy as np
import pytest
import tensorflow as tf

from models.errors import ModelError
from models.networks.network import Kind, Network
from models.networks.recurrent import build
from models.serving.network import ServedNetwork, weight_shapes

pytestmark = [pytest.mark.slow, pytest.mark.own_process]

LOOKBACK, FEATURES = 6, 4
NETWORKS = [
    Network(kind, FEATURES, LOOKBACK, 5, layers, 2, convolution, attention, mode)
    for kind, (layers, convolution, attention), mode in product(
        ("rnn", "gru", "lstm"),
        [(1, 0, False), (2, 3, False), (1, 0, True), (2, 3, True)],
        ("windowed", "sequence"),
    )
]
NETWORKS += [
    Network(kind, FEATURES, LOOKBACK, 5, layers, 2, mode=mode, linear_skip=skip)
    for (kind, layers, skip), mode in product(
        [("linear", 1, False), ("tcn", 1, False), ("tcn", 2, True), ("gru", 2, True)],
        ("windowed", "sequence"),
    )
]


def random_members(network: Network, count: int) -> list[list[np.ndarray]]:
    chance = np.random.default_rng(1)
    return [
        [chance.normal(0, 0.5, s).astype(np.float32) for s in weight_shapes(network)] for _ in range(count)
    ]


def inputs(network: Network, rows: int = 7) -> np.ndarray:
    length = LOOKBACK if network.mode == "windowed" else 2 * LOOKBACK - 1
    return np.random.default_rng(2).normal(size=(rows, length, FEATURES)).astype(np.float32)


@pytest.mark.parametrize(
    "network",
    NETWORKS,
    ids=lambda n: f"{n.kind}-{n.layers}-{n.convolution}-{n.attention}-{n.linear_skip}-{n.mode}",
)
def test_logits_and_gradients_are_those_of_keras(network: Network) -> None:
    model, members, x = build(network, seed=1), random_members(network, 3), inputs(network)
    served = ServedNetwork(network, members)
    logits, gradients = served.logits(x), 0
    for own, weights in zip(logits, members, strict=True):
        model.set_weights(weights)
        watched = tf.constant(x)
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(watched)
            expected = model(watched)
            last = expected if network.mode == "windowed" else expected[:, -1]
            sums = [tf.reduce_sum(last[:, horizon]) for horizon in range(2)]
        assert own == pytest.approx(expected.numpy(), abs=5e-6)
        gradients = gradients + np.stack([tape.gradient(total, watched) for total in sums], axis=-1) / 3
    assert served.gradients(x) == pytest.approx(gradients, abs=2e-5)


@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
def test_a_row_has_the_same_logit_in_every_company(kind: Kind) -> None:
    network = Network(kind, FEATURES, LOOKBACK)
    served, x = ServedNetwork(network, random_members(network, 2)), inputs(network, rows=40)
    together = served.logits(x)
    assert served.logits(x[5:6])[:, 0] == pytest.approx(together[:, 5], abs=1e-12)


def test_weights_of_another_network_are_refused() -> None:
    members = random_members(Network("gru", FEATURES, LOOKBACK, units=4), 1)
    with pytest.raises(ModelError, match="weights have shapes"):
        ServedNetwork(Network("gru", FEATURES, LOOKBACK, units=5), members)
