"""What is wrong with one file or one cell is the failure of its symbol alone; what is not read is named."""

import gzip
from pathlib import Path

import pandas as pd
import pytest

from pipeline.errors import InputError
from pipeline.sources import Fetched
from pipeline.sources.files import FilesSource
from tests.conftest import NOW
from tests.pipeline.sources.test_files import CLOSES, DAYS, END, START, bars, plain, read

GOOD = plain().drop(columns="symbol").to_csv(index=False)
LONG = pd.concat([plain("A"), plain("B"), plain("C")]).to_csv(index=False)


def fetch(source: FilesSource, symbol: str) -> Fetched:
    return source.fetch(symbol, START, END, NOW)


def make(folder: Path, **files: str | bytes) -> FilesSource:
    """Write the files; in their names two underscores stand for a dot."""
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_bytes(
            content.encode() if isinstance(content, str) else content
        )
    return read(folder)


FAULTS: list[tuple[str | bytes, str]] = [
    (GOOD.replace("275.5", "275.5.1", 1), "'275.5.1' in open is no number"),
    (GOOD.replace("2018-11-14", "2018-14-11"), "'2018-14-11' is no date"),
    (GOOD.replace("2018-11-14", ""), "An empty cell is no date"),
    (GOOD.replace("2018-11-14", "0001-01-01"), "'0001-01-01' is no date"),
    (GOOD.replace(",430000", ",430000,1"), "'7 cells in a row of 6 columns' in close is no number"),
    (GOOD.splitlines()[0], "There is no row below the header"),
    ("", "The file cannot be read"),
    (b"\xff\xd8\xff", "The file cannot be read"),
    ("<!DOCTYPE html>\n<html>, a page</html>", "lacks the columns date, close"),
    ('{"detail": "Not found."}', "lacks the columns date, close"),
    (GOOD.split("\n", 1)[1], "lacks the columns date, close"),
    (GOOD.replace("close", "shut"), "lacks the column close"),
    (GOOD.replace("volume", "Open"), "The columns open and Open both mean open"),
    (gzip.compress(GOOD.encode(), mtime=0)[:40], "The file cannot be read"),
]


@pytest.mark.parametrize(
    ("content", "words"), FAULTS, ids=[f"{number} {words}" for number, (_, words) in enumerate(FAULTS)]
)
def test_a_faulty_file_fails_its_symbol_alone(content: str | bytes, words: str, tmp_path: Path) -> None:
    is_packed = isinstance(content, bytes) and content[:2] == b"\x1f\x8b"
    source = make(tmp_path, A__csv=GOOD, **{"BAD__csv__gz" if is_packed else "BAD__csv": content})
    assert source.symbols() == ["A", "BAD"]
    assert fetch(source, "A").bars["close"].tolist() == CLOSES
    failed = fetch(source, "BAD")
    assert (failed.outcome, len(failed.bars)) == ("bad_payload", 0)
    assert words in failed.reason
    assert str(tmp_path / "BAD.csv") in failed.reason


def test_a_bad_cell_of_a_long_file_fails_its_symbol_alone(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text(LONG.replace("A,1101.0,", "A,11o1.0,"))
    source = read(tmp_path / "p.csv")
    assert source.symbols() == ["A", "B", "C"]
    assert [fetch(source, symbol).outcome for symbol in "ABC"] == ["bad_payload", "ok", "ok"]
    assert "'11o1.0' in open is no number" in fetch(source, "A").reason
    assert "data row 2" in fetch(source, "A").reason


def test_a_row_with_too_many_cells_fails_the_symbol_behind_them(tmp_path: Path) -> None:
    table = pd.concat([plain("A"), plain("B")])[["date", "open", "high", "low", "close", "volume", "symbol"]]
    (tmp_path / "p.csv").write_text(
        table.to_csv(index=False).replace("1101.0,1200000,B", "1,101.0,1200000,B")
    )
    source = read(tmp_path / "p.csv")
    assert {symbol: fetch(source, symbol).outcome for symbol in source.symbols()} == {
        "A": "ok",
        "B": "bad_payload",
    }


@pytest.mark.parametrize("name", ["", "A B", "../A"])
def test_rows_of_no_symbol_are_named_and_stop_no_other(name: str, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text(LONG.replace("-14,B", f"-14,{name}"))
    source = read(tmp_path / "p.csv")
    assert source.symbols() == ["A", "B", "C"]
    assert fetch(source, "B").bars["session"].tolist() == [DAYS[0], DAYS[2]]
    assert any(
        f"No symbol can be named '{name}'" in note and "data row 5" in note
        for note in fetch(source, "A").notes
    )


def test_what_a_folder_holds_besides_prices_is_named(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    source = make(
        tmp_path,
        A__csv=GOOD,
        B__TXT=GOOD,
        __A__csv=b"\0\5\x16\7Mac OS X",
        MSFT__zip="PK",
        X__xlsx="PK",
        list__csv="symbol,name\nA,Some Company\n",
        README__txt="Where these prices, all of them, come from.\nAsk, if, in, doubt\n",
    )
    assert source.symbols() == ["A", "B"]
    (unread,) = [note for note in fetch(source, "A").notes if "not read" in note]
    for words in (
        "MSFT.zip (unpack it)",
        "X.xlsx (save it as CSV)",
        "list.csv (it has no column of prices)",
        "and 1 more",
    ):
        assert words in unread
    assert "MSFT.zip is not read: unpack it" in fetch(source, "MSFT").reason


@pytest.mark.parametrize("name", ["old/A.csv", "A.zip", ".A.csv", "A.tar.gz"])
def test_a_folder_without_prices_says_what_it_holds(name: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(GOOD)
    with pytest.raises(InputError, match=r"holds no \.csv") as caught:
        read(tmp_path).symbols()
    assert f"not read: {name.partition('/')[0]}" in str(caught.value)


def test_a_file_of_several_companies_in_a_folder_is_no_symbol(tmp_path: Path) -> None:
    source = make(tmp_path, A__csv=GOOD, all__csv=LONG.replace("symbol", "Name"))
    assert source.symbols() == ["A", "all"]
    assert "The column Name holds 3 names, e.g. 'A' and 'B'" in fetch(source, "all").reason
    several = make(tmp_path, A__csv=GOOD, all__csv=LONG.replace(",A,", ",D,"))
    assert several.symbols() == ["A", "B", "C", "D"]


def test_a_symbol_of_two_files_has_each_day_once(tmp_path: Path) -> None:
    source = make(tmp_path, A__csv=GOOD, all__csv=LONG)
    assert "A.csv and all.csv both have a row of A 2018-11-13" in fetch(source, "A").reason
    assert fetch(source, "B").outcome == "ok"
    parts = tmp_path / "parts"
    parts.mkdir()
    plain("A").iloc[:1].to_csv(parts / "first.csv", index=False)
    plain("A").iloc[1:].to_csv(parts / "second.csv", index=False)
    assert bars(parts, "A")["session"].tolist() == DAYS


@pytest.mark.parametrize("offset", ["", "-05:00"])
def test_hourly_rows_fail_their_symbol_alone(offset: str, tmp_path: Path) -> None:
    hours = [f"{day:%Y-%m-%d} {hour}:30:00{offset}" for day in DAYS for hour in (10, 11)]
    hourly = plain().loc[[0, 0, 1, 1, 2, 2]].assign(date=hours, symbol="H")
    (tmp_path / "p.csv").write_text(LONG + hourly.to_csv(index=False, header=False))
    source = read(tmp_path / "p.csv", "America/New_York")
    assert "Most days have several rows, e.g. H 2018-11-13" in fetch(source, "H").reason
    assert fetch(source, "A").outcome == "ok"


def test_the_columns_are_named_once_for_all_files_that_have_them(tmp_path: Path) -> None:
    source = make(tmp_path, A__csv=GOOD, B__csv=GOOD, C__csv=GOOD.replace("volume", "Turnover"))
    assert fetch(source, "A").notes == fetch(source, "C").notes
    assert fetch(source, "A").notes == (
        "read from A.csv and 1 more file: date, open, high, low, close, volume",
        "read from C.csv: date, open, high, low, close; not read: 'Turnover'",
    )


def test_a_line_of_text_below_the_rows_is_left_out_and_said(tmp_path: Path) -> None:
    source = make(tmp_path, A__csv=f"{GOOD}Downloaded from a vendor\n")
    assert fetch(source, "A").bars["close"].tolist() == CLOSES
    assert "1 line of text, without a date and prices, left out" in fetch(source, "A").notes[0]


def test_where_nothing_can_be_read_every_file_is_named(tmp_path: Path) -> None:
    source = make(tmp_path, A__csv="", B__csv=GOOD.replace("close", "shut"))
    with pytest.raises(InputError) as caught:
        source.symbols()
    for words in (
        f"{tmp_path.name} cannot be read as prices, for 2 reasons",
        "No columns",
        "lacks the column close",
    ):
        assert words in str(caught.value)
