"""The compiled graphs of a training: many steps of learning, or of measuring, in one call.

The panel is in memory once; a graph gathers the chunks of a step from it. Folds of different length, all members of an
ensemble, and trainings that differ in their epochs, learning rate or patience share one compilation.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from models.engine import keras
from models.networks.network import Network
from models.networks.recurrent import build_to_train

__all__ = ["STEPS", "Graphs"]

STEPS: Final = 64
"""Steps per call of a graph: its shape does not depend on the number of examples."""


class Graphs:
    """A network, its optimizer, and the two compiled graphs around them; they serve one training at a time.

    Args:
        network: What is trained.
        chunk: Sessions per chunk.
        clip_norm: Bound on the norm of all gradients together (Pascanu et al. 2013).

    Attributes:
        core: The network: scaled inputs in, logits out.
        learn: Takes steps of learning: panel [symbol * session, feature], labels [symbol * session, horizon], order
            [place], chunks [STEPS, chunk, 2] as (first, stop) in `order`, and how many of the STEPS count; returns the
            sums over these of log loss, hits, labels and gradient norm before clipping, float64 [4].
        measure: The same, without learning; its gradient norm is zero.
    """

    def __init__(self, network: Network, chunk: int, clip_norm: float) -> None:
        self._chunk, self._labels_per_chunk = chunk, chunk - network.lookback + 1
        self.core = build_to_train(network, seed=0)
        self._optimizer = keras.optimizers.Adam(global_clipnorm=clip_norm)
        self._optimizer.build(self.core.trainable_variables)
        self._fresh_state = [variable.numpy() for variable in self._optimizer.variables]
        self.learn = tf.function(self._learn_graph, autograph=False, jit_compile=True)
        self.measure = tf.function(self._measure_graph, autograph=False, jit_compile=True)

    def restart(self, weights: list[NDArray[np.float32]]) -> None:
        """Begin a training from `weights`, with an optimizer that has seen nothing."""
        self.core.set_weights(weights)
        for variable, value in zip(self._optimizer.variables, self._fresh_state, strict=True):
            variable.assign(value)

    def set_rate(self, learning_rate: float) -> None:
        """Set Adam's step size from here on."""
        self._optimizer.learning_rate.assign(learning_rate)

    def _learn_graph(
        self, panel: tf.Tensor, labels: tf.Tensor, order: tf.Tensor, batches: tf.Tensor, steps: tf.Tensor
    ) -> tf.Tensor:
        variables = self.core.trainable_variables

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
        logits = self.core(tf.gather(panel, rows), training=training)
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
