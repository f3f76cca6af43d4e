"""The plots of the record on the index: log loss saved, hit rate and calibration over time."""

import math
from collections.abc import Callable
from functools import partial
from typing import Final

import numpy as np
import pandas as pd
from markupsafe import Markup

from pipeline.evaluation.rolling import ROLLING
from pipeline.formatting import format_alike, format_percent
from pipeline.report.site.plot import Plot, Scale, choose_ticks
from pipeline.report.site.record import Part

__all__ = ["plot_calibration", "plot_hits", "plot_rolling", "plot_total"]

_POINTS: Final = 400
"""Points that a line has at most: a plot has no more columns on a screen."""


def plot_total(part: Part) -> Markup:
    """Plot the running sum of the log loss saved, with the range that chance alone explains."""
    table = _thin(part.saved)
    end = part.saved.iloc[-1]
    total, chance = format_alike(float(end["total"]), float(end["chance"]), decimals=2)
    plot = Plot(
        f"Cumulative log loss saved, {part.kind}",
        f"{total} nats after {len(part.saved):,} sessions; without skill within {chance.lstrip('+')} in 95% of cases.",
    )
    reach = table["chance"].to_numpy()
    y = Scale.upwards(table["total"].to_numpy(), -reach, reach, [0.0])
    x = _spread(len(table))
    plot.band(x, y(-reach), y(reach), "c")
    plot.level(float(y([0.0])[0]))
    plot.line(x, y(table["total"].to_numpy()))
    _label(plot, y, table, lambda value, step: _decimals(value, step))
    return plot.markup()


def plot_rolling(part: Part) -> Markup | None:
    """Plot the log loss saved per session over the last ROLLING sessions, with its band; None with too few."""
    table = _thin(part.saved[part.saved["mean"].notna()])
    if table.empty:
        return None
    mean, low, high = (1000 * table[name].to_numpy() for name in ("mean", "low", "high"))
    now = format_alike(mean[-1], low[-1], high[-1], decimals=2)
    plot = Plot(
        f"Rolling log loss saved, {part.kind}",
        f"Over the last {ROLLING} sessions {now[0]} thousandths of a nat each, 95% interval {now[1]} to {now[2]}.",
    )
    y = Scale.upwards(mean, low, high, [0.0])
    x = _spread(len(table))
    plot.band(x, y(low), y(high))
    plot.level(float(y([0.0])[0]))
    plot.line(x, y(mean))
    _label(plot, y, table, lambda value, step: _decimals(value, step))
    return plot.markup()


def plot_hits(part: Part) -> Markup | None:
    """Plot the rolling hit rate with its band beside that of the base rate; None with too few sessions."""
    table = _thin(part.hits)
    if table.empty:
        return None
    rate, low, high, base = (table[name].to_numpy() for name in ("rate", "low", "high", "baseline_rate"))
    plot = Plot(
        f"Rolling hit rate, {part.kind}",
        f"Over the last {ROLLING} sessions {format_percent(rate[-1])}, 95% interval {format_percent(low[-1])} to "
        f"{format_percent(high[-1])}; base rate {format_percent(base[-1])}.",
    )
    y = Scale.upwards(low, high, base, [0.5])
    x = _spread(len(table))
    plot.band(x, y(low), y(high))
    plot.level(float(y([0.5])[0]))
    plot.line(x, y(base), "n")
    plot.line(x, y(rate))
    _label(plot, y, table, partial(_percent))
    return plot.markup()


def plot_calibration(part: Part) -> Markup:
    """Plot the share of ups against the forecast probability, in groups of similar forecasts, with 95% intervals."""
    table = part.calibration
    p, share = table["mean_p"].to_numpy(), table["share_up"].to_numpy()
    low, high = table["low"].to_numpy(), table["high"].to_numpy()
    words = "; ".join(
        f"{row.mean_p:.1%} forecast, {row.share_up:.1%} came true ({row.low:.1%} to {row.high:.1%}, n {row.n:,})"
        for row in table.itertuples()
    )
    plot = Plot(f"Calibration, {part.kind}", f"{words}.")
    y = Scale.upwards(low, high, p)
    room = max(0.12 * float(np.ptp(p)), 0.01)
    x = Scale(float(p.min()) - room, float(p.max()) + room)
    ends = np.array([x.first, x.last])
    plot.line(x(ends), y(ends), "n")
    plot.bars(x(p), y(low), y(high), "r")
    plot.dots(x(p), y(share))
    values = choose_ticks(x.first, x.last, 3)
    plot.label_x((float(x([value])[0]), _percent(value, _step(values))) for value in values)
    _label_values(plot, y, _percent)
    return plot.markup()


def _thin(table: pd.DataFrame) -> pd.DataFrame:
    """Return at most _POINTS rows of a table, the last one among them."""
    every = max(math.ceil(len(table) / _POINTS), 1)
    return table.iloc[::-every][::-1]


def _spread(count: int) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    return np.linspace(0, 1000, count) if count > 1 else np.array([500.0])


_Format = Callable[[float, float], str]


def _label(plot: Plot, y: Scale, table: pd.DataFrame, form: _Format) -> None:
    _label_values(plot, y, form)
    plot.label_dates(_spread(len(table)), table["session"].to_numpy("datetime64[D]"), most=3)


def _label_values(plot: Plot, y: Scale, form: _Format) -> None:
    values = choose_ticks(y.last, y.first)
    plot.label_y(y, ((value, form(value, _step(values))) for value in values))


def _step(values: list[float]) -> float:
    return values[1] - values[0] if len(values) > 1 else 0.0


def _decimals(value: float, step: float) -> str:
    places = max(0, -int(np.floor(np.log10(step) + 1e-9))) if step > 0 else 2
    return f"{value:z.{places}f}"


def _percent(value: float, step: float) -> str:
    return f"{_decimals(100 * value, 100 * step)}%"
