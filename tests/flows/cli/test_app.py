"""Invalid input on the command line is reported with its place and the fix, and nothing is lost or half done."""

import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock

from flows import nightly
from flows.cli import app
from flows.runtime import tasks
from pipeline.ledger.ledger import Ledger
from tests.support.command_line import HERE, CommandLine, Said, contents, told

SESSIONS = pd.bdate_range("2018-11-26", "2018-12-04")
"""Seven sessions of New York, which was closed on the 5th."""


@pytest.fixture
def nextday(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    return CommandLine(tmp_path, monkeypatch, capsys)


def prices(symbol: str = "A", close: float = 10.0) -> pd.DataFrame:
    return pd.DataFrame({"Date": SESSIONS, "Symbol": symbol, "Close": close}).assign(
        Open=close, High=close, Low=close
    )


def settings(universe: str, start: str = "2018-11-01") -> None:
    Path("nextday.toml").write_text(
        f'[universe]\nname = "u"\nsource = "files"\nhistorical = true\n{universe}\n[prices]\nstart = {start}\n'
    )


def test_the_version_is_the_packages(nextday: CommandLine) -> None:
    assert nextday("--version") == Said(0, f"nextday {version('nextday')}\n", "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["bogus"], "bogus"),
        (["forecast", "--bogus"], "--bogus"),
        (["--now", "garbage", "update"], "garbage"),
        (["--now", "2018-12-20T22:00+99:00", "update"], "+99:00"),
        (["--home", "", "update"], "empty"),
        (["--config", "", "update"], "empty"),
        (["replay"], "SESSION"),
        (["replay", "yesterday"], "yesterday"),
        (["report", "2018-13-01"], "2018-13-01"),
        (["ledger", "show", "--last", "0"], "--last"),
        (["ledger", "verify", "--head", "abc"], "64"),
        (["ledger", "export"], "--csv"),
        (["ledger", "export", "--csv", "absent/x.csv"], "absent"),
        (["ledger", "export", "--csv", "."], "folder"),
        (["ui", "--port", "0"], "--port"),
        (["search", "--trials", "0"], "--trials"),
        (["search", "--timeout", "-1"], "--timeout"),
        (["backup"], "TARGET"),
        (["backup", ""], "empty"),
        (["backup", "copies", "--keep", "0"], "--keep"),
        (["--home", "w", "backup", "copies"], "no workspace to back up"),
        (["restore"], "ARCHIVE"),
        (["--home", "w", "restore", "absent.tar"], "absent.tar"),
        (["restore", "."], "no backup in this folder"),
        (["restore", "nextday.toml", "--home", "w"], "not a complete backup"),
    ],
)
def test_a_wrong_argument_is_named(nextday: CommandLine, arguments: list[str], words: str) -> None:
    said = nextday(*arguments)
    assert said.code == 2
    assert words.lower() in said.err.lower()
    assert [path.name for path in Path.cwd().iterdir()] == ["nextday.toml"]


@pytest.mark.parametrize("command", [["update"], ["forecast"], ["replay", "2018-12-10"], ["report"]])
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[universe]\nnmae = 'x'\n", "did you mean 'name'?"),
        ("[universe]\nname = 'A B'\n", "universe.name: 'A B'"),
        ("[universe]\nsymbols = ['A B']\n", "universe.symbols.0: 'A B'"),
        ("[model]\nunits = 0\n", "model.units"),
        ("x = [", "not valid TOML"),
        (None, "no configuration file"),
    ],
)
def test_wrong_settings_are_named_before_anything_is_made(
    nextday: CommandLine, command: list[str], text: str | None, words: str
) -> None:
    Path("nextday.toml").unlink() if text is None else Path("nextday.toml").write_text(text)
    said = nextday(*HERE, *command)
    assert said.code == 2
    lines = told(said)
    assert words in lines[0]
    assert str(Path("nextday.toml").resolve()) in said.err
    assert not Path("w").exists()


@pytest.mark.parametrize("command", ["update", "forecast", "retrain", "settle", "maintain", "deploy"])
def test_wrong_settings_are_named_before_prefect_is_given_a_home(
    nextday: CommandLine, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr(app, "_prepare_prefect", lambda: Path("w").mkdir())
    Path("nextday.toml").write_text("[model]\nunits = 0\n")
    assert nextday(*HERE, command).code == 2
    assert not Path("w").exists()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('calendar = "XNYSE"', "XNYS"),
        ('calendar = "24/7"', "never closes"),
        ('path = "absent.csv"', "absent.csv"),
        ('path = "empty"', "no .csv, no .txt and no .parquet"),
        ('path = "header.csv"', "no row below the header"),
        ('path = "columns.csv"', "lacks the columns date, close"),
        ('path = "double.csv"', "Close and CLOSE both mean close"),
        ('path = "cut.parquet"', "cut.parquet"),
        ('file = "month.csv"', "'2018-13-01' in the column 'from' is not a date"),
        ('file = "turned.csv"', "A leaves on 2017-01-01, before it joins on 2018-12-01"),
        ('file = "nobody.csv"', "The universe file has no row"),
        ('file = "void.csv"', "cannot be read"),
    ],
)
def test_files_that_cannot_be_used_are_named_before_anything_is_made(
    nextday: CommandLine, line: str, words: str
) -> None:
    prices().to_csv("good.csv", index=False)
    prices().head(0).to_csv("header.csv", index=False)
    prices().assign(CLOSE=1).to_csv("double.csv", index=False)
    prices().to_parquet("whole.parquet")
    Path("cut.parquet").write_bytes(Path("whole.parquet").read_bytes()[:500])
    Path("columns.csv").write_text("foo,bar\n1,2\n")
    Path("month.csv").write_text("symbol,from\nA,2018-13-01\n")
    Path("turned.csv").write_text("symbol,from,to\nA,2018-12-01,2017-01-01\n")
    Path("nobody.csv").write_text("symbol,from\n")
    Path("void.csv").write_text("")
    Path("empty").mkdir()
    settings(line if line.startswith("path") else f'path = "good.csv"\n{line}')
    said = nextday(*HERE, "update")
    assert said.code == 2
    assert words in "\n".join(told(said))
    assert not Path("w").exists()


@pytest.mark.parametrize(
    ("rows", "line", "words"),
    [
        (prices(), 'symbols = ["ZZZ"]', "ZZZ: not_found: prices.csv has no rows of it"),
        (prices(close=-5.0), "", "7  close: it must be above zero   e.g. A 2018-11-26"),
        (prices(), 'file = "past.csv"', "The universe 'u' has no constituent on 2018-12-04"),
    ],
)
def test_prices_that_hold_nothing_of_use_are_named(
    nextday: CommandLine, rows: pd.DataFrame, line: str, words: str
) -> None:
    rows.to_csv("prices.csv", index=False)
    Path("past.csv").write_text("symbol,to\nA,2018-11-30\n")
    settings(f'path = "prices.csv"\n{line}')
    said = nextday(*HERE, "update")
    assert said.code == 2
    assert words in "\n".join(told(said))
    assert not Path("w/ledger.sqlite").exists()


@pytest.mark.slow
@pytest.mark.parametrize("close", [np.linspace(10, 11, 7), 10.0])
def test_too_little_history_and_prices_that_never_change_are_reported_before_a_model_is_made(
    nextday: CommandLine, close: "float | np.ndarray"
) -> None:
    prices(close=close).to_csv("prices.csv", index=False)
    settings('path = "prices.csv"')
    said = nextday(*HERE, "forecast")
    assert said.code == 2
    assert "No session has a valid row" in told(said)[0]
    assert "7 sessions from 2018-11-26 to 2018-12-04" in said.err
    assert not list(Path("w").rglob("models/u/*"))
    assert Ledger(Path("w/ledger.sqlite")).record("u").empty


@pytest.mark.parametrize("now", ["1990-01-01", "2018-10-31", "2018-11-01T09:00", "2300-01-01", "9999-12-31"])
def test_a_clock_outside_every_calendar_is_refused(nextday: CommandLine, now: str) -> None:
    said = nextday("--config", "nextday.toml", "--home", "w", "--now", now, "update")
    assert said.code == 2
    assert now[:4] in told(said)[0]
    assert "--now and [prices] start" in said.err


@pytest.mark.parametrize(
    ("home", "words"), [("nextday.toml", "not a folder"), ("nextday.toml/w", "cannot be made")]
)
def test_a_workspace_that_is_no_folder_is_refused(nextday: CommandLine, home: str, words: str) -> None:
    before = contents(Path())
    said = nextday("--config", "nextday.toml", "--home", home, "--now", "2018-12-20T22:00Z", "update")
    assert said.code == 2
    assert words in told(said)[0]
    assert "--home" in said.err
    assert contents(Path()) == before


def test_a_workspace_without_rights_is_refused(nextday: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("w").mkdir()
    monkeypatch.setattr("os.access", lambda *_: False)
    said = nextday(*HERE, "update")
    assert said.code == 2
    assert "cannot be written to" in told(said)[0]
    assert not contents(Path("w"))


def test_a_workspace_in_use_is_left_alone(nextday: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "PATIENCE", 0.05)
    Path("w/locks").mkdir(parents=True)
    with FileLock("w/locks/sample.lock"):
        said = nextday(*HERE, "update")
    assert said.code == 1
    assert "Another run has been using the universe 'sample'" in told(said)[0]
    assert not Path("w/prices").exists()


def test_an_unexpected_error_is_three_lines_and_debug_shows_the_traceback(
    nextday: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a surprise")

    monkeypatch.setattr(nightly, "update_prices", fail)
    said = nextday(*HERE, "update")
    assert said.code == 1
    assert told(said)[0] == "nextday: Unexpected error: ZeroDivisionError: a surprise"
    assert "test_app.py" in said.err
    with pytest.raises(ZeroDivisionError):
        nextday("--debug", *HERE, "update")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_process_without_a_word_even_where_prefect_fails_on_it(
    nextday: CommandLine, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    def trip(*_: object, **__: object) -> None:
        try:
            signal.raise_signal(number)
        finally:
            raise ValueError("Task run is not set")

    def end_by(received: int) -> None:
        raise SystemExit(-received)

    former = signal.getsignal(number)
    monkeypatch.setattr(nightly, "update_prices", trip)
    monkeypatch.setattr(app, "end_by", end_by)
    said = nextday(*HERE, "update")
    assert (said.code, said.err.splitlines()[1:]) == (-number, [])
    assert signal.getsignal(number) == former


@pytest.mark.slow
def test_an_error_inside_a_real_flow_reaches_the_terminal_as_its_few_lines(tmp_path: Path) -> None:
    (tmp_path / "u.toml").write_text('[universe]\nsymbols = ["ZZZ"]\n')
    done = subprocess.run(
        [Path(sys.executable).with_name("nextday"), "--config", "u.toml", "--home", "w", "update"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=300,
        check=False,
    )
    assert done.returncode == 2
    assert "nextday: There is no usable price of any of the 1 symbols of 'sample'" in done.stderr
    assert "ZZZ: not_found: the sample has only ^GSPC and ^IXIC" in done.stderr
    assert "InputError" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("options", "told"), [((), "settings, or a name for these"), (("--name", "retrain"), "choose another")]
)
def test_a_challenge_needs_a_name_of_its_own(
    nextday: CommandLine, options: tuple[str, ...], told: str
) -> None:
    said = nextday("challenge", *options)
    assert said.code == 2
    assert told in " ".join(said.err.replace("│", " ").split())
