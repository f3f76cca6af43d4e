"""Processes that train end with their parent, however it ends, and a job outlives the death of its process."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from pathlib import Path

import pytest

from models.errors import ModelError
from models.training.process_pool import LocalWorkers, LostProcessError
from tests.conftest import PROJECT

pytestmark = pytest.mark.slow


def is_alive(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(is_so: Callable[[], bool], seconds: float = 60) -> bool:
    end = time.monotonic() + seconds
    while not is_so() and time.monotonic() < end:
        time.sleep(0.05)
    return is_so()


def die(own_death: str, deaths: int) -> int:
    """Be killed `deaths` times, then return that number."""
    path = Path(own_death)
    died = len(path.read_text()) if path.exists() else 0
    if died < deaths:
        path.write_text("x" * (died + 1))
        os.kill(os.getpid(), signal.SIGKILL)
    return died


def log_and_sleep(log: str, seconds: float) -> int:
    """Log the process id, then sleep."""
    with Path(log).open("a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(seconds)
    return os.getpid()


def refuse() -> None:
    raise ModelError("it cannot be", where="here", fix="another way")


def sleepers(log: Path) -> list[int]:
    return [int(line) for line in log.read_text().split()] if log.exists() else []


def test_processes_live_on_from_job_to_job_and_end_with_the_block(tmp_path: Path) -> None:
    with LocalWorkers(2, ready="json") as workers:
        workers.start()
        started = workers.pids
        for _ in range(2):
            asked = [workers.submit(log_and_sleep, str(tmp_path / "log"), 0.2) for _ in range(4)]
            assert {future.result() for future in asked} <= set(started)
        assert workers.pids == started
        assert os.getpid() not in started
    assert not any(is_alive(pid) for pid in started)


def test_an_error_of_a_job_comes_back_whole_and_the_process_stays() -> None:
    with LocalWorkers(1, ready="json") as workers:
        with pytest.raises(ModelError, match="it cannot be") as failed:
            workers.submit(refuse).result()
        assert (failed.value.where, failed.value.fix) == ("here", "another way")
        with pytest.raises(AttributeError):  # a function of no module cannot be sent
            workers.submit(lambda: 1).result()
        assert workers.submit(os.getpid).result() in workers.pids
        assert len(workers.pids) == 1


def test_only_the_job_whose_process_was_killed_is_repeated(tmp_path: Path) -> None:
    with LocalWorkers(2, ready="json") as workers:
        lost = workers.submit(die, str(tmp_path / "lost"), 1)
        other = workers.submit(log_and_sleep, str(tmp_path / "log"), 1.0)
        assert lost.result() == 1
        assert other.result() in workers.pids
    assert len(sleepers(tmp_path / "log")) == 1


def test_a_job_that_kills_its_process_twice_is_an_error_that_names_the_signal(tmp_path: Path) -> None:
    with LocalWorkers(1, ready="json") as workers:
        with pytest.raises(LostProcessError, match=r"lost 2 times.*signal 9") as failed:
            workers.submit(die, str(tmp_path / "lost"), 2).result()
        assert "[training] processes" in failed.value.fix
        assert workers.submit(os.getpid).result() in workers.pids


def test_an_error_in_the_block_ends_processes_that_are_at_work_and_jobs_that_wait(tmp_path: Path) -> None:
    log = tmp_path / "log"
    asked: list[Future[int]] = []

    def be_interrupted() -> None:
        with LocalWorkers(1, ready="json") as workers:
            asked.extend(workers.submit(log_and_sleep, str(log), 600) for _ in range(3))
            assert wait_until(lambda: bool(sleepers(log)))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        be_interrupted()
    for future in asked:
        with pytest.raises(CancelledError):
            future.result(timeout=0)
    assert not is_alive(sleepers(log)[0])
    assert len(sleepers(log)) == 1


PARENT = """
import sys
from pathlib import Path
from models.training.process_pool import LocalWorkers, LostProcessError
from tests.models.training.test_process_pool import log_and_sleep
folder = Path(sys.argv[1])
with LocalWorkers(2, folder / "scratch", ready="json") as workers:
    asked = [workers.submit(log_and_sleep, str(folder / "log"), 600) for _ in range(2)]
    for future in asked:
        future.result()
"""


@pytest.mark.parametrize("deadly", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_process_outlives_a_parent_that_is_killed(tmp_path: Path, deadly: signal.Signals) -> None:
    (tmp_path / "scratch").mkdir()
    (tmp_path / "scratch" / "panel.npy").write_text("big")
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)],
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(["."] + [p for p in sys.path if p])},
        stderr=subprocess.DEVNULL,
    )
    assert wait_until(lambda: len(sleepers(tmp_path / "log")) == 2)
    workers = sleepers(tmp_path / "log")
    assert all(is_alive(pid) for pid in workers)
    parent.send_signal(deadly)
    parent.wait(30)
    assert wait_until(lambda: not any(is_alive(pid) for pid in workers), 20)
    if deadly != signal.SIGINT:  # then the parent lives on to clear up itself
        assert wait_until(lambda: not (tmp_path / "scratch").exists(), 5)
