"""Reconciliation: which bars are stored, which symbols go into quarantine, and how they leave it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.market.calendar import Calendar
from pipeline.prices.ingest.fetch_log import QuarantineEntry
from pipeline.prices.ingest.reconciliation import COMPARED_COLUMNS, Reconciliation, reconcile
from pipeline.prices.store import PriceStore
from tests.conftest import prices_of, random_bars


@pytest.fixture
def before(xnys: Calendar) -> pd.DataFrame:
    return prices_of({s: random_bars(xnys.sessions[:20], k) for k, s in enumerate("AB")}, xnys)


@pytest.fixture
def store(tmp_path: Path, before: pd.DataFrame) -> PriceStore:
    store = PriceStore(tmp_path / "prices" / "u")
    store.append(before[before["session"] < before["session"].max()], run="r")
    return store


def halved(before: pd.DataFrame) -> pd.DataFrame:
    """Return the bars of a vendor that has adjusted its prices for a split of A without listing it."""
    part = (before["symbol"] == "A") & (before["session"] < before["session"].iloc[12])
    prices = ["open", "high", "low", "close"]
    return before.assign(**{name: before[name].where(~part, before[name] / 2) for name in prices})


def reconciled(
    store: PriceStore, prices: pd.DataFrame, entries: dict[str, QuarantineEntry]
) -> Reconciliation:
    """Reconcile whole histories."""
    return reconcile(
        store, prices, store.read(columns=COMPARED_COLUMNS), entries, frozenset(prices["symbol"])
    )


def new_entries(found: Reconciliation) -> dict[str, QuarantineEntry]:
    return {each.instrument_id: each for each in found.quarantined}


def test_of_consistent_bars_only_the_new_ones_are_stored(store: PriceStore, before: pd.DataFrame) -> None:
    found = reconciled(store, before, {})
    assert found.new[["symbol", "session"]].values.tolist() == [
        ["A", before["session"].max()],
        ["B", before["session"].max()],
    ]
    assert (found.quarantined, found.ended, found.findings.empty) == ([], [], True)


def test_a_contradiction_quarantines_its_symbol_and_no_bar_of_it_is_stored(
    store: PriceStore, before: pd.DataFrame
) -> None:
    found = reconciled(store, halved(before), {})
    assert found.new["symbol"].tolist() == ["B"]
    assert [(e.symbol, e.rule) for e in found.quarantined] == [("A", "split fault")]
    assert found.findings["rule"].tolist() == ["quarantine: split fault"]
    assert found.quarantined[0].since == before["observed_at"].iloc[0]


def test_a_quarantined_symbol_gets_no_second_entry_but_a_finding_each_time(
    store: PriceStore, before: pd.DataFrame
) -> None:
    entries = new_entries(reconciled(store, halved(before), {}))
    again = reconciled(store, halved(before), entries)
    assert (again.quarantined, again.ended, again.new["symbol"].tolist()) == ([], [], ["B"])
    assert again.findings["rule"].tolist() == ["quarantine: split fault"]


def test_agreement_with_the_stored_bars_ends_the_quarantine(store: PriceStore, before: pd.DataFrame) -> None:
    entries = new_entries(reconciled(store, halved(before), {}))
    found = reconciled(store, before, entries)
    assert [e.symbol for e in found.ended] == ["A"]
    assert found.new["symbol"].tolist() == ["A", "B"]


def test_a_symbol_released_by_the_user_is_stored_as_the_source_gives_it(
    store: PriceStore, before: pd.DataFrame
) -> None:
    entries = {
        k: replace(e, is_released=True) for k, e in new_entries(reconciled(store, halved(before), {})).items()
    }
    found = reconciled(store, halved(before), entries)
    assert [e.symbol for e in found.ended] == ["A"]
    assert found.new["symbol"].value_counts().to_dict() == {"A": 13, "B": 1}
    assert set(found.findings["rule"]) == {"revised"}
    store.append(found.new, run="r")
    now, then = (store.read(symbols=["A"], seq=seq)["close"].to_numpy() for seq in (2, 1))
    assert now[:12] == pytest.approx(then[:12] / 2)
    assert np.array_equal(now[12:19], then[12:])


def test_a_renamed_listing_is_compared_under_its_new_name_with_its_old_bars(
    tmp_path: Path, before: pd.DataFrame
) -> None:
    store = PriceStore(tmp_path / "prices" / "u", current={"A": "NEW"})
    store.append(before[before["session"] < before["session"].max()], run="r")
    renamed = before.assign(symbol=before["symbol"].replace({"A": "NEW"}))
    found = reconciled(store, renamed, {})
    assert found.new[["symbol", "instrument_id"]].values.tolist() == [["NEW", "A"], ["B", "B"]]
    wrong = reconciled(store, halved(before).assign(symbol=renamed["symbol"]), {})
    assert [(e.symbol, e.instrument_id) for e in wrong.quarantined] == [("NEW", "A")]


PRICES = ["open", "high", "low", "close"]


def scaled(bars: pd.DataFrame, factor: float, *places: int) -> pd.DataFrame:
    """Return the bars with those of A at these places at `factor` times their price."""
    part = (bars["symbol"] == "A") & bars["session"].isin(bars["session"].unique()[list(places)])
    return bars.assign(**{name: bars[name].where(~part, bars[name] * factor) for name in PRICES})


FAULTS = {
    "a wrong bar": ((0.1, 8), "spike"),
    "pence for pounds": ((104.0, *range(9)), "unit fault"),
    "a split that is not listed": ((4.0, *range(12)), "unexplained leap"),
}


@pytest.mark.parametrize("fault", list(FAULTS))
def test_a_leap_of_a_first_history_is_named_once_and_its_correction_comes_in(
    tmp_path: Path, before: pd.DataFrame, fault: str
) -> None:
    (factor, *places), rule = FAULTS[fault]
    store = PriceStore(tmp_path / "prices" / "first")
    wrong = scaled(before, factor, *places)
    found = reconciled(store, wrong, {})
    assert found.findings[["symbol", "rule"]].values.tolist() == [["A", rule]]
    assert (len(found.new), found.quarantined) == (40, [])
    store.append(found.new, run="r")
    assert reconciled(store, wrong, {}).findings.empty
    corrected = reconciled(store, before, {})
    assert (corrected.quarantined, corrected.ended) == ([], [])
    assert set(corrected.findings["rule"]) == {"revised"}
    assert len(corrected.new) == len(places)
    store.append(corrected.new, run="r")
    again = reconciled(store, wrong, {})  # the other way round it is a contradiction
    assert [e.symbol for e in again.quarantined] == ["A"]


def test_a_correction_that_brings_another_leap_is_none(tmp_path: Path, before: pd.DataFrame) -> None:
    store = PriceStore(tmp_path / "prices" / "first")
    store.append(reconciled(store, scaled(before, 0.1, 8), {}).new, run="r")
    assert [e.symbol for e in reconciled(store, scaled(before, 0.1, 11), {}).quarantined] == ["A"]


def test_of_a_first_history_that_ends_in_a_leap_the_bars_before_it_are_stored(
    tmp_path: Path, before: pd.DataFrame
) -> None:
    store, days = PriceStore(tmp_path / "prices" / "first"), before["session"].unique()
    fallen = scaled(before, 0.1, *range(17, 20))
    whole, nothing = frozenset("AB"), store.read(columns=COMPARED_COLUMNS)
    found = reconcile(store, fallen, nothing, {}, whole, doubtful_from=days[15])
    assert [(e.symbol, e.rule) for e in found.quarantined] == [("A", "unexplained leap")]
    assert found.findings["rule"].tolist() == ["quarantine: unexplained leap"]
    assert found.new["symbol"].value_counts().to_dict() == {"B": 20, "A": 17}
    store.append(found.new, run="r")
    corrected = reconciled(store, before, new_entries(found))
    assert [e.symbol for e in corrected.ended] == ["A"]
    assert corrected.new["symbol"].tolist() == ["A"] * 3
    past = reconcile(PriceStore(tmp_path / "prices" / "past"), fallen, nothing, {}, whole)
    assert (len(past.new), past.quarantined) == (40, [])


@pytest.mark.parametrize("factor", [0.74, 0.01, 1.5])
def test_a_calm_leap_of_the_newest_bar_is_held_until_it_has_lasted(
    xnys: Calendar, tmp_path: Path, factor: float
) -> None:
    store = PriceStore(tmp_path / "prices" / "first")
    bars = prices_of({"A": random_bars(xnys.sessions[:60], 1)}, xnys)
    days = bars["session"].unique()
    fallen, entries = scaled(bars, factor, *range(50, 60)), dict[str, QuarantineEntry]()
    for newest in range(50, 55):
        seen = fallen[fallen["session"] <= days[newest]]
        found = reconcile(
            store,
            seen,
            store.read(columns=COMPARED_COLUMNS),
            entries,
            frozenset("A"),
            doubtful_from=days[newest - 4],
        )
        assert len(found.new) == (50 if newest == 50 else 0)
        assert found.findings["rule"].str.startswith("quarantine: ").all()
        entries |= new_entries(found)
        store.append(found.new, run="r")
    lasted = reconcile(
        store, fallen, store.read(columns=COMPARED_COLUMNS), entries, frozenset("A"), doubtful_from=days[55]
    )
    is_unit = factor == 0.01
    assert [e.symbol for e in lasted.ended] == ([] if is_unit else ["A"])
    assert len(lasted.new) == (0 if is_unit else 10)


@pytest.mark.parametrize("factor", [0.1, 0.01])
def test_a_wrong_bar_in_a_first_history_is_stored_and_named_by_whatever_factor(
    tmp_path: Path, before: pd.DataFrame, factor: float
) -> None:
    store, days = PriceStore(tmp_path / "prices" / "first"), before["session"].unique()
    found = reconcile(
        store,
        scaled(before, factor, 8),
        store.read(columns=COMPARED_COLUMNS),
        {},
        frozenset("AB"),
        doubtful_from=days[15],
    )
    assert (len(found.new), found.quarantined) == (40, [])
    assert found.findings["symbol"].tolist() == ["A"]
