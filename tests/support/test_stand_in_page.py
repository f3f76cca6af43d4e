"""docs/stand_in.md: its block runs, and it names all that the stand-in can do wrong."""

import inspect
import re
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
from yfinance.data import SingletonMeta

from pipeline.sources.yahoo import YahooSource
from tests.conftest import PROJECT
from tests.support import yahoo_quirks
from tests.support.yahoo_by_hand import parse
from tests.support.yahoo_market import Broken, Quirk
from tests.support.yahoo_server import FAULTS, YahooServer

PAGE = (PROJECT / "docs" / "stand_in.md").read_text()


def test_its_block_shows_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SingletonMeta, "_instances", {})
    days = pd.bdate_range("2024-03-04", "2024-03-15")
    bars = pd.DataFrame(dict.fromkeys(("open", "high", "low", "close", "volume"), 100.0), days)
    found = {}

    def ask(server: YahooServer) -> None:
        settings = {"proxy": server.proxy, "ca_bundle": str(server.ca_bundle), "requests_per_second": 1000}
        source = YahooSource(cache_dir=tmp_path / "cache", **settings)
        now = datetime(2024, 4, 1, tzinfo=UTC)
        found.update({symbol: source.fetch(symbol, days[0], days[-1], now) for symbol in server.stocks})
        server.clock = pd.Timestamp("2024-03-15")
        found["later"] = source.fetch("HALF", days[0], days[-1], now)

    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    told = {"bars": bars, "folder": tmp_path / "server", "ask": ask, "pd": pd}
    exec(block, told)
    outcomes = {symbol: answer.outcome for symbol, answer in found.items()}
    assert outcomes == {"LATE": "ok", "HALF": "ok", "GONE": "not_found", "later": "transient"}
    assert found["LATE"].bars["close"].tolist() == [100] * 8
    assert found["HALF"].bars["close"].isna().sum() == 1
    assert found["HALF"].bars["volume"].tolist()[:6] == [200] * 6
    assert found["HALF"].bars["volume"].iloc[-1] == 137
    assert told["asked"][:3] == [("LATE", "timezone"), ("LATE", "bars"), ("HALF", "timezone")]


def test_it_names_every_quirk_every_fault_and_every_option() -> None:
    quirks = {
        name for name, kind in inspect.getmembers(yahoo_quirks, inspect.isclass) if issubclass(kind, Quirk)
    }
    named = set(re.findall(r"`(\w+)", PAGE))
    assert ({*quirks, Broken.__name__} - {"Quirk"}) <= named
    assert set(re.findall(r"`([a-z0-9 ]+)`", PAGE.partition("Faults on the wire")[2])) >= set(FAULTS)
    assert set(re.findall(r"`(--[a-z]+) [A-Z]+`", PAGE)) == {f"--{name}" for name in vars(parse([]))}
