"""`nextday prices`: read the stored prices, now or as known at a time; manage the quarantine."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.arguments import options, parse_date, parse_path, parse_time, require_one_file
from flows.cli.publishing.json_output import AsJson

if TYPE_CHECKING:
    from flows.prices.reader import StoredPrices

__all__ = ["prices_app"]

prices_app = typer.Typer(
    no_args_is_help=True, help="The stored prices: as known now, or as known at an earlier time."
)
quarantine_app = typer.Typer(
    no_args_is_help=True,
    help="Symbols whose source contradicts the stored prices: no new bars of them are stored.",
)
prices_app.add_typer(quarantine_app, name="quarantine")

_AsOf = Annotated[
    str, typer.Option(help="The last session, e.g. 2018-12-31.", show_default="the newest stored")
]
_KnownAt = Annotated[
    str,
    typer.Option(
        help="Leave out what was observed later, e.g. 2018-12-10T22:00Z; without an offset in the exchange's time; "
        "a date means its end.",
        show_default="everything stored",
    ),
]


@prices_app.command("show")
def show(
    symbol: Annotated[str, typer.Argument(help="One symbol of the universe.")],
    as_of: _AsOf = "",
    known_at: _KnownAt = "",
    last: Annotated[int, typer.Option(help="How many bars.", min=1)] = 20,
) -> None:
    """Show a symbol's newest bars as traded, with adjusted closes and later revisions."""
    day, time = parse_date(as_of, "--as-of") if as_of else None, parse_time(known_at, "--known-at")
    from flows.cli.prices_output import show_history
    from pipeline.prices.revisions import read_history

    stored = _open_bars()
    known = stored.instant(time)
    current = stored.members().current.get(symbol, symbol)
    history = read_history(stored.store, current, stored.session(day), known)
    show_history(history, stored.config.universe.name, known, last)


@prices_app.command("check")
def check(
    everything: Annotated[bool, typer.Option("--all", help="Every finding, not only the newest.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check all stored prices again; exit code 1 if a finding needs a person."""
    from flows.cli.prices_output import show_price_findings
    from flows.cli.publishing.answers import answer_prices_check
    from pipeline.prices.ingest.store_check import check_store
    from pipeline.report.documents.answers import CheckedPrices

    stored, needs_person, answers = _open_bars(), False, []
    name = stored.config.universe.name
    parts = [(stored.calendar, stored.members(), stored.symbols(), "")]
    parts += [(days, each, each.symbols, "context series of ") for days, each in stored.context().items()]
    for days, listed, symbols, what in parts:
        found = check_store(
            stored.store,
            stored.fetch_log,
            days,
            listed,
            last=stored.last_closed_of(days),
            now=stored.now,
            symbols=symbols,
        )
        if as_json:
            answers.append(CheckedPrices.read(found, "context series" if what else "constituents", days.name))
        else:
            show_price_findings(found, f"{what}the universe {name}", everything=everything)
        needs_person |= bool(found.rows["needs_person"].any())
    if as_json:
        answer_prices_check(name, answers, needs_person=needs_person)
    if needs_person:
        raise typer.Exit(1)


@prices_app.command("export")
def export(
    csv: Annotated[
        Path | None, typer.Option(help="The file to write; - for standard output.", parser=parse_path)
    ] = None,
    parquet: Annotated[Path | None, typer.Option(help="The file to write.", parser=parse_path)] = None,
    as_of: _AsOf = "",
    known_at: _KnownAt = "",
) -> None:
    """Export every bar as CSV or Parquet: the whole file or nothing."""
    path = require_one_file(csv, parquet)
    day, time = parse_date(as_of, "--as-of") if as_of else None, parse_time(known_at, "--known-at")
    from flows.cli.prices_output import show_export
    from pipeline.prices.export import export_csv, export_parquet

    stored = _open_bars()
    session, known = stored.session(day), stored.instant(time)
    if csv is None:
        show_export(export_parquet(stored.store, path, session, known), path)
    elif str(path) == "-":
        export_csv(stored.store, sys.stdout, session, known)
    else:
        show_export(export_csv(stored.store, path, session, known), path)


@prices_app.command("copy")
def copy(
    to: Annotated[
        str,
        typer.Option(
            help="Where to: an address as for [storage] prices, or `folder` for the workspace's own."
        ),
    ],
) -> None:
    """Copy the universe's prices to another place and verify the copy; every version of every bar keeps its number.

    Afterwards set [storage] prices. The original stays.
    """
    from pydantic import ValidationError

    from flows.prices.reader import open_stored_prices
    from pipeline.errors import InputError
    from pipeline.prices.copying import copy_prices
    from pipeline.prices.location import open_store
    from pipeline.storage.workspace import Workspace
    from pipeline.storage_config import StorageConfig

    stored = open_stored_prices(options.config, options.home, options.now)
    home = Workspace(options.workspace().home)
    try:
        storage = StorageConfig(prices="" if to == "folder" else to)
    except ValidationError:
        raise InputError(
            f"This is no place for prices: {to}", where="--to", fix="write s3://bucket/prefix, or folder"
        ) from None
    target = open_store(home, storage, stored.config.universe.name)
    if target.place == stored.store.place:
        raise InputError("The prices lie there already", where=target.place, fix="name another place")
    with home.locked(stored.config.universe.name, timeout=0, log=typer.echo):
        number = copy_prices(stored.store, target)
    typer.echo(f"{number:,} files copied to {target.place} and verified, version {target.seq()}")
    typer.echo(f'next: set [storage] prices = "{storage.prices}" in {options.settings()}')


@quarantine_app.command("list")
def list_quarantine(
    everything: Annotated[bool, typer.Option("--all", help="All events of the quarantine so far.")] = False,
) -> None:
    """List the symbols whose source contradicts the stored prices, with the evidence."""
    from flows.cli.prices_output import show_quarantine, show_quarantine_events

    stored = _open_prices()
    if everything:
        show_quarantine_events(stored.fetch_log.events())
    show_quarantine([*stored.fetch_log.quarantined().values()], stored.config.universe.name)


@quarantine_app.command("release")
def release(symbol: Annotated[str, typer.Argument(help="One symbol in quarantine.")]) -> None:
    """Accept the source: its next answer replaces the stored prices, which stay readable with --known-at."""
    from flows.cli.prices_output import show_release

    stored = _open_prices()
    show_release(stored.release(symbol))


def _open_prices() -> "StoredPrices":
    from flows.prices.reader import open_stored_prices

    return open_stored_prices(options.config, options.home, options.now)


def _open_bars() -> "StoredPrices":
    stored = _open_prices()
    stored.require_bars()
    return stored
