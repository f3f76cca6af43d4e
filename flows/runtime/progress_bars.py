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
from rich.table import Column

__all__ = ["Advance", "draw_bar"]

Advance = Callable[[str], None]
"""Called after each unit of work with a note on it."""


@contextmanager
def draw_bar(console: Console, title: str, total: int) -> Iterator[Advance]:
    """Draw a bar of `total` units for the block; outside of a terminal nothing is drawn.

    The note gets what is left of a narrow line, and ends with an ellipsis where that is too little.
    """
    whole, rest = Column(no_wrap=True), Column(ratio=1, no_wrap=True, overflow="ellipsis")
    columns = (
        TextColumn("{task.description:<14}", table_column=whole),
        BarColumn(bar_width=min(max(console.width // 6, 8), 28), table_column=whole),
        MofNCompleteColumn(table_column=whole),
        TimeElapsedColumn(table_column=whole),
        TextColumn("left", table_column=whole),
        TimeRemainingColumn(table_column=whole),
        TextColumn("{task.fields[note]}", style="dim", table_column=rest),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal, expand=True
    ) as progress:
        task = progress.add_task(title, total=total, note="")
        yield lambda note: progress.update(task, advance=1, note=note)
