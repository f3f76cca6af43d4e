"""An `mlflow server` on loopback behind a proxy that asks for a password, and that can be told to fail."""

import base64
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

USER, PASSWORD = "desk", "a-password-that-nobody-may-see"

_LENGTH = "Content-Length"
_OF_THE_CONNECTION = {"connection", "transfer-encoding", "content-length", "host", "accept-encoding"}


class SharedMlflow:
    """The server, as a test sees it.

    Attributes:
        url: The address of the proxy, without a password.
        fault: What requests meet: "" for an answer, "500", or "cut": the connection is cut off.
        after: How many requests are answered before they meet it.
        asked: Method and path of every request.
    """

    def __init__(self, inner: str) -> None:
        self.inner, self.fault, self.after, self.asked = inner, "", 0, list[str]()
        self.proxy = ThreadingHTTPServer(("127.0.0.1", 0), _make_handler(self))
        self.url = f"http://127.0.0.1:{self.proxy.server_port}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables that a client needs."""
        return {"MLFLOW_TRACKING_USERNAME": USER, "MLFLOW_TRACKING_PASSWORD": PASSWORD}

    @contextmanager
    def failing(self, fault: str, after: int = 0) -> Iterator[None]:
        """Let requests fail within the block."""
        self.fault, self.after = fault, after
        try:
            yield
        finally:
            self.fault = ""

    def meets_fault(self, asked: str) -> bool:
        """Note a request, and return whether it fails."""
        self.asked.append(asked)
        self.after -= 1
        return bool(self.fault) and self.after < 0


@contextmanager
def mlflow_server(folder: Path) -> Iterator[SharedMlflow]:
    """Start the server with a SQLite file, which may be there already, and a folder of files; stop it at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        *(
            sys.executable,
            "-m",
            "mlflow",
            "server",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--workers",
            "1",
        ),
        *("--backend-store-uri", f"sqlite:///{folder}/mlflow.db"),
        *("--artifacts-destination", str(folder / "artifacts")),
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    server = SharedMlflow(f"http://127.0.0.1:{port}")
    thread = Thread(target=server.proxy.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        _wait(server.inner, process, folder / "log")
        yield server
    finally:
        server.proxy.shutdown()
        thread.join()
        server.proxy.server_close()
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + 300
    while True:
        try:
            urllib.request.urlopen(f"{url}/health", timeout=5).close()
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.1)
        else:
            return


def _make_handler(server: SharedMlflow) -> type[BaseHTTPRequestHandler]:
    expected = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            content = self.rfile.read(int(self.headers.get(_LENGTH, 0)))
            if server.meets_fault(f"{self.command} {self.path}"):
                if server.fault == "cut":
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                else:
                    self.reply(int(server.fault), {}, PASSWORD.encode())
                return
            if self.headers.get("Authorization") != expected:
                self.reply(401, {"WWW-Authenticate": "Basic"}, PASSWORD.encode())
                return
            kept = {
                name: value for name, value in self.headers.items() if name.lower() not in _OF_THE_CONNECTION
            }
            asked = urllib.request.Request(
                f"{server.inner}{self.path}", content or None, kept, method=self.command
            )
            try:
                with urllib.request.urlopen(asked, timeout=60) as answer:
                    self.reply(answer.status, dict(answer.headers), answer.read())
            except urllib.error.HTTPError as error:
                self.reply(error.code, dict(error.headers), error.read())

        def reply(self, status: int, headers: dict[str, str], content: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in _OF_THE_CONNECTION:
                    self.send_header(name, value)
            self.send_header(_LENGTH, str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"):
        setattr(Handler, f"do_{method}", Handler.answer)
    return Handler
