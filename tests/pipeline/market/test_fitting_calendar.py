"""The calendar that fits given days, and the symbols that trade elsewhere."""

from datetime import UTC, date, datetime

import pandas as pd
import pytest

from pipeline.errors import InputError
from pipeline.market.calendar import calendar
from pipeline.market.fitting_calendar import fit_calendar


def sessions(name: str) -> pd.DatetimeIndex:
    days = calendar(name, date(2023, 1, 1), datetime(2025, 12, 31, tzinfo=UTC)).sessions
    return days[days <= "2025-12-31"]


def test_new_york_is_found_without_a_hint_and_london_by_its_suffix() -> None:
    assert fit_calendar({"ACME": sessions("XNYS"), "BOLT": sessions("XNYS")[::-1][:400][::-1]}).name == "XNYS"
    assert fit_calendar({"ACME.L": sessions("XLON")}).name == "XLON"


def test_the_symbol_that_trades_elsewhere_is_named_with_a_day() -> None:
    fit = fit_calendar(
        {"ACME": sessions("XNYS"), "BOLT": sessions("XNYS"), "COAL": sessions("XETR")}, ["XNYS", "XETR"]
    )
    assert fit.name == "XNYS"
    assert list(fit.strays) == ["COAL"]
    assert fit.strays["COAL"] in sessions("XETR").difference(sessions("XNYS"))


def test_a_symbol_with_gaps_and_a_wrong_day_still_fits() -> None:
    days = sessions("XNYS").delete(slice(100, 140)).union(pd.DatetimeIndex(["2024-07-06"]))
    fit = fit_calendar({"ACME": days}, ["XNYS", "XLON"])
    assert (fit.name, dict(fit.strays)) == ("XNYS", {})


def test_calendars_that_fit_as_well_are_named() -> None:
    fit = fit_calendar({"ACME": sessions("XPAR")}, ["XPAR", "XAMS", "XLON"])
    assert (fit.name, fit.alike) == ("XPAR", ("XAMS",))


def test_days_without_weekends_off_fit_no_exchange() -> None:
    with pytest.raises(InputError, match=r"Saturday.* are the sessions of no exchange") as refused:
        fit_calendar({"BTC": pd.date_range("2024-01-01", "2025-06-30")}, ["XNYS", "XLON"])
    assert "--calendar" in refused.value.fix
