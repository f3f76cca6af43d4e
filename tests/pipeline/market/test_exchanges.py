"""The calendar suggested for a symbol exists and has the time zone of the symbol's exchange."""

import exchange_calendars as xc
import pandas as pd
import pytest

from pipeline.market.exchanges import EXCHANGES, suggest_calendar, suggest_names

pytestmark = pytest.mark.slow

NOT_WITH_PANDAS_3 = {"ASEX", "XBSE", "XTAE"}


@pytest.mark.parametrize("name", EXCHANGES)
def test_every_suggested_calendar_exists_and_has_that_time_zone(name: str) -> None:
    end = "2026-12-31"  # as far as the calendars go that know single years
    try:
        built = xc.get_calendar(name, start="2025-01-02", end=end)
    except (NotImplementedError, ValueError):
        assert name in NOT_WITH_PANDAS_3
        return
    assert name not in NOT_WITH_PANDAS_3
    noon = pd.date_range("2025-01-02", end, tz="UTC") + pd.Timedelta(hours=12)
    here, there = (noon.tz_convert(zone).tz_localize(None) for zone in (built.tz, EXCHANGES[name][0]))
    assert (here == there).all()


def test_no_suffix_belongs_to_two_exchanges() -> None:
    suffixes = [suffix for _, listed in EXCHANGES.values() for suffix in listed.split()]
    assert len(suffixes) == len(set(suffixes))


@pytest.mark.parametrize(
    ("timezone", "symbol", "name"),
    [
        ("America/New_York", "AAPL", "XNYS"),
        ("America/New_York", "BRK-B", "XNYS"),
        ("Europe/London", "VOD.L", "XLON"),
        ("Europe/Berlin", "SAP.DE", "XETR"),
        ("Europe/Berlin", "SAP.F", "XFRA"),
        ("Europe/Berlin", "^GDAXI", "XETR"),
        ("Asia/Tokyo", "7203.T", "XTKS"),
        ("Asia/Kolkata", "INFY.NS", "XBOM"),
        ("Asia/Calcutta", "INFY.BO", "XBOM"),
        ("Asia/Shanghai", "000001.SZ", "XSHG"),
        ("Asia/Jerusalem", "TEVA.TA", "XTAE"),
        ("Europe/Paris", "SAP.DE", "XPAR"),  # the stated time zone is what counts
        ("America/Toronto", "CTC-A.TO", "XTSE"),
        ("Africa/Cairo", "COMI.CA", None),
        ("Mars/Olympus", "X", None),
        ("", "X", None),
    ],
)
def test_the_time_zone_decides_and_the_suffix_between_equals(
    timezone: str, symbol: str, name: str | None
) -> None:
    assert suggest_calendar(timezone, symbol) == name


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("NSE", ["XBOM"]),
        ("nse", ["XBOM"]),
        ("India", ["XBOM"]),
        ("Tokyo", ["XTKS"]),
        ("Hong Kong", ["XHKG"]),
        ("Frankfurt", ["XFRA"]),
        ("XETRA", ["XETR"]),
        ("Euronext", ["XPAR", "XAMS", "XBRU", "XLIS"]),
        ("TO", ["XTSE"]),
    ],
)
def test_an_exchange_is_known_by_its_usual_names(name: str, meant: list[str]) -> None:
    assert suggest_names(name, ["XNYS", "NYSE", "SSE", "OSE"]) == meant


def test_a_misspelt_calendar_has_its_nearest_names() -> None:
    assert "XNYS" in suggest_names("XNSY", ["XNYS", "XLON"])
    assert suggest_names("S&P500", ["XNYS", "XLON"]) == []
