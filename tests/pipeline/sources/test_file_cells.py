"""Cells and columns that could be read as something they are not: refused by name, or said in the log."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipeline.sources import Fetched
from pipeline.sources.cells import read_numbers
from pipeline.sources.files import FilesSource
from tests.conftest import NOW

DAYS = pd.bdate_range("2018-11-01", periods=20)
START, END = pd.Timestamp("2018-01-01"), pd.Timestamp("2018-12-31")
PRICES = ["open", "high", "low", "close"]
PLAIN = pd.DataFrame({"date": DAYS, **dict.fromkeys(PRICES, 10.5), "volume": 100})


def fetch(folder: Path, table: pd.DataFrame, *, parquet: bool = False) -> Fetched:
    """Return the bars of symbol A, whose file holds the table beside a good one."""
    PLAIN.to_csv(folder / "GOOD.csv", index=False)
    if parquet:
        table.to_parquet(folder / "A.parquet")
    else:
        table.to_csv(folder / "A.csv", index=False)
    source = FilesSource(folder, adjustment="auto", historical=True, timezone="Asia/Tokyo")
    assert source.fetch("GOOD", START, END, NOW).outcome == "ok"
    return source.fetch("A", START, END, NOW)


@pytest.mark.parametrize("form", ["%Y%m%d160000", "%Y%m%d1600", "%Y%m%d000000", "%Y-%m-%d 16:00", "%Y%m%d"])
def test_digits_of_a_day_and_a_time_are_that_day(form: str, tmp_path: Path) -> None:
    fetched = fetch(tmp_path, PLAIN.assign(date=DAYS.strftime(form)))
    assert fetched.bars["session"].tolist() == DAYS.tolist()
    is_timed = "16" in DAYS.strftime(form)[0][8:]
    assert any("times of day without an offset left out" in note for note in fetched.notes) == is_timed


@pytest.mark.parametrize(
    ("column", "cell", "words"),
    [
        ("date", "20191307160000", "'20191307160000' is no date"),
        ("date", "15435360000", "'15435360000' is no date"),
        ("date", "15435360000123456", "'15435360000123456' is no date"),
        ("date", "１５４３５３６０００", "'１５４３５３６０００' is no date"),
        ("close", "１０.５", "'１０.５' in close is no number"),
        ("split", "４:1", "'４:1' in split is no number"),
    ],
)
def test_odd_digits_are_the_named_fault_of_their_file(
    column: str, cell: str, words: str, tmp_path: Path
) -> None:
    assert words in fetch(tmp_path, PLAIN.assign(**{column: cell})).reason


@pytest.mark.parametrize("column", ["open", "close", "volume", "date"])
def test_lists_in_a_parquet_file_are_its_fault_alone(column: str, tmp_path: Path) -> None:
    fetched = fetch(tmp_path, PLAIN.assign(**{column: [[1.0, 2.0]] * len(DAYS)}), parquet=True)
    assert fetched.outcome == "bad_payload"
    assert "'[1. 2.]'" in fetched.reason


def test_what_the_libraries_cannot_read_is_the_fault_of_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(values: "pd.Series[Any]", decimal: str) -> None:
        raise IndexError("out of bounds")

    monkeypatch.setattr("pipeline.sources.file_bars.read_splits", fail)
    assert "The file cannot be read: out of bounds" in fetch(tmp_path, PLAIN.assign(split=1)).reason


def test_only_units_of_a_volume_are_rounded() -> None:
    assert read_numbers(pd.Series(["0,0000123456", "1,5"]), ",").values.tolist() == [0.0000123456, 1.5]
    assert read_numbers(pd.Series(["0.29M"], name="volume")).values.tolist() == [290_000]


@pytest.mark.parametrize("parquet", [False, True])
@pytest.mark.parametrize(("hours", "named"), [(-9, "4 of 20 days fall on a Sunday"), (25, "on a Saturday")])
def test_times_of_another_zone_are_refused_by_their_weekdays(
    hours: int, named: str, parquet: bool, tmp_path: Path
) -> None:
    fetched = fetch(tmp_path, PLAIN.assign(date=DAYS + pd.Timedelta(hours=hours)), parquet=parquet)
    assert named in fetched.reason
    assert "write the offset" in fetched.reason


def test_times_without_any_friday_are_refused(tmp_path: Path) -> None:
    times = pd.Series(DAYS - pd.Timedelta(hours=9))
    is_kept = times.dt.day_of_week != 6
    assert "none of 16 days fall on a Friday" in fetch(tmp_path, PLAIN.assign(date=times)[is_kept]).reason


def test_the_weekdays_are_those_of_the_exchange(tmp_path: Path) -> None:
    sundays = pd.date_range("2018-11-01 15:00", periods=20)
    sundays = sundays[~sundays.day_of_week.isin([4, 5])]
    PLAIN.iloc[: len(sundays)].assign(date=sundays).to_csv(tmp_path / "A.csv", index=False)
    source = FilesSource(tmp_path, adjustment="auto", historical=True, weekdays=frozenset((6, 0, 1, 2, 3)))
    assert len(source.fetch("A", START, END, NOW).bars) == len(sundays)


@pytest.mark.parametrize(
    ("kinds", "fix"),
    [
        (["adj"], 'set [prices] adjustment: "split+dividend"'),
        (["bid", "ask"], "give the prices of trades, or (bid + ask) / 2"),
        (["mid"], "rename the columns to open, high, low, close"),
    ],
)
@pytest.mark.parametrize("form", ["{0}_{1}", "{0}. {1}", "{1}_{0}", "pairs"])
def test_a_kind_of_price_is_no_symbol(kinds: list[str], fix: str, form: str, tmp_path: Path) -> None:
    pairs = pd.MultiIndex.from_product([kinds, PRICES])
    table = pd.DataFrame(10.5, index=pd.Index(DAYS, name="date"), columns=pairs)
    if form == "pairs":
        fetched = fetch(tmp_path, table, parquet=True)
    else:
        fetched = fetch(tmp_path, table.set_axis([form.format(*p) for p in pairs], axis=1).reset_index())
    assert fetched.outcome == "bad_payload"
    assert fix in fetched.reason


def test_kinds_of_prices_beside_plain_ones_are_not_read(tmp_path: Path) -> None:
    others = {f"{kind}_{name}": 1.0 for kind in ("adj", "bid") for name in PRICES}
    fetched = fetch(tmp_path, PLAIN.assign(**others))
    assert (fetched.bars["close"] == 10.5).all()
    assert (fetched.bars["adj_close"] == 1.0).all()
    assert any("not read: 'adj_open'" in note and "'bid_close'" in note for note in fetched.notes)


def test_a_symbol_may_be_named_ask(tmp_path: Path) -> None:
    flat = {f"{name.title()}_{symbol}": 10.5 for symbol in ("ASK", "B") for name in PRICES}
    PLAIN[["date"]].assign(**flat).to_csv(tmp_path / "p.csv", index=False)
    assert FilesSource(tmp_path / "p.csv", adjustment="auto", historical=True).symbols() == ["ASK", "B"]


def test_every_universe_sees_a_doubtful_column_once(tmp_path: Path) -> None:
    for name in ("A", "B"):
        PLAIN.assign(Factor=[0.0] * 19 + [1.0]).to_csv(tmp_path / f"{name}.csv", index=False)
    for universe in (["B"], ["A", "B"], ["B", "A"]):
        source = FilesSource(tmp_path, adjustment="auto", historical=True)
        found = [source.fetch(symbol, START, END, NOW).findings for symbol in universe]
        assert [len(findings) for findings in found] == [1, 0][: len(universe)]
        assert "'Factor' of A.csv and 1 more file" in found[0][0][2]
        assert source.fetch(universe[0], START, END, NOW).findings == found[0]
