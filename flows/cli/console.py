"""The terminal that commands print to, and their tables."""

from rich import box
from rich.console import Console
from rich.table import Table

__all__ = ["console", "make_table"]

_NUMBERS = {
    "open",
    "high",
    "low",
    "close",
    "adjusted",
    "volume",
    "div.",
    "split",
    "bars",
    "of",
    "data coverage",
    "P(up)",
    "band",
    "base rate",
    "log loss",
    "saved",
    "trial",
    "last close",
    "return",
    "value",
    "95% interval",
    "n",
    "sessions",
    "p",
}
_PIPE = 160
"""Columns of output to a pipe or a file, where there is no terminal width."""

console = Console(highlight=False)
if not console.is_terminal:
    console = Console(highlight=False, width=_PIPE)


def make_table(*headings: str) -> Table:
    """Return an empty table with these columns; in a narrow terminal its cells fold, nothing is cut off."""
    table = Table(
        box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False, show_edge=False, title_justify="left"
    )
    for heading in headings:
        table.add_column(heading, overflow="fold", justify="right" if heading in _NUMBERS else "left")
    return table
