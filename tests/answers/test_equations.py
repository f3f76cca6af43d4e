"""The networks compute what their papers say, in a few lines of NumPy: every kind, any number of layers."""

import numpy as np
import pytest

from models.networks.network import Kind, Network
from models.networks.recurrent import build

pytestmark = [pytest.mark.slow, pytest.mark.own_process]

FEATURES, UNITS, SESSIONS, ROWS = 3, 5, 30, 4
X = np.random.default_rng(8).normal(0, 1, (ROWS, SESSIONS, FEATURES)).astype(np.float32)

Weights = list[np.ndarray]


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def run_rnn(x: np.ndarray, w_xh: np.ndarray, w_hh: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Elman (1990): h_t = tanh(W_hh h_{t-1} + W_xh x_t + b)."""
    h, states = np.zeros((ROWS, UNITS)), []
    for t in range(SESSIONS):
        h = np.tanh(h @ w_hh + x[:, t] @ w_xh + b)
        states.append(h)
    return np.stack(states, axis=1)


def run_gru(x: np.ndarray, w: np.ndarray, u: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cho et al. (2014), the reset gate after the matrix product: gates in the order update, reset, candidate."""
    (w_z, w_r, w_h), (u_z, u_r, u_h) = np.split(w, 3, axis=1), np.split(u, 3, axis=1)
    (b_z, b_r, b_h), (c_z, c_r, c_h) = np.split(b[0], 3), np.split(b[1], 3)
    h, states = np.zeros((ROWS, UNITS)), []
    for t in range(SESSIONS):
        z = sigmoid(x[:, t] @ w_z + b_z + h @ u_z + c_z)
        r = sigmoid(x[:, t] @ w_r + b_r + h @ u_r + c_r)
        candidate = np.tanh(x[:, t] @ w_h + b_h + r * (h @ u_h + c_h))
        h = z * h + (1 - z) * candidate
        states.append(h)
    return np.stack(states, axis=1)


def run_lstm(x: np.ndarray, w: np.ndarray, u: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Hochreiter and Schmidhuber (1997), forget gate of Gers et al. (2000): input, forget, candidate, output."""
    h, c, states = np.zeros((ROWS, UNITS)), np.zeros((ROWS, UNITS)), []
    for t in range(SESSIONS):
        i, f, g, o = np.split(x[:, t] @ w + h @ u + b, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        states.append(h)
    return np.stack(states, axis=1)


RUN = {"rnn": run_rnn, "gru": run_gru, "lstm": run_lstm}


def convolve(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Return max(0, sum_k kernel[k] x_{t - size + 1 + k} + bias): nothing from after t."""
    size = len(kernel)
    padded = np.concatenate([np.zeros((ROWS, size - 1, x.shape[2])), x], axis=1)
    joined = [sum(padded[:, t + k] @ kernel[k] for k in range(size)) + bias for t in range(SESSIONS)]
    return np.maximum(np.stack(joined, axis=1), 0)


def drawn(weights: Weights) -> Weights:
    """Return weights none of which is zero: every gate and every bias has a part in the answer."""
    rng = np.random.default_rng(2)
    return [rng.normal(0, 0.6, weight.shape) for weight in weights]


def answer(network: Network, weights: Weights) -> np.ndarray:
    """Return the logits [row, session, horizon] of the equations, in float64."""
    hidden, rest = X.astype(np.float64), list(weights)
    if network.convolution:
        hidden = convolve(hidden, rest.pop(0), rest.pop(0))
    for _ in range(network.layers):
        hidden = RUN[network.kind](hidden, rest.pop(0), rest.pop(0), rest.pop(0))
    w_hy, c = rest
    return hidden @ w_hy + c


@pytest.mark.parametrize("convolution", [0, 4])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
def test_a_network_is_its_equations_at_every_session(kind: Kind, layers: int, convolution: int) -> None:
    sizes = {"features": FEATURES, "lookback": SESSIONS, "units": UNITS, "layers": layers, "horizons": 2}
    every = Network(kind, **sizes, convolution=convolution, mode="sequence")  # type: ignore[arg-type]
    last = Network(kind, **sizes, convolution=convolution)  # type: ignore[arg-type]
    model, windowed = build(every, seed=1), build(last, seed=1)
    weights = drawn(model.get_weights())
    expected = answer(every, weights)
    for network in (model, windowed):
        network.set_weights(weights)
    assert np.ptp(expected) > 0.5
    assert np.asarray(model(X)) == pytest.approx(expected, abs=1e-5)
    assert np.asarray(windowed(X)) == pytest.approx(expected[:, -1], abs=1e-5)
