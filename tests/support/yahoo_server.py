"""A stand-in for Yahoo on the loopback: a proxy that ends TLS itself, so that the client runs as in production.

What it shows is in tests/support/yahoo_market.py and tests/support/yahoo_quirks.py; docs/stand_in.md tells how to
start it by hand.
"""

import json
import os
import ssl
import struct
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import SO_LINGER, SOL_SOCKET, socket
from typing import Any, Self
from urllib.parse import parse_qs, quote, unquote, urlsplit

import pandas as pd
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.yahoo_market import Stock

__all__ = ["FAULTS", "Fault", "Request", "Stock", "YahooServer", "make_certificates"]

HOSTS = [f"{name}.yahoo.com" for name in ("query1.finance", "query2.finance", "fc", "guce", "consent")]
FORM = '<form><input name="csrfToken" value="t"><input name="sessionId" value="s"></form>'
DAWN, DUSK = pd.Timestamp(0, tz="UTC"), pd.Timestamp("2200-01-01", tz="UTC")


@dataclass(frozen=True)
class Fault:
    """An answer that is none: a status and a text, or what the connection does instead."""

    status: int = 200
    text: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    happens: str = ""
    only_bars: bool = False


def _error(code: str, description: str) -> str:
    return json.dumps({"chart": {"result": None, "error": {"code": code, "description": description}}})


_CRUMB = {"code": "Unauthorized", "description": "Invalid Crumb"}

FAULTS = {
    "not found": Fault(404, _error("Not Found", "No data found, symbol may be delisted")),
    "bad request": Fault(400, _error("Bad Request", "Data doesn't exist for startDate")),
    "unauthorized": Fault(401, _error("Unauthorized", "Invalid Crumb")),
    "invalid crumb": Fault(401, json.dumps({"finance": {"result": None, "error": _CRUMB}})),
    "too many requests with 200": Fault(200, "<html>Edge: Too Many Requests</html>"),
    "blocked": Fault(999, "Request denied"),
    "rate limited": Fault(429, "Too Many Requests"),
    "rate limited for a while": Fault(429, "Too Many Requests", (("Retry-After", "30"),)),
    "server error": Fault(500, _error("Internal Server Error", "internal error")),
    "html": Fault(502, "<html>Bad Gateway</html>"),
    "unavailable": Fault(503, "<html>Service Unavailable</html>"),
    "nowhere": Fault(404, "<html>Not Found</html>"),
    "html with 200": Fault(200, "<html>Sorry, we are busy</html>"),
    "closed": Fault(200, "<html>Will be right back...</html>"),
    "garbage": Fault(200, "{'no': json"),
    "no result": Fault(200, json.dumps({"chart": {"result": [], "error": None}})),
    "chart error": Fault(200, _error("Unprocessable Entity", "Invalid input"), only_bars=True),
    "empty": Fault(happens="empty", only_bars=True),
    "slow": Fault(happens="slow"),
    "reset": Fault(happens="reset"),
    "truncated": Fault(happens="truncated"),
    "broken tls": Fault(happens="broken tls"),
}
"""What can go wrong on the wire, by name; `empty` is an answer without time stamps."""


@dataclass(frozen=True)
class Request:
    """One line of the server's log.

    `at` is the wall clock and `clock` what the server believed; `fault` is what went wrong with the answer.
    """

    method: str
    host: str
    path: str
    at: datetime
    clock: pd.Timestamp
    fault: str = ""

    @property
    def symbol(self) -> str:
        """The symbol of a chart request, else empty."""
        place, _, symbol = urlsplit(self.path).path.rpartition("/")
        return unquote(symbol) if place == "/v8/finance/chart" else ""

    @property
    def kind(self) -> str:
        """cookie, crumb, consent, timezone, bars or other."""
        if self.symbol:
            return "bars" if self.asked else "timezone"
        kinds = {"fc": "cookie", "guce": "consent", "consent": "consent"}
        is_crumb = urlsplit(self.path).path == "/v1/test/getcrumb"
        return "crumb" if is_crumb else kinds.get(self.host.partition(".")[0], "other")

    @property
    def asked(self) -> tuple[pd.Timestamp, pd.Timestamp] | None:
        """The range [start, end) that a request for bars asks for, in UTC, else None."""
        query = parse_qs(urlsplit(self.path).query)
        if "period1" not in query or "period2" not in query:
            return None
        start, end = (
            pd.Timestamp(int(query[name][0]), unit="s", tz="UTC") for name in ("period1", "period2")
        )
        return start, end


class YahooServer:
    """The stand-in, as a context manager.

    Args:
        folder: Where its certificates go.
        port: Where it listens; 0 is any free port.
        valid: How long the certificates are good for.

    Attributes:
        proxy, ca_bundle: The two settings that lead nextday to it.
        stocks: What it knows, by symbol.
        clock: The instant that it believes to be now: later bars do not exist, later splits have not happened. A day
            is the end of that day at each exchange; None is the wall clock.
        failing: Which fault the answers about a symbol have at a clock; empty for none. It comes before a stock's own.
        cookie_ends: Whether its cookie states when it expires.
        asks_consent: Whether a request for prices leads to the page that asks for consent to cookies, and back.
        is_trusted: Whether its certificate comes from the authority in ca_bundle.
        requests: Every request so far, in order.
        heard: Called with each request, as it comes.
        faults: What broke in the stand-in itself.
    """

    def __init__(self, folder: Path, *, port: int = 0, valid: timedelta = timedelta(hours=1)) -> None:
        self.clock: pd.Timestamp | None = pd.Timestamp("2100-01-01")
        self.cookie_ends = True
        self.asks_consent = False
        self.is_trusted = True
        self.stocks: dict[str, Stock] = {}
        self.failing: Callable[[str, pd.Timestamp], str] = lambda symbol, clock: ""
        self.heard: Callable[[Request], None] = lambda request: None
        self.requests: list[Request] = []
        self.faults: list[BaseException] = []
        self.closing = threading.Event()
        certificate, self.ca_bundle = make_certificates(folder, valid)
        stranger, _ = make_certificates(folder / "stranger", valid)
        self._tls = {True: _tls(certificate), False: _tls(stranger)}
        self._server = ThreadingHTTPServer(("127.0.0.1", port), type("Bound", (_Handler,), {"yahoo": self}))
        self._server.daemon_threads = True
        self.proxy = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        assert not self.faults, self.faults

    @property
    def now(self) -> pd.Timestamp:
        """What the clock shows."""
        return pd.Timestamp.now("UTC").floor("s") if self.clock is None else self.clock

    @property
    def tls(self) -> ssl.SSLContext:
        """What a connection is wrapped in."""
        return self._tls[self.is_trusted]

    def breaks(self, symbol: str, fault: str) -> None:
        """Let the symbol's answers go wrong from now on; an empty fault fixes it."""
        self.stocks[symbol] = replace(self.stocks[symbol], fault=fault)

    def asked(self, symbol: str) -> int:
        """Return how many chart requests came for the symbol."""
        return sum(request.symbol == symbol for request in self.requests)

    def fault_of(self, symbol: str, clock: pd.Timestamp) -> str:
        """Return what goes wrong with the answers about a symbol at a clock."""
        stock = self.stocks.get(symbol)
        if stock is None:
            return "not found"
        return self.failing(symbol, clock) or stock.failing(stock.clock(clock))


class _Handler(BaseHTTPRequestHandler):
    yahoo: YahooServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    host = ""
    tls: ssl.SSLContext

    def log_message(self, format: str, *arguments: Any) -> None:
        """Write nothing: the log is `YahooServer.requests`."""

    def handle(self) -> None:
        """Serve one connection; the client may leave when it likes."""
        try:
            with suppress(OSError):
                super().handle()
        except Exception as error:
            self.yahoo.faults.append(error)

    def finish(self) -> None:
        """Close the connection; one that was reset has nothing left to flush."""
        with suppress(OSError, ValueError):
            super().finish()
        with suppress(OSError):
            self.connection.close()

    def do_CONNECT(self) -> None:
        self.host, self.tls = self.path.partition(":")[0], self.yahoo.tls
        self.send_response(200)
        self.end_headers()
        self.connection = self.tls.wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", 0)
        self.close_connection = False

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        if self.tls is not self.yahoo.tls:
            self.close_connection = True  # curl asks again, on a new connection with the other certificate
            return
        request = Request(self.command, self.host, self.path, datetime.now(UTC), self.yahoo.now)
        if request.symbol:
            fault = self.yahoo.fault_of(request.symbol, request.clock)
            is_spared = request.kind == "timezone" and fault != "" and FAULTS[fault].only_bars
            request = replace(request, fault="" if is_spared else fault)
        self.yahoo.requests.append(request)
        self.yahoo.heard(request)
        if leads_to := self._leads_to(request):
            agreed = [("Set-Cookie", self._cookie("GUCS"))] if request.method == "POST" else []
            self._send(302, "", headers=[("Location", leads_to), *agreed])
        elif request.fault:
            self._fail(request, FAULTS[request.fault])
        elif request.symbol:
            self._send(200, json.dumps(self._chart(request)))
        elif request.kind == "cookie":
            self._send(404, "", headers=[("Set-Cookie", self._cookie())])
        elif request.kind == "crumb":
            self._send(200, "crumb")
        else:
            self._send(*((404, "") if request.kind == "other" else (200, FORM)))

    def _leads_to(self, request: Request) -> str:
        """Return where the answer redirects to: to the consent page, or from there to what was asked; else empty."""
        session = parse_qs(urlsplit(request.path).query).get("sessionId", [""])[0]
        if request.method == "POST" and session.startswith("https://"):
            return session
        if not (request.symbol and self.yahoo.asks_consent) or "GUCS" in self.headers.get("Cookie", ""):
            return ""
        asked = quote(f"https://{request.host}{request.path}", safe="")
        return f"https://consent.yahoo.com/v2/collectConsent?sessionId={asked}"

    def _chart(self, request: Request, *, empty: bool = False) -> dict[str, Any]:
        stock = self.yahoo.stocks[request.symbol]
        start, end = (moment.timestamp() for moment in request.asked or (DAWN, DUSK))
        chart = stock.chart(request.clock, start, start if empty else end)
        chart["chart"]["result"][0]["meta"].setdefault("symbol", request.symbol)
        return chart

    def _fail(self, request: Request, fault: Fault) -> None:
        if fault.happens == "empty":
            self._send(200, json.dumps(self._chart(request, empty=True)))
        elif fault.happens == "slow":
            self.yahoo.closing.wait(30)
        elif fault.happens == "truncated":
            self._send(200, '{"chart":', more=1000)
            self.close_connection = True
        elif fault.happens == "reset":
            self.connection.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
        elif fault.happens == "broken tls":
            with socket(fileno=os.dup(self.connection.fileno())) as bare:
                bare.sendall(b"this is no TLS record")
            self.close_connection = True
        else:
            self._send(fault.status, fault.text, headers=fault.headers)

    def _cookie(self, name: str = "A3") -> str:
        expires = f"; Expires={datetime.now(UTC) + timedelta(days=300):%a, %d %b %Y %H:%M:%S GMT}"
        return f"{name}=a; Domain=.yahoo.com; Path=/{expires if self.yahoo.cookie_ends else ''}"

    def _send(
        self, status: int, text: str, *, headers: Sequence[tuple[str, str]] = (), more: int = 0
    ) -> None:
        """Send an answer; `more` bytes are promised that do not come."""
        body = text.encode()
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) + more))
        self.end_headers()
        self.wfile.write(body)


def _tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.set_alpn_protocols(["http/1.1"])
    return context


def make_certificates(folder: Path, valid: timedelta) -> tuple[Path, Path]:
    """Return a server's certificate with key, and the authority to trust, both PEM."""
    authority, server = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "stand-in authority")])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOSTS[0])])
    names = x509.SubjectAlternativeName([x509.DNSName(host) for host in HOSTS])

    def sign(subject: x509.Name, key: Any, extension: x509.ExtensionType) -> bytes:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + valid)
        made = builder.add_extension(extension, critical=True).sign(authority, hashes.SHA256())
        return made.public_bytes(serialization.Encoding.PEM)

    key = server.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "server.pem").write_bytes(sign(subject, server, names) + key)
    (folder / "ca.pem").write_bytes(sign(issuer, authority, x509.BasicConstraints(True, None)))
    return folder / "server.pem", folder / "ca.pem"
