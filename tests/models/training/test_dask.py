"""Dask's processes train the same weights: its executor is one of concurrent.futures."""

from pathlib import Path

import pytest

from models.ensembles.pooled import RecurrentModel
from models.networks.network import Network
from models.training.trainer import Epoch, Training
from tests.models.ensembles.test_pooled import LOOKBACK, MARKET, RANGES

distributed = pytest.importorskip("distributed")

pytestmark = pytest.mark.proof


@pytest.mark.filterwarnings("ignore::DeprecationWarning:distributed")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("threads", [1, 2])
def test_an_ensemble_that_dask_trains_equals_one_that_is_trained_here_bit_for_bit(
    tmp_path: Path, threads: int
) -> None:
    network, training = Network("gru", 2, LOOKBACK, units=6), Training(epochs=2, learning_rate=5e-3)
    told: list[Epoch] = []
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=threads, processes=True, host="127.0.0.1", dashboard_address=None
    )
    with cluster, distributed.Client(cluster) as client, client.get_executor() as executor:
        there = RecurrentModel(
            network, training, 3, progress=told.append, executor=executor, folder=tmp_path
        ).fit(*MARKET, **RANGES, seed=7)
    here = RecurrentModel(network, training, 3).fit(*MARKET, **RANGES, seed=7)
    for one, other in zip(there.members.weights, here.members.weights, strict=True):
        assert [array.tobytes() for array in one] == [array.tobytes() for array in other]
    assert there.calibrator == here.calibrator
    assert there.history == here.history
    assert sorted(told, key=lambda epoch: (epoch.member, epoch.epoch)) == here.history
    assert list(tmp_path.iterdir()) == []
