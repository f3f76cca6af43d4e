"""Dask on hosts with nothing in common but a network: the numbers of local processes, whatever host is lost."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from tests.conftest import PROJECT, network_settings
from tests.support.hosts import Hosts, hosts

pytest.importorskip("distributed")

pytestmark = pytest.mark.proof

WALK = "\n[backtest]\ntrain_sessions = 300\nrefit_sessions = 60\n"
WORKERS = ("worker1", "worker2", "worker3")
PORT = 8786


class Place:
    """A workspace on one host, a scheduler on another, workers on three that see no file of either."""

    def __init__(self, network: Hosts, folder: Path) -> None:
        self.network, self.folder = network, folder
        self.address = f"tcp://{network.addresses['scheduler']}:{PORT}"
        text = network_settings("2014-01-02", members=2, epochs=2) + WALK
        (folder / "local.toml").write_text(text.replace("[training]", "[training]\nprocesses = 2"))
        (folder / "dask.toml").write_text(
            text.replace("[training]", f'[training]\nscheduler = "{self.address}"')
        )

    def start_scheduler(self) -> subprocess.Popen[bytes]:
        host = self.network.addresses["scheduler"]
        return self._start_dask("scheduler", "scheduler", "--host", host, "--port", str(PORT))

    def start_worker(self, name: str) -> subprocess.Popen[bytes]:
        host = self.network.addresses[name]
        return self._start_dask(name, "worker", self.address, "--host", host, "--nthreads", "1", "--no-nanny")

    def start_command(self, settings: str, *command: str) -> subprocess.Popen[bytes]:
        code = "from flows.cli.app import main; main()"
        given = ["--config", f"{self.folder / settings}.toml", "--home", str(self.home(settings))]
        return self.network.start(
            *("desk", [sys.executable, "-c", code, *given, "--now", "2018-12-20T22:00Z", *command]),
            self.log(settings),
            is_bare=False,
            PYTHONPATH=str(PROJECT),
            DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP="12s",
        )

    def run(self, settings: str, *command: str) -> int:
        return self.start_command(settings, *command).wait(300)

    def home(self, settings: str) -> Path:
        return self.folder / f"home-{settings}"

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def count_kept(self) -> int:
        """Return how many trainings of the walk are done."""
        return len([*self.home("dask").glob("cache/backtest/*/*.npz")])

    def _start_dask(self, host: str, *arguments: str) -> subprocess.Popen[bytes]:
        code = f"from distributed.cli.dask_{arguments[0]} import main; main()"
        command = [sys.executable, "-c", code, *arguments[1:], "--no-dashboard"]
        return self.network.start(
            *(host, command, self.log(host)),
            is_bare=True,
            PYTHONPATH=str(PROJECT),
            DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP="12s",
        )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("hosts")
    with hosts(["scheduler", "desk", *WORKERS], folder) as network:
        yield Place(network, folder)


def wait_for(what: Callable[[], bool], running: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 150
    while not what():
        assert running.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.02)


def digests(home: Path, pattern: str) -> dict[str, str]:
    """Return the digest of every file of the newest backtest, or of the models."""
    return {
        str(file.relative_to(home)): sha256(file.read_bytes()).hexdigest()
        for file in sorted(home.glob(pattern))
    }


def test_a_walk_survives_lost_workers_and_resumes_after_a_lost_scheduler_with_the_same_numbers(
    place: Place,
) -> None:
    network, log = place.network, place.log("dask")
    scheduler = place.start_scheduler()
    workers = {name: place.start_worker(name) for name in WORKERS}
    wait_for(
        lambda: all("Registered to" in place.log(name).read_text() for name in WORKERS),
        scheduler,
        place.log("scheduler"),
    )
    walk = place.start_command("dask", "backtest")
    wait_for(lambda: place.count_kept() >= 1, walk, log)
    workers["worker1"].kill()
    wait_for(lambda: place.count_kept() >= 3, walk, log)
    network.cut_off("worker2")
    wait_for(
        lambda: place.count_kept() >= 7, walk, log
    )  # a fit needs both members: it did not wait for the lost
    scheduler.kill()
    scheduler.wait()
    network.join_again("worker2")
    scheduler = place.start_scheduler()
    assert walk.wait(120) == 1
    assert "The Dask scheduler is lost" in log.read_text()
    assert "Traceback" not in log.read_text()
    kept = place.count_kept()
    assert kept >= 7

    for name in WORKERS:
        place.start_worker(name)
    assert place.run("dask", "backtest") == 0, log.read_text()
    assert "resuming the walk" in log.read_text()
    assert place.run("local", "backtest") == 0, place.log("local").read_text()
    results = "reports/*/backtest/*.csv"
    found = digests(place.home("dask"), results)
    assert {Path(name).name for name in found} >= {"forecasts.csv", "scores.csv"}
    assert found == digests(place.home("local"), results)


def test_a_retraining_by_hosts_gives_the_same_model(place: Place) -> None:
    for settings in ("dask", "local"):
        assert place.run(settings, "retrain") == 0, place.log(settings).read_text()
    networks = "models/*/*/*.keras"
    found = digests(place.home("dask"), networks)
    assert len(found) == 2
    assert found == digests(place.home("local"), networks)
