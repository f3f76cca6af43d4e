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
