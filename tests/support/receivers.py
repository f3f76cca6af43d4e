"""Real servers on loopback that take messages: HTTP requests of any kind, and mail."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Thread
from typing import Any


@dataclass(frozen=True)
class Request:
    """One request as it arrived."""

    path: str
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Receiver:
    """What a server has received so far."""

    port: int
    answer: int = 200
    requests: list[Request] = field(default_factory=list)
    mails: list[Message] = field(default_factory=list)
    envelopes: list[str] = field(default_factory=list)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def paths(self) -> list[str]:
        return [request.path for request in self.requests]


@contextmanager
def http_receiver() -> Iterator[Receiver]:
    """Answer every request, as webhooks, Slack, Telegram and a monitor do."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            receiver.requests.append(Request(self.path, body))
            answer = b"ok" if "/services/" in self.path else b'{"ok": true, "result": {}}'
            self.send_response(receiver.answer)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver = Receiver(server.server_port)
        with _served(server):
            yield receiver


@contextmanager
def mail_receiver() -> Iterator[Receiver]:
    """Take mail by SMTP (RFC 5321), without encryption and without a login."""

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            self.reply("220 loopback")
            while line := self.rfile.readline():
                verb = line.strip().upper()
                if verb.startswith((b"MAIL", b"RCPT")):
                    receiver.envelopes.append(line.decode().strip().upper())
                if verb == b"DATA":
                    self.reply("354 go on")
                    receiver.mails.append(message_from_bytes(self.read_mail()))
                self.reply("221 bye" if verb == b"QUIT" else "250 ok")
                if verb == b"QUIT":
                    return

        def read_mail(self) -> bytes:
            lines = []
            while (line := self.rfile.readline()) not in (b".\r\n", b""):
                lines.append(line.removeprefix(b"."))
            return b"".join(lines)

        def reply(self, text: str) -> None:
            self.wfile.write(f"{text}\r\n".encode())

    with ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        receiver = Receiver(server.server_address[1])
        with _served(server):
            yield receiver


@contextmanager
def _served(server: Any) -> Iterator[None]:
    thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
