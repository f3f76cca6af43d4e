from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from pipeline.errors import NextdayError, StoreError
from pipeline.market.calendar import Calendar
from pipeline.prices.bar_block import COLUMNS
from pipeline.prices.store import PriceStore
from tests.conftest import NOW, prices_of, vendor_bars

WEEK = pd.DatetimeIndex(["2018-12-28", "2018-12-31", "2019-01-02", "2019-01-03"])


@pytest.fixture
def store(tmp_path: Path) -> PriceStore:
    return PriceStore(tmp_path / "prices" / "u")


def rows(xnys: Calendar, closes: list[float], symbol: str = "A") -> pd.DataFrame:
    return prices_of({symbol: vendor_bars(WEEK[: len(closes)], np.array(closes))}, xnys)


def test_appended_rows_are_read_back(store: PriceStore, xnys: Calendar) -> None:
    given = rows(xnys, [10, 11, 12])
    assert store.append(given, run="r") == 3
    pd.testing.assert_frame_equal(store.read().drop(columns="seq"), given)
    assert store.seq() == 1


def test_blocks_are_stored_as_one_append_without_what_is_not_new(store: PriceStore, xnys: Calendar) -> None:
    store.append(rows(xnys, [10, 11], symbol="A"), run="r")
    blocks = [
        rows(xnys, [10, 11, 12], symbol="A"),
        rows(xnys, [5, 6], symbol="B"),
        rows(xnys, [], symbol="C"),
    ]
    assert store.append(*blocks, run="r") == 3
    assert store.seq() == 2
    assert store.append(*blocks, run="r") == 0
    wanted = pd.concat(blocks[:2], ignore_index=True)
    pd.testing.assert_frame_equal(store.read().drop(columns="seq"), wanted)
    assert store.read()["seq"].tolist() == [1, 1, 2, 2, 2]


def test_an_empty_store_reads_as_no_rows(store: PriceStore) -> None:
    assert store.read().empty
    assert store.seq() == 0


def test_equal_rows_are_not_new(store: PriceStore, xnys: Calendar) -> None:
    store.append(rows(xnys, [10, 11]), run="r")
    assert store.append(rows(xnys, [10, 11]), run="r") == 0
    assert store.append(rows(xnys, [10, 11, 12]), run="r") == 1
    assert store.append(rows(xnys, [10]).head(0), run="r") == 0
    assert store.seq() == 2


def test_a_revision_is_kept_together_with_the_row_before(store: PriceStore, xnys: Calendar) -> None:
    store.append(rows(xnys, [10, 11, 12]), run="r")
    assert store.append(rows(xnys, [10, 11.5, 12]), run="r") == 1
    assert store.read()["close"].tolist() == [10, 11.5, 12]
    assert store.read(seq=1)["close"].tolist() == [10, 11, 12]
    assert store.read(as_of=WEEK[0])["close"].tolist() == [10]


def test_a_settled_bar_replaces_a_provisional_one_in_the_view(store: PriceStore, xnys: Calendar) -> None:
    given = rows(xnys, [10])
    store.append(given.assign(status="provisional").astype({"status": "str"}), run="r")
    assert store.append(given, run="r") == 1
    assert store.read()["status"].tolist() == ["settled"]


def test_symbols_do_not_mix(store: PriceStore, xnys: Calendar) -> None:
    store.append(rows(xnys, [10, 11], "A"), run="r")
    store.append(rows(xnys, [20, 21], "B"), run="r")
    assert store.read()["close"].tolist() == [10, 11, 20, 21]


def test_no_file_holds_a_type_that_cannot_be_filtered(store: PriceStore, xnys: Calendar) -> None:
    store.append(rows(xnys, [10, 11, 12]), run="r")
    files = [*store.folder.rglob("*.parquet")]
    assert len(files) == 2  # one a year
    assert not any("string_view" in str(field.type) for f in files for field in pq.read_schema(f))


def test_a_damaged_store_is_named_and_has_a_fix(store: PriceStore, xnys: Calendar) -> None:
    store.append(rows(xnys, [10]), run="r")
    next(store.folder.rglob("*.parquet")).write_bytes(b"gone")
    with pytest.raises(StoreError) as caught:
        store.read()
    assert str(store.folder) in str(caught.value)
    assert "fix" in str(caught.value)


def test_rows_are_selected_by_sessions_symbols_and_columns(store: PriceStore, xnys: Calendar) -> None:
    for symbol in ("A", "B", "C"):
        store.append(rows(xnys, [10, 11, 12, 13], symbol), run="r")
    part = store.read(WEEK[2], since=WEEK[1], symbols=["A", "C"], columns=["close"])
    assert part.columns.tolist() == ["symbol", "session", "close", "seq"]
    assert part["symbol"].tolist() == ["A", "A", "C", "C"]
    assert part["close"].tolist() == [11, 12, 11, 12]
    assert store.read(symbols=[]).empty


def test_new_rows_are_selected_without_being_written(store: PriceStore, xnys: Calendar) -> None:
    store.append(rows(xnys, [10, 11], "A"), run="r")
    both = pd.concat([rows(xnys, [10, 11.5], "A"), rows(xnys, [20], "B")], ignore_index=True)
    new = store.select_new(both)
    assert new[["symbol", "close"]].to_numpy().tolist() == [["A", 11.5], ["B", 20]]
    assert store.seq() == 1


def test_more_symbols_than_a_chunk_are_compared_alike(
    store: PriceStore, xnys: Calendar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.prices.changed_bars._ROWS", 4)
    five = pd.concat([rows(xnys, [10, 11], symbol) for symbol in "ABCDE"], ignore_index=True)
    assert store.append(five, run="r") == 10
    assert store.append(five, run="r") == 0
    assert store.append(five.assign(close=five["close"] * 1.001), run="r") == 10


def test_the_sources_are_named(store: PriceStore, xnys: Calendar) -> None:
    assert store.sources() == []
    store.append(rows(xnys, [10]), run="r")
    assert store.sources() == ["test"]


def test_a_folder_that_cannot_be_created_is_an_error(store: PriceStore, xnys: Calendar) -> None:
    store.folder.parent.write_text("a file")
    with pytest.raises(NextdayError, match="cannot be locked") as caught:
        store.append(rows(xnys, [10]), run="r")
    assert str(store.folder.parent) in caught.value.where


def test_the_latest_session_and_observation_of_some_symbols(store: PriceStore, xnys: Calendar) -> None:
    assert store.latest("session", WEEK[3], symbols=["A"]) is None
    store.append(rows(xnys, [10, 11, 12, 13], "A"), run="r")
    store.append(rows(xnys, [10, 11], "B"), run="r")
    assert store.latest("session", WEEK[3], symbols=["A", "B"]) == WEEK[3]
    assert store.latest("session", WEEK[2], symbols=["A"]) == WEEK[2]
    assert store.latest("session", WEEK[3], symbols=["B"]) == WEEK[1]
    assert store.latest("session", WEEK[3], 1, symbols=["B"]) is None
    assert store.latest("observed_at", WEEK[3], symbols=["A"]) == pd.Timestamp(NOW)


def named(prices: pd.DataFrame, instrument: str) -> pd.DataFrame:
    return prices.assign(instrument_id=instrument).astype({"instrument_id": "str"})


def test_bars_under_an_old_and_a_new_symbol_are_one_history(store: PriceStore, xnys: Calendar) -> None:
    store.append(pd.concat([rows(xnys, [10, 11], "FB"), rows(xnys, [5, 6], "A")], ignore_index=True), run="r")
    renamed = PriceStore(store.folder, {"FB": "META"})
    again = named(rows(xnys, [10, 11, 12.5], "META"), "FB")
    assert renamed.append(again, run="r") == 1
    assert renamed.symbols() == ["A", "META"]
    shown = renamed.read()
    assert shown["symbol"].tolist() == ["A", "A", "META", "META", "META"]
    assert shown["close"].tolist() == [5, 6, 10, 11, 12.5]
    assert shown["instrument_id"].tolist() == ["A", "A", "FB", "FB", "FB"]
    assert renamed.read(symbols=["META"])["close"].tolist() == [10, 11, 12.5]
    assert renamed.versions(symbols=["META"])["symbol"].tolist() == ["META"] * 3
    assert renamed.latest("session", WEEK[3], symbols=["META"]) == WEEK[2]


def test_a_symbol_that_now_belongs_to_another_instrument_is_not_listed_twice(
    store: PriceStore, xnys: Calendar
) -> None:
    store.append(rows(xnys, [10, 11], "META"), run="r")  # before anybody said that it once was FB
    renamed = PriceStore(store.folder, {"FB": "META"})
    assert renamed.append(named(rows(xnys, [10, 11, 12], "META"), "FB"), run="r") == 3
    assert renamed.read()["close"].tolist() == [10, 11, 12]
    assert renamed.read(symbols=["META"])["close"].tolist() == [10, 11, 12]
    assert renamed.symbols() == ["META"]
    assert len(renamed.versions()) == 3


def test_a_difference_within_single_precision_is_not_new(store: PriceStore, xnys: Calendar) -> None:
    given = rows(xnys, [10, 11, 12])
    store.append(given, run="r")
    single = given.assign(**{name: given[name].astype("float32").astype(float) for name in COLUMNS})
    assert (single["high"] != given["high"]).any()
    assert store.append(single, run="r") == 0
    assert store.append(given.assign(high=given["high"] * (1 + 0.9e-6)), run="r") == 0
    assert store.append(given.assign(high=given["high"] * (1 + 1.1e-6)), run="r") == 3
    assert store.append(given.assign(high=given["high"], dividend=[0.0, 1e-9, 0.0]), run="r") == 3


def test_a_number_that_was_missing_and_one_that_goes_missing_are_new(
    store: PriceStore, xnys: Calendar
) -> None:
    given = rows(xnys, [10, 11])
    without = given.assign(volume=[np.nan, 1e6])
    store.append(without, run="r")
    assert store.append(without, run="r") == 0
    assert store.append(given, run="r") == 1
    assert store.append(without, run="r") == 1
