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

LONGEST = max(each.reach for each in FEATURE_SETS.values()) + 92
SYMBOLS = ["A", "B", "C", "^D"]


def count(features: str) -> int:
    """Return a number of sessions that leaves 92 rows with every feature, and at least 160."""
    return max(160, FEATURE_SETS[features].reach + 92)


def everybody() -> Universe:
    entries = pd.DataFrame({"symbol": SYMBOLS, "first": pd.NaT, "last": pd.NaT})
    return Universe("u", entries.astype({"first": "datetime64[us]", "last": "datetime64[us]"}))


def made(prices: pd.DataFrame, sessions: pd.DatetimeIndex, features: str) -> Sequences:
    return build_sequences(
        laid_out(prices, sessions, SYMBOLS), FEATURE_SETS[features], everybody(), directions(1)
    )


@pytest.fixture(scope="module")
def prices(xnys: Calendar) -> pd.DataFrame:
    sessions = xnys.sessions[:LONGEST]
    bars = {symbol: random_bars(sessions, seed) for seed, symbol in enumerate(SYMBOLS)}
    bars["A"].loc[40, "split"], bars["A"].loc[70, "dividend"] = 2.0, 1.5
    bars["A"].loc[130, "split"], bars["A"].loc[140, "dividend"] = 3.0, 2.5
    return prices_of(bars, xnys)


@pytest.mark.parametrize("features", FEATURE_SETS)
def test_a_changed_future_changes_no_feature(prices: pd.DataFrame, xnys: Calendar, features: str) -> None:
    cut = count(features) - 50
    sessions = xnys.sessions[: count(features)]
    changed = prices.copy()
    after = changed["session"] > sessions[cut]
    rng = np.random.default_rng(7)
    for column in ("open", "high", "low", "close", "volume"):
        changed.loc[after, column] *= rng.uniform(0.2, 5, after.sum())
    changed.loc[after, "dividend"] = 0.3
    changed.loc[(changed["session"] == sessions[cut + 9]) & (changed["symbol"] == "B"), "split"] = 7.0
    before, then = made(prices, sessions, features), made(changed, sessions, features)
    assert not np.array_equal(before.x[:, cut + 1 :], then.x[:, cut + 1 :])
    assert np.array_equal(before.x[:, : cut + 1], then.x[:, : cut + 1])
    assert np.array_equal(before.mask[:, : cut + 1], then.mask[:, : cut + 1])
    assert np.array_equal(before.y[:, :cut], then.y[:, :cut], equal_nan=True)


@pytest.mark.parametrize("features", FEATURE_SETS)
def test_a_cut_off_future_changes_no_feature(prices: pd.DataFrame, xnys: Calendar, features: str) -> None:
    cut = count(features) - 50
    whole = made(prices, xnys.sessions[: count(features)], features)
    part = made(prices, xnys.sessions[: cut + 1], features)
    assert np.array_equal(whole.x[:, : cut + 1], part.x)
    assert np.array_equal(whole.mask[:, : cut + 1], part.mask)
    assert np.isnan(part.y[:, cut]).all()
    as_it_stood = whole.through(xnys.sessions[cut])
    assert np.array_equal(as_it_stood.x, part.x)
    assert np.array_equal(as_it_stood.y, part.y, equal_nan=True)


@pytest.mark.parametrize("features", FEATURE_SETS)
def test_rows_and_symbols_in_another_order_change_nothing(
    prices: pd.DataFrame, xnys: Calendar, features: str
) -> None:
    sessions = xnys.sessions[: count(features)]
    shuffled = prices.sample(frac=1, random_state=3)
    assert np.array_equal(made(prices, sessions, features).x, made(shuffled, sessions, features).x)


def test_volume_is_lagged_by_one_session(prices: pd.DataFrame, xnys: Calendar) -> None:
    sessions = xnys.sessions[:160]
    changed = prices.copy()
    changed.loc[changed["session"] == sessions[110], "volume"] *= 9
    before, then = made(prices, sessions, "own"), made(changed, sessions, "own")
    volume = before.features.index("volume_ratio_lagged")
    assert np.array_equal(before.x[:, : 110 + 1], then.x[:, : 110 + 1])
    assert not np.array_equal(before.x[:, 110 + 1, volume], then.x[:, 110 + 1, volume])


def test_the_scale_of_prices_does_not_matter(prices: pd.DataFrame, xnys: Calendar) -> None:
    sessions = xnys.sessions[:LONGEST]
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
    sessions, reach = xnys.sessions[: count(features)], FEATURE_SETS[features].reach
    rng = np.random.default_rng(11)
    missing = [*rng.choice(count(features), 6, replace=False), *range(90, 94)]
    holed = prices[~(prices["session"].isin(sessions[missing]) & (prices["symbol"] == "B"))]
    whole = made(holed, sessions, features)
    for last in range(reach, count(features)):
        part = made(holed, sessions[last - reach : last + 1], features)
        assert np.array_equal(part.mask[:, -1], whole.mask[:, last])
        np.testing.assert_allclose(part.x[:, -1], whole.x[:, last], rtol=1e-5, atol=1e-6)
    assert whole.mask[SYMBOLS.index("B")].any()
