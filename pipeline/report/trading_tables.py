"""The trading view as tables: short texts for the page and the terminal, numbers for a CSV."""

import math
from collections.abc import Iterator

import pandas as pd

from pipeline.formatting import count, format_percent
from pipeline.schema import MIN_SESSIONS
from pipeline.statistics.sharpe import DeflatedSharpe
from pipeline.trading.performance import Estimate, Result
from pipeline.trading.view import TradingView

__all__ = ["describe_deflated_sharpe", "list_numbers", "trading_cells"]


def trading_cells(view: TradingView) -> list[dict[str, str]]:
    """Return one row a rule, as short texts; no row where nothing could be traded."""
    return [_cells(result) for result in view.results.values()]


def _cells(result: Result) -> dict[str, str]:
    fall, total = result.drawdown, result.total
    days = f" ({fall.peak:%Y-%m-%d} to {fall.trough:%Y-%m-%d})" if fall.depth else ""
    return {
        "rule": result.name,
        "made after costs": _percent(result.made),
        "95% interval": f"{_percent(total.low)} to {_percent(total.high)}"
        if total
        else _say_why(result.sessions),
        "before costs": _percent(result.made_before_costs),
        "Sharpe ratio a year": _with_interval(result.sharpe, result.sessions, ".2f"),
        "breaks even at, bp a side": _with_interval(result.break_even_bps, result.sessions, ".1f"),
        "deepest fall": format_percent(fall.depth) + days,
        "turnover a session": f"{result.turnover:.2f}",
        "turnover a year": f"{result.turnover_a_year:,.0f}",
        "sessions": f"{result.sessions:,}",
        "trades": f"{result.trades:,}",
    }


def _percent(share: float) -> str:
    return f"{share:+z.1%}"


def _with_interval(estimate: Estimate | None, sessions: int, form: str) -> str:
    if estimate is None:
        return _say_why(sessions)
    return f"{estimate.value:z{form}} ({estimate.low:z{form}} to {estimate.high:z{form}})"


def _say_why(sessions: int) -> str:
    return f"– (under {MIN_SESSIONS} sessions)" if sessions < MIN_SESSIONS else "– (not defined)"


def describe_deflated_sharpe(deflated: DeflatedSharpe | None) -> str:
    """Say what the Sharpe ratio is worth after so many trials; empty where there is none."""
    if deflated is None:
        return ""
    spread = (
        f"the spread of their ratios measured from {deflated.ratios} of them"
        if deflated.ratios
        else "their spread assumed to be that of settings without skill"
    )
    return (
        f"That the Sharpe ratio is more than luck has a probability of {format_percent(deflated.probability)} "
        f"({count(deflated.trials, 'setting')} tried, {spread}; {count(deflated.sessions, 'session')}); "
        f"had nothing else been tried, {format_percent(deflated.above_zero)}."
    )


def list_numbers(view: TradingView) -> pd.DataFrame:
    """Return every number of the view, one a row.

    Returns:
        role, name, metric, value, low, high, sessions, trades; low and high are NaN for what describes the past and
        has no interval, and an estimate that could have none is left out.
    """
    columns = ["role", "name", "metric", "value", "low", "high", "sessions", "trades"]
    rows = [
        [role, result.name, *line] for role, result in view.results.items() for line in _lines(result)
    ] + [["model", view.results["model"].name, *line] for line in _lines_of_view(view)]
    return pd.DataFrame(rows, columns=columns)


def _lines(result: Result) -> Iterator[list[str | float]]:
    estimates = {
        "total_return": result.total,
        "mean_bps": result.mean_bps,
        "sharpe": result.sharpe,
        "break_even_bps": result.break_even_bps,
    }
    yield from _known(estimates)
    described = {
        "total_return_before_costs": result.made_before_costs,
        "turnover": result.turnover,
        "turnover_a_year": result.turnover_a_year,
        "max_drawdown": result.drawdown.depth,
    }
    for metric, value in described.items():
        yield [metric, value, math.nan, math.nan, result.sessions, result.trades]


def _lines_of_view(view: TradingView) -> Iterator[list[str | float]]:
    yield from _known({"beside_baseline_bps": view.beside_baseline_bps})
    if view.deflated:
        n, trades = view.deflated.sessions, view.results["model"].trades
        yield ["deflated_sharpe", view.deflated.probability, math.nan, math.nan, n, trades]
        yield ["probabilistic_sharpe", view.deflated.above_zero, math.nan, math.nan, n, trades]
        yield ["settings_tried", view.deflated.trials, math.nan, math.nan, n, trades]
        yield ["settings_sharpe_variance", view.deflated.variance, math.nan, math.nan, n, trades]
        yield ["settings_sharpe_measured", view.deflated.ratios, math.nan, math.nan, n, trades]


def _known(estimates: dict[str, Estimate | None]) -> Iterator[list[str | float]]:
    for metric, known in estimates.items():
        if known:
            yield [metric, known.value, known.low, known.high, known.sessions, known.trades]
