"""Leaps inside one history: faults are named by what they look like, and moves of the market are not."""

import numpy as np
import pandas as pd
import pytest

from pipeline.market.calendar import Calendar
from pipeline.prices.ingest.leaps import find_leaps, find_undone_leaps, find_ways_back, log_growth
from tests.conftest import prices_of, random_bars

N, DAY = 120, 60
PRICES = ["open", "high", "low", "close"]


@pytest.fixture
def calm(xnys: Calendar) -> pd.DataFrame:
    """Return the bars of a stock that moves by 1% a day."""
    return prices_of({"A": random_bars(xnys.sessions[:N], 3)}, xnys)


def scaled(rows: pd.DataFrame, factor: float, *places: int) -> pd.DataFrame:
    """Return the rows with whole bars at `factor` times their price."""
    return rows.assign(
        **{name: rows[name].where(~rows.index.isin(places), rows[name] * factor) for name in PRICES}
    )


def since(rows: pd.DataFrame, factor: float, place: int = DAY) -> pd.DataFrame:
    return scaled(rows, factor, *range(place, N))


def listed(rows: pd.DataFrame, ratio: float, place: int) -> pd.DataFrame:
    return rows.assign(split=np.where(rows.index == place, ratio, 1.0))


def named(rows: pd.DataFrame) -> list[tuple[int, str]]:
    """Return place and rule of each leap."""
    found = find_leaps(rows)
    return [
        (int(rows["session"].searchsorted(s)), r)
        for s, r in zip(found["session"], found["rule"], strict=True)
    ]


def test_a_healthy_history_has_no_leap(calm: pd.DataFrame) -> None:
    assert named(calm) == []
    assert find_leaps(calm.head(1)).empty
    assert find_leaps(calm.head(0)).empty


def test_closes_alone_show_their_leaps(calm: pd.DataFrame) -> None:
    closes = calm.assign(open=np.nan, high=np.nan, low=np.nan, volume=np.nan)
    assert named(closes) == []
    assert named(since(scaled(closes, 0.1, 20), 0.25, place=80)) == [(20, "spike"), (80, "unexplained leap")]


@pytest.mark.parametrize("factor", [0.1, 10.0, 0.5, 1.5, 0.68, 3.3])
@pytest.mark.parametrize("length", [1, 2, 5])
def test_bars_that_are_taken_back_are_one_spike(calm: pd.DataFrame, factor: float, length: int) -> None:
    assert named(scaled(calm, factor, *range(DAY, DAY + length))) == [(DAY, "spike")]
    assert not find_leaps(scaled(calm, factor, DAY))["is_lasting"].any()


def test_two_spikes_do_not_hide_each_other_nor_the_leap_after_them(calm: pd.DataFrame) -> None:
    rows = since(scaled(scaled(calm, 0.1, 20), 0.1, 40), 0.25, place=80)
    assert named(rows) == [(20, "spike"), (40, "spike"), (80, "unexplained leap")]


@pytest.mark.parametrize("closes", [[10.0, 10.1, 1.0, 10.2, 10.1], [10.0] * 8 + [1.0] + [10.0] * 8])
def test_a_wrong_bar_is_seen_in_a_week_and_among_closes_that_never_move(
    calm: pd.DataFrame, closes: list[float]
) -> None:
    rows = calm.head(len(closes)).assign(**dict.fromkeys(PRICES, closes))
    assert [rule for _, rule in named(rows)] == ["spike"]


def test_a_close_alone_that_is_wrong_for_a_day_is_a_spike(calm: pd.DataFrame) -> None:
    wrong = calm["close"].where(calm.index != DAY, calm["close"] * 10)
    assert named(calm.assign(close=wrong, high=calm["high"].where(calm.index != DAY, wrong))) == [
        (DAY, "spike")
    ]


@pytest.mark.parametrize("factor", [100.0, 0.01, 105.0])
def test_another_unit_is_named_so_whether_it_lasts_or_not(calm: pd.DataFrame, factor: float) -> None:
    assert named(scaled(calm, factor, DAY)) == [(DAY, "unit fault")]
    assert named(since(calm, factor)) == [(DAY, "unit fault")]


@pytest.mark.parametrize("ratio", [4.0, 2.0, 1.5, 0.1, 20.0])
def test_a_split_that_is_not_listed_is_an_unexplained_leap_with_its_factor(
    calm: pd.DataFrame, ratio: float
) -> None:
    rows = since(calm, 1 / ratio).assign(volume=calm["volume"] * np.where(calm.index >= DAY, ratio, 1.0))
    assert named(rows) == [(DAY, "unexplained leap")]
    shares = f"{ratio:g} for 1" if ratio > 1 else f"1 for {1 / ratio:g}"
    assert f"about {shares}" in find_leaps(rows)["detail"].item()
    assert named(listed(rows, ratio, DAY)) == []


@pytest.mark.parametrize("late", [-3, -1, 1, 3])
def test_a_split_listed_on_another_day_is_a_split_fault(calm: pd.DataFrame, late: int) -> None:
    rows = listed(since(calm, 0.25), 4.0, DAY + late)
    assert named(rows) == [(min(DAY, DAY + late), "spike")]  # the return is given back on the other day
    adjusted = scaled(rows, 4.0, *range(DAY + late))  # as it is stored where closes count as split-adjusted
    assert named(adjusted) == [(DAY, "split fault")]


def test_an_inverse_ratio_is_a_split_fault(calm: pd.DataFrame) -> None:
    assert named(listed(since(calm, 0.25), 0.25, DAY)) == [(DAY, "split fault")]
    assert named(since(listed(calm, 0.25, DAY), 1.0)) == [(DAY, "split fault")]


def test_any_other_leap_that_stands_alone_is_named_where_range_and_volume_stay_usual(
    calm: pd.DataFrame,
) -> None:
    rows = since(calm, 0.56)
    assert named(rows) == [(DAY, "unexplained leap")]
    assert "nothing listed explains it" in find_leaps(rows)["detail"].item()


def news(rows: pd.DataFrame, factor: float) -> pd.DataFrame:
    """Return the rows with a day of news: thirty times the volume, and a range of a third of the move."""
    day = rows.index == DAY
    moved = since(rows, factor)
    return moved.assign(
        volume=moved["volume"].where(~day, 30 * rows["volume"].median()),
        high=moved["high"].where(~day, moved["close"] * factor**-0.3),
    )


@pytest.mark.parametrize("factor", [0.5, 0.35, 0.7])
def test_a_crash_with_its_volume_and_range_is_no_leap(calm: pd.DataFrame, factor: float) -> None:
    assert named(news(calm, factor)) == []


def test_a_bid_for_the_company_is_no_leap(calm: pd.DataFrame) -> None:
    volume = calm["volume"].where(calm.index != DAY, 40 * calm["volume"].median())
    assert named(since(calm, 1.4).assign(volume=volume)) == []


def test_moves_of_a_wild_stock_are_no_leaps(xnys: Calendar, calm: pd.DataFrame) -> None:
    wild = 20 * np.exp(np.cumsum(np.random.default_rng(1).normal(0, 0.12, N)))
    rows = calm.assign(close=wild, open=wild, high=wild * 1.1, low=wild / 1.1)
    assert (np.abs(log_growth(rows)) > np.log(1.25)).sum() >= 5
    assert named(rows) == []


def test_ticks_of_a_penny_share_are_no_leaps(calm: pd.DataFrame) -> None:
    ticks = np.random.default_rng(2).choice([0.001, 0.0015, 0.002], N, p=[0.1, 0.8, 0.1])
    assert named(calm.assign(close=ticks, open=ticks, high=ticks, low=ticks)) == []


def test_without_volumes_and_ranges_a_leap_is_named_by_its_size_alone(calm: pd.DataFrame) -> None:
    fund = since(calm, 0.56).assign(volume=0.0)
    fund = fund.assign(open=fund["close"], high=fund["close"], low=fund["close"])
    assert named(fund) == [(DAY, "unexplained leap")]


def test_symbols_do_not_touch(xnys: Calendar, calm: pd.DataFrame) -> None:
    dear = scaled(calm, 50.0, *range(N)).assign(symbol="B")
    both = pd.concat([calm, scaled(dear, 0.1, DAY)], ignore_index=True)
    assert find_leaps(both)["symbol"].tolist() == ["B"]


def test_the_way_back_is_told_from_a_leap_of_its_own(calm: pd.DataFrame) -> None:
    rows = scaled(calm, 0.1, DAY, DAY + 1)
    back, takes_back = find_ways_back(log_growth(rows))
    is_large = np.abs(log_growth(rows)) > 1
    assert np.flatnonzero((back == 2) & is_large).tolist() == [DAY]
    assert np.flatnonzero(takes_back & is_large).tolist() == [DAY + 2]


@pytest.mark.parametrize("missing", [["volume"], ["open", "high", "low"], ["open", "high", "low", "volume"]])
def test_what_is_not_given_is_no_evidence(calm: pd.DataFrame, missing: list[str]) -> None:
    fallen = since(calm, 0.74)
    assert named(fallen) == [(DAY, "unexplained leap")]
    lacking = fallen.assign(**dict.fromkeys(missing, np.nan))
    assert named(lacking) == []
    far = find_leaps(since(calm, 0.3).assign(**dict.fromkeys(missing, np.nan)))["detail"].item()
    assert "range and volume are usual" not in far
    assert ("no range is given" in far) == ("high" in missing)


def test_without_volumes_a_split_needs_a_very_calm_range_and_a_large_leap(calm: pd.DataFrame) -> None:
    split = since(calm, 1 / 1.5).assign(volume=np.nan)
    assert named(split) == [(DAY, "unexplained leap")]
    assert "its range is usual (no volume is given)" in find_leaps(split)["detail"].item()
    assert named(split.assign(high=split["high"].where(split.index != DAY, split["close"] * 1.2))) == []


def test_a_leap_of_the_last_sessions_has_not_lasted_yet(calm: pd.DataFrame) -> None:
    rows = since(calm, 0.56)
    said = [find_leaps(rows.head(DAY + later))["detail"].item() for later in (1, 5, 6)]
    assert ["not taken back so far" in text for text in said] == [True, True, False]
    assert "and it lasted" in said[2]


def test_a_dividend_alone_makes_no_leap_and_a_listed_action_is_told(calm: pd.DataFrame) -> None:
    phantom = calm.assign(dividend=np.where(calm.index == DAY, 0.5 * calm["close"], 0.0))
    assert named(phantom) == []
    rows = listed(calm, 2.0, DAY)
    before, now = calm["close"][DAY - 1], calm["close"][DAY]
    detail = find_leaps(rows)["detail"].item()
    assert (
        f"from {before:.6g} to {now:.6g}; with the split of 2 listed, the return is x {2 * now / before:.4g}"
        in detail
    )


def test_only_the_leap_that_a_later_version_corrects_is_undone(calm: pd.DataFrame) -> None:
    twice = scaled(scaled(calm, 0.1, 20), 0.1, 80)
    undone = find_undone_leaps(twice, scaled(calm, 0.1, 80))
    assert undone["session"].tolist() == [calm["session"][20]]
    assert find_undone_leaps(twice, scaled(scaled(calm, 0.1, 80), 0.1, 40)).empty
