"""The training loop over windows: each epoch is one compiled graph around the stock Keras layers.

The panel stays in memory once; the graph gathers the windows of a batch from it. The number of steps is an
argument of the graph, so that folds of different length and all members of an ensemble share one compilation.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from scipy.special import logit

from models.errors import ModelError
from models.recurrent import Network, build

__all__ = ["Epoch", "Examples", "Trainer", "Training"]

Weights = list[NDArray[np.float32]]


@dataclass(frozen=True)
class Training:
    """How a network is trained.

    Attributes:
        epochs: Most passes over the training rows.
        batch_size: Windows a step.
        learning_rate: Step size of Adam (Kingma and Ba 2015).
        clip_norm: Bound on the norm of all gradients together (Pascanu et al. 2013).
        patience: Epochs without a better log loss on the stop range before training ends.
    """

    epochs: int = 40
    batch_size: int = 256
    learning_rate: float = 1e-3
    clip_norm: float = 1.0
    patience: int = 6


@dataclass(frozen=True)
class Epoch:
    """What one epoch of one member came to.

    Attributes:
        member: Number of the member, from 1.
        members: How many there are.
        epoch: Number of the epoch, from 1.
        epochs: The most there can be.
        loss: Mean log loss of the training labels, in nats, as the weights moved.
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
    """What the members of one fit learn from.

    Attributes:
        panel: Scaled features, float32 [symbol * session, feature].
        labels: float32 [symbol * session, horizon] in {0, 1}, NaN where unknown.
        train: Flat row numbers to learn from, int32 [row].
        stop: Flat row numbers that decide when to stop.
    """

    panel: NDArray[np.float32]
    labels: NDArray[np.float32]
    train: NDArray[np.int32]
    stop: NDArray[np.int32]

    @property
    def base_logit(self) -> NDArray[np.float32]:
        """The logit of the share of ups among the known labels of `train`, [horizon]; 0 where none is known."""
        labels = self.labels[self.train]
        known = np.isfinite(labels).sum(axis=0)
        share = np.where(known, np.nansum(labels, axis=0) / np.maximum(known, 1), 0.5)
        return np.asarray(logit(np.clip(share, 0.01, 0.99)), np.float32)


@dataclass(frozen=True)
class _Pass:
    """Means over one pass of the rows."""

    loss: float
    hit_rate: float
    gradient_norm: float


class Trainer:
    """One compiled network that trains one member after another; not to be shared between threads.

    Every run starts from weights and optimizer state that depend on its seed alone.
    """

    def __init__(self, network: Network, training: Training) -> None:
        self._network, self._training = network, training
        self._core = build(network, seed=0)
        self._optimizer = keras.optimizers.Adam(training.learning_rate, global_clipnorm=training.clip_norm)
        self._optimizer.build(self._core.trainable_variables)
        self._unused = [variable.numpy() for variable in self._optimizer.variables]
        self._learn = tf.function(self._learn_graph, jit_compile=True)
        self._measure = tf.function(self._measure_graph, jit_compile=True)

    def train(
        self,
        examples: Examples,
        seed: int,
        *,
        member: int = 1,
        members: int = 1,
        progress: Callable[[Epoch], None] | None = None,
    ) -> tuple[Weights, list[Epoch]]:
        """Train one member; return its weights with the least log loss on the stop rows, and all its epochs.

        Raises:
            ModelError: if the loss is no longer a finite number.
        """
        best: Weights = []
        best_loss, waited, history = np.inf, 0, []
        for epoch in self._epochs(examples, seed, member, members):
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

    def _epochs(self, examples: Examples, seed: int, member: int, members: int) -> Iterator[Epoch]:
        self._reset(seed, examples.base_logit)
        shuffle = np.random.default_rng(seed)
        # The panel crosses into TensorFlow once, not at every epoch.
        panel, labels = tf.constant(examples.panel), tf.constant(examples.labels)
        for number in range(1, self._training.epochs + 1):
            learned = self._run(self._learn, panel, labels, shuffle.permutation(examples.train))
            stopped = self._run(self._measure, panel, labels, examples.stop)
            if not np.isfinite([learned.loss, learned.gradient_norm, stopped.loss]).all():
                raise ModelError(
                    f"training diverged: loss {learned.loss}, gradient norm {learned.gradient_norm}, "
                    f"stop loss {stopped.loss}",
                    where=f"member {member} of {members} (seed {seed}), epoch {number}",
                    way_out="lower the learning rate or the clip norm, and look for extreme features",
                )
            yield Epoch(
                *(member, members, number, self._training.epochs),
                *(learned.loss, learned.hit_rate, stopped.loss, stopped.hit_rate, learned.gradient_norm),
            )

    def _reset(self, seed: int, base_logit: NDArray[np.float32]) -> None:
        start = build(self._network, seed).get_weights()
        # The last weight is the bias of the logits: a network that has learned nothing says the base rate, and
        # calibration, which stretches logits away from it, then leaves it there.
        start[-1] = base_logit
        self._core.set_weights(start)
        for variable, value in zip(self._optimizer.variables, self._unused, strict=True):
            variable.assign(value)

    def _run(
        self, graph: Callable[..., tf.Tensor], panel: tf.Tensor, labels: tf.Tensor, rows: NDArray[np.int32]
    ) -> _Pass:
        steps = -(-len(rows) // self._training.batch_size)
        loss, hits, known, norm = graph(
            panel, labels, self._batches(rows, panel.shape[0]), tf.constant(steps)
        ).numpy()
        return _Pass(float(loss / known), float(hits / known), float(norm / steps))

    def _batches(self, rows: NDArray[np.int32], capacity: int) -> tf.Tensor:
        # Room for every row of the panel, filled with -1: the shape is the same in every fold.
        size = self._training.batch_size
        batches = np.full(-(-capacity // size) * size, -1, dtype=np.int32)
        batches[: len(rows)] = rows
        return tf.constant(batches.reshape(-1, size))

    def _learn_graph(
        self, panel: tf.Tensor, labels: tf.Tensor, batches: tf.Tensor, steps: tf.Tensor
    ) -> tf.Tensor:
        variables = self._core.trainable_variables

        def step(rows: tf.Tensor) -> tf.Tensor:
            with tf.GradientTape() as tape:
                loss, hits, known = self._loss(panel, labels, rows, training=True)
                mean = loss / known
            gradients = tape.gradient(mean, variables)
            self._optimizer.apply(gradients, variables)
            return tf.stack([loss, hits, known, tf.linalg.global_norm(gradients)])

        return _sum_over(batches, steps, step)

    def _measure_graph(
        self, panel: tf.Tensor, labels: tf.Tensor, batches: tf.Tensor, steps: tf.Tensor
    ) -> tf.Tensor:
        def step(rows: tf.Tensor) -> tf.Tensor:
            return tf.stack([*self._loss(panel, labels, rows, training=False), 0.0])

        return _sum_over(batches, steps, step)

    def _loss(
        self, panel: tf.Tensor, labels: tf.Tensor, rows: tf.Tensor, *, training: bool
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Return the sums over a batch of log loss and hits, and the number of labels in them."""
        lookback = self._network.lookback
        # No window ends before session lookback - 1, so a filler row may point there; its weight is zero.
        at = tf.maximum(rows, lookback - 1)
        logits = self._core(tf.gather(panel, at[:, None] + tf.range(1 - lookback, 1)), training=training)
        label = tf.gather(labels, at)
        known = (rows >= 0)[:, None] & ~tf.math.is_nan(label)
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
