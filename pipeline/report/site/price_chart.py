"""A symbol's chart: its price with dividends and splits, and below it the calls on it, as high as they were sure."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from pipeline.formatting import format_price
from pipeline.report.site.plot import Plot, Scale, choose_ticks
from pipeline.report.site.symbol_rows import NONE, OPEN, RESULTS, RIGHT, WRONG, Rows

__all__ = ["Prices", "plot_calls", "plot_prices", "tally_calls"]

Floats = NDArray[np.float64]

_LEAST: Final = 0.02
"""The calls' axis reaches so far from 50% at least: a hair's breadth is not drawn as a conviction."""


@dataclass(frozen=True, eq=False)
class Prices:
    """The bars of one listing, as known tonight.

    Attributes:
        days: The sessions, then those that are forecast next, datetime64[D].
        close: Adjusted for splits and dividends, in the units of the newest bar; NaN without a bar, [session].
        dividend: As paid, 0 for none, [session].
        split: The ratio that took effect, 1 for none, [session].
    """

    days: "NDArray[np.datetime64]"
    close: Floats
    dividend: Floats
    split: Floats

    @property
    def places(self) -> Floats:
        """The horizontal place of each day."""
        return np.linspace(0, 1000, len(self.days)) if len(self.days) > 1 else np.array([500.0])

    @property
    def is_known(self) -> bool:
        """Whether there is any bar."""
        return bool(np.isfinite(self.close).any())

    @property
    def actions(self) -> list[str]:
        """Each dividend and split in words, the newest first."""
        found = []
        for at in np.flatnonzero((self.dividend > 0) | (self.split != 1))[::-1]:
            parts = [f"dividend {self.dividend[at]:.4g}"] if self.dividend[at] > 0 else []
            parts += [f"split {self.split[at]:.4g} for 1"] if self.split[at] != 1 else []
            found.append(f"{self.days[at]} {', '.join(parts)}")
        return found


def plot_prices(symbol: str, prices: Prices) -> Markup:
    """Plot the adjusted closes; short marks are dividends, dashed lines are splits."""
    known = np.flatnonzero(np.isfinite(prices.close))
    x, close = prices.places, prices.close
    first, last = (format_price(float(close[at])) for at in (known[0], known[-1]))
    plot = Plot(
        f"Adjusted closes of {symbol}",
        f"From {first} on {prices.days[known[0]]} to {last} on {prices.days[known[-1]]}.",
        "high",
    )
    y = Scale.upwards(close)
    plot.upright(x[: len(close)][prices.split != 1], "s")
    plot.line(x[: len(close)], y(close))
    paid = prices.dividend > 0
    plot.bars(x[: len(close)][paid], np.full(int(paid.sum()), 955.0), np.full(int(paid.sum()), 1000.0), "v")
    values = choose_ticks(y.last, y.first, 5)
    step = values[1] - values[0] if len(values) > 1 else 1.0
    places = max(0, -int(np.floor(np.log10(step) + 1e-9)))
    plot.label_y(y, ((value, f"{value:,.{places}f}") for value in values if value >= 0))
    plot.label_dates(x, prices.days)
    return plot.markup()


def tally_calls(result: "NDArray[np.int64]", is_live: "NDArray[np.bool_]") -> list[tuple[str, str]]:
    """Return how many calls of each kind were right, wrong, none and open, in words; live and late ones apart."""
    found = []
    for kind, own in (("live", result[is_live]), ("late", result[~is_live])):
        if len(own):
            numbers = (f"{int((own == each).sum())} {name}" for each, name in enumerate(RESULTS))
            found.append((kind, ", ".join(numbers)))
    return found


_STYLES: Final = {RIGHT: "right", WRONG: "wrong", NONE: "void", OPEN: "open"}


def plot_calls(symbol: str, prices: Prices, rows: Rows) -> Markup | None:
    """Plot each call of the first output at its target session, from 50% to its probability; None without one."""
    place = np.searchsorted(prices.days, rows["target_session"])
    inside = (place < len(prices.days)) & (
        prices.days[np.minimum(place, len(prices.days) - 1)] == rows["target_session"]
    )
    if not inside.any():
        return None
    p, result, is_live = (rows[name][inside] for name in ("p_up", "result", "kind"))
    x = prices.places[place[inside]]
    reach = max(_LEAST, 1.15 * float(np.abs(p - 0.5).max()))
    y = Scale(0.5 + reach, 0.5 - reach)
    counts = "; ".join(f"{kind}: {numbers}" for kind, numbers in tally_calls(result, is_live))
    plot = Plot(f"Calls on {symbol}", f"{counts}.", "low")
    for each, style in _STYLES.items():
        for live in (False, True):
            own = (result == each) & (is_live == live)
            middle = np.full(int(own.sum()), 500.0)
            plot.bars(x[own], middle, y(p[own]), style if live else f"{style} late")
    plot.level(500.0)
    values = choose_ticks(y.last, y.first, 4)
    step = values[1] - values[0] if len(values) > 1 else 0.01
    places = max(0, -int(np.floor(np.log10(100 * step) + 1e-9)))
    plot.label_y(y, ((value, f"{100 * value:.{places}f}%") for value in values))
    plot.label_dates(prices.places, prices.days)
    return plot.markup()
