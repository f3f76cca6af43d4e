"""A source's answer compared with the stored bars: no finding on correct data, and seven distinguished faults."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.market.calendar import Calendar
from pipeline.market.corporate_actions import Adjustment, as_traded
from pipeline.prices.ingest.discrepancies import (
    find_jumps,
    find_overlap_faults,
    find_revisions,
    find_split_faults,
)
from pipeline.prices.ingest.quality import check
from pipeline.sources import Fetched
from tests.conftest import NOW, prices_of, random_bars, vendor_bars

N = 16
ALL = frozenset("AB")


@pytest.fixture
def stored(xnys: Calendar) -> pd.DataFrame:
    """Return sixteen stored, settled bars of A."""
    return prices_of({"A": random_bars(xnys.sessions[:N], 7)}, xnys)


def seen(stored: pd.DataFrame, factor: object, **columns: object) -> pd.DataFrame:
    """Return the same bars with the source's current closes."""
    return stored.assign(close=stored["close"] * np.asarray(factor, float), **columns)


def factors(**places: float) -> np.ndarray:
    factor = np.ones(N)
    for place, value in places.items():
        factor[int(place[1:])] = value
    return factor


def rule(stored: pd.DataFrame, now: pd.DataFrame) -> str:
    found = find_overlap_faults(stored, now, ALL)
    return "" if found.empty else str(found["rule"].item())


def test_equal_closes_and_single_precision_are_no_fault(stored: pd.DataFrame) -> None:
    assert rule(stored, stored) == ""
    assert rule(stored, seen(stored, stored["close"].astype("float32") / stored["close"])) == ""


@pytest.mark.parametrize("prefix", [2, 5, 15])
@pytest.mark.parametrize("ratio", [2.0, 0.5, 3.0, 0.1, 1.05])
def test_one_ratio_on_a_prefix_is_a_split_fault(stored: pd.DataFrame, prefix: int, ratio: float) -> None:
    factor = np.where(np.arange(N) < prefix, ratio, 1.0)
    found = find_overlap_faults(stored, seen(stored, factor), ALL)
    assert found["rule"].item() == "split fault"
    assert f"{prefix} of {N}" in found["detail"].item()
    assert found["session"].item() == stored["session"].iloc[0]


def test_a_split_applied_to_a_part_only_is_a_split_fault(stored: pd.DataFrame) -> None:
    assert rule(stored, seen(stored, factors(p6=0.5, p7=0.5, p8=0.5))) == "split fault"


@pytest.mark.parametrize("factor", [100.0, 0.01])
def test_pounds_given_as_pence_are_a_unit_fault(stored: pd.DataFrame, factor: float) -> None:
    assert rule(stored, seen(stored, np.full(N, factor))) == "unit fault"


def test_another_currency_is_a_fault_of_its_own(stored: pd.DataFrame) -> None:
    dollars = stored.assign(currency="USD")
    assert rule(dollars, dollars.assign(currency="EUR")) == "currency changed"
    assert rule(dollars, dollars.assign(currency=None)) == ""


def test_closes_of_another_company_are_symbol_reuse(stored: pd.DataFrame, xnys: Calendar) -> None:
    other = prices_of({"A": random_bars(xnys.sessions[:N], 8)}, xnys)
    assert rule(stored, other) == "symbol reuse"


def test_a_few_revised_closes_are_no_fault_and_are_named(stored: pd.DataFrame) -> None:
    now = seen(stored, factors(p13=1.002, p15=0.97))
    assert rule(stored, now) == ""
    found = find_revisions(stored, now)
    assert found["session"].tolist() == [stored["session"][13], stored["session"][15]]


def test_one_close_moved_further_than_any_revision_is_a_jump(stored: pd.DataFrame) -> None:
    assert rule(stored, seen(stored, factors(p4=1.5))) == "leap"


def test_a_dividend_of_a_vendor_who_adjusts_closes_for_it_is_no_fault_where_the_whole_history_is_there(
    stored: pd.DataFrame,
) -> None:
    now = seen(stored, np.where(np.arange(N) < 12, 0.99, 1.0), adjustment="split+dividend")
    assert rule(stored, now) == ""
    assert find_revisions(stored, now).empty
    part = find_overlap_faults(stored, now, frozenset())
    assert part["rule"].tolist() == ["split fault"]
    half = seen(stored, np.where(np.arange(N) < 12, 0.5, 1.0), adjustment="split+dividend")
    assert rule(stored, half) == "split fault"


def test_closes_in_whole_cents_may_lose_their_rounding_with_a_split(stored: pd.DataFrame) -> None:
    cents = stored.assign(close=stored["close"].round(2))
    printed = (cents["close"] / 3).round(2)
    now = cents.assign(close=printed * 3, vendor_close=printed)
    assert ((now["close"] / cents["close"] - 1).abs() > 2e-5).any()
    assert rule(cents, now) == ""
    late = cents.assign(close=printed, vendor_close=printed)
    assert rule(cents, late) == "split fault"


def test_one_small_revision_of_a_young_listing_is_no_symbol_reuse(stored: pd.DataFrame) -> None:
    young = stored.head(2)
    assert rule(young, young.assign(close=young["close"] * [1.0005, 1.0])) == ""
    assert rule(young, young.assign(close=young["close"] * [1.5, 1.0])) == "leap"


def test_provisional_closes_do_not_decide_where_settled_ones_can(stored: pd.DataFrame) -> None:
    last = stored.index == N - 1
    half_open = stored.assign(status=np.where(last, "provisional", "settled"))
    assert rule(half_open, seen(stored, factors(p15=1.5))) == ""
    all_open = stored.assign(status="provisional")
    assert rule(all_open, seen(stored, factors(p15=1.5))) == "leap"


def test_a_symbol_without_an_overlap_has_nothing_to_contradict(stored: pd.DataFrame) -> None:
    assert find_overlap_faults(stored.head(0), stored, ALL).empty


def test_an_answer_without_a_session_in_common_with_the_store_is_symbol_reuse(
    stored: pd.DataFrame,
) -> None:
    found = find_overlap_faults(stored.head(8), stored.tail(8), ALL)
    assert found[["session", "rule"]].values.tolist() == [[stored["session"][8], "symbol reuse"]]


def test_the_fault_of_one_symbol_leaves_the_others_alone(xnys: Calendar) -> None:
    both = prices_of({s: random_bars(xnys.sessions[:N], k) for k, s in enumerate("AB")}, xnys)
    now = both.assign(close=both["close"] * np.where(both["symbol"] == "B", 100, 1))
    assert find_overlap_faults(both, now, ALL)[["symbol", "rule"]].values.tolist() == [["B", "unit fault"]]


def test_an_action_listed_late_is_a_revision(stored: pd.DataFrame) -> None:
    now = stored.assign(dividend=np.where(stored.index == 12, 0.5, 0.0))
    assert find_revisions(stored, now)["detail"].tolist() == ["dividend 0 is now 0.5"]


def test_a_new_close_that_jumps_without_a_listed_split_is_a_fault_until_it_has_lasted_five_sessions(
    stored: pd.DataFrame,
) -> None:
    fallen = seen(stored, np.where(np.arange(N) >= 10, 0.5, 1.0))
    doubted = [len(find_jumps(stored.head(10), fallen.head(count))) for count in range(10, N + 1)]
    assert doubted == [0, 1, 1, 1, 1, 1, 0]
    found = find_jumps(stored.head(10), fallen.head(11))
    assert found[["session", "rule"]].values.tolist() == [[stored["session"][10], "unexplained leap"]]
    listed = fallen.assign(split=np.where(np.arange(N) == 10, 2.0, 1.0))
    assert find_jumps(stored.head(10), listed).empty


def test_a_huge_listed_dividend_explains_a_jump(stored: pd.DataFrame) -> None:
    place = np.arange(N) == 12
    cash = np.where(place, stored["close"].shift() * 0.6, 0.0)
    paid = seen(stored, np.where(np.arange(N) >= 12, 0.4, 1.0), dividend=cash)
    assert find_jumps(stored.head(12), paid).empty
    assert len(find_jumps(stored.head(12), paid.assign(dividend=0.0))) == 1


def test_stored_closes_and_earlier_ones_of_a_history_seen_for_the_first_time_may_jump(
    stored: pd.DataFrame,
) -> None:
    fallen = seen(stored, np.where(np.arange(N) >= 14, 0.5, 1.0))
    assert find_jumps(fallen, fallen).empty
    for known in (stored.head(0), stored.assign(symbol="B")):
        assert find_jumps(known, fallen).empty
        assert find_jumps(known, fallen, stored["session"][15]).empty
        found = find_jumps(known, fallen, stored["session"][11])
        assert found[["session", "rule"]].values.tolist() == [[stored["session"][14], "unexplained leap"]]
    earlier = seen(stored, np.where(np.arange(N) >= 10, 0.5, 1.0))
    assert find_jumps(stored.head(0), earlier, stored["session"][0]).empty  # it has lasted


def test_the_way_back_from_a_stored_spike_is_no_jump(stored: pd.DataFrame) -> None:
    spiked = seen(stored, factors(p14=0.1))
    assert find_jumps(stored.head(0), spiked, stored["session"][11]).empty
    assert find_jumps(spiked.head(15), spiked).empty
    assert len(find_jumps(spiked.head(14), spiked)) == 1


def answered(
    xnys: Calendar, close: "np.ndarray", split: "np.ndarray", adjustment: Adjustment
) -> pd.DataFrame:
    bars = vendor_bars(xnys.sessions[: len(close)], close, split=split)
    fetched = Fetched("A", "ok", NOW, bars=bars, adjustment=adjustment)
    return check([fetched], xnys, pd.Timestamp("2018-12-31"), source="test", historical=True).prices


@pytest.mark.parametrize("adjustment", ["split", "raw"])
def test_a_listed_split_that_the_closes_do_not_show_is_a_fault(
    xnys: Calendar, adjustment: Adjustment
) -> None:
    level, split = 100 + np.arange(20.0), np.where(np.arange(20) == 10, 2.0, 1.0)
    halved = np.where(np.arange(20) >= 10, level / 2, level)
    right, wrong = (level, halved) if adjustment == "split" else (halved, level)
    assert find_split_faults(answered(xnys, right, split, adjustment)).empty
    found = find_split_faults(answered(xnys, wrong, split, adjustment))
    assert found[["session", "rule"]].values.tolist() == [[xnys.sessions[10], "split fault"]]


def test_a_wild_day_is_no_late_split_of_three_for_two(xnys: Calendar) -> None:
    split = np.where(np.arange(20) == 10, 1.5, 1.0)
    fell = np.where(np.arange(20) >= 10, 100 * np.exp(-0.28), 100.0)  # adjusted for the split, and a bad day
    assert find_split_faults(answered(xnys, fell, split, "split")).empty


def test_a_split_listed_on_two_days_is_a_fault(xnys: Calendar) -> None:
    split = np.where(np.isin(np.arange(20), [10, 11]), 2.0, 1.0)
    found = find_split_faults(answered(xnys, np.full(20, 50.0), split, "split"))
    assert "twice" in found["detail"].item()


def test_two_splits_a_year_apart_are_none(xnys: Calendar) -> None:
    split = np.where(np.isin(np.arange(300), [10, 280]), 2.0, 1.0)
    assert find_split_faults(answered(xnys, np.full(300, 50.0), split, "split")).empty


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    day=st.integers(2, N - 1),
    ratio=st.sampled_from([2.0, 3.0, 1.5, 0.1, 0.05, 7.0]),
    seed=st.integers(0, 10**6),
    fault=st.sampled_from(["none", "event late", "prices late"]),
)
def test_a_split_on_any_day_is_healthy_when_events_and_prices_agree_and_a_fault_else(
    xnys: Calendar, day: int, ratio: float, seed: int, fault: str
) -> None:
    # What traded; the vendor's answer is made by hand: earlier prices divided by the ratio, as float32.
    traded = random_bars(xnys.sessions[:N], seed)
    after = np.arange(N) >= day
    for name in ("open", "high", "low", "close"):
        traded[name] = traded[name] / np.where(after, ratio, 1.0)
    stored = traded[["session", "close"]].assign(symbol="A", status="settled", currency=None).head(day)
    shown = traded.copy()
    if fault != "prices late":
        for name in ("open", "high", "low", "close"):
            shown[name] = (traded[name] / np.where(after, 1.0, ratio)).astype("float32").astype(float)
    if fault != "event late":
        shown["split"] = np.where(np.arange(N) == day, ratio, 1.0)
    now = as_traded(shown, "split").assign(symbol="A", currency=None, adjustment="split")
    now["vendor_close"] = shown["close"]
    expected = "" if fault == "none" else "split fault"
    assert rule(stored, now) == expected
