from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.market.calendar import Calendar
from pipeline.prices.delta_table import StoreFiles
from pipeline.prices.recent_bars import RecentBars
from pipeline.prices.store import PriceStore
from tests.conftest import NOW, prices_of, vendor_bars

WEEK = pd.DatetimeIndex(["2018-12-28", "2018-12-31", "2019-01-02", "2019-01-03"])
SYMBOLS = ["A", "B", "NEW", "GONE"]


def rows(xnys: Calendar, symbol: str, closes: list[float], days: float) -> pd.DataFrame:
    """Return bars of the first sessions, observed so many days after NOW."""
    given = prices_of({symbol: vendor_bars(WEEK[: len(closes)], np.array(closes))}, xnys)
    return given.assign(observed_at=given["observed_at"] + timedelta(days=days))


@pytest.fixture
def store(tmp_path: Path, xnys: Calendar) -> PriceStore:
    store = PriceStore(tmp_path / "prices" / "u", {"OLD": "NEW"})
    store.append(rows(xnys, "A", [10, 11, 12], 0), run="r")
    store.append(rows(xnys, "OLD", [5, 6], 0), run="r")
    later = rows(xnys, "A", [10, 11, 12.5, 13], 1).assign(status="provisional").astype({"status": "str"})
    store.append(later[2:], run="r")
    store.append(rows(xnys, "B", [20, 21, 22, 23], 2)[2:], run="r")
    return store


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    calls: list[str] = []
    for name in ("rows", "batches"):
        read = getattr(StoreFiles, name)

        def counting(*given, read=read, name=name):  # type: ignore[no-untyped-def]
            calls.append(name)
            return read(*given)

        monkeypatch.setattr(StoreFiles, name, counting)
    return calls


def test_recent_bars_are_those_of_the_store_and_read_once(store: PriceStore, reads: list[str]) -> None:
    bars = RecentBars(store, WEEK[1], WEEK[3], store.seq())
    answers = (
        bars.read(WEEK[3], since=WEEK[1], symbols=SYMBOLS, columns=["status"]),
        bars.read(WEEK[2], store.seq(), since=WEEK[2], symbols=["B", "A"], columns=[]),
        bars.latest("session", WEEK[3], symbols=SYMBOLS),
        bars.latest("session", WEEK[2], store.seq(), symbols=["NEW"]),
        bars.latest("observed_at", WEEK[3], symbols=SYMBOLS),
        bars.read_block(WEEK[1:], ["B", "NEW", "A"], store.seq()).values,
    )
    assert reads == ["batches"]
    pd.testing.assert_frame_equal(
        answers[0], store.read(WEEK[3], since=WEEK[1], symbols=SYMBOLS, columns=["status"])
    )
    pd.testing.assert_frame_equal(
        answers[1], store.read(WEEK[2], since=WEEK[2], symbols=["B", "A"], columns=[])
    )
    assert answers[2:4] == (WEEK[3], WEEK[1])
    assert answers[4] == pd.Timestamp(NOW) + timedelta(days=2)
    np.testing.assert_array_equal(
        answers[5], store.read_block(WEEK[1:], ["B", "NEW", "A"], store.seq()).values
    )


def test_what_lies_outside_of_the_recent_bars_is_read_from_the_store(
    store: PriceStore, reads: list[str]
) -> None:
    bars = RecentBars(store, WEEK[2], WEEK[3], store.seq())
    del reads[:]
    older = bars.read(WEEK[3], since=WEEK[0], symbols=["A"], columns=["status"])
    whole = bars.read(WEEK[3], symbols=["A"], columns=["status"])
    prices = bars.read(WEEK[3], since=WEEK[2], symbols=["A"], columns=["close"])
    former = bars.read(WEEK[3], 1, since=WEEK[2], symbols=["A"], columns=["status"])
    assert [len(older), len(whole), prices["close"].tolist()] == [4, 4, [12.5, 13]]
    assert former["status"].tolist() == ["settled"]
    assert bars.read_block(WEEK, ["A"], 1)["close"][:, 0].tolist()[:3] == [10, 11, 12]
    assert bars.latest("session", WEEK[3], symbols=["NEW"]) == WEEK[1]
    assert bars.latest("session", WEEK[3], symbols=["GONE"]) is None
    assert len(reads) == 7


def test_an_older_bar_that_was_observed_later_is_found(
    store: PriceStore, xnys: Calendar, reads: list[str]
) -> None:
    revised = rows(xnys, "A", [9], 5)
    store.append(revised, run="r")
    bars = RecentBars(store, WEEK[2], WEEK[3], store.seq())
    del reads[:]
    assert bars.latest("observed_at", WEEK[3], symbols=SYMBOLS) == pd.Timestamp(NOW) + timedelta(days=5)
    assert reads == ["rows"]
    assert bars.latest("observed_at", WEEK[3], symbols=["B"]) == pd.Timestamp(NOW) + timedelta(days=2)


def test_the_time_of_the_newest_observation_has_a_bound_that_needs_no_reading(
    store: PriceStore, reads: list[str]
) -> None:
    newest = store.observed_at()
    del reads[:]
    bound = store.observed_by()
    assert not reads
    assert bound is not None
    assert newest is not None
    assert newest < bound <= newest + timedelta(milliseconds=1)
    assert PriceStore(store.folder.with_name("none")).observed_by() == pd.Timestamp(0, tz="UTC")
    assert store.newest_session() == WEEK[3]
    assert PriceStore(store.folder.with_name("none")).newest_session() is None


def test_an_empty_store_has_no_recent_bars(tmp_path: Path) -> None:
    empty = PriceStore(tmp_path / "prices" / "u")
    bars = RecentBars(empty, WEEK[0], WEEK[3], 0)
    assert bars.latest("session", WEEK[3], symbols=["A"]) is None
    assert bars.read(WEEK[3], since=WEEK[0], symbols=["A"], columns=["status"]).empty
    assert np.isnan(bars.read_block(WEEK, ["A"], 0).values).all()


@pytest.mark.slow
def test_rows_selected_at_the_present_version_are_not_compared_again(
    store: PriceStore, xnys: Calendar, reads: list[str]
) -> None:
    given = rows(xnys, "B", [20, 21, 22, 23], 3)
    seq, stored = store.seq(), store.read(symbols=["B"])
    new = store.select_new(given, stored)
    del reads[:]
    assert store.append(new, run="r", selected_at=seq) == 2
    assert not reads
    # Something was appended since: what was new then is compared with it.
    assert store.append(new, run="r", selected_at=seq) == 0
