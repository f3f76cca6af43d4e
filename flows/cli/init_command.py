"""`nextday init`: look at the prices, and write the nextday.toml that fits them; or a folder to begin with."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.arguments import options, parse_path
from flows.runtime.locations import SETTINGS, SHIPPED

__all__ = ["init_app"]

init_app = typer.Typer()

_LISTS = SHIPPED / "data" / "universes"
_DEPLOYMENTS = "prefect.yaml"


@init_app.command("init")
def init(
    source: Annotated[
        str,
        typer.Argument(
            help="yahoo, files, a list (dow30, dax40, us-sectors), or a folder to begin in: ./evenings.",
            metavar="SOURCE",
        ),
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
    """Look at the prices and write a nextday.toml for them here, or begin in a folder with the sample prices.

    `nextday init files prices.csv`, `nextday init yahoo AAPL MSFT` or `nextday init dow30` say what they found and what
    they chose. `nextday init ./evenings` writes a nextday.toml with every setting explained, the shipped lists and
    prefect.yaml into that folder. It runs nothing, and never overwrites a file.
    """
    lists = {path.stem: path for path in sorted(_LISTS.glob("*.csv"))}
    if not names and source not in ("yahoo", "files", *lists) and _is_folder(source):
        _begin_in(parse_path(source))
        return
    _fit(source, names or [], lists, calendar, proxy, str(ca_bundle or ""))


def _fit(
    source: str, names: Sequence[str], lists: Mapping[str, Path], calendar: str, proxy: str, ca_bundle: str
) -> None:
    """Write the settings that fit the prices, and the list that they name, into the current folder."""
    target = Path.cwd() / SETTINGS
    _require_free(target)
    from rich.table import Table
    from rich.text import Text

    from flows.cli.console import console
    from flows.operations.first_settings import LISTS, Request, propose

    request = Request(
        source=source,
        names=tuple(dict.fromkeys(names)),
        lists=lists,
        calendar=calendar,
        proxy=proxy,
        ca_bundle=ca_bundle,
        now=(options.now or datetime.now(UTC)),
    )
    copied = Path.cwd() / LISTS / f"{source}.csv"
    if source in lists:
        _require_free(copied)
    proposal = propose(request, lambda line: typer.echo(line, err=True))
    files = {copied: lists[source].read_text("utf-8")} if source in lists else {}
    files[target] = proposal.text
    _write_new(files)
    grid = Table.grid(padding=(0, 2))
    for name, text in proposal.facts.items():
        grid.add_row(name, Text(text))
    console.print(grid)
    console.print()
    for path in files:
        console.print(f"Wrote {path}", markup=False, soft_wrap=True)
    console.print("Next: nextday forecast")


def _is_folder(source: str) -> bool:
    """Return whether the word names a folder: an existing one, or a path; a mistyped source is neither."""
    return source in (".", "..") or any(mark in source for mark in (os.sep, "~")) or Path(source).is_dir()


def _begin_in(folder: Path) -> None:
    """Write the shipped settings, lists and deployments into a folder, which is made if it is not there."""
    from flows.operations.first_settings import LISTS

    shipped = {folder / LISTS / path.name: path for path in sorted(_LISTS.glob("*.csv"))}
    shipped |= {folder / name: SHIPPED / name for name in (_DEPLOYMENTS, SETTINGS)}
    for path in shipped:
        _require_free(path)
    _write_new({path: _read(original) for path, original in shipped.items()})
    for path in shipped:
        typer.echo(f"Wrote {path}")
    here = "" if folder.resolve() == Path.cwd().resolve() else f"cd {folder}, then "
    typer.echo(f"Next: {here}nextday forecast (offline, on the sample; {SETTINGS} explains every setting)")


def _read(original: Path) -> str:
    text = original.read_text("utf-8")
    return text.replace("data/universes", "universes") if original.name == SETTINGS else text


def _require_free(target: Path) -> None:
    from pipeline.errors import InputError

    if os.path.lexists(target):
        what = {
            SETTINGS: "There are settings here already, and they are",
            _DEPLOYMENTS: "There are deployments here already, and they are",
        }.get(target.name, "There is such a list here already, and it is")
        raise InputError(
            f"{what} never overwritten",
            where=str(target),
            fix="make a new folder and run nextday init there, or move that file away",
        )


def _write_new(files: Mapping[Path, str]) -> None:
    """Write all files, which must not exist, or none; the settings last."""
    from pipeline.errors import InputError

    written: list[Path] = []
    try:
        for target, text in files.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("x", encoding="utf-8", newline="\n") as file:
                written.append(target)
                file.write(text)
    except OSError as error:
        for path in written:
            with suppress(OSError):
                path.unlink()  # a disk that is full leaves half of it
        if isinstance(error, FileExistsError):
            _require_free(target)
        raise InputError(
            f"The settings cannot be written: {error.strerror or error}",
            where=str(target),
            fix="run nextday init in a folder that you may write to",
        ) from None
