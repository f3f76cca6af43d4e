"""Tables without open, high, low and volume: read where the closes are sure, and nothing is made up."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.errors import InputError
from pipeline.sources.conformance import ConformanceError, check_source
from tests.conftest import NOW
from tests.pipeline.sources import test_custom_answers as own
from tests.pipeline.sources.test_files import CLOSES, DAYS, END, START, bars, plain, read, wide

MISSING = ["open", "high", "low", "volume"]


def text(header: str, row: str) -> str:
    return "\n".join([header, *(row.format(d=d, p=p) for d, p in zip(DAYS, CLOSES, strict=True))]) + "\n"


FORMS = {
    "a fund": ("A.csv", text("Date,NAV", "{d:%Y-%m-%d},{p}")),
    "a long file": ("p.csv", text("date,symbol,close", "{d:%Y-%m-%d},A,{p}")),
    "titles above": ("A.csv", "Index of A\n\n" + text("Date;Last", "{d:%Y-%m-%d};{p}")),
    "an unnamed index": ("A.csv", text(",close", "{d:%Y-%m-%d},{p}")),
    "two headers": (
        "p.csv",
        "Price,Close,Close\nTicker,A,B\nDate,,\n" + text("", "{d:%Y-%m-%d},{p},1").lstrip(),
    ),
    "joined names": ("p.csv", text("Date,Close_A,Close_B", "{d:%Y-%m-%d},{p},1")),
    "quantmod": ("p.csv", text(",A.Close,B.Close", "{d:%Y-%m-%d},{p},1")),
}


@pytest.mark.parametrize("form", FORMS)
def test_closes_alone_are_read_and_the_rest_is_missing(form: str, tmp_path: Path) -> None:
    name, content = FORMS[form]
    (tmp_path / name).write_text(content)
    place = tmp_path / name if name == "p.csv" else tmp_path
    answer = read(place).fetch("A", START, END, NOW)
    assert answer.bars["session"].tolist() == DAYS
    assert answer.bars["close"].tolist() == CLOSES
    assert answer.bars[MISSING].isna().all(axis=None)
    assert answer.may_lack_range
    assert "without open, high, low" in answer.notes[0]


def test_a_wide_parquet_file_may_have_closes_alone(tmp_path: Path) -> None:
    wide("LOW", "B").loc[:, ["Close"]].to_parquet(tmp_path / "p.parquet")
    assert read(tmp_path / "p.parquet").symbols() == ["B", "LOW"]
    assert bars(tmp_path / "p.parquet", "LOW")["close"].tolist() == CLOSES


def test_each_symbol_and_each_session_may_lack_its_own(tmp_path: Path) -> None:
    without = plain("B").assign(open=np.nan).assign(high=["", 1101.0, ""], volume="")
    pd.concat([plain("A"), without]).to_csv(tmp_path / "p.csv", index=False)
    assert bars(tmp_path / "p.csv", "A")["open"].tolist() == CLOSES
    found = bars(tmp_path / "p.csv", "B")
    assert found["open"].isna().all()
    assert found["high"].isna().tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("Date,Open,High,Low,Prev Close", "{d:%Y-%m-%d},{p},{p},{p},{p}"),
        ("Date,Prev Close", "{d:%Y-%m-%d},{p}"),
        ("Date,Adj Close", "{d:%Y-%m-%d},{p}"),
    ],
)
def test_another_close_is_not_taken_for_the_close(header: str, row: str, tmp_path: Path) -> None:
    (tmp_path / "A.csv").write_text(text(header, row))
    with pytest.raises(InputError, match=r"lacks the columns? close|no \.csv"):
        read(tmp_path).symbols()


def test_an_own_source_may_return_closes_alone_and_passes_its_test() -> None:
    closes = own.table()[["date", "close"]]
    answer = own.ask(closes)
    assert answer.bars["close"].tolist() == own.CLOSES
    assert answer.bars[MISSING].isna().all(axis=None)
    assert answer.may_lack_range
    for table in (closes, own.table(open=[None, 12.0, None, 12.0, 12.0])):
        source = own.MadeSource(lambda symbol, start, table=table: table if symbol == "ACME" else None)
        check_source(source, "ACME", start=own.START, end=own.END, now=NOW)
    zero = own.MadeSource(lambda symbol, start: own.table(open=0.0) if symbol == "ACME" else None)
    with pytest.raises(ConformanceError, match="not above zero"):
        check_source(zero, "ACME", start=own.START, end=own.END, now=NOW)
