"""Members are the same bit for bit wherever they are trained, and everybody hears of every epoch."""

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from models.errors import ModelError
from models.networks.network import Network
from models.training import jobs
from models.training.examples import prepare_examples
from models.training.jobs import Job, Run, submit_all
from models.training.process_pool import LocalWorkers
from models.training.trainer import DivergenceError, Epoch, Examples, Training
from tests.support.disks import disk

pytestmark = [pytest.mark.slow, pytest.mark.own_process]

SYMBOLS, SESSIONS = 8, 260
NETWORK = Network("gru", features=3, lookback=5, units=8)
TRAINING = Training(epochs=4, batch_size=64, learning_rate=5e-3, patience=2)


def examples(seed: int = 1) -> Examples:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((SYMBOLS, SESSIONS, 3)).astype(np.float32)
    y = (rng.random((SYMBOLS, SESSIONS, 1)) < 0.5).astype(np.float32)
    mask = rng.random((SYMBOLS, SESSIONS)) < 0.99
    return prepare_examples(NETWORK, x, mask, y, train=range(200), stop=range(201, 240))[1]


def train_all(*given: Any, **options: Any) -> list[jobs.Run]:
    return submit_all(*given, **options).result()


def members(count: int, training: Training = TRAINING) -> list[Job]:
    return [Job(NETWORK, training, 20 + number, number, count) for number in range(1, count + 1)]


def digest(runs: Sequence[Run]) -> str:
    return sha256(b"".join(array.tobytes() for run in runs for array in run.weights)).hexdigest()


@pytest.fixture(scope="module")
def given() -> Examples:
    return examples()


@pytest.fixture(scope="module")
def alone(given: Examples) -> list[Run]:
    """What five members come to in this process."""
    return train_all([given], members(5))


@pytest.fixture(scope="module")
def workers() -> Iterator[LocalWorkers]:
    with LocalWorkers(2) as processes:
        yield processes


def test_members_trained_in_two_processes_equal_those_trained_here_bit_for_bit(
    given: Examples, alone: list[Run], workers: LocalWorkers, tmp_path: Path
) -> None:
    for _ in range(2):  # the second time every process has compiled already
        there = train_all([given], members(5), executor=workers, folder=tmp_path)
        assert digest(there) == digest(alone)
        assert [run.epochs for run in there] == [run.epochs for run in alone]
    assert len({array.tobytes() for run in there for array in run.weights[:1]}) == 5
    assert list(tmp_path.iterdir()) == []


def test_an_executor_that_shares_gets_each_input_once_and_no_file(
    given: Examples, alone: list[Run], tmp_path: Path
) -> None:
    class Sharing(ThreadPoolExecutor):
        shared: ClassVar[list[object]] = []

        def share(self, value: object) -> object:
            self.shared.append(value)
            assert list(tmp_path.iterdir()) == []
            return value

    told: list[Epoch] = []
    with Sharing(2) as executor:
        there = train_all([given], members(5), executor=executor, folder=tmp_path, progress=told.append)
    assert digest(there) == digest(alone)
    assert executor.shared == [given]
    every = [epoch for run in alone for epoch in run.epochs]
    assert sorted(told, key=lambda epoch: (epoch.member, epoch.epoch)) == every


@pytest.mark.proof
@pytest.mark.parametrize("processes", [1, 3])
def test_the_number_of_processes_changes_no_bit(given: Examples, alone: list[Run], processes: int) -> None:
    with LocalWorkers(processes) as executor:
        assert digest(train_all([given], members(5), executor=executor)) == digest(alone)


def test_threads_of_an_executor_take_turns(given: Examples, alone: list[Run]) -> None:
    with ThreadPoolExecutor(3) as threads:
        assert digest(train_all([given], members(5), executor=threads)) == digest(alone)


def test_each_job_learns_from_its_own_examples(given: Examples, workers: LocalWorkers) -> None:
    other = examples(seed=2)
    both = [Job(NETWORK, TRAINING, 3, 1, 2, examples=0), Job(NETWORK, TRAINING, 3, 2, 2, examples=1)]
    there = train_all([given, other], both, executor=workers)
    here = [train_all([each], [Job(NETWORK, TRAINING, 3, 1, 1)])[0] for each in (given, other)]
    assert digest(there) == digest(here)
    assert digest(there[:1]) != digest(there[1:])


def test_every_epoch_is_told_once_while_members_are_trained_elsewhere(
    given: Examples, workers: LocalWorkers
) -> None:
    told: list[tuple[float, Epoch]] = []
    many = Training(epochs=150, batch_size=64, learning_rate=1e-3, patience=200)
    runs = train_all(
        [given],
        members(2, many),
        executor=workers,
        progress=lambda epoch: told.append((time.monotonic(), epoch)),
    )
    for member in (1, 2):
        assert [epoch for _, epoch in told if epoch.member == member] == runs[member - 1][1]
    assert told[-1][0] - told[0][0] > 0.2  # they came as they happened


class ElsewhereExecutor(ThreadPoolExecutor):
    """One whose processes write their epochs to another disk."""

    def submit(self, fn, /, *args, **kwargs):  # type: ignore[no-untyped-def]
        def work():  # type: ignore[no-untyped-def]
            run = fn(*args, **kwargs)
            for log in Path(args[0]).glob("epochs-*"):
                log.unlink()
            return run

        return super().submit(work)


def test_epochs_that_nobody_saw_come_with_the_finished_member(given: Examples) -> None:
    told: list[Epoch] = []
    with ElsewhereExecutor(1) as far:
        runs = train_all([given], members(2), executor=far, progress=told.append)
    assert sorted(told, key=lambda epoch: (epoch.member, epoch.epoch)) == [
        epoch for run in runs for epoch in run.epochs
    ]


def test_a_loss_that_is_no_number_crosses_with_its_weights(
    given: Examples, workers: LocalWorkers, tmp_path: Path
) -> None:
    wild = Training(epochs=3, batch_size=64, learning_rate=3e38)
    with pytest.raises(DivergenceError, match="diverged") as failed:
        train_all([given], members(1, wild), executor=workers, folder=tmp_path)
    assert (failed.value.member, failed.value.seed, failed.value.epoch) == (1, 21, 1)
    assert list(tmp_path.iterdir()) == []


class BrokenOne(ThreadPoolExecutor):
    def submit(self, fn, /, *args, **kwargs):  # type: ignore[no-untyped-def]
        def fail() -> None:
            raise BrokenProcessPool("a child process terminated abruptly")

        return super().submit(fail)


def test_an_executor_whose_processes_are_gone_is_an_error_with_a_fix(given: Examples) -> None:
    with BrokenOne(1) as broken, pytest.raises(ModelError, match="training processes died") as failed:
        train_all([given], members(2), executor=broken)
    assert issubclass(BrokenProcessPool, BrokenExecutor)
    assert "processes" in failed.value.fix


def test_a_full_disk_is_an_error_and_leaves_nothing(
    given: Examples, workers: Executor, tmp_path: Path
) -> None:
    with disk(tmp_path / "full", 64) as full:
        with pytest.raises(ModelError, match="cannot be written") as failed:
            train_all([given], members(1), executor=workers, folder=full)
        assert list(full.iterdir()) == []
    assert "free some space" in failed.value.fix


def test_a_process_that_had_tensorflow_on_several_threads_is_refused(
    given: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tensorflow.config.threading.get_intra_op_parallelism_threads", lambda: 2)
    with pytest.raises(ModelError, match="several threads"):
        train_all([given], members(1))


def test_one_compilation_serves_all_fits_of_a_process(given: Examples) -> None:
    jobs._graphs.cache_clear()
    for seed in (1, 2):
        train_all([examples(seed)], members(2))
    train_all([examples(3)], members(2, Training(epochs=1, batch_size=64, learning_rate=1e-2, patience=1)))
    assert jobs._graphs.cache_info().misses == 1
    graphs = jobs._graphs(
        NETWORK, TRAINING.chunk_of(NETWORK), TRAINING.clip_norm, TRAINING.regularization, "cpu"
    )
    assert graphs.learn.experimental_get_tracing_count() == 1
    assert threading.active_count() >= 1
