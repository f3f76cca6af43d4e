"""Holes in the record: a row whose bar came late is added once, and one for a day that turned out closed is void."""

import re
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import pytest

from pipeline.ledger.ledger import Ledger
from pipeline.market.calendar import Calendar
from tests.conftest import random_bars, small_settings
from tests.support.command_line import CommandLine, Said
from tests.support.own_process import EVENING

pytestmark = [pytest.mark.slow, pytest.mark.own_process(*EVENING)]

SYMBOLS, MONDAY = "ABCDEF", pd.Timestamp("2018-12-10")
UNIVERSE = """
[universe]
name = "u"
source = "files"
path = "prices.csv"
symbols = {symbols}
"""


class Evenings:
    """Evenings by the command line on made-up prices of six symbols, of which E and F may be left out."""

    def __init__(self, line: CommandLine, xnys: Calendar) -> None:
        self._line = line
        self.days = xnys.sessions_between(MONDAY, pd.Timestamp("2018-12-13"))
        sessions = xnys.sessions_between(pd.Timestamp("2017-06-01"), self.days[-1])
        self._bars = pd.concat(
            [random_bars(sessions, seed).assign(symbol=symbol) for seed, symbol in enumerate(SYMBOLS)]
        ).rename(columns={"session": "date"})

    def run(
        self,
        day: int,
        *command: str,
        lacks: Iterable[tuple[str, int]] = (),
        listed: str = "ABCDE",
        closed: int | None = None,
    ) -> Said:
        """Run a command on the evening of a day, with a source that lacks bars (symbol, day), and a closure."""
        bars = self._bars
        for symbol, place in lacks:
            bars = bars[(bars["symbol"] != symbol) | (bars["date"] != self.days[place])]
        bars.to_csv("prices.csv", index=False)
        settings = small_settings("2017-06-01")
        universe = UNIVERSE.format(symbols=[*listed])
        if closed is not None:
            Path("closures.csv").write_text(f"session,opens,closes\n{self.days[closed]:%Y-%m-%d},,\n")
            universe += 'closures = "closures.csv"\n'
        Path("nextday.toml").write_text(settings + universe)
        now = f"{self.days[day]:%Y-%m-%d}T22:00Z"
        said = self._line(
            "--config", "nextday.toml", "--home", "w", "--now", now, *(command or ("forecast",))
        )
        assert said.code == 0, said.err
        return said

    @property
    def ledger(self) -> Ledger:
        return Ledger(Path("w/ledger.sqlite"))

    def record(self, day: int) -> pd.DataFrame:
        rows = self.ledger.record("u")
        return rows[rows["as_of"] == self.days[day]].set_index("symbol")


@pytest.fixture
def evenings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], xnys: Calendar
) -> Evenings:
    return Evenings(CommandLine(tmp_path, monkeypatch, capsys), xnys)


def test_forecasts_for_a_day_that_turned_out_closed_are_void_everywhere(evenings: Evenings) -> None:
    evenings.run(0)
    assert evenings.record(0)["target_session"].tolist() == [evenings.days[1]] * 5
    nobody = [(symbol, 1) for symbol in SYMBOLS]
    said = evenings.run(2, lacks=nobody, closed=1)
    reason = f"the exchange was closed on {evenings.days[1]:%a %Y-%m-%d}"
    assert f"5 forecasts are void: {reason}" in said.err
    assert "settled 0 of 0 forecasts" in said.err
    void = evenings.record(0)
    assert void["void_reason"].tolist() == [reason] * 5
    assert void["outcome"].isna().all()
    assert evenings.ledger.verify().ok
    tonight = Path(f"w/reports/u/{evenings.days[3]:%Y-%m-%d}/report.html").read_text()
    text = re.sub(r"</?span[^>]*>", "", tonight)
    assert f"5 forecasts are void: {reason}. They count in no score." in text
    shown = evenings.run(2, "ledger", "show", lacks=nobody, closed=1).out
    assert shown.count(" void ") == 5
    assert f"5 forecasts are void: {reason}" in shown
    day = f"{evenings.days[1]:%Y-%m-%d}"
    assert "5 forecasts recomputed: the same" in evenings.run(2, "replay", day, lacks=nobody, closed=1).out
    evenings.run(2, "report", day, lacks=nobody, closed=1)
    page = Path(f"w/reports/u/{day}/report.html").read_text()
    assert f"<li>5 forecasts are void: {reason}. They count in no score.</li>" in page
    evenings.run(2, "ledger", "export", "--csv", "record.csv", lacks=nobody, closed=1)
    assert pd.read_csv("record.csv")["void_reason"].notna().sum() == 5


def test_a_member_gets_its_late_row_when_its_bar_has_come_and_no_other_does(evenings: Evenings) -> None:
    evenings.run(0, lacks=(("E", 0),))
    assert sorted(evenings.record(0).index) == [*"ABCD"]
    before = evenings.ledger.head()
    said = evenings.run(1, lacks=(("E", 0),))  # it has not come: nothing is said, nothing is added
    assert "Caught up" not in said.err
    assert sorted(evenings.record(0).index) == [*"ABCD"]
    assert "E" not in evenings.record(1).index  # its window has a gap
    said = evenings.run(2, listed=SYMBOLS)
    for place in (0, 1):
        assert f"Caught up as late: 1 symbol from {evenings.days[place]:%a %Y-%m-%d}" in said.err
        rows = evenings.record(place)
        assert sorted(rows.index) == [*"ABCDE"]  # F was no member then
        added, other = rows.loc["E"], rows.loc["A"]
        assert added["kind"] == "late"
        assert added["issued_at"] > other["issued_at"]
        assert added["data_version"] > other["data_version"]
        for same in ("model_version", "config_digest", "target_session"):
            assert added[same] == other[same]
    assert sorted(evenings.record(2).index) == [*SYMBOLS]
    assert evenings.ledger.verify(expected_head=before.hash).ok
    shown = " ".join(evenings.run(2, "ledger", "show", listed=SYMBOLS).out.split())
    assert (
        "2 forecasts were sealed as late after the others of the session: E from 2018-12-10; E from" in shown
    )
    page = Path(f"w/reports/u/{evenings.days[3]:%Y-%m-%d}/report.html").read_text()
    assert "Caught up as late: 1 symbol from Mon 2018-12-10" in page
    again = evenings.run(2, "replay", f"{evenings.days[0]:%Y-%m-%d}", listed=SYMBOLS)
    assert "5 forecasts recomputed: the same" in again.out
    head = evenings.ledger.head()
    assert "Caught up" not in evenings.run(2, listed=SYMBOLS).err
    assert evenings.ledger.head() == head
    evenings.run(3, listed=SYMBOLS)
    assert evenings.record(0)["settled_at"].notna().all()
