"""An S3 server on loopback (moto's) in a process of its own, which can be told to refuse, to fail and to cut.

It keeps its objects in memory. It honours If-None-Match, as Delta's commits need it.
"""

import json
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

BUCKET = "prices"
KEY_ID, SECRET = "AKIAFORTESTSALONE000", "a-secret-that-nobody-may-see"

REFUSAL = f"""<?xml version="1.0"?><Error><Code>InvalidAccessKeyId</Code><Message>no such key</Message>
<AWSAccessKeyId>{KEY_ID}</AWSAccessKeyId></Error>"""


class ObjectStore:
    """The server, as a test sees it."""

    def __init__(self, folder: Path, port: int) -> None:
        self._faults, self.port = folder / "faults.json", port
        self.endpoint = f"http://127.0.0.1:{port}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables that a client needs."""
        return {
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ALLOW_HTTP": "true",
        }

    @contextmanager
    def fault(self, kind: str, method: str = "", part: str = "") -> Iterator[None]:
        """Let requests fail within the block: those of a method, whose path and query contain `part`.

        Args:
            kind: "403", "404" or "500": answered with; "cut": cut off unread; "answerless": done, then cut off;
                "down": cut off, and so is every later request, as if the server had ended.
            method: The method; default: all.
            part: The part; default: all.
        """
        new = self._faults.with_suffix(".new")
        new.write_text(json.dumps([kind, method, part]))
        new.replace(self._faults)
        try:
            yield
        finally:
            self._faults.unlink()


@contextmanager
def object_store(folder: Path) -> Iterator[ObjectStore]:
    """Start the server, with one bucket, and stop it at the end."""
    log, port = folder / "log", folder / "port"
    command = [sys.executable, "-m", "tests.support.object_store", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with log.open("w") as out:
        server = subprocess.Popen(command, env=environment, stdout=out, stderr=subprocess.STDOUT)
    try:
        while not port.exists():
            assert server.poll() is None, log.read_text()
            time.sleep(0.05)
        yield ObjectStore(folder, int(port.read_text()))
    finally:
        server.kill()
        server.wait()


class _Faulty:
    """The server's application behind the faults that the file names."""

    def __init__(self, application: Any, faults: Path) -> None:
        self._application, self._faults, self._is_down = application, faults, False

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        kind = self._find(environ)
        if kind in {"", "answerless"}:
            answer = self._application(environ, start_response)
            if not kind:
                return answer
            list(answer)
        if kind in {"cut", "answerless", "down"}:
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            raise ConnectionError
        body = REFUSAL.encode() if kind == "403" else b""
        start_response(f"{kind} Fault", [("Content-Type", "text/xml"), ("Content-Length", str(len(body)))])
        return [body]

    def _find(self, environ: dict[str, Any]) -> str:
        try:
            kind, method, part = json.loads(self._faults.read_text())
        except FileNotFoundError:
            self._is_down = False
            return ""
        asked = f"{environ['PATH_INFO']}?{environ['QUERY_STRING']}"
        is_meant = self._is_down or (method in {"", environ["REQUEST_METHOD"]} and part in asked)
        self._is_down |= is_meant and kind == "down"
        return kind if is_meant else ""


def _serve(folder: Path) -> None:
    import boto3
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    os.environ.update(AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="x", AWS_DEFAULT_REGION="us-east-1")
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    application = DomainDispatcherApplication(create_backend_app)
    server = make_server("127.0.0.1", 0, _Faulty(application, folder / "faults.json"), threaded=True)
    serving = Thread(target=server.serve_forever)
    serving.start()
    boto3.client("s3", endpoint_url=f"http://127.0.0.1:{server.port}").create_bucket(Bucket=BUCKET)
    ready = folder / ".port"
    ready.write_text(str(server.port))
    ready.replace(folder / "port")
    serving.join()


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
