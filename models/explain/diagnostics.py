"""Diagnose a network: how far back it looks, how large each layer's gradients are, which features it uses.

Every function takes a network of `recurrent.build` (scaled inputs in, logits out), one list of weights per member, and
windows x [row, time, feature] of scaled inputs. A row is forecast from its last session, time runs forwards, and lag k
is the session k before the last one. The network starts from zero state at the first session of a window; of one
with a logit at every step, the last logit counts.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from models.engine import keras

__all__ = [
    "EXPLODING",
    "VANISHING",
    "Diagnosis",
    "GradientNorm",
    "Memory",
    "describe_memory",
    "measure_gradient_norms",
    "measure_importance",
    "measure_sensitivity",
]

Weights = Sequence[Sequence[NDArray[np.float32]]]
Diagnosis = Literal["vanishing", "exploding", "in between", "blind"]

VANISHING: Final = 0.01
"""Gradients vanish if the oldest session of the lookback has less than this share of the newest one's influence."""
EXPLODING: Final = 10.0
"""They explode if it has more than this multiple of it."""

_BATCH: Final = 256  # one compiled shape; the last batch is padded
_STEPS: Final = (
    60 * _BATCH
)  # rows times sessions of a batch: its activations must fit in the processor's cache
# float32 has 7 digits: anything below this share of the largest norm is rounding.
_FLOOR: Final = 1e-6


@dataclass(frozen=True)
class Memory:
    """How far back a network effectively looks.

    Attributes:
        half: The lag within which half of the total sensitivity lies.
        most: The lag within which 95% of it lies.
        decay: The factor by which sensitivity changes with each session farther back; NaN for a blind network.
        diagnosis: vanishing, exploding, in between, or blind: no input moves the logit at all.
    """

    half: int
    most: int
    decay: float
    diagnosis: Diagnosis


@dataclass(frozen=True)
class GradientNorm:
    """The mean norm of the gradient of one array of weights, per member.

    Attributes:
        layer: The layer's name.
        part: kernel, recurrent_kernel or bias.
        norms: float64 [member].
    """

    layer: str
    part: str
    norms: NDArray[np.float64]


def measure_sensitivity(model: keras.Model, weights: Weights, x: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the mean over rows of |d logit[t] / d x[t - k]|, float64 [member, lag k, horizon].

    The norm is Euclidean over the features, in logits per standard deviation. It is the length of
    W_hy J_t ... J_{t-k+1} W_xh, with J the Jacobian of one step: the product of Jacobians through which learning from
    k sessions back must pass too (Bengio, Simard and Frasconi 1994; Pascanu, Mikolov and Bengio 2013).
    """
    slopes = _compile_slopes(model)
    norms = [
        np.linalg.norm(slopes.run(member, x)[1], axis=2).mean(axis=0, dtype=np.float64) for member in weights
    ]
    return np.stack(norms)[:, ::-1]


def describe_memory(sensitivity: NDArray[np.floating], lookback: int) -> Memory:
    """Return how far back a network looks, and whether its gradients vanish or explode.

    `decay` is exp of the least-squares slope of log sensitivity over lag, over all lags whose sensitivity is above
    the rounding of float32. The rule: influence over the lookback is decay ** (lookback - 1); the gradients are
    vanishing where that is below VANISHING and exploding where it is above EXPLODING. Vanishing and exploding mean
    exponential decline and growth with lag (Pascanu, Mikolov and Bengio 2013, section 2). A short memory shows some
    decline, so only a hundredfold one counts as vanishing; growth with age is never wanted, so a tenfold one already
    counts as exploding.

    Args:
        sensitivity: From `measure_sensitivity`, for one horizon: [lag].
        lookback: Sessions that the network should use.
    """
    if not np.isfinite(sensitivity).all():
        last = len(sensitivity) - 1
        return Memory(last, last, float("inf"), "exploding")
    if not (sensitivity > 0).any():
        return Memory(0, 0, float("nan"), "blind")
    shares = np.cumsum(sensitivity, dtype=np.float64) / np.sum(sensitivity, dtype=np.float64)
    half, most = (int(np.searchsorted(shares, share - 1e-12)) for share in (0.5, 0.95))
    decay = _fit_decay(sensitivity)
    influence = decay ** max(lookback - 1, 1)
    diagnosis: Diagnosis = "in between"
    if influence < VANISHING:
        diagnosis = "vanishing"
    elif influence > EXPLODING:
        diagnosis = "exploding"
    return Memory(half, most, decay, diagnosis)


def measure_gradient_norms(
    model: keras.Model, weights: Weights, x: NDArray[np.float32], y: NDArray[np.float32]
) -> list[GradientNorm]:
    """Return the norm of the gradient of the mean log loss by array of weights, from the input to the output.

    It is the mean over batches of the norm within one batch, as training meets it before clipping.

    Args:
        model: The network.
        weights: One list per member.
        x: Windows [row, time, feature].
        y: Labels [row, horizon] in {0, 1}; NaN where unknown.
    """
    norms = _compile_norms(model)
    size = _size_batch(x)
    whole = max(len(x) // size, 1) * size  # a last batch of few rows would be noisier than the others
    is_row = np.ones((len(x[:whole]), 1), np.float32)
    by_array = np.stack(
        [
            norms.run(member, x[:whole], y[:whole], is_row)[0].mean(axis=0, dtype=np.float64)
            for member in weights
        ]
    )
    names = [(layer.name, variable.name) for layer in model.layers for variable in layer.trainable_variables]
    return [GradientNorm(*name, norms) for name, norms in zip(names, by_array.T, strict=True)]


def measure_importance(
    model: keras.Model,
    weights: Weights,
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    *,
    seed: int,
    repeats: int = 2,
) -> NDArray[np.float64]:
    """Return the increase of each row's log loss when one feature is replaced by another row's.

    Permutation importance (Breiman 2001; Fisher, Rudin and Dominici 2019, "model reliance"): the whole history of a
    feature in a window is replaced by that of a row drawn from the same x, all other features stay. The network is
    not retrained: the result says how much this network relies on the feature, not how well a network without it would
    do. The loss is that of the members' mean logit.

    Args:
        model: The network.
        weights: One list per member.
        x: Windows [row, time, feature] of rows that were not used in training.
        y: Their labels [row, horizon] in {0, 1}; NaN where unknown.
        seed: Seed of the permutations.
        repeats: Permutations per feature, whose losses are averaged.

    Returns:
        Nats, float64 [feature, row, horizon]; NaN where the label is unknown.
    """
    forward, chance = _compile_forward(model), np.random.default_rng(seed)

    def log_loss(windows: NDArray[np.float32]) -> NDArray[np.float64]:
        logits = np.mean([forward.run(member, windows)[0] for member in weights], axis=0, dtype=np.float64)
        return np.asarray(np.logaddexp(0, logits) - y * logits)

    usual = log_loss(x)
    rises = np.zeros((x.shape[2], *usual.shape))
    for feature, rise in enumerate(rises):
        for _ in range(repeats):
            changed = x.copy()
            changed[:, :, feature] = x[chance.permutation(len(x)), :, feature]
            rise += log_loss(changed) - usual
    return rises / repeats


def _fit_decay(sensitivity: NDArray[np.floating]) -> float:
    lags = np.flatnonzero(sensitivity > _FLOOR * sensitivity.max())
    if len(lags) < 2:
        return 0.0
    return float(np.exp(np.polyfit(lags, np.log(sensitivity[lags]), 1)[0]))


@dataclass(frozen=True)
class _Compiled:
    """A graph over batches of one size whose weights are arguments, so that the members share one compilation."""

    graph: Callable[..., Sequence[tf.Tensor]]
    horizons: int

    def run(
        self, weights: Sequence[NDArray[np.float32]], *rows: NDArray[np.float32]
    ) -> list[NDArray[np.float32]]:
        """Return the graph's outputs for all rows, computed in batches; padding rows are dropped."""
        constant = [tf.constant(array) for array in weights]
        parts = [
            [part.numpy()[:count] for part in self.graph(constant, *batch)]
            for batch, count in _batches(*rows)
        ]
        return [np.concatenate(part) for part in zip(*parts, strict=True)]


def _batches(*rows: NDArray[np.float32]) -> Iterator[tuple[list[tf.Tensor], int]]:
    size = _size_batch(rows[0])
    for start in range(0, len(rows[0]), size):
        count = min(len(rows[0]) - start, size)
        padding = [(0, size - count)]
        yield (
            [
                tf.constant(np.pad(array[start : start + count], padding + [(0, 0)] * (array.ndim - 1)))
                for array in rows
            ],
            count,
        )


def _size_batch(x: NDArray[np.float32]) -> int:
    return max(min(_BATCH, _STEPS // int(x.shape[1])), 16)


def _compile(model: keras.Model, graph: Callable[..., Sequence[tf.Tensor]]) -> _Compiled:
    return _Compiled(tf.function(graph, autograph=False, jit_compile=True), model.output_shape[-1])


def _last_logits(model: keras.Model, weights: list[tf.Tensor], x: tf.Tensor) -> tf.Tensor:
    logits = model.stateless_call(weights, model.non_trainable_variables, x, training=False)[0]
    return logits if len(logits.shape) == 2 else logits[:, -1]


def _compile_forward(model: keras.Model) -> _Compiled:
    return _compile(model, lambda weights, x: [_last_logits(model, weights, x)])


def _compile_slopes(model: keras.Model) -> _Compiled:
    """Compile logits [row, horizon] and their gradients [row, time, feature, horizon]."""

    def graph(weights: list[tf.Tensor], x: tf.Tensor) -> list[tf.Tensor]:
        logits = _last_logits(model, weights, x)
        # The network computes rows independently: the gradient of their sum is the gradient of each.
        sums = tf.unstack(tf.reduce_sum(logits, axis=0))
        return [logits, tf.stack([tf.gradients(total, x)[0] for total in sums], axis=-1)]

    return _compile(model, graph)


def _compile_norms(model: keras.Model) -> _Compiled:
    """Compile the norm of the gradient of one batch's mean log loss by array of weights, [1, array]."""

    def graph(weights: list[tf.Tensor], x: tf.Tensor, y: tf.Tensor, is_row: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(weights)
            logits = _last_logits(model, weights, x)
            known = ~tf.math.is_nan(y) & (is_row > 0)
            weight, label = tf.cast(known, tf.float32), tf.where(known, y, 0.0)
            losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=label, logits=logits)
            loss = tf.reduce_sum(weight * losses) / tf.maximum(tf.reduce_sum(weight), 1.0)
        return [tf.stack([tf.norm(gradient) for gradient in tape.gradient(loss, weights)])[None]]

    return _compile(model, graph)
