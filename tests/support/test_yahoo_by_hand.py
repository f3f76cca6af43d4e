"""The stand-in for Yahoo, started by hand: what it says, that nextday's own source reads it, and how it ends."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
from yfinance.data import SingletonMeta

from pipeline.config_file import load
from pipeline.market import calendar
from pipeline.sources import Fetched
from pipeline.sources.yahoo import YahooSource
from tests.conftest import PROJECT
from tests.support import yahoo_by_hand, yahoo_market
from tests.support.yahoo_server import YahooServer

pytestmark = pytest.mark.slow

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Return a starter of the command; each prints that it can be stopped before it is handed out."""
    running: list[subprocess.Popen[str]] = []

    def begin(*options: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.support.yahoo_by_hand", "--folder", str(tmp_path), *options]
        environment = os.environ | {"PYTHONPATH": str(PROJECT)}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        running.append(subprocess.Popen(command, cwd=PROJECT, env=environment, text=True, **pipes))
        return running[-1]

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def read_until(process: subprocess.Popen[str], end: str) -> str:
    said = ""
    while end not in said:
        line = process.stdout.readline()
        assert line, said + process.stderr.read()
        said += line
    return said


def source_of(folder: Path, monkeypatch: pytest.MonkeyPatch) -> YahooSource:
    monkeypatch.setattr(SingletonMeta, "_instances", {})
    prices = load(folder / "nextday.toml").prices
    return YahooSource(
        cache_dir=folder / "cache", proxy=prices.proxy, ca_bundle=prices.ca_bundle, requests_per_second=1000
    )


def ask(source: YahooSource, symbol: str) -> Fetched:
    window = pd.Timestamp("2026-09-01"), pd.Timestamp("2026-10-09")
    return source.fetch(symbol, *window, datetime(2026, 10, 9, 22, tzinfo=UTC))


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_it_says_what_to_do_serves_what_it_says_and_ends_cleanly(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: signal.Signals
) -> None:
    process = start("--clock", "2026-10-02T22:00")
    said = read_until(process, "Ctrl+C ends it")
    arguments = f"--config {tmp_path}/nextday.toml --home {tmp_path}/data --now 2026-10-02T22:00Z"
    assert f"nextday {arguments} update\n" in said
    assert f"nextday {arguments} forecast\n" in said
    assert "on 2026-10-01 for one, which Yahoo learns on 2026-10-06" in said
    source = source_of(tmp_path, monkeypatch)
    bars = ask(source, "LATE").bars.set_index("session")
    assert bars.index[-1] == pd.Timestamp("2026-10-02")
    assert 0.4 < bars.loc["2026-10-01", "close"] / bars.loc["2026-09-30", "close"] < 0.6
    assert (bars["split"] == 1).all()
    assert ask(source, "GONE").outcome == "not_found"
    process.send_signal(ending)
    rest, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "")
    lines = rest.splitlines()
    assert [line.split()[1:] for line in lines if " LATE " in line] == [
        ["timezone", "LATE", "ok"],
        ["bars", "LATE", "from", "2026-09-01", "ok"],
    ]
    assert lines[-2].split()[1:] == ["timezone", "GONE", "not", "found"]
    assert lines[-1] == f"Stopped. 5 requests; the workspace stays in {tmp_path}"


def test_every_answer_can_go_wrong(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_until(start("--fault", "unavailable"), "Ctrl+C ends it")
    found = ask(source_of(tmp_path, monkeypatch), "ACME")
    assert (found.outcome, "503" in found.reason) == ("transient", True)


def test_a_nextday_toml_of_somebody_else_is_left_alone(start: Start, tmp_path: Path) -> None:
    (tmp_path / "nextday.toml").write_text("# mine\n")
    process = start()
    said, errors = process.communicate(timeout=60)
    assert (process.returncode, said) == (2, "")
    assert str(tmp_path / "nextday.toml") in errors
    assert "Traceback" not in errors
    assert (tmp_path / "nextday.toml").read_text() == "# mine\n"


@pytest.mark.parametrize("clock", ["2017-01-02T22:00", "2300-01-01", "yesterday"])
def test_a_clock_that_the_market_does_not_reach_is_refused(start: Start, clock: str) -> None:
    process = start("--clock", clock)
    said, errors = process.communicate(timeout=60)
    assert (process.returncode, said) == (2, "")
    assert "clock" in errors.lower()
    assert "Traceback" not in errors


def test_a_port_in_use_is_refused(start: Start, tmp_path: Path) -> None:
    with YahooServer(tmp_path / "first") as server:
        process = start("--port", server.proxy.rpartition(":")[2])
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "in use" in errors
    assert "Traceback" not in errors


@pytest.fixture(scope="module")
def made() -> dict[str, yahoo_market.Stock]:
    return yahoo_by_hand.made_up(
        calendar.calendar("XNYS", yahoo_by_hand.START, datetime(2026, 10, 9, tzinfo=UTC))
    )


def test_the_market_is_equal_whatever_day_it_is_looked_at(made: dict[str, yahoo_market.Stock]) -> None:
    later = yahoo_by_hand.made_up(
        calendar.calendar("XNYS", yahoo_by_hand.START, datetime(2027, 3, 1, tzinfo=UTC))
    )
    assert len(made) == 12
    clock = pd.Timestamp("2026-10-09T22:00Z")
    for symbol, stock in made.items():
        assert stock.chart(clock, 0, 9e9) == later[symbol].chart(clock, 0, 9e9)


def test_the_quirks_are_those_that_are_printed(made: dict[str, yahoo_market.Stock]) -> None:
    def bars(symbol: str, clock: str) -> pd.DataFrame:
        return made[symbol].shown(pd.Timestamp(clock)).bars

    evening, next_evening = (bars("BOLT", f"2026-10-0{day}T22:00Z")["volume"] for day in (1, 2))
    assert evening["2026-10-01"] / next_evening["2026-10-01"] == pytest.approx(1 / 0.73, rel=1e-4)
    paid = pd.DatetimeIndex(made["BOLT"].dividends)
    assert paid[paid > "2026-10-01"][:2].tolist() == [pd.Timestamp("2026-11-10"), pd.Timestamp("2027-02-10")]
    assert (bars("^MADE", "2026-10-01T22:00Z")["volume"] == 0).all()
    assert made["GONE"].failing(pd.Timestamp("2025-06-30T22:00Z")) == ""
    assert made["GONE"].failing(pd.Timestamp("2025-07-01T22:00Z")) == "not found"
    acme = bars("ACME", "2026-10-01T22:00Z")["close"]
    assert abs(acme["2022-06-06"] / acme["2022-06-03"] - 1) < 0.06
