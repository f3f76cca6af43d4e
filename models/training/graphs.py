"""The compiled graphs of a training: many steps of learning, or of measuring, in one call.

The panel is in memory once; a graph gathers the chunks of a step from it. Folds of different length, all members of an
ensemble, and trainings that differ in their epochs, learning rate or patience share one compilation.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from models.devices import Device
from models.engine import keras
from models.networks.network import Network
from models.networks.recurrent import CUDNN, build_to_train

__all__ = ["EPSILON", "STEPS", "Data", "Graphs", "Regularization"]

STEPS: Final = 64
"""Steps per call of a graph: its shape does not depend on the number of examples."""


EPSILON: Final = 0.05
"""Length of the adversarial step in the states of the last hidden layer, as for the stocks of Feng et al. (2019)."""

Data = tuple[tf.Tensor, ...]
"""Panel [symbol * session, feature], labels [symbol * session, horizon], order [place], and where rows have weights
their weights [symbol * session]."""


@dataclass(frozen=True)
class Regularization:
    """What keeps a network from learning noise by heart; zero: nothing.

    Attributes:
        dropout: Share of the states of each hidden layer that a step leaves out (Srivastava et al. 2014).
        weight_decay: Decoupled decay of all weights but biases: each step of Adam takes learning rate times this share
            of them away (Loshchilov and Hutter 2019).
        adversarial: Weight b of a second loss (Feng et al. 2019, "Enhancing stock movement prediction with adversarial
            training", eq. 7 to 9): loss(e) + b loss(e + r), e the states that the output layer reads and
            r = EPSILON g / |g|, g the gradient of the loss by e: the step that raises the loss fastest.
    """

    dropout: float = 0.0
    weight_decay: float = 0.0
    adversarial: float = 0.0


class Graphs:
    """A network, its optimizer, and the two compiled graphs around them; they serve one training at a time.

    Args:
        network: What is trained.
        chunk: Sessions per chunk.
        clip_norm: Bound on the norm of all gradients together (Pascanu et al. 2013).
        regularization: Of training alone.
        device: Where the graphs run; they have to be made and called within `on_device` of it.

    Attributes:
        core: The network: scaled inputs in, logits out.
        learn: Takes steps of learning: the data, chunks [STEPS, chunk, 2] as (first, stop) in the data's order, and how
            many of the STEPS count; returns the sums over these of log loss, hits, labels and gradient norm before
            clipping, float64 [4].
        measure: The same, without learning and weights of rows; its gradient norm is zero.
    """

    def __init__(
        self,
        network: Network,
        chunk: int,
        clip_norm: float,
        regularization: Regularization = Regularization(),
        device: Device = "cpu",
    ) -> None:
        self._chunk, self._labels_per_chunk = chunk, chunk - network.lookback + 1
        self._adversarial = regularization.adversarial
        self.core = build_to_train(network, seed=0, dropout=regularization.dropout, device=device)
        self._optimizer = keras.optimizers.Adam(
            global_clipnorm=clip_norm, weight_decay=regularization.weight_decay or None
        )
        self._optimizer.exclude_from_weight_decay(var_names=["bias"])
        self._optimizer.build(self.core.trainable_variables)
        self._fresh_state = [variable.numpy() for variable in self._optimizer.variables]
        is_compiled = not (device == "gpu" and network.kind in CUDNN)  # XLA cannot compile a call of cuDNN
        self.learn = tf.function(self._learn_graph, autograph=False, jit_compile=is_compiled)
        self.measure = tf.function(self._measure_graph, autograph=False, jit_compile=is_compiled)

    def restart(self, weights: list[NDArray[np.float32]], seed: int) -> None:
        """Begin a training from `weights`, with an optimizer that has seen nothing, and dropout that `seed` decides."""
        self.core.set_weights(weights)
        for place, layer in enumerate(self.core.layers):
            if isinstance(layer, keras.layers.Dropout):
                layer.seed_generator.state.assign(np.array([seed, place], np.uint32))
        for variable, value in zip(self._optimizer.variables, self._fresh_state, strict=True):
            variable.assign(value)

    def set_rate(self, learning_rate: float) -> None:
        """Set Adam's step size from here on."""
        self._optimizer.learning_rate.assign(learning_rate)

    def _learn_graph(self, data: Data, batches: tf.Tensor, steps: tf.Tensor) -> tf.Tensor:
        variables = self.core.trainable_variables

        def step(chunks: tf.Tensor) -> tf.Tensor:
            with tf.GradientTape() as tape:
                loss, hits, known, further = self._loss(data, chunks, training=True)
                mean = (loss if further is None else loss + further) / tf.maximum(known, 1.0)
            gradients = tape.gradient(mean, variables)
            self._optimizer.apply(gradients, variables)
            return tf.stack([loss, hits, known, tf.linalg.global_norm(gradients)])

        return _sum_over(batches, steps, step)

    def _measure_graph(self, data: Data, batches: tf.Tensor, steps: tf.Tensor) -> tf.Tensor:
        def step(chunks: tf.Tensor) -> tf.Tensor:
            loss, hits, known, _ = self._loss(data, chunks, training=False)
            return tf.stack([loss, hits, known, 0.0])

        return _sum_over(batches, steps, step)

    def _loss(
        self, data: Data, chunks: tf.Tensor, *, training: bool
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, Any]:
        """Return the sums over a step's chunks [chunk, 2] of log loss and hits, and the number of labels in them.

        The last part is what is added to the log loss in training; None: nothing.
        """
        panel, labels, order, *weights = data
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
        counted, further = weight, None
        if training and weights:
            counted = weight * tf.gather(weights[0], rows[:, -self._labels_per_chunk :])[:, :, None]
        if training and self._adversarial:
            further = self._adversarial * tf.reduce_sum(counted * self._attack(logits, label, counted))
        sums = tf.reduce_sum(counted * loss), tf.reduce_sum(weight * hits), tf.reduce_sum(weight)
        return *sums, further

    def _attack(self, logits: tf.Tensor, label: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
        """Return the log loss after the adversarial step in what the output layer reads.

        That layer is linear: the gradient by its inputs and the logits after a step in them need no second pass.
        """
        output = self.core.get_layer("logits").kernel
        slope = tf.matmul(weight * (tf.sigmoid(logits) - label), output, transpose_b=True)
        step = tf.stop_gradient(EPSILON * tf.math.l2_normalize(slope, axis=-1, epsilon=1e-24))
        return tf.nn.sigmoid_cross_entropy_with_logits(labels=label, logits=logits + tf.matmul(step, output))


def _sum_over(batches: tf.Tensor, steps: tf.Tensor, step: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
    """Return the sum of step(batch) over the first `steps` batches, in order, as float64 [4]."""
    return tf.while_loop(
        lambda number, _: number < steps,
        lambda number, total: (number + 1, total + tf.cast(step(batches[number]), tf.float64)),
        (tf.constant(0), tf.zeros(4, tf.float64)),
    )[1]
