"""Stored bars as a source: each as it was known at the clock, and before its first observation as first observed."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.market.calendar import Calendar
from pipeline.prices.store import PriceStore
from pipeline.prices.stored_source import StoredSource
from tests.conftest import prices_of, random_bars

FIRST, LATER = datetime(2018, 12, 1, tzinfo=UTC), datetime(2018, 12, 20, tzinfo=UTC)


@pytest.fixture
def stored(tmp_path: Path, xnys: Calendar) -> tuple[StoredSource, pd.DataFrame]:
    """Return the source of a store whose last bar before FIRST was revised at LATER, and the bars as first stored."""
    sessions = xnys.sessions_between(pd.Timestamp("2018-10-01"), pd.Timestamp("2018-11-30"))
    bars = random_bars(sessions, 1)
    store = PriceStore(tmp_path / "store")
    store.append(prices_of({"A": bars}, xnys, FIRST), run="one")
    revised = bars.copy()
    revised.loc[len(bars) - 1, ["open", "high", "low", "close"]] *= 1.1
    store.append(prices_of({"A": revised}, xnys, LATER), run="two")
    return StoredSource(store), bars


def fetch(source: StoredSource, now: datetime) -> pd.DataFrame:
    answer = source.fetch("A", pd.Timestamp("2018-10-01"), pd.Timestamp("2018-11-30"), now)
    assert (answer.outcome, answer.adjustment, answer.observed_at) == ("ok", "raw", now)
    return answer.bars


def test_a_revision_is_known_from_its_observation_on(stored: tuple[StoredSource, pd.DataFrame]) -> None:
    source, bars = stored
    names = ["session", "open", "high", "low", "close", "volume", "dividend", "split"]
    for now in (FIRST - timedelta(days=30), FIRST, LATER - timedelta(seconds=1)):
        pd.testing.assert_frame_equal(fetch(source, now)[names], bars[names])
    after = fetch(source, LATER)
    assert after["close"].iloc[-1] == pytest.approx(bars["close"].iloc[-1] * 1.1)
    np.testing.assert_array_equal(after["close"].iloc[:-1], bars["close"].iloc[:-1])


def test_only_the_sessions_asked_for_are_given(stored: tuple[StoredSource, pd.DataFrame]) -> None:
    source, _ = stored
    first, last = pd.Timestamp("2018-10-08"), pd.Timestamp("2018-10-12")
    answer = source.fetch("A", first, last, LATER)
    assert (answer.bars["session"].min(), answer.bars["session"].max()) == (first, last)
    assert source.symbols() == ["A"]
    assert source.fetch("B", first, last, LATER).outcome == "not_found"
    assert source.fetch("A", pd.Timestamp("2019-01-02"), pd.Timestamp("2019-01-03"), LATER).outcome == "empty"
