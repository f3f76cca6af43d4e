"""A workspace in use, for tests of what must not harm it: fixtures, and the check that a command has left it alone.

A test file takes the fixtures by naming them: `nextday, never_hangs, used = in_use.nextday, in_use.never_hangs, ...`.
"""

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.support.command_line import HERE, CommandLine, contents, seal_with_model, told

SESSIONS = pd.bdate_range("2018-11-26", "2018-12-14").drop(pd.Timestamp("2018-12-05"))
"""Sessions of New York, which was closed on the 5th."""


def prices(symbol: str = "A") -> pd.DataFrame:
    close = np.arange(10.0, 10 + len(SESSIONS))
    bars = pd.DataFrame({"Date": SESSIONS, "Symbol": symbol, "Close": close})
    return bars.assign(Open=close, High=close, Low=close)


GOOD = prices().to_csv(index=False)
FIRST = "2018-11-26,A,10.0,10.0,10.0,10.0"


def universe(line: str, settings: str = "") -> str:
    head = f'[universe]\nname = "u"\nsource = "files"\nhistorical = true\n{line}\n'
    return f"{head}[prices]\nstart = 2018-11-01\n{settings}"


@pytest.fixture(autouse=True)
def never_hangs() -> Iterator[None]:
    """Stop a test that waits for a pipe: it would wait forever."""

    def end(*_: object) -> None:
        raise AssertionError("it hangs")

    former = signal.signal(signal.SIGALRM, end)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, former)


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("used")


@pytest.fixture
def nextday(
    used: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    """Return the command line in a folder whose workspace has prices, a ledger, a champion and a report."""
    if not (used / "w").exists():
        make_used(CommandLine(used, monkeypatch, capsys))
    nextday = CommandLine(tmp_path, monkeypatch, capsys)
    shutil.copytree(used, tmp_path, dirs_exist_ok=True)
    return nextday


def make_used(nextday: CommandLine) -> None:
    Path("prices.csv").write_text(GOOD)
    Path("nextday.toml").write_text(universe('path = "prices.csv"'))
    assert nextday(*HERE, "update").code == 0
    seal_with_model("u")
    Path("w/reports/u/2018-12-11").mkdir(parents=True)
    Path("w/reports/u/2018-12-11/report.html").write_text("<!doctype html>")


def refused(nextday: CommandLine, *words: str, code: int = 2, command: tuple[str, ...] = ("update",)) -> None:
    """Check that a command fails with these words, in few lines, and leaves the workspace unchanged."""
    before = contents(Path("w"))
    said = nextday(*HERE, *command)
    assert said.code == code, said
    lines = told(said)
    for word in words:
        assert word in "\n".join(lines), said.err
    assert max(map(len, lines)) < 400
    assert "Unexpected error" not in said.err
    assert contents(Path("w")) == before
