"""`nextday backup` and `nextday restore`: a workspace into one file, and back."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.arguments import parse_path, place

if TYPE_CHECKING:
    from pipeline.backup.archive import Progress
    from pipeline.backup.backup import Contents

__all__ = ["backup_app"]

backup_app = typer.Typer()


@backup_app.command("backup")
def backup(
    target: Annotated[
        Path,
        typer.Argument(
            help="A folder, in which the copy is named after the time; or the .tar file itself.",
            parser=parse_path,
        ),
    ],
    keep: Annotated[int, typer.Option(help="In a folder: how many copies stay.", min=1)] = 14,
) -> None:
    """Copy the workspace into one file, while evenings run; what was copied is read again before it counts."""
    from flows.runtime.context import absolute_path
    from pipeline.backup.backup import back_up

    home, now = place.workspace().home, datetime.now(UTC)
    made = back_up(home, absolute_path(target), now=now, keep=keep, progress=_progress())
    for old in made.removed:
        typer.echo(f"removed {old}")
    _tell(made.contents)
    typer.echo(f"{made.path}: {made.path.stat().st_size / 1e6:,.1f} MB, read back whole")


@backup_app.command("restore")
def restore(
    archive: Annotated[
        Path, typer.Argument(help="The copy, or a folder of them for its newest.", parser=parse_path)
    ],
    home: Annotated[
        Path | None,
        typer.Option(
            help="The workspace to make.",
            show_default="NEXTDAY_HOME, or data/ beside the configuration",
            parser=parse_path,
        ),
    ] = None,
) -> None:
    """Make a workspace from a copy, here or elsewhere; one that is there already is never touched."""
    from flows.runtime.context import absolute_path
    from pipeline.backup.backup import newest
    from pipeline.backup.backup import restore as restore_workspace

    place.home = home or place.home
    workspace = place.workspace()
    contents = restore_workspace(newest(absolute_path(archive)), workspace.home, progress=_progress())
    _tell(contents)
    typer.echo(f"{workspace.home}: restored as of {contents.made_at}; what came after that is not in it")


def _progress() -> "Progress":
    import functools

    from rich.console import Console

    from flows.runtime.progress_bars import draw_bar

    return functools.partial(draw_bar, Console(stderr=True))


def _tell(contents: "Contents") -> None:
    """Print what a copy holds; the ledger's head goes into the journal of whoever runs this every day."""
    from pipeline.formatting import count

    typer.echo(f"{count(contents.files, 'file')}, by {contents.made_by}")
    for kept in contents.universes:
        reach = f"to {kept.last:%Y-%m-%d}" if kept.last is not None else "no bar yet"
        typer.echo(f"prices of {kept.name}: {count(kept.symbols, 'symbol')} {reach}, version {kept.seq}")
    if contents.ledger is None:
        typer.echo("no ledger yet")
        return
    forecasts, outcomes = contents.ledger.forecasts, contents.ledger.outcomes
    typer.echo(f"ledger: {count(forecasts, 'forecast')}, {count(outcomes, 'outcome')}, the seal holds")
    typer.echo(f"head {contents.ledger.head.hash}")
