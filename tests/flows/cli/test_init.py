"""From a CSV to a report in two commands, and what `nextday init` says when it cannot write settings."""

from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flows.cli.arguments import options
from pipeline.config import Config
from pipeline.config_file import load
from pipeline.market.calendar import calendar
from pipeline.sources import Fetched
from tests.conftest import PROJECT, random_bars
from tests.support.command_line import CommandLine, told
from tests.support.own_process import EVENING
from tests.support.terminal import shown_by

SYMBOLS = ("ACME", "BOLT", "COAL")


@pytest.fixture
def nextday(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    command_line = CommandLine(tmp_path, monkeypatch, capsys)
    Path("nextday.toml").unlink()
    return command_line


def write_prices(first: str = "2013-01-01", last: str = "2015-12-31") -> None:
    days = calendar("XNYS", date.fromisoformat(first), datetime.fromisoformat(f"{last}T23:00Z")).sessions
    tables = [
        random_bars(days[days <= last], seed).rename(columns={"session": "Date"}).assign(Symbol=symbol)
        for seed, symbol in enumerate(SYMBOLS)
    ]
    columns = ["Date", "Symbol", "open", "high", "low", "close", "volume"]
    pd.concat(tables)[columns].to_csv("prices.csv", index=False)


@pytest.mark.slow
@pytest.mark.own_process(*EVENING)
def test_a_csv_of_three_years_reaches_a_report_in_two_commands(nextday: CommandLine) -> None:
    write_prices()
    shown = shown_by(
        "import sys; sys.argv = ['nextday', 'init', 'files', 'prices.csv']; from flows.cli import main; main()",
        columns=80,
    )
    assert max(map(len, shown[:-2])) <= 80
    text = " ".join(" ".join(shown).split())
    for found in (
        "3: ACME, BOLT, COAL",
        "XNYS: its sessions",
        "756 sessions",
        "historical = true",
        "354 to train on",
    ):
        assert found in text
    assert shown[-1].strip() == "Next: nextday forecast"
    assert not Path("data").exists()  # it runs nothing
    # A smaller model, for the time that a test may take.
    written = Path("nextday.toml").read_text().replace("[training]", "[training]\nepochs = 1")
    Path("nextday.toml").write_text(f"{written}\n[model]\nmembers = 1\nunits = 2\nlookback = 5\n")
    done = nextday("forecast")
    assert done.code == 0, done.err
    assert "3 forecasts for Monday 2016-01-04" in done.out
    assert "late (the prices end in the past)" in done.out
    assert "No edge found" not in done.err  # the verdict stands once, at the end
    (page,) = Path("data/reports/prices").glob("*/report.html")
    assert "Late: the prices end in the past." in page.read_text()


def test_settings_are_never_overwritten(nextday: CommandLine) -> None:
    write_prices()
    Path("nextday.toml").write_text("# mine\n")
    said = nextday("init", "files", "prices.csv")
    assert said.code == 2
    assert "never overwritten" in told(said)[0]
    assert Path("nextday.toml").read_text() == "# mine\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "'nowhere'"),
        (["yahoo"], "Yahoo cannot list its symbols"),
        (["yahoo", "A B", "="], "'A B', '='"),
        (["files", "none.csv"], "no such file"),
        (["files"], "0 are given"),
        (["dow30", "AAPL"], "'AAPL' is given too"),
        (["./nowhere", "AAPL"], "'./nowhere'"),
    ],
)
def test_what_is_not_understood_is_named_and_nothing_is_written(
    nextday: CommandLine, arguments: list[str], words: str
) -> None:
    said = nextday("init", *arguments)
    assert said.code == 2
    assert words in "\n".join(told(said))
    assert not Path("nextday.toml").exists()


def test_too_little_history_is_refused_with_how_much_is_needed(nextday: CommandLine) -> None:
    write_prices("2015-06-01")
    said = nextday("init", "files", "prices.csv")
    assert said.code == 2
    assert "needs 272 at least" in told(said)[0]
    assert not Path("nextday.toml").exists()


def test_a_file_that_still_grows_and_is_long_needs_no_numbers(
    nextday: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_prices("2006-01-03")
    said = nextday("init", "files", "prices.csv", "--now", "2015-12-31T23:00Z")
    assert said.code == 0, said.err
    settings = load(Path("nextday.toml"))
    assert not settings.universe.historical
    assert settings.universe.symbols == ()
    assert settings.evaluation.test_sessions == 504
    assert options.settings() == Path("nextday.toml").resolve()


def test_a_folder_to_begin_in_has_every_setting_the_lists_and_the_deployments(nextday: CommandLine) -> None:
    said = nextday("init", "./evenings")
    assert said.code == 0, said.err
    assert "Next: cd evenings, then nextday forecast" in said.out
    folder = Path("evenings")
    assert load(folder / "nextday.toml") == Config()
    assert "data/universes" not in (folder / "nextday.toml").read_text()
    assert (folder / "prefect.yaml").read_bytes() == (PROJECT / "prefect.yaml").read_bytes()
    shipped = {path.name: path.read_bytes() for path in (PROJECT / "data" / "universes").glob("*.csv")}
    assert {path.name: path.read_bytes() for path in (folder / "universes").iterdir()} == shipped
    for name in ("nextday.toml", "prefect.yaml", "universes/dow30.csv"):
        kept = {path: path.read_bytes() for path in folder.rglob("*.*")}
        for other in kept:
            if other != folder / name:
                other.unlink()
        again = nextday("init", "evenings")
        assert again.code == 2
        assert "never overwritten" in told(again)[0]
        assert [path for path in folder.rglob("*") if path.is_file()] == [folder / name]
        for path, content in kept.items():
            path.write_bytes(content)


def test_what_cannot_all_be_written_leaves_nothing(nextday: CommandLine) -> None:
    folder = Path("evenings")
    folder.mkdir()
    (folder / "universes").write_text("a file of that name")
    said = nextday("init", "evenings")
    assert said.code == 2
    assert "cannot be written" in told(said)[0]
    assert [path.name for path in folder.iterdir()] == ["universes"]


class Vendor:
    """Yahoo, as far as it is asked: two symbols on two exchanges, and one that it does not know."""

    name, historical, is_local, threads = "yahoo", False, False, 1

    def __init__(self, **given: object) -> None:
        self.given = given

    def fetch(self, symbol: str, start: pd.Timestamp, end: pd.Timestamp, now: datetime) -> Fetched:
        if symbol == "GONE":
            return Fetched(symbol, "not_found", now, reason="Yahoo knows no such symbol")
        name, zone = ("XLON", "Europe/London") if symbol.endswith(".L") else ("XNYS", "America/New_York")
        days = calendar(name, date(2010, 1, 1), datetime(2025, 12, 30, 23, tzinfo=UTC)).sessions
        bars = random_bars(days[days <= "2025-12-30"], 1).assign(dividend=0.0, split=1.0, adj_close=np.nan)
        return Fetched(symbol, "ok", now, bars=bars, adjustment="split", timezone=zone)


def test_yahoos_symbols_are_looked_at(nextday: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.sources.yahoo.YahooSource", Vendor)
    clock = ("--now", "2025-12-30T23:00Z")
    said = nextday("init", "yahoo", "ACME", "GONE", *clock)
    assert said.code == 2
    assert "GONE: not_found: Yahoo knows no such symbol" in "\n".join(told(said))
    said = nextday("init", "yahoo", "ACME", "BOLT", "COAL.L", *clock)
    assert said.code == 0, said.err
    assert "COAL.L has a bar on" in said.out
    settings = load(Path("nextday.toml")).universe
    assert (settings.source, settings.symbols, settings.calendar) == ("yahoo", ("ACME", "BOLT"), "XNYS")
    Path("nextday.toml").unlink()
    assert nextday("init", "dow30", *clock).code == 0
    Path("nextday.toml").rename("former.toml")
    said = nextday("init", "dow30", *clock)  # the list may have been edited since
    assert said.code == 2
    assert "never overwritten" in told(said)[0]
    Path("former.toml").rename("nextday.toml")
    settings = load(Path("nextday.toml")).universe
    assert settings.name == "dow30"
    assert settings.file == "universes/dow30.csv"
    assert Path(settings.file).read_bytes() == (PROJECT / "data" / "universes" / "dow30.csv").read_bytes()
    assert load(Path("nextday.toml")).evaluation.test_sessions < 504  # the list begins in 2019


def test_a_file_that_ended_is_named_with_the_setting(
    nextday: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write_prices("2015-10-01")
    monkeypatch.setenv("MY_PRICES", str(tmp_path))
    Path("nextday.toml").write_text('[universe]\nsource = "files"\npath = "$MY_PRICES/prices.csv"\n')
    said = nextday("update", "--now", "2016-03-01T23:00Z")
    assert said.code == 2
    lines = told(said)
    assert lines[0].startswith("nextday: Your file ends 2015-12-31: ")
    assert str(tmp_path / "prices.csv") in lines[1]
    assert "on purpose: [universe] historical = true" in lines[2]
    fresh = nextday("update", "--now", "2016-01-06T23:00Z")  # a few days: an outage, as before
    assert "The prices are stale" in fresh.err
