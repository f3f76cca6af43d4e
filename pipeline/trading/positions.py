"""What a person could have earned with the forecasts: in at the open of the target session, out at its close.

A forecast is written down before the open, so the open is the first price that it can be traded at. The move of the
night belongs to whoever held the stock before.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.errors import NextdayError
from pipeline.trading.fills import MOST_STALE, Fills, measure_stale

__all__ = ["Positions", "Track", "choose_sides", "compound", "hold", "take_positions", "trade"]

Floats = NDArray[np.float64]

_NEXT: Final = 1
_RUIN: Final = 1e-12  # what is left of a capital that is lost; its logarithm is finite


@dataclass(frozen=True, eq=False)
class Positions:
    """What a rule holds in each session.

    Attributes:
        start: The session before the first one: what is held from close to close is bought there.
        sessions: The sessions that are traded, ascending.
        place: Their numbers in Fills.sessions.
        weights: [session, symbol], the share of the capital, negative where short; the sum of their sizes is 1 at
            most.
        is_offered: bool [session, symbol]; a symbol with a forecast whose opens can be believed.
        stale: [session, symbol], the share of stale opens as known before each session, NaN without a forecast.
    """

    start: pd.Timestamp
    sessions: pd.DatetimeIndex
    place: NDArray[np.intp]
    weights: Floats
    is_offered: NDArray[np.bool_]
    stale: Floats


@dataclass(frozen=True, eq=False)
class Track:
    """What a rule earned, session by session; every array is [session].

    Attributes:
        start: The session before the first one.
        sessions: Which.
        gross: Return on the capital before costs.
        net: The same after costs.
        traded: Bought and sold, as a multiple of the capital.
        trades: How many positions were opened and closed.
    """

    start: pd.Timestamp
    sessions: pd.DatetimeIndex
    gross: Floats
    net: Floats
    traded: Floats
    trades: NDArray[np.integer]

    @property
    def equity(self) -> Floats:
        """What a capital of 1 has become at the close of each session."""
        return compound(self.net)


def compound(returns: Floats) -> Floats:
    """Return the product of 1 + r up to each session [session]; a capital that is lost stays lost."""
    return np.asarray(np.cumprod(np.maximum(1 + returns, _RUIN)))


def choose_sides(p_up: Floats, threshold: float) -> Floats:
    """Return 1 for long, -1 for short, 0 for flat: the side of 0.5 where |p_up - 0.5| is `threshold` or more."""
    return np.where(np.abs(p_up - 0.5) >= threshold, np.sign(p_up - 0.5), 0.0)


def take_positions(rows: pd.DataFrame, fills: Fills, *, threshold: float) -> Positions:
    """Turn one model's forecasts of the next session into positions, equally large within a session.

    A position is 1 / n of the capital, n the symbols of the session that are offered: what stays flat stays cash, and
    so does an order that finds no trade. Nothing of the target session decides anything.

    Args:
        rows: symbol, as_of, target_session, horizon, p_up; rows of farther horizons and of target sessions that
            have not come yet are left out.
        fills: The prices.
        threshold: The least |p_up - 0.5| that is traded.

    Raises:
        NextdayError: a symbol or a past session has no prices at all, or two rows forecast the same.
    """
    near = rows[(rows["horizon"] == _NEXT) & (rows["target_session"] <= fills.sessions.max())]
    symbol = pd.Index(fills.symbols).get_indexer(pd.Index(near["symbol"]))
    session = fills.sessions.get_indexer(pd.DatetimeIndex(near["target_session"]))
    _require_prices(near, symbol, session)
    place, line = np.unique(session, return_inverse=True)
    p_up = np.full((len(place), len(fills.symbols)), np.nan)
    p_up[line, symbol] = near["p_up"].to_numpy(float)
    stale = np.where(np.isnan(p_up), np.nan, measure_stale(fills)[place])
    is_offered = stale <= MOST_STALE
    sides = np.where(is_offered, choose_sides(p_up, threshold), 0.0)
    return Positions(
        start=near["as_of"].min(),
        sessions=fills.sessions[place],
        place=place,
        weights=sides / np.maximum(is_offered.sum(axis=1, keepdims=True), 1),
        is_offered=is_offered,
        stale=stale,
    )


def _require_prices(rows: pd.DataFrame, symbol: NDArray[np.intp], session: NDArray[np.intp]) -> None:
    lacking = np.flatnonzero((symbol < 0) | (session < 0))
    if len(lacking):
        row = rows.iloc[lacking[0]]
        raise NextdayError(
            f"There are no prices to trade {row['symbol']} on {row['target_session']:%Y-%m-%d}",
            fix="hand in the prices of every symbol and session that was forecast",
        )
    if rows.duplicated(["symbol", "target_session"]).any():
        raise NextdayError("A symbol is forecast twice for one session: trade one model at a time")


def trade(positions: Positions, returns: Floats, *, cost: float) -> Track:
    """Hold the positions over `returns` and pay for each side of each trade.

    A position of the weight w in a stock that moves by r earns w r, and pays `cost` on |w| when it is bought and on
    |w| (1 + r) when it is sold. Where there is no return there was no trade.

    Args:
        positions: What is held.
        returns: [session, symbol] of the whole of Fills: its intraday_return is what can be had.
        cost: Costs and slippage as a share of what is bought or sold.
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
        net=gross - cost * traded,
        traded=traded,
        trades=(weights != 0).sum(axis=1),
    )


def hold(positions: Positions, fills: Fills) -> Track:
    """Buy every symbol that is ever offered with an equal part of the capital at `start`, and hold it to the end.

    Total returns from close to close, dividends put back into their stock, without costs. A symbol whose prices begin
    later waits in cash.
    """
    owned = positions.is_offered.any(axis=0)
    since = int(fills.sessions.searchsorted(positions.start, side="right"))
    moves = np.nan_to_num(fills.total_return[since : positions.place.max() + 1, owned])
    worth = np.cumprod(1 + moves, axis=0).mean(axis=1) if owned.any() else np.ones(len(moves))
    level = worth[positions.place - since]
    earned = np.diff(level, prepend=1.0) / np.concatenate([[1.0], level[:-1]])
    nothing = np.zeros_like(earned)
    bought = np.where(np.arange(len(earned)) == 0, int(owned.sum()), 0)
    return Track(positions.start, positions.sessions, earned, earned, nothing, bought)
