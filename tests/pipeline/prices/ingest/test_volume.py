"""A volume of 0 on every bar is one that the source does not report; among others it is a day without trades."""

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from pipeline.prices.ingest.volume import blank_unreported
from pipeline.prices.revisions import find_changes
from pipeline.schema import PRICES, empty
from pipeline.sources import Fetched, no_bars

DAYS = pd.bdate_range("2024-03-04", periods=5).astype("datetime64[us]")
NAN = np.nan


def fetched(volume: list[float], symbol: str = "FUND") -> Fetched:
    columns = dict.fromkeys(("open", "high", "low", "close", "adj_close"), 10.0) | {
        "dividend": 0.0,
        "split": 1.0,
    }
    bars = pd.DataFrame({"session": DAYS[: len(volume)]}).assign(**columns, volume=volume)
    return Fetched(symbol, "ok", datetime(2024, 4, 1, tzinfo=UTC), bars=bars[no_bars().columns])


def stored(volume: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"symbol": "FUND", "volume": volume})


@pytest.mark.parametrize("volume", [[0.0] * 5, [0.0, NAN, 0.0, 0.0, NAN], [NAN] * 5])
def test_a_whole_history_without_any_volume_has_none_reported(volume: list[float]) -> None:
    found = blank_unreported([fetched(volume)], {"FUND"})
    assert found.answers[0].bars["volume"].isna().all()
    assert found.unreported == ["FUND"]


@pytest.mark.parametrize("volume", [[0.0, 0, 0, 0, 7], [0.0, NAN, 3, 0, 0]])
def test_a_single_volume_shows_that_zeros_are_real(volume: list[float]) -> None:
    answer = fetched(volume)
    found = blank_unreported([answer], {"FUND"})
    assert found.answers == [answer]
    assert found.unreported == []


@pytest.mark.parametrize(
    ("before", "is_blank"), [([NAN, NAN], True), ([0.0, 0.0], False), ([5.0, NAN], False)]
)
def test_part_of_a_history_follows_the_stored_bars(before: list[float], is_blank: bool) -> None:
    found = blank_unreported([fetched([0.0, 0.0])], frozenset(), stored(before))
    assert found.answers[0].bars["volume"].isna().all() == is_blank


def test_a_volume_that_begins_later_is_kept() -> None:
    found = blank_unreported([fetched([0.0, 9.0])], frozenset(), stored([NAN, NAN]))
    assert found.answers[0].bars["volume"].tolist() == [0.0, 9.0]


@pytest.mark.parametrize(
    ("before", "after", "is_material"), [(0.0, NAN, False), (7.0, NAN, True), (NAN, 7.0, True)]
)
def test_a_stored_zero_that_becomes_unreported_is_no_revision_to_look_at(
    before: float, after: float, is_material: bool
) -> None:
    row = dict.fromkeys(("open", "high", "low", "close", "split"), 1.0) | {"dividend": 0.0, "currency": "USD"}
    row |= {
        "symbol": "FUND",
        "instrument_id": "FUND",
        "session": DAYS[0],
        "status": "settled",
        "source": "made",
    }
    versions = pd.DataFrame([row | {"seq": 1, "volume": before}, row | {"seq": 2, "volume": after}])
    missing = {name: None for name in empty(PRICES).columns if name not in versions}
    assert find_changes(versions.assign(**missing))["is_material"].tolist() == [is_material]
