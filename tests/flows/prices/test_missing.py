"""What `nextday update` says of symbols that ended, and of a calendar that does not exist."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flows.prices.missing import _refused
from pipeline.market.calendar import Calendar
from tests.support.command_line import CommandLine, told

SETTINGS = """
[universe]
name = "u"
source = "files"
path = "prices.csv"
calendar = "{calendar}"
historical = true
[prices]
start = 2018-06-01
"""


@pytest.fixture
def nextday(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    return CommandLine(tmp_path, monkeypatch, capsys)


def test_a_historical_source_counts_to_its_own_end(nextday: CommandLine, xnys: Calendar) -> None:
    days = xnys.sessions_between(pd.Timestamp("2018-06-01"), pd.Timestamp("2018-12-14"))
    close = 20 + np.arange(len(days)) % 7
    bars = {"date": days, "open": close, "high": close + 1, "low": close - 1, "close": close, "volume": 1000}
    whole = pd.DataFrame(bars)
    ended = whole[whole["date"] <= "2018-10-01"]
    both = pd.concat([whole.assign(symbol="LONG"), ended.assign(symbol="STOP")])
    both.to_csv("prices.csv", index=False)
    Path("nextday.toml").write_text(SETTINGS.format(calendar="XNYS"))
    said = nextday("--config", "nextday.toml", "--home", "w", "update")
    assert (said.code, len(days) - len(ended)) == (0, 52)
    assert "STOP: suspended: the source answered without a bar on 52 sessions" in said.out


def test_the_calendar_of_an_exchange_is_offered_by_its_usual_name(nextday: CommandLine) -> None:
    Path("nextday.toml").write_text(SETTINGS.format(calendar="NSE"))
    said = nextday("--config", "nextday.toml", "--home", "w", "update")
    assert said.code == 2
    assert told(said)[-1].startswith("  fix:   nearest names: XBOM ")


TONIGHT = pd.Timestamp("2024-03-08")


def test_a_refused_row_is_told_with_the_rules_that_drop_it_and_their_own_detail() -> None:
    found = pd.DataFrame(
        [
            ("A", TONIGHT, "open or close lies outside low..high", "3 bars, by 2.00% at most"),
            ("A", TONIGHT, "column not read", "split ratio"),
            ("A", TONIGHT, "low lies above high", "open 1, high 2, low 3, close 4"),
            ("A", TONIGHT, "volume: it cannot be negative", "open 1, high 2, low 3, close 4"),
            ("B", TONIGHT, "action not read", "the split 1:0 is not read"),
            ("C", TONIGHT - pd.Timedelta(days=1), "low lies above high", "open 1"),
        ],
        columns=["symbol", "session", "rule", "detail"],
    )
    assert _refused(found, TONIGHT) == {
        "A": "the row of 2024-03-08 is refused: low lies above high; volume: it cannot be negative: "
        "open 1, high 2, low 3, close 4"
    }
    assert _refused(found.head(0), TONIGHT) == {}
