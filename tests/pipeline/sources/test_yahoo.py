"""YahooSource against a local stand-in server for Yahoo."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yfinance as yf
from curl_cffi.requests import Session
from yfinance import cache
from yfinance.data import SingletonMeta, YfData
from yfinance.exceptions import YFPricesMissingError

from pipeline.errors import ConfigError
from pipeline.market.corporate_actions import as_traded, total_return
from pipeline.sources import BAR_COLUMNS, Fetched
from pipeline.sources.yahoo import YahooSource
from tests.support.yahoo_market import Stock
from tests.support.yahoo_quirks import Null
from tests.support.yahoo_server import YahooServer

pytestmark = pytest.mark.slow

START, END = pd.Timestamp("2024-01-02"), pd.Timestamp("2024-12-31")
AFTER = datetime(2025, 1, 1, 12, tzinfo=UTC)
DAYS = pd.bdate_range(START, END)

Make = Callable[..., YahooSource]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[YahooServer]:
    with YahooServer(tmp_path / "server") as running:
        yield running


@pytest.fixture
def make(server: YahooServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Return a maker of sources, in a process that has not met Yahoo yet."""
    monkeypatch.setattr(SingletonMeta, "_instances", {})
    settings: dict[str, Any] = {"cache_dir": tmp_path / "cache", "requests_per_second": 1000, "timeout": 5}
    settings |= {"proxy": server.proxy, "ca_bundle": str(server.ca_bundle)}
    return lambda **changed: YahooSource(**(settings | changed))


def trades(sessions: pd.DatetimeIndex, close: Any = 100.0) -> pd.DataFrame:
    close = np.broadcast_to(np.asarray(close, float), len(sessions))
    bars = {"open": close, "high": close + 1, "low": close - 1, "close": close, "volume": 1e6}
    return pd.DataFrame(bars, index=sessions)


def walk(seed: int) -> pd.DataFrame:
    steps = np.random.default_rng(seed).normal(0, 0.01, len(DAYS))
    return trades(DAYS, (100 * np.exp(np.cumsum(steps))).round(2))


def ask(source: YahooSource, symbol: str, now: datetime = AFTER) -> Fetched:
    return source.fetch(symbol, START, END, now)


def test_bars_arrive_as_the_vendor_has_them(server: YahooServer, make: Make) -> None:
    server.stocks["MSFT"] = Stock(walk(1))
    found = ask(make(), "MSFT")
    assert (found.outcome, found.reason, found.adjustment) == ("ok", "", "split")
    assert (found.currency, found.timezone, found.observed_at) == ("USD", "America/New_York", AFTER)
    assert list(found.bars) == BAR_COLUMNS
    assert found.bars["session"].dtype == "datetime64[us]"
    assert set(found.bars.dtypes.iloc[1:]) == {np.dtype(float)}
    expected = walk(1).rename_axis("session").reset_index()
    pd.testing.assert_frame_equal(found.bars[list(expected)], expected, check_dtype=False)
    assert (found.bars["split"] == 1).all()
    assert (found.bars["dividend"] == 0).all()


@pytest.mark.parametrize("symbol", ["M&M.NS", "BRK/B", "AMX*", "A+#B", "^GSPC"])
def test_every_symbol_can_be_asked_for(symbol: str, server: YahooServer, make: Make) -> None:
    server.stocks[symbol] = Stock(walk(1))
    assert ask(make(), symbol).outcome == "ok"


def test_apples_split_of_2020_gives_the_published_closes_as_vendor_and_as_traded(
    server: YahooServer, make: Make
) -> None:
    days = pd.DatetimeIndex(["2020-08-27", "2020-08-28", "2020-08-31", "2020-09-01"])
    traded = [500.04, 499.23, 129.04, 134.18]
    server.stocks["AAPL"] = Stock(trades(days, traded), splits={"2020-08-31": (4, 1)})
    found = make().fetch("AAPL", days[0], days[-1], AFTER)
    assert found.bars["close"].tolist() == pytest.approx([125.01, 124.8075, 129.04, 134.18])
    assert found.bars["split"].tolist() == [1, 1, 4, 1]
    assert found.bars["volume"].tolist() == [4e6, 4e6, 1e6, 1e6]
    assert as_traded(found.bars, found.adjustment)["close"].tolist() == pytest.approx(traded)


@pytest.mark.parametrize("now", [datetime(2024, 5, 31, 22, tzinfo=UTC), AFTER])
def test_a_split_later_than_the_requested_window_and_the_clock_is_undone(
    server: YahooServer, make: Make, now: datetime
) -> None:
    server.stocks["NVDA"] = Stock(walk(2), splits={"2024-06-10": (10, 1), "2024-09-03": (1, 2)})
    found = make().fetch("NVDA", pd.Timestamp("2024-05-01"), pd.Timestamp("2024-05-31"), now)
    traded = as_traded(found.bars, found.adjustment).set_index("session").loc[:"2024-05-31"]
    assert traded.index[0] == pd.Timestamp("2024-05-01")
    np.testing.assert_allclose(traded["close"], walk(2)["close"].loc["2024-05-01":"2024-05-31"], rtol=1e-12)
    np.testing.assert_allclose(traded["volume"], 1e6)


def test_a_split_that_happens_between_two_fetches_changes_the_second(server: YahooServer, make: Make) -> None:
    server.stocks["NVDA"] = Stock(trades(DAYS), splits={"2024-06-10": (10, 1)})
    source = make()
    server.clock = pd.Timestamp("2024-06-07")
    assert ask(source, "NVDA").bars["close"].iloc[0] == 100
    server.clock = pd.Timestamp("2024-06-10")
    assert ask(source, "NVDA").bars["close"].iloc[0] == 10


def test_dividends_come_split_adjusted_and_explain_the_adjusted_close(
    server: YahooServer, make: Make
) -> None:
    server.stocks["KO"] = Stock(
        walk(3), dividends={"2024-03-14": 0.5, "2024-09-13": 0.3}, splits={"2024-06-10": (2, 1)}
    )
    found = ask(make(), "KO")
    paid = found.bars[found.bars["dividend"] > 0].set_index("session")["dividend"]
    assert paid.to_dict() == {pd.Timestamp("2024-03-14"): 0.25, pd.Timestamp("2024-09-13"): 0.3}
    traded = as_traded(found.bars, found.adjustment)
    close, split, dividend = (traded[name].to_numpy() for name in ("close", "split", "dividend"))
    assert dividend.sum() == pytest.approx(0.8)
    returns = total_return(close[1:], close[:-1], dividend[1:], split[1:])
    # Yahoo's factor 1 - D/C is the total return's to the first order in D/C times the day's move.
    vendor = (found.bars["adj_close"] / found.bars["adj_close"].shift()).to_numpy()[1:]
    np.testing.assert_allclose(returns, vendor, atol=3e-4)


def test_a_funds_capital_gains_count_once_as_dividends(server: YahooServer, make: Make) -> None:
    # In March the dividend holds the gain already, in June it cannot, in December there is the gain alone.
    gains = {"2024-03-14": 0.2, "2024-06-13": 0.5, "2024-12-12": 1.0}
    paid = {"2024-03-14": 0.7, "2024-06-13": 0.2}
    server.stocks["VOO"] = Stock(trades(DAYS), dividends=paid, gains=gains, kind="ETF")
    bars = ask(make(), "VOO").bars.set_index("session")["dividend"]
    assert bars[bars > 0].to_dict() == pytest.approx(
        {
            pd.Timestamp("2024-03-14"): 0.7,
            pd.Timestamp("2024-06-13"): 0.7,
            pd.Timestamp("2024-12-12"): 1.0,
        }
    )


@pytest.mark.parametrize(
    ("timezone", "opens"),
    [
        ("America/New_York", "09:30"),
        ("Europe/London", "08:00"),
        ("Asia/Tokyo", "09:00"),
        ("Pacific/Auckland", "10:00"),  # 21:00 or 22:00 UTC of the day before
        ("America/Sao_Paulo", "10:00"),
    ],
)
def test_sessions_are_the_exchanges_own_dates_in_winter_and_in_summer(
    server: YahooServer, make: Make, timezone: str, opens: str
) -> None:
    server.stocks["X"] = Stock(trades(DAYS), timezone=timezone, opens=opens)
    found = ask(make(), "X")
    assert found.bars["session"].tolist() == DAYS.tolist()
    assert found.timezone == timezone


def test_null_rows_sundays_and_the_open_session_are_passed_on(server: YahooServer, make: Make) -> None:
    days = pd.DatetimeIndex(["2024-03-07", "2024-03-08", "2024-03-10", "2024-03-11"])
    live = pd.Timestamp("2024-03-11 11:02:07", tz="America/New_York")
    server.stocks["SPY"] = Stock(trades(days), quirks=(Null("2024-03-08"),))
    server.clock = live
    bars = ask(make(), "SPY").bars
    assert bars["session"].tolist() == days.tolist()
    assert bars.loc[1, ["open", "high", "low", "close", "volume", "adj_close"]].isna().all()
    assert bars.drop(index=1).notna().all(axis=None)


def test_pence_stay_pence_and_an_unknown_currency_is_empty(server: YahooServer, make: Make) -> None:
    server.stocks["VOD.L"] = Stock(trades(DAYS), currency="GBp", timezone="Europe/London", opens="08:00")
    server.stocks["^FTSE"] = Stock(trades(DAYS), currency=None, kind="INDEX")
    source = make()
    assert ask(source, "VOD.L").currency == "GBp"
    assert ask(source, "^FTSE").currency == ""


@pytest.mark.parametrize("is_known", [False, True])
@pytest.mark.parametrize(
    ("fault", "outcome", "said"),
    [
        ("not found", "not_found", "no such symbol"),
        ("rate limited", "rate_limited", "429"),
        ("server error", "transient", "500"),
        ("html", "transient", "502"),
        ("unauthorized", "transient", "refused access (401 Unauthorized: Invalid Crumb)"),
        ("invalid crumb", "transient", "refused access (401 Unauthorized: Invalid Crumb)"),
        ("blocked", "rate_limited", "Yahoo answered 999"),
        ("too many requests with 200", "rate_limited", "Yahoo answered 429"),
        ("closed", "transient", "out of order: Will be right back..."),
        ("html with 200", "transient", "a page instead of prices: Sorry, we are busy"),
        ("reset", "transient", "could not be reached"),
        ("slow", "transient", "Timeout"),
        ("empty", "empty", "no bar"),
        ("garbage", "bad_payload", "no valid JSON: {'no': json"),
        ("nowhere", "bad_payload", "404"),
    ],
)
def test_each_failure_has_its_outcome(
    server: YahooServer, make: Make, fault: str, outcome: str, said: str, is_known: bool
) -> None:
    server.stocks["A"] = Stock(trades(DAYS))
    # What waits for nothing gets time enough on a busy machine.
    source = make(timeout=1 if fault == "slow" else 10)
    if is_known:
        assert ask(source, "A").outcome == "ok"
    server.breaks("A", fault)
    found = ask(source, "A")
    assert (found.symbol, found.outcome) == ("A", outcome)
    assert said in found.reason
    assert found.bars.empty
    if outcome != "rate_limited":
        server.breaks("A", "")
        assert ask(source, "A").outcome == "ok"


def test_a_window_before_the_listing_is_empty_with_yahoos_own_words(server: YahooServer, make: Make) -> None:
    server.stocks["NEW"] = Stock(trades(DAYS[-20:]))
    source = make()
    early = source.fetch("NEW", DAYS[0], DAYS[10], AFTER)
    assert early.outcome == "empty"
    server.breaks("NEW", "bad request")
    refused = ask(source, "NEW")
    assert refused.outcome == "empty"
    assert "Data doesn't exist for startDate" in refused.reason


def test_no_connection_is_transient_and_names_no_proxy(make: Make) -> None:
    found = ask(make(proxy="http://user:secret@127.0.0.1:1"), "A")
    assert found.outcome == "transient"
    assert "secret" not in found.reason


def test_an_untrusted_certificate_points_to_the_settings(server: YahooServer, make: Make) -> None:
    server.stocks["A"] = Stock(trades(DAYS))
    found = ask(make(ca_bundle=""), "A")
    assert found.outcome == "transient"
    assert "[prices] proxy and ca_bundle" in found.reason


def test_a_missing_file_of_certificates_is_refused_at_once(make: Make, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ca_bundle"):
        make(ca_bundle=str(tmp_path / "none.pem"))


def test_a_symbol_costs_two_requests_once_and_one_afterwards(server: YahooServer, make: Make) -> None:
    server.stocks |= {"A": Stock(trades(DAYS)), "B": Stock(trades(DAYS))}
    source = make()
    ask(source, "A")
    assert [request.host.partition(".")[0] for request in server.requests] == [
        "fc", "query1", "query2", "query2",
    ]  # fmt: skip
    ask(source, "B")
    assert len(server.requests) == 6
    ask(source, "A")
    assert (server.asked("A"), len(server.requests)) == (3, 7)


def test_the_time_zones_are_remembered_by_the_next_run(
    server: YahooServer, make: Make, tmp_path: Path
) -> None:
    server.stocks["A"] = Stock(trades(DAYS))
    ask(make(), "A")
    ask(make(), "A")
    assert server.asked("A") == 3
    assert cache._TzDBManager.get_database().is_closed()
    assert sorted(file.name for file in (tmp_path / "cache").glob("*.db")) == [
        "tkr-tz.db"
    ]  # no pickled cookies
    ask(make(cache_dir=tmp_path / "other"), "A")
    assert server.asked("A") == 5


def test_an_unknown_symbol_costs_one_request_and_none_for_anything_but_prices(
    server: YahooServer, make: Make
) -> None:
    source = make()
    assert ask(source, "GONE").outcome == "not_found"
    assert ask(source, "GONE").outcome == "not_found"
    assert server.asked("GONE") == 2
    assert {request.symbol or request.host for request in server.requests} == {
        "GONE", "fc.yahoo.com", "query1.finance.yahoo.com",
    }  # fmt: skip


def test_an_isin_is_not_looked_up(server: YahooServer, make: Make) -> None:
    server.stocks["AAPL"] = Stock(trades(DAYS))
    source = make()
    assert ask(source, "AAPL").outcome == "ok"
    sent = len(server.requests)
    found = ask(source, "US0378331005")
    assert (found.outcome, len(server.requests)) == ("not_found", sent)
    assert "US0378331005 is an ISIN" in found.reason


def test_no_request_outlasts_the_timeout(server: YahooServer, make: Make) -> None:
    server.stocks["A"] = Stock(trades(DAYS), fault="slow")
    began = time.monotonic()
    assert ask(make(timeout=0.3), "A").outcome == "transient"
    assert time.monotonic() - began < 5  # yfinance itself would wait for ten seconds


def test_a_cookie_without_an_end_stops_nothing(server: YahooServer, make: Make) -> None:
    server.cookie_ends = False
    server.stocks["A"] = Stock(trades(DAYS))
    source = make()
    assert [ask(source, "A").outcome for _ in range(2)] == ["ok", "ok"]


def test_no_request_follows_the_first_429(server: YahooServer, make: Make) -> None:
    server.stocks |= {"A": Stock(trades(DAYS)), "B": Stock(trades(DAYS), fault="rate limited")}
    source = make(requests_per_second=10)
    assert [ask(source, symbol).outcome for symbol in "AB"] == ["ok", "rate_limited"]
    assert server.asked("B") == 1
    sent, began = len(server.requests), time.monotonic()
    later = [ask(source, "A") for _ in range(20)]
    assert time.monotonic() - began < 1
    assert ({found.outcome for found in later}, len(server.requests)) == ({"rate_limited"}, sent)
    assert "earlier" in later[0].reason
    assert ask(make(), "A").outcome == "ok"


def test_the_waiting_time_of_a_429_is_passed_on(server: YahooServer, make: Make) -> None:
    server.stocks["A"] = Stock(trades(DAYS), fault="rate limited for a while")
    source = make()
    assert [ask(source, "A").reason for _ in range(2)] == [
        "Yahoo answered 429: it limits this address, wait 30 s",
        "Yahoo answered 429 earlier: it limits this address, wait 30 s",
    ]


def test_all_threads_share_the_rate_limit(server: YahooServer, make: Make) -> None:
    server.stocks |= {symbol: Stock(trades(DAYS[:5])) for symbol in "ABCD"}
    source = make(requests_per_second=20)
    began = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda symbol: ask(source, symbol), "ABCD"))
    assert {answer.outcome for answer in answers} == {"ok"}
    assert len(server.requests) == 10
    assert time.monotonic() - began >= 9 / 20


def test_four_threads_never_mix_up_symbols(server: YahooServer, make: Make) -> None:
    symbols = [f"S{number}" for number in range(24)]
    server.stocks |= {s: Stock(trades(DAYS, 100.0 + n)) for n, s in enumerate(symbols)}
    for symbol in symbols[::5]:
        server.breaks(symbol, "server error")
    source = make()
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda symbol: ask(source, symbol), symbols))
    for number, (symbol, answer) in enumerate(zip(symbols, answers, strict=True)):
        assert answer.symbol == symbol
        assert answer.outcome == ("transient" if number % 5 == 0 else "ok")
        assert (answer.bars["close"] == 100.0 + number).all()


def test_yfinance_keeps_the_contract_that_the_source_is_built_on(server: YahooServer, make: Make) -> None:
    make()
    server.stocks["VOO"] = Stock(trades(DAYS), kind="ETF")
    session = Session(proxy=server.proxy, verify=str(server.ca_bundle))
    ticker = yf.Ticker("VOO", session=session)
    asked = {"start": "2024-01-02", "auto_adjust": False, "actions": True, "keepna": True}
    table = ticker.history(**asked, end="2100-01-01")
    prices = ["Open", "High", "Low", "Close", "Adj Close", "Volume"]
    assert list(table) == [*prices, "Dividends", "Stock Splits", "Capital Gains"]
    assert (table.index.name, str(table.index.tz)) == ("Date", "America/New_York")
    assert table["Volume"].dtype == np.dtype("int64")
    sent = len(server.requests)
    assert ticker.history_metadata.get("currency") == "USD"
    assert len(server.requests) == sent
    server.breaks("VOO", "bad request")
    with pytest.raises(YFPricesMissingError) as error:
        ticker.history(**asked, end="2100-01-01")
    assert error.value.yahoo_reason == "Data doesn't exist for startDate"
    assert callable(YfData.cache_get.cache_clear)


def test_yfinance_logs_nothing_itself(
    server: YahooServer, make: Make, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    server.stocks["A"] = Stock(trades(DAYS), fault="html")
    assert ask(make(), "A").outcome == "transient"
    assert ask(make(), "GONE").outcome == "not_found"
    assert not caplog.records
    assert capfd.readouterr() == ("", "")
