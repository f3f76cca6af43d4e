"""What real answers of Yahoo broke, end to end: events, pages, other exchanges, and why tonight's bar is missing."""

from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from pipeline.errors import InputError, SourceError
from pipeline.features.panel import build_panel
from tests.support import street as street_module
from tests.support.made_market import make_stock
from tests.support.street import Street
from tests.support.yahoo_market import Broken, Stock
from tests.support.yahoo_quirks import Null

pytestmark = pytest.mark.slow

street = street_module.street

MONDAY, TUESDAY = "2018-12-10", "2018-12-11"


def change(street: Street, symbol: str, **fields: Any) -> None:
    street.server.stocks[symbol] = replace(street.server.stocks[symbol], **fields)


def stamp(day: str) -> int:
    return int(pd.Timestamp(f"{day} 09:30", tz="America/New_York").timestamp())


def refused_row(street: Street, symbol: str, session: str) -> None:
    """Let the session's close lie far above its high."""
    traded = street.server.stocks[symbol].traded.copy()
    traded.loc[session, "high"] = traded.loc[session, "close"] / 2
    change(street, symbol, traded=traded)


def test_a_bad_event_costs_no_other_event_and_no_bar(street: Street) -> None:
    street.opens("A")
    bad = {"date": stamp("2018-11-05"), "numerator": 1, "denominator": 0}
    gain = {"date": stamp("2018-12-04"), "amount": 0.05, "currency": "USD"}
    change(
        street,
        "A",
        kind="ETF",
        dividends={"2018-12-04": 0.2},
        listed={"splits": {"0": bad}, "capitalGains": {"0": gain}},
    )
    status = street.evening(MONDAY)
    assert street.bars("A").loc["2018-12-04", "dividend"] == pytest.approx(0.2)
    (found,) = status.findings[status.findings["rule"] == "action not read"].itertuples()
    assert (found.symbol, f"{found.session:%Y-%m-%d}") == ("A", "2018-11-05")
    assert "the split 1:0" in found.detail


def test_actions_are_read_from_the_answer_that_follows_the_consent_page(street: Street) -> None:
    street.opens("A")
    change(street, "A", dividends={"2018-12-04": 0.2}, splits={"2018-12-06": (21, 20)})
    street.server.asks_consent = True
    street.evening(MONDAY)
    bars = street.bars("A")
    assert (bars.loc["2018-12-04", "dividend"], bars.loc["2018-12-06", "split"]) == (pytest.approx(0.2), 1.05)
    assert "consent" in {request.kind for request in street.server.requests}


def test_an_answer_for_another_symbol_is_refused(street: Street) -> None:
    street.opens("A", "B", "C", "D", "E")
    change(street, "A", stated="B")
    status = street.evening(MONDAY)
    assert status.missing == {"A": "bad_payload: Yahoo was asked for A and answered for 'B'"}


def test_a_universe_abroad_is_told_its_calendar(street: Street) -> None:
    street.opens("A.L")
    change(street, "A.L", timezone="Europe/London", opens="08:00")
    with pytest.raises(InputError) as error:
        street.evening(MONDAY)
    assert error.value.fix == 'set [universe] calendar = "XLON"'
    assert "A.L trades in Europe/London" in error.value.where


def test_two_exchanges_need_a_configuration_each(street: Street) -> None:
    street.opens("A.L", "B.PA")
    change(street, "A.L", timezone="Europe/London", opens="08:00")
    change(street, "B.PA", timezone="Europe/Paris", opens="09:00")
    with pytest.raises(InputError) as error:
        street.evening(MONDAY)
    assert '"XLON" for A.L, "XPAR" for B.PA' in error.value.fix


def test_a_calendar_that_fits_some_is_not_replaced(street: Street) -> None:
    street.opens("A.L", "B", "C")
    change(street, "A.L", timezone="Europe/London", opens="08:00")
    with pytest.raises(SourceError) as error:
        street.evening(MONDAY)
    assert 'write one per exchange: "XLON" for A.L' in error.value.fix


def test_one_symbol_abroad_has_its_calendar_as_its_reason(street: Street) -> None:
    street.opens("A.L", "B", "C", "D", "E")
    change(street, "A.L", timezone="Europe/London", opens="08:00")
    assert "the calendar of its exchange is XLON" in street.evening(MONDAY).missing["A.L"]


def test_the_reason_for_a_missing_bar_is_the_row_that_was_refused(street: Street) -> None:
    street.opens("A", "B")
    street.evening(MONDAY)
    for symbol in "AB":
        refused_row(street, symbol, TUESDAY)
    with pytest.raises(SourceError) as error:
        street.evening(TUESDAY)
    assert "A: the row of 2018-12-11 is refused: " in error.value.where
    assert "close lies outside low..high" in error.value.where
    assert "findings:" in error.value.where  # what the update found is not lost with it
    assert "closures" not in error.value.fix


def test_a_row_without_prices_is_one_finding_and_no_closure(street: Street) -> None:
    street.opens("A", "B")
    street.evening(MONDAY)
    for symbol in "AB":
        street.quirk(symbol, Null(TUESDAY))
    with pytest.raises(SourceError) as error:
        street.evening(TUESDAY)
    assert "2  open, high, low, close: the value is missing" in error.value.where
    assert "closures" not in error.value.fix


def test_no_row_at_all_may_be_a_closure(street: Street) -> None:
    street.opens("A", "B")
    street.evening(MONDAY)
    for symbol in "AB":
        change(street, symbol, traded=street.server.stocks[symbol].traded.drop(pd.Timestamp(TUESDAY)))
    with pytest.raises(SourceError) as error:
        street.evening(TUESDAY)
    assert "if the exchange was closed" in error.value.fix


@pytest.mark.parametrize(
    ("fault", "said"),
    [("closed", "Will be right back"), ("invalid crumb", "Invalid Crumb"), ("blocked", "Yahoo answered 999")],
)
def test_a_refusal_is_told_in_yahoos_words_and_soon_not_asked_again(
    street: Street, fault: str, said: str
) -> None:
    symbols = [f"S{number:02}" for number in range(20)]
    street.opens(*symbols)
    for symbol in symbols:
        street.quirk(symbol, Broken(fault))
    with pytest.raises(SourceError) as error:
        street.evening(MONDAY)
    assert said in error.value.where
    asked = [request for request in street.server.requests if request.symbol]
    assert len(asked) <= 12  # with four threads six symbols, of which a refusal is tried with new cookies


def test_another_notation_is_translated(street: Street) -> None:
    street.opens("A", "B", "C", "D")
    street.lists("A", "B", "C", "D", "BRK.B")
    assert street.evening(MONDAY).missing["BRK.B"].endswith("Yahoo writes BRK-B")


@pytest.mark.parametrize("kind", ["MUTUALFUND", "INDEX", "CURRENCY", "EQUITY"])
def test_a_volume_that_is_not_reported_leaves_bars_traded(street: Street, kind: str) -> None:
    days = street.days.sessions_between(pd.Timestamp("2018-06-01"), pd.Timestamp("2018-12-31"))
    stock = make_stock(street.days, days, 1)
    street.opens(FUND=Stock(stock.traded.assign(volume=0.0), kind=kind))
    street.evening(MONDAY)
    street.evening(TUESDAY)
    run = street.run(TUESDAY)
    sessions = run.calendar.sessions_between(pd.Timestamp("2018-11-01"), pd.Timestamp(TUESDAY))
    panel = build_panel(run.store.read_block(sessions, ["FUND"]))
    assert panel.is_traded.all()
