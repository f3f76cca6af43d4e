"""Positions and returns of the forecasts: enter at the open of the target session, exit at its close.

A forecast is issued before the open, so the open is the first price at which it can be traded. The overnight return
belongs to those who held the stock before.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.errors import NextdayError
from pipeline.trading.fills import MOST_STALE, Fills, measure_stale

__all__ = [
    "Positions",
    "Track",
    "buy_and_hold",
    "choose_sides",
    "compound",
    "take_long_short",
    "take_positions",
    "trade",
    "weigh_ends",
]

Floats = NDArray[np.float64]

_NEXT: Final = 1
_RUIN: Final = 1e-12  # what is left of a capital that is lost; its logarithm is finite


@dataclass(frozen=True, eq=False)
class Positions:
    """The positions of a rule in each session.

    Attributes:
        start: The session before the first one; positions held from close to close are bought at its close.
        sessions: The sessions that are traded, in ascending order.
        place: Their indices in Fills.sessions.
        weights: [session, symbol], the share of the capital, negative where short; their absolute values sum to 1
            at most.
        is_offered: bool [session, symbol]; whether the symbol has a forecast and can be traded at its open.
        stale: [session, symbol], the share of stale opens in the year before each session; NaN without a forecast.
    """

    start: pd.Timestamp
    sessions: pd.DatetimeIndex
    place: NDArray[np.intp]
    weights: Floats
    is_offered: NDArray[np.bool_]
    stale: Floats


@dataclass(frozen=True, eq=False)
class Track:
    """The returns of a rule per session; every array is [session].

    Attributes:
        start: The session before the first one.
        sessions: The sessions.
        gross: Return on the capital before costs.
        net: The same after costs.
        traded: Amount bought and sold, as a multiple of the capital.
        trades: Number of positions opened and closed.
    """

    start: pd.Timestamp
    sessions: pd.DatetimeIndex
    gross: Floats
    net: Floats
    traded: Floats
    trades: NDArray[np.integer]

    @property
    def equity(self) -> Floats:
        """Equity curve (growth of 1) at the close of each session."""
        return compound(self.net)


def compound(returns: Floats) -> Floats:
    """Return the cumulative product of 1 + r [session]; capital that is lost stays lost."""
    return np.asarray(np.cumprod(np.maximum(1 + returns, _RUIN)))


def choose_sides(p_up: Floats, threshold: float) -> Floats:
    """Return 1 (long), -1 (short) or 0 (flat): the side of 0.5 on which p_up lies if |p_up - 0.5| >= `threshold`."""
    return np.where(np.abs(p_up - 0.5) >= threshold, np.sign(p_up - 0.5), 0.0)


def take_positions(rows: pd.DataFrame, fills: Fills, *, threshold: float) -> Positions:
    """Turn one model's forecasts of the next session into positions of equal size within a session.

    A position is 1 / n of the capital, where n is the number of symbols offered in the session. The shares of flat
    symbols and of unfilled orders stay in cash. There is no look-ahead: positions use nothing of the target session.

    Args:
        rows: symbol, as_of, target_session, horizon, p_up; rows of farther horizons and of target sessions in the
            future are left out.
        fills: The prices.
        threshold: The smallest |p_up - 0.5| that is traded.

    Raises:
        NextdayError: a symbol or a past session has no prices at all, or two rows forecast the same.
    """
    return _take(rows, fills, lambda p_up: choose_sides(p_up, threshold), share=True)


def take_long_short(rows: pd.DataFrame, fills: Fills, *, most: int) -> Positions:
    """Turn one model's forecasts against the median into longs and shorts of equal weight within a session.

    Half of the capital is long in the `most` symbols with the highest p, half is short in as many with the lowest, at
    most half of the symbols offered on each side. Symbols with equal p at the border share what is left; where all are
    equal there is no position. There is no look-ahead: positions use nothing of the target session.

    Args:
        rows: As for `take_positions`.
        fills: The prices.
        most: The number of symbols on each side.

    Raises:
        NextdayError: a symbol or a past session has no prices at all, or two rows forecast the same.
    """
    return _take(rows, fills, lambda p: np.stack([weigh_ends(each, most) for each in p]), share=False)


def weigh_ends(p: Floats, most: int) -> Floats:
    """Return weights [symbol]: `most` long at the top of p, as many short at the bottom; NaN is not offered."""
    offered = np.isfinite(p)
    count = min(most, int(offered.sum()) // 2)
    weights = np.zeros_like(p)
    if count:
        for sign, values in ((1.0, p[offered]), (-1.0, -p[offered])):
            border = np.sort(values)[-count]
            inside, tied = values > border, values == border
            weights[offered] += sign * (inside + tied * (count - inside.sum()) / tied.sum())
        weights /= 2 * count
    return weights


def _take(rows: pd.DataFrame, fills: Fills, weigh: Callable[[Floats], Floats], *, share: bool) -> Positions:
    """Return the positions that `weigh` makes of p [session, symbol]; `share` divides them by the symbols offered."""
    near = rows[(rows["horizon"] == _NEXT) & (rows["target_session"] <= fills.sessions.max())]
    symbol = pd.Index(fills.symbols).get_indexer(pd.Index(near["symbol"]))
    session = fills.sessions.get_indexer(pd.DatetimeIndex(near["target_session"]))
    _require_prices(near, symbol, session)
    place, index = np.unique(session, return_inverse=True)
    p_up = np.full((len(place), len(fills.symbols)), np.nan)
    p_up[index, symbol] = near["p_up"].to_numpy(float)
    stale = np.where(np.isnan(p_up), np.nan, measure_stale(fills)[place])
    is_offered = stale <= MOST_STALE
    sides = weigh(np.where(is_offered, p_up, np.nan)) if len(p_up) else p_up
    sides = np.where(is_offered, sides, 0.0)
    return Positions(
        start=near["as_of"].min(),
        sessions=fills.sessions[place],
        place=place,
        weights=sides / np.maximum(is_offered.sum(axis=1, keepdims=True), 1) if share else sides,
        is_offered=is_offered,
        stale=stale,
    )


def _require_prices(rows: pd.DataFrame, symbol: NDArray[np.intp], session: NDArray[np.intp]) -> None:
    missing = np.flatnonzero((symbol < 0) | (session < 0))
    if len(missing):
        row = rows.iloc[missing[0]]
        raise NextdayError(
            f"There are no prices to trade {row['symbol']} on {row['target_session']:%Y-%m-%d}",
            fix="pass the prices of every symbol and session that has a forecast",
        )
    if rows.duplicated(["symbol", "target_session"]).any():
        raise NextdayError("A symbol is forecast twice for one session: pass the forecasts of one model")


def trade(positions: Positions, returns: Floats, *, cost: float, borrow: float = 0.0) -> Track:
    """Return what the positions earn over `returns`, with costs paid on each side of each trade.

    A position of weight w in a stock with return r earns w r. It pays `cost` on |w| when it is bought and on
    |w| (1 + r) when it is sold. Where the return is NaN there was no trade.

    Args:
        positions: The positions.
        returns: [session, symbol], for every session of Fills; Fills.intraday_return is what could be earned.
        cost: Costs and slippage, as a share of the amount bought or sold.
        borrow: What it costs to hold a short position for a session, as a share of its amount.
    """
    moves = returns[positions.place]
    weights = np.where(np.isfinite(moves), positions.weights, 0.0)
    moves = np.where(np.isfinite(moves), moves, 0.0)
    gross = (weights * moves).sum(axis=1)
    traded = (np.abs(weights) * (2 + moves)).sum(axis=1)
    return Track(
        positions.start,
        positions.sessions,
        gross=gross,
        net=gross - cost * traded - borrow * np.maximum(-weights, 0).sum(axis=1),
        traded=traded,
        trades=(weights != 0).sum(axis=1),
    )


def buy_and_hold(positions: Positions, fills: Fills) -> Track:
    """Return what buy-and-hold earns: every symbol that is ever offered, bought at `start` with an equal share.

    It earns total returns from close to close, with dividends reinvested in their stock, without costs. The share of a
    symbol whose prices begin later stays in cash until then.
    """
    owned = positions.is_offered.any(axis=0)
    since = int(fills.sessions.searchsorted(positions.start, side="right"))
    moves = np.nan_to_num(fills.total_return[since : positions.place.max() + 1, owned])
    equity = np.cumprod(1 + moves, axis=0).mean(axis=1) if owned.any() else np.ones(len(moves))
    level = equity[positions.place - since]
    earned = np.diff(level, prepend=1.0) / np.concatenate([[1.0], level[:-1]])
    nothing = np.zeros_like(earned)
    bought = np.where(np.arange(len(earned)) == 0, int(owned.sum()), 0)
    return Track(positions.start, positions.sessions, earned, earned, nothing, bought)
