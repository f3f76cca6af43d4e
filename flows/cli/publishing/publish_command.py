"""`nextday publish`: the record as strangers can check it."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.arguments import options, parse_path

__all__ = ["publish_app"]

publish_app = typer.Typer()


@publish_app.command("publish")
def publish(
    to: Annotated[
        Path, typer.Option(help="The folder to write, for any web server or a disk.", parser=parse_path)
    ],
    everything: Annotated[
        bool, typer.Option("--all", help="Show the rows of every universe, not only of the configured one.")
    ] = False,
) -> None:
    """Write the site, the sealed rows, and what checks them to a folder.

    A second time only what changed is written. `verify.html` in it recomputes the hash chain in a browser, `verify.py`
    with Python alone.
    """
    from flows.operations.publishing import publish_record
    from pipeline.formatting import count

    done = publish_record(options.config, options.home, options.now, to, everything=everything)
    removed = f", {done.removed:,} removed" if done.removed else ""
    batches = f"{done.batches:,} sealed {'batch' if done.batches == 1 else 'batches'}"
    typer.echo(f"{done.folder}: {count(done.pages, 'file')} of its reports, {batches}")
    typer.echo(f"{count(done.written, 'file')} written{removed}")
    typer.echo(f"head {done.ledger_head}")
