"""A store with a week of two symbols, a split, a dividend, and a provisional bar that settled with another value."""

from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.market.calendar import Calendar, calendar
from pipeline.prices.store import PriceStore
from tests.conftest import prices_of, vendor_bars
from tests.support.command_line import CommandLine

WEEK = pd.DatetimeIndex(["2018-12-10", "2018-12-11", "2018-12-12", "2018-12-13"])
FIRST, SECOND, THIRD = (datetime(2018, 12, day, 22, tzinfo=UTC) for day in (13, 14, 17))
"""The times of the fetches: in the evening of the last session, on the next one, and on the Monday after."""

A = [100.0, 102.0, 51.5, 52.0]
"""Closes as traded; a two-for-one split took effect on the 12th, and 0.5 was paid on the 13th."""


@pytest.fixture
def days() -> Calendar:
    return calendar("XNYS", date(2018, 11, 1), datetime(2018, 12, 20, 22, tzinfo=UTC))


def rows(
    days: Calendar, symbol: str, closes: list[float], seen: datetime, *, first: int = 0, provisional: int = 0
) -> pd.DataFrame:
    """Return price rows as traded, the last `provisional` of them not settled."""
    sessions = WEEK[first : first + len(closes)]
    bars = vendor_bars(sessions, np.array(closes))
    if symbol == "A":
        bars["split"] = np.where(sessions == WEEK[2], 2.0, 1.0)
        bars["dividend"] = np.where(sessions == WEEK[3], 0.5, 0.0)
    made = prices_of({symbol: bars}, days, seen)
    status = ["settled"] * (len(made) - provisional) + ["provisional"] * provisional
    return made.assign(status=status).astype({"status": "str"})


@pytest.fixture
def store(tmp_path: Path) -> PriceStore:
    return PriceStore(tmp_path / "w" / "prices" / "u")


@pytest.fixture
def nextday(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    store: PriceStore,
    days: Calendar,
) -> CommandLine:
    """Return the command line with a store in which A's last bar was provisional and settled with another value."""
    nextday = CommandLine(tmp_path, monkeypatch, capsys)
    settings('symbols = ["A", "B"]')
    both = [rows(days, "A", A, FIRST, provisional=1), rows(days, "B", [10, 11, 12, 13], FIRST, provisional=1)]
    store.append(pd.concat(both, ignore_index=True), run="r")
    again = [rows(days, "A", [52.25], SECOND, first=3), rows(days, "B", [13], SECOND, first=3)]
    store.append(pd.concat(again, ignore_index=True), run="r")
    return nextday


def settings(members: str, name: str = "u") -> None:
    Path("nextday.toml").write_text(
        f'[universe]\nname = "{name}"\nsource = "yahoo"\n{members}\n[prices]\nstart = 2018-11-01\n'
    )
