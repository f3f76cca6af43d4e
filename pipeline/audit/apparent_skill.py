"""The skill that a procedure shows on its test, and what its forecasts would have earned: with a leak, or without."""

from dataclasses import dataclass
from typing import Final, NamedTuple, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.audit.procedure_checks import Procedure, walk_test
from pipeline.config import TradingConfig
from pipeline.evaluation.aligned import gather_labelled
from pipeline.evaluation.scores import score
from pipeline.evaluation.verdict import BASE_RATE, judge
from pipeline.outputs import NEXT, Output, select_output
from pipeline.statistics import bootstrap
from pipeline.trading.fills import Fills
from pipeline.trading.performance import Estimate, estimate_mean
from pipeline.trading.positions import take_long_short, take_positions, trade

__all__ = ["ApparentSkill", "Figure", "Market", "show_skills"]

Floats = NDArray[np.float64]

_DRAWS: Final = 1000
"""Samples of the bootstrap."""


class Figure(NamedTuple):
    """A number with its 95% interval by whole sessions; the ends are NaN where there are too few sessions."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Market:
    """Where the forecasts are traded.

    Attributes:
        fills: The prices; from the open to the close of the target session is what an order can earn.
        settings: The threshold, or the number of longs and shorts.
    """

    fills: Fills
    settings: TradingConfig

    def returns(self, *, at_same_open: bool) -> Floats:
        """Return what a position earns by target session, [session, symbol].

        Args:
            at_same_open: It is filled at the open of the session before the target session instead of at its open.
        """
        intraday = self.fills.intraday_return
        if not at_same_open:
            return intraday
        before = np.vstack([np.full_like(intraday[:1], np.nan), intraday[:-1]])
        return np.asarray((1 + before) * (1 + self.fills.total_return) - 1)


@dataclass(frozen=True, eq=False)
class ApparentSkill:
    """What a procedure shows on its test for one output.

    Attributes:
        output: The output.
        n: Forecasts with an outcome.
        saved: Log loss saved against the base rate, mean of the sessions.
        hit_rate: Share of forecasts on the right side of one half.
        auc_within: AUC within sessions.
        earned: Mean return per session before costs, in basis points; None where nothing is traded.
        by_session: `saved` of each target session.
    """

    output: Output
    n: int
    saved: Figure
    hit_rate: Figure
    auc_within: Figure
    earned: Estimate | None
    by_session: "pd.Series[float]"

    def more_than(self, other: Self, *, seed: int) -> Figure:
        """Return how much more log loss it saves than `other`, mean of the sessions that both have."""
        both = self.by_session.index.intersection(other.by_session.index)
        more = np.asarray(self.by_session[both] - other.by_session[both], np.float64)
        if not len(more):
            return Figure(np.nan, np.nan, np.nan)
        copies = bootstrap.resample_sessions(more, horizon=self.output.horizon, draws=_DRAWS, seed=seed)
        return Figure(float(more.mean()), *bootstrap.percentile_interval(copies @ more / len(more)))


def show_skills(
    procedure: Procedure, market: Market, *, at_same_open: bool = False
) -> dict[Output, ApparentSkill]:
    """Fit a procedure, forecast its test, and return what it shows, by output.

    Args:
        procedure: The procedure, with a leak or without.
        market: Where its forecasts are traded.
        at_same_open: As for `Market.returns`.
    """
    rows, returns = walk_test(procedure), market.returns(at_same_open=at_same_open)
    return {
        output: _show(procedure, select_output(rows, output), output, market, returns)
        for output in procedure.sequences.outputs
    }


def _show(
    procedure: Procedure, rows: pd.DataFrame, output: Output, market: Market, returns: Floats
) -> ApparentSkill:
    name, seed = procedure.name, procedure.seed
    verdict = judge(rows, model=name, baseline=BASE_RATE, seed=seed)
    scores = score(rows, baseline=BASE_RATE, seed=seed)
    own = scores[scores["model"] == name].set_index("metric")
    table = gather_labelled(rows)
    saved = table.log_loss(BASE_RATE) - table.log_loss(name) if len(table.y) else np.empty(0)
    target = table.levels[-1][np.unique(table.target)]
    return ApparentSkill(
        output=output,
        n=verdict.n,
        saved=Figure(verdict.difference, verdict.low, verdict.high),
        hit_rate=_figure_of(own, "hit_rate"),
        auc_within=_figure_of(own, "auc_within_sessions"),
        earned=_earn(rows[rows["model"] == name], output, market, returns, seed),
        by_session=pd.Series(saved, target),
    )


def _figure_of(scores: pd.DataFrame, metric: str) -> Figure:
    if metric not in scores.index:
        return Figure(np.nan, np.nan, np.nan)
    return Figure(*scores.loc[metric, ["value", "low", "high"]])


def _earn(rows: pd.DataFrame, output: Output, market: Market, returns: Floats, seed: int) -> Estimate | None:
    """Return the mean return of the rule that the trading view follows; None where it trades nothing."""
    if output.horizon != NEXT or output.part == "overnight" or rows.empty:
        return None
    chosen = market.settings
    if output.is_relative:
        positions = take_long_short(rows, market.fills, most=chosen.long_short)
    else:
        positions = take_positions(rows, market.fills, threshold=chosen.threshold)
    if not positions.is_offered.any():
        return None
    track = trade(positions, returns, cost=0.0)
    return estimate_mean(track.gross, trades=int(track.trades.sum()), seed=seed)
