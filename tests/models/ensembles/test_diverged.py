"""A training whose loss is no number promotes nothing, and its last good weights are where the error says."""

import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from models.ensembles.per_symbol import SymbolModel
from models.ensembles.pooled import RecurrentModel
from models.networks.network import Network
from models.serving.saved_files import read_members
from models.training.trainer import DivergenceError, Training
from tests.conftest import network_settings
from tests.support.command_line import CommandLine, told

pytestmark = [pytest.mark.slow, pytest.mark.own_process]

RANGES = {"train": range(200), "stop": range(201, 240), "calibrate": range(241, 280)}


@pytest.fixture
def explosive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every training explode in its third epoch."""
    monkeypatch.setattr(Training, "rate", lambda self, epoch: 1e-3 if epoch < 3 else 3e38)


def block() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    x = rng.standard_normal((3, 300, 2)).astype(np.float32)
    return x, np.ones((3, 300), bool), (rng.random((3, 300, 1)) < 0.5).astype(np.float32)


@pytest.mark.usefixtures("explosive")
@pytest.mark.parametrize("kind", [RecurrentModel, SymbolModel])
def test_the_last_good_weights_are_kept_as_a_network(tmp_path: Path, kind: Any) -> None:
    recipe = kind(Network("gru", 2, lookback=4, units=4), Training(epochs=5), 2, rescue=tmp_path / "kept")
    with pytest.raises(DivergenceError, match="diverged") as failed:
        recipe.fit(*block(), **RANGES, seed=7)
    (path,) = (tmp_path / "kept").rglob("*.keras")
    assert path.name == "seed-7-before-epoch-3.keras"
    assert str(path) in str(failed.value)
    assert "epoch 3" in failed.value.where
    model = keras.models.load_model(path, safe_mode=True)
    kept = [array.tobytes() for array in model.get_weights()[-len(failed.value.weights) :]]
    assert kept == [array.tobytes() for array in failed.value.weights]
    assert np.isfinite(model.predict(block()[0][:, :4], verbose=0)).all()


@pytest.mark.usefixtures("explosive")
def test_where_there_is_no_place_for_them_the_error_stays_what_it_was() -> None:
    recipe = RecurrentModel(Network("gru", 2, lookback=4, units=4), Training(epochs=5), 1)
    with pytest.raises(DivergenceError) as failed:
        recipe.fit(*block(), **RANGES, seed=7)
    assert ".keras" not in str(failed.value)
    assert failed.value.weights


def test_a_run_tells_where_they_are_and_promotes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nextday = CommandLine(tmp_path, monkeypatch, capsys)
    Path("nextday.toml").write_text(network_settings(epochs=4))
    here = ("--config", "nextday.toml", "--home", "w", "--now", "2018-12-10T22:00Z")
    with monkeypatch.context() as wild:
        wild.setattr(Training, "rate", lambda self, epoch: 1e-3 if epoch < 3 else 3e38)
        said = nextday(*here, "forecast")
    assert said.code == 1
    lines = told(said)
    assert "training diverged" in lines[0]
    (named,) = re.findall(r"\S+\.keras", "\n".join(lines))
    assert Path(named).is_file()
    assert not list(Path("w/models").rglob("model.json"))
    assert not list(Path("w/cache").glob(".*"))


def test_kept_weights_are_a_member_like_any_other(tmp_path: Path, explosive: None) -> None:
    network = Network("gru", 2, lookback=4, units=4)
    with pytest.raises(DivergenceError):
        RecurrentModel(network, Training(epochs=5), 1, rescue=tmp_path).fit(*block(), **RANGES, seed=7)
    (path,) = tmp_path.glob("*.keras")
    path.rename(tmp_path / "member-1.keras")
    assert len(read_members(tmp_path, network, 1)[1]) == 1
