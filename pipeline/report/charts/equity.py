"""The equity curves (growth of 1) of the trading view."""

from collections.abc import Mapping
from typing import Final

from matplotlib.ticker import FuncFormatter

from pipeline.formatting import format_percent
from pipeline.report.charts.figure import FIRST, MUTED, SECOND, canvas, date_axis, legend_below, to_svg
from pipeline.trading.view import Role, TradingView

__all__ = ["draw_equity"]

_LINES: Final[Mapping[Role, dict[str, str | float]]] = {
    "model": {"color": FIRST, "zorder": 4},
    "baseline": {"color": SECOND, "zorder": 3},
    "held": {"color": MUTED, "linewidth": 1.2, "linestyle": "--"},
    "unreachable": {"color": FIRST, "linewidth": 0.9, "linestyle": ":"},
}


def draw_equity(view: TradingView) -> str:
    """Draw the equity curve of each rule; return an empty text where nothing could be traded."""
    if view.curves.empty:
        return ""
    days = view.curves["session"].to_numpy()
    with canvas(3.2) as (figure, axes):
        axes.axhline(1, color=MUTED, linewidth=0.8)
        for role, line in _LINES.items():
            axes.plot(days, view.curves[role].to_numpy(), label=view.results[role].name, **line)
        axes.set(ylabel="growth of 1")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda worth, _: f"{worth:g}"))
        axes.locator_params(axis="y", nbins=6)
        date_axis(axes)
        legend_below(axes, 1)
        return to_svg(
            figure, f"Equity curve net of {view.bps_a_side:g} basis points per side", _describe(view)
        )


def _describe(view: TradingView) -> str:
    first, last = view.curves["session"].iloc[[0, -1]]
    ends = "; ".join(
        f"{result.name} {1 + result.net_return:.3f} (maximum drawdown {format_percent(result.drawdown.depth)}, "
        f"{result.drawdown.peak:%Y-%m-%d} to {result.drawdown.trough:%Y-%m-%d})"
        for result in view.results.values()
    )
    return f"Growth of 1 from the close of {first:%Y-%m-%d} to {last:%Y-%m-%d}: {ends}."
