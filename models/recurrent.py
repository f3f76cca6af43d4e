"""The recurrent networks, built from one description out of stock Keras layers.

`rnn` is Elman's network, h_t = tanh(W_hh h_{t-1} + W_xh x_t + b), y_t = W_hy h_t (Elman 1990, "Finding
structure in time"); `gru` is the gated recurrent unit (Cho et al. 2014) and `lstm` the long short-term memory
(Hochreiter and Schmidhuber 1997). Recurrent weights start orthogonal (Saxe et al. 2014).
"""

from dataclasses import dataclass
from typing import Final, Literal

import keras
import numpy as np

from models.errors import ModelError
from models.scaling import LIMIT, Scaling

__all__ = ["KINDS", "Kind", "Network", "build", "build_deployable", "count_parameters"]

Kind = Literal["rnn", "gru", "lstm"]

KINDS: Final = {"rnn": keras.layers.SimpleRNN, "gru": keras.layers.GRU, "lstm": keras.layers.LSTM}
"""The recurrent layer of each kind."""


@dataclass(frozen=True)
class Network:
    """Description of a network: windows [row, lookback, features] in, logits [row, horizons] out.

    Attributes:
        kind: rnn, gru or lstm.
        features: Columns of a window.
        lookback: Sessions of a window.
        units: Width of each recurrent layer.
        layers: Recurrent layers, one on the other.
        horizons: Logits, one a horizon.

    Raises:
        ModelError: if the kind is not known or a size is below one.
    """

    kind: Kind
    features: int
    lookback: int
    units: int = 32
    layers: int = 1
    horizons: int = 1

    def __post_init__(self) -> None:
        """Check the description."""
        if self.kind not in KINDS:
            raise ModelError(
                f"unknown kind of network {self.kind!r}", way_out=f"choose one of {', '.join(KINDS)}"
            )
        if min(self.features, self.lookback, self.units, self.layers, self.horizons) < 1:
            raise ModelError(f"every size of a network must be at least 1: {self}")


def build(network: Network, seed: int) -> keras.Model:
    """Return the trainable part: scaled windows [row, lookback, feature] in, logits [row, horizon] out.

    All weights depend on `seed` alone; Keras' global seed is not drawn from.
    """
    scaled = keras.Input((network.lookback, network.features), name="scaled")
    return keras.Model(scaled, _logits(network, scaled, seed), name=network.kind)


def build_deployable(network: Network, scaling: Scaling) -> keras.Model:
    """Return the network as it is saved: unscaled windows in, logits out, the scale inside.

    Its weights have the order and shapes of `build`, which trains them.
    """
    windows = keras.Input((network.lookback, network.features), name="windows")
    scaled = keras.layers.Normalization(mean=scaling.mean, variance=scaling.variance, name="scale")(windows)
    # hard_tanh(z) = clip(z, -1, 1): between two rescalings it cuts off at LIMIT, and loads in safe mode.
    for layer in (
        keras.layers.Rescaling(1 / LIMIT, name="into_unit"),
        keras.layers.Activation("hard_tanh", name="cut_off"),
        keras.layers.Rescaling(LIMIT, name="out_of_unit"),
    ):
        scaled = layer(scaled)
    return keras.Model(windows, _logits(network, scaled, seed=0), name=network.kind)


def count_parameters(network: Network) -> int:
    """Return the number of trained weights."""
    return int(build(network, seed=0).count_params())


def _logits(network: Network, scaled: keras.KerasTensor, seed: int) -> keras.KerasTensor:
    seeds = iter(np.random.SeedSequence(seed).generate_state(3 * network.layers).tolist())
    hidden = scaled
    for layer in range(1, network.layers + 1):
        hidden = KINDS[network.kind](
            network.units,
            return_sequences=layer < network.layers,
            kernel_initializer=keras.initializers.GlorotUniform(seed=next(seeds)),
            recurrent_initializer=keras.initializers.Orthogonal(seed=next(seeds)),
            seed=next(seeds),
            name=f"recurrent_{layer}",
        )(hidden)
    # From zero, a network leaves its bias only for what it has learned: with random output weights the first
    # epochs on noisy returns are spent on unlearning them.
    return keras.layers.Dense(network.horizons, kernel_initializer="zeros", name="logits")(hidden)
