"""Building blocks of every figure: the canvas, the colours of the page, axes, and accessible SVG."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from markupsafe import escape
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

__all__ = [
    "FIRST",
    "GRID",
    "INK",
    "MUTED",
    "SECOND",
    "canvas",
    "date_axis",
    "legend_below",
    "percent_axis",
    "to_svg",
]

_WIDTH: Final = 4.6  # inches: 331 CSS pixels, so that a phone shows the text unscaled
INK, MUTED, GRID, FIRST, SECOND = "#010203", "#010204", "#010205", "#010206", "#010207"
"""Placeholders that `to_svg` replaces by the CSS colours of the page."""

_IN_PAGE: Final = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--grid)",
    FIRST: "var(--first)",
    SECOND: "var(--second)",
}
_STYLE: Final = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.6,
}


def percent_axis(axis: Axis) -> None:
    """Format the shares along an axis as percentages."""
    axis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.4g}%"))


def date_axis(axes: Axes) -> None:
    """Format the x axis as dates, with few and short labels."""
    locator = AutoDateLocator(minticks=3, maxticks=7)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=False))


def legend_below(axes: Axes, columns: int) -> None:
    """Put the legend below the figure, in the given number of columns."""
    axes.figure.legend(ncols=columns, loc="outside lower center", handlelength=1.4, columnspacing=1.2)


@contextmanager
def canvas(height: float) -> Iterator[tuple[Figure, Any]]:
    """Yield a figure of the page's width, `height` inches high, and its axes."""
    with rc_context({**_STYLE, "svg.hashsalt": "nextday"}):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        yield figure, figure.add_subplot()


def to_svg(figure: Figure, title: str, description: str) -> str:
    """Return an <svg> element that scales with the page, with title and description for screen readers and no link."""
    text = io.StringIO()
    with rc_context({"svg.hashsalt": title}):  # ids must be unique on a page
        figure.savefig(
            text,
            format="svg",
            transparent=True,
            metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")),
        )
    body = re.sub(
        r"\A.*?<svg[^>]*>|<style.*?</style>|<metadata>.*?</metadata>", "", text.getvalue(), flags=re.DOTALL
    )
    body = re.sub(r'<g id="[^"]*"', "<g", body)
    for color, variable in _IN_PAGE.items():
        body = body.replace(color, variable)
    width, height = (72 * side for side in figure.get_size_inches())
    name = re.sub(r"\W+", "-", title.lower())
    return (
        f'<svg viewBox="0 0 {width:.2f} {height:.2f}" role="img" aria-labelledby="{name}" '
        f'aria-describedby="{name}-in-words">'
        f'<title id="{name}">{escape(title)}</title><desc id="{name}-in-words">{escape(description)}</desc>{body}'
    )
