"""The recurrent networks, built from one description out of stock Keras layers.

`rnn` is Elman's network, h_t = tanh(W_hh h_{t-1} + W_xh x_t + b), y_t = W_hy h_t (Elman 1990, "Finding
structure in time"); `gru` is the gated recurrent unit (Cho et al. 2014) and `lstm` the long short-term memory
(Hochreiter and Schmidhuber 1997). Recurrent weights start orthogonal (Saxe et al. 2014).

Every network reads inputs of any length, and none looks ahead: a causal convolution may stand in front, and
attention over the last `lookback` states beside the last one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import keras
import numpy as np

from models.errors import ModelError
from models.networks import bptt_layers
from models.scaling import LIMIT, Scaling
from models.threads import use_one_thread
from models.windows import Mode

__all__ = ["KINDS", "Kind", "Network", "build", "build_deployable", "build_to_train", "count_parameters"]

use_one_thread()

Kind = Literal["rnn", "gru", "lstm"]

KINDS: Final = {"rnn": keras.layers.SimpleRNN, "gru": keras.layers.GRU, "lstm": keras.layers.LSTM}
"""The recurrent layer of each kind."""

TRAINED: Final = {"rnn": bptt_layers.SimpleRNN, "gru": bptt_layers.GRU, "lstm": bptt_layers.LSTM}
"""The same layers, faster, for training alone: what is saved is made of Keras' own."""


@dataclass(frozen=True)
class Network:
    """Description of a network.

    Attributes:
        kind: rnn, gru or lstm.
        features: Columns of the input.
        lookback: windowed: sessions of a window; sequence: sessions that a forecast has behind it at least.
        units: Width of each recurrent layer.
        layers: Recurrent layers, one on the other.
        horizons: Logits, one a horizon.
        convolution: Sessions that a causal convolution in front joins; 0 for none.
        attention: Whether the output also sees the weighted mean of the last `lookback` states.
        mode: windowed: many-to-one, [row, session, feature] in, the logits [row, horizon] of its last session out;
            sequence: many-to-many, the logits [row, session, horizon] of every session out.

    Raises:
        ModelError: if the kind or the mode is not known or a size is below one.
    """

    kind: Kind
    features: int
    lookback: int
    units: int = 16
    layers: int = 1
    horizons: int = 1
    convolution: int = 0
    attention: bool = False
    mode: Mode = "windowed"

    def __post_init__(self) -> None:
        """Check the description."""
        if self.kind not in KINDS:
            raise ModelError(
                f"unknown kind of network {self.kind!r}", fix=f"choose one of {', '.join(KINDS)}"
            )
        if self.mode not in ("windowed", "sequence"):
            raise ModelError(f"unknown mode {self.mode!r}", fix="choose windowed or sequence")
        if min(self.features, self.lookback, self.units, self.layers, self.horizons) < 1:
            raise ModelError(f"every size of a network must be at least 1: {self}")
        if self.convolution < 0:
            raise ModelError(f"a convolution joins 0 sessions or more: {self}")


def build(network: Network, seed: int) -> keras.Model:
    """Return the network without its scale: scaled inputs [row, session, feature] in, logits out.

    All weights depend on `seed` alone; Keras' global seed is not drawn from.
    """
    return _build(network, KINDS, seed)


def build_to_train(network: Network, seed: int) -> keras.Model:
    """Return what `build` does, of layers whose gradients cost a fraction: for the training loop alone."""
    return _build(network, TRAINED, seed)


def build_deployable(network: Network, scaling: Scaling) -> keras.Model:
    """Return the network as it is saved: unscaled inputs in, logits out, the scale inside.

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
    # The recurrent layers draw first: a network with an extra starts them as the one without.
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
    # From zero, a network leaves its bias only for what it has learned: with random output weights the first
    # epochs on noisy returns are spent on unlearning them.
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
    """Return each state beside the weighted mean of the `lookback` states up to it.

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
    # From zero: all states weigh the same before anything is learned.
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
