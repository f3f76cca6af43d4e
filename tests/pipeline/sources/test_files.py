"""The forms of file that vendors and libraries write, made up here: each is read as the same three bars."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.errors import InputError
from pipeline.sources.files import FilesSource
from tests.conftest import NOW

START, END = pd.Timestamp("2018-01-01"), pd.Timestamp("2018-12-31")
DAYS = [pd.Timestamp(day) for day in ("2018-11-13", "2018-11-14", "2018-11-15")]
CLOSES = [1100.5, 1101.0, 275.5]
VOLUMES = [430_000, 1_200_000, 2_000_000]


def read(path: Path, timezone: str = "") -> FilesSource:
    return FilesSource(path, adjustment="auto", historical=True, timezone=timezone)


def bars(path: Path, symbol: str, timezone: str = "") -> pd.DataFrame:
    return read(path, timezone).fetch(symbol, START, END, NOW).bars


def plain(symbol: str = "A") -> pd.DataFrame:
    return pd.DataFrame(
        {"date": DAYS, "symbol": symbol, "open": CLOSES, "high": CLOSES, "low": CLOSES, "close": CLOSES}
    ).assign(volume=VOLUMES)


def wide(first: str, second: str, *, swapped: bool = False) -> pd.DataFrame:
    """Columns by name and symbol, as yfinance's `download` returns them."""
    parts = {s: plain(s).drop(columns="symbol").set_index("date") for s in (first, second)}
    table = pd.concat(parts, axis=1, names=["Ticker", "Price"]).rename(columns=str.title, level=1)
    table.columns = table.columns.set_levels([first, second], level=0)
    table.index.name = "Date"
    return table if swapped else table.swaplevel(axis=1).sort_index(axis=1)


FORMS = {
    "pandas, dates in an unnamed index of text": ("p.csv", "A", ",open,high,low,close,volume,symbol\n"
        "2018-11-13,1100.5,1100.5,1100.5,1100.5,430000,A\n2018-11-14,1101,1101,1101,1101,1200000,A\n"
        "2018-11-15,275.5,275.5,275.5,275.5,2000000,A\n"),
    "Nasdaq.com": ("AAPL.csv", "AAPL", "Date,Close/Last,Volume,Open,High,Low\n"
        "11/15/2018,$275.50,2000000,$275.50,$275.50,$275.50\n11/14/2018,$1101.00,1200000,$1101.00,$1101.00,$1101.00\n"
        "11/13/2018,$1100.50,430000,$1100.50,$1100.50,$1100.50\n"),
    "investing.com": ("SAP.csv", "SAP", '\ufeff"Date","Price","Open","High","Low","Vol.","Change %"\n'
        '"11/15/2018","275.50","275.50","275.50","275.50","2.00M","-75%"\n'
        '"11/14/2018","1,101.00","1,101.00","1,101.00","1,101.00","1.20M","0.05%"\n'
        '"11/13/2018","1,100.50","1,100.50","1,100.50","1,100.50","430.00K","0%"\n'),
    "day first": ("p.csv", "A", "Date,Symbol,Open,High,Low,Close,Volume\n"
        "13/11/2018,A,1100.5,1100.5,1100.5,1100.5,430000\n"
        "14/11/2018,A,1101,1101,1101,1101,1200000\n15/11/2018,A,275.5,275.5,275.5,275.5,2000000\n"),
    "Kaggle, the symbol is the Name": ("p.csv", "AAL", "date,open,high,low,close,volume,Name\n"
        "2018-11-13,1100.5,1100.5,1100.5,1100.5,430000,AAL\n2018-11-14,1101,1101,1101,1101,1200000,AAL\n"
        "2018-11-15,275.5,275.5,275.5,275.5,2000000,AAL\n"),
    "FinRL, day is a weekday": ("p.csv", "AAPL", ",date,open,high,low,close,volume,tic,day\n"
        "0,2018-11-13,1100.5,1100.5,1100.5,1100.5,430000,AAPL,1\n1,2018-11-14,1101,1101,1101,1101,1200000,AAPL,2\n"
        "2,2018-11-15,275.5,275.5,275.5,275.5,2000000,AAPL,3\n"),
    "Stooq": ("aapl.us.txt", "AAPL.US", "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>\n"
        "AAPL.US,D,20181113,000000,1100.5,1100.5,1100.5,1100.5,430000,0\n"
        "AAPL.US,D,20181114,000000,1101,1101,1101,1101,1200000,0\n"
        "AAPL.US,D,20181115,000000,275.5,275.5,275.5,275.5,2000000,0\n"),
    "Tiingo": ("p.csv", "A", "date,symbol,close,high,low,open,volume,divCash,splitFactor\n"
        "2018-11-13T00:00:00.000Z,A,1100.5,1100.5,1100.5,1100.5,430000,0.0,1.0\n"
        "2018-11-14T00:00:00.000Z,A,1101,1101,1101,1101,1200000,0.0,1.0\n"
        "2018-11-15T00:00:00.000Z,A,275.5,275.5,275.5,275.5,2000000,0.5,4.0\n"),
    "Quandl's WIKI": ("p.csv", "A", "Ticker,Date,Open,High,Low,Close,Volume,Ex-Dividend,Split Ratio,Adj. Close\n"
        "A,2018-11-13,1100.5,1100.5,1100.5,1100.5,430000,0.0,1.0,275.1\n"
        "A,2018-11-14,1101,1101,1101,1101,1200000,0.0,1.0,275.2\n"
        "A,2018-11-15,275.5,275.5,275.5,275.5,2000000,0.5,4.0,275.5\n"),
    "Alpha Vantage": ("IBM.csv", "IBM",
        "timestamp,open,high,low,close,adjusted_close,volume,dividend_amount,split_coefficient\n"
        "2018-11-15,275.5,275.5,275.5,275.5,275.5,2000000,0.5,4.0\n"
        "2018-11-14,1101,1101,1101,1101,275.2,1200000,0.0,1.0\n"
        "2018-11-13,1100.5,1100.5,1100.5,1100.5,275.1,430000,0.0,1.0\n"),
    "a title above, empty rows below": ("p.csv", "A", "Prices of A\n\nDate,Symbol,Open,High,Low,Close,Volume\n"
        "2018-11-13,A,1100.5,1100.5,1100.5,1100.5,430000\n2018-11-14,A,1101,1101,1101,1101,1200000\n"
        "2018-11-15,A,275.5,275.5,275.5,275.5,2000000\n,,,,,,\n,,,,,,\n"),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_a_vendors_form_is_read(form: str, tmp_path: Path) -> None:
    name, symbol, text = FORMS[form]
    (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / f"{Path(name).stem}.csv.gz").write_bytes(gzip.compress(text.encode()))
    for folder in (tmp_path, tmp_path / "packed"):
        place = next(folder.glob("p.*"), folder)  # a file of that name has a column of symbols
        found = bars(place, symbol)
        assert found["session"].tolist() == DAYS
        assert found["close"].tolist() == CLOSES
        assert found["volume"].tolist() == VOLUMES
        has_actions = form in {"Tiingo", "Quandl's WIKI", "Alpha Vantage"}
        assert found["split"].tolist() == [1, 1, 4 if has_actions else 1]
        assert found["dividend"].tolist() == [0, 0, 0.5 if has_actions else 0]
        assert read(place).fetch(symbol, START, END, NOW).adjustment == ("raw" if has_actions else "split")


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_yfinances_download_is_read(suffix: str, swapped: bool, tmp_path: Path) -> None:
    table = wide("AAPL", "000001.SZ", swapped=swapped)
    file = tmp_path / f"p.{suffix}"
    table.to_csv(file) if suffix == "csv" else table.to_parquet(file)
    assert read(file).symbols() == ["000001.SZ", "AAPL"]
    for symbol in ("AAPL", "000001.SZ"):
        found = bars(file, symbol)
        assert found["session"].tolist() == DAYS
        assert found["close"].tolist() == CLOSES
        assert found["volume"].tolist() == VOLUMES


def test_in_a_wide_file_a_symbol_begins_with_its_first_price(tmp_path: Path) -> None:
    table = wide("A", "B")
    table.loc[DAYS[0], table.columns.get_level_values(1) == "B"] = float("nan")
    table.to_csv(tmp_path / "p.csv")
    assert len(bars(tmp_path / "p.csv", "A")) == 3
    assert bars(tmp_path / "p.csv", "B")["session"].tolist() == DAYS[1:]


@pytest.mark.parametrize("names", [["date", "symbol"], ["symbol", "date"]])
def test_a_two_level_index_is_read(names: list[str], tmp_path: Path) -> None:
    pd.concat([plain("A"), plain("B")]).set_index(names).to_parquet(tmp_path / "p.parquet")
    assert read(tmp_path / "p.parquet").symbols() == ["A", "B"]
    assert bars(tmp_path / "p.parquet", "B")["session"].tolist() == DAYS


@pytest.mark.parametrize(
    ("zone", "instants"),
    [
        ("Asia/Tokyo", ["2018-11-12T15:00:00Z", "2018-11-13T15:00:00Z", "2018-11-14T15:00:00Z"]),
        (
            "Europe/Paris",
            ["2018-11-12 23:00:00+00:00", "2018-11-13 23:00:00+00:00", "2018-11-14 23:00:00+00:00"],
        ),
        ("America/New_York", ["2018-11-13T21:00:00Z", "2018-11-14T21:00:00Z", "2018-11-15T21:00:00Z"]),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_an_instant_is_the_exchanges_day(suffix: str, zone: str, instants: list[str], tmp_path: Path) -> None:
    file, table = tmp_path / f"p.{suffix}", plain().assign(date=instants)
    if suffix == "csv":
        table.to_csv(file, index=False)
    else:
        table.assign(date=pd.to_datetime(table["date"], utc=True)).to_parquet(file)
    assert bars(file, "A", zone)["session"].tolist() == DAYS
    with pytest.raises(InputError, match="is an instant, and the exchange's time zone is not known"):
        read(file).symbols()


@pytest.mark.parametrize("offset", ["Z", "+09:00", "-05:00"])
def test_midnight_is_a_date_in_every_zone(offset: str, tmp_path: Path) -> None:
    table = plain().assign(date=[f"{day:%Y-%m-%d} 00:00:00{offset}" for day in DAYS])
    table.to_csv(tmp_path / "p.csv", index=False)
    assert bars(tmp_path / "p.csv", "A", "Australia/Sydney")["session"].tolist() == DAYS


def test_dates_that_can_be_read_in_two_ways_are_refused(tmp_path: Path) -> None:
    plain().iloc[:2].assign(date=["05/11/2018", "06/11/2018"]).to_csv(tmp_path / "p.csv", index=False)
    with pytest.raises(InputError, match="can be read in two ways: month first, or day first"):
        read(tmp_path / "p.csv").symbols()


@pytest.mark.parametrize("text", ["1,101", "1.101,00", "0.43M", "12,34.5", "$", "1 101.0", "100.68.1"])
def test_a_price_that_may_be_another_number_is_refused(text: str, tmp_path: Path) -> None:
    plain().astype({"close": object}).assign(close=["1100.5", text, "275.5"]).to_csv(
        tmp_path / "p.csv", index=False
    )
    with pytest.raises(InputError, match="in close is no number") as caught:
        read(tmp_path / "p.csv").symbols()
    assert f"{tmp_path / 'p.csv'}, data row 2" in str(caught.value)


def test_a_hyphen_is_no_value(tmp_path: Path) -> None:
    plain().astype({"volume": object}).assign(volume=["-", "1", "2"]).to_csv(tmp_path / "p.csv", index=False)
    assert bars(tmp_path / "p.csv", "A")["volume"].isna().tolist() == [True, False, False]


def test_several_rows_a_day_are_no_daily_bars(tmp_path: Path) -> None:
    hourly = plain().loc[[0, 0, 0, 1, 1, 1]]
    hourly.assign(date=[f"2018-11-{day} {hour}:00:00" for day in (13, 14) for hour in (10, 11, 12)]).to_csv(
        tmp_path / "p.csv", index=False
    )
    with pytest.raises(InputError, match=r"Most days have several rows, e\.g\. A 2018-11-13"):
        read(tmp_path / "p.csv").symbols()
    plain().loc[[0, 1, 2, 2]].to_csv(tmp_path / "p.csv", index=False)  # the last day twice
    assert len(bars(tmp_path / "p.csv", "A")) == 4


def test_a_name_is_no_symbol_where_the_file_has_one(tmp_path: Path) -> None:
    plain().drop(columns="symbol").assign(Name="A Company, Inc.").to_csv(tmp_path / "ACME.csv", index=False)
    assert read(tmp_path).symbols() == ["ACME"]
    plain().assign(Name="A Company, Inc.", Price=0.0, Day=1).to_csv(tmp_path / "ACME.csv", index=False)
    assert bars(tmp_path, "A")["close"].tolist() == CLOSES


def test_an_error_names_the_row_of_the_file(tmp_path: Path) -> None:
    text = "date,symbol,open,high,low,close\n2018-11-13,A,1,1,1,1\n,,,,,\n2018-11-14,A,1,1,1,x\n"
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(InputError, match="data row 3"):
        read(tmp_path / "p.csv").symbols()


def paying(factor: float) -> pd.DataFrame:
    """Twelve sessions in whole cents, multiplied by `factor` before a dividend on the seventh."""
    close = np.array([10.01, 10.02, 10.03, 10.04, 10.05, 10.0, 9.5, 9.51, 9.52, 9.53, 9.54, 9.55])
    close[:6] *= factor
    table = pd.DataFrame({"date": pd.bdate_range("2018-11-01", periods=12), "close": close})
    return table.assign(open=close, high=close, low=close, volume=1, dividends=[0] * 6 + [0.5] + [0] * 5)


def test_dividends_are_not_counted_twice(tmp_path: Path) -> None:
    adjusted, plain_closes = paying(1 - 0.5 / 10.0), paying(1)
    adjusted.to_csv(tmp_path / "A.csv", index=False)
    assert read(tmp_path).fetch("A", START, END, NOW).adjustment == "split+dividend"
    plain_closes.drop(columns="dividends").to_csv(tmp_path / "B.csv", index=False)  # it pays nothing
    assert read(tmp_path).fetch("B", START, END, NOW).adjustment == "split+dividend"
    plain_closes.to_csv(tmp_path / "C.csv", index=False)
    with pytest.raises(
        InputError, match="The closes of A are adjusted for the dividends beside them, those of C"
    ):
        read(tmp_path).fetch("A", START, END, NOW)
    said = FilesSource(tmp_path, adjustment="split", historical=True)
    assert said.fetch("A", START, END, NOW).adjustment == "split"


def quarterly(falls: float, seed: int = 0, years: int = 5) -> pd.DataFrame:
    """Closes in cents with a dividend of 1% a quarter, by the share of which they fall on its ex-date."""
    days = 252 * years
    dividend = np.where(np.arange(days) % 63 == 62, 0.5, 0.0)
    steps = np.random.default_rng(seed).normal(0, 0.01, days) - falls * dividend / 50
    close = np.round(50 * np.exp(np.cumsum(steps)), 2)
    table = pd.DataFrame({"date": pd.bdate_range("2010-01-04", periods=days), "close": close})
    return table.assign(dividends=dividend)


@pytest.mark.parametrize(
    ("falls", "years", "kind", "note", "rule"),
    [
        (0.0, 20, "split+dividend", "read as adjusted for dividends", ""),
        (0.0, 5, "split", "read as not adjusted for the dividends", "adjustment in doubt"),
        (0.0, 1, "split", "read as not adjusted for the dividends", ""),
        (1.0, 20, "split", "", ""),
        (1.0, 1, "split", "read as not adjusted for the dividends", ""),
    ],
)
def test_closes_in_cents_beside_dividends_are_told_by_their_falls_or_it_is_said(
    falls: float, years: int, kind: str, note: str, rule: str, tmp_path: Path
) -> None:
    quarterly(falls, 5, years).to_csv(tmp_path / "A.csv", index=False)
    plain().drop(columns="symbol").to_csv(tmp_path / "B.csv", index=False)
    source, span = read(tmp_path), (pd.Timestamp("2010-01-01"), pd.Timestamp("2040-01-01"))
    found = [source.fetch(symbol, *span, NOW) for symbol in ("B", "A")]
    assert {one.adjustment for one in found} == {kind}
    assert any(note in said for said in found[1].notes)
    assert any("[prices] adjustment" in said for said in found[1].notes) == bool(note)
    assert [found_rule for _, found_rule, _ in found[1].findings] == ([rule] if rule else [])
    assert found[0].findings == ()
    stated = FilesSource(tmp_path, adjustment="split", historical=True).fetch("A", *span, NOW)
    assert (stated.findings, [said for said in stated.notes if "[prices]" in said]) == ((), [])


def test_a_payer_that_shows_nothing_goes_with_the_others(tmp_path: Path) -> None:
    paying(1 - 0.5 / 10.0).to_csv(tmp_path / "A.csv", index=False)
    paying(1 - 0.5 / 10.0).iloc[5:].to_csv(tmp_path / "NEW.csv", index=False)  # it paid on its second session
    for symbol in ("A", "NEW"):
        assert read(tmp_path).fetch(symbol, START, END, NOW).adjustment == "split+dividend"


def test_a_text_beside_other_files_is_a_note(tmp_path: Path) -> None:
    plain().drop(columns="symbol").to_csv(tmp_path / "A.csv", index=False)
    (tmp_path / "README.txt").write_text("Where these prices come from.")
    assert read(tmp_path).symbols() == ["A"]


def test_two_columns_of_second_choice_cannot_both_be_the_close(tmp_path: Path) -> None:
    table = plain().drop(columns="close").assign(Price=CLOSES, price=CLOSES)
    table.to_csv(tmp_path / "p.csv", index=False)
    with pytest.raises(InputError, match="The columns Price and price both mean close"):
        read(tmp_path / "p.csv").symbols()
