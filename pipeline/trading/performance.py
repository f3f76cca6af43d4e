"""What a rule came to in numbers, none of them without n, and none that chance can move without its interval."""

from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline import schema
from pipeline.errors import NextdayError
from pipeline.statistics import bootstrap
from pipeline.statistics.metrics import mean_of
from pipeline.statistics.sharpe import sharpe_of, sharpe_ratio
from pipeline.trading.positions import Track, compound

__all__ = [
    "Drawdown",
    "Estimate",
    "Result",
    "count_sessions_a_year",
    "estimate_mean",
    "find_drawdown",
    "measure",
]

Floats = NDArray[np.float64]

_YEAR: Final = 252
_BASIS_POINTS: Final = 1e4


@dataclass(frozen=True)
class Estimate:
    """A number that cannot be had without its 95% interval and its n.

    Attributes:
        value: The number.
        low: Lower end, by the stationary bootstrap of whole sessions.
        high: Upper end.
        sessions: How many it stands on.
        trades: How many were made in them.

    Raises:
        NextdayError: one of them is missing.
    """

    value: float
    low: float
    high: float
    sessions: int
    trades: int

    def __post_init__(self) -> None:
        """Refuse a number without them."""
        is_whole = np.isfinite([self.value, self.low, self.high]).all() and self.low <= self.high
        if not is_whole or self.sessions < schema.MIN_SESSIONS or self.trades < 0:
            raise NextdayError(f"No number of a trading view stands without n and an interval: {self}")


@dataclass(frozen=True)
class Drawdown:
    """The deepest fall of an equity curve.

    Attributes:
        depth: From the peak to the trough, as a share of the peak; 0 where it never fell.
        peak: The session at whose close it began.
        trough: The session at whose close it was deepest.
    """

    depth: float
    peak: pd.Timestamp
    trough: pd.Timestamp


@dataclass(frozen=True)
class Result:
    """What one rule came to.

    Attributes:
        name: Whose.
        sessions: How many there were, also those without a trade.
        trades: Positions opened and closed.
        made: Return on the capital over all sessions, compounded, after costs.
        made_before_costs: The same without costs.
        total: `made` with its interval, as are the next three; None where no interval can be drawn.
        mean_bps: Mean return of a session after costs, in basis points.
        sharpe: Of a year, after costs, the risk-free rate taken as zero.
        break_even_bps: Cost a side at which the mean return is zero, in basis points; below zero it loses before
            any cost.
        turnover: Bought and sold in a session, as a multiple of the capital.
        turnover_a_year: The same in a year.
        drawdown: The deepest fall after costs.
    """

    name: str
    sessions: int
    trades: int
    made: float
    made_before_costs: float
    total: Estimate | None
    mean_bps: Estimate | None
    sharpe: Estimate | None
    break_even_bps: Estimate | None
    turnover: float
    turnover_a_year: float
    drawdown: Drawdown


def count_sessions_a_year(sessions: pd.DatetimeIndex) -> float:
    """Return how many sessions a year has, from the calendar that is given; 252 where it is shorter than a year."""
    days = (sessions[-1] - sessions[0]).days if len(sessions) else 0
    return 365.25 * (len(sessions) - 1) / days if days >= 365 else float(_YEAR)


def measure(track: Track, *, name: str, year: float, draws: int = 1000, seed: int = 0) -> Result:
    """Measure what one rule came to.

    Args:
        track: Of one session at least.
        name: Whose.
        year: Sessions of a year.
        draws: Samples of the stationary bootstrap of sessions (Politis and Romano 1994) that intervals come from.
        seed: Of the bootstrap.
    """
    net, n, trades = track.net, len(track.net), int(track.trades.sum())
    copies = bootstrap.resample_sessions(net, draws=draws, seed=seed)
    known = partial(_estimate, sessions=n, trades=trades)
    growth = np.log(np.maximum(1 + net, 1e-12))
    traded, turnover = track.traded.sum(), float(track.traded.mean())
    return Result(
        name=name,
        sessions=n,
        trades=trades,
        made=float(track.equity[-1] - 1),
        made_before_costs=float(compound(track.gross)[-1] - 1),
        total=known(np.expm1(growth.sum()), np.expm1(copies @ growth)),
        mean_bps=estimate_mean(net, trades=trades, draws=draws, seed=seed),
        sharpe=known(
            np.sqrt(year) * sharpe_ratio(net), np.sqrt(year) * sharpe_of(copies @ net, copies @ net**2, n)
        ),
        break_even_bps=known(
            _BASIS_POINTS * float(mean_of(track.gross.sum(), traded)),
            _BASIS_POINTS * mean_of(copies @ track.gross, copies @ track.traded),
        ),
        turnover=turnover,
        turnover_a_year=turnover * year,
        drawdown=find_drawdown(track),
    )


def find_drawdown(track: Track) -> Drawdown:
    """Return the deepest fall of the equity curve after costs, the capital of the start included."""
    level = np.concatenate([[1.0], track.equity])
    session = [track.start, *track.sessions]
    fall = 1 - level / np.maximum.accumulate(level)
    trough = int(fall.argmax())
    return Drawdown(float(fall[trough]), session[int(level[: trough + 1].argmax())], session[trough])


def estimate_mean(returns: Floats, *, trades: int, draws: int = 1000, seed: int = 0) -> Estimate | None:
    """Return the mean of returns [session], or of differences of them, in basis points; None without an interval."""
    copies = bootstrap.resample_sessions(returns, draws=draws, seed=seed)
    drawn = copies @ returns / len(returns)
    return _estimate(
        _BASIS_POINTS * returns.mean(), _BASIS_POINTS * drawn, sessions=len(returns), trades=trades
    )


def _estimate(value: float, drawn: Floats, *, sessions: int, trades: int) -> Estimate | None:
    """Return the number with its interval; None where it is not defined or cannot have one."""
    low, high = bootstrap.percentile_interval(drawn)
    if not np.isfinite([value, low, high]).all():
        return None
    return Estimate(float(value), low, high, sessions, trades)
