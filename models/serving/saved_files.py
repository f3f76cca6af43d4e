"""Read the numbers of a saved model's files, without Keras: no code in a file is ever run."""

import io
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray

from models.ensembles.model_files import member_file
from models.errors import ModelError
from models.networks.network import Network
from models.scaling import Scaling
from models.serving.network import weight_shapes

__all__ = ["read_arrays", "read_members"]

_MADE_OF: Final = {
    *((None, name) for name in ("__keras_tensor__", "__slice__")),
    ("keras", "DTypePolicy"),
    ("keras.src.models.functional", "Functional"),
    *(("keras.initializers", name) for name in ("GlorotUniform", "Orthogonal", "Zeros")),
    *(("keras.layers", name) for name in ("Activation", "Dense", "InputLayer", "Normalization", "Rescaling")),
    *(("keras.layers", name) for name in ("GRU", "LSTM", "SimpleRNN")),
    *(
        ("keras.layers", name)
        for name in ("AveragePooling1D", "Concatenate", "Conv1D", "Multiply", "ZeroPadding1D")
    ),
    ("keras.layers", "Add"),
    *(("keras.src.ops.numpy", name) for name in ("Divide", "GetItem")),
}
"""Module and class of every part of a network of `networks.recurrent`."""

_PARTS: Final = {"config.json", "metadata.json", "model.weights.h5"}
"""What a .keras file of ours consists of."""

_WEIGHTED: Final = {
    "Conv1D": ("conv1d", "vars"),
    "Dense": ("dense", "vars"),
    "GRU": ("gru", "cell/vars"),
    "LSTM": ("lstm", "cell/vars"),
    "SimpleRNN": ("simple_rnn", "cell/vars"),
}
"""Where Keras stores the arrays of a layer with weights, by its class."""

_FIX: Final = "use a model that nextday trained, or train again"


def read_members(
    directory: Path, network: Network, count: int
) -> tuple[Scaling, list[list[NDArray[np.float32]]]]:
    """Return the input scale and the weights of each member that a pooled ensemble saved.

    Raises:
        ModelError: naming the file that cannot be read, or is no network of nextday.
    """
    members = [_read_member(directory / member_file(number), network) for number in range(1, count + 1)]
    return members[0][0], [weights for _, weights in members]


def read_arrays(path: Path) -> dict[str, NDArray[np.float32]]:
    """Return the arrays of an .npz file by name.

    Raises:
        ModelError: it cannot be read, or holds objects.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: np.asarray(arrays[name], np.float32) for name in arrays.files}
    # NumPy raises what its readers of zip files raise, and ValueError where a file brings objects.
    except Exception as broken:
        raise _refused("these weights are", path, broken) from None


def _read_member(path: Path, network: Network) -> tuple[Scaling, list[NDArray[np.float32]]]:
    try:
        with ZipFile(path) as archive:
            for name in archive.namelist():
                if name not in _PARTS:
                    raise ValueError(f"it holds {name}, which no network of nextday has")
            description = json.loads(archive.read("config.json"))
            for module, name in _parts(description):
                if (module, name) not in _MADE_OF:
                    raise ValueError(f"it asks for {module}.{name}, which no network of nextday has")
            layers = description["config"]["layers"]
            return _read_scaling(layers), _read_weights(archive.read("model.weights.h5"), layers, network)
    # The readers of zip, JSON and HDF5 raise errors of every kind.
    except Exception as broken:
        raise _refused("this network is", path, broken) from None


def _read_scaling(layers: list[dict[str, Any]]) -> Scaling:
    (scale,) = (layer["config"] for layer in layers if layer["class_name"] == "Normalization")
    return Scaling(*(np.asarray(scale[name], np.float32).reshape(-1) for name in ("mean", "variance")))


def _read_weights(
    content: bytes, layers: list[dict[str, Any]], network: Network
) -> list[NDArray[np.float32]]:
    import h5py

    arrays, expected = [], weight_shapes(network)
    with h5py.File(io.BytesIO(content)) as file:
        for place in _places(layers):
            stored = file[place]
            arrays += [stored[str(number)] for number in range(len(stored))]
        found = [array.shape for array in arrays]
        if found != expected:  # before anything is read: a shape costs nothing, whatever it says
            raise ValueError(f"its weights have the shapes {found}, and model.json describes {expected}")
        return [np.asarray(array[()], np.float32) for array in arrays]


def _places(layers: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the HDF5 group of every layer with weights, from the input to the output."""
    seen = Counter[str]()
    for layer in layers:
        if layer["class_name"] in _WEIGHTED:
            group, inside = _WEIGHTED[layer["class_name"]]
            yield f"layers/{group}{f'_{seen[group]}' if seen[group] else ''}/{inside}"
            seen[group] += 1


def _parts(description: Any) -> Iterator[tuple[Any, Any]]:
    """Yield module and class of everything that a description names."""
    if isinstance(description, dict) and "class_name" in description:
        yield description.get("module"), description["class_name"]
    inner = description.values() if isinstance(description, dict) else description
    for part in inner if isinstance(description, dict | list) else ():
        yield from _parts(part)


def _refused(what: str, path: Path, broken: Exception) -> ModelError:
    reason = (str(broken) or type(broken).__name__).splitlines()[0]
    return ModelError(f"{what} refused: {reason}", where=str(path), fix=_FIX)
