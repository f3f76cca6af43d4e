"""A training that is killed anywhere leaves no process and no file, and is the same when it is done again."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import PROJECT, network_settings
from tests.models.training.test_process_pool import is_alive, wait_until
from tests.support.prefect_place import prefect_home

pytestmark = pytest.mark.proof

SETTINGS = network_settings(members=3, epochs=2, test_sessions=60)
LONG = SETTINGS.replace("epochs = 2", "epochs = 9000\npatience = 9000")
COMMAND = [sys.executable, "-c", "from flows.cli import main; main()"]


STARTED: list[int] = []


@pytest.fixture(autouse=True)
def whole_groups() -> Iterator[None]:
    """End what a killed run leaves running: Prefect's temporary server outlives it."""
    yield
    while STARTED:
        with suppress(ProcessLookupError):
            os.killpg(STARTED.pop(), signal.SIGKILL)


def start(folder: Path, home: str, settings: str, processes: int) -> subprocess.Popen[bytes]:
    (folder / "nextday.toml").write_text(
        settings.replace("[training]", f"[training]\nprocesses = {processes}")
    )
    options = ["--config", str(folder / "nextday.toml"), "--home", str(folder / home)]
    places = os.pathsep.join([str(PROJECT), *filter(None, sys.path)])
    with (folder / f"{home}.log").open("ab") as log:
        run = subprocess.Popen(
            [*COMMAND, *options, "--now", "2018-12-10T22:00Z", "forecast"],
            env={**os.environ, "PYTHONPATH": places, "PREFECT_HOME": str(prefect_home(folder / "prefect"))},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    STARTED.append(run.pid)
    return run


def workers(folder: Path) -> list[int]:
    """Return the processes that train for a workspace below the folder."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"models.training.process_pool" in words and any(str(folder).encode() in word for word in words):
            found.append(int(place.name))
    return [pid for pid in found if is_alive(pid)]


def scratch(folder: Path, home: str) -> list[Path]:
    return list((folder / home / "cache").glob(".*"))


def champions(folder: Path, home: str) -> list[str]:
    return sorted(path.name for path in (folder / home / "models" / "sample").glob("[0-9a-f]*"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the champion of a run that trains in its own process."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert start(folder, "home", SETTINGS, 1).wait(600) == 0
    return champions(folder, "home")


@pytest.mark.parametrize("deadly", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_killed_while_it_trains_leaves_nothing_and_is_done_again(
    tmp_path: Path, undisturbed: list[str], deadly: signal.Signals
) -> None:
    run = start(tmp_path, "home", LONG, 2)
    log = tmp_path / "home.log"
    assert wait_until(lambda: "fitting gru" in log.read_text() and len(workers(tmp_path)) == 2, 300)
    assert wait_until(lambda: any(path.glob("fit-*") for path in scratch(tmp_path, "home")), 60)
    run.send_signal(deadly)
    run.wait(60)
    assert wait_until(lambda: workers(tmp_path) == [], 30)
    assert wait_until(lambda: scratch(tmp_path, "home") == [], 30)
    assert champions(tmp_path, "home") == []
    assert start(tmp_path, "home", SETTINGS, 2).wait(600) == 0, log.read_text()[-3000:]
    assert champions(tmp_path, "home") == undisturbed
    assert scratch(tmp_path, "home") == []
    assert workers(tmp_path) == []


def test_a_process_that_is_killed_while_it_trains_costs_nothing_but_time(
    tmp_path: Path, undisturbed: list[str]
) -> None:
    run = start(tmp_path, "home", SETTINGS, 2)
    assert wait_until(lambda: bool(workers(tmp_path)), 300)
    os.kill(workers(tmp_path)[0], signal.SIGKILL)
    assert run.wait(600) == 0, (tmp_path / "home.log").read_text()[-3000:]
    assert champions(tmp_path, "home") == undisturbed


def test_two_runs_at_once_train_side_by_side_in_folders_of_their_own(
    tmp_path: Path, undisturbed: list[str]
) -> None:
    runs = [start(tmp_path, home, SETTINGS, 2) for home in ("one", "other")]
    assert [run.wait(900) for run in runs] == [0, 0]
    assert champions(tmp_path, "one") == champions(tmp_path, "other") == undisturbed
    assert workers(tmp_path) == []
