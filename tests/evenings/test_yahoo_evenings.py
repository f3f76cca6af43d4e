"""Evenings with Yahoo as the source, against the stand-in: provisional bars, a split, an unknown symbol, an outage."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from yfinance.data import SingletonMeta

from flows.nightly import Evening, nightly
from pipeline.errors import SourceError
from pipeline.ledger.ledger import Ledger
from pipeline.market.calendar import Calendar
from pipeline.prices.store import PriceStore
from tests.support.own_process import EVENING
from tests.support.yahoo_market import Stock
from tests.support.yahoo_server import YahooServer

pytestmark = [pytest.mark.slow, pytest.mark.own_process(*EVENING)]

MEMBERS = ["A", "B", "C", "D", "E"]
SETTINGS = """
[universe]
name = "stand-in"
source = "yahoo"
symbols = ["A", "B", "C", "D", "E", "GONE"]
[prices]
start = 2016-06-01
requests_per_second = 10
proxy = "{proxy}"
ca_bundle = "{ca_bundle}"
[model]
kind = "logistic"
lookback = 5
[training]
stop_sessions = 40
calibrate_sessions = 40
[evaluation]
test_sessions = 100
"""
SPLIT = "2018-12-12"


class Street:
    """The stand-in, a workspace, and evenings."""

    def __init__(self, folder: Path, xnys: Calendar, server: YahooServer) -> None:
        self.calendar, self.server, self.home = xnys, server, folder / "data"
        self.config = folder / "nextday.toml"
        self.config.write_text(SETTINGS.format(proxy=server.proxy, ca_bundle=server.ca_bundle))
        for seed, symbol in enumerate(MEMBERS):
            server.stocks[symbol] = Stock(self.walk(seed), splits={SPLIT: (2, 1)} if symbol == "B" else {})

    def walk(self, seed: int) -> pd.DataFrame:
        days = self.calendar.sessions_between(pd.Timestamp("2016-06-01"), pd.Timestamp("2018-12-31"))
        rng = np.random.default_rng(seed)
        close = (100 * np.exp(np.cumsum(rng.normal(0, 0.01, len(days))))).round(2)
        if seed == 1:
            close[days >= SPLIT] /= 2
        bars = {"open": close, "high": close * 1.01, "low": close * 0.99, "close": close, "volume": 1e6}
        return pd.DataFrame(bars, index=days)

    def evening(self, session: str) -> Evening:
        now: datetime = (self.calendar.closes[pd.Timestamp(session)] + timedelta(hours=2)).to_pydatetime()
        self.server.clock = pd.Timestamp(session)
        return nightly.fn(config=self.config, home=self.home, now=now)

    @property
    def store(self) -> PriceStore:
        return PriceStore(self.home / "prices" / "stand-in")

    def record(self) -> pd.DataFrame:
        return Ledger(self.home / "ledger.sqlite").record("stand-in")


@pytest.fixture
def street(tmp_path: Path, xnys: Calendar, monkeypatch: pytest.MonkeyPatch) -> Iterator[Street]:
    monkeypatch.setattr(SingletonMeta, "_instances", {})
    with YahooServer(tmp_path / "server") as server:
        yield Street(tmp_path, xnys, server)


@pytest.mark.proof
def test_a_week_with_yahoo(street: Street) -> None:
    monday = street.evening("2018-12-10")
    assert monday.new_rows == 5
    assert monday.report.skipped.to_dict("records") == [
        {"symbol": "GONE", "reason": monday.report.skipped["reason"].iloc[0]}
    ]
    assert "not_found" in monday.report.skipped["reason"].iloc[0]
    assert (monday.report.members, monday.report.covered) == (6, 5)
    # Tonight's bars may still be revised: they are used, but no outcome is taken from them.
    bars = street.store.read()
    assert set(bars.loc[bars["session"] == "2018-12-10", "status"]) == {"provisional"}
    assert set(bars.loc[bars["session"] < "2018-12-10", "status"]) == {"settled"}

    tuesday = street.evening("2018-12-11")
    assert (tuesday.new_rows, tuesday.settled) == (5, 0)

    # On Wednesday B has split two for one: Yahoo halves its whole past, what traded stays as it was.
    before = street.store.read(as_of=pd.Timestamp("2018-12-11")).set_index(["symbol", "session"])["close"]
    wednesday = street.evening(SPLIT)
    assert wednesday.settled == 5
    after = street.store.read(as_of=pd.Timestamp("2018-12-11")).set_index(["symbol", "session"])["close"]
    pd.testing.assert_series_equal(before, after, rtol=1e-12)
    b = street.store.read().query("symbol == 'B'").set_index("session")
    assert b.loc[SPLIT, "split"] == 2
    assert b.loc[SPLIT, "close"] < 0.6 * b.loc["2018-12-11", "close"]
    assert "revised" not in set(wednesday.report.findings["rule"])

    # Yahoo is down on Thursday: no forecast, a reason, and nothing written.
    head = Ledger(street.home / "ledger.sqlite").head()
    for symbol in MEMBERS:
        street.server.breaks(symbol, "server error")
    with pytest.raises(SourceError, match="stale"):
        street.evening("2018-12-13")
    assert Ledger(street.home / "ledger.sqlite").head() == head

    # On Friday it is back: Thursday is caught up, late, with the champion of Monday; the split is no return.
    for symbol in MEMBERS:
        street.server.breaks(symbol, "")
    friday = street.evening("2018-12-14")
    record = street.record()
    assert record["as_of"].drop_duplicates().dt.day.tolist() == [10, 11, 12, 13, 14]
    assert record["model_version"].nunique() == 1
    split = record[(record["symbol"] == "B") & (record["target_session"] == SPLIT)].iloc[0]
    traded = street.server.stocks["B"].traded["close"]
    assert split["realized_return"] == pytest.approx(2 * traded[SPLIT] / traded["2018-12-11"] - 1, abs=1e-9)
    assert abs(split["realized_return"]) < 0.1
    assert friday.report.findings.empty


def test_a_known_symbol_costs_one_request_an_evening(street: Street) -> None:
    street.evening("2018-12-10")
    first = {symbol: street.server.asked(symbol) for symbol in MEMBERS}
    street.evening("2018-12-11")
    assert set(first.values()) == {2}
    assert {street.server.asked(symbol) - first[symbol] for symbol in MEMBERS} == {1}
