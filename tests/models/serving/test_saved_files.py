"""Saved networks of every kind are read back from their files, and others are refused."""

from pathlib import Path

import numpy as np
import pytest

from models.ensembles.members import Members
from models.errors import ModelError
from models.networks.network import Network
from models.scaling import Scaling
from models.serving.network import weight_shapes
from models.serving.saved_files import read_members

pytestmark = [pytest.mark.slow, pytest.mark.own_process]

SCALING = Scaling(np.array([1, -2, 0.5], np.float32), np.array([4, 0.01, 1], np.float32))
DEEP = {"layers": 2, "horizons": 2, "convolution": 3, "attention": True}


def saved(network: Network, folder: Path) -> list[list[np.ndarray]]:
    chance = np.random.default_rng(1)
    weights = [[chance.normal(size=s).astype(np.float32) for s in weight_shapes(network)] for _ in range(2)]
    Members(network, SCALING, weights).save(folder)
    return weights


@pytest.mark.parametrize("mode", ["windowed", "sequence"])
@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
def test_scale_and_weights_come_back(kind: str, mode: str, tmp_path: Path) -> None:
    network = Network(kind, features=3, lookback=5, units=4, mode=mode, **DEEP)  # type: ignore[arg-type]
    weights = saved(network, tmp_path)
    scaling, members = read_members(tmp_path, network, 2)
    assert np.array_equal(scaling.mean, SCALING.mean)
    assert np.array_equal(scaling.variance, SCALING.variance)
    for member, expected in zip(members, weights, strict=True):
        assert all(np.array_equal(one, other) for one, other in zip(member, expected, strict=True))


@pytest.mark.parametrize("mode", ["windowed", "sequence"])
@pytest.mark.parametrize("kind", ["linear", "tcn", "gru"])
def test_networks_without_recurrence_and_with_a_linear_skip_come_back(
    kind: str, mode: str, tmp_path: Path
) -> None:
    network = Network(kind, 3, 5, 4, 2, 2, mode=mode, linear_skip=kind != "linear")  # type: ignore[arg-type]
    weights = saved(network, tmp_path)
    _, members = read_members(tmp_path, network, 2)
    for member, expected in zip(members, weights, strict=True):
        assert all(np.array_equal(one, other) for one, other in zip(member, expected, strict=True))


def test_weights_of_other_shapes_than_described_are_refused(tmp_path: Path) -> None:
    saved(Network("gru", features=3, lookback=5, units=4), tmp_path)
    with pytest.raises(ModelError, match="refused: its weights have the shapes") as refused:
        read_members(tmp_path, Network("gru", features=3, lookback=5, units=8), 2)
    assert "member-1.keras" in str(refused.value)
