"""A real Prefect server and real workers on loopback, and `nextday` with both."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from signal import SIGKILL
from typing import Any

import httpx
from filelock import FileLock

from flows.operations.deploy import POOL
from tests.conftest import PROJECT

ENDED = ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]

_MIGRATED = PROJECT / ".pytest_cache" / f"prefect-{version('prefect')}"
"""A Prefect home whose database has every table and no row: to make it costs a server 7 seconds of its start."""


def wait_for(look: Callable[[], Any], seconds: float, what: str, every: float = 1) -> Any:
    """Call `look` until it returns something other than None, and return that."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = look()
        if found is not None:
            return found
        time.sleep(every)
    raise AssertionError(f"{what}: not within {seconds:.0f} s")


def prefect_home(folder: Path) -> Path:
    """Return the folder, a Prefect home: with an empty database where it was not there yet."""
    with FileLock(f"{_MIGRATED}.lock"):
        if not _MIGRATED.exists():
            _migrate(_MIGRATED)
    if not folder.exists():
        shutil.copytree(_MIGRATED, folder)
    return folder


def _migrate(home: Path) -> None:
    part = home.with_name(f"{home.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    upgrade = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "--yes"]
    subprocess.run(upgrade, env=kept | {"PREFECT_HOME": str(part)}, check=True, capture_output=True)
    part.rename(home)


@dataclass(frozen=True)
class Running:
    """A process started by a test, as the leader of its own process group."""

    process: "subprocess.Popen[bytes]"
    log: Path

    def kill(self) -> None:
        """Kill it and its children at once, as a crash of the machine would."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, SIGKILL)
        self.process.wait(30)

    def stop(self) -> None:
        """Terminate it as a user would, and kill what is left."""
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(30)
        self.kill()


@contextmanager
def started(command: list[str], log: Path, environment: dict[str, str]) -> Iterator[Running]:
    """Keep a command running for the block."""
    with log.open("a") as out:
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=log.parent,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    running = Running(process, log)
    try:
        yield running
    finally:
        running.stop()


class Place:
    """A server, a workspace, and `nextday` with both.

    Args:
        folder: Where everything is written.
        config: A configuration of its own; empty: the project's.
    """

    def __init__(self, folder: Path, config: str = "") -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/api"
        self.folder, self.home, self.config = folder, folder / "w", folder / "nextday.toml"
        self._chosen: list[str] = []
        if config:
            self.config.write_text(config)
            self._chosen = ["--config", str(self.config)]
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        self.environment = kept | {
            "PYTHONPATH": str(PROJECT / "tests" / "support" / "quick_start"),
            "PREFECT_HOME": str(prefect_home(folder / "prefect")),
            "PREFECT_API_URL": self.url,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "5",
            "DO_NOT_TRACK": "1",
        }

    @contextmanager
    def started(self, name: str, *arguments: str) -> Iterator[Running]:
        """Keep a `prefect` command running for the block; its log bears the name."""
        command = [sys.executable, "-m", "prefect", *arguments]
        with started(command, self.folder / f"{name}.log", self.environment) as running:
            yield running

    @contextmanager
    def server(self) -> Iterator[Running]:
        """Keep the server running for the block: always the same port and database."""
        with self.started("server", "server", "start", "--host", "127.0.0.1", "--port", str(self.port)) as it:
            wait_for(self.is_up, 180, "the server is up")
            yield it

    @contextmanager
    def worker(self, name: str, *arguments: str) -> Iterator[Running]:
        """Keep a worker of nextday's pool running for the block."""
        with self.started(name, "worker", "start", "--pool", POOL, "--name", name, *arguments) as it:
            yield it

    def nextday(self, *arguments: str, home: Path | None = None) -> "subprocess.CompletedProcess[str]":
        command = Path(sys.executable).with_name("nextday")
        return subprocess.run(
            [str(command), *self._chosen, "--home", str(home or self.home), *arguments],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def follow(self, said: str, complaint: str) -> None:
        """Run the command that the doctor prints below a failed check."""
        lines = said.splitlines()
        (at,) = [at for at, line in enumerate(lines) if line.startswith("FIX") and complaint in line]
        command = lines[at + 1][lines[at + 1].index("PREFECT_API_URL=") :]
        subprocess.run(command, shell=True, env=self.environment, cwd=self.folder, check=True, timeout=120)

    def ask(self, path: str, body: Any = None, **fields: Any) -> Any:
        return self.request("POST", path, fields if body is None else body)

    def request(self, method: str, path: str, body: Any) -> Any:
        """Return the server's answer; retry while its database is busy, as Prefect's client does."""

        def answered() -> httpx.Response | None:
            try:
                answer = httpx.request(method, f"{self.url}/{path}", json=body, timeout=30)
            except httpx.ReadTimeout:
                if method == "GET":  # any other request may have been carried out
                    return None
                raise
            return None if answer.status_code == 503 else answer.raise_for_status()

        answer: httpx.Response = wait_for(answered, 60, f"{method} {path}")
        return answer.json() if answer.content else None

    def deployments(self) -> dict[str, dict[str, Any]]:
        return {found["name"]: found for found in self.ask("deployments/filter")}

    def flow_run(self, identity: str) -> dict[str, Any]:
        found: dict[str, Any] = self.request("GET", f"flow_runs/{identity}", None)
        return found

    def is_up(self) -> bool | None:
        with suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/health", timeout=5).is_success or None
        return None
