"""Dropout, weight decay, adversarial training and weights of rows do what their formulas say, in training alone."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.networks.network import Network
from models.serving.network import weight_shapes
from models.training.graphs import EPSILON, STEPS, Graphs, Regularization
from models.training.trainer import Training

pytestmark = [pytest.mark.slow, pytest.mark.own_process]

CHUNK, LOOKBACK = 8, 4
NETWORK = Network("rnn", features=3, lookback=LOOKBACK, units=5, horizons=2, mode="sequence")
RNG = np.random.default_rng(3)
PANEL = RNG.standard_normal((40, 3)).astype(np.float32)
LABELS = np.where(RNG.random((40, 2)) < 0.2, np.nan, RNG.random((40, 2)) < 0.5).astype(np.float32)
DATA = (PANEL, LABELS, np.arange(40, dtype=np.int32))
CHUNKS = np.array([[0, 8], [16, 24]], np.int32)
BATCHES = np.tile(CHUNKS, (STEPS, 1, 1))
ROWS = np.array([np.arange(0, 8), np.arange(16, 24)])
WEIGHTS = [RNG.normal(0, 0.5, shape).astype(np.float32) for shape in weight_shapes(NETWORK)]


def graphs(**regularization: float) -> Graphs:
    made = Graphs(NETWORK, CHUNK, clip_norm=1.0, regularization=Regularization(**regularization))
    made.restart(WEIGHTS, seed=1)
    return made


def learned(made: Graphs, data: Any = DATA, steps: int = 1) -> list[np.ndarray]:
    made.set_rate(0.01)
    made.learn(tuple(map(tf.constant, data)), tf.constant(BATCHES), tf.constant(steps))
    return [np.asarray(weight) for weight in made.core.get_weights()]


def test_the_adversarial_loss_is_that_after_the_step_along_its_gradient() -> None:
    made = graphs(adversarial=0.5)
    loss, _, _, further = made._loss(tuple(map(tf.constant, DATA)), tf.constant(CHUNKS), training=True)
    output = made.core.get_layer("logits")
    states = keras.Model(made.core.input, output.input)(PANEL[ROWS])[:, LOOKBACK - 1 :]
    labels = LABELS[ROWS][:, LOOKBACK - 1 :]
    known = ~np.isnan(labels)

    def log_loss(states: Any) -> Any:
        logits = output(states)
        losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=np.nan_to_num(labels), logits=logits)
        return tf.reduce_sum(tf.where(known, losses, 0.0))

    with tf.GradientTape() as tape:
        tape.watch(states)
        clean = log_loss(states)
    gradient = tape.gradient(clean, states).numpy()
    norm = np.linalg.norm(gradient, axis=-1, keepdims=True)
    step = EPSILON * np.divide(gradient, norm, out=np.zeros_like(gradient), where=norm > 0)
    assert float(loss) == pytest.approx(float(clean), rel=1e-5)
    assert float(further) == pytest.approx(0.5 * float(log_loss(states + step)), rel=1e-5)
    assert float(further) > 0.5 * float(clean)


def test_decay_takes_its_share_of_all_weights_but_biases() -> None:
    plain, decayed = learned(graphs()), learned(graphs(weight_decay=2.0))
    names = [variable.name for variable in graphs().core.weights]
    for name, start, one, other in zip(names, WEIGHTS, plain, decayed, strict=True):
        lost = 0.0 if name == "bias" else 0.01 * 2.0
        np.testing.assert_allclose(other, one - lost * start, atol=1e-6)


def test_dropout_is_drawn_by_the_seed_and_leaves_measuring_alone() -> None:
    made = graphs(dropout=0.5)
    first = learned(made, steps=3)
    made.restart(WEIGHTS, seed=1)
    again = learned(made, steps=3)
    made.restart(WEIGHTS, seed=2)
    other = learned(made, steps=3)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])
    made.restart(WEIGHTS, seed=1)
    given = tuple(map(tf.constant, DATA)), tf.constant(BATCHES), tf.constant(1)
    np.testing.assert_array_equal(made.measure(*given).numpy(), graphs().measure(*given).numpy())


def test_a_row_without_weight_is_not_learned() -> None:
    kept = np.ones(40, np.float32)
    kept[16:24] = 0
    weighted = learned(graphs(), (*DATA, kept))
    without = np.where(np.arange(40)[:, None] < 16, LABELS, np.nan).astype(np.float32)
    alone = learned(graphs(), (DATA[0], without, DATA[2]))
    for one, other in zip(
        weighted, alone, strict=True
    ):  # Adam does not see the size of the loss, only its direction
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_settings_are_saved_as_before_where_nothing_is_on() -> None:
    assert set(Training().to_json()) & {"dropout", "weight_decay", "adversarial"} == set()
    assert Training(dropout=0.2).to_json()["dropout"] == 0.2
