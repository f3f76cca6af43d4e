"""`nextday backup` and `nextday restore`: copy a workspace into one file, and back."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.arguments import options, parse_path

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
            help="A folder, where the backup is named after the time; or the .tar file itself.",
            parser=parse_path,
        ),
    ],
    keep: Annotated[int, typer.Option(help="In a folder: how many backups to keep.", min=1)] = 14,
) -> None:
    """Copy the workspace into one file and verify the copy.

    Nightly runs may go on meanwhile.
    """
    from flows.runtime.locations import absolute_path
    from models.ensembles.model_files import model_version
    from pipeline.backup.backup import back_up

    workspace, now = options.whole_workspace(), datetime.now(UTC)
    result = back_up(
        workspace.home,
        absolute_path(target),
        now=now,
        keep=keep,
        progress=_progress(),
        digest=model_version,
        ledger_address=workspace.ledger_address,
    )
    for old in result.removed:
        typer.echo(f"removed {old}")
    _print_contents(result.contents)
    storage = options.storage()
    if storage.mlflow:
        typer.echo(
            f"MLflow: its runs, and models that this workspace has not used yet, are not in this backup; they lie on "
            f"{storage.mlflow}: back up that server"
        )
    if storage.reports:
        typer.echo(f"reports: the workspace's are in this backup, the copies on {storage.reports} are not")
    if elsewhere := storage.prices:
        typer.echo(
            f"prices: not in this backup, they lie on {elsewhere}: keep them by the versions of that store, or copy "
            "them into the workspace first (nextday prices copy --to folder)"
        )
    typer.echo(f"{result.path}: {result.path.stat().st_size / 1e6:,.1f} MB, verified")


@backup_app.command("restore")
def restore(
    archive: Annotated[
        Path, typer.Argument(help="The backup, or a folder of backups: its newest.", parser=parse_path)
    ],
    home: Annotated[
        Path | None,
        typer.Option(
            help="The workspace to create.",
            show_default="NEXTDAY_HOME, or data/ next to the configuration",
            parser=parse_path,
        ),
    ] = None,
) -> None:
    """Create a workspace from a backup; never overwrites one."""
    from flows.runtime.locations import absolute_path
    from pipeline.backup.backup import newest
    from pipeline.backup.backup import restore as restore_workspace

    options.home = home or options.home
    workspace = options.workspace()
    contents = restore_workspace(newest(absolute_path(archive)), workspace.home, progress=_progress())
    _print_contents(contents)
    typer.echo(f"{workspace.home}: restored as of {contents.made_at}; later data is not in it")


def _progress() -> "Progress":
    import functools

    from rich.console import Console

    from flows.runtime.progress_bars import draw_bar

    return functools.partial(draw_bar, Console(stderr=True))


def _print_contents(contents: "Contents") -> None:
    """Print what the backup contains, and the ledger's head: where it runs daily, the system log keeps every head."""
    from pipeline.formatting import count

    typer.echo(f"{count(contents.files, 'file')}, by {contents.made_by}")
    for kept in contents.universes:
        reach = f"to {kept.last:%Y-%m-%d}" if kept.last is not None else "no bar yet"
        typer.echo(f"prices of {kept.name}: {count(kept.symbols, 'symbol')} {reach}, version {kept.seq}")
    if contents.ledger is None:
        typer.echo("no ledger yet")
        return
    forecasts, outcomes = contents.ledger.forecasts, contents.ledger.outcomes
    typer.echo(f"ledger: {count(forecasts, 'forecast')}, {count(outcomes, 'outcome')}, the seal is intact")
    typer.echo(f"head {contents.ledger.head.hash}")
