"""A dense block holds the same bars as the rows of the store, however they were written."""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.market.calendar import Calendar
from pipeline.prices.bar_block import COLUMNS, Block
from pipeline.prices.store import PriceStore
from tests.conftest import NOW, prices_of, random_bars

COUNT, EVENINGS = 40, 4
SYMBOLS = ["C", "A", "B", "nobody"]


@pytest.fixture
def sessions(xnys: Calendar) -> pd.DatetimeIndex:
    """Return forty sessions across the turn of a year."""
    return xnys.sessions[230 : 230 + COUNT]


@pytest.fixture
def store(tmp_path: Path, xnys: Calendar, sessions: pd.DatetimeIndex) -> PriceStore:
    """Return a store of three symbols whose bars came, with holes, and were revised on four evenings."""
    store = PriceStore(tmp_path / "prices" / "u")
    bars = {symbol: random_bars(sessions, seed) for seed, symbol in enumerate("ABC")}
    bars["B"].loc[12, "split"], bars["C"].loc[20, "dividend"] = 2.0, 0.5
    bars["C"].loc[5, "volume"] = np.nan
    rng = np.random.default_rng(5)
    for evening in range(EVENINGS):
        said = prices_of({s: rows[rng.random(COUNT) < 0.7] for s, rows in bars.items()}, xnys, seen(evening))
        for name in ("open", "high", "low", "close"):
            said[name] *= 1 + evening / 100
        store.append(said.sample(frac=1, random_state=evening), run="r")
    return store


def seen(evening: int) -> datetime:
    return NOW + timedelta(days=evening)


def rows_of(block: Block) -> pd.DataFrame:
    """Return the bars of a block as rows."""
    wide = {name: pd.DataFrame(block[name], block.sessions, block.symbols).stack() for name in COLUMNS}
    long = pd.DataFrame(wide).dropna(subset=["close"]).rename_axis(["session", "symbol"]).reset_index()
    return long[["symbol", "session", *COLUMNS]].sort_values(["symbol", "session"], ignore_index=True)


def assert_same(block: Block, rows: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(rows_of(block), rows[["symbol", "session", *COLUMNS]])


@pytest.mark.slow
@pytest.mark.parametrize("compacted", [False, True])
def test_a_block_holds_the_last_row_of_each_bar_at_every_seq(
    store: PriceStore, sessions: pd.DatetimeIndex, compacted: bool
) -> None:
    if compacted:
        store.compact(timedelta(days=30))
    for seq in (None, *range(1, EVENINGS + 1)):
        block = store.read_block(sessions, SYMBOLS, seq)
        assert block.values.shape == (COUNT, 4, len(COLUMNS))
        assert_same(block, store.read(seq=seq))


@pytest.mark.slow
def test_a_block_holds_what_was_known_at_an_instant(store: PriceStore, sessions: pd.DatetimeIndex) -> None:
    for evening in range(EVENINGS):
        block = store.read_block(sessions, SYMBOLS, known_at=seen(evening))
        assert_same(block, store.read(known_at=seen(evening)))


@pytest.mark.slow
def test_only_the_requested_symbols_and_sessions_are_in_the_block(
    store: PriceStore, sessions: pd.DatetimeIndex
) -> None:
    block = store.read_block(sessions[10:25], ["B"])
    assert (block.symbols, block.sessions.tolist()) == (["B"], sessions[10:25].tolist())
    assert_same(block, store.read(sessions[24], since=sessions[10], symbols=["B"]))
    every_other = store.read_block(sessions[::2], ["B"])
    expected = store.read(symbols=["B"])
    assert_same(every_other, expected[expected["session"].isin(sessions[::2])].reset_index(drop=True))


def test_bars_are_found_under_todays_symbol(store: PriceStore, sessions: pd.DatetimeIndex) -> None:
    renamed = PriceStore(store.folder, {"A": "NEW"})
    block = renamed.read_block(sessions, ["NEW", "B"])
    assert_same(block, renamed.read(symbols=["NEW", "B"]))


def test_single_precision_rounds_each_number_once(store: PriceStore, sessions: pd.DatetimeIndex) -> None:
    double = store.read_block(sessions, SYMBOLS)
    single = store.read_block(sessions, SYMBOLS, dtype=np.float32)
    assert single.values.dtype == np.float32
    np.testing.assert_array_equal(single.values, double.values.astype(np.float32))


def test_a_block_can_begin_with_its_first_bar(store: PriceStore, xnys: Calendar) -> None:
    earlier = xnys.sessions[200 : 230 + COUNT]
    block = store.read_block(earlier, SYMBOLS).from_first_bar()
    assert block.sessions[0] == store.read()["session"].min()
    assert_same(block, store.read())
    assert len(store.read_block(xnys.sessions[:9], SYMBOLS).from_first_bar().sessions) == 0


def test_an_empty_store_is_a_block_without_bars(tmp_path: Path, sessions: pd.DatetimeIndex) -> None:
    block = PriceStore(tmp_path / "none").read_block(sessions, ["A"])
    assert not block.has_bar.any()
    assert len(block.from_first_bar().sessions) == 0
