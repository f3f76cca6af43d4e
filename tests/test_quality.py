from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.quality import check, find_revisions
from pipeline.sessions import Calendar
from pipeline.sources import Fetched
from pipeline.sources.files import FilesSource
from tests.conftest import NOW, prices_of, vendor_bars

WEEK = pd.DatetimeIndex(["2018-12-10", "2018-12-11", "2018-12-12", "2018-12-13", "2018-12-14"])
LATER = pd.Timestamp("2018-12-31")


def checked(
    bars: pd.DataFrame,
    xnys: Calendar,
    *,
    as_of: pd.Timestamp = LATER,
    now: datetime = NOW,
    historical: bool = True,
):
    return check([Fetched("A", "ok", now, bars=bars)], xnys, as_of, source="test", historical=historical)


def test_good_bars_pass_untouched(xnys: Calendar) -> None:
    result = checked(vendor_bars(WEEK, np.arange(5) + 10.0), xnys)
    assert result.findings.empty
    assert result.prices["close"].tolist() == [10, 11, 12, 13, 14]


def test_each_broken_bar_is_named_by_symbol_session_and_rule_and_kept_out(xnys: Calendar) -> None:
    bars = vendor_bars(WEEK, [10.0, 10, 10, 10, 10])
    bars.loc[0, "low"] = np.nan
    bars.loc[1, "close"] = 12
    bars.loc[2, ["low", "high"]] = [11, 9]
    bars.loc[3, "volume"] = -1
    result = checked(bars, xnys)
    named = {(row.session, row.rule) for row in result.findings.itertuples()}
    assert (WEEK[0], "low: the value is missing") in named
    assert (WEEK[1], "close lies outside low..high") in named
    assert (WEEK[2], "low lies above high") in named
    assert (WEEK[3], "volume: a volume cannot be negative") in named
    assert set(result.findings["symbol"]) == {"A"}
    assert result.prices["session"].tolist() == [WEEK[4]]


def test_negative_prices_are_kept_out(xnys: Calendar) -> None:
    result = checked(vendor_bars(WEEK, [10.0, -10, 10, 10, 10]), xnys)
    assert WEEK[1] not in set(result.prices["session"])
    assert "close: a price must be above zero" in set(result.findings["rule"])


def test_days_that_are_no_session_and_second_rows_are_kept_out(xnys: Calendar) -> None:
    days = pd.DatetimeIndex(["2018-12-07", "2018-12-09", "2018-12-10", "2018-12-10"])
    result = checked(vendor_bars(days, [10, 10, 10, 11.0]), xnys)
    assert result.findings[["session", "rule"]].values.tolist() == [
        [pd.Timestamp("2018-12-09"), "no session"],
        [pd.Timestamp("2018-12-10"), "second row"],
    ]
    assert result.prices["close"].tolist() == [10, 11]


def test_a_missing_session_is_named_and_never_filled(xnys: Calendar) -> None:
    result = checked(vendor_bars(WEEK[[0, 2, 3, 4]], [10.0] * 4), xnys)
    assert result.findings[["session", "rule"]].values.tolist() == [[WEEK[1], "missing session"]]
    assert len(result.prices) == 4


def test_a_session_that_has_not_closed_is_not_stored(xnys: Calendar) -> None:
    result = checked(vendor_bars(WEEK, [10.0] * 5), xnys, as_of=WEEK[2])
    assert result.prices["session"].max() == WEEK[2]
    assert result.findings.empty


def test_tonights_bar_is_provisional_and_yesterdays_settled(xnys: Calendar) -> None:
    evening = datetime.fromisoformat("2018-12-14T22:30+00:00")
    result = checked(vendor_bars(WEEK, [10.0] * 5), xnys, now=evening, historical=False)
    assert result.prices["status"].tolist() == ["settled"] * 4 + ["provisional"]


def test_no_answer_is_no_price(xnys: Calendar) -> None:
    result = check([], xnys, LATER, source="test", historical=True)
    assert result.prices.empty
    assert result.findings.empty


def test_a_settled_close_that_changes_is_named(xnys: Calendar) -> None:
    stored = prices_of({"A": vendor_bars(WEEK, [10.0] * 5)}, xnys)
    now = prices_of({"A": vendor_bars(WEEK, [10, 10, 10.01, 10, 10.0001])}, xnys)
    found = find_revisions(stored, now)
    assert found[["symbol", "session", "rule"]].values.tolist() == [["A", WEEK[2], "revised"]]
    assert "10.01" in found["detail"].iloc[0]


def test_the_holes_of_the_real_panel_are_found(datasets: Path, xnys: Calendar) -> None:
    source = FilesSource(datasets / "sp500" / "prices.parquet", adjustment="auto", historical=True)
    raw = pd.read_parquet(datasets / "sp500" / "prices.parquet")
    empty = raw[raw[["open", "high", "low"]].isna().any(axis=1)]
    assert raw[["open", "high", "low"]].isna().sum().sum() == 12
    answers = [source.fetch(s, pd.Timestamp("2013-01-01"), LATER, NOW) for s in empty["symbol"].unique()]
    found = check(answers, xnys, LATER, source="files", historical=True).findings
    named = set(zip(found["symbol"], found["session"], strict=True))
    assert {(s, pd.Timestamp(d)) for s, d in zip(empty["symbol"], empty["date"], strict=True)} <= named
