"""The trading view: what the forecasts would have earned, beside their best baseline and beside doing nothing.

It stands second to the forecast. A direction that is right by one point in a hundred may well earn nothing at the open;
and a rule that earned something may owe it to luck, so no figure stands here without n and, where one can be
drawn, its 95% interval.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import pandas as pd

from pipeline import schema
from pipeline.config import TradingConfig
from pipeline.errors import NextdayError
from pipeline.formatting import count, format_percent
from pipeline.statistics.sharpe import DeflatedSharpe, deflate
from pipeline.trading.fills import MOST_STALE, Fills
from pipeline.trading.performance import Estimate, Result, count_sessions_a_year, estimate_mean, measure
from pipeline.trading.positions import Positions, Track, hold, take_positions, trade

__all__ = ["Role", "StaleOpens", "TradingView", "find_stale", "view_trading"]

Role = Literal["model", "baseline", "held", "unreachable"]
"""Whose result: the model's; the best baseline's, traded alike; buy-and-hold's; the model's from close to close."""

_BASIS_POINTS: Final = 1e4
_MOST_NAMED: Final = 8


@dataclass(frozen=True)
class StaleOpens:
    """A symbol that was not traded, because its open repeats the close before too often.

    Attributes:
        symbol: Which.
        share: On how many of the days known, where it was largest.
        sessions: In how many sessions it was left out for that.
    """

    symbol: str
    share: float
    sessions: int


@dataclass(frozen=True, eq=False)
class TradingView:
    """The whole view.

    Attributes:
        sentence: It in one sentence.
        left_out: In words, what could not be traded and why; empty where all could.
        bps_a_side: Costs and slippage, in basis points.
        results: By role; empty where nothing could be traded.
        beside_baseline_bps: Mean return of a session above the best baseline's, in basis points, paired by session.
        deflated: What the model's Sharpe ratio is worth after so many trials; None where it has none.
        curves: session and what a capital of 1 has become by then, a column a role; it begins with the session
            before the first.
        stale: The symbols that were left out.
    """

    sentence: str
    left_out: str
    bps_a_side: float
    results: Mapping[Role, Result]
    beside_baseline_bps: Estimate | None
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
    """Trade the forecasts of a model, and those of its best baseline in the same way.

    Args:
        rows: The long frame of `pipeline.evaluation.scores`, or a walk's test rows; only the next session is traded.
        fills: The prices of every symbol and session of the rows, and as much of their past as there is.
        settings: The threshold and the costs.
        model: Whose view it is.
        baseline: The baseline that was best before the test.
        trials: How many settings were ever tried (`pipeline.tracking.trials` counts them), this one among them.
        ratios: The Sharpe ratios, of one session, of those that have one.
        draws: Samples of the bootstrap.
        seed: Of the bootstrap.

    Raises:
        NextdayError: one of the two is not in the rows, they stand on different sessions, or prices are missing.
    """
    positions, other = (
        take_positions(_rows_of(rows, name), fills, threshold=settings.threshold)
        for name in (model, baseline)
    )
    if not positions.sessions.equals(other.sessions):
        raise NextdayError(f"{model} and {baseline} do not stand on the same sessions")
    stale = find_stale(positions, fills)
    if not positions.is_offered.any():
        return _without_trade(stale, settings.bps_a_side)
    tracks = _trade_all(positions, other, fills, settings.bps_a_side / _BASIS_POINTS)
    names = _name_all(model, baseline)
    year = count_sessions_a_year(fills.sessions)
    results = {
        role: measure(track, name=names[role], year=year, draws=draws, seed=seed)
        for role, track in tracks.items()
    }
    own = tracks["model"]
    return TradingView(
        sentence=_sentence(results, settings.bps_a_side),
        left_out=_tell_stale(stale),
        bps_a_side=settings.bps_a_side,
        results=results,
        beside_baseline_bps=estimate_mean(
            own.net - tracks["baseline"].net, trades=results["model"].trades, draws=draws, seed=seed
        ),
        deflated=deflate(own.net, trials=trials, ratios=ratios),
        curves=_draw_level(tracks),
        stale=stale,
    )


def _trade_all(positions: Positions, other: Positions, fills: Fills, cost: float) -> dict[Role, Track]:
    return {
        "model": trade(positions, fills.intraday_return, cost=cost),
        "baseline": trade(other, fills.intraday_return, cost=cost),
        "held": hold(positions, fills),
        "unreachable": trade(positions, fills.total_return, cost=cost),
    }


def _name_all(model: str, baseline: str) -> dict[Role, str]:
    return {
        "model": model,
        "baseline": f"{baseline}, traded alike",
        "held": "buy and hold",
        "unreachable": f"{model}, close to close (not reachable)",
    }


def _rows_of(rows: pd.DataFrame, model: str) -> pd.DataFrame:
    own = rows[rows["model"] == model]
    if own.empty:
        raise NextdayError(f"There is no forecast by {model!r} to be traded")
    return own


def find_stale(positions: Positions, fills: Fills) -> tuple[StaleOpens, ...]:
    """Return the symbols that were forecast and left out for their opens, by name."""
    left_out = positions.stale > MOST_STALE
    return tuple(
        StaleOpens(
            fills.symbols[place], float(np.nanmax(positions.stale[:, place])), int(left_out[:, place].sum())
        )
        for place in np.flatnonzero(left_out.any(axis=0))
    )


def _draw_level(tracks: Mapping[Role, Track]) -> pd.DataFrame:
    first = tracks["model"]
    curves = pd.DataFrame({"session": pd.DatetimeIndex([first.start, *first.sessions])})
    for role, track in tracks.items():
        curves[role] = np.concatenate([[1.0], track.equity])
    return curves


def _without_trade(stale: tuple[StaleOpens, ...], bps_a_side: float) -> TradingView:
    reason = _tell_stale(stale) if stale else "No forecast has a target session with prices yet."
    return TradingView(
        sentence=f"Nothing could be traded: {reason[0].lower() if not stale else reason[0]}{reason[1:]}",
        left_out=_tell_stale(stale),
        bps_a_side=bps_a_side,
        results={},
        beside_baseline_bps=None,
        deflated=None,
        curves=pd.DataFrame({"session": pd.DatetimeIndex([])}),
        stale=stale,
    )


def _tell_stale(stale: tuple[StaleOpens, ...]) -> str:
    if not stale:
        return ""
    longest = sorted(stale, key=lambda each: (-each.sessions, -each.share, each.symbol))
    named = ", ".join(
        f"{each.symbol} ({format_percent(each.share)} of the days, left out of {count(each.sessions, 'session')})"
        for each in longest[:_MOST_NAMED]
    )
    others = f" and {len(stale) - _MOST_NAMED:,} more" if len(stale) > _MOST_NAMED else ""
    rule = f"an open that repeats the close before on more than {MOST_STALE:.0%} of the days is not taken for a price"
    return f"{named}{others}: {rule} to trade at."


def _sentence(results: Mapping[Role, Result], bps_a_side: float) -> str:
    own, held, baseline = results["model"], results["held"], results["baseline"]
    if not own.trades:
        return f"Nothing was traded in {count(own.sessions, 'session')}: no forecast was sure enough for the threshold."
    interval = (
        f"95% interval {format_percent(own.total.low)} to {format_percent(own.total.high)}"
        f"{', zero included' if own.total.low <= 0 <= own.total.high else ''}"
        if own.total
        else f"too few sessions for an interval, {schema.MIN_SESSIONS} are needed"
    )
    return (
        f"After costs of {bps_a_side:g} basis points a side the rule {_tell_made(own.made)} in "
        f"{count(own.sessions, 'session')} ({count(own.trades, 'trade')}; {interval}); {_tell_break_even(own)}; "
        f"{baseline.name}, {_tell_made(baseline.made)}; buy-and-hold of the same symbols {_tell_made(held.made)}."
    )


def _tell_made(made: float) -> str:
    if format_percent(abs(made)) == format_percent(0.0):
        return "made nothing"
    return f"{'made' if made > 0 else 'lost'} {format_percent(abs(made))}"


def _tell_break_even(own: Result) -> str:
    cost = own.break_even_bps
    if cost is None:
        return f"before costs it {_tell_made(own.made_before_costs)}"
    if cost.value <= 0:
        return "it loses before any costs"
    return f"it breaks even at {cost.value:.1f} basis points a side ({cost.low:.1f} to {cost.high:.1f})"
