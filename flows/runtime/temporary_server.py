"""Prefect's temporary server: the API of one command where PREFECT_API_URL names none.

Prefect starts one itself once a flow runs, but loads the whole server into the flow's process too, and waits. This one
starts in a process of its own while the command imports what it needs, and ends with the command, however that ends.
"""

import atexit
import gc
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import uvicorn

__all__ = ["TemporaryServer", "is_running"]

_START_SECONDS = 180.0
"""A first start makes the database, which takes a slow machine half a minute."""

_SERVER = ("PREFECT_SERVER_", "PREFECT_API_DATABASE_", "PREFECT_API_SERVICES_")
"""Variables that configure a server; the later ones are Prefect's former names."""

_STOP_SECONDS = 5
"""What the server gets to answer its last requests."""

_running = False


def is_running() -> bool:
    """Return whether this process reports to a temporary server: its pages are gone when the command has ended."""
    return _running


class TemporaryServer:
    """A running Prefect server on a free port of 127.0.0.1, whose database is in PREFECT_HOME.

    Settings of another server do not apply to it: neither PREFECT_SERVER_ variables, which may name a company's
    database or a password, nor files of the current folder.

    Args:
        environment: Its environment; default: that of this process.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 -- the server writes into it until it ends
        # The server inherits a listening socket: there is no race for the port, and requests queue until it answers.
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.url = f"http://127.0.0.1:{listening.getsockname()[1]}/api"
            own = _isolate(os.environ if environment is None else environment)
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(listening.fileno())],
                pass_fds=[listening.fileno()],
                stdin=subprocess.PIPE,
                stdout=self._errors,
                stderr=self._errors,
                env=own,
                cwd="/",
                start_new_session=True,  # Ctrl+C is for the command, which tells the server how its run ended
            )
        # Registered before Prefect's own: those send the last log lines first.
        atexit.register(self.stop)

    def use(self) -> None:
        """Wait until it answers, and make it the API of this process and of those that it starts.

        Raises:
            NextdayError: it cannot start.
        """
        from prefect.context import refresh_global_settings_context

        self.wait()
        global _running
        _running = True
        os.environ["PREFECT_API_URL"] = self.url
        refresh_global_settings_context()

    def wait(self) -> None:
        """Wait until the server answers.

        Raises:
            NextdayError: it cannot start.
        """
        import httpx
        from prefect.settings import PREFECT_HOME

        from pipeline.errors import NextdayError

        try:
            health = httpx.get(f"{self.url}/health", timeout=_START_SECONDS, trust_env=False, verify=False)
            health.raise_for_status()
        except httpx.HTTPError as error:
            is_late = isinstance(error, httpx.TimeoutException)
            self._end()
            # What a server that is only slow says last is about its end.
            reason = f"no answer in {_START_SECONDS:.0f} s" if is_late else self._last_error() or error
            self._errors.close()
            raise NextdayError(
                f"Prefect's temporary server does not start: {reason}",
                where=f"PREFECT_HOME = {PREFECT_HOME.value()}",
                fix="look at that folder's rights and the free space; or start a server (prefect server start) and set "
                "PREFECT_API_URL",
            ) from None

    def stop(self) -> None:
        """End the server."""
        self._end()
        self._errors.close()

    def _end(self) -> None:
        atexit.unregister(self.stop)
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(2 * _STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _last_error(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        raised = [line for line in lines if re.match(r"[\w.]+(Error|Exception)\b", line)]
        return [*lines, *raised][-1] if lines else ""


def _isolate(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a server with its own settings, whose imports do not depend on the current folder."""
    kept = {name: value for name, value in environment.items() if not name.startswith(_SERVER)}
    home = Path(environment.get("PREFECT_HOME") or "~/.prefect").expanduser().absolute()
    return kept | {
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{home}/prefect.db",
        "PYTHONPATH": os.pathsep.join(str(Path(place).absolute()) for place in sys.path),
    }


def _serve(listening: socket.socket) -> None:
    """Serve until standard input ends, as it does with the process that holds its other end."""
    server: uvicorn.Server | None = None

    def end_with_command() -> None:
        sys.stdin.buffer.read()
        if server is None:
            os._exit(0)  # it has not opened the database yet
        server.should_exit = True

    threading.Thread(target=end_with_command, daemon=True).start()
    server = _make_server()
    server.run(sockets=[listening])
    os._exit(0)  # to free every object one by one takes seconds


def _make_server() -> "uvicorn.Server":
    gc.disable()  # what is imported stays: collecting garbage meanwhile is a third of the time
    import uvicorn
    from prefect.server.api.server import create_app

    gc.freeze()  # Prefect collects garbage as it makes the app
    app = create_app(ephemeral=True, final=True)
    gc.freeze()
    gc.enable()
    config = uvicorn.Config(app, log_level="error", lifespan="on", timeout_graceful_shutdown=_STOP_SECONDS)
    return uvicorn.Server(config)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
