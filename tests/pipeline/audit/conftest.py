"""Prices that are audited, and the audit of a feature set on them."""

import pandas as pd
import pyarrow as pa
import pytest

from pipeline.audit.feature_checks import FeatureAudit
from pipeline.features.columns import FeatureSet
from pipeline.market.calendar import Calendar
from pipeline.market.universe import Universe
from pipeline.prices.bar_block import COLUMNS, Block, build_block
from tests.conftest import prices_of, random_bars
from tests.support.made_sequences import directions

SYMBOLS, SESSIONS = ["A", "B", "C", "D", "E", "^F"], 420


def market(days: Calendar) -> Block:
    """Return random walks with a split and a dividend; one symbol is listed late."""
    sessions = days.sessions[:SESSIONS]
    bars = {symbol: random_bars(sessions, seed) for seed, symbol in enumerate(SYMBOLS)}
    bars["A"].loc[40, "split"], bars["A"].loc[300, "dividend"] = 2.0, 1.5
    bars["B"] = bars["B"].iloc[90:]
    rows = prices_of(bars, days)
    rows = rows[["session", *COLUMNS]].assign(seq=1, instrument_id=rows["instrument_id"].astype("category"))
    batch = pa.RecordBatch.from_pandas(rows, preserve_index=False)
    return build_block([batch], SYMBOLS, sessions, instruments={})


def audit_of(block: Block, features: FeatureSet, horizons: tuple[int, ...] = (1,)) -> FeatureAudit:
    entries = pd.DataFrame({"symbol": block.symbols, "first": pd.NaT, "last": pd.NaT})
    everybody = Universe("u", entries.astype({"first": "datetime64[us]", "last": "datetime64[us]"}))
    return FeatureAudit(block, features, everybody, directions(*horizons))


@pytest.fixture(scope="module")
def block(xnys: Calendar) -> Block:
    return market(xnys)
