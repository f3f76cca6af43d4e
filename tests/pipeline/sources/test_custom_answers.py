"""Answers and errors of a custom source: lenient about column names, strict about rules, and no secret repeated."""

import sqlite3
from datetime import date, datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from pipeline.sources import Fetched
from pipeline.sources.conformance import ConformanceError, check_source
from pipeline.sources.custom import CustomSource
from tests.conftest import NOW

START, END = pd.Timestamp("2018-12-10"), pd.Timestamp("2018-12-14")
DAYS = ["2018-12-10", "2018-12-11", "2018-12-12", "2018-12-13", "2018-12-14"]
CLOSES = [12.0, 12.1, 12.2, 12.3, 12.4]
SECRET = "k3y-of-the-vendor"


def table(**columns: object) -> pd.DataFrame:
    bars = pd.DataFrame({"date": pd.to_datetime(DAYS), "close": CLOSES})
    bars = bars.assign(open=bars["close"], high=bars["close"] + 1, low=bars["close"] - 1, volume=1000)
    return bars.assign(**columns)


class MadeSource:
    """Somebody's source: it gives what it was made with, or raises it."""

    def __init__(self, answer: object = None, **attributes: object) -> None:
        self.answer, self.asked = answer, 0
        vars(self).update(attributes)

    def fetch(self, symbol: str, start: pd.Timestamp, end: pd.Timestamp, now: datetime) -> object:
        self.asked += 1
        answer = self.answer(symbol, start) if callable(self.answer) else self.answer
        if isinstance(answer, BaseException):
            raise answer
        return answer


def ask(answer: object, **attributes: object) -> Fetched:
    return CustomSource(MadeSource(answer, **attributes)).fetch("ACME", START, END, NOW)


def known(symbol: str, start: pd.Timestamp) -> pd.DataFrame | None:
    return table() if symbol == "ACME" else None


def test_a_plain_table_with_any_known_column_names_is_enough() -> None:
    bars = ask(table()).bars
    assert bars["session"].tolist() == [pd.Timestamp(day) for day in DAYS]
    assert bars["close"].tolist() == CLOSES
    assert (bars["split"] == 1).all()
    assert (bars["dividend"] == 0).all()
    assert bars["adj_close"].isna().all()


@pytest.mark.parametrize(
    "same",
    [
        table().set_index("date"),
        table(date=DAYS),
        table(date=[date.fromisoformat(day) for day in DAYS]).set_index("date"),
        table(close=[Decimal(str(close)) for close in CLOSES]),
        table(volume=pd.array([1000] * 5, dtype="Int64"), symbol="ACME"),
        table(split=[None, 0, 1, np.nan, 1.0]).rename(columns={"split": "Stock Splits", "close": "Close"}),
        Fetched("ACME", "ok", NOW, bars=table()),
    ],
    ids=["index", "text", "dates", "decimals", "nullable", "yahoo", "fetched"],
)
def test_equivalent_answers_give_the_same_bars(same: object) -> None:
    pd.testing.assert_frame_equal(ask(same).bars, ask(table()).bars)


def test_rows_before_the_start_are_left_out_and_those_after_the_end_kept() -> None:
    source = CustomSource(MadeSource(table()))
    middle, before = pd.Timestamp("2018-12-11"), pd.Timestamp("2018-12-01")
    fetched = source.fetch("ACME", middle, pd.Timestamp("2018-12-12"), NOW)
    assert fetched.bars["session"].iloc[[0, -1]].tolist() == [middle, END]
    assert source.fetch("ACME", before, pd.Timestamp("2018-12-07"), NOW).outcome == "empty"


@pytest.mark.parametrize("nothing", [None, pd.DataFrame(), table().iloc[:0]], ids=["None", "bare", "no rows"])
def test_an_answer_without_bars_is_empty(nothing: object) -> None:
    assert ask(nothing).outcome == "empty"


@pytest.mark.parametrize("name", ["Div Amt", "Adj Factor", "cumSplit"])
def test_an_unread_column_that_looks_like_an_action_is_a_finding_once(name: str) -> None:
    rows = table(**{name: [0, 0, 0.5, 0, 0]})
    for answer in (rows, Fetched("ACME", "ok", NOW, bars=rows)):
        ((session, rule, detail),) = ask(answer).findings
        assert (session, rule) == (END, "column not read")
        assert detail.startswith(f"'{name}' of the source: a split, a dividend or an adjusted price?")
    source = CustomSource(MadeSource(rows))
    assert [len(source.fetch(s, START, END, NOW).findings) for s in ("A", "B", "A")] == [1, 0, 1]
    assert ask(table(**{name: 0})).findings == ()


def test_a_gain_of_a_fund_is_paid_unless_the_dividend_has_it() -> None:
    rows = table(dividends=[0, 0.5, 0.1, 0, 0], **{"Capital Gains": [0.25, 0.5, 0.25, 0, 0]})
    assert ask(rows).bars["dividend"].tolist() == [0.25, 0.5, 0.35, 0, 0]
    assert ask(rows.drop(columns="dividends")).bars["dividend"].tolist() == [0.25, 0.5, 0.25, 0, 0]
    assert ask(rows).findings == ()


def test_the_adjustment_comes_from_the_settings_else_the_class_else_the_bars() -> None:
    halved = table(close=[24.0, 24, 12, 12, 12], split=[1, 1, 2, 1, 1])
    assert ask(halved).adjustment == "raw"
    assert ask(halved, adjustment="split").adjustment == "split"
    stated = CustomSource(MadeSource(halved, adjustment="split"), adjustment="split+dividend")
    assert stated.fetch("ACME", START, END, NOW).adjustment == "split+dividend"


WRONG = [
    (table().drop(columns="close"), "the bars lack close; they have the columns 'date, open"),
    (table().drop(columns="date"), "the bars lack date"),
    (table(Close=1.0), "the columns close and Close both mean close"),
    (table(close=[*CLOSES[:4], "12.4"]), "'12.4' in close, row 5, is no number"),
    (table(close=[True] * 5), "in close, row 1, is no number"),
    (table(volume=pd.to_timedelta(range(5), unit="D")), "in volume, row 1, is no number"),
    (table(date=pd.to_datetime(DAYS).tz_localize("UTC")), "the dates have the time zone UTC"),
    (table().set_index("date").tz_localize("Asia/Tokyo"), "the dates have the time zone Asia/Tokyo"),
    (table(date=[datetime.fromisoformat(f"{day}T00:00Z") for day in DAYS]), "time zone UTC"),
    (table(date=pd.to_datetime(DAYS) + pd.Timedelta(hours=16)), "row 1, has a time of day"),
    (table(date=["10.12.2018", *DAYS[1:]]), "'10.12.2018' in date, row 1, is no date"),
    (table(date=range(5)), "'0' in date, row 1, is no date"),
    (table(date=["0001-01-01", *DAYS[1:]]), "'0001-01-01' in date, row 1, is no date"),
    (table(date=[None, *pd.to_datetime(DAYS[1:])]), "in date, row 1, is no date"),
    (table().iloc[::-1], "row 2, comes after a later date; sort the bars"),
    (table(symbol=["ACME"] * 4 + ["BOLT"]), "asked for ACME, but there are rows of 'BOLT'"),
    (table(split=[1, 1, -2, 1, 1]), "'-2.0' in split, row 3, is no split ratio"),
    (table(split=[1, 1, 1e300, 1, 1]), "'1e+300' in split, row 3, is no split ratio"),
    (pd.concat([table(), table()], axis=1), "two columns have the same name"),
    ([{"date": "2018-12-10"}], "must return a pandas DataFrame, None or a Fetched, not list"),
    (Fetched("BOLT", "ok", NOW, bars=table()), "the Fetched is of 'BOLT'"),
    (Fetched("ACME", "fine", NOW, bars=table()), "outcome must be one of ok, empty"),  # type: ignore[arg-type]
    (Fetched("ACME", "ok", NOW), "the outcome ok needs bars"),
    (Fetched("ACME", "ok", NOW, bars=table(), currency=None), "currency must be text"),  # type: ignore[arg-type]
    (Fetched("ACME", "ok", NOW, bars=table(close="x")), "'x' in close, row 1, is no number"),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "words"), WRONG, ids=[words[:40] for _, words in WRONG])
def test_an_answer_that_breaks_a_rule_is_refused_with_the_rule(answer: object, words: str) -> None:
    fetched = ask(answer)
    assert (fetched.outcome, len(fetched.bars)) == ("bad_payload", 0)
    assert words in fetched.reason
    assert "\n" not in fetched.reason
    with pytest.raises(ConformanceError) as caught:
        check_source(MadeSource(answer), "ACME", start=START, end=END)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("error", "outcome", "words"),
    [
        (ValueError("one\n  two"), "bad_payload", "fetch raised ValueError: one two (test_custom_answers.py, line"),
        (ConnectionResetError("reset"), "transient", "ConnectionResetError: reset"),
        (TimeoutError(), "transient", "TimeoutError ("),
        (FileNotFoundError(2, "gone", "x.db"), "bad_payload", "FileNotFoundError"),
        (sqlite3.OperationalError("database is locked"), "bad_payload", "database is locked"),
    ],
)  # fmt: skip
def test_an_error_is_an_outcome_with_its_place(error: Exception, outcome: str, words: str) -> None:
    fetched = ask(error)
    assert fetched.outcome == outcome
    assert words in fetched.reason


@pytest.mark.parametrize(
    "text",
    [
        f"no route to https://host/daily?symbol=A&k={SECRET}",
        f"GET https://me:{SECRET}@host/daily",
        f"the header 'Bearer {SECRET}' was refused",
    ],
)
def test_no_secret_of_a_url_or_the_environment_is_repeated(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_VENDOR_TOKEN", SECRET)
    assert SECRET not in ask(ValueError(text)).reason


def test_no_request_follows_a_rate_limit() -> None:
    written = MadeSource(Fetched("ACME", "rate_limited", NOW, reason="come back tomorrow"))
    source = CustomSource(written)
    said = [source.fetch("ACME", START, END, NOW) for _ in range(3)]
    assert {(answer.outcome, answer.reason) for answer in said} == {("rate_limited", "come back tomorrow")}
    assert written.asked == 1


# The conformance test.
