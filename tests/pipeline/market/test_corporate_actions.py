"""From vendors' bars to bars as traded and total returns: examples by hand, and properties of any listing."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.market.corporate_actions import (
    adjusted_close,
    as_traded,
    carry_actions,
    find_adjustment,
    find_dividend_evidence,
    later_splits,
    total_return,
)
from pipeline.market.dividend_adjustment import NO_EVIDENCE, weigh_falls
from tests.conftest import vendor_bars

SESSIONS = pd.bdate_range("2018-01-02", periods=6)


def test_later_splits_multiply_what_comes_after() -> None:
    assert later_splits(np.array([1.0, 2.0, 1.0, 3.0])).tolist() == [6, 3, 3, 1]


def test_split_adjusted_bars_are_restored_as_traded() -> None:
    # A share trades at 300, splits 3 for 1, trades at 101; the vendor prints everything in new shares.
    vendor = vendor_bars(
        SESSIONS[:3], [100, 101, 102], split=[1, 3, 1], dividend=[0.5, 0, 0], volume=[30, 40, 50]
    )
    traded = as_traded(vendor, "split")
    assert traded["close"].tolist() == [300, 101, 102]
    assert traded["dividend"].tolist() == [1.5, 0, 0]
    assert traded["volume"].tolist() == [10, 40, 50]


def test_raw_bars_stay() -> None:
    vendor = vendor_bars(SESSIONS[:3], [300, 101, 102], split=[1, 3, 1])
    pd.testing.assert_frame_equal(as_traded(vendor, "raw"), vendor)


def test_a_split_is_no_return_and_a_dividend_is_one() -> None:
    # 300 before a 3-for-1 split with 1.00 of dividend on new shares, 99 after: 99 / (100 - 1) = 1.
    assert total_return(*map(np.array, ([99.0], [300.0], [1.0], [3.0]))) == pytest.approx([1.0])


def test_adjusted_closes_follow_yahoos_factor() -> None:
    close, dividend, split = (np.array(v, float)[:, None] for v in ([50, 49, 51], [0, 1, 0], [1, 1, 1]))
    adjusted = adjusted_close(close, dividend, split)[:, 0]
    # Yahoo lowers what lies before the ex-date by 1 - D / C[t-1] = 0.98; only the ratios carry meaning.
    yahoo = np.array([50 * 0.98, 49, 51])
    assert adjusted / adjusted[0] == pytest.approx(yahoo / yahoo[0])


def test_a_later_session_never_changes_an_earlier_adjusted_close() -> None:
    rng = np.random.default_rng(0)
    close = np.exp(rng.normal(4, 0.01, (50, 3)))
    split, dividend = np.ones((50, 3)), np.zeros((50, 3))
    split[40], dividend[30] = 2, 0.4
    whole, part = (
        adjusted_close(close, dividend, split),
        adjusted_close(close[:35], dividend[:35], split[:35]),
    )
    assert np.array_equal(whole[:35], part)


def test_dividends_are_found_in_adjusted_closes() -> None:
    # Yahoo's factor of an ex-dividend of 2 on a close of 100 is 0.98.
    vendor = vendor_bars(SESSIONS[:3], [100, 99, 99.25], adj_close=[98, 99, 99.25])
    assert as_traded(vendor, "split")["dividend"].tolist() == pytest.approx([0, 2, 0])


def walk(start: float, seed: int) -> np.ndarray:
    steps = np.random.default_rng(seed).normal(0, 0.01, 1000)
    return np.round(start * np.exp(np.cumsum(steps)), 2)


@pytest.mark.parametrize("start", [50.0, 8.0])
@pytest.mark.parametrize("factor", [0.9137, 0.31])
def test_rounded_adjusted_closes_invent_no_dividend(start: float, factor: float) -> None:
    # The dividends lie after the last bar: before them the factor of Yahoo's adjustment never moves.
    days = pd.bdate_range("2012-01-02", periods=1000)
    for seed in range(5):
        close = walk(start, seed)
        vendor = vendor_bars(days, close, adj_close=np.round(close * factor, 2))
        assert (as_traded(vendor, "split")["dividend"] == 0).all()
        single = vendor.assign(
            **{c: vendor[c].astype("float32").astype(float) for c in ("close", "adj_close")}
        )
        assert (as_traded(single, "split")["dividend"] == 0).all()
        assert (as_traded(vendor, "raw")["split"] == 1).all()


def test_a_dividend_is_found_in_rounded_adjusted_closes() -> None:
    days, close = pd.bdate_range("2012-01-02", periods=1000), walk(50.0, 3)
    paid = np.where(np.arange(1000) % 63 == 62, 0.5, 0.0)
    fall = np.append(1 - paid[1:] / close[:-1], 1.0)
    factor = np.cumprod(fall[::-1])[::-1]
    found = as_traded(vendor_bars(days, close, adj_close=np.round(close * factor, 2)), "split")["dividend"]
    assert (found > 0).tolist() == (paid > 0).tolist()
    assert found.to_numpy() == pytest.approx(paid, abs=0.02)


def test_a_cent_is_found_where_adjusted_closes_have_six_decimals() -> None:
    close = np.array([7.95, 7.97, 7.96, 8.01])
    adjusted = np.round(close * [1 - 0.01 / 7.97, 1 - 0.01 / 7.97, 1, 1], 6)
    found = as_traded(vendor_bars(SESSIONS[:4], close, adj_close=adjusted), "split")["dividend"]
    assert found.tolist() == pytest.approx([0, 0, 0.01, 0], abs=1e-5)


def actions(split: list[float], dividend: list[float], symbol: str = "A") -> pd.DataFrame:
    return pd.DataFrame({"symbol": symbol, "split": split, "dividend": dividend})


def test_actions_of_dropped_bars_are_carried_in_the_units_of_the_next_kept_bar() -> None:
    # 0.6 a share before a 2-for-1 and a 3-for-1 split is 0.1 a share after them.
    bars = actions([1, 1, 2, 3, 1], [0, 0.6, 0, 0.05, 0.2])
    carried = carry_actions(bars, np.array([True, False, False, True, True]))
    assert carried["split"].tolist() == [1, 6, 1]
    assert carried["dividend"].tolist() == pytest.approx([0, 0.15, 0.2])


def test_an_action_is_never_carried_to_another_symbol_and_an_invalid_one_never_at_all() -> None:
    bars = pd.concat([actions([1, 2], [0, 0]), actions([-1, np.inf, 1], [np.nan, -1, 0.5], "B")])
    bars = bars.reset_index(drop=True)
    carried = carry_actions(bars, np.array([True, False, False, False, True]))
    assert carried["split"].tolist() == [1, 1]
    assert carried["dividend"].tolist() == [0, 0.5]


def test_the_kind_of_adjustment_is_inferred() -> None:
    raw = vendor_bars(SESSIONS, [200, 202, 101, 102, 101, 100], split=[1, 1, 2, 1, 1, 1])
    adjusted = vendor_bars(SESSIONS, [100, 101, 101, 102, 101, 100], split=[1, 1, 2, 1, 1, 1])
    assert (find_adjustment(raw), find_adjustment(adjusted)) == ("raw", "split")


def test_the_kind_is_inferred_from_adjusted_closes_alone() -> None:
    raw = vendor_bars(SESSIONS, [200, 202, 101, 102, 101, 100], adj_close=[100, 101, 101, 102, 101, 100])
    only_dividends = vendor_bars(SESSIONS, [100] * 6, adj_close=[99, 99, 99, 100, 100, 100])
    assert (find_adjustment(raw), find_adjustment(only_dividends)) == ("raw", "split")
    assert as_traded(raw, "raw")["split"].tolist() == [1, 1, 2, 1, 1, 1]


def test_fully_adjusted_closes_carry_no_second_dividend() -> None:
    vendor = vendor_bars(SESSIONS[:2], [100, 101], dividend=[0, 1.0])
    assert as_traded(vendor, "split+dividend")["dividend"].tolist() == [0, 0]


@st.composite
def listings(draw: st.DrawFn) -> pd.DataFrame:
    """Return bars of one symbol as traded, with splits and dividends on any days but the first."""
    n = draw(st.integers(3, 40))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    days = st.integers(1, n - 1)
    splits = draw(st.dictionaries(days, st.sampled_from([2.0, 3.0, 1.5, 0.1, 0.25, 7.0]), max_size=3))
    payouts = draw(st.dictionaries(days, st.floats(0.0005, 0.4), max_size=4))
    split = np.array([splits.get(day, 1.0) for day in range(n)])
    close, dividend = np.full(n, 100.0), np.zeros(n)
    for day in range(1, n):
        base = close[day - 1] / split[day]
        dividend[day] = base * payouts.get(day, 0.0)
        close[day] = (base - dividend[day]) * np.exp(rng.normal(0, 0.02))
    sessions = pd.bdate_range("2020-01-01", periods=n)
    return vendor_bars(sessions, close, split=split, dividend=dividend).assign(symbol="A")


def as_yahoo_has_it(traded: pd.DataFrame) -> pd.DataFrame:
    """Return the bars as Yahoo gives them: split-adjusted to the end, the adjusted close by 1 - D/C backwards."""
    shown, factor, adjusted = traded.copy(), 1.0, 1.0
    close, split, cash = (traded[name].to_numpy() for name in ("close", "split", "dividend"))
    for day in range(len(traded) - 1, -1, -1):
        for name in ("open", "high", "low", "close", "dividend"):
            shown.loc[day, name] = traded.loc[day, name] / factor
        shown.loc[day, "volume"] = traded.loc[day, "volume"] * factor
        shown.loc[day, "adj_close"] = shown.loc[day, "close"] * adjusted
        if day:
            adjusted *= 1 - cash[day] * split[day] / close[day - 1]
        factor *= split[day]
    return shown


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(traded=listings())
def test_traded_bars_are_restored_from_yahoos(traded: pd.DataFrame) -> None:
    back = as_traded(as_yahoo_has_it(traded), "split", lists_actions=True)
    for name in ("open", "high", "low", "close", "volume", "dividend", "split"):
        np.testing.assert_allclose(back[name], traded[name], rtol=1e-9, atol=1e-12)


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(traded=listings(), share=st.floats(0.1, 1.0))
def test_adjusted_returns_are_yahoos_and_no_later_session_changes_an_earlier_value(
    traded: pd.DataFrame, share: float
) -> None:
    columns = [traded[[name]].to_numpy() for name in ("close", "dividend", "split")]
    whole = adjusted_close(*columns)[:, 0]
    yahoos = as_yahoo_has_it(traded)["adj_close"].to_numpy()
    np.testing.assert_allclose(whole[1:] / whole[:-1], yahoos[1:] / yahoos[:-1], rtol=1e-9)
    first = max(int(share * len(traded)), 1)
    assert np.array_equal(adjusted_close(*(column[:first] for column in columns))[:, 0], whole[:first])


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(traded=listings(), data=st.data())
def test_whatever_bars_are_dropped_every_split_between_kept_ones_is_kept(
    traded: pd.DataFrame, data: st.DataObject
) -> None:
    n = len(traded)
    kept = np.array([True, *data.draw(st.lists(st.booleans(), min_size=n - 1, max_size=n - 1))])
    carried = carry_actions(traded, kept)
    shares = np.cumprod(traded["split"])[kept]
    np.testing.assert_allclose(np.cumprod(carried["split"]), shares, rtol=1e-12)
    # Cash, in the shares of the first bar: each share of then has become so many since.
    cash = np.cumsum(traded["dividend"] * np.cumprod(traded["split"]))[kept]
    np.testing.assert_allclose(np.cumsum(carried["dividend"] * shares), cash, rtol=1e-9, atol=1e-12)


def traded_with_dividends(seed: int, dividends: dict[int, float], splits: dict[int, float]) -> pd.DataFrame:
    """A random walk in whole cents as traded, of 120 sessions, with its actions and no adjusted close."""
    rng = np.random.default_rng(seed)
    split, dividend = np.ones(120), np.zeros(120)
    for place, ratio in splits.items():
        split[place] = ratio
    for place, cash in dividends.items():
        dividend[place] = cash
    close = np.round(80 * np.exp(np.cumsum(rng.normal(0, 0.01, 120))) / np.cumprod(split), 2)
    columns = dict.fromkeys(("open", "high", "low", "close"), close)
    return pd.DataFrame({**columns, "volume": 1.0, "dividend": dividend, "split": split, "adj_close": np.nan})


def adjusted_by_yfinance(traded: pd.DataFrame, *, single: bool) -> pd.DataFrame:
    """What `Ticker.history()` returns of these bars: closes multiplied by the factors of splits and dividends."""
    close, dividend, split = (traded[name].to_numpy() for name in ("close", "dividend", "split"))
    ratio = later_splits(split)
    close, dividend = close / ratio, dividend / ratio
    step = np.ones(len(close))
    step[1:] = 1 - dividend[1:] / close[:-1]
    factor = later_splits(step)
    closes = (close * factor).astype(np.float32).astype(float) if single else close * factor
    return traded.assign(close=closes, dividend=dividend)


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize(
    ("dividends", "splits"),
    [
        ({60: 0.4}, {}),
        ({30: 0.4, 90: 0.5}, {}),
        ({30: 0.8, 90: 0.2}, {60: 4.0}),
        ({30: 0.8, 60: 0.8}, {90: 3.0}),
    ],
)
def test_closes_adjusted_for_the_dividends_beside_them_are_recognised(
    dividends: dict[int, float], splits: dict[int, float], single: bool
) -> None:
    for seed in range(20):
        traded = traded_with_dividends(seed, dividends, splits)
        assert find_adjustment(adjusted_by_yfinance(traded, single=single)) == "split+dividend"
        assert find_adjustment(traded) == ("raw" if splits else "split")
        ratio = later_splits(traded["split"].to_numpy())
        split_only = traded.assign(close=traded["close"] / ratio, dividend=traded["dividend"] / ratio)
        assert find_adjustment(split_only) == "split"


def test_prices_in_sixteenths_before_cents_are_not_taken_for_adjusted_ones() -> None:
    traded = traded_with_dividends(0, {30: 0.4, 60: 0.5}, {})
    sixteenths = np.where(np.arange(120) < 60, np.round(traded["close"] * 16) / 16, traded["close"])
    assert find_adjustment(traded.assign(close=sixteenths)) == "split"


@pytest.mark.parametrize("ex_dates", [[60, 119], [60, 118], [118], [119], [1, 2, 117], [5, 60, 100]])
def test_the_kind_does_not_depend_on_how_near_the_end_the_last_dividend_is(ex_dates: list[int]) -> None:
    for seed in range(5):
        traded = traded_with_dividends(seed, dict.fromkeys(ex_dates, 0.5), {})
        assert find_adjustment(adjusted_by_yfinance(traded, single=True)) == "split+dividend"
        assert find_adjustment(traded) == "split"


def test_a_file_that_ends_before_the_newest_dividends_is_recognised() -> None:
    for seed in range(5):
        traded = traded_with_dividends(seed, {30: 0.4, 60: 0.4, 80: 0.4, 110: 0.4}, {})
        adjusted = adjusted_by_yfinance(traded, single=True)
        assert find_adjustment(adjusted.iloc[:75]) == "split+dividend"
        assert find_adjustment(traded.iloc[:75].assign(close=lambda bars: bars["close"] / 7)) == "split"


def test_one_wrong_dividend_decides_nothing() -> None:
    adjusted = adjusted_by_yfinance(traded_with_dividends(0, {30: 0.4, 60: 0.5, 90: 0.4}, {}), single=True)
    adjusted.loc[30, "dividend"] = 0.7
    assert find_adjustment(adjusted) == "split+dividend"


def paying(seed: int, *, is_adjusted: bool) -> pd.DataFrame:
    """Five years of closes in cents with quarterly dividends of 1%: they fall on ex-dates unless adjusted."""
    bars = traded_with_dividends(seed, {}, {}).iloc[:0]
    dividend = np.where(np.arange(1260) % 63 == 62, 0.8, 0.0)
    fall = 0.0 if is_adjusted else dividend / 80
    steps = np.random.default_rng(seed).normal(0, 0.01, 1260) - fall
    bars = bars.reindex(range(1260)).assign(volume=1.0, dividend=dividend, split=1.0)
    return bars.assign(close=np.round(80 * np.exp(np.cumsum(steps)), 2))


def test_closes_rounded_to_cents_show_it_by_their_falls_over_many_dividends() -> None:
    for is_adjusted in (True, False):
        found = [find_dividend_evidence(paying(seed, is_adjusted=is_adjusted)) for seed in range(4)]
        assert {one.cents for one in found} == {"printed in cents"}
        assert weigh_falls(found) == ("adjusted" if is_adjusted else "unadjusted")
    assert weigh_falls([]) == ""


def test_a_split_on_an_empty_close_is_no_warning() -> None:
    for none in (np.nan, 0.0, -1.0, np.inf):
        bars = vendor_bars(SESSIONS, [200, 202, none, 102, 101, 100], split=[1, 1, 2, 1, 1, 1])
        assert find_adjustment(bars) == "raw"
        assert find_adjustment(bars.iloc[:3]) == "split"


def test_closes_without_a_number_show_nothing_of_dividends() -> None:
    bars = vendor_bars(SESSIONS, [np.nan] * 6, dividend=[0, 1, 0, 0, 1, 0])
    assert find_dividend_evidence(bars) == NO_EVIDENCE
