"""The layers of the recurrent networks in NumPy, forwards and backwards, for all members of an ensemble at once.

The equations are those of Keras' own layers: SimpleRNN, GRU with `reset_after` (Cho et al. 2014, as changed for
cuDNN), LSTM (Hochreiter and Schmidhuber 1997), causal Conv1D, and the attention of `networks.recurrent`. Everything
is float64 [time, member, row, channel]; a first axis of one member is read by all members.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

__all__ = ["RECURRENT", "Array", "Backward", "attend", "convolve", "gru", "lstm", "rnn", "then"]

Array = NDArray[np.float64]

Backward = Callable[[Array], Array]
"""From the gradient of a layer's outputs to that of its inputs, both [time, member, row, channel]."""


def rnn(x: Array, weights: list[Array], *, keep: bool) -> tuple[Array, Backward]:
    """Return the states h_t = tanh(x_t K + h_{t-1} R + b), and their backward pass.

    Args:
        x: Inputs.
        weights: K [member, input, unit], R [member, unit, unit], b [member, unit].
        keep: As for the other layers; this one needs no more than its states.
    """
    kernel, recurrent, bias = weights
    inputs = x @ kernel + bias[:, None]
    states, h = np.empty_like(inputs), np.zeros(inputs.shape[1:])
    for t, given in enumerate(inputs):
        h = states[t] = np.tanh(given + h @ recurrent)

    def backward(by_state: Array) -> Array:
        back, by_input, by_h = _transposed(recurrent), np.empty_like(by_state), np.zeros(by_state.shape[1:])
        for t in reversed(range(len(states))):
            by_input[t] = (by_state[t] + by_h) * (1 - states[t] ** 2)
            by_h = by_input[t] @ back
        return by_input @ _transposed(kernel)

    return states, backward


def gru(x: Array, weights: list[Array], *, keep: bool) -> tuple[Array, Backward]:
    """Return the states h_t = z h_{t-1} + (1 - z) c of gated recurrent units, and their backward pass.

    z and r are the sigmoids of their inputs and states; c = tanh(x_t K_c + b_c + r (h_{t-1} R_c + b'_c)).

    Args:
        x: Inputs.
        weights: K [member, input, 3 units], R [member, unit, 3 units], b and b' [member, 2, 3 units]; z, r, c.
        keep: Whether the backward pass is needed: it takes three times the memory.
    """
    kernel, recurrent, bias = weights
    units = recurrent.shape[1]
    inputs, of_state = x @ kernel + bias[:, :1], bias[:, 1:]
    states = np.zeros((len(x) + 1, *inputs.shape[1:-1], units))
    gates = np.empty((len(x) if keep else 1, 4, *states.shape[1:]))  # z, r, c and h R_c + b'_c
    for t, given in enumerate(inputs):
        own = states[t] @ recurrent + of_state
        z, r = (
            expit(given[..., :units] + own[..., :units]),
            expit(given[..., units : 2 * units] + own[..., units : 2 * units]),
        )
        kept = own[..., 2 * units :]
        c = np.tanh(given[..., 2 * units :] + r * kept)
        gates[t if keep else 0] = z, r, c, kept
        states[t + 1] = z * states[t] + (1 - z) * c

    def backward(by_state: Array) -> Array:
        back, by_input, by_h = _transposed(recurrent), np.empty_like(inputs), np.zeros(by_state.shape[1:])
        for t in reversed(range(len(by_state))):
            by_h = by_h + by_state[t]
            z, r, c, kept = gates[t]
            by_c = by_h * (1 - z) * (1 - c**2)
            by_z, by_r = by_h * (states[t] - c) * z * (1 - z), by_c * kept * r * (1 - r)
            by_input[t] = np.concatenate([by_z, by_r, by_c], axis=-1)
            by_h = by_h * z + np.concatenate([by_z, by_r, by_c * r], axis=-1) @ back
        return by_input @ _transposed(kernel)

    return states[1:], backward


def lstm(x: Array, weights: list[Array], *, keep: bool) -> tuple[Array, Backward]:
    """Return the states h_t = o tanh(s_t), s_t = f s_{t-1} + i c of long short-term memory, and their backward pass.

    Args:
        x: Inputs.
        weights: K [member, input, 4 units], R [member, unit, 4 units], b [member, 4 units]; i, f, c, o.
        keep: Whether the backward pass is needed: it takes twice the memory.
    """
    kernel, recurrent, bias = weights
    units = recurrent.shape[1]
    inputs = x @ kernel + bias[:, None]
    h = np.zeros((*inputs.shape[1:-1], units))
    states, cells = np.empty((len(x), *h.shape)), np.zeros((len(x) + 1, *h.shape))
    gates = np.empty((len(x) if keep else 1, 4, *h.shape))
    for t, given in enumerate(inputs):
        i, f, c, o = np.split(given + h @ recurrent, 4, axis=-1)
        gates[t if keep else 0] = i, f, c, o = expit(i), expit(f), np.tanh(c), expit(o)
        cells[t + 1] = f * cells[t] + i * c
        h = states[t] = o * np.tanh(cells[t + 1])

    def backward(by_state: Array) -> Array:
        back, by_input = _transposed(recurrent), np.empty_like(inputs)
        by_h, by_cell = np.zeros(h.shape), np.zeros(h.shape)
        for t in reversed(range(len(by_state))):
            by_h = by_h + by_state[t]
            i, f, c, o = gates[t]
            bent = np.tanh(cells[t + 1])
            by_cell = by_cell + by_h * o * (1 - bent**2)
            by_input[t] = np.concatenate(
                [
                    by_cell * c * i * (1 - i),
                    by_cell * cells[t] * f * (1 - f),
                    by_cell * i * (1 - c**2),
                    by_h * bent * o * (1 - o),
                ],
                axis=-1,
            )
            by_h, by_cell = by_input[t] @ back, by_cell * f
        return by_input @ _transposed(kernel)

    return states, backward


def then(second: tuple[Array, Backward], first: Backward) -> tuple[Array, Backward]:
    """Return the outputs of a layer and the backward pass through it and the layers before, whose pass is `first`."""
    values, back = second
    return values, lambda by_output: first(back(by_output))


def convolve(
    x: Array, weights: list[Array], *, dilation: int = 1, relu: bool = True
) -> tuple[Array, Backward]:
    """Return relu(b + sum of x_{t-dk} W_k) over the sessions of a causal kernel, and its backward pass.

    Args:
        x: Inputs.
        weights: W [member, session of the kernel, input, unit], the newest session last; b [member, unit].
        dilation: Sessions d from one of the kernel to the next.
        relu: Whether negative outputs become zero.
    """
    kernel, bias = weights
    lags = kernel.shape[1]
    steps = [(lag * dilation, kernel[:, lags - 1 - lag]) for lag in range(lags) if lag * dilation < len(x)]
    made = np.zeros((len(x), len(kernel), x.shape[2], kernel.shape[-1]))
    for back, weight in steps:
        made[back:] += x[: len(x) - back] @ weight
    made += bias[:, None]
    is_on = made > 0 if relu else np.True_

    def backward(by_output: Array) -> Array:
        by_output = np.where(is_on, by_output, 0.0)
        by_input = np.zeros((*by_output.shape[:-1], kernel.shape[2]))
        for back, weight in steps:
            by_input[: len(x) - back] += by_output[back:] @ _transposed(weight)
        return by_input

    return np.where(is_on, made, 0.0), backward


def attend(states: Array, weights: list[Array], lookback: int) -> tuple[Array, Backward]:
    """Return each state joined with the weighted mean of the `lookback` states up to it, and its backward pass.

    The weight of a state h is exp(u . tanh(W h + b)).

    Args:
        states: [time, member, row, unit].
        weights: W [member, unit, unit], b [member, unit], u [member, unit, 1].
        lookback: In sessions.
    """
    kernel, bias, direction = weights
    energy = np.tanh(states @ kernel + bias[:, None])
    weight = np.exp(energy @ direction)
    norm = _moving_sum(weight, lookback)
    mean = _moving_sum(weight * states, lookback) / norm
    units = states.shape[-1]

    def backward(by_output: Array) -> Array:
        by_total = by_output[..., units:] / norm
        by_norm = -(by_total * mean).sum(axis=-1, keepdims=True)
        by_weighted, by_weight = (
            _moving_sum(by_total[::-1], lookback)[::-1],
            _moving_sum(by_norm[::-1], lookback)[::-1],
        )
        by_weight = by_weight + (by_weighted * states).sum(axis=-1, keepdims=True)
        by_energy = (by_weight * weight) @ _transposed(direction) * (1 - energy**2)
        return np.asarray(by_output[..., :units] + by_weighted * weight + by_energy @ _transposed(kernel))

    return np.concatenate([states, mean], axis=-1), backward


def _moving_sum(values: Array, length: int) -> Array:
    """Return the sum of the last `length` values up to each time; those before the first are zero."""
    total = np.zeros_like(values)
    for lag in range(min(length, len(values))):
        total[lag:] += values[: len(values) - lag]
    return total


def _transposed(weights: Array) -> Array:
    return np.asarray(weights.swapaxes(-1, -2))


RECURRENT: Final = {"rnn": rnn, "gru": gru, "lstm": lstm}
"""The recurrent layer of each kind."""
