"""`nextday init`: look at the prices, and write the nextday.toml that fits them."""

import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.arguments import options, parse_path
from flows.runtime.locations import PROJECT, SETTINGS

__all__ = ["init_app"]

init_app = typer.Typer()

_LISTS = PROJECT / "data" / "universes"


@init_app.command("init")
def init(
    source: Annotated[
        str, typer.Argument(help="yahoo, files, or a list: dow30, dax40, us-sectors.", metavar="SOURCE")
    ],
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="yahoo: the symbols; files: the CSV or Parquet file, or the folder.", metavar="[NAME]..."
        ),
    ] = None,
    calendar: Annotated[
        str, typer.Option(help="The exchange's calendar, for example XLON.", show_default="the one that fits")
    ] = "",
    proxy: Annotated[str, typer.Option(help="yahoo: http://host:port of a proxy.")] = "",
    ca_bundle: Annotated[
        Path | None,
        typer.Option(
            help="yahoo: a PEM file of trusted certificates.", show_default="none", parser=parse_path
        ),
    ] = None,
) -> None:
    """Look at the prices and write a nextday.toml for them here.

    `nextday init files prices.csv`, `nextday init yahoo AAPL MSFT` or `nextday init dow30`. It says what it found and
    what it chose. It runs nothing, and never overwrites a file.
    """
    target = Path.cwd() / SETTINGS
    _require_free(target)
    from rich.table import Table
    from rich.text import Text

    from flows.cli.console import console
    from flows.operations.first_settings import Request, propose

    request = Request(
        source=source,
        names=tuple(dict.fromkeys(names or ())),
        lists={path.stem: path for path in sorted(_LISTS.glob("*.csv"))},
        calendar=calendar,
        proxy=proxy,
        ca_bundle=str(ca_bundle or ""),
        now=(options.now or datetime.now(UTC)),
    )
    proposal = propose(request, lambda line: typer.echo(line, err=True))
    _write_new(target, proposal.text)
    grid = Table.grid(padding=(0, 2))
    for name, text in proposal.facts.items():
        grid.add_row(name, Text(text))
    console.print(grid)
    console.print(f"\nWrote {target}", markup=False, soft_wrap=True)
    console.print("Next: nextday forecast")


def _require_free(target: Path) -> None:
    from pipeline.errors import InputError

    if os.path.lexists(target):
        raise InputError(
            "There are settings here already, and they are never overwritten",
            where=str(target),
            fix="make a new folder and run nextday init there, or move that file away",
        )


def _write_new(target: Path, text: str) -> None:
    from pipeline.errors import InputError

    try:
        with target.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        _require_free(target)
    except OSError as error:
        with suppress(OSError):
            target.unlink(missing_ok=True)  # a disk that is full leaves half of it
        raise InputError(
            f"The settings cannot be written: {error.strerror or error}",
            where=str(target),
            fix="run nextday init in a folder that you may write to",
        ) from None
