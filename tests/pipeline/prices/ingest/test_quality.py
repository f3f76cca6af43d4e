from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.features.feature_sets import FEATURE_SETS
from pipeline.market.calendar import Calendar
from pipeline.prices.ingest.discrepancies import find_revisions
from pipeline.prices.ingest.quality import check, find_dividend_mismatches, is_refusal
from pipeline.sources import Fetched
from pipeline.sources.files import FilesSource
from tests.conftest import NOW, laid_out, prices_of, random_bars, vendor_bars

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
    assert (WEEK[3], "volume: it cannot be negative") in named
    assert set(result.findings["symbol"]) == {"A"}
    assert result.prices["session"].tolist() == [WEEK[4]]


def test_a_row_without_prices_is_one_finding(xnys: Calendar) -> None:
    bars = vendor_bars(WEEK, [10.0, 10, 10, 10, 10])
    bars.loc[1, ["open", "high", "low", "close", "volume"]] = np.nan
    bars.loc[2, ["open", "close"]] = np.nan
    found = checked(bars, xnys).findings
    assert found[["session", "rule"]].values.tolist() == [
        [WEEK[1], "open, high, low, close: the value is missing"],
        [WEEK[2], "open, close: the value is missing"],
    ]


@pytest.mark.parametrize("adjusted", [np.inf, -np.inf, np.nan])
def test_an_adjusted_close_that_is_not_finite_costs_no_bar(xnys: Calendar, adjusted: float) -> None:
    bars = vendor_bars(WEEK, np.arange(5) + 10.0)
    bars["adj_close"] = bars["close"].where(bars.index > 2, adjusted)
    result = checked(bars, xnys)
    assert (len(result.prices), len(result.findings)) == (5, 0)
    assert result.prices["vendor_adj_close"].isna().tolist() == [True, True, True, False, False]


def test_what_a_source_found_itself_is_a_finding(xnys: Calendar) -> None:
    found = (WEEK[1], "action not read", "the split 1:0 is not read")
    answer = Fetched("A", "ok", NOW, bars=vendor_bars(WEEK, np.arange(5) + 10.0), findings=(found,))
    result = check([answer], xnys, LATER, source="test", historical=True)
    assert result.findings.values.tolist() == [["A", *found]]


def test_negative_prices_are_kept_out(xnys: Calendar) -> None:
    result = checked(vendor_bars(WEEK, [10.0, -10, 10, 10, 10]), xnys)
    assert WEEK[1] not in set(result.prices["session"])
    assert "close: it must be above zero" in set(result.findings["rule"])


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


@pytest.mark.parametrize("fault", ["broken", "closed day"])
def test_the_split_of_a_bar_that_is_kept_out_is_not_lost(xnys: Calendar, fault: str) -> None:
    sessions, symbols = xnys.sessions[:120], ["A", "B", "C"]
    bars = {symbol: random_bars(sessions, seed) for seed, symbol in enumerate(symbols)}
    whole, last = bars["A"].copy(), len(sessions) - 1
    place = int(sessions.get_loc(pd.Timestamp("1999-05-24")))  # a Monday
    prices = ["open", "high", "low", "close"]
    bars["A"].loc[: place - 1, prices] *= 2  # as it traded before a 2-for-1 split
    bars["A"].loc[place, "split"] = 2.0
    if fault == "broken":
        bars["A"].loc[place, ["low", "high"]] = [110.0, 90.0]
    else:
        bars["A"].loc[place, "session"] -= pd.Timedelta(days=1)  # the vendor dates it on the Sunday
    answers = [Fetched(s, "ok", NOW, bars=rows, adjustment="raw") for s, rows in bars.items()]
    result = check(answers, xnys, LATER, source="test", historical=True)
    moved = result.findings[result.findings["rule"] == "action moved"]
    assert moved[["symbol", "session"]].values.tolist() == [["A", bars["A"]["session"][place]]]
    assert f"{sessions[place + 1]:%Y-%m-%d}" in moved["detail"].iloc[0]
    panel = laid_out(result.prices, sessions, symbols)
    true_return = whole["close"][last] / whole["close"][place - 1]
    assert panel.adj_close[last, 0] / panel.adj_close[place - 1, 0] == pytest.approx(true_return)
    columns = FEATURE_SETS["default16"].compute(panel, np.ones((120, 3), bool))
    assert columns["log_return_21"].loc[place + 1 :, 0].abs().max() < 0.2  # a lost split would be log 2


def test_an_action_with_no_later_bar_waits_for_one(xnys: Calendar) -> None:
    bars = vendor_bars(WEEK, [20.0, 20, 20, 20, 10], split=[1, 1, 1, 1, 2.0])
    bars.loc[4, "low"] = np.nan
    result = check([Fetched("A", "ok", NOW, bars=bars)], xnys, LATER, source="test", historical=True)
    assert "action moved" not in set(result.findings["rule"])
    assert (result.prices["split"] == 1).all()


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/Bogota", "Mars/Olympus"])
def test_a_symbol_of_another_exchanges_time_is_kept_out_whole(xnys: Calendar, zone: str) -> None:
    # Bogota keeps New York's winter time all year.
    days = xnys.sessions_between(pd.Timestamp("2018-01-02"), pd.Timestamp("2018-12-14"))
    bars = vendor_bars(days, np.full(len(days), 10.0))
    answers = [Fetched("7203.T", "ok", NOW, bars=bars, timezone=zone), Fetched("B", "ok", NOW, bars=bars)]
    result = check(answers, xnys, LATER, source="test", historical=True)
    assert set(result.prices["symbol"]) == {"B"}
    assert result.findings[["symbol", "rule"]].values.tolist() == [["7203.T", "wrong calendar"]]
    assert {zone, "America/New_York"} <= set(result.findings["detail"].iloc[0].replace(",", "").split())
    alone = check(answers[:1], xnys, LATER, source="test", historical=True)
    assert alone.prices.empty
    assert len(alone.findings) == 1


@pytest.mark.parametrize("zone", ["", "America/New_York", "US/Eastern", "America/Toronto"])
def test_another_name_of_the_same_time_is_no_fault(xnys: Calendar, zone: str) -> None:
    answer = Fetched("A", "ok", NOW, bars=vendor_bars(WEEK, [10.0] * 5), timezone=zone)
    assert check([answer], xnys, LATER, source="test", historical=True).findings.empty


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


def outside(closes: list[float]) -> pd.DataFrame:
    """Return bars that open at 10, trade from 9.9 to 10.1, and close anywhere."""
    bars = vendor_bars(WEEK[: len(closes)], np.full(len(closes), 10.0))
    return bars.assign(close=closes)


def test_a_close_or_open_a_little_outside_its_range_widens_it_and_is_named_once(xnys: Calendar) -> None:
    bars = outside([10.2, 10.0, 9.6, 10.0])
    bars.loc[3, "open"] = 9.89
    result = checked(bars, xnys)
    assert result.prices[["high", "low"]].values.tolist() == [
        [10.2, 9.9],
        [10.1, 9.9],
        [10.1, 9.6],
        [10.1, 9.89],
    ]
    assert result.prices["close"].tolist() == [10.2, 10.0, 9.6, 10.0]
    assert result.findings[["session", "rule"]].values.tolist() == [
        [WEEK[3], "open or close lies outside low..high"]
    ]
    assert "3 bars, by 3.03% at most" in result.findings["detail"].item()


def test_a_range_that_is_stored_already_is_not_named_again(xnys: Calendar) -> None:
    answer = Fetched("A", "ok", NOW, bars=outside([10.2, 10.0, 10.0]))
    stored = checked(outside([10.2]), xnys).prices
    result = check([answer], xnys, LATER, source="test", historical=True, stored=stored)
    assert result.findings.empty
    assert result.prices["high"].tolist() == [10.2, 10.1, 10.1]


@pytest.mark.parametrize("close", [10.7, 9.3, 100.0, 1.0])
def test_a_close_far_outside_its_range_is_kept_out(xnys: Calendar, close: float) -> None:
    result = checked(outside([10.0, close, 10.0]), xnys)
    assert "close lies outside low..high" in set(result.findings["rule"])
    assert result.prices["session"].tolist() == [WEEK[0], WEEK[2]]


def test_a_low_above_the_high_is_kept_out_however_little(xnys: Calendar) -> None:
    bars = outside([10.0, 10.0])
    bars.loc[1, ["low", "high"]] = [10.001, 10.0]
    assert len(checked(bars, xnys).prices) == 1


def test_adjusted_closes_of_two_answers_say_nothing_of_a_dividend(xnys: Calendar) -> None:
    early = vendor_bars(WEEK[:3], [10.0] * 3, adj_close=[10.0] * 3)
    paid = vendor_bars(WEEK, [10.0] * 5, adj_close=[9.9] * 4 + [10.0], dividend=[0, 0, 0, 0, 0.1])
    assert find_dividend_mismatches(prices_of({"A": paid}, xnys)).empty
    late = NOW + timedelta(days=1)
    rows = pd.concat(
        [prices_of({"A": early}, xnys), prices_of({"A": paid}, xnys, late).tail(2)], ignore_index=True
    )
    assert find_dividend_mismatches(rows).empty
    lost = paid.assign(dividend=0.0)
    assert find_dividend_mismatches(prices_of({"A": lost}, xnys))["session"].tolist() == [WEEK[4]]


def test_a_doubtful_dividend_is_named_when_its_bar_is_new(xnys: Calendar) -> None:
    bars = vendor_bars(WEEK, [400.0, 400.0, 392.0, 392.0, 392.0], dividend=[0, 0, 0.08, 0, 0])
    answer = Fetched("A", "ok", NOW, bars=bars, currency="GBp")
    first = check([answer], xnys, LATER, source="test", historical=True)
    assert first.findings[["session", "rule"]].values.tolist() == [[WEEK[2], "dividend in doubt"]]
    again = check([answer], xnys, LATER, source="test", historical=True, stored=first.prices)
    assert again.findings.empty


@pytest.mark.slow
def test_the_holes_of_the_real_panel_are_found(datasets: Path, xnys: Calendar) -> None:
    source = FilesSource(datasets / "sp500" / "prices.parquet", adjustment="auto", historical=True)
    raw = pd.read_parquet(datasets / "sp500" / "prices.parquet")
    empty = raw[raw[["open", "high", "low"]].isna().any(axis=1)]
    assert raw[["open", "high", "low"]].isna().sum().sum() == 12
    answers = [source.fetch(s, pd.Timestamp("2013-01-01"), LATER, NOW) for s in empty["symbol"].unique()]
    found = check(answers, xnys, LATER, source="files", historical=True).findings
    named = set(zip(found["symbol"], found["session"], strict=True))
    assert {(s, pd.Timestamp(d)) for s, d in zip(empty["symbol"], empty["date"], strict=True)} <= named


def test_only_a_rule_that_drops_its_row_is_a_refusal() -> None:
    rules = pd.Series(
        [
            "low lies above high",
            "close: it must be above zero",
            "high, low: the value is missing",
            "open or close lies outside low..high",
            "open: not given",
            "the open is 0, or outside low..high",
            "column not read",
            "action not read",
            "action moved",
            "second row",
        ]
    )
    assert is_refusal(rules).tolist() == [True] * 3 + [False] * 7
