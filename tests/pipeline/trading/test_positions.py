"""Trades by hand, by property and without look-ahead; test_trading_engine.py compares them with another engine."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import NextdayError
from pipeline.forecasting.forecast import choose_directions
from pipeline.market.calendar import Calendar
from pipeline.trading.fills import Fills, measure_stale, read_fills
from pipeline.trading.positions import Positions, buy_and_hold, choose_sides, compound, take_positions, trade
from tests.conftest import laid_out, prices_of, vendor_bars

SESSIONS = pd.bdate_range("2018-01-01", periods=400).as_unit("us")


def fills_of(open_: np.ndarray, close: np.ndarray) -> Fills:
    """Return prices [session, symbol] without splits and dividends."""
    open_, close = np.asarray(open_, float), np.asarray(close, float)
    previous = np.vstack([np.full_like(close[:1], np.nan), close[:-1]])
    symbols = [f"S{k}" for k in range(close.shape[1])]
    return Fills(SESSIONS[: len(close)], symbols, open_, close, previous, close / previous - 1)


def walk_of(seed: int, sessions: int = 60, symbols: int = 3) -> Fills:
    """Return random walks whose open lies between two closes."""
    rng = np.random.default_rng(seed)
    steps = np.exp(rng.normal(0, 0.01, (2, sessions, symbols)))
    close = 100 * np.cumprod(steps[0] * steps[1], axis=0)
    return fills_of(close / steps[1], close)


def rows_of(p_up: np.ndarray, first: int = 1, model: str = "gru") -> pd.DataFrame:
    """Return forecasts [session, symbol] for the sessions from number `first` on."""
    sessions, symbols = np.shape(p_up)
    target = np.repeat(np.arange(first, first + sessions), symbols)
    return pd.DataFrame(
        {
            "model": model,
            "symbol": np.tile([f"S{k}" for k in range(symbols)], sessions),
            "as_of": SESSIONS[target - 1],
            "target_session": SESSIONS[target],
            "horizon": 1,
            "p_up": np.ravel(p_up).astype(float),
        }
    )


def positions_of(weights: np.ndarray) -> Positions:
    """Return positions [session, symbol] in the sessions from number 1 on."""
    weights = np.asarray(weights, float)
    place = np.arange(1, len(weights) + 1)
    whole = np.ones_like(weights)
    return Positions(SESSIONS[0], SESSIONS[place], place, weights, whole > 0, whole * 0)


# By hand.


def test_in_at_the_open_and_out_at_the_close_with_costs_on_both_sides() -> None:
    fills = fills_of([[10, 20], [11, 19], [12, 25]], [[10, 20], [12.1, 19], [9, 24]])
    held = take_positions(rows_of([[0.6, 0.4], [0.7, 0.5]]), fills, threshold=0.0)
    assert held.weights.tolist() == [[0.5, -0.5], [0.5, 0.0]]
    track = trade(held, fills.intraday_return, cost=0.001)
    assert track.gross == pytest.approx([0.5 * 0.1, 0.5 * -0.25])
    # Bought 0.5 and sold 0.55; sold 0.5 short and bought it back unchanged. Then bought 0.5 and sold 0.375.
    assert track.traded == pytest.approx([0.5 + 0.55 + 0.5 + 0.5, 0.5 + 0.375])
    assert track.net == pytest.approx([0.05 - 0.00205, -0.125 - 0.000875])
    assert track.trades.tolist() == [2, 1]
    assert track.equity[-1] == pytest.approx((1 + 0.04795) * (1 - 0.125875))
    assert track.start == SESSIONS[0]


def test_a_threshold_leaves_the_unsure_flat_and_their_share_in_cash() -> None:
    held = take_positions(rows_of([[0.56, 0.44, 0.52, 0.5]]), walk_of(1, symbols=4), threshold=0.05)
    assert held.weights.tolist() == [[0.25, -0.25, 0.0, 0.0]]


def test_sides_are_those_of_the_directions() -> None:
    p_up = np.append(np.random.default_rng(1).uniform(0, 1, 500), [0.5, 0.44, 0.56])
    for threshold in (0.0, 0.06, 0.3):
        words = pd.Series(choose_directions(p_up, threshold).astype(str)).map(
            {"up": 1.0, "down": -1.0, "none": 0.0}
        )
        assert choose_sides(p_up, threshold).tolist() == words.tolist()


def test_an_order_without_a_trade_stays_cash_and_costs_nothing() -> None:
    fills = walk_of(1, symbols=2)
    fills.open[1, 0] = fills.close[1, 0] = np.nan
    held = take_positions(rows_of([[0.6, 0.6]]), fills, threshold=0.0)
    track = trade(held, fills.intraday_return, cost=0.001)
    assert track.trades.tolist() == [1]
    assert track.gross == pytest.approx(0.5 * fills.intraday_return[1, 1:2])


def test_a_capital_that_is_lost_stays_lost() -> None:
    assert compound(np.array([0.5, -1.2, 0.5]))[-1] == pytest.approx(0, abs=1e-11)


def test_only_the_next_session_is_traded_and_only_once_it_has_come() -> None:
    fills = walk_of(1, sessions=5)
    rows = rows_of(np.full((6, 3), 0.6))
    both = pd.concat([rows, rows.assign(horizon=5)])
    assert take_positions(both, fills, threshold=0.0).sessions.equals(SESSIONS[1:5])


def test_what_has_no_prices_is_named() -> None:
    rows = rows_of(np.full((3, 2), 0.6))
    with pytest.raises(NextdayError, match="no prices to trade S9 on 2018-01-02"):
        take_positions(rows.replace({"symbol": {"S1": "S9"}}), walk_of(1), threshold=0.0)
    with pytest.raises(NextdayError, match="twice"):
        take_positions(pd.concat([rows, rows]), walk_of(1), threshold=0.0)


# Buy and hold.


def test_what_is_held_drifts_and_is_never_bought_again() -> None:
    close = np.array([[10, 10, 5], [20, 10, 5], [40, 5, 5.0]])
    fills = fills_of(close, close)
    track = buy_and_hold(positions_of([[1, 1, 0], [1, 1, 0]]), fills)
    assert track.equity == pytest.approx([(2 + 1 + 1) / 3, (4 + 0.5 + 1) / 3])
    assert track.traded.tolist() == [0, 0]
    assert track.trades.tolist() == [3, 0]


def test_a_hole_in_the_forecasts_is_held_through() -> None:
    fills = walk_of(4, sessions=30, symbols=2)
    positions = positions_of(np.ones((29, 2)))
    some = np.r_[0:10, 20:29]
    holed = replace(
        positions,
        sessions=positions.sessions[some],
        place=positions.place[some],
        is_offered=positions.is_offered[some],
    )
    assert buy_and_hold(holed, fills).equity[-1] == pytest.approx(buy_and_hold(positions, fills).equity[-1])
    assert buy_and_hold(positions, fills).equity[-1] == pytest.approx(
        (fills.close[-1] / fills.close[0]).mean()
    )


def test_a_listing_that_begins_later_waits_in_cash() -> None:
    fills = walk_of(4, sessions=30, symbols=2)
    fills.close[:10, 1] = fills.total_return[:11, 1] = np.nan
    growth = [fills.close[-1, 0] / fills.close[0, 0], fills.close[-1, 1] / fills.close[10, 1]]
    assert buy_and_hold(positions_of(np.ones((29, 2))), fills).equity[-1] == pytest.approx(np.mean(growth))


# By property.

unit = st.floats(0, 1)
books = st.integers(0, 10_000).flatmap(
    lambda seed: st.tuples(
        st.just(walk_of(seed, sessions=9)),
        st.lists(st.lists(unit, min_size=3, max_size=3), min_size=8, max_size=8).map(np.array),
    )
)


@pytest.mark.slow
@given(books, st.floats(0, 0.49), st.floats(0, 0.01))
def test_costs_only_lower_and_more_of_them_lower_more(
    book: tuple[Fills, np.ndarray], threshold: float, cost: float
) -> None:
    fills, p_up = book
    held = take_positions(rows_of(p_up), fills, threshold=threshold)
    free, cheap, dear = (trade(held, fills.intraday_return, cost=c) for c in (0.0, cost, 2 * cost))
    assert np.array_equal(free.net, free.gross)
    assert (cheap.net <= free.net).all()
    assert (dear.net <= cheap.net).all()


@pytest.mark.slow
@given(books, st.floats(0, 0.49))
def test_no_position_earns_nothing_and_costs_nothing(
    book: tuple[Fills, np.ndarray], threshold: float
) -> None:
    fills, p_up = book
    held = take_positions(rows_of(p_up), fills, threshold=threshold)
    track = trade(held, fills.intraday_return, cost=0.001)
    idle = (held.weights == 0).all(axis=1)
    assert (track.net[idle] == 0).all()
    assert (track.traded[idle] == 0).all()
    assert (track.traded[~idle] > 0).all()
    assert np.abs(held.weights).sum(axis=1).max() <= 1 + 1e-12


@pytest.mark.slow
@given(books, st.floats(0, 0.49))
def test_the_other_side_earns_the_opposite_before_costs(
    book: tuple[Fills, np.ndarray], threshold: float
) -> None:
    fills, p_up = book
    held = take_positions(rows_of(p_up), fills, threshold=threshold)
    # The weights are turned, not p_up: 1 - p_up can differ from one half by another rounding.
    turned = replace(held, weights=-held.weights)
    one, other = (trade(each, fills.intraday_return, cost=0.0) for each in (held, turned))
    assert np.array_equal(one.gross, -other.gross)
    assert np.array_equal(one.traded, other.traded)


# What could not be known, and what cannot be had.


@pytest.mark.slow
@given(st.integers(0, 50), st.integers(1, 58))
def test_other_prices_later_change_no_earlier_position_and_no_earlier_return(seed: int, last: int) -> None:
    fills, rng = walk_of(seed), np.random.default_rng(seed)
    rows = rows_of(rng.uniform(0.3, 0.7, (59, 3)))
    open_, close = fills.open.copy(), fills.close.copy()
    close[last:] *= np.exp(rng.normal(0, 0.1, (60 - last, 3)))
    open_[last:] = np.where(rng.random((60 - last, 3)) < 0.6, close[last - 1 : -1], open_[last:])
    open_[last, 0] = np.nan
    other = fills_of(open_, close)
    before, after = (take_positions(rows, each, threshold=0.02) for each in (fills, other))
    # Row k is of session k + 1: the position of session `last` itself is decided before its open.
    assert np.array_equal(before.weights[:last], after.weights[:last])
    one, two = (
        trade(held, each.intraday_return, cost=1e-4) for held, each in ((before, fills), (after, other))
    )
    assert np.array_equal(one.net[: last - 1], two.net[: last - 1])


def test_an_open_that_repeats_the_close_before_is_not_traded_once_that_is_known() -> None:
    fills = walk_of(2, sessions=200, symbols=2)
    stale = np.arange(200) % 5 == 0
    fills.open[stale, 0] = fills.previous_close[stale, 0]
    share = measure_stale(fills)
    assert share[-1].tolist() == pytest.approx([39 / 198, 0.0], abs=0.01)
    held = take_positions(rows_of(np.full((199, 2), 0.6)), fills, threshold=0.0)
    # The first stale open is only known after its day; from then on the other symbol has the whole capital.
    assert held.weights[:5].tolist() == [[0.5, 0.5]] * 5
    assert held.weights[5:].tolist() == [[0.0, 1.0]] * 194


def test_opens_are_judged_by_the_year_before() -> None:
    fixed, lost = walk_of(2, 400, 1), walk_of(2, 400, 1)
    fixed.open[1:101] = fixed.previous_close[1:101]
    lost.open[360:] = lost.previous_close[360:]
    share = measure_stale(fixed)[:, 0]
    assert share[101] == 1
    assert share[326] == pytest.approx(27 / 252)
    assert share[353:].tolist() == [0.0] * 47
    assert measure_stale(lost)[-1, 0] == pytest.approx(39 / 252)


def test_a_symbol_is_traded_again_a_year_after_its_opens_were_fixed() -> None:
    fills = walk_of(2, sessions=400, symbols=2)
    fills.open[1:101, 0] = fills.previous_close[1:101, 0]
    held = take_positions(rows_of(np.full((399, 2), 0.6)), fills, threshold=0.0)
    # In all but the first session, until no more than a tenth of the 252 opens before repeat the close.
    assert np.flatnonzero(~held.is_offered[:, 0]).tolist() == list(range(1, 327))
    assert held.is_offered[:, 1].all()
    assert held.weights[327:].tolist() == [[0.5, 0.5]] * 72


def test_splits_dividends_and_untraded_days_reach_the_fills(xnys: Calendar) -> None:
    days = xnys.sessions[:6]
    close = np.array([100, 102, 51, 50, 50, 52.0])
    bars = vendor_bars(days, close, open=close * 0.99, low=close * 0.98)
    bars["split"], bars["dividend"] = [1, 1, 2.0, 1, 1, 1], [0, 0, 0, 1.0, 0, 0]
    bars.loc[4, "volume"] = 0
    fills = read_fills(laid_out(prices_of({"A": bars}, xnys), days, ["A"]))
    assert fills.intraday_return[[1, 2, 3, 5], 0] == pytest.approx([1 / 0.99 - 1] * 4)
    assert fills.total_return[1:4, 0] == pytest.approx([0.02, 0.0, 50 / (51 - 1) - 1])
    untraded = [fills.open, fills.close, fills.previous_close, fills.total_return, fills.intraday_return]
    assert np.isnan([prices[4, 0] for prices in untraded]).all()
    assert fills.previous_close[2, 0] == pytest.approx(102)
    assert fills.total_return[5, 0] == pytest.approx(0.04)


def test_a_symbol_without_opens_is_left_out_and_gives_its_share_to_the_others() -> None:
    fills = walk_of(1, sessions=40, symbols=3)
    opens = fills.open.copy()
    opens[:, 1] = np.nan
    opens[30, 2] = np.nan
    held = take_positions(rows_of(np.full((20, 3), 0.6), first=10), replace(fills, open=opens), threshold=0.0)
    assert not held.is_offered[:, 1].any()
    assert held.is_offered[:, [0, 2]].all()
    assert (held.weights[:, [0, 2]] == 0.5).all()
