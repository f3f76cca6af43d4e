"""Sealed forecasts as positions and as Numerai's signals, through the command line."""

import io
from pathlib import Path

import pandas as pd
import pytest

from pipeline.ledger.ledger import Ledger
from pipeline.trading.exports import select_evening, tabulate
from tests.pipeline.ledger.test_sealed_ledger import EVENING, forecasts
from tests.pipeline.trading.test_long_short import FREE
from tests.support.command_line import CommandLine


@pytest.fixture
def nextday(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    return CommandLine(tmp_path, monkeypatch, capsys)


SYMBOLS = ["A", "B", "C", "D", "E", "F"]
P_UP = [0.52, 0.48, 0.55, 0.45, 0.5, 1.0]


def seal(path: Path) -> Ledger:
    ledger = Ledger(path)
    for day in (0, 1):
        rows = forecasts(day, SYMBOLS).assign(
            target="relative", direction="above", p_up=P_UP, low=0.4, high=0.6
        )
        ledger.issue(rows, universe="sample", opens={}, newest_observed_at=EVENING, historical=True)
    return ledger


def test_the_ends_are_held_with_equal_weights(tmp_path: Path) -> None:
    rows = select_evening(seal(tmp_path / "l.sqlite").record("sample"), "relative", None)
    held = tabulate(rows, "positions", FREE)
    assert held["symbol"].tolist() == ["C", "F", "B", "D"]
    assert held["side"].tolist() == ["long", "long", "short", "short"]
    assert held["weight"].tolist() == [0.25, 0.25, -0.25, -0.25]
    assert held["target_session"].tolist() == ["2018-12-12"] * 4


def test_signals_lie_inside_zero_and_one(tmp_path: Path) -> None:
    rows = select_evening(
        seal(tmp_path / "l.sqlite").record("sample"), "relative", pd.Timestamp("2018-12-10")
    )
    signals = tabulate(rows, "numerai", FREE)
    assert signals.columns.tolist() == ["ticker", "signal"]
    assert ((signals["signal"] > 0) & (signals["signal"] < 1)).all()
    assert signals["signal"].tolist()[:5] == P_UP[:5]


def test_the_command_writes_them_and_names_what_is_missing(nextday: CommandLine) -> None:
    here = ("--home", "w")
    seal(Path("w/ledger.sqlite"))
    said = nextday(*here, "ledger", "positions", "--csv", "-")
    assert said.code == 0
    assert pd.read_csv(io.StringIO(said.out))["side"].tolist() == ["long"] * 3 + ["short"] * 3
    assert nextday(*here, "ledger", "positions", "--csv", "n.csv", "--form", "numerai").code == 0
    assert len(pd.read_csv("n.csv")) == 6
    for arguments, words in {
        ("--target", "intraday_relative"): "no intraday_relative forecast",
        ("--target", "direction"): "overnight_relative",
        ("--session", "2018-12-09"): "from 2018-12-09",
        ("--session", "monday"): "is not a date",
        ("--form", "excel"): "positions or numerai",
    }.items():
        refused = nextday(*here, "ledger", "positions", "--csv", "-", *arguments)
        assert refused.code == 2
        assert words in refused.err


@pytest.mark.parametrize("target", ["relative", "overnight_relative"])
def test_a_universe_that_can_never_have_a_median_is_refused(nextday: CommandLine, target: str) -> None:
    Path("nextday.toml").write_text(f"[labels]\ntargets = ['direction', '{target}']\n")
    refused = nextday("--home", "w", "update")
    assert refused.code == 2
    assert f"{target} compare with the median of at least 5 constituents" in refused.err.replace("\n", " ")
    assert not Path("w").exists()
