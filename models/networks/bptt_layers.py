"""Recurrent layers for training: back-propagation through time written out by hand (Werbos 1990).

Each layer is Keras' own of the same name: the same weights in the same order, the same outputs, and the same gradients
up to rounding, two to three times as fast over long sequences. A network is trained with these layers and saved with
Keras' own. They support what `recurrent` uses: Keras' activations, a bias, no dropout, no mask, float32.

A cell sees two projections of its gates, x = x_t W + b and h = h_{t-1} R + b'. Forwards, a loop keeps the states and
the gates of every session. Backwards, a loop turns the gradient of a state into those of the two projections, and adds
up the gradients of the weights while a session is still in the processor's cache: one large product at the end would
read all sessions from memory again, and made a step of 64 rows a fifth slower.
"""

from typing import Any, ClassVar, Protocol

import tensorflow as tf

from models.engine import keras

__all__ = ["GRU", "LSTM", "SimpleRNN"]

Tensors = tuple[tf.Tensor, ...]


class _Cell(Protocol):
    """One step of a recurrent layer and its hand-written derivative; every tensor is [row, unit].

    Attributes:
        states: Number of tensors that pass from session to session; the first is the output h.
        gates: Number of further tensors that the derivative needs.
    """

    states: ClassVar[int]
    gates: ClassVar[int]

    @staticmethod
    def forward(x: Tensors, h: Tensors, before: Tensors) -> tuple[Tensors, Tensors]:
        """Return the states after a session and its gates, from the projections of each gate."""

    @staticmethod
    def backward(
        d: Tensors, before: Tensors, after: Tensors, gates: Tensors
    ) -> tuple[Tensors, Tensors, Tensors]:
        """Return the gradients of x, of h, and of the previous states along all paths but h."""


class _Elman(_Cell):
    """h' = tanh(x + h)."""

    states, gates = 1, 0

    @staticmethod
    def forward(x: Tensors, h: Tensors, before: Tensors) -> tuple[Tensors, Tensors]:
        return (tf.tanh(x[0] + h[0]),), ()

    @staticmethod
    def backward(
        d: Tensors, before: Tensors, after: Tensors, gates: Tensors
    ) -> tuple[Tensors, Tensors, Tensors]:
        d_sum = (d[0] * (1 - after[0] * after[0]),)
        return d_sum, d_sum, (tf.zeros_like(d[0]),)


class _Gated(_Cell):
    """z = sigmoid(x_z + h_z), r = sigmoid(x_r + h_r), c = tanh(x_c + r h_c), h' = z h + (1 - z) c."""

    states, gates = 1, 4

    @staticmethod
    def forward(x: Tensors, h: Tensors, before: Tensors) -> tuple[Tensors, Tensors]:
        z, r = tf.sigmoid(x[0] + h[0]), tf.sigmoid(x[1] + h[1])
        c = tf.tanh(x[2] + r * h[2])
        return (z * before[0] + (1 - z) * c,), (z, r, c, h[2])

    @staticmethod
    def backward(
        d: Tensors, before: Tensors, after: Tensors, gates: Tensors
    ) -> tuple[Tensors, Tensors, Tensors]:
        z, r, c, h_c = gates
        d_c = d[0] * (1 - z) * (1 - c * c)
        d_z = d[0] * (before[0] - c) * z * (1 - z)
        d_r = d_c * h_c * r * (1 - r)
        return (d_z, d_r, d_c), (d_z, d_r, d_c * r), (d[0] * z,)


class _LongShortTerm(_Cell):
    """i, f, o = sigmoid(x + h), g = tanh(x_g + h_g), c' = f c + i g, h' = o tanh(c')."""

    states, gates = 2, 4

    @staticmethod
    def forward(x: Tensors, h: Tensors, before: Tensors) -> tuple[Tensors, Tensors]:
        i, f, g, o = (part + other for part, other in zip(x, h, strict=True))
        i, f, g, o = tf.sigmoid(i), tf.sigmoid(f), tf.tanh(g), tf.sigmoid(o)
        c = f * before[1] + i * g
        return (o * tf.tanh(c), c), (i, f, g, o)

    @staticmethod
    def backward(
        d: Tensors, before: Tensors, after: Tensors, gates: Tensors
    ) -> tuple[Tensors, Tensors, Tensors]:
        i, f, g, o = gates
        tanh_c = tf.tanh(after[1])
        d_c = d[1] + d[0] * o * (1 - tanh_c * tanh_c)
        d_i, d_f, d_g = d_c * g * i * (1 - i), d_c * before[1] * f * (1 - f), d_c * i * (1 - g * g)
        d_sum = (d_i, d_f, d_g, d[0] * tanh_c * o * (1 - o))
        return d_sum, d_sum, (tf.zeros_like(d_c), d_c * f)


def _run(cell: type[_Cell], sequences: tf.Tensor, kernel: Any, recurrent: Any, bias: Any) -> tf.Tensor:
    """Return the outputs [row, session, unit] of a cell over sequences [row, session, feature], from zero state.

    Args:
        cell: The equations.
        sequences: Inputs of any length.
        kernel: W, [feature, gate * unit].
        recurrent: R, [unit, gate * unit].
        bias: b and b', [2, gate * unit].
    """

    def outputs(sequences: tf.Tensor, *weights: tf.Tensor) -> tuple[tf.Tensor, Any]:
        x = _swap_axes(sequences)
        states, gates = _run_forward(cell, x, *weights)

        def gradients(d: tf.Tensor) -> Tensors:
            d_x, *d_weights = _run_backward(cell, _swap_axes(d), x, states, gates, *weights)
            return _swap_axes(d_x), *d_weights

        return _swap_axes(states[0][1:]), gradients

    return tf.custom_gradient(outputs)(sequences, kernel, recurrent, bias)


def _run_forward(
    cell: type[_Cell], x: tf.Tensor, kernel: tf.Tensor, recurrent: tf.Tensor, bias: tf.Tensor
) -> tuple[Tensors, Tensors]:
    """Return the states before each session and after the last, [session + 1, row, unit], and each session's gates."""
    sessions, rows = _size(x, 0), _size(x, 1)
    count = kernel.shape[1] // recurrent.shape[0]
    zero = (tf.zeros([rows, recurrent.shape[0]]),) * cell.states

    def step(t: tf.Tensor, before: Tensors, states: Any, gates: Any) -> tuple[Any, ...]:
        projected = (
            tf.split(x[t] @ kernel + bias[0], count, 1),
            tf.split(before[0] @ recurrent + bias[1], count, 1),
        )
        after, kept = cell.forward(*projected, before)
        return t + 1, after, _write(states, t + 1, after), _write(gates, t, kept)

    states = _write(_make_arrays(cell.states, sessions + 1), 0, zero)
    start = (tf.constant(0), zero, states, _make_arrays(cell.gates, sessions))
    _, _, states, gates = tf.while_loop(lambda t, *_: t < sessions, step, start)
    return tuple(state.stack() for state in states), tuple(gate.stack() for gate in gates)


def _run_backward(
    cell: type[_Cell],
    d: tf.Tensor,
    x: tf.Tensor,
    states: Tensors,
    gates: Tensors,
    kernel: tf.Tensor,
    recurrent: tf.Tensor,
    bias: tf.Tensor,
) -> Tensors:
    """Return the gradients of x [session, row, feature] and of the three weights, from that of the outputs."""
    sessions = _size(x, 0)

    def step(t: tf.Tensor, d_after: Tensors, sums: Tensors, d_inputs: Any) -> tuple[Any, ...]:
        before, after, kept = _at(states, t), _at(states, t + 1), _at(gates, t)
        parts, other_parts, direct = cell.backward((d_after[0] + d[t], *d_after[1:]), before, after, kept)
        d_x, d_h = tf.concat(parts, 1), tf.concat(other_parts, 1)
        d_before = (direct[0] + tf.matmul(d_h, recurrent, transpose_b=True), *direct[1:])
        steps = (
            tf.matmul(x[t], d_x, transpose_a=True),
            tf.matmul(before[0], d_h, transpose_a=True),
            tf.stack([tf.reduce_sum(d_x, 0), tf.reduce_sum(d_h, 0)]),
        )
        sums = tuple(total + part for total, part in zip(sums, steps, strict=True))
        return t - 1, d_before, sums, d_inputs.write(t, tf.matmul(d_x, kernel, transpose_b=True))

    end = tuple(tf.zeros_like(state[0]) for state in states)
    none = tuple(tf.zeros_like(weight) for weight in (kernel, recurrent, bias))
    start = (tf.convert_to_tensor(sessions - 1), end, none, *_make_arrays(1, sessions))
    _, _, sums, d_inputs = tf.while_loop(lambda t, *_: t >= 0, step, start)
    return d_inputs.stack(), *sums


def _swap_axes(sequences: tf.Tensor) -> tf.Tensor:
    """Swap rows and sessions, so that all rows of one session are adjacent in memory."""
    return tf.transpose(sequences, [1, 0, 2])


def _size(x: tf.Tensor, axis: int) -> Any:
    """Return the size of an axis, as a number if it is known before the graph runs: XLA allocates the gates by it."""
    return x.shape[axis] or tf.shape(x)[axis]


def _make_arrays(count: int, sessions: Any) -> tuple[tf.TensorArray, ...]:
    return tuple(tf.TensorArray(tf.float32, sessions) for _ in range(count))


def _write(arrays: tuple[tf.TensorArray, ...], t: Any, values: Tensors) -> tuple[tf.TensorArray, ...]:
    return tuple(array.write(t, value) for array, value in zip(arrays, values, strict=True))


def _at(arrays: Tensors, t: tf.Tensor) -> Tensors:
    return tuple(array[t] for array in arrays)


class _HandWritten:
    """The part that the three layers share; weights, name and options are those of Keras' layer."""

    equations: ClassVar[type[_Cell]]
    cell: Any
    return_sequences: bool

    def call(self, sequences: tf.Tensor, initial_state: None = None) -> tf.Tensor:
        """Return the outputs of all sessions [row, session, unit], or of the last one [row, unit]."""
        cell = self.cell
        kernel, recurrent, bias = map(tf.convert_to_tensor, (cell.kernel, cell.recurrent_kernel, cell.bias))
        if bias.shape.rank == 1:  # one bias per gate, not two
            bias = tf.stack([bias, tf.zeros_like(bias)])
        outputs = _run(self.equations, sequences, kernel, recurrent, bias)
        return outputs if self.return_sequences else outputs[:, -1]


class SimpleRNN(_HandWritten, keras.layers.SimpleRNN):  # type: ignore[misc]
    """Elman's network."""

    equations = _Elman


class GRU(_HandWritten, keras.layers.GRU):  # type: ignore[misc]
    """The gated recurrent unit."""

    equations = _Gated


class LSTM(_HandWritten, keras.layers.LSTM):  # type: ignore[misc]
    """The long short-term memory."""

    equations = _LongShortTerm
