"""The training loop of both modes: compiled graphs of many steps around the network.

A chunk is a run of valid sessions of one symbol. Its labels count in the loss from the `lookback`-th session on; the
sessions before only warm up the state. Windowed training uses chunks of `lookback` sessions, with one label each.
Sequence training cuts each symbol's history into longer chunks, with other borders every epoch, and so pays for one
warm-up per chunk instead of one per label.

The panel is in memory once; the graph gathers the chunks of a step from it. Folds of different length and all
members of an ensemble share one compilation.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from scipy.special import logit

from models.errors import ModelError
from models.networks.network import Network
from models.networks.recurrent import build_to_train
from models.windows import Spans, cut_into_chunks

__all__ = ["DivergenceError", "Epoch", "Examples", "Trainer", "Training", "Weights"]

Weights = list[NDArray[np.float32]]

_STEPS: Final = 64
"""Steps per call of the graph: its shape does not depend on the number of examples."""


@dataclass(frozen=True)
class Training:
    """How a network is trained.

    Attributes:
        epochs: Maximum number of passes over the training rows.
        batch_size: Labels per step, approximately: a step takes as many whole chunks as fit, at least one.
        chunk: Sessions per chunk in sequence mode; a windowed chunk has `lookback` sessions.
        learning_rate: Step size of Adam (Kingma and Ba 2015).
        schedule: constant; or cosine: from `learning_rate` to zero over `epochs` (Loshchilov and Hutter 2017).
        clip_norm: Bound on the norm of all gradients together (Pascanu et al. 2013).
        patience: Epochs without a better log loss on the stop range before training ends.
    """

    epochs: int = 20
    batch_size: int = 256
    chunk: int = 252
    learning_rate: float = 3e-4
    schedule: Literal["constant", "cosine"] = "constant"
    clip_norm: float = 1.0
    patience: int = 4

    def rate(self, epoch: int) -> float:
        """Return the learning rate of an epoch, counted from 1."""
        if self.schedule == "constant":
            return self.learning_rate
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (epoch - 1) / self.epochs))


@dataclass(frozen=True)
class Epoch:
    """Results of one epoch of one member.

    Attributes:
        member: Number of the member, from 1.
        members: How many there are.
        epoch: Number of the epoch, from 1.
        epochs: Maximum number of epochs.
        loss: Mean log loss of the training labels, in nats, each step before its update.
        hit_rate: Share of training labels on the right side of p = 0.5.
        stop_loss: Mean log loss on the stop range after the epoch.
        stop_hit_rate: Hit rate on the stop range after the epoch.
        gradient_norm: Mean norm of all gradients together, before clipping.
    """

    member: int
    members: int
    epoch: int
    epochs: int
    loss: float
    hit_rate: float
    stop_loss: float
    stop_hit_rate: float
    gradient_norm: float


@dataclass(frozen=True)
class Examples:
    """The examples that all members of one fit are trained on.

    Attributes:
        panel: Scaled features, float32 [symbol * session, feature].
        labels: float32 [symbol * session, horizon] in {0, 1}, NaN where unknown.
        order: Flat numbers of the valid rows in reading order, int32 [place].
        train: Places in `order` to train on, (first, stop), int32 [example, 2]: windows, or in sequence mode spans
            of any length that training cuts into chunks.
        stop: Places that decide when to stop, in the same form.
        base_rate: Share of ups among the training labels, [horizon].
    """

    panel: NDArray[np.float32]
    labels: NDArray[np.float32]
    order: NDArray[np.int32]
    train: Spans
    stop: Spans
    base_rate: NDArray[np.float64]


class DivergenceError(ModelError):
    """The loss or the gradient of a training is no longer finite.

    Attributes:
        weights: The best weights until then, by log loss on the stop range; empty if there were none yet.
        member: Number of the member, from 1.
        seed: Its seed.
        epoch: The epoch in which it happened, from 1.
        row: The symbol's row in the block, where each symbol has its own network.
    """

    row: int | None = None

    def __init__(
        self,
        what: str,
        *,
        where: str = "",
        fix: str = "",
        weights: Weights | None = None,
        member: int = 0,
        seed: int = 0,
        epoch: int = 0,
    ) -> None:
        super().__init__(what, where=where, fix=fix)
        self.weights, self.member, self.seed, self.epoch = weights or [], member, seed, epoch


@dataclass(frozen=True)
class _Pass:
    """Means over one pass."""

    loss: float
    hit_rate: float
    gradient_norm: float


class Trainer:
    """One compiled network that trains one member after another; not thread-safe.

    Every run starts with a fresh optimizer, from weights that depend on its seed alone, or from given weights.
    """

    def __init__(self, network: Network, training: Training) -> None:
        if network.mode == "sequence" and training.chunk <= network.lookback:
            raise ModelError(
                f"a chunk of {training.chunk} sessions leaves no room for labels after a lookback of "
                f"{network.lookback}",
                where="[training] chunk, [model] lookback",
                fix="make the chunk a few times as long as the lookback",
            )
        self._network, self._training = network, training
        self._chunk = training.chunk if network.mode == "sequence" else network.lookback
        self._labels_per_chunk = self._chunk - network.lookback + 1
        self._chunks_per_step = max(training.batch_size // self._labels_per_chunk, 1)
        self._core = build_to_train(network, seed=0)
        self._optimizer = keras.optimizers.Adam(training.learning_rate, global_clipnorm=training.clip_norm)
        self._optimizer.build(self._core.trainable_variables)
        self._fresh_state = [variable.numpy() for variable in self._optimizer.variables]
        self._learn = tf.function(self._learn_graph, autograph=False, jit_compile=True)
        self._measure = tf.function(self._measure_graph, autograph=False, jit_compile=True)

    def train(
        self,
        examples: Examples,
        seed: int,
        *,
        member: int = 1,
        members: int = 1,
        progress: Callable[[Epoch], None] | None = None,
        start: Weights | None = None,
    ) -> tuple[Weights, list[Epoch]]:
        """Train one member; return its best weights, by log loss on the stop rows, and all its epochs.

        Args:
            examples: The examples of the fit.
            seed: Decides the initial weights and the order of the steps.
            member: Its number, from 1.
            members: How many there are.
            progress: Called after every epoch.
            start: Initial weights of a warm start, instead of those of the seed.

        Raises:
            DivergenceError: the loss is no longer finite.
        """
        best: Weights = []
        best_loss, waited, history = np.inf, 0, []
        self._reset(seed, examples.base_rate, start)
        for number, (learned, stopped) in enumerate(self._passes(examples, seed), start=1):
            if not np.isfinite([learned.loss, learned.gradient_norm, stopped.loss]).all():
                raise DivergenceError(
                    f"training diverged: loss {learned.loss}, gradient norm {learned.gradient_norm}, "
                    f"stop loss {stopped.loss}",
                    where=f"member {member} of {members} (seed {seed}), epoch {number}",
                    fix="lower the learning rate or the clip norm, and check for extreme feature values",
                    weights=best,
                    member=member,
                    seed=seed,
                    epoch=number,
                )
            epoch = Epoch(
                *(member, members, number, self._training.epochs),
                *(learned.loss, learned.hit_rate, stopped.loss, stopped.hit_rate, learned.gradient_norm),
            )
            history.append(epoch)
            if progress is not None:
                progress(epoch)
            if epoch.stop_loss < best_loss:
                best, best_loss, waited = self._core.get_weights(), epoch.stop_loss, 0
            else:
                waited += 1
            if waited >= self._training.patience:
                break
        return best, history

    def _passes(self, examples: Examples, seed: int) -> Iterator[tuple[_Pass, _Pass]]:
        """Yield the means of each epoch: on the training rows while it learns, then on the stop range."""
        rng = np.random.default_rng(seed)
        # The graph's inputs are copied into TensorFlow once, not every epoch.
        order = np.zeros(len(examples.panel), np.int32)  # padded: one shape for folds of any length
        order[: len(examples.order)] = examples.order
        data = tuple(tf.constant(part) for part in (examples.panel, examples.labels, order))
        stop_chunks = self._cut(examples.stop, np.zeros(len(examples.stop), np.int64))
        for epoch in range(1, self._training.epochs + 1):
            self._optimizer.learning_rate.assign(self._training.rate(epoch))
            chunks = self._cut(examples.train, rng.integers(self._labels_per_chunk, size=len(examples.train)))
            learned = self._run(self._learn, data, rng.permutation(chunks))
            yield learned, self._run(self._measure, data, stop_chunks)

    def _cut(self, spans: Spans, shift: NDArray[np.int64]) -> Spans:
        return cut_into_chunks(spans, self._chunk, self._network.lookback, shift)

    def _reset(self, seed: int, base_rate: NDArray[np.float64], start: Weights | None) -> None:
        weights = start or build_to_train(self._network, seed).get_weights()
        if start is None:
            # The last weight is the bias of the logits: an untrained network predicts the base rate, and calibration,
            # which scales logits relative to it, leaves that unchanged.
            weights[-1] = np.asarray(logit(np.clip(base_rate, 0.01, 0.99)), np.float32)
        self._core.set_weights(weights)
        for variable, value in zip(self._optimizer.variables, self._fresh_state, strict=True):
            variable.assign(value)

    def _run(self, graph: Callable[..., tf.Tensor], data: tuple[tf.Tensor, ...], chunks: Spans) -> _Pass:
        steps = -(-len(chunks) // self._chunks_per_step)
        filled = np.full((-(-steps // _STEPS) * _STEPS * self._chunks_per_step, 2), -1, np.int32)
        filled[: len(chunks)] = chunks
        total = np.zeros(4)
        for number, batches in enumerate(filled.reshape(-1, _STEPS, self._chunks_per_step, 2)):
            left = tf.constant(min(steps - number * _STEPS, _STEPS))
            total += graph(*data, tf.constant(batches), left).numpy()
        loss, hits, known, norm = total
        return _Pass(float(loss / known), float(hits / known), float(norm / steps))

    def _learn_graph(
        self, panel: tf.Tensor, labels: tf.Tensor, order: tf.Tensor, batches: tf.Tensor, steps: tf.Tensor
    ) -> tf.Tensor:
        variables = self._core.trainable_variables

        def step(chunks: tf.Tensor) -> tf.Tensor:
            with tf.GradientTape() as tape:
                loss, hits, known = self._loss(panel, labels, order, chunks, training=True)
                mean = loss / tf.maximum(known, 1.0)
            gradients = tape.gradient(mean, variables)
            self._optimizer.apply(gradients, variables)
            return tf.stack([loss, hits, known, tf.linalg.global_norm(gradients)])

        return _sum_over(batches, steps, step)

    def _measure_graph(
        self, panel: tf.Tensor, labels: tf.Tensor, order: tf.Tensor, batches: tf.Tensor, steps: tf.Tensor
    ) -> tf.Tensor:
        def step(chunks: tf.Tensor) -> tf.Tensor:
            return tf.stack([*self._loss(panel, labels, order, chunks, training=False), 0.0])

        return _sum_over(batches, steps, step)

    def _loss(
        self, panel: tf.Tensor, labels: tf.Tensor, order: tf.Tensor, chunks: tf.Tensor, *, training: bool
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Return the sums over a step's chunks [chunk, 2] of log loss and hits, and the number of labels in them."""
        place = chunks[:, :1] + tf.range(self._chunk)
        # A short chunk is padded at its end, which affects neither its states nor its loss.
        rows = tf.gather(order, tf.clip_by_value(place, 0, order.shape[0] - 1))
        logits = self._core(tf.gather(panel, rows), training=training)
        logits = tf.reshape(logits, [chunks.shape[0], -1, labels.shape[-1]])[:, -self._labels_per_chunk :]
        counts = (place < chunks[:, 1:])[:, -self._labels_per_chunk :]
        label = tf.gather(labels, rows[:, -self._labels_per_chunk :])
        known = counts[:, :, None] & ~tf.math.is_nan(label)
        label, weight = tf.where(known, label, 0.0), tf.cast(known, tf.float32)
        loss = tf.nn.sigmoid_cross_entropy_with_logits(labels=label, logits=logits)
        hits = tf.cast((logits > 0) == (label > 0.5), tf.float32)
        return tf.reduce_sum(weight * loss), tf.reduce_sum(weight * hits), tf.reduce_sum(weight)


def _sum_over(batches: tf.Tensor, steps: tf.Tensor, step: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
    """Return the sum of step(batch) over the first `steps` batches, in order, as float64 [4]."""
    return tf.while_loop(
        lambda number, _: number < steps,
        lambda number, total: (number + 1, total + tf.cast(step(batches[number]), tf.float64)),
        (tf.constant(0), tf.zeros(4, tf.float64)),
    )[1]
