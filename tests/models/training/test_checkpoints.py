"""A finished training is not repeated, and nothing else is mistaken for it."""

from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.errors import ModelError
from models.networks.network import Network
from models.training import jobs
from models.training.checkpoints import Checkpoints
from models.training.examples import prepare_examples
from models.training.jobs import Job, submit_all
from models.training.process_pool import LocalWorkers
from models.training.trainer import Epoch, Examples, Trainer, Training
from tests.support.disks import disk

pytestmark = [pytest.mark.slow, pytest.mark.own_process]

NETWORK = Network("gru", features=3, lookback=5, units=4)
TRAINING = Training(epochs=3, batch_size=64, learning_rate=5e-3)
JOBS = [Job(NETWORK, TRAINING, seed, seed, 3) for seed in (1, 2, 3)]


@pytest.fixture(scope="module")
def given() -> Examples:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((4, 200, 3)).astype(np.float32)
    y = (rng.random((4, 200, 1)) < 0.5).astype(np.float32)
    return prepare_examples(NETWORK, x, np.ones((4, 200), bool), y, train=range(150), stop=range(151, 190))[1]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The seeds that are trained in this process."""
    seeds: list[int] = []
    train = Trainer.train

    def noted(trainer, examples, seed, **options):  # type: ignore[no-untyped-def]
        seeds.append(seed)
        return train(trainer, examples, seed, **options)

    monkeypatch.setattr(Trainer, "train", noted)
    return seeds


def train_all(*given: Any, **options: Any) -> list[jobs.Run]:
    return submit_all(*given, **options).result()


def assert_equal(one: list[jobs.Run], other: list[jobs.Run]) -> None:
    for (weights, epochs, _), (other_weights, other_epochs, _) in zip(one, other, strict=True):
        assert epochs == other_epochs
        for array, other_array in zip(weights, other_weights, strict=True):
            assert array.dtype == other_array.dtype
            np.testing.assert_array_equal(array, other_array)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_an_interrupted_fit_goes_on_at_the_first_job_that_is_not_done(
    given: Examples, trained: list[int], tmp_path: Path, elsewhere: bool
) -> None:
    whole = train_all([given], JOBS)
    trained.clear()
    train_all([given], JOBS[:2], checkpoints=tmp_path)
    assert trained == [1, 2]
    told: list[Epoch] = []
    executor: Executor | None = LocalWorkers(1) if elsewhere else None
    try:
        again = train_all([given], JOBS, executor=executor, progress=told.append, checkpoints=tmp_path)
    finally:
        if executor:
            executor.shutdown()
    assert trained == [1, 2] if elsewhere else [1, 2, 3]
    assert_equal(again, whole)
    assert [(epoch.member, epoch.epoch) for epoch in told] == [(m, e) for m in (1, 2, 3) for e in (1, 2, 3)]
    trained.clear()
    assert_equal(train_all([given], JOBS, checkpoints=tmp_path), whole)
    assert trained == []


def test_what_is_done_before_an_interruption_stays(
    given: Examples, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    train = Trainer.train

    def interrupted(trainer, examples, seed, **options):  # type: ignore[no-untyped-def]
        if seed == 3:
            raise KeyboardInterrupt
        return train(trainer, examples, seed, **options)

    monkeypatch.setattr(Trainer, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_all([given], JOBS, checkpoints=tmp_path)
    assert len([*tmp_path.glob("*.npz")]) == 2


def test_whatever_decides_a_training_makes_it_another_one(
    given: Examples, trained: list[int], tmp_path: Path
) -> None:
    (job,) = JOBS[:1]
    (run,) = train_all([given], [job], checkpoints=tmp_path)
    other_label = given.labels.copy()
    other_label[0] = 1 - other_label[0]
    for examples, another in [
        (given, replace(job, seed=9)),
        (given, replace(job, training=replace(TRAINING, learning_rate=4e-3))),
        (given, replace(job, network=replace(NETWORK, mode="windowed", units=5))),
        (given, replace(job, start=run[0])),
        (replace(given, labels=other_label), job),
        (replace(given, base_rate=np.array([0.4])), job),
    ]:
        trained.clear()
        train_all([examples], [another], checkpoints=tmp_path)
        assert len(trained) == 1


def test_a_damaged_file_is_trained_again(given: Examples, trained: list[int], tmp_path: Path) -> None:
    train_all([given], JOBS[:1], checkpoints=tmp_path)
    (file,) = tmp_path.glob("*.npz")
    for damaged in (file.read_bytes()[:200], b""):
        file.write_bytes(damaged)
        trained.clear()
        train_all([given], JOBS[:1], checkpoints=tmp_path)
        assert trained == [1]
    assert Checkpoints(tmp_path).read(file.stem) is not None


def test_a_full_disk_is_reported(given: Examples, tmp_path: Path) -> None:
    with disk(tmp_path / "small", kilobytes=8) as small:
        (small / "filled").write_bytes(b"0" * 4096)
        with pytest.raises(ModelError, match="cannot be saved"):
            train_all([given], JOBS[:1], checkpoints=small / "finished")
