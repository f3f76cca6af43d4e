"""How vendors and people write dates, numbers and names, made up here: each file is read as the same three bars."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from pipeline.errors import InputError
from pipeline.sources.columns import is_action_name
from tests.pipeline.sources.test_files import CLOSES, DAYS, VOLUMES, bars, plain, read, wide

NEW_YORK = "America/New_York"


def text_of(header: str, row: str, *, separator: str = ",") -> str:
    """Return a file whose rows are the format `row` of a date d, a price p and a volume v."""
    rows = [row.format(d=d, p=p, v=v) for d, p, v in zip(DAYS, CLOSES, VOLUMES, strict=True)]
    return "\n".join([header, *rows]).replace("|", separator) + "\n"


def prices_written(
    write: Callable[[float], str], volume: Callable[[float], str], date: str = "%Y-%m-%d"
) -> str:
    """Return a file with semicolons whose numbers are written by these functions."""
    rows = [
        ";".join([d.strftime(date), *[write(p)] * 4, volume(v)])
        for d, p, v in zip(DAYS, CLOSES, VOLUMES, strict=True)
    ]
    return "\n".join(["Date;Open;High;Low;Close;Volume", *rows]) + "\n"


def comma(number: float) -> str:
    return f"{number:,.2f}".translate(str.maketrans(",.", ".,"))


PLAIN = "{d:%Y-%m-%d},{p},{p},{p},{p},{v}"
TIMED = "{p},{p},{p},{p},{v}"
DIALECTS = {
    "Alpha Vantage, JSON": text_of("timestamp,1. open,2. high,3. low,4. close,5. volume", PLAIN),
    "EODHD": text_of("Date,Open,High,Low,Close,Adjusted_close,Volume", "{d:%Y-%m-%d},{p},{p},{p},{p},{p},{v}"),
    "Sharadar": text_of("ticker,date,open,high,low,close,volume,closeadj", "A,{d:%Y-%m-%d},{p},{p},{p},{p},{v},{p}"),
    "Spanish page": text_of("Fecha,Apertura,Máximo,Mínimo,Último,Vol.", PLAIN),
    "Yahoo's page": text_of("Date,Open,High,Low,Close*,Volume", '"{d:%b %d, %Y}",{p},{p},{p},{p},{v}'),
    "NSE": text_of("Date,Open Price,High Price,Low Price,Close Price,Total Traded Quantity", "{d:%d-%b-%Y}," + TIMED),
    "Bloomberg": "Security,A US Equity\nPeriod,D\n\n"
        + text_of("Dates,PX_OPEN,PX_HIGH,PX_LOW,PX_LAST,PX_VOLUME", "{d:%m/%d/%Y}," + TIMED),
    "Refinitiv": text_of("Exchange Date,Close,Net,Open,Low,High,Volume", "{d:%d-%b-%Y},{p},1,{p},{p},{p},{v}"),
    "Barchart": text_of("Time,Open,High,Low,Latest,Volume", "{d:%m/%d/%Y}," + TIMED) + '"Downloaded from Barchart"\n',
    "German page": text_of("Datum,Eröffnung,Hoch,Tief,Schluss,Stuecke", "{d:%d.%m.%Y}," + TIMED),
    "French page": text_of("Date,Ouverture,Plus Haut,Plus Bas,Dernier,Volume", "{d:%d/%m/%Y}," + TIMED),
    "Polish page": text_of("Data,Otwarcie,Najwyzszy,Najnizszy,Zamkniecie,Wolumen", PLAIN),
    "semicolons": text_of("Date|Open|High|Low|Close|Volume", "{d:%Y-%m-%d}|{p}|{p}|{p}|{p}|{v}", separator=";"),
    "tabs": text_of("Date|Open|High|Low|Close|Volume", "{d:%Y-%m-%d}|{p}|{p}|{p}|{p}|{v}", separator="\t"),
    "slashes, year first": text_of("Date,Open,High,Low,Close,Volume", "{d:%Y/%m/%d}," + TIMED),
    "dashes, day first": text_of("Date,Open,High,Low,Close,Volume", "{d:%d-%m-%Y}," + TIMED),
    "a spreadsheet's midnight": text_of("Date,Open,High,Low,Close,Volume", "{d:%m/%d/%Y} 12:00:00 AM," + TIMED),
    "a floating date": text_of("Date,Open,High,Low,Close,Volume", "{d:%Y%m%d}.0," + TIMED),
    "decimal commas": prices_written(comma, lambda v: f"{v:,}".replace(",", ".")),
    "decimal commas, euros": prices_written(lambda p: f"{comma(p)} €", str, "%d.%m.%Y"),
    "decimal commas, no-break spaces": prices_written(
        lambda p: f"{p:,.2f}".replace(",", "\u202f").replace(".", ","), lambda v: f"{v:,}".replace(",", "\u00a0")
    ),
    "apostrophes": prices_written(lambda p: f"{p:,.2f}".replace(",", "'"), lambda v: f"{v:,}".replace(",", "'")),
    "R's quantmod": text_of('"","A.Open","A.High","A.Low","A.Close","A.Volume"', PLAIN),
    "flat names": text_of("Date,Open_A,High_A,Low_A,Close_A,Volume_A", PLAIN),
    "pairs as names": text_of(
        "Date,\"('Open', 'A')\",\"('High', 'A')\",\"('Low', 'A')\",\"('Close', 'A')\",\"('Volume', 'A')\"", PLAIN
    ),
    "two header lines": "Date,Open,High,Low,Close,Volume\n" + text_of(",A,A,A,A,A", PLAIN),
}  # fmt: skip


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_dialect_is_read(dialect: str, tmp_path: Path) -> None:
    (tmp_path / "A.csv").write_text(DIALECTS[dialect], encoding="utf-8")
    found = bars(tmp_path, "A")
    assert found["session"].tolist() == DAYS
    assert found["close"].tolist() == CLOSES
    assert found["volume"].tolist() == VOLUMES


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_mark_at_the_beginning_names_the_encoding(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "A.csv").write_text(DIALECTS["tabs"].replace("\n", "\r\n"), encoding=encoding, newline="")
    assert bars(tmp_path, "A")["close"].tolist() == CLOSES


@pytest.mark.parametrize(("unit", "digits"), [("s", 10), ("ms", 13), ("us", 16), ("ns", 19)])
@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York", "Europe/London"])
def test_an_epoch_is_the_exchanges_day(unit: str, digits: int, zone: str, tmp_path: Path) -> None:
    midnights = pd.Series(DAYS).dt.tz_localize(zone).dt.as_unit("ns").astype("int64") // 10 ** (19 - digits)
    table = plain().drop(columns="date").assign(t=midnights)
    table.to_csv(tmp_path / "p.csv", index=False)
    assert bars(tmp_path / "p.csv", "A", zone)["session"].tolist() == DAYS


@pytest.mark.parametrize("names", ["symbol,v,o,c,h,l,t", "ticker,volume,open,close,high,low,window_start"])
def test_polygons_rows_are_read(names: str, tmp_path: Path) -> None:
    opens = pd.Series(DAYS).dt.tz_localize(NEW_YORK).dt.as_unit("ns").astype("int64")
    rows = [f"A,{v},{p},{p},{p},{p},{at}" for v, p, at in zip(VOLUMES, CLOSES, opens, strict=True)]
    (tmp_path / "p.csv").write_text("\n".join([names, *rows]))
    found = bars(tmp_path / "p.csv", "A", NEW_YORK)
    assert found["session"].tolist() == DAYS
    assert found["close"].tolist() == CLOSES
    assert found["volume"].tolist() == VOLUMES


def test_eodhds_code_is_the_symbol(tmp_path: Path) -> None:
    text = text_of(
        "Code,Ex,Date,Open,High,Low,Close,Adjusted_close,Volume", "A,US,{d:%Y-%m-%d},{p},{p},{p},{p},{p},{v}"
    )
    (tmp_path / "p.csv").write_text(text)
    assert bars(tmp_path / "p.csv", "A")["adj_close"].tolist() == CLOSES


def test_an_evening_in_its_own_offset_is_that_day_though_it_is_midnight_in_utc(tmp_path: Path) -> None:
    plain().assign(date=[f"{day:%Y-%m-%d} 19:00:00-05:00" for day in DAYS]).to_csv(
        tmp_path / "p.csv", index=False
    )
    assert bars(tmp_path / "p.csv", "A", NEW_YORK)["session"].tolist() == DAYS


def test_grouped_volumes_need_no_decimals_to_show_it(tmp_path: Path) -> None:
    table = plain().assign(volume=["430,000", "120,000", "900"])
    table.to_csv(tmp_path / "p.csv", index=False)
    assert bars(tmp_path / "p.csv", "A")["volume"].tolist() == [430_000, 120_000, 900]


@pytest.mark.parametrize(
    ("prices", "words"),
    [
        (["1.101", "1.102", "1.103"], "Numbers such as '1.101' can be read in two ways"),
        (["1.101,50", "1.102,50", "1103.5"], "'1103.5' in open is no number"),
        (["10,50", "11,50", "1.103"], "'1.103' in open is no number"),
    ],
)
def test_a_number_that_may_be_another_one_is_refused(prices: list[str], words: str, tmp_path: Path) -> None:
    rows = [";".join([f"{day:%Y-%m-%d}", *[price] * 4]) for day, price in zip(DAYS, prices, strict=True)]
    (tmp_path / "A.csv").write_text("\n".join(["Date;Open;High;Low;Close", *rows]))
    with pytest.raises(InputError, match=words):
        read(tmp_path).symbols()


def test_all_that_has_to_change_is_said_at_once_with_the_line_to_type(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("When,Date,Open,High,Low,Cl\nx,03/04/2018,1,1,1,1\n")
    with pytest.raises(InputError) as caught:
        read(tmp_path / "p.csv").symbols()
    for words in (
        "for 2 reasons",
        "lacks the columns close, symbol",
        "can be read in two ways",
        "t['Date'] = pd.to_datetime(t['Date'], dayfirst=True)",
    ):
        assert words in str(caught.value)


def test_a_split_may_be_written_as_a_pair(tmp_path: Path) -> None:
    plain().assign(split=["", "", "4:1"]).to_csv(tmp_path / "p.csv", index=False)
    assert bars(tmp_path / "p.csv", "A")["split"].tolist() == [1, 1, 4]


def test_a_gain_of_a_fund_is_paid_unless_the_dividend_has_it(tmp_path: Path) -> None:
    table = plain().assign(dividends=[0, 0.5, 0.1], **{"Capital Gains": [0.25, 0.5, 0.25]})
    table.to_csv(tmp_path / "p.csv", index=False)
    assert bars(tmp_path / "p.csv", "A")["dividend"].tolist() == [0.25, 0.5, 0.35]


def test_a_wide_table_may_have_its_dates_as_a_column(tmp_path: Path) -> None:
    table = wide("A", "B")
    table.reset_index().to_csv(tmp_path / "p.csv", index=False)
    table.reset_index().to_parquet(tmp_path / "p.parquet")
    for name in ("p.csv", "p.parquet"):
        assert bars(tmp_path / name, "B")["session"].tolist() == DAYS


@pytest.mark.parametrize(
    ("name", "is_action"),
    [
        *((name, True) for name in ("Split Fctr", "CumFactor", "cfacpr", "Div Amt", "adjOpen", "Adj. Factor")),
        *((name, True) for name in ("Capital Gains", "DVD_AMT", "Bonus", "AdjustmentFactor", "unadj_close")),
        *((name, False) for name in ("Dividend Yield", "Individual", "Ex-Date", "Turnover", "Change %", "day")),
    ],
)  # fmt: skip
def test_a_name_tells_an_action(name: str, is_action: bool) -> None:
    assert is_action_name(name) == is_action


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        ({"Split Fctr": [1, 1, 4], "Div Amt": [0, 0, 0.5]}, "'Split Fctr', 'Div Amt' of p.csv"),
        ({"Adj. Open": [1, 2, 3]}, "'Adj. Open' of p.csv"),
        ({"Split Fctr": ["", "", "1->4"]}, "'Split Fctr' of p.csv"),
        ({"Split Fctr": [1, 1, 1], "Div Amt": [0, 0, 0], "Div Date": ["", "", "2018-11-15"]}, ""),
        ({"Adj Close": CLOSES, "Adj Open": [1, 2, 3], "closeunadj": CLOSES}, ""),
    ],
)
def test_an_unread_column_that_looks_like_an_action_is_named(
    columns: dict[str, list[object]], named: str, tmp_path: Path
) -> None:
    plain().assign(**columns).to_csv(tmp_path / "p.csv", index=False)
    fetched = read(tmp_path / "p.csv").fetch("A", DAYS[0], DAYS[-1], pd.Timestamp("2019-06-01", tz="UTC"))
    assert len(fetched.findings) == bool(named)
    for session, rule, detail in fetched.findings:
        assert (session, rule) == (fetched.bars["session"].iloc[-1], "column not read")
        assert detail.startswith(named)
    assert all(f"'{column}'" in fetched.notes[0] for column in columns if column != "Adj Close")
