"""The compiled epoch does what plain Keras does, and stops where it should."""

import pickle
from dataclasses import replace

import keras
import numpy as np
import pytest
from sklearn.metrics import log_loss

from models.networks.network import Network
from models.networks.recurrent import build, build_deployable
from models.scaling import Scaling
from models.training.trainer import DivergenceError, Epoch, Examples, Trainer, Training

pytestmark = [pytest.mark.slow, pytest.mark.own_process]

NETWORK = Network("gru", features=4, lookback=5, units=8)
SYMBOLS, SESSIONS = 6, 60


def examples(train: int, horizons: int = 1) -> Examples:
    """Return noise with `train` rows to learn from and 40 to stop on."""
    rng = np.random.default_rng(9)
    panel = rng.standard_normal((SYMBOLS * SESSIONS, 4)).astype(np.float32)
    labels = (rng.random((SYMBOLS * SESSIONS, horizons)) < 0.5).astype(np.float32)
    rows = np.array([s * SESSIONS + t for t in range(4, SESSIONS) for s in range(SYMBOLS)], np.int32)
    spans = np.stack([rows - 4, rows + 1], axis=1)
    return Examples(
        panel,
        labels,
        order=np.arange(SYMBOLS * SESSIONS, dtype=np.int32),
        train=spans[:train],
        stop=spans[-40:],
        base_rate=labels[rows[:train]].mean(axis=0, dtype=np.float64),
    )


def windows(given: Examples, spans: np.ndarray) -> np.ndarray:
    return np.stack([given.panel[first:stop] for first, stop in spans])


def labels(given: Examples, spans: np.ndarray) -> np.ndarray:
    return given.labels[spans[:, 1] - 1]


def compiled(network: Network, training: Training, seed: int) -> keras.Model:
    # Of Keras' own layers, as it is saved; the trainer's layers compute their gradients otherwise.
    model = build_deployable(network, Scaling(np.zeros(4, np.float32), np.ones(4, np.float32)))
    model.set_weights(build(network, seed).get_weights())
    adam = keras.optimizers.Adam(training.learning_rate, global_clipnorm=training.clip_norm)
    model.compile(adam, keras.losses.BinaryCrossentropy(from_logits=True))
    return model


def largest_difference(one: list[np.ndarray], other: list[np.ndarray]) -> float:
    return max(float(np.abs(a - b).max()) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("train", [160, 153], ids=["full batches", "a short last batch"])
def test_an_epoch_takes_the_steps_that_plain_keras_takes(train: int) -> None:
    training = Training(epochs=1, batch_size=16, learning_rate=1e-2, clip_norm=0.1)
    given = examples(train)
    weights, history, _ = Trainer(NETWORK, training).train(given, seed=3)
    plain = compiled(NETWORK, training, seed=3)
    # Both start at the base rate: the logit of the share of ups is the output's first bias.
    ups = labels(given, given.train).mean()
    plain.set_weights([*plain.get_weights()[:-1], np.array([np.log(ups / (1 - ups))], np.float32)])
    rng = np.random.default_rng(3)
    rng.integers(1, size=train)  # where chunks would be cut: a window is one
    order = rng.permutation(given.train)
    for start in range(0, train, 16):
        spans = order[start : start + 16]
        plain.train_on_batch(windows(given, spans), labels(given, spans))
    assert largest_difference(weights, plain.get_weights()) < 2e-6
    assert largest_difference(weights, build(NETWORK, 3).get_weights()) > 1e-2
    assert history[0].gradient_norm > training.clip_norm


def test_the_stop_range_is_scored_on_its_known_labels_alone() -> None:
    network = replace(NETWORK, horizons=2)
    given = examples(160, horizons=2)
    given.labels[given.stop[::3, 1] - 1, 1] = np.nan
    weights, (epoch,), _ = Trainer(network, Training(epochs=1, learning_rate=1e-3)).train(given, seed=3)
    model = build(network, 0)
    model.set_weights(weights)
    p_up = 1 / (1 + np.exp(-np.float64(model(windows(given, given.stop)))))
    known = ~np.isnan(labels(given, given.stop))
    y = labels(given, given.stop)[known]
    assert epoch.stop_loss == pytest.approx(log_loss(y, p_up[known]), abs=1e-6)
    assert epoch.stop_hit_rate == pytest.approx(np.mean((p_up[known] > 0.5) == y))


def test_an_unknown_label_moves_no_weight() -> None:
    network = replace(NETWORK, horizons=2)
    given = examples(160, horizons=2)
    given.labels[:, 1] = np.nan
    given.labels[given.stop[:, 1] - 1, 1] = 1
    given.base_rate[1] = 0.5
    weights, _, _ = Trainer(network, Training(epochs=2, learning_rate=1e-3)).train(given, seed=3)
    start = build(network, 3).get_weights()
    assert np.array_equal(weights[-2][:, 1], start[-2][:, 1])
    assert not np.array_equal(weights[-2][:, 0], start[-2][:, 0])


@pytest.mark.parametrize("smooth", [1, 3])
def test_training_stops_after_patience_and_keeps_the_weights_of_the_best_smoothed_loss(smooth: int) -> None:
    # Noise learned at a high rate: the stop loss soon rises.
    given, reported = examples(160), list[Epoch]()
    training = Training(epochs=30, batch_size=16, learning_rate=1e-2, patience=3, smooth_epochs=smooth)
    trainer = Trainer(NETWORK, training)
    weights, history, refitted = trainer.train(given, seed=1, member=2, members=5, progress=reported.append)
    losses = [epoch.stop_loss for epoch in history]
    means = [np.mean(losses[max(last - smooth, 0) : last]) for last in range(1, len(losses) + 1)]
    best = history[int(np.argmin(means))]
    assert len(history) == best.epoch + 3 < 30
    assert reported == history
    assert refitted == []
    assert [epoch.is_last for epoch in reported] == [False] * (len(history) - 1) + [True]
    assert {(epoch.member, epoch.members, epoch.epochs) for epoch in reported} == {(2, 5, 30)}
    model = compiled(NETWORK, Training(), seed=0)
    model.set_weights(weights)
    again = model.evaluate(windows(given, given.stop), labels(given, given.stop), verbose=0)
    assert again == pytest.approx(best.stop_loss, abs=1e-5)


def test_the_second_fit_takes_the_epochs_that_were_best_on_all_rows() -> None:
    training = Training(epochs=30, batch_size=16, learning_rate=1e-2, patience=3)
    first, reported = examples(160), list[Epoch]()
    every = np.concatenate([first.train, first.stop])
    rate = np.array([0.45])
    both = replace(first, refit=every, refit_base_rate=rate)
    trained = Trainer(NETWORK, training).train(both, seed=1, progress=reported.append)
    alone = Trainer(NETWORK, training).train(first, seed=1)
    assert (trained.epochs[-1].epoch, trained.epochs[-1].is_last) == (alone.epochs[-1].epoch, False)
    assert largest_difference(trained.weights, alone.weights) == 0
    best = trained.epochs[-1].epoch - training.patience
    second = reported[len(trained.epochs) :]
    assert [epoch.epoch for epoch in second] == [len(trained.epochs) + k for k in range(1, best + 1)]
    assert np.isnan([epoch.stop_loss for epoch in second]).all()
    assert [epoch.is_last for epoch in second] == [False] * (best - 1) + [True]
    # The same as a fit on these rows that ends there.
    plain = replace(first, train=every, base_rate=rate)
    until = Trainer(NETWORK, replace(training, epochs=best, patience=99)).train(plain, seed=1)
    assert [epoch.loss for epoch in until.epochs] == [epoch.loss for epoch in second]
    assert largest_difference(trained.refitted, alone.weights) > 0


def test_a_member_is_the_same_whatever_was_trained_before_it() -> None:
    training = Training(epochs=2, batch_size=16, learning_rate=1e-3)
    used, fresh = Trainer(NETWORK, training), Trainer(NETWORK, training)
    used.train(examples(160), seed=1)
    after, alone = used.train(examples(153), seed=2), fresh.train(examples(153), seed=2)
    assert largest_difference(after[0], alone[0]) == 0
    assert after[1] == alone[1]


def test_folds_of_different_length_share_one_compilation() -> None:
    trainer = Trainer(NETWORK, Training(epochs=1, batch_size=16, learning_rate=1e-3))
    for train in (160, 153, 40):
        trainer.train(examples(train), seed=train)
    assert trainer._graphs.learn.experimental_get_tracing_count() == 1
    assert trainer._graphs.measure.experimental_get_tracing_count() == 1


def test_a_loss_that_is_not_finite_is_an_error_that_names_member_and_epoch() -> None:
    trainer = Trainer(NETWORK, Training(epochs=3, batch_size=16, learning_rate=3e38))
    with pytest.raises(DivergenceError, match="diverged") as failed:
        trainer.train(examples(160), seed=4, member=2, members=3)
    assert "member 2 of 3 (seed 4), epoch 1" in str(failed.value)
    assert failed.value.weights == []


def test_what_diverged_crosses_processes_with_the_last_good_weights() -> None:
    good = [np.ones((2, 3), np.float32)]
    fallen = DivergenceError("it diverged", where="member 1", fix="learn slower", weights=good)
    again = pickle.loads(pickle.dumps(fallen))
    assert str(again) == str(fallen)
    assert np.array_equal(again.weights[0], good[0])


def test_training_goes_on_from_given_weights() -> None:
    still, given = Trainer(NETWORK, Training(epochs=1, learning_rate=1e-12)), examples(160)
    start = [weight + 0.3 for weight in build(NETWORK, 5).get_weights()]
    weights, (epoch,), _ = still.train(given, seed=3, start=start)
    model = compiled(NETWORK, Training(), seed=0)
    model.set_weights(start)
    expected = model.evaluate(windows(given, given.train), labels(given, given.train), verbose=0)
    assert epoch.loss == pytest.approx(expected, abs=1e-5)
    assert largest_difference(weights, start) < 1e-6


def test_the_cosine_schedule_falls_from_the_whole_rate_to_nearly_none() -> None:
    training = Training(epochs=4, learning_rate=0.1, schedule="cosine")
    expected = [0.1, 0.05 * (1 + 2**-0.5), 0.05, 0.05 * (1 - 2**-0.5)]
    assert [training.rate(epoch) for epoch in (1, 2, 3, 4)] == pytest.approx(expected)
    assert Training(learning_rate=0.1).rate(7) == 0.1
