"""The classic exercise: an image read row by row. Scikit-learn's digits, 8 rows of 8 pixels, are told apart."""

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from models.networks.network import Kind, Network
from models.networks.recurrent import build, count_parameters

pytestmark = pytest.mark.proof

SEEDS, EPOCHS, BATCH = 3, 40, 64


def learned(kind: Kind, seed: int) -> float:
    """Return the share of the held-out third that a network of ours, trained by plain Keras, gets right."""
    digits = load_digits()
    images = (digits.images / 8 - 1).astype(
        np.float32
    )  # from -1 to 1: gates that start half open want centred inputs
    known, held_out, labels, truth = train_test_split(
        images, digits.target, test_size=1 / 3, stratify=digits.target, random_state=seed
    )
    model = build(Network(kind, features=8, lookback=8, units=128, horizons=10), seed)
    rate = keras.optimizers.schedules.CosineDecay(5e-3, EPOCHS * -(-len(known) // BATCH))
    model.compile(
        keras.optimizers.Adam(rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    keras.utils.set_random_seed(seed)  # the order in which Keras draws its batches
    model.fit(known, labels, epochs=EPOCHS, batch_size=BATCH, verbose=0)
    return float(np.mean(np.argmax(model.predict(held_out, verbose=0), axis=1) == truth))


@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
def test_digits_read_row_by_row_are_told_apart(kind: Kind) -> None:
    shares = [learned(kind, seed) for seed in range(SEEDS)]
    assert np.mean(shares) >= 0.965, shares


@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
def test_longer_images_take_no_more_parameters(kind: Kind) -> None:
    sizes = {count_parameters(Network(kind, 8, lookback, units=128, horizons=10)) for lookback in (1, 8, 800)}
    assert len(sizes) == 1
    model = build(Network(kind, 8, 8, units=16, horizons=10), seed=1)
    for rows in (1, 8, 50):
        assert model(np.zeros((2, rows, 8), np.float32)).shape == (2, 10)
