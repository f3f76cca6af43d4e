"""The parts of networks without recurrence: a linear map of the window, and a stack of causal convolutions.

Both are Keras' own Conv1D, which XLA compiles as well as anything written by hand, so training needs no other layers.
"""

import numpy as np

from models.engine import keras
from models.networks.network import KERNEL, Network

__all__ = ["convolve_levels", "map_window"]


def map_window(
    network: Network, scaled: keras.KerasTensor, name: str, *, use_bias: bool
) -> keras.KerasTensor:
    """Return a linear map of the last `lookback` sessions to the logits: at every session, or of windows.

    The model that Zeng et al. (2023), "Are transformers effective for time series forecasting?", set against deep
    networks (LTSF-Linear; DLinear's decomposition into trend and remainder is itself linear in the window).
    """
    is_many = network.mode == "sequence"
    mapped = keras.layers.Conv1D(
        network.horizons,
        network.lookback,
        padding="causal" if is_many else "valid",
        use_bias=use_bias,
        kernel_initializer="zeros",
        name=name,
    )(scaled)
    return mapped if is_many else mapped[:, -1]


def convolve_levels(
    network: Network, scaled: keras.KerasTensor, seed: int, dropout: float
) -> keras.KerasTensor:
    """Return the states of a temporal convolutional network (Bai, Kolter and Koltun 2018), at every session.

    After a linear map to `units` channels each level adds what `layers` causal convolutions with relu make of its
    input; the dilation doubles from level to level until `lookback` sessions are read.
    """
    count = 1 + network.layers * len(network.dilations)
    seeds = iter(np.random.SeedSequence(seed).generate_state(count).tolist())

    def initializer() -> keras.Initializer:
        return keras.initializers.GlorotUniform(seed=next(seeds))

    hidden = keras.layers.Dense(network.units, kernel_initializer=initializer(), name="channels")(scaled)
    for level, dilation in enumerate(network.dilations, start=1):
        made = hidden
        for number in range(1, network.layers + 1):
            made = keras.layers.Conv1D(
                network.units,
                KERNEL,
                dilation_rate=dilation,
                padding="causal",
                activation="relu",
                kernel_initializer=initializer(),
                name=f"convolution_{level}_{number}",
            )(made)
        if dropout:
            made = keras.layers.Dropout(dropout, seed=seed + level, name=f"dropout_{level}")(made)
        hidden = keras.layers.Add(name=f"level_{level}")([hidden, made])
    return hidden
