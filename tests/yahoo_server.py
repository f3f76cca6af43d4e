"""A stand-in for Yahoo on the loopback: a proxy that ends TLS itself, so that the client runs as in production."""

import json
import ssl
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import SO_LINGER, SOL_SOCKET
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

import pandas as pd
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HOSTS = [f"{name}.yahoo.com" for name in ("query1.finance", "query2.finance", "fc", "guce", "consent")]
FORM = '<form><input name="csrfToken" value="t"><input name="sessionId" value="s"></form>'


@dataclass(frozen=True)
class Stock:
    """One listing as it traded; the server adjusts it as Yahoo does.

    `traded` has the columns open, high, low, close, volume and a tz-naive session index; dividends, splits and
    gains are keyed by session ("2024-06-10") in the units of that session. `fault` makes the answers go wrong.
    """

    traded: pd.DataFrame
    dividends: dict[str, float] = field(default_factory=dict)
    splits: dict[str, tuple[int, int]] = field(default_factory=dict)
    gains: dict[str, float] = field(default_factory=dict)
    kind: str = "EQUITY"
    currency: str | None = "USD"
    timezone: str = "America/New_York"
    opens: str = "09:30"
    null: tuple[str, ...] = ()
    live: pd.Timestamp | None = None
    fault: str = ""

    def chart(self, clock: pd.Timestamp, start: float, end: float) -> dict[str, Any]:
        """Return the chart JSON of [start, end) in epoch seconds, as Yahoo would have it at `clock`."""
        traded = self.traded[self.traded.index <= clock]
        stamps = [self._epoch(session) for session in traded.index]
        if self.live is not None:
            stamps[-1] = int(self.live.timestamp())
        factor = [self._factor(session, clock) for session in traded.index]
        bars = traded[["open", "high", "low", "close"]].div(factor, axis=0)
        bars = bars.assign(volume=(traded["volume"] * factor).round(), adjclose=self._adjusted(bars["close"]))
        bars.loc[bars.index.isin(pd.to_datetime(list(self.null)))] = float("nan")
        kept = [start <= stamp < end for stamp in stamps]
        bars, stamps = bars[kept], [stamp for stamp, keep in zip(stamps, kept, strict=True) if keep]
        quote = {name: _values(bars[name]) for name in bars if name != "adjclose"}
        result: dict[str, Any] = {"meta": self.meta(), "indicators": {"quote": [quote if stamps else {}]}}
        if stamps:
            result["timestamp"] = stamps
            result["indicators"]["adjclose"] = [{"adjclose": _values(bars["adjclose"])}]
            result["events"] = self._events(clock, start, end)
        return {"chart": {"result": [result], "error": None}}

    def meta(self) -> dict[str, Any]:
        """Return what Yahoo says of the listing."""
        return {
            "currency": self.currency,
            "instrumentType": self.kind,
            "exchangeTimezoneName": self.timezone,
            "validRanges": ["1d", "5d", "max"],
        }

    def _epoch(self, session: pd.Timestamp | str) -> int:
        return int(
            pd.Timestamp(f"{pd.Timestamp(session):%Y-%m-%d} {self.opens}", tz=self.timezone).timestamp()
        )

    def _factor(self, session: pd.Timestamp, clock: pd.Timestamp) -> float:
        factor = 1.0
        for day, (new, old) in self.splits.items():
            factor *= new / old if session < pd.Timestamp(day) <= clock else 1.0
        return factor

    def _adjusted(self, close: "pd.Series[float]") -> "pd.Series[float]":
        adjusted = close.copy()
        for day, cash in (self.dividends | self.gains).items():
            ex = pd.Timestamp(day)
            before = close.index < ex
            if before.any() and ex in close.index:
                cash /= self._factor(ex, close.index[-1])
                adjusted[before] *= 1 - cash / close[before].iloc[-1]
        return adjusted

    def _events(self, clock: pd.Timestamp, start: float, end: float) -> dict[str, Any]:
        def seen(actions: dict[str, Any]) -> dict[int, Any]:
            known = {self._epoch(day): (day, a) for day, a in actions.items() if pd.Timestamp(day) <= clock}
            return {stamp: action for stamp, action in known.items() if start <= stamp < end}

        def cash(actions: dict[str, float]) -> dict[str, Any]:
            return {
                str(stamp): {"date": stamp, "amount": amount / self._factor(pd.Timestamp(day), clock)}
                for stamp, (day, amount) in seen(actions).items()
            }

        splits = {
            str(stamp): {"date": stamp, "numerator": new, "denominator": old, "splitRatio": f"{new}:{old}"}
            for stamp, (_, (new, old)) in seen(self.splits).items()
        }
        events = {"dividends": cash(self.dividends), "splits": splits, "capitalGains": cash(self.gains)}
        return {name: found for name, found in events.items() if found}


def _values(column: "pd.Series[float]") -> list[float | None]:
    return [None if pd.isna(value) else float(value) for value in column]


@dataclass(frozen=True)
class Request:
    """One line of the server's log."""

    method: str
    host: str
    path: str

    @property
    def symbol(self) -> str:
        """The symbol of a chart request, else empty."""
        place, _, symbol = urlsplit(self.path).path.rpartition("/")
        return unquote(symbol) if place == "/v8/finance/chart" else ""


class YahooServer:
    """The stand-in, as a context manager.

    Attributes:
        proxy, ca_bundle: The two settings that lead nextday to it.
        stocks: What it knows, by symbol.
        clock: The day that it believes to be today: later bars do not exist, later splits have not happened.
        cookie_ends: Whether its cookie states when it expires.
        requests: Every request so far, in order.
        faults: What broke in the stand-in itself.
    """

    def __init__(self, folder: Path) -> None:
        self.clock = pd.Timestamp("2100-01-01")
        self.cookie_ends = True
        self.stocks: dict[str, Stock] = {}
        self.requests: list[Request] = []
        self.faults: list[BaseException] = []
        self.closing = threading.Event()
        certificate, self.ca_bundle = make_certificates(folder)
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(certificate)
        self.tls.set_alpn_protocols(["http/1.1"])
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Handler,), {"yahoo": self}))
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

    def breaks(self, symbol: str, fault: str) -> None:
        """Let the symbol's answers go wrong from now on; an empty fault mends it."""
        self.stocks[symbol] = replace(self.stocks[symbol], fault=fault)

    def asked(self, symbol: str) -> int:
        """Return how many chart requests came for the symbol."""
        return sum(request.symbol == symbol for request in self.requests)


class _Handler(BaseHTTPRequestHandler):
    yahoo: YahooServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    host = ""

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
        self.host = self.path.partition(":")[0]
        self.send_response(200)
        self.end_headers()
        self.connection = self.yahoo.tls.wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", 0)
        self.close_connection = False

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        request = Request(self.command, self.host, self.path)
        self.yahoo.requests.append(request)
        if request.symbol:
            self._chart(request.symbol)
        elif self.host == "fc.yahoo.com":
            self._send(404, "", cookie=True)
        elif urlsplit(self.path).path == "/v1/test/getcrumb":
            self._send(200, "crumb")
        else:
            self._send(*((404, "") if "finance" in self.host else (200, FORM)))

    def _chart(self, symbol: str) -> None:
        stock = self.yahoo.stocks.get(symbol)
        fault = "not found" if stock is None else stock.fault
        if fault == "reset":
            self.connection.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
        elif fault == "slow":
            self.yahoo.closing.wait(30)
        elif fault in _FAULTS:
            self._send(*_FAULTS[fault])
        else:
            assert stock is not None
            query = parse_qs(urlsplit(self.path).query)
            asked = {name: float(query[name][0]) for name in query if name.startswith("period")}
            chart = stock.chart(self.yahoo.clock, asked.get("period1", 0), asked.get("period2", 9e9))
            if fault == "empty" and asked:
                chart = stock.chart(self.yahoo.clock, 0, 0)
            self._send(200, json.dumps(chart))

    def _send(self, status: int, text: str, *, cookie: bool = False) -> None:
        body = text.encode()
        self.send_response(status)
        if cookie:
            expires = f"; Expires={datetime.now(UTC) + timedelta(days=300):%a, %d %b %Y %H:%M:%S GMT}"
            ends = expires if self.yahoo.cookie_ends else ""
            self.send_header("Set-Cookie", f"A3=a; Domain=.yahoo.com; Path=/{ends}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _error(code: str, description: str) -> str:
    return json.dumps({"chart": {"result": None, "error": {"code": code, "description": description}}})


_FAULTS: dict[str, tuple[int, str]] = {
    "not found": (404, _error("Not Found", "No data found, symbol may be delisted")),
    "bad request": (400, _error("Bad Request", "Data doesn't exist for startDate")),
    "unauthorized": (401, _error("Unauthorized", "Invalid Crumb")),
    "rate limited": (429, "Too Many Requests"),
    "server error": (500, _error("Internal Server Error", "internal error")),
    "nowhere": (404, "<html>Not Found</html>"),
    "html": (502, "<html>Bad Gateway</html>"),
    "garbage": (200, "{'no': json"),
    "no result": (200, json.dumps({"chart": {"result": [], "error": None}})),
}


def make_certificates(folder: Path) -> tuple[Path, Path]:
    """Return a server's certificate with key, and the authority to trust, both PEM and good for an hour."""
    authority, server = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "stand-in authority")])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOSTS[0])])
    names = x509.SubjectAlternativeName([x509.DNSName(host) for host in HOSTS])

    def sign(subject: x509.Name, key: Any, extension: x509.ExtensionType) -> bytes:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(hours=1))
        made = builder.add_extension(extension, critical=True).sign(authority, hashes.SHA256())
        return made.public_bytes(serialization.Encoding.PEM)

    key = server.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "server.pem").write_bytes(sign(subject, server, names) + key)
    (folder / "ca.pem").write_bytes(sign(issuer, authority, x509.BasicConstraints(True, None)))
    return folder / "server.pem", folder / "ca.pem"
