"""The figure of the trading view: what a capital of 1 became by each rule."""

from collections.abc import Mapping
from typing import Final

from matplotlib.ticker import FuncFormatter

from pipeline.formatting import format_percent
from pipeline.report.charts.figure import FIRST, MUTED, SECOND, canvas, date_axis, legend_below, to_svg
from pipeline.trading.view import Role, TradingView

__all__ = ["draw_equity"]

_LOOK: Final[Mapping[Role, dict[str, str | float]]] = {
    "model": {"color": FIRST, "zorder": 4},
    "baseline": {"color": SECOND, "zorder": 3},
    "held": {"color": MUTED, "linewidth": 1.2, "linestyle": "--"},
    "unreachable": {"color": FIRST, "linewidth": 0.9, "linestyle": ":"},
}


def draw_equity(view: TradingView) -> str:
    """Draw the equity curves of a view in which something could be traded; without one, nothing."""
    if view.curves.empty:
        return ""
    days = view.curves["session"].to_numpy()
    with canvas(3.2) as (figure, axes):
        axes.axhline(1, color=MUTED, linewidth=0.8)
        for role, look in _LOOK.items():
            axes.plot(days, view.curves[role].to_numpy(), label=view.results[role].name, **look)
        axes.set(ylabel="what 1 has become")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda worth, _: f"{worth:g}"))
        axes.locator_params(axis="y", nbins=6)
        date_axis(axes)
        legend_below(axes, 1)
        return to_svg(
            figure, f"Equity after costs of {view.bps_a_side:g} basis points a side", _in_words(view)
        )


def _in_words(view: TradingView) -> str:
    first, last = view.curves["session"].iloc[[0, -1]]
    ends = "; ".join(
        f"{result.name} {1 + result.made:.3f} (deepest fall {format_percent(result.drawdown.depth)}, "
        f"{result.drawdown.peak:%Y-%m-%d} to {result.drawdown.trough:%Y-%m-%d})"
        for result in view.results.values()
    )
    return f"A capital of 1 at the close of {first:%Y-%m-%d} has become by {last:%Y-%m-%d}: {ends}."
