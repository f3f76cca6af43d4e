"""The trading view as tables and sentences: texts for the page and the terminal, numbers for trading.csv."""

import math
from collections.abc import Iterator

import pandas as pd

from pipeline.formatting import count, format_alike, format_percent
from pipeline.schema import MIN_SESSIONS
from pipeline.statistics.sharpe import DeflatedSharpe
from pipeline.trading.performance import Estimate, Result
from pipeline.trading.view import TradingView

__all__ = ["describe_deflated_sharpe", "list_numbers", "trading_cells"]


def trading_cells(view: TradingView) -> list[dict[str, str]]:
    """Return one row of texts per rule; no row where nothing could be traded."""
    return [_format_result(result) for result in view.results.values()]


def _format_result(result: Result) -> dict[str, str]:
    drawdown, total = result.drawdown, result.total
    returns = (total.low, total.high) if total else ()
    net, *ends = format_alike(result.net_return, *returns, decimals=1, percent=True)
    days = f" ({drawdown.peak:%Y-%m-%d} to {drawdown.trough:%Y-%m-%d})" if drawdown.depth else ""
    return {
        "rule": result.name,
        "net return": net,
        "95% interval": " to ".join(ends) or _explain_missing(result.sessions),
        "gross return": format_alike(result.gross_return, decimals=1, percent=True)[0],
        "annualized Sharpe ratio": _format_estimate(result.sharpe, result.sessions, 2),
        "break-even, bp per side": _format_estimate(result.break_even_bps, result.sessions, 1),
        "maximum drawdown": format_percent(drawdown.depth) + days,
        "turnover per session": f"{result.turnover:.2f}",
        "turnover per year": f"{result.turnover_a_year:,.0f}",
        "sessions": f"{result.sessions:,}",
        "trades": f"{result.trades:,}",
    }


def _format_estimate(estimate: Estimate | None, sessions: int, decimals: int) -> str:
    if estimate is None:
        return _explain_missing(sessions)
    value, low, high = format_alike(estimate.value, estimate.low, estimate.high, decimals=decimals, sign="")
    return f"{value} ({low} to {high})"


def _explain_missing(sessions: int) -> str:
    return f"– (under {MIN_SESSIONS} sessions)" if sessions < MIN_SESSIONS else "– (not defined)"


def describe_deflated_sharpe(deflated: DeflatedSharpe | None) -> str:
    """Return a sentence on the deflated Sharpe ratio; empty where there is none."""
    if deflated is None:
        return ""
    variance = (
        f"the variance of their ratios estimated from {deflated.ratios} of them"
        if deflated.ratios
        else "the variance of their ratios assumed to be that of settings without skill"
    )
    return (
        f"Deflated Sharpe ratio {format_percent(deflated.probability)}: the probability that the Sharpe ratio is more "
        f"than luck ({count(deflated.trials, 'setting')} tried, {variance}; {count(deflated.sessions, 'session')}); "
        f"{format_percent(deflated.above_zero)} if nothing else had been tried."
    )


def list_numbers(view: TradingView) -> pd.DataFrame:
    """Return every number of the view, one per row.

    Returns:
        role, name, metric, value, low, high, sessions, trades; low and high are NaN for descriptive numbers, which have
        no interval. Estimates whose interval cannot be computed are left out.
    """
    columns = ["role", "name", "metric", "value", "low", "high", "sessions", "trades"]
    rows = [
        [role, result.name, *row] for role, result in view.results.items() for row in _result_rows(result)
    ]
    if view.results:
        rows += [["model", view.results["model"].name, *row] for row in _view_rows(view)]
    return pd.DataFrame(rows, columns=columns)


def _result_rows(result: Result) -> Iterator[list[str | float]]:
    estimates = {
        "total_return": result.total,
        "mean_bps": result.mean_bps,
        "sharpe": result.sharpe,
        "break_even_bps": result.break_even_bps,
    }
    yield from _estimate_rows(estimates)
    described = {
        "total_return_before_costs": result.gross_return,
        "turnover": result.turnover,
        "turnover_a_year": result.turnover_a_year,
        "max_drawdown": result.drawdown.depth,
    }
    for metric, value in described.items():
        yield [metric, value, math.nan, math.nan, result.sessions, result.trades]


def _view_rows(view: TradingView) -> Iterator[list[str | float]]:
    yield from _estimate_rows({"beside_baseline_bps": view.excess_bps})
    if view.deflated:
        n, trades = view.deflated.sessions, view.results["model"].trades
        yield ["deflated_sharpe", view.deflated.probability, math.nan, math.nan, n, trades]
        yield ["probabilistic_sharpe", view.deflated.above_zero, math.nan, math.nan, n, trades]
        yield ["settings_tried", view.deflated.trials, math.nan, math.nan, n, trades]
        yield ["settings_sharpe_variance", view.deflated.variance, math.nan, math.nan, n, trades]
        yield ["settings_sharpe_measured", view.deflated.ratios, math.nan, math.nan, n, trades]


def _estimate_rows(estimates: dict[str, Estimate | None]) -> Iterator[list[str | float]]:
    for metric, estimate in estimates.items():
        if estimate:
            yield [metric, estimate.value, estimate.low, estimate.high, estimate.sessions, estimate.trades]
