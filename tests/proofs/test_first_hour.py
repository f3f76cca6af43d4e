"""The first hour: two people reach a report that they understand, with two commands and no look into docs/."""

import os
import re
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest

from pipeline.market.calendar import calendar
from tests.conftest import PROJECT
from tests.flows.cli.test_init import SYMBOLS, write_prices
from tests.support.prefect_place import prefect_home
from tests.support.terminal import Screen, run_in_terminal
from tests.support.yahoo_by_hand import START, made_up
from tests.support.yahoo_server import YahooServer

pytestmark = pytest.mark.proof

COLUMNS = 80
MADE_BY_TESTS = ("NEXTDAY_", "PREFECT_", "PYTEST_")


class Desk:
    """A person's folder, where `nextday` is typed in a terminal of 80 columns."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.typed = folder, 0
        kept = {name: value for name, value in os.environ.items() if not name.startswith(MADE_BY_TESTS)}
        own = {"PYTHONPATH": str(PROJECT), "HOME": str(folder.parent)}
        self.environment = kept | own | {"PREFECT_HOME": str(prefect_home(folder.parent / "prefect"))}

    def type(self, *words: str) -> Screen:
        """Type a command, and return what the screen shows."""
        self.typed += 1
        command = [sys.executable, "-m", "nextday", *words]
        shown = run_in_terminal(command, columns=COLUMNS, folder=self.folder, environment=self.environment)
        assert shown.code == 0, "\n".join(shown.lines)
        assert "docs/" not in shown.text
        assert "Traceback" not in shown.text
        for line in shown.lines:  # paths and what is copied stay whole
            assert len(line) <= COLUMNS or "/" in line or "--head" in line, line
        return shown


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    folder = tmp_path / "mine"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return Desk(folder)


def assert_understood(desk: Desk, shown: Screen, symbols: Sequence[str]) -> None:
    """Assert that screen, page and CSV say what is forecast, how good that is, and where it is written down."""
    home = desk.folder / "data"
    assert shown.lines[0].startswith("Settings ")
    assert re.search(r"━━ +\d+/\d+ \d:\d\d:\d\d left", "\n".join(shown.lines))  # the bars
    assert re.search(r"(No edge found|Edge|Worse than the baseline): over \d+ sessions", shown.text)
    (page,) = home.glob("reports/*/*/report.html")
    assert str(page) in shown.text
    table = pd.read_csv(page.with_name("forecast.csv"))
    assert sorted(table["symbol"]) == sorted(symbols)
    for row in table.itertuples():
        assert re.search(rf"{re.escape(str(row.symbol))} +{row.direction} +{100 * row.p_up:.1f}%", shown.text)
    html = page.read_text()
    for part in ("Verdict on the method", "base rate", "How good is the method?", "nextday ledger verify"):
        assert part in html
    if table["differs_from_base_rate"].all():
        return
    said = "the base rate lies within the band (marked ≈): read that as no call."
    assert said in shown.text
    assert said in html


def test_a_csv_of_three_symbols_and_three_years(desk: Desk) -> None:
    write_prices()
    init = desk.type("init", "files", "prices.csv")
    for found in ("3: ACME, BOLT, COAL", "XNYS: its sessions", "756 sessions", "historical = true"):
        assert found in init.text
    assert init.lines[-1].strip() == "Next: nextday forecast"
    shown = desk.type(*init.lines[-1].split()[2:])
    assert "late (the prices end in the past)" in shown.text
    assert_understood(desk, shown, SYMBOLS)
    assert desk.typed <= 3


def test_three_symbols_of_yahoo(desk: Desk, tmp_path: Path) -> None:
    days = calendar("XNYS", START, pd.Timestamp.now("UTC").to_pydatetime())
    with YahooServer(tmp_path / "stand-in", valid=timedelta(days=2)) as server:
        server.clock, server.stocks = None, made_up(days)
        chosen = ["--proxy", server.proxy, "--ca-bundle", str(server.ca_bundle)]
        init = desk.type("init", "yahoo", *SYMBOLS, *chosen)
        assert "every evening asks for the newest session" in init.text
        assert init.lines[-1].strip() == "Next: nextday forecast"
        shown = desk.type(*init.lines[-1].split()[2:])
    assert "fetched from yahoo: 3 ok" in shown.text
    assert_understood(desk, shown, SYMBOLS)
    assert desk.typed <= 3
