"""What becomes of a Dask cluster is told with its cause and a fix, and no training waits for ever."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flows.runtime import dask_cluster
from flows.runtime.dask_cluster import join_cluster
from models.training.jobs import SharingExecutor
from pipeline.errors import NextdayError

pytest.importorskip("distributed")

ADDRESS = "tcp://127.0.0.1:8786"


class Client:
    """A connected client whose cluster is one thread; its workers come and go as the test says."""

    status = "running"

    def __init__(self, *args: object, **options: object) -> None:
        self.workers = 1
        self.pool = ThreadPoolExecutor(1)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *raised: object) -> None:
        self.pool.shutdown()

    def scheduler_info(self) -> dict[str, Any]:
        return {"workers": dict.fromkeys(range(self.workers))}

    def get_executor(self) -> ThreadPoolExecutor:
        return self.pool


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Client:
    made = Client()
    monkeypatch.setattr("distributed.Client", lambda *args, **options: made)
    monkeypatch.setattr(dask_cluster, "_LOOK", 0.02)
    monkeypatch.setattr(dask_cluster, "_TOLD_AFTER", 0.1)
    return made


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(dask_cluster, "log_line", lines.append)
    return lines


def wait_until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_call_returns_what_it_returns_and_raises_what_it_raises(client: Client, said: list[str]) -> None:
    with join_cluster(ADDRESS, 10) as (executor, workers):
        assert workers == 1
        assert executor.submit(max, 3, 4).result() == 4
        assert isinstance(executor.submit(int, "x").exception(), ValueError)
        client.workers = 0
        time.sleep(0.3)  # nothing waits for a worker
    assert said == []


def test_workers_that_are_all_gone_are_told_and_one_that_comes_back_too(
    client: Client, said: list[str]
) -> None:
    with join_cluster(ADDRESS, 10) as (executor, _):
        free = threading.Event()
        waiting = executor.submit(free.wait, 20)
        client.workers = 0
        wait_until(lambda: len(said) == 1)
        time.sleep(0.2)
        client.workers = 2
        wait_until(lambda: len(said) == 2)
        free.set()
        assert waiting.result() is True
    assert said == [
        "all Dask workers are gone: waiting for 10 minutes for a new one ([training] worker_patience)",
        "the Dask scheduler has 2 workers again",
    ]


def test_after_the_patience_the_training_ends_with_the_cause(client: Client, said: list[str]) -> None:
    with join_cluster(ADDRESS, 0.3 / 60) as (executor, _):
        free = threading.Event()
        waiting = [executor.submit(free.wait, 20) for _ in range(2)]
        client.workers = 0
        for future in waiting:
            with pytest.raises(NextdayError, match="All Dask workers are gone") as ended:
                future.result(10)
            assert ended.value.where == f"[training] scheduler = {ADDRESS}"
            assert "worker_patience" in ended.value.fix
        free.set()
    assert len(said) == 1


def test_nothing_is_submitted_to_a_lost_scheduler(client: Client) -> None:
    with join_cluster(ADDRESS, 10) as (executor, _):
        client.status = "connecting"
        with pytest.raises(NextdayError, match="Dask scheduler is lost"):
            executor.submit(max, 3, 4)


def test_a_shared_value_is_sent_once_and_arrives_as_it_was(client: Client) -> None:
    sent: list[bytes] = []

    def submit(unpack: Callable[[bytes], Any], packed: bytes, *, pure: bool) -> Any:
        sent.append(packed)
        return unpack(packed)

    client.submit = submit  # type: ignore[attr-defined]
    with join_cluster(ADDRESS, 10) as (executor, _):
        assert isinstance(executor, SharingExecutor)
        shared = executor.share({"panel": [1.5]})
        assert [executor.submit(len, shared).result() for _ in range(3)] == [1, 1, 1]
        assert len(sent) == 1
        client.status = "connecting"
        with pytest.raises(NextdayError, match="Dask scheduler is lost"):
            executor.share(1)


def test_work_that_is_cancelled_raises_no_error_elsewhere(client: Client) -> None:
    free = threading.Event()
    with join_cluster(ADDRESS, 10) as (executor, _):
        executor.submit(free.wait, 20)
        waiting: Future[int] = executor.submit(max, 3, 4)
        assert waiting.cancel()
        free.set()
    assert waiting.cancelled()


def start(*arguments: str) -> subprocess.Popen[bytes]:
    code = f"from distributed.cli.dask_{arguments[0]} import main; main()"
    command = [sys.executable, "-c", code, *arguments[1:]]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@contextmanager
def real_cluster(folder: Path, *options: str) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """Start a scheduler and two workers; yield its address, and the scheduler before the workers."""
    place = folder / "scheduler.json"
    listening = ("--host", "127.0.0.1", "--port", "0", "--no-dashboard")
    started = [start("scheduler", *listening, "--scheduler-file", f"{place}")]
    try:
        wait_until(lambda: place.exists() and place.stat().st_size > 0)
        started += [
            start("worker", "--scheduler-file", f"{place}", "--nthreads", "1", "--no-dashboard", *options)
            for _ in range(2)
        ]
        from distributed import Client as Connected

        address = json.loads(place.read_text())["address"]
        with Connected(address, set_as_default=False) as watching:  # type: ignore[no-untyped-call]
            watching.wait_for_workers(2, timeout=60)
        yield address, started
    finally:
        for process in reversed(started):
            process.terminate()
        for process in reversed(started):
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:  # a worker without its scheduler waits for it
                process.kill()
                process.wait()


@pytest.mark.proof
def test_a_scheduler_that_is_killed_is_named(tmp_path: Path) -> None:
    with (
        real_cluster(tmp_path, "--no-nanny") as (address, (scheduler, *_)),
        join_cluster(address, 10) as (executor, _),
    ):
        waiting = executor.submit(time.sleep, 60)
        time.sleep(1)
        scheduler.kill()
        with pytest.raises(NextdayError, match="Dask scheduler is lost"):
            waiting.result(30)


@pytest.mark.proof
def test_a_training_that_kills_every_worker_is_named(tmp_path: Path) -> None:
    with real_cluster(tmp_path) as (address, _), join_cluster(address, 10) as (executor, _):
        waiting = executor.submit(os._exit, 3)
        with pytest.raises(NextdayError, match="ended its Dask worker 4 times in a row") as ended:
            waiting.result(120)
        assert "memory" in ended.value.fix


@pytest.mark.proof
def test_real_workers_that_are_all_gone_end_the_training_after_the_patience(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    monkeypatch.setattr(dask_cluster, "_LOOK", 0.2)
    monkeypatch.setattr(dask_cluster, "_TOLD_AFTER", 1.0)
    with (
        real_cluster(tmp_path, "--no-nanny") as (address, (_, *workers)),
        join_cluster(address, 0.05) as (executor, _),
    ):
        waiting = executor.submit(time.sleep, 60)
        time.sleep(1)
        for worker in workers:
            worker.kill()
        with pytest.raises(NextdayError, match="All Dask workers are gone"):
            waiting.result(60)
    assert len(said) == 1
