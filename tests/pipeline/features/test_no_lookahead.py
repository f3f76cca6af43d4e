"""Perturb everything after t: what was computed at t must not move, bit for bit."""

import numpy as np
import pandas as pd
import pytest

from pipeline.features.feature_sets import FEATURE_SETS
from pipeline.features.sequences import Sequences, build_sequences
from pipeline.market.calendar import Calendar
from pipeline.market.universe import Universe
from tests.conftest import laid_out, prices_of, random_bars
from tests.support.made_sequences import directions

SESSIONS = 160
CUT = 110
SYMBOLS = ["A", "B", "C", "^D"]


def everybody() -> Universe:
    entries = pd.DataFrame({"symbol": SYMBOLS, "first": pd.NaT, "last": pd.NaT})
    return Universe("u", entries.astype({"first": "datetime64[us]", "last": "datetime64[us]"}))


def made(prices: pd.DataFrame, sessions: pd.DatetimeIndex, features: str) -> Sequences:
    return build_sequences(
        laid_out(prices, sessions, SYMBOLS), FEATURE_SETS[features], everybody(), directions(1)
    )


@pytest.fixture(scope="module")
def prices(xnys: Calendar) -> pd.DataFrame:
    sessions = xnys.sessions[:SESSIONS]
    bars = {symbol: random_bars(sessions, seed) for seed, symbol in enumerate(SYMBOLS)}
    bars["A"].loc[40, "split"], bars["A"].loc[70, "dividend"] = 2.0, 1.5
    bars["A"].loc[130, "split"], bars["A"].loc[140, "dividend"] = 3.0, 2.5
    return prices_of(bars, xnys)


@pytest.mark.parametrize("features", FEATURE_SETS)
def test_a_changed_future_changes_no_feature(prices: pd.DataFrame, xnys: Calendar, features: str) -> None:
    sessions = xnys.sessions[:SESSIONS]
    changed = prices.copy()
    after = changed["session"] > sessions[CUT]
    rng = np.random.default_rng(7)
    for column in ("open", "high", "low", "close", "volume"):
        changed.loc[after, column] *= rng.uniform(0.2, 5, after.sum())
    changed.loc[after, "dividend"] = 0.3
    changed.loc[(changed["session"] == sessions[CUT + 9]) & (changed["symbol"] == "B"), "split"] = 7.0
    before, then = made(prices, sessions, features), made(changed, sessions, features)
    assert not np.array_equal(before.x[:, CUT + 1 :], then.x[:, CUT + 1 :])
    assert np.array_equal(before.x[:, : CUT + 1], then.x[:, : CUT + 1])
    assert np.array_equal(before.mask[:, : CUT + 1], then.mask[:, : CUT + 1])
    assert np.array_equal(before.y[:, :CUT], then.y[:, :CUT], equal_nan=True)


@pytest.mark.parametrize("features", FEATURE_SETS)
def test_a_cut_off_future_changes_no_feature(prices: pd.DataFrame, xnys: Calendar, features: str) -> None:
    whole = made(prices, xnys.sessions[:SESSIONS], features)
    part = made(prices, xnys.sessions[: CUT + 1], features)
    assert np.array_equal(whole.x[:, : CUT + 1], part.x)
    assert np.array_equal(whole.mask[:, : CUT + 1], part.mask)
    assert np.isnan(part.y[:, CUT]).all()
    as_it_stood = whole.through(xnys.sessions[CUT])
    assert np.array_equal(as_it_stood.x, part.x)
    assert np.array_equal(as_it_stood.y, part.y, equal_nan=True)


@pytest.mark.parametrize("features", FEATURE_SETS)
def test_rows_and_symbols_in_another_order_change_nothing(
    prices: pd.DataFrame, xnys: Calendar, features: str
) -> None:
    sessions = xnys.sessions[:SESSIONS]
    shuffled = prices.sample(frac=1, random_state=3)
    assert np.array_equal(made(prices, sessions, features).x, made(shuffled, sessions, features).x)


def test_volume_is_lagged_by_one_session(prices: pd.DataFrame, xnys: Calendar) -> None:
    sessions = xnys.sessions[:SESSIONS]
    changed = prices.copy()
    changed.loc[changed["session"] == sessions[CUT], "volume"] *= 9
    before, then = made(prices, sessions, "own"), made(changed, sessions, "own")
    volume = before.features.index("volume_ratio_lagged")
    assert np.array_equal(before.x[:, : CUT + 1], then.x[:, : CUT + 1])
    assert not np.array_equal(before.x[:, CUT + 1, volume], then.x[:, CUT + 1, volume])


def test_the_scale_of_prices_does_not_matter(prices: pd.DataFrame, xnys: Calendar) -> None:
    sessions = xnys.sessions[:SESSIONS]
    scaled = prices.copy()
    for column in ("open", "high", "low", "close", "dividend"):
        scaled[column] *= 1024.0
    scaled["volume"] *= 64.0
    for features in FEATURE_SETS:
        one, other = made(prices, sessions, features), made(scaled, sessions, features)
        np.testing.assert_allclose(one.x, other.x, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("features", FEATURE_SETS)
def test_a_row_depends_on_no_session_beyond_its_reach(
    prices: pd.DataFrame, xnys: Calendar, features: str
) -> None:
    sessions, reach = xnys.sessions[:SESSIONS], FEATURE_SETS[features].reach
    rng = np.random.default_rng(11)
    missing = [*rng.choice(SESSIONS, 6, replace=False), *range(90, 94)]
    holed = prices[~(prices["session"].isin(sessions[missing]) & (prices["symbol"] == "B"))]
    whole = made(holed, sessions, features)
    for last in range(reach, SESSIONS):
        part = made(holed, sessions[last - reach : last + 1], features)
        assert np.array_equal(part.mask[:, -1], whole.mask[:, last])
        np.testing.assert_allclose(part.x[:, -1], whole.x[:, last], rtol=1e-5, atol=1e-6)
    assert whole.mask[SYMBOLS.index("B")].any()
