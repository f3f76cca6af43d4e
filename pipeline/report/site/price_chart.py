"""A symbol's charts: a year of closes, its newest candles, and the calls on it, as high as they were sure."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from pipeline.formatting import format_price
from pipeline.report.site.plot import Plot, Scale, choose_ticks
from pipeline.report.site.symbol_rows import NONE, OPEN, RESULTS, RIGHT, WRONG, Rows

__all__ = ["CANDLES", "Prices", "plot_calls", "plot_candles", "plot_prices", "tally_calls"]

Floats = NDArray[np.float64]

CANDLES: Final = 60
"""Sessions drawn as candles: on a phone each is five pixels wide, enough to tell a body from a wick."""

_BODY: Final = 0.62
"""The width of a candle's body, as a share of the room of a session."""

_LEAST: Final = 0.02
"""The calls' axis reaches so far from 50% at least: a hair's breadth is not drawn as a conviction."""


@dataclass(frozen=True, eq=False)
class Prices:
    """The bars of one listing, as known tonight.

    Attributes:
        days: The sessions, then those that are forecast next, datetime64[D].
        close: Adjusted for splits and dividends, in the units of the newest bar; NaN without a bar, [session].
        open, high, low: By the factor of their close; NaN where the source has none, [session].
        dividend: As paid, 0 for none, [session].
        split: The ratio that took effect, 1 for none, [session].
    """

    days: "NDArray[np.datetime64]"
    close: Floats
    open: Floats
    high: Floats
    low: Floats
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
    _mark_dividends(plot, x[: len(close)][prices.dividend > 0])
    _label_prices(plot, y)
    plot.label_dates(x, prices.days)
    return plot.markup()


def plot_candles(symbol: str, prices: Prices) -> Markup | None:
    """Plot the newest sessions as candles, hollow where the close is above the open; None where opens are unknown.

    A session with a close alone is a stroke.
    """
    count = min(CANDLES, len(prices.close))
    bars = np.stack([prices.open, prices.high, prices.low, prices.close])[:, len(prices.close) - count :]
    days = prices.days[len(prices.close) - count :]
    whole, closed = np.isfinite(bars).all(axis=0), np.isfinite(bars[3])
    if 2 * whole.sum() <= closed.sum() or not (bars[1] > bars[2])[whole].any():
        return None
    room = 1000 / len(days)
    places: Floats = np.asarray((np.arange(len(days)) + 0.5) * room, np.float64)
    x, width = places[:count], _BODY * room
    shown = np.where(whole, bars, np.where(np.isfinite(bars[3]), bars[3], np.nan))
    top, bottom = float(np.nanmax(shown[1])), float(np.nanmin(shown[2]))
    plot = Plot(
        f"Candles of {symbol}",
        f"{count} sessions to {days[count - 1]}: between {format_price(bottom)} and {format_price(top)}.",
        "high",
    )
    y = Scale.upwards(shown)
    first, high, low, last = (y(each) for each in shown)
    dividend, split = (each[len(prices.close) - count :] for each in (prices.dividend, prices.split))
    plot.upright(x[split != 1], "s")
    plot.bars(x[whole], high[whole], low[whole], "k")
    for style, own in (
        ("rise", whole & (bars[3] > bars[0])),
        ("fall", whole & (bars[3] <= bars[0])),
        ("alone", closed & ~whole),
    ):
        plot.boxes(x[own], np.minimum(first, last)[own], np.maximum(first, last)[own], width, style)
    _mark_dividends(plot, x[dividend > 0])
    _label_prices(plot, y)
    plot.label_dates(places, days)
    return plot.markup()


def _mark_dividends(plot: Plot, x: Floats) -> None:
    plot.bars(x, np.full(len(x), 955.0), np.full(len(x), 1000.0), "v")


def _label_prices(plot: Plot, y: Scale) -> None:
    values = choose_ticks(y.last, y.first, 5)
    step = values[1] - values[0] if len(values) > 1 else 1.0
    places = max(0, -int(np.floor(np.log10(step) + 1e-9)))
    plot.label_y(y, ((value, f"{value:,.{places}f}") for value in values if value >= 0))


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
