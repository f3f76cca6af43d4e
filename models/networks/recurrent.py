"""The networks, built from one description out of stock Keras layers.

`rnn` is Elman's network, h_t = tanh(W_hh h_{t-1} + W_xh x_t + b), y_t = W_hy h_t (Elman 1990, "Finding
structure in time"); `gru` is the gated recurrent unit (Cho et al. 2014) and `lstm` the long short-term memory
(Hochreiter and Schmidhuber 1997). Recurrent weights start orthogonal (Saxe et al. 2014).

No output depends on later sessions, and networks read inputs of any length. A causal convolution can precede the
recurrent layers, and attention over the last `lookback` states can follow them. Networks without recurrence consist of
the parts in `models.networks.feedforward`.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np

from models.devices import Device
from models.engine import keras
from models.networks import bptt_layers
from models.networks.feedforward import convolve_levels, map_window
from models.networks.network import Network
from models.scaling import LIMIT, Scaling
from models.threads import use_one_thread

__all__ = ["CUDNN", "KINDS", "build", "build_deployable", "build_to_train", "count_parameters"]

use_one_thread()

KINDS: Final = {"rnn": keras.layers.SimpleRNN, "gru": keras.layers.GRU, "lstm": keras.layers.LSTM}
"""The recurrent layer of each kind."""

TRAINED: Final = {"rnn": bptt_layers.SimpleRNN, "gru": bptt_layers.GRU, "lstm": bptt_layers.LSTM}
"""The same layers with faster gradients, for training alone: saved networks consist of Keras' own layers."""

CUDNN: Final = ("gru", "lstm")
"""The kinds whose layer in Keras is one call of cuDNN on a GPU; the layers of TRAINED would be a loop there."""


def build(network: Network, seed: int) -> keras.Model:
    """Return the network without its input scale: scaled inputs [row, session, feature] in, logits out.

    All weights depend on `seed` alone; Keras' global generator is not used.
    """
    return _build(network, KINDS, seed)


def build_to_train(network: Network, seed: int, dropout: float = 0.0, device: Device = "cpu") -> keras.Model:
    """Return the network of `build` with the layers that train fastest, for the training loop alone.

    Args:
        network: The description.
        seed: Of its first weights.
        dropout: Share of the states of each hidden layer that a step of training leaves out (Srivastava et al. 2014).
            Dropout has no weights, and the network that is saved lacks it.
        device: Where it is trained: on a GPU, the kinds in CUDNN consist of Keras' own layers.
    """
    is_cudnn = device == "gpu" and network.kind in CUDNN
    return _build(network, KINDS if is_cudnn else TRAINED, seed, dropout)


def build_deployable(network: Network, scaling: Scaling) -> keras.Model:
    """Return the network as it is saved: unscaled inputs in, logits out, with the input scale as layers.

    Its weights have the order and shapes of `build`'s.
    """
    unscaled = keras.Input((None, network.features), name="unscaled")
    scaled = keras.layers.Normalization(mean=scaling.mean, variance=scaling.variance, name="scale")(unscaled)
    # hard_tanh(z) = clip(z, -1, 1): between two rescalings it cuts off at LIMIT, and loads in safe mode.
    for layer in (
        keras.layers.Rescaling(1 / LIMIT, name="into_unit"),
        keras.layers.Activation("hard_tanh", name="cut_off"),
        keras.layers.Rescaling(LIMIT, name="out_of_unit"),
    ):
        scaled = layer(scaled)
    return keras.Model(unscaled, _logits(network, KINDS, scaled, seed=0), name=network.kind)


def count_parameters(network: Network) -> int:
    """Return the number of trained weights; it does not depend on the length of the input."""
    return int(build(network, seed=0).count_params())


def _build(network: Network, layers: Mapping[str, type], seed: int, dropout: float = 0.0) -> keras.Model:
    scaled = keras.Input((None, network.features), name="scaled")
    return keras.Model(scaled, _logits(network, layers, scaled, seed, dropout), name=network.kind)


def _logits(
    network: Network,
    layers: Mapping[str, type],
    scaled: keras.KerasTensor,
    seed: int,
    dropout: float = 0.0,
) -> keras.KerasTensor:
    if network.kind == "linear":
        return map_window(network, scaled, "logits", use_bias=True)
    if network.kind == "tcn":
        hidden = convolve_levels(network, scaled, seed, dropout)
        hidden = hidden if network.mode == "sequence" else hidden[:, -1]
    else:
        hidden = _recur(network, layers, scaled, seed, dropout)
    skip = map_window(network, scaled, "linear_skip", use_bias=False) if network.linear_skip else None
    # Zero output weights: at first every logit is the bias. With random ones, the first epochs on noisy returns
    # are spent on unlearning them.
    logits = keras.layers.Dense(network.horizons, kernel_initializer="zeros", name="logits")(hidden)
    return logits if skip is None else keras.layers.Add(name="with_skip")([skip, logits])


def _recur(
    network: Network, layers: Mapping[str, type], scaled: keras.KerasTensor, seed: int, dropout: float
) -> keras.KerasTensor:
    """Return the states that the output layer reads."""
    seeds = iter(np.random.SeedSequence(seed).generate_state(3 * network.layers + 2).tolist())
    # The recurrent layers come first: they start the same with and without convolution or attention.
    drawn = [[next(seeds) for _ in range(3)] for _ in range(network.layers)]
    hidden = _convolve(network, scaled, next(seeds)) if network.convolution else scaled
    # Keras orders weights by the distance of their layer from the output: with the last state taken apart, those of a
    # skip always come after those of the recurrent layers.
    is_many = network.attention or network.linear_skip or network.mode == "sequence"
    for layer, (kernel, recurrent, rest) in enumerate(drawn, start=1):
        hidden = layers[network.kind](
            network.units,
            return_sequences=layer < network.layers or is_many,
            kernel_initializer=keras.initializers.GlorotUniform(seed=kernel),
            recurrent_initializer=keras.initializers.Orthogonal(seed=recurrent),
            seed=rest,
            name=f"recurrent_{layer}",
        )(hidden)
        if dropout:
            hidden = keras.layers.Dropout(dropout, seed=seed + layer, name=f"dropout_{layer}")(hidden)
    if network.attention:
        return _attend(network, hidden, next(seeds))
    return hidden[:, -1] if network.linear_skip and network.mode == "windowed" else hidden


def _convolve(network: Network, scaled: keras.KerasTensor, seed: int) -> keras.KerasTensor:
    return keras.layers.Conv1D(
        network.units,
        network.convolution,
        padding="causal",
        activation="relu",
        kernel_initializer=keras.initializers.GlorotUniform(seed=seed),
        name="convolution",
    )(scaled)


def _attend(network: Network, states: keras.KerasTensor, seed: int) -> keras.KerasTensor:
    """Return each state joined with the weighted mean of the `lookback` states up to it.

    The weight of a state is exp(u . tanh(W h + b)): the temporal attention of Feng et al. (2019), "Enhancing stock
    movement prediction with adversarial training", eq. 3. Its softmax over a moving window is a ratio of two moving
    means, so that a forecast costs the same at every length of history.
    """
    energy = keras.layers.Dense(
        network.units,
        activation="tanh",
        kernel_initializer=keras.initializers.GlorotUniform(seed=seed),
        name="attention_energy",
    )(states)
    # Zero weights: before training, all states count equally.
    weight = keras.layers.Dense(
        1, activation="exponential", use_bias=False, kernel_initializer="zeros", name="attention_weight"
    )(energy)
    weighted = keras.layers.Multiply(name="attention_weighted")([states, weight])
    total, norm = (_moving_mean(network, part) for part in (weighted, weight))
    mean = keras.ops.divide(total, norm)
    if network.mode == "windowed":
        states, mean = states[:, -1], mean[:, -1]
    return keras.layers.Concatenate(name="attention")([states, mean])


def _moving_mean(network: Network, part: keras.KerasTensor) -> keras.KerasTensor:
    padded = keras.layers.ZeroPadding1D((network.lookback - 1, 0))(part)
    return keras.layers.AveragePooling1D(network.lookback, strides=1)(padded)
