"""A small drawing module: plots as SVG paths that stretch with the page, and their labels as text that does not.

A plot costs well under a millisecond, where a figure of matplotlib takes a fifth of a second: a site has hundreds of
pages. Coordinates are shares of the plot in thousandths; strokes keep their width however the plot is stretched. Lines
go from point to point in whole thousandths, a third of a pixel of most plots, and their paths are a third as long.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

__all__ = ["Plot", "Scale", "choose_ticks", "date_ticks", "join_bars", "join_boxes", "join_line"]

Floats = NDArray[np.float64]

_SIZE: Final = 1000.0


@dataclass(frozen=True)
class Scale:
    """A linear scale from data to thousandths of a plot, from `first` at 0 to `last` at 1,000."""

    first: float
    last: float

    def __call__(self, values: Floats | Sequence[float]) -> Floats:
        """Return the places of the values."""
        span = self.last - self.first
        return (np.asarray(values, float) - self.first) / (span or 1.0) * _SIZE

    @classmethod
    def upwards(cls, *values: Floats | Sequence[float], margin: float = 0.06) -> "Scale":
        """Return the vertical scale that shows all finite values, the largest on top, with a margin."""
        known = np.concatenate([np.asarray(each, float).ravel() for each in values] or [np.zeros(0)])
        known = known[np.isfinite(known)]
        low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
        room = margin * (high - low) or 0.5 * abs(high) or 0.5
        return cls(high + room, low - room)


def join_line(x: Floats, y: Floats) -> str:
    """Return the path of a line through points, with gaps where y is not finite."""
    known = np.flatnonzero(np.isfinite(y))
    places = np.rint(np.stack([x[known], y[known]], axis=1)).astype(np.int64)
    parts = []
    for run in np.split(places, np.flatnonzero(np.diff(known) > 1) + 1) if len(known) else ():
        steps = " ".join(map(str, np.diff(run, axis=0).ravel().tolist())).replace(" -", "-")
        parts.append(f"M{run[0, 0]} {run[0, 1]}" + (f"l{steps}" if steps else ""))
    return "".join(parts)


def join_band(x: Floats, low: Floats, high: Floats) -> str:
    """Return the path of the area between two lines, where both are finite."""
    known = np.isfinite(low) & np.isfinite(high)
    if not known.any():
        return ""
    there = join_line(x[known], high[known])
    back = join_line(x[known][::-1], low[known][::-1])
    return f"{there}L{back[1:]}Z"


def join_bars(x: Floats, begin: Floats, end: Floats) -> str:
    """Return the path of vertical bars."""
    rows = zip(x.tolist(), begin.tolist(), end.tolist(), strict=True)
    return "".join(f"M{left:.1f} {first:.1f}V{last:.1f}" for left, first, last in rows)


def join_boxes(x: Floats, top: Floats, bottom: Floats, width: float) -> str:
    """Return the path of upright boxes around `x`."""
    rows = zip((x - width / 2).tolist(), top.tolist(), bottom.tolist(), strict=True)
    return "".join(
        f"M{left:.1f} {first:.1f}h{width:.1f}V{last:.1f}h-{width:.1f}Z" for left, first, last in rows
    )


def choose_ticks(low: float, high: float, most: int = 4) -> list[float]:
    """Return at most `most` + 1 round values within [low, high]."""
    span = high - low
    if not (math.isfinite(span) and span > 0):
        return [low] if math.isfinite(low) else []
    rough = span / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(step * each, 12) for each in range(first, math.floor(high / step + 1e-9) + 1)]


def date_ticks(days: "NDArray[np.datetime64]", most: int = 5) -> list[tuple[int, str]]:
    """Return places and names of a few months' or years' first sessions; of the first one where none begins.

    Args:
        days: [session], ascending.
        most: The largest number of ticks.
    """
    if not len(days):
        return []
    months = days.astype("datetime64[M]").astype(int)
    for every in (1, 2, 3, 6, 12, 24, 60, 120):
        starts = np.flatnonzero((np.diff(months) > 0) & (months[1:] // every != months[:-1] // every)) + 1
        if len(starts) <= most:
            break
    if not len(starts):
        return [(0, str(days[0].astype("datetime64[D]")))]
    names = days[starts].astype("datetime64[M]").astype(str)
    return [
        (int(at), str(name)[:4] if every >= 12 else str(name)) for at, name in zip(starts, names, strict=True)
    ]


@dataclass
class Plot:
    """A plot: layers from back to front, and labels at its axes.

    Attributes:
        title: What it shows, for a screen reader.
        description: Its numbers in words, for a screen reader.
        height: A class name: "low", "middle" or "high".
        shapes: The layers so far.
        labels: The labels so far.
    """

    title: str
    description: str
    height: str = "middle"
    shapes: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)

    def draw(self, path: str, style: str) -> None:
        """Add a path in a style of the page; an empty one is left out."""
        if path:
            self.shapes.append(f'<path class="{style}" d="{path}"/>')

    def line(self, x: Floats, y: Floats, style: str = "l") -> None:
        """Add a line."""
        self.draw(join_line(x, y), style)

    def band(self, x: Floats, low: Floats, high: Floats, style: str = "b") -> None:
        """Add the area between two lines."""
        self.draw(join_band(x, low, high), style)

    def bars(self, x: Floats, begin: Floats, end: Floats, style: str) -> None:
        """Add vertical bars."""
        self.draw(join_bars(x, begin, end), style)

    def boxes(self, x: Floats, top: Floats, bottom: Floats, width: float, style: str) -> None:
        """Add upright boxes."""
        self.draw(join_boxes(x, top, bottom, width), style)

    def dots(self, x: Floats, y: Floats, style: str = "d") -> None:
        """Add round dots."""
        rows = zip(x.tolist(), y.tolist(), strict=True)
        self.draw("".join(f"M{left:.1f} {top:.1f}h0" for left, top in rows), style)

    def level(self, y: float, style: str = "z") -> None:
        """Add a horizontal line across the plot."""
        self.draw(f"M0 {y:.1f}H1000", style)

    def upright(self, x: Iterable[float], style: str) -> None:
        """Add vertical lines across the plot."""
        self.draw("".join(f"M{left:.1f} 0V1000" for left in x), style)

    def label_y(self, scale: Scale, names: Iterable[tuple[float, str]]) -> None:
        """Add a label and a faint line for each value of the vertical axis."""
        for value, name in names:
            top = float(scale([value])[0])
            self.shapes.insert(0, f'<path class="g" d="M0 {top:.1f}H1000"/>')
            self.labels.append(f'<i class="y" style="top:{top / 10:.1f}%">{escape(name)}</i>')

    def label_x(self, names: Iterable[tuple[float, str]], style: str = "x") -> None:
        """Add a label for each place (in thousandths) of the horizontal axis."""
        for left, name in names:
            side = " end" if left > 880 else " start" if left < 60 else ""
            self.labels.append(f'<i class="{style}{side}" style="left:{left / 10:.1f}%">{escape(name)}</i>')

    def label_dates(self, x: Floats, days: "NDArray[np.datetime64]", most: int = 5) -> None:
        """Add labels for a few dates, [session] at `x`: none at the very ends, which would cover others on a phone."""
        every = [(float(x[at]), name) for at, name in date_ticks(days, most)]
        inner = [(left, name) for left, name in every if 80 <= left <= 920]
        self.label_x(inner if len(inner) > 1 else every)

    def markup(self) -> Markup:
        """Return the plot as HTML."""
        return Markup(
            f'<div class="plot {self.height}" role="img" aria-label="{escape(self.title)}" '
            f'aria-description="{escape(self.description)}">'
            f'<svg viewBox="0 0 1000 1000" preserveAspectRatio="none" aria-hidden="true">{"".join(self.shapes)}</svg>'
            f"{''.join(self.labels)}</div>"
        )
