"""Performance of a trading rule: every number comes with n, and every estimate with its confidence interval."""

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
    """An estimate with its 95% interval and its n; it cannot be constructed without them.

    Attributes:
        value: The estimate.
        low: Lower end, by the stationary bootstrap of whole sessions.
        high: Upper end.
        sessions: The number of sessions it is estimated from.
        trades: The number of trades in them.

    Raises:
        NextdayError: one of them is missing.
    """

    value: float
    low: float
    high: float
    sessions: int
    trades: int

    def __post_init__(self) -> None:
        """Refuse an estimate without interval or n."""
        is_whole = np.isfinite([self.value, self.low, self.high]).all() and self.low <= self.high
        if not is_whole or self.sessions < schema.MIN_SESSIONS or self.trades < 0:
            raise NextdayError(f"A trading estimate must not be shown without n and an interval: {self}")


@dataclass(frozen=True)
class Drawdown:
    """The maximum drawdown of an equity curve.

    Attributes:
        depth: The loss from the peak to the trough, as a share of the peak; 0 where the curve never fell.
        peak: The session at whose close the drawdown began.
        trough: The session at whose close it was deepest.
    """

    depth: float
    peak: pd.Timestamp
    trough: pd.Timestamp


@dataclass(frozen=True)
class Result:
    """The performance of one rule.

    Attributes:
        name: The name of the rule.
        sessions: The number of sessions, those without a trade included.
        trades: Positions opened and closed.
        net_return: Compounded return on the capital over all sessions, after costs.
        gross_return: The same before costs.
        total: `net_return` with its interval; like the next three, None where no interval can be computed.
        mean_bps: Mean return per session after costs, in basis points.
        sharpe: Annualized Sharpe ratio after costs, at a risk-free rate of zero.
        break_even_bps: Cost per side at which the mean return is zero, in basis points; below zero, the rule loses
            before any costs.
        turnover: Mean amount bought and sold per session, as a multiple of the capital.
        turnover_a_year: The same per year.
        drawdown: The maximum drawdown after costs.
    """

    name: str
    sessions: int
    trades: int
    net_return: float
    gross_return: float
    total: Estimate | None
    mean_bps: Estimate | None
    sharpe: Estimate | None
    break_even_bps: Estimate | None
    turnover: float
    turnover_a_year: float
    drawdown: Drawdown


def count_sessions_a_year(sessions: pd.DatetimeIndex) -> float:
    """Return the number of sessions per year in the given calendar; 252 if it covers less than a year."""
    days = (sessions[-1] - sessions[0]).days if len(sessions) else 0
    return 365.25 * (len(sessions) - 1) / days if days >= 365 else float(_YEAR)


def measure(track: Track, *, name: str, year: float, draws: int = 1000, seed: int = 0) -> Result:
    """Return the performance of one rule.

    Args:
        track: Its returns in one session at least.
        name: The name of the rule.
        year: Sessions per year.
        draws: Samples of the stationary bootstrap of sessions (Politis and Romano 1994) that gives the intervals.
        seed: Seed of the bootstrap.
    """
    net, n, trades = track.net, len(track.net), int(track.trades.sum())
    copies = bootstrap.resample_sessions(net, draws=draws, seed=seed)
    estimate = partial(_estimate, sessions=n, trades=trades)
    growth = np.log(np.maximum(1 + net, 1e-12))
    traded, turnover = track.traded.sum(), float(track.traded.mean())
    return Result(
        name=name,
        sessions=n,
        trades=trades,
        net_return=float(track.equity[-1] - 1),
        gross_return=float(compound(track.gross)[-1] - 1),
        total=estimate(np.expm1(growth.sum()), np.expm1(copies @ growth)),
        mean_bps=estimate_mean(net, trades=trades, draws=draws, seed=seed),
        sharpe=estimate(
            np.sqrt(year) * sharpe_ratio(net), np.sqrt(year) * sharpe_of(copies @ net, copies @ net**2, n)
        ),
        break_even_bps=estimate(
            _BASIS_POINTS * float(mean_of(track.gross.sum(), traded)),
            _BASIS_POINTS * mean_of(copies @ track.gross, copies @ track.traded),
        ),
        turnover=turnover,
        turnover_a_year=turnover * year,
        drawdown=find_drawdown(track),
    )


def find_drawdown(track: Track) -> Drawdown:
    """Return the maximum drawdown of the equity curve after costs, the initial capital included."""
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
    """Return the estimate with its interval; None where either is not defined."""
    low, high = bootstrap.percentile_interval(drawn)
    if not np.isfinite([value, low, high]).all():
        return None
    return Estimate(float(value), low, high, sessions, trades)
