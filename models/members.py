"""The members of an ensemble: one network with many sets of weights, run in one compiled graph."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final
from zipfile import ZipFile

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from models.errors import ModelError
from models.saved import make_reproducible
from models.windows import gather_windows

__all__ = ["Members", "load_members", "member_file"]

# Windows always pass through the graph this many at a time, filled up with zeros: one compiled shape gives a
# row the same logits whether it comes alone at night or with ten years around it.
_BATCH: Final = 512

_MADE_OF: Final = {
    (None, "__keras_tensor__"),
    ("keras", "DTypePolicy"),
    ("keras.src.models.functional", "Functional"),
    *(("keras.initializers", name) for name in ("GlorotUniform", "Orthogonal", "Zeros")),
    *(("keras.layers", name) for name in ("Activation", "Dense", "InputLayer", "Normalization", "Rescaling")),
    *(("keras.layers", name) for name in ("GRU", "LSTM", "SimpleRNN")),
}
"""Module and class of every part of a network of `recurrent`."""


@dataclass(frozen=True)
class Members:
    """Sets of weights for one network.

    Attributes:
        model: The network, unscaled windows in, logits out; the weights in it are of no account.
        weights: One list of arrays a member, in the order of the network's trainable variables.
    """

    model: keras.Model
    weights: list[list[NDArray[np.float32]]]

    def logits(self, x: NDArray[np.float32], rows: NDArray[np.int32]) -> NDArray[np.float32]:
        """Return the logits [member, row, horizon] of the windows of x that end at its flat rows `rows`."""
        parts = [self._batch(x, rows[start : start + _BATCH]) for start in range(0, len(rows), _BATCH)]
        empty = np.empty((len(self.weights), 0, self.model.output_shape[-1]), dtype=np.float32)
        return np.concatenate([empty, *parts], axis=1)

    def save(self, directory: Path) -> None:
        """Write member-<k>.keras for each member, from 1."""
        for number, weights in enumerate(self.weights, start=1):
            self.model.set_weights(weights)
            self.model.save(directory / member_file(number))
            make_reproducible(directory / member_file(number))

    def _batch(self, x: NDArray[np.float32], rows: NDArray[np.int32]) -> NDArray[np.float32]:
        _, lookback, features = self.model.input_shape
        windows = np.zeros((_BATCH, lookback, features), dtype=np.float32)
        windows[: len(rows)] = gather_windows(x, rows, lookback)
        fed = tf.constant(windows)
        return np.stack([self._forward(weights, fed).numpy()[: len(rows)] for weights in self._tensors])

    @cached_property
    def _tensors(self) -> list[list[tf.Tensor]]:
        return [[tf.constant(array) for array in weights] for weights in self.weights]

    @cached_property
    def _forward(self) -> tf.types.experimental.PolymorphicFunction:
        def forward(weights: list[tf.Tensor], windows: tf.Tensor) -> tf.Tensor:
            # Stateless: the weights are arguments, so that the members share one compilation.
            return self.model.stateless_call(weights, self.model.non_trainable_variables, windows)[0]

        return tf.function(forward, jit_compile=True)


def member_file(number: int) -> str:
    """Return the file name of a member, from 1."""
    return f"member-{number}.keras"


def load_members(directory: Path, count: int) -> Members:
    """Return the members saved in a folder.

    Raises:
        ModelError: naming the file that cannot be read or that asks to run code.
    """
    models = [_load(directory / member_file(number)) for number in range(1, count + 1)]
    return Members(models[0], [model.get_weights() for model in models])


def _load(path: Path) -> keras.Model:
    try:
        _refuse_strangers(path)
        return keras.models.load_model(path, compile=False, safe_mode=True)
    # Keras raises what its readers of zip, JSON and HDF5 raise, and ValueError where a file brings code.
    except Exception as broken:
        raise ModelError(
            f"this network is refused: {(str(broken) or type(broken).__name__).splitlines()[0]}",
            where=str(path),
            way_out="use a model that nextday trained, or train again",
        ) from None


def _refuse_strangers(path: Path) -> None:
    """Look at what a file would have Keras make: its safe mode knows the ways to run code that were found so far."""
    with ZipFile(path) as archive:
        description = json.loads(archive.read("config.json"))
    for module, name in _parts(description):
        if (module, name) not in _MADE_OF:
            raise ValueError(f"it asks for {module}.{name}, which no network of nextday has")


def _parts(description: Any) -> Iterator[tuple[Any, Any]]:
    """Yield module and class of everything that a description names."""
    if isinstance(description, dict) and "class_name" in description:
        yield description.get("module"), description["class_name"]
    inner = description.values() if isinstance(description, dict) else description
    for part in inner if isinstance(description, dict | list) else ():
        yield from _parts(part)
