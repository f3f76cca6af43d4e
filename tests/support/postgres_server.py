"""A PostgreSQL server of its own: on loopback, on a free port, in a temporary folder."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import weakref
from contextlib import suppress
from pathlib import Path

import psycopg

from tests.conftest import skip_unless

__all__ = ["PostgresServer", "find_programs"]


def find_programs() -> Path:
    """Return the folder with initdb and postgres; skip the test where there is none, fail under CI=true."""
    found = shutil.which("initdb")
    folders = (
        [Path(found).resolve().parent]
        if found
        else sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    )
    for folder in folders:
        if (folder / "initdb").exists():
            return folder
    skip_unless(False, "PostgreSQL's initdb (Debian's package postgresql)")
    raise AssertionError


class PostgresServer:
    """A server with the superuser `desk` and the database `postgres`; it trusts every connection.

    Attributes:
        port: Where it listens on 127.0.0.1.
    """

    def __init__(self, folder: Path) -> None:
        self._as_user: list[str] = []
        # PostgreSQL refuses root, and every pytest that starts closes the folder of all of them to other users.
        if os.geteuid() == 0:
            self._as_user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
            folder = Path(tempfile.mkdtemp(prefix="nextday-postgres-"))
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
            os.chown(folder, 65534, 65534)
        folder.mkdir(parents=True, exist_ok=True)
        self._programs, self._data = find_programs(), folder / "data"
        initdb = [
            self._programs / "initdb",
            "-D",
            self._data,
            "-U",
            "desk",
            "-A",
            "trust",
            "-N",
            "-E",
            "UTF8",
        ]
        made = subprocess.run(
            [*self._as_user, *initdb, "--locale=C.UTF-8"],
            check=False,
            capture_output=True,
            text=True,
            cwd=folder,
        )
        assert made.returncode == 0, made.stderr
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    def address(self, schema: str = "nextday") -> str:
        """Return the address of a ledger in it."""
        return f"postgresql://desk@127.0.0.1:{self.port}/postgres?schema={schema}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = [
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            f"port={self.port}",
            "-c",
            "unix_socket_directories=",
        ]
        with (self._data.parent / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._as_user, self._programs / "postgres", "-D", self._data, *settings],
                stdout=log, stderr=log, cwd=self._data.parent,
            )  # fmt: skip
        until = time.monotonic() + 60
        while not self._answers():
            if time.monotonic() > until or self._process.poll() is not None:
                self.stop()
                raise AssertionError((self._data.parent / "log").read_text())
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            with psycopg.connect(self.address().partition("?")[0], connect_timeout=5):
                return True
        except psycopg.OperationalError:
            return False

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it: SIGINT ends every session, SIGQUIT is a crash that it recovers from."""
        if self._process is not None:
            if self._process.poll() is None:
                self._process.send_signal(how)
            self._process.wait(60)
            self._process = None

    def crash(self) -> None:
        """Kill every process of it at once with SIGKILL, as a crash of the machine would."""
        assert self._process is not None
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for each in (pid, *map(int, children)):
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        self._process.wait(60)
        self._process = None
        for child in children:  # until the last one has gone, its shared memory is in use
            until = time.monotonic() + 60
            while Path(f"/proc/{child}").exists() and time.monotonic() < until:
                time.sleep(0.01)
