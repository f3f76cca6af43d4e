"""The recurrent networks, built from one description out of stock Keras layers.

`rnn` is Elman's network, h_t = tanh(W_hh h_{t-1} + W_xh x_t + b), y_t = W_hy h_t (Elman 1990, "Finding
structure in time"); `gru` is the gated recurrent unit (Cho et al. 2014) and `lstm` the long short-term memory
(Hochreiter and Schmidhuber 1997). Recurrent weights start orthogonal (Saxe et al. 2014).

Every network reads inputs of any length, and no output depends on later sessions. A causal convolution can precede the
recurrent layers, and attention over the last `lookback` states can follow them.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np

from models.engine import keras
from models.networks import bptt_layers
from models.networks.network import Network
from models.scaling import LIMIT, Scaling
from models.threads import use_one_thread

__all__ = ["KINDS", "build", "build_deployable", "build_to_train", "count_parameters"]

use_one_thread()

KINDS: Final = {"rnn": keras.layers.SimpleRNN, "gru": keras.layers.GRU, "lstm": keras.layers.LSTM}
"""The recurrent layer of each kind."""

TRAINED: Final = {"rnn": bptt_layers.SimpleRNN, "gru": bptt_layers.GRU, "lstm": bptt_layers.LSTM}
"""The same layers with faster gradients, for training alone: saved networks consist of Keras' own layers."""


def build(network: Network, seed: int) -> keras.Model:
    """Return the network without its input scale: scaled inputs [row, session, feature] in, logits out.

    All weights depend on `seed` alone; Keras' global generator is not used.
    """
    return _build(network, KINDS, seed)


def build_to_train(network: Network, seed: int) -> keras.Model:
    """Return the network of `build` with the faster layers of TRAINED, for the training loop alone."""
    return _build(network, TRAINED, seed)


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


def _build(network: Network, layers: Mapping[str, type], seed: int) -> keras.Model:
    scaled = keras.Input((None, network.features), name="scaled")
    return keras.Model(scaled, _logits(network, layers, scaled, seed), name=network.kind)


def _logits(
    network: Network, layers: Mapping[str, type], scaled: keras.KerasTensor, seed: int
) -> keras.KerasTensor:
    seeds = iter(np.random.SeedSequence(seed).generate_state(3 * network.layers + 2).tolist())
    # The recurrent layers come first: they start the same with and without convolution or attention.
    drawn = [[next(seeds) for _ in range(3)] for _ in range(network.layers)]
    hidden = _convolve(network, scaled, next(seeds)) if network.convolution else scaled
    is_many = network.attention or network.mode == "sequence"
    for layer, (kernel, recurrent, rest) in enumerate(drawn, start=1):
        hidden = layers[network.kind](
            network.units,
            return_sequences=layer < network.layers or is_many,
            kernel_initializer=keras.initializers.GlorotUniform(seed=kernel),
            recurrent_initializer=keras.initializers.Orthogonal(seed=recurrent),
            seed=rest,
            name=f"recurrent_{layer}",
        )(hidden)
    if network.attention:
        hidden = _attend(network, hidden, next(seeds))
    # Zero output weights: at first every logit is the bias. With random ones, the first epochs on noisy returns
    # are spent on unlearning them.
    return keras.layers.Dense(network.horizons, kernel_initializer="zeros", name="logits")(hidden)


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
