"""A store of an older nextday stays usable; one of a newer nextday is refused with a fix."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, write_deltalake

from pipeline.errors import StoreError
from pipeline.market.calendar import Calendar
from pipeline.prices.store import PriceStore
from tests.conftest import prices_of, vendor_bars

WEEK = pd.DatetimeIndex(["2018-12-28", "2018-12-31", "2019-01-02", "2019-01-03"])


def rows(days: Calendar, closes: list[float]) -> pd.DataFrame:
    bars = {symbol: vendor_bars(WEEK[: len(closes)], np.array(closes)) for symbol in ("A", "B")}
    return prices_of(bars, days)


@pytest.fixture
def old(tmp_path: Path, xnys: Calendar) -> PriceStore:
    """A store as nextday 0.1.0 wrote it: two appends, no word about a format, snappy files, no database beside it."""
    folder = tmp_path / "prices" / "u"
    first = rows(xnys, [10, 11, 12]).assign(seq=1)
    revised = rows(xnys, [10, 11.5, 12])[lambda frame: frame["close"] == 11.5].assign(seq=2)
    for frame in (first, revised):
        frame = frame.assign(year=frame["session"].dt.year.astype("int32"))
        write_deltalake(
            str(folder),
            pa.Table.from_pandas(frame, preserve_index=False),
            mode="append",
            partition_by=["year"],
            commit_properties=CommitProperties(custom_metadata={"run": "r"}),
        )
    return PriceStore(folder)


def test_a_store_of_an_older_nextday_is_read_as_it_was_written(old: PriceStore, xnys: Calendar) -> None:
    assert old.seq() == 2
    assert old.symbols() == ["A", "B"]
    pd.testing.assert_frame_equal(old.read(seq=1).drop(columns="seq"), rows(xnys, [10, 11, 12]))
    pd.testing.assert_frame_equal(old.read().drop(columns="seq"), rows(xnys, [10, 11.5, 12]))
    assert old.read()["seq"].tolist() == [1, 2, 1, 1, 2, 1]


def test_a_store_of_an_older_nextday_can_be_appended_to(old: PriceStore, xnys: Calendar) -> None:
    assert old.append(rows(xnys, [10, 11.5, 12]), run="r") == 0
    assert old.append(rows(xnys, [10, 11.5, 12, 13]), run="r") == 2
    before = old.versions()
    old.compact(timedelta(days=30))
    pd.testing.assert_frame_equal(old.versions(), before)
    assert old.append(rows(xnys, [10, 11.5, 12, 13.5]), run="r") == 2
    assert old.seq() == 4
    pd.testing.assert_frame_equal(old.read(seq=1).drop(columns="seq"), rows(xnys, [10, 11, 12]))


def test_a_renamed_listing_of_an_older_store_is_joined(old: PriceStore, xnys: Calendar) -> None:
    joined = PriceStore(old.folder, {"A": "NEW"})
    assert joined.symbols() == ["B", "NEW"]
    assert joined.read(symbols=["NEW"])["close"].tolist() == [10, 11.5, 12]


def test_a_store_of_a_newer_nextday_is_refused_with_a_fix(tmp_path: Path, xnys: Calendar) -> None:
    store = PriceStore(tmp_path / "u")
    store.append(rows(xnys, [10]), run="r")
    table = DeltaTable(str(store.folder))
    table.alter.set_table_description("nextday prices, format 2")
    before = sorted(path.name for path in store.folder.rglob("*"))
    for work in (
        store.read,
        store.seq,
        lambda: store.append(rows(xnys, [11]), run="r"),
        lambda: store.compact(timedelta(0)),
    ):
        with pytest.raises(StoreError, match="newer nextday wrote these prices, in format 2") as refused:
            work()
        assert "install that version" in refused.value.fix
        assert refused.value.where == str(store.folder)
    assert sorted(path.name for path in store.folder.rglob("*")) == before


def test_a_new_store_records_its_format(tmp_path: Path, xnys: Calendar) -> None:
    store = PriceStore(tmp_path / "u")
    store.append(rows(xnys, [10]), run="r")
    assert DeltaTable(str(store.folder)).metadata().description == "nextday prices, format 1"
