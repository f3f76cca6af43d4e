"""`nextday prices`: read the stored prices, as they stand or as they were known; see to the quarantine."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.arguments import parse_date, parse_path, parse_time, place, require_folder

if TYPE_CHECKING:
    from flows.prices.reader import StoredPrices

__all__ = ["prices_app"]

prices_app = typer.Typer(
    no_args_is_help=True, help="The stored prices: as they stand, or as they were known at a time."
)
quarantine_app = typer.Typer(
    no_args_is_help=True,
    help="Symbols whose source contradicts what is stored: nothing new of them is stored.",
)
prices_app.add_typer(quarantine_app, name="quarantine")

_AsOf = Annotated[
    str, typer.Option(help="The last session, e.g. 2018-12-31.", show_default="the newest stored")
]
_KnownAt = Annotated[
    str,
    typer.Option(
        help="Leave out what was observed later, e.g. 2018-12-10T22:00Z; without an offset in the exchange's time; "
        "a bare date is its end.",
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
    """Show a symbol's newest bars as traded, with their adjusted closes, and what was revised later."""
    day, time = parse_date(as_of, "--as-of") if as_of else None, parse_time(known_at, "--known-at")
    from flows.cli.prices_output import show_history
    from pipeline.prices.revisions import read_history

    stored = _stored_bars()
    known = stored.instant(time)
    now_called = stored.members().current.get(symbol, symbol)
    history = read_history(stored.store, now_called, stored.session(day), known)
    show_history(history, stored.config.universe.name, known, last)


@prices_app.command("check")
def check(
    everything: Annotated[bool, typer.Option("--all", help="Every finding, not only the newest.")] = False,
) -> None:
    """Check everything that is stored again; exit code 1 if a finding needs a person."""
    from flows.cli.prices_output import show_price_findings
    from pipeline.prices.ingest.store_check import check_store

    stored = _stored_bars()
    found = check_store(
        stored.store,
        stored.fetch_log,
        stored.calendar,
        stored.members(),
        last=stored.last_closed,
        now=stored.now,
    )
    show_price_findings(found, stored.config.universe.name, everything=everything)
    if found.rows["needs_person"].any():
        raise typer.Exit(1)


@prices_app.command("export")
def export(
    csv: Annotated[
        Path | None, typer.Option(help="The file to write; - is standard output.", parser=parse_path)
    ] = None,
    parquet: Annotated[Path | None, typer.Option(help="The file to write.", parser=parse_path)] = None,
    as_of: _AsOf = "",
    known_at: _KnownAt = "",
) -> None:
    """Write every bar as CSV or as Parquet: the whole file or nothing."""
    path = _file_to_write(csv, parquet)
    day, time = parse_date(as_of, "--as-of") if as_of else None, parse_time(known_at, "--known-at")
    from flows.cli.prices_output import show_export
    from pipeline.prices.export import export_csv, export_parquet

    stored = _stored_bars()
    session, known = stored.session(day), stored.instant(time)
    if csv is None:
        show_export(export_parquet(stored.store, path, session, known), path)
    elif str(path) == "-":
        export_csv(stored.store, sys.stdout, session, known)
    else:
        show_export(export_csv(stored.store, path, session, known), path)


@quarantine_app.command("list")
def list_quarantine(
    everything: Annotated[bool, typer.Option("--all", help="Everything that ever happened in it.")] = False,
) -> None:
    """List the symbols whose source contradicts what is stored, with the evidence."""
    from flows.cli.prices_output import show_quarantine, show_quarantine_events

    stored = _stored()
    if everything:
        show_quarantine_events(stored.fetch_log.events())
    show_quarantine([*stored.fetch_log.quarantined().values()], stored.config.universe.name)


@quarantine_app.command("release")
def release(symbol: Annotated[str, typer.Argument(help="One symbol in quarantine.")]) -> None:
    """Decide that the source is right: its next answer is taken as it is, and what stood before stays readable."""
    from flows.cli.prices_output import show_release

    stored = _stored()
    show_release(stored.release(symbol))


def _file_to_write(csv: Path | None, parquet: Path | None) -> Path:
    if csv is not None and parquet is None:
        require_folder(csv, "--csv")
        return csv
    if parquet is not None and csv is None:
        if str(parquet) == "-":
            raise typer.BadParameter("only CSV goes to standard output; name a file", param_hint="--parquet")
        require_folder(parquet, "--parquet")
        return parquet
    raise typer.BadParameter("name one file, with --csv FILE or with --parquet FILE")


def _stored() -> "StoredPrices":
    from flows.prices.reader import open_stored_prices

    return open_stored_prices(place.config, place.home, place.now)


def _stored_bars() -> "StoredPrices":
    stored = _stored()
    stored.require_bars()
    return stored
