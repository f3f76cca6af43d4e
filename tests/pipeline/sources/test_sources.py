from pathlib import Path

import pandas as pd
import pytest

from pipeline.errors import InputError
from pipeline.sources.files import FilesSource
from pipeline.sources.sample import SampleSource
from tests.conftest import NOW

START, END = pd.Timestamp("1999-01-01"), pd.Timestamp("2019-05-31")
LONG = """Date,Ticker,Open,High,Low,Close,Adj Close,Volume
2018-12-28,B,20,21,19,20,20,100
2018-12-27,A,10,11,9,10,10,
2018-12-28,A,10,11,9,10.5,10.5,200
"""


def files(path: Path, **options: object) -> FilesSource:
    return FilesSource(path, **{"adjustment": "auto", "historical": True, **options})  # type: ignore[arg-type]


def test_the_sample_holds_twenty_years_of_two_indices() -> None:
    source = SampleSource()
    assert source.symbols() == ["^GSPC", "^IXIC"]
    for symbol in source.symbols():
        fetched = source.fetch(symbol, START, END, NOW)
        assert fetched.outcome == "ok"
        assert len(fetched.bars) == 5031
        assert fetched.bars["session"].iloc[[0, -1]].tolist() == [
            pd.Timestamp("1999-01-04"),
            pd.Timestamp("2018-12-31"),
        ]
    # The close that newspapers printed on the last day of 2018.
    assert SampleSource().fetch("^GSPC", START, END, NOW).bars["close"].iloc[-1] == pytest.approx(
        2506.85, abs=0.01
    )


def test_the_sample_gives_only_the_requested_sessions() -> None:
    source = SampleSource()
    bars = source.fetch("^GSPC", pd.Timestamp("2018-12-10"), pd.Timestamp("2018-12-14"), NOW).bars
    assert len(bars) == 5
    assert source.fetch("AAPL", START, END, NOW).outcome == "not_found"
    assert source.fetch("^GSPC", pd.Timestamp("2019-01-02"), END, NOW).outcome == "empty"


def test_a_long_csv_is_read_whatever_the_case_of_its_columns(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text(LONG)
    source = files(tmp_path / "p.csv")
    assert source.symbols() == ["A", "B"]
    bars = source.fetch("A", START, END, NOW).bars
    assert bars["session"].tolist() == [pd.Timestamp("2018-12-27"), pd.Timestamp("2018-12-28")]
    assert bars["close"].tolist() == [10, 10.5]
    assert bars["volume"].isna().tolist() == [True, False]


def test_a_folder_with_a_file_per_symbol_is_the_same_as_one_long_file(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text(LONG)
    whole = pd.read_csv(tmp_path / "p.csv")
    folder = tmp_path / "each"
    folder.mkdir()
    whole[whole["Ticker"] == "A"].drop(columns="Ticker").to_csv(folder / "A.csv", index=False)
    whole[whole["Ticker"] == "B"].drop(columns="Ticker").to_parquet(folder / "B.parquet")
    for symbol in ("A", "B"):
        one, other = (files(p).fetch(symbol, START, END, NOW).bars for p in (tmp_path / "p.csv", folder))
        pd.testing.assert_frame_equal(one, other)


def test_a_symbol_is_text_whatever_it_looks_like(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text(
        LONG.replace("Ticker", "TICKER").replace(",A,", ",000001,").replace(",B,", ",NA,")
    )
    source = files(tmp_path / "p.csv")
    assert source.symbols() == ["000001", "NA"]
    # An empty cell of a number stays unknown.
    assert source.fetch("000001", START, END, NOW).bars["volume"].isna().tolist() == [True, False]


def test_a_time_of_day_with_an_offset_is_the_exchanges_own_day(tmp_path: Path) -> None:
    # What yfinance's history().to_csv() writes; in UTC the Tokyo day would be the day before.
    text = "Date,Open,High,Low,Close,Volume,Dividends,Stock Splits\n2018-12-28 00:00:00+09:00,1,1,1,1,5,0.0,0.0\n"
    (tmp_path / "7203.T.csv").write_text(text)
    (tmp_path / "other").mkdir()
    source = files(tmp_path)
    assert source.symbols() == ["7203.T"]
    bars = source.fetch("7203.T", START, END, NOW).bars
    assert bars["session"].tolist() == [pd.Timestamp("2018-12-28")]
    assert bars["split"].tolist() == [1.0]


def test_a_stated_adjustment_is_used(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text(LONG)
    assert files(tmp_path / "p.csv", adjustment="raw").fetch("A", START, END, NOW).adjustment == "raw"
    assert files(tmp_path / "p.csv").fetch("A", START, END, NOW).adjustment == "split"


def test_a_symbol_without_rows_is_an_outcome_and_no_crash(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text(LONG)
    assert files(tmp_path / "p.csv").fetch("C", START, END, NOW).outcome == "not_found"
    assert files(tmp_path / "p.csv").fetch("A", START, pd.Timestamp("2018-01-01"), NOW).outcome == "empty"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("p.csv", "Date,Ticker,Open,High,Low\n2018-12-28,A,1,1,1\n", "lacks the column close"),
        (
            "p.csv",
            LONG.replace("12-28,B", "13-28,B").replace("12-28,A", "13-28,A"),
            "'2018-13-28' is no date",
        ),
        (
            "p.csv",
            LONG.replace(",B,20", ",B,ten").replace(",10.5,10.5", ",ten,10.5"),
            "'ten' in close is no number",
        ),
        ("p.csv", LONG.replace(",B,", ",../B,").replace(",A,", ",../A,"), "'../B'"),
        ("p.csv", LONG.replace(",B,", ",,").replace(",A,", ",,"), "No symbol can be named ''"),
        ("p.csv", "", "cannot be read"),
        ("p.parquet", "PAR1 and then nothing", "cannot be read"),
        ("p.xlsx", "x", "Only .csv"),
        ("q.csv", LONG, "no such file"),
    ],
)
def test_a_wrong_file_is_refused_with_its_place(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text)
    asked = tmp_path / name.replace("q.csv", "absent.csv")
    with pytest.raises(InputError) as caught:
        files(asked).symbols()
    assert words in str(caught.value)
    assert str(asked) in str(caught.value)


def test_a_latin_1_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_bytes(LONG.replace("B", "Société").encode("latin-1"))
    with pytest.raises(InputError, match="cannot be read"):
        files(tmp_path / "p.csv").symbols()


def test_the_real_panels_are_recognised(datasets: Path) -> None:
    acl18 = files(datasets / "acl18" / "prices.parquet")
    assert len(acl18.symbols()) == 87
    assert acl18.fetch("AAPL", START, END, NOW).adjustment == "split"
