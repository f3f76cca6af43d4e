"""Progress bars in a terminal, without Prefect: importing it creates a folder in the user's home."""

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
"""Called after each unit of work with a note on it."""


@contextmanager
def draw_bar(console: Console, title: str, total: int) -> Iterator[Advance]:
    """Draw a bar of `total` units for the block; outside of a terminal nothing is drawn."""
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
