"""The HTTP faults of the stand-in for Yahoo, the outcome of each in YahooSource, and the log of requests."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from curl_cffi.requests import Session
from yfinance.data import SingletonMeta

from pipeline.sources import Fetched
from pipeline.sources.yahoo import YahooSource
from tests.support.yahoo_market import Broken, Stock
from tests.support.yahoo_server import FAULTS, YahooServer

DAYS = pd.bdate_range("2024-03-04", "2024-03-15")
AFTER = datetime(2024, 4, 1, tzinfo=UTC)
STOCK = Stock(pd.DataFrame(dict.fromkeys(("open", "high", "low", "close", "volume"), 10.0), DAYS))
CHART = "https://query2.finance.yahoo.com/v8/finance/chart/A?interval=1d"

# One source serves all tests, and what it says about warnings when it is made ends with the first of them.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[YahooServer, YahooSource]]:
    folder = tmp_path_factory.mktemp("yahoo")
    with pytest.MonkeyPatch.context() as patch, YahooServer(folder) as server:
        patch.setattr(SingletonMeta, "_instances", {})
        settings = {"proxy": server.proxy, "ca_bundle": str(server.ca_bundle), "timeout": 1}
        yield server, YahooSource(cache_dir=folder / "cache", requests_per_second=1000, **settings)


@pytest.fixture
def server(wire: tuple[YahooServer, YahooSource]) -> Iterator[YahooServer]:
    """Return the server as it was in the beginning, knowing A, with an empty log."""
    server = wire[0]
    server.stocks, server.clock, server.is_trusted = {"A": STOCK}, pd.Timestamp("2024-03-15"), True
    server.failing, server.heard = (lambda symbol, clock: ""), (lambda request: None)
    server.requests.clear()
    return server


@pytest.fixture
def source(wire: tuple[YahooServer, YahooSource]) -> YahooSource:
    return wire[1]


def ask(source: YahooSource, symbol: str = "A", start: pd.Timestamp = DAYS[0]) -> Fetched:
    return source.fetch(symbol, start, DAYS[-1], AFTER)


@pytest.mark.parametrize(
    ("fault", "outcome", "said"),
    [
        ("not found", "not_found", "no such symbol"),
        ("bad request", "empty", "Data doesn't exist for startDate"),
        ("server error", "transient", "500"),
        ("html", "transient", "502"),
        ("unavailable", "transient", "503"),
        ("html with 200", "transient", "a page instead of prices: Sorry, we are busy"),
        ("garbage", "bad_payload", "no valid JSON"),
        ("no result", "empty", "no bar"),
        ("chart error", "empty", "Invalid input"),
        ("empty", "empty", "no bar"),
        ("slow", "transient", "Timeout"),
        ("reset", "transient", "could not be reached"),
        ("truncated", "transient", "could not be reached"),
        ("broken tls", "transient", "could not be reached"),
    ],
)
def test_each_fault_has_its_outcome_and_ends_on_time(
    server: YahooServer, source: YahooSource, fault: str, outcome: str, said: str
) -> None:
    server.stocks["A"] = STOCK.with_quirks(Broken(fault, since="2024-03-12", until="2024-03-14"))
    answers = []
    for day in (11, 12, 13, 14):
        server.clock = pd.Timestamp(f"2024-03-{day}")
        answers.append(ask(source))
    assert [answer.outcome for answer in answers] == ["ok", outcome, outcome, "ok"]
    assert said in answers[1].reason
    assert [request.fault for request in server.requests if request.symbol].count(fault) >= 2


def test_every_fault_has_its_status_and_its_text(server: YahooServer) -> None:
    with Session(proxy=server.proxy, verify=str(server.ca_bundle)) as session:
        for name, fault in FAULTS.items():
            if not fault.happens:
                server.breaks("A", name)
                answer = session.get(f"{CHART}&period1=0&period2=9000000000")
                assert (answer.status_code, answer.text) == (fault.status, fault.text)
                assert answer.headers.get("Retry-After") == ("30" if name.endswith("a while") else None)


def test_what_only_bars_suffer_from_spares_the_time_zone(server: YahooServer) -> None:
    server.breaks("A", "chart error")
    with Session(proxy=server.proxy, verify=str(server.ca_bundle)) as session:
        assert session.get(f"{CHART}&range=1d").json()["chart"]["error"] is None
    assert [request.fault for request in server.requests] == [""]


def test_a_third_of_the_symbols_fails_otherwise_every_evening(
    server: YahooServer, source: YahooSource
) -> None:
    symbols = [f"S{number}" for number in range(9)]
    server.stocks = dict.fromkeys(symbols, STOCK)
    ways = ["server error", "not found", "garbage"]

    def failing(symbol: str, clock: pd.Timestamp) -> str:
        return ways[clock.day % 3] if (int(symbol[1:]) + clock.day) % 3 == 0 else ""

    server.failing = failing
    told = {}
    for day in (12, 13, 14):
        server.clock = pd.Timestamp(f"2024-03-{day}")
        told[day] = [ask(source, symbol).outcome for symbol in symbols]
    assert told == {
        12: ["transient", "ok", "ok"] * 3,
        13: ["ok", "ok", "not_found"] * 3,
        14: ["ok", "bad_payload", "ok"] * 3,
    }


def test_an_untrusted_certificate_stops_connections_that_are_open_already(
    server: YahooServer, source: YahooSource
) -> None:
    assert ask(source).outcome == "ok"
    server.is_trusted = False
    found = ask(source)
    assert found.outcome == "transient"
    assert "ca_bundle" in found.reason
    server.is_trusted = True
    assert ask(source).outcome == "ok"


def test_the_log_has_the_time_the_kind_and_the_symbol_of_each_request(
    server: YahooServer, source: YahooSource
) -> None:
    server.stocks["^NEW"] = STOCK
    began = datetime.now(UTC)
    for day in (13, 14):
        server.clock = pd.Timestamp(f"2024-03-{day}")
        assert ask(source, "^NEW", pd.Timestamp("2024-03-06")).outcome == "ok"
    asked = [request for request in server.requests if request.symbol]
    assert Counter((request.clock.day, request.symbol, request.kind) for request in asked) == {
        (13, "^NEW", "timezone"): 1,
        (13, "^NEW", "bars"): 1,
        (14, "^NEW", "bars"): 1,
    }
    assert all(began <= request.at <= began + timedelta(minutes=1) for request in asked)
    bars = asked[-1]
    assert (bars.method, bars.host) == ("GET", "query2.finance.yahoo.com")
    assert bars.asked is not None
    assert bars.asked[0] == pd.Timestamp("2024-03-06T00:00-05:00")
    assert asked[0].asked is None


def test_cookie_crumb_and_consent_have_kinds_of_their_own(server: YahooServer) -> None:
    heard = []
    server.heard = lambda request: heard.append(request.kind)
    paths = {
        "https://fc.yahoo.com/": "cookie",
        "https://query1.finance.yahoo.com/v1/test/getcrumb": "crumb",
        "https://guce.yahoo.com/consent": "consent",
        "https://consent.yahoo.com/v2/collectConsent": "consent",
        "https://query2.finance.yahoo.com/v7/finance/quote": "other",
    }
    with Session(proxy=server.proxy, verify=str(server.ca_bundle)) as session:
        for path in paths:
            session.get(path)
    assert heard == list(paths.values())


def test_the_wall_clock_is_a_clock_too(server: YahooServer, source: YahooSource) -> None:
    server.clock = None
    assert ask(source).outcome == "ok"
    assert abs(server.now - pd.Timestamp.now("UTC")) < pd.Timedelta(seconds=5)
    assert server.requests[-1].clock.tzinfo is not None
