"""Who enters the store and who goes to quarantine, and how one gets out of it again."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.market.calendar import Calendar
from pipeline.prices.ingest.fetch_log import QuarantineEntry
from pipeline.prices.ingest.reconciliation import STANDING, Reconciliation, reconcile
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
    """Return the bars as a vendor gives them whose split of A is in its prices, and not in its list."""
    part = (before["symbol"] == "A") & (before["session"] < before["session"].iloc[12])
    prices = ["open", "high", "low", "close"]
    return before.assign(**{name: before[name].where(~part, before[name] / 2) for name in prices})


def admitted(store: PriceStore, prices: pd.DataFrame, holds: dict[str, QuarantineEntry]) -> Reconciliation:
    """Admit whole histories."""
    return reconcile(store, prices, store.read(columns=STANDING), holds, frozenset(prices["symbol"]))


def hold(found: Reconciliation) -> dict[str, QuarantineEntry]:
    return {each.instrument_id: each for each in found.held}


def test_healthy_bars_come_in_and_only_what_is_new(store: PriceStore, before: pd.DataFrame) -> None:
    found = admitted(store, before, {})
    assert found.new[["symbol", "session"]].values.tolist() == [
        ["A", before["session"].max()],
        ["B", before["session"].max()],
    ]
    assert (found.held, found.ended, found.findings.empty) == ([], [], True)


def test_a_contradiction_holds_its_symbol_and_no_bar_of_it_is_stored(
    store: PriceStore, before: pd.DataFrame
) -> None:
    found = admitted(store, halved(before), {})
    assert found.new["symbol"].tolist() == ["B"]
    assert [(h.symbol, h.rule) for h in found.held] == [("A", "split fault")]
    assert found.findings["rule"].tolist() == ["quarantine: split fault"]
    assert found.held[0].since == before["observed_at"].iloc[0]


def test_who_is_held_is_not_held_again_and_is_said_every_evening(
    store: PriceStore, before: pd.DataFrame
) -> None:
    holds = hold(admitted(store, halved(before), {}))
    again = admitted(store, halved(before), holds)
    assert (again.held, again.ended, again.new["symbol"].tolist()) == ([], [], ["B"])
    assert again.findings["rule"].tolist() == ["quarantine: split fault"]


def test_agreement_with_what_is_stored_ends_a_hold(store: PriceStore, before: pd.DataFrame) -> None:
    holds = hold(admitted(store, halved(before), {}))
    found = admitted(store, before, holds)
    assert [h.symbol for h in found.ended] == ["A"]
    assert found.new["symbol"].tolist() == ["A", "B"]


def test_who_was_released_by_a_person_is_taken_as_the_source_gives_it(
    store: PriceStore, before: pd.DataFrame
) -> None:
    holds = {k: replace(h, is_released=True) for k, h in hold(admitted(store, halved(before), {})).items()}
    found = admitted(store, halved(before), holds)
    assert [h.symbol for h in found.ended] == ["A"]
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
    found = admitted(store, renamed, {})
    assert found.new[["symbol", "instrument_id"]].values.tolist() == [["NEW", "A"], ["B", "B"]]
    wrong = admitted(store, halved(before).assign(symbol=renamed["symbol"]), {})
    assert [(h.symbol, h.instrument_id) for h in wrong.held] == [("NEW", "A")]
