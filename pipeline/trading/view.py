"""The trading view: what the forecasts would have earned, compared with the baseline and with buy-and-hold.

It is secondary to the forecast. A hit rate one percentage point above chance may well earn nothing from the open on,
and a rule that earned something may owe it to luck. So every number comes with n and, where one can be computed, its
95% interval.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import pandas as pd

from pipeline import schema
from pipeline.config import TradingConfig
from pipeline.errors import NextdayError
from pipeline.formatting import count, format_alike, format_percent
from pipeline.outputs import MAIN, Output, list_outputs
from pipeline.statistics.sharpe import DeflatedSharpe, deflate
from pipeline.trading.fills import MOST_STALE, STALE_SESSIONS, Fills
from pipeline.trading.performance import Estimate, Result, count_sessions_a_year, estimate_mean, measure
from pipeline.trading.positions import Positions, Track, buy_and_hold, take_long_short, take_positions, trade

__all__ = ["Role", "StaleOpens", "TradingView", "find_stale", "view_trading"]

Role = Literal["model", "baseline", "held", "unreachable"]
"""The model; the baseline, traded the same way; buy-and-hold; the model from close to close, which is not reachable."""

_BASIS_POINTS: Final = 1e4
_MOST_NAMED: Final = 8


@dataclass(frozen=True)
class StaleOpens:
    """A symbol that was not traded while too many of its opens were missing or repeated the previous close.

    Attributes:
        symbol: The symbol.
        share: The largest share of stale opens in the year before a session.
        sessions: The number of sessions in which it was left out.
        forecasts: The number of sessions in which it has a forecast.
        first, last: The first and the last session in which it was left out; it may have been traded in between.
    """

    symbol: str
    share: float
    sessions: int
    forecasts: int
    first: pd.Timestamp
    last: pd.Timestamp


@dataclass(frozen=True, eq=False)
class TradingView:
    """The trading results of a model and of what it is compared with.

    Attributes:
        sentence: The results in one sentence.
        left_out: Which symbols were not traded in which period, how many, and why; empty where all were.
        bps_a_side: Costs and slippage per side, in basis points.
        results: The performance by role; empty where nothing could be traded.
        excess_bps: Mean return per session above the baseline's, in basis points, paired by session.
        deflated: The deflated Sharpe ratio of the model; None where the model has no Sharpe ratio.
        curves: session and the equity curve (growth of 1) of each role, a column per role; the first row is the session
            before the first trade.
        stale: The symbols that were left out at some time.
    """

    sentence: str
    left_out: str
    bps_a_side: float
    results: Mapping[Role, Result]
    excess_bps: Estimate | None
    deflated: DeflatedSharpe | None
    curves: pd.DataFrame
    stale: tuple[StaleOpens, ...]


def view_trading(
    rows: pd.DataFrame,
    fills: Fills,
    settings: TradingConfig,
    *,
    model: str,
    baseline: str,
    trials: int,
    ratios: Sequence[float] = (),
    draws: int = 1000,
    seed: int = 0,
) -> TradingView:
    """Return the trading results of a model and of its baseline, traded the same way.

    Directions are traded one by one, relative targets as longs and shorts of equal weight.

    Args:
        rows: The long frame of `pipeline.evaluation.scores`, or a walk's test rows, of one output; only the next
            session is traded.
        fills: The prices of every symbol and session of the rows, with all of their history.
        settings: The threshold and the costs.
        model: The model.
        baseline: The prior-best baseline.
        trials: The number of settings ever tried (counted by `pipeline.tracking.trials`), this one included.
        ratios: The Sharpe ratios per session of the trials that have one.
        draws: Samples of the bootstrap.
        seed: Seed of the bootstrap.

    Raises:
        NextdayError: one of the two is not in the rows, they cover different sessions, or prices are missing.
    """
    [output] = list_outputs(rows) or [MAIN]
    if output.part == "overnight":
        return _untraded(f"{_AT_THE_CLOSE}.", settings)
    year = count_sessions_a_year(fills.sessions)
    positions, other = (
        _take(_select_model(rows, name), fills, settings, output) for name in (model, baseline)
    )
    if not positions.sessions.equals(other.sessions):
        raise NextdayError(f"{model} and {baseline} do not cover the same sessions")
    stale = find_stale(positions, fills)
    if not positions.is_offered.any():
        return _empty_view(stale, positions, settings)
    borrow = settings.borrow_bps / _BASIS_POINTS / year if output.is_relative else 0.0
    tracks = _trade_all(positions, other, fills, settings.bps_a_side / _BASIS_POINTS, borrow)
    names = _name_all(model, baseline)
    results = {
        role: measure(track, name=names[role], year=year, draws=draws, seed=seed)
        for role, track in tracks.items()
    }
    own = tracks["model"]
    return TradingView(
        sentence=_summarize(results, settings.bps_a_side),
        left_out=_describe_stale(stale, positions),
        bps_a_side=settings.bps_a_side,
        results=results,
        excess_bps=estimate_mean(
            own.net - tracks["baseline"].net, trades=results["model"].trades, draws=draws, seed=seed
        ),
        deflated=deflate(own.net, trials=trials, ratios=ratios),
        curves=_tabulate_equity(tracks),
        stale=stale,
    )


_AT_THE_CLOSE: Final = (
    "an overnight forecast is issued after the close: nobody can buy at that close any more"
)


def _take(rows: pd.DataFrame, fills: Fills, settings: TradingConfig, output: Output) -> Positions:
    if output.is_relative:
        return take_long_short(rows, fills, most=settings.long_short)
    return take_positions(rows, fills, threshold=settings.threshold)


def _trade_all(
    positions: Positions, other: Positions, fills: Fills, cost: float, borrow: float
) -> dict[Role, Track]:
    return {
        "model": trade(positions, fills.intraday_return, cost=cost, borrow=borrow),
        "baseline": trade(other, fills.intraday_return, cost=cost, borrow=borrow),
        "held": buy_and_hold(positions, fills),
        "unreachable": trade(positions, fills.total_return, cost=cost, borrow=borrow),
    }


def _name_all(model: str, baseline: str) -> dict[Role, str]:
    return {
        "model": model,
        "baseline": f"{baseline}, traded alike",
        "held": "buy and hold",
        "unreachable": f"{model}, close to close (not reachable)",
    }


def _select_model(rows: pd.DataFrame, model: str) -> pd.DataFrame:
    own = rows[rows["model"] == model]
    if own.empty:
        raise NextdayError(f"There is no forecast by {model!r} to trade")
    return own


def find_stale(positions: Positions, fills: Fills) -> tuple[StaleOpens, ...]:
    """Return the symbols that have forecasts and were left out for a time because of stale opens, sorted by name."""
    left_out = positions.stale > MOST_STALE
    return tuple(
        StaleOpens(
            fills.symbols[place],
            share=float(np.nanmax(positions.stale[:, place])),
            sessions=len(sessions),
            forecasts=int(np.isfinite(positions.stale[:, place]).sum()),
            first=sessions[0],
            last=sessions[-1],
        )
        for place in np.flatnonzero(left_out.any(axis=0))
        for sessions in [positions.sessions[left_out[:, place]]]
    )


def _tabulate_equity(tracks: Mapping[Role, Track]) -> pd.DataFrame:
    first = tracks["model"]
    curves = pd.DataFrame({"session": pd.DatetimeIndex([first.start, *first.sessions])})
    for role, track in tracks.items():
        curves[role] = np.concatenate([[1.0], track.equity])
    return curves


def _empty_view(stale: tuple[StaleOpens, ...], positions: Positions, settings: TradingConfig) -> TradingView:
    left_out = _describe_stale(stale, positions)
    reason = left_out or "No forecast has a target session with prices yet."
    return _untraded(f"{reason[0].lower()}{reason[1:]}", settings, left_out, stale)


def _untraded(
    reason: str, settings: TradingConfig, left_out: str = "", stale: tuple[StaleOpens, ...] = ()
) -> TradingView:
    return TradingView(
        sentence=f"Nothing could be traded: {reason}",
        left_out=left_out,
        bps_a_side=settings.bps_a_side,
        results={},
        excess_bps=None,
        deflated=None,
        curves=pd.DataFrame({"session": pd.DatetimeIndex([])}),
        stale=stale,
    )


def _describe_stale(stale: tuple[StaleOpens, ...], positions: Positions) -> str:
    if not stale:
        return ""
    longest = sorted(stale, key=lambda each: (-each.sessions, -each.share, each.symbol))
    named = ", ".join(_describe_symbol(each) for each in longest[:_MOST_NAMED])
    others = f" and {len(stale) - _MOST_NAMED:,} more" if len(stale) > _MOST_NAMED else ""
    has_forecast = np.isfinite(positions.stale)
    symbols, forecasts = int(has_forecast.any(axis=0).sum()), int(has_forecast.sum())
    missed = sum(each.sessions for each in stale)
    return (
        f"Stale opens were not traded: {len(stale):,} of {count(symbols, 'symbol')}, in {missed:,} of "
        f"{count(forecasts, 'forecast')} ({format_percent(missed / forecasts)}): {named}{others}. No order can be "
        "filled at an open that is missing or only repeats the previous close: a symbol is left out while more than "
        f"{MOST_STALE:.0%} of the opens of the {STALE_SESSIONS} sessions before were such."
    )


def _describe_symbol(stale: StaleOpens) -> str:
    return (
        f"{stale.symbol} ({stale.sessions:,} of {count(stale.forecasts, 'session')}, {stale.first:%Y-%m-%d} to "
        f"{stale.last:%Y-%m-%d}, up to {format_percent(stale.share)} stale)"
    )


def _summarize(results: Mapping[Role, Result], bps_a_side: float) -> str:
    own, held, baseline = results["model"], results["held"], results["baseline"]
    if not own.trades:
        return f"Nothing was traded in {count(own.sessions, 'session')}: no forecast reached the threshold."
    if own.total:
        ends = format_alike(own.total.low, own.total.high, decimals=1, sign="", percent=True)
        zero = ", zero included" if own.total.low <= 0 <= own.total.high else ""
        interval = f"95% interval {' to '.join(ends)}{zero}"
    else:
        interval = f"too few sessions for an interval, {schema.MIN_SESSIONS} are needed"
    return (
        f"Net of costs of {bps_a_side:g} basis points per side, the rule {_describe_return(own.net_return)} in "
        f"{count(own.sessions, 'session')} ({count(own.trades, 'trade')}; {interval}); {_describe_break_even(own)}; "
        f"{baseline.name}, {_describe_return(baseline.net_return)}; "
        f"buy-and-hold of the same symbols {_describe_return(held.net_return)}."
    )


def _describe_return(total: float) -> str:
    if format_percent(abs(total)) == format_percent(0.0):
        return "made nothing"
    return f"{'made' if total > 0 else 'lost'} {format_percent(abs(total))}"


def _describe_break_even(own: Result) -> str:
    cost = own.break_even_bps
    if cost is None:
        return f"before costs it {_describe_return(own.gross_return)}"
    if cost.value <= 0:
        return "it loses before any costs"
    value, low, high = format_alike(cost.value, cost.low, cost.high, decimals=1, sign="")
    return f"it breaks even at {value} basis points per side ({low} to {high})"
