"""Bars that move in a terminal; they need no Prefect, whose import alone makes a folder in the user's home."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

__all__ = ["Advance", "draw_bar"]

Advance = Callable[[str], None]
"""Called once a unit of work with what there is to say about it."""


@contextmanager
def draw_bar(console: Console, title: str, total: int) -> Iterator[Advance]:
    """Draw a bar of `total` units for the block; where nobody looks, nothing is drawn."""
    columns = (
        TextColumn("{task.description:<14}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", style="dim"),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=total, note="")
        yield lambda note: progress.update(task, advance=1, note=note)
