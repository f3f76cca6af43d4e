"""A model file that could run code is refused before anything of it is read as more than text."""

import json
import pickle
from hashlib import sha256
from pathlib import Path
from zipfile import ZipFile

import keras
import numpy as np
import pytest

from models.ensembles.model_files import METADATA
from models.ensembles.pooled import RecurrentModel
from models.errors import ModelError
from models.networks.network import Network
from models.serving.ensemble import load
from models.training.trainer import Training

pytestmark = pytest.mark.slow


class Trap:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.path,)  # type: ignore[return-value]


@keras.saving.register_keras_serializable(package="strangers")
class Own(keras.layers.Layer):  # type: ignore[misc]
    """A layer of somebody's own, which this process even knows."""

    def call(self, inputs: object) -> object:
        return inputs


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(1)
    x, mask = rng.standard_normal((4, 120, 2)).astype(np.float32), np.ones((4, 120), bool)
    y = (rng.random((4, 120, 1)) < 0.5).astype(np.float32)
    recipe = RecurrentModel(
        Network("gru", features=2, lookback=4, units=2), Training(epochs=1, learning_rate=1e-3), members=1
    )
    folder = tmp_path_factory.mktemp("models") / "model"
    recipe.fit(x, mask, y, train=range(60), stop=range(61, 80), calibrate=range(81, 100), seed=1).save(folder)
    return folder


@pytest.fixture
def folder(model: Path, tmp_path: Path) -> Path:
    """Return a copy of the model's folder."""
    copy = tmp_path / "model"
    copy.mkdir()
    for file in model.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    load(copy)
    return copy


def refused(folder: Path, word: str) -> None:
    """Let the metadata vouch for what lies there, and check that it is refused by name all the same."""
    file, metadata = folder / "member-1.keras", json.loads((folder / METADATA).read_text())
    metadata["files"][file.name] = sha256(file.read_bytes()).hexdigest()
    (folder / METADATA).write_text(json.dumps(metadata))
    with pytest.raises(ModelError, match="refused") as error:
        load(folder)
    assert str(file) in str(error.value)
    assert word in str(error.value)


def test_a_lambda_layer_is_refused(folder: Path) -> None:
    inputs = keras.Input((None, 2))
    keras.Model(inputs, keras.layers.Lambda(lambda x: x[:, -1, :1], output_shape=(1,))(inputs)).save(
        folder / "member-1.keras"
    )
    refused(folder, "Lambda")


def test_a_layer_of_ones_own_is_refused_even_where_it_is_registered(folder: Path) -> None:
    inputs = keras.Input((None, 2))
    keras.Model(inputs, keras.layers.Dense(1)(Own()(inputs))).save(folder / "member-1.keras")
    refused(folder, "Own")


@pytest.mark.parametrize(
    "name", ["weights.pkl", "model.weights.h5.pkl", "assets/vocabulary.pickle", "data.npy"]
)
def test_a_file_with_a_pickle_inside_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    with ZipFile(folder / "member-1.keras", "a") as archive:
        archive.writestr(name, pickle.dumps(Trap(tmp_path / "sprung")))
    refused(folder, name)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("part", ["config.json", "model.weights.h5"])
def test_a_pickle_in_the_place_of_a_part_is_refused(folder: Path, tmp_path: Path, part: str) -> None:
    file = folder / "member-1.keras"
    with ZipFile(file) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts[part] = pickle.dumps(Trap(tmp_path / "sprung"))
    with ZipFile(file, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    refused(folder, "")
    assert not (tmp_path / "sprung").exists()


def test_a_pickle_that_is_called_a_network_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "member-1.keras").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    refused(folder, "zip")
    assert not (tmp_path / "sprung").exists()


def test_a_pickle_beside_the_model_is_never_opened(folder: Path, tmp_path: Path) -> None:
    for name in ("model.pkl", "member-1.pkl", "model.json.pkl"):
        (folder / name).write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    assert np.isfinite(load(folder).base_rate).all()
    assert not (tmp_path / "sprung").exists()


def test_the_trap_works(tmp_path: Path) -> None:
    """The control of the tests above."""
    pickle.loads(pickle.dumps(Trap(tmp_path / "sprung")))
    assert (tmp_path / "sprung").exists()
