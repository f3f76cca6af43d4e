"""Dividends that the closes contradict, and healthy ones."""

import numpy as np
import pandas as pd
import pytest

from pipeline.market.calendar import Calendar
from pipeline.prices.ingest.dividends import find_dividend_doubts
from tests.conftest import prices_of, random_bars

N, QUARTERS = 300, (30, 93, 156, 219, 282)


@pytest.fixture
def rows(xnys: Calendar) -> pd.DataFrame:
    """Return the bars of a stock at about 100, which moves by 1% a day."""
    return prices_of({"A": random_bars(xnys.sessions[:N], 5)}, xnys)


def paying(
    rows: pd.DataFrame, share: float, *places: int, shown: float = 1.0, listed: float = 1.0
) -> pd.DataFrame:
    """Return rows whose closes fall by `shown` times a share of the price, of which `listed` times is listed."""
    before = rows["close"].shift()
    is_paid = rows.index.isin(places)
    fall = np.cumprod(np.where(is_paid, 1 - share * shown, 1.0))
    scaled = {name: rows[name] * fall for name in ("open", "high", "low", "close")}
    price = before * np.concatenate([[1.0], fall[:-1]])
    return rows.assign(**scaled, dividend=np.where(is_paid, listed * share * price, 0.0))


def doubts(rows: pd.DataFrame) -> list[int]:
    return rows.index[rows["session"].isin(find_dividend_doubts(rows)["session"])].tolist()


@pytest.mark.parametrize("share", [0.0003, 0.005, 0.02, 0.4])
def test_dividends_that_the_closes_show_are_healthy(rows: pd.DataFrame, share: float) -> None:
    assert doubts(paying(rows, share, *QUARTERS)) == []
    assert doubts(rows) == []
    assert find_dividend_doubts(rows.head(0)).empty


def test_dividends_in_pounds_beside_prices_in_pence_are_named_with_the_factor(rows: pd.DataFrame) -> None:
    pence = paying(rows, 0.02, *QUARTERS, listed=0.01).assign(currency="GBp")
    assert doubts(pence) == list(QUARTERS)
    detail = find_dividend_doubts(pence)["detail"].iloc[0]
    assert "factor 100" in detail
    assert "GBp" in detail
    assert doubts(pence.head(QUARTERS[0] + 1)) == [QUARTERS[0]]  # the first one is enough
    assert doubts(paying(rows, 0.02, *QUARTERS).assign(currency="GBp")) == []


def test_in_another_currency_the_closes_have_to_show_the_unit(rows: pd.DataFrame) -> None:
    hidden = paying(rows, 0.04, *QUARTERS, listed=0.01)
    assert doubts(hidden.assign(currency="EUR")) == list(QUARTERS)
    assert doubts(hidden.head(QUARTERS[2])) == []
    assert doubts(paying(rows, 0.0004, *QUARTERS).assign(currency="EUR")) == []


@pytest.mark.parametrize("share", [0.08, 0.3, 0.9, 2.0])
def test_a_large_dividend_that_the_closes_do_not_show_is_named(rows: pd.DataFrame, share: float) -> None:
    phantom = paying(rows, share, 100, shown=0.0)
    assert doubts(phantom) == [100]
    assert "the closes show the factor" in find_dividend_doubts(phantom)["detail"].item()
    assert doubts(paying(rows, 0.03, *QUARTERS, listed=100).assign(currency="GBP")) == list(QUARTERS)


def test_a_distribution_at_a_split_is_measured_in_the_units_after_it(rows: pd.DataFrame) -> None:
    paid = paying(rows, 0.3, 100)
    after, day = rows.index >= 100, rows.index == 100
    halved = {
        name: paid[name] / np.where(after, 2, 1) for name in ("open", "high", "low", "close", "dividend")
    }
    assert doubts(paid.assign(**halved, split=np.where(day, 2.0, 1.0))) == []


def test_the_same_dividend_again_within_days_is_named(rows: pd.DataFrame) -> None:
    twice = paying(rows, 0.005, *QUARTERS)
    again = twice["dividend"].where(twice.index != 158, twice["dividend"][156])
    assert doubts(twice.assign(dividend=again)) == [158]
    weekly = paying(rows, 0.002, *range(5, N, 5))
    assert doubts(weekly.assign(dividend=np.where(weekly["dividend"] > 0, 0.2, 0.0))) == []


def test_closes_that_are_adjusted_for_dividends_contradict_none(rows: pd.DataFrame) -> None:
    assert doubts(paying(rows, 0.3, 100, shown=0.0).assign(adjustment="split+dividend")) == []


MONTHLY = tuple(range(20, 280, 20))


@pytest.mark.parametrize("wrong", [3, 5, 6, 7, 12])
def test_dividends_in_pounds_among_others_in_pence_are_named_however_many(
    rows: pd.DataFrame, wrong: int
) -> None:
    pence = paying(rows, 0.02, *MONTHLY).assign(currency="GBp")
    pounds = pence["dividend"].where(~pence.index.isin(MONTHLY[:wrong]), pence["dividend"] / 100)
    assert doubts(pence.assign(dividend=pounds)) == list(MONTHLY[:wrong])


@pytest.mark.parametrize("share", [0.0004, 0.0008])
def test_small_dividends_in_pence_that_the_closes_contradict_in_pounds_are_healthy(
    rows: pd.DataFrame, share: float
) -> None:
    assert doubts(paying(rows, share, *MONTHLY).assign(currency="GBp")) == []


def test_a_dividend_cut_to_a_tenth_is_healthy(rows: pd.DataFrame) -> None:
    paid = paying(rows, 0.005, *MONTHLY).assign(currency="GBp")
    cut = paid["dividend"].where(paid.index < MONTHLY[6], paid["dividend"] / 10)
    assert doubts(paid.assign(dividend=cut)) == []
