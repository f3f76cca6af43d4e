"""The temporary server answers, and ends with the process that started it, however that ends."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.prefect_place import prefect_home, wait_for

pytestmark = pytest.mark.slow

START = """
import time
from flows.runtime.temporary_server import TemporaryServer
server = TemporaryServer()
server.use()
print(server.url, server._process.pid, flush=True)
"""
FLOW = """
from prefect import flow
from flows.runtime.tracking import run_tags
@flow
def evening():
    from types import SimpleNamespace
    from datetime import datetime
    return run_tags(SimpleNamespace(now=datetime(2026, 1, 2)))
print(sorted(evening()), flush=True)
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    home = str(prefect_home(tmp_path / "prefect"))
    return kept | {"PREFECT_HOME": home, "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}


@pytest.fixture
def command(environment: dict[str, str]) -> Iterator["subprocess.Popen[str]"]:
    """Run a command with a temporary server until it is told to end."""
    code = START + "input()\n" + FLOW
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        yield process
        process.kill()


def is_gone(pid: int) -> bool | None:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return None


def first_line(command: "subprocess.Popen[str]") -> tuple[str, int]:
    assert command.stdout is not None
    url, pid = command.stdout.readline().split()
    return url, int(pid)


def test_a_flow_reports_to_it_and_it_ends_with_the_command(command: "subprocess.Popen[str]") -> None:
    url, pid = first_line(command)
    assert url.startswith("http://127.0.0.1:")
    assert httpx.get(f"{url}/health").is_success
    said, _ = command.communicate("\n", timeout=120)
    # The run's page is gone with the server: nothing links to it.
    assert said == "['flow_run_id', 'flow_run_name', 'now']\n"
    assert command.returncode == 0
    assert is_gone(pid)


def test_it_ends_when_the_command_is_killed(command: "subprocess.Popen[str]") -> None:
    _, pid = first_line(command)
    command.send_signal(signal.SIGKILL)
    wait_for(lambda: is_gone(pid), 30, "the server has ended", every=0.2)


def test_a_server_that_cannot_start_is_told_with_its_folder(
    environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    done = subprocess.run(
        [sys.executable, "-c", START],
        env=environment | {"PREFECT_HOME": str(tmp_path / "file")},
        text=True,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert f"where: PREFECT_HOME = {tmp_path / 'file'}" in done.stderr
    assert "Prefect's temporary server does not start" in done.stderr


def test_a_server_that_is_only_slow_is_told_as_that(environment: dict[str, str]) -> None:
    slow = START.replace(
        "from flows",
        "import flows.runtime.temporary_server as module\nmodule._START_SECONDS = 0.01\nfrom flows",
        1,
    )
    done = subprocess.run(
        [sys.executable, "-c", slow],
        env=environment,
        text=True,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "Prefect's temporary server does not start: no answer in 0 s" in done.stderr
