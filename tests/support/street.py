"""A fixture of made-up listings behind the stand-in for Yahoo, a workspace, and price updates on chosen sessions."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from yfinance.data import SingletonMeta

from flows.prices import fetch
from flows.prices.update import PriceStatus, update_prices
from flows.runtime.context import Run, open_run
from pipeline.market.calendar import Calendar
from pipeline.market.corporate_actions import adjusted_close
from pipeline.sources import yahoo
from tests.support.made_market import Listing, make_stock
from tests.support.yahoo_market import Quirk, Stock
from tests.support.yahoo_server import YahooServer

SETTINGS = """
[universe]
name = "street"
source = "yahoo"
file = "members.csv"
[prices]
start = {start}
requests_per_second = 10
proxy = "{proxy}"
ca_bundle = "{ca_bundle}"
"""


class Street:
    """Price updates of one universe; the flows' tasks run as plain functions, without Prefect.

    Args:
        folder: The folder of the settings and the workspace.
        days: The exchange's calendar.
        server: The stand-in for Yahoo.
        first: The first session.
    """

    def __init__(self, folder: Path, days: Calendar, server: YahooServer, first: str = "2018-06-01") -> None:
        self.days, self.server, self.folder, self.first = days, server, folder, first
        self.said: list[str] = []
        settings = SETTINGS.format(start=first, proxy=server.proxy, ca_bundle=server.ca_bundle)
        (folder / "nextday.toml").write_text(settings)

    def lists(self, *rows: str) -> None:
        """Write the universe file with these rows."""
        (self.folder / "members.csv").write_text("\n".join(["symbol,from,to,name,formerly", *rows]) + "\n")

    def opens(self, *symbols: str, last: str = "2018-12-31", **stocks: Stock) -> None:
        """Add a random-walk stock per symbol, and the given stocks, to the server and to the members."""
        sessions = self.days.sessions_between(pd.Timestamp(self.first), pd.Timestamp(last))
        made = {symbol: make_stock(self.days, sessions, seed) for seed, symbol in enumerate(symbols)}
        self.server.stocks |= made | stocks
        self.lists(*self.server.stocks)

    def quirk(self, symbol: str, *quirks: Quirk) -> None:
        """Add errors of Yahoo (quirks) to a listing."""
        self.server.stocks[symbol] = self.server.stocks[symbol].with_quirks(*quirks)

    def run(self, session: str, hours: float = 2) -> Run:
        """Return a run `hours` after the session's close; the stand-in's clock is set to that time."""
        now: datetime = (self.days.closes[pd.Timestamp(session)] + timedelta(hours=hours)).to_pydatetime()
        self.server.clock = pd.Timestamp(now)
        return open_run(self.folder / "nextday.toml", self.folder / "data", now)

    def evening(self, session: str, hours: float = 2) -> PriceStatus:
        """Run the price update: fetch, check and store prices."""
        return update_prices(self.run(session, hours))

    def sessions(self, first: str, last: str) -> list[str]:
        """Return the sessions in [first, last], as text."""
        return [
            f"{day:%Y-%m-%d}" for day in self.days.sessions_between(pd.Timestamp(first), pd.Timestamp(last))
        ]

    def bars(self, symbol: str, session: str = "2018-12-31", **asked: object) -> pd.DataFrame:
        """Return the stored bars of a symbol, indexed by session."""
        store = self.run(session).store
        return store.read(symbols=[symbol], **asked).set_index("session")  # type: ignore[arg-type]

    def adjusted(self, bars: pd.DataFrame) -> "pd.Series[float]":
        """Return the total-return close that nextday computes from stored bars."""
        columns = [bars[[name]].to_numpy() for name in ("close", "dividend", "split")]
        return pd.Series(adjusted_close(*columns)[:, 0], bars.index)

    def requests(self, symbol: str) -> int:
        """Return the number of chart requests for the symbol since the last call."""
        count = self.server.asked(symbol)
        self.server.requests = [each for each in self.server.requests if each.symbol != symbol]
        return count


def total_return(stock: Stock) -> "pd.Series[float]":
    """Return the true forward total-return close of a stock."""
    return Listing("", stock).total_return


def rules(market: PriceStatus) -> dict[str, list[str]]:
    """Return the rules of each symbol's findings."""
    return {str(s): sorted(set(rows["rule"])) for s, rows in market.findings.groupby("symbol")}


def assert_true(street: Street, symbol: str, last: str) -> None:
    """Assert that the stored bars up to `last` are the true ones, as traded."""
    bars, truth = (
        street.bars(symbol, last, as_of=pd.Timestamp(last)),
        street.server.stocks[symbol].traded[:last],
    )
    for name in ("open", "high", "low", "close", "volume"):
        np.testing.assert_allclose(bars[name], truth[name], rtol=2e-7)
    assert bars.index.tolist() == truth.index.tolist()


@pytest.fixture
def street(tmp_path: Path, xnys: Calendar, monkeypatch: pytest.MonkeyPatch) -> Iterator[Street]:
    """Return a Street without listings; the rate limit is off."""
    monkeypatch.setattr(SingletonMeta, "_instances", {})
    monkeypatch.setattr(yahoo._RateLimiter, "wait", lambda self: None)
    monkeypatch.setattr(fetch.fetch_prices, "again", None)  # a retry waits for seconds
    with YahooServer(tmp_path / "server") as server:
        yield Street(tmp_path, xnys, server)
