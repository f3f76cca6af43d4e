"""`nextday ledger`: show, verify and export the sealed record."""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.arguments import options, parse_date, parse_path, require_one_file
from flows.cli.publishing.json_output import AsJson

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.ledger.ledger import Ledger
    from pipeline.storage.workspace import Workspace

__all__ = ["ledger_app"]

_Csv = Annotated[
    Path | None, typer.Option(help="The file to write; - for standard output.", parser=parse_path)
]
_Parquet = Annotated[Path | None, typer.Option(help="The file to write.", parser=parse_path)]

ledger_app = typer.Typer(no_args_is_help=True, help="The sealed record: forecasts and their outcomes.")


@ledger_app.command("show")
def ledger_show(
    last: Annotated[int, typer.Option(help="How many sessions.", min=1)] = 5,
    as_json: AsJson = False,
) -> None:
    """Show the newest forecasts with their outcomes."""
    from flows.cli.output import show_record
    from flows.cli.publishing.answers import answer_record

    ledger, universe = _ledger(), _universe_name()
    if as_json:
        answer_record(ledger, universe, last)
        return
    typer.echo(f"{ledger.path}, universe {universe}")
    show_record(ledger.record(universe), last)


@ledger_app.command("verify")
def ledger_verify(
    head: Annotated[str, typer.Option(help="A head hash kept elsewhere, for example in a report.")] = "",
) -> None:
    """Recompute both hash chains and list every row or batch that was changed."""
    if head and not re.fullmatch("[0-9a-f]{64}", head):
        raise typer.BadParameter(
            f"{head!r} is not a head hash: one has 64 characters of 0-9 and a-f", param_hint="--head"
        )
    from flows.cli.output import show_verification

    ledger = _ledger()
    typer.echo(f"{ledger.path}, every universe")
    verification = ledger.verify(expected_head=head or None)
    show_verification(verification)
    if not verification.ok:
        raise typer.Exit(1)


@ledger_app.command("export")
def ledger_export(
    csv: _Csv = None,
    parquet: _Parquet = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every universe, not only the configured one.")
    ] = False,
) -> None:
    """Export every forecast with its outcome as CSV or Parquet."""
    path = require_one_file(csv, parquet)
    ledger, universe = _ledger(), None if everything else _universe_name()
    if csv is not None:
        ledger.export_csv(universe, sys.stdout if str(path) == "-" else path)
        return
    from pipeline.ledger.sealed_batches import open_sealed, read_table
    from pipeline.storage.files import write_bytes

    with open_sealed(ledger.path) as db:
        record = read_table(db, "record", universe)
    write_bytes(path, record.drop(columns="batch").to_parquet(index=False))


@ledger_app.command("positions")
def ledger_positions(
    csv: _Csv = None,
    parquet: _Parquet = None,
    target: Annotated[
        str, typer.Option(help="relative, intraday_relative or overnight_relative.")
    ] = "relative",
    session: Annotated[
        str, typer.Option(help="The last session used, as 2026-11-27; default: the newest.")
    ] = "",
    form: Annotated[
        str, typer.Option(help="positions: long and short weights; numerai: ticker and signal.")
    ] = "positions",
) -> None:
    """Export one session's sealed forecasts against the median as positions, or as Numerai's signals."""
    import pandas as pd

    from pipeline.outputs import NEXT, TARGETS, Output
    from pipeline.storage.csv_output import format_csv
    from pipeline.storage.files import write_bytes, write_text
    from pipeline.trading.exports import FORMS, select_evening, tabulate

    path = require_one_file(csv, parquet)
    relative = [name for name in TARGETS if Output(name, NEXT).is_relative]
    if form not in FORMS:
        raise typer.BadParameter(f"{form!r}: write {' or '.join(FORMS)}", param_hint="--form")
    if target not in relative:
        raise typer.BadParameter(f"{target!r}: write {', '.join(relative)}", param_hint="--target")
    if form == "positions" and Output(target, NEXT).part == "overnight":
        raise typer.BadParameter(
            "an overnight forecast is issued after the close: nobody can buy at that close any more; "
            "--form numerai exports its signals",
            param_hint="--target",
        )
    as_of = pd.Timestamp(parse_date(session, "--session")) if session else None
    settings = _settings()
    rows = select_evening(_ledger().record(settings.universe.name), target, as_of)
    table = tabulate(rows, form, settings.trading)
    if csv is None:
        write_bytes(path, table.to_parquet(index=False))
    elif str(path) == "-":
        sys.stdout.write(format_csv(table))
    else:
        write_text(path, format_csv(table))


@ledger_app.command("migrate")
def ledger_migrate(
    to: Annotated[
        str, typer.Option(help="postgresql://user@host/database?schema=nextday, env:NAME, or sqlite.")
    ],
) -> None:
    """Copy the ledger and the fetch logs to PostgreSQL, or back into files; verified before and after.

    The target must be empty; what is copied stays. Set [storage] ledger to the target afterwards.
    """
    from contextlib import ExitStack

    from pipeline.formatting import count
    from pipeline.ledger.migration import migrate
    from pipeline.prices.ingest.fetch_log_tables import copy_logs, list_logs
    from pipeline.storage.workspace import Workspace
    from pipeline.storage_config import StorageConfig

    workspace = _workspace()
    address = "" if to == "sqlite" else to
    try:
        StorageConfig(ledger=address)
    except ValueError:
        raise typer.BadParameter(
            "write postgresql://user@host/database?schema=nextday without a password, env:NAME, or sqlite",
            param_hint="--to",
        ) from None
    target, names = Workspace(workspace.home, address), list_logs(workspace)
    with ExitStack() as held:
        for name in names:
            held.enter_context(workspace.locked(name, timeout=0, log=typer.echo))
        head = migrate(
            workspace.ledger, target.ledger, copy_the_rest=lambda: copy_logs(workspace, target, names)
        )
    typer.echo(f"{workspace.ledger} -> {target.ledger}: verified, head {head.hash}")
    typer.echo(
        ": ".join([f"{count(len(names), 'fetch log')} copied", *([", ".join(names)] if names else [])])
    )
    typer.echo(f'now write [storage] ledger = "{address}" into {options.settings()}')


@ledger_app.command("begin-again")
def ledger_begin_again(
    accept: Annotated[str, typer.Option(help="What is lost, word for word as this command says it.")] = "",
) -> None:
    """Go on after a loss: the words that accept it are sealed, and every later report repeats them.

    First look for a backup: nextday restore. A ledger that cannot be trusted is set aside, not deleted.
    """
    from datetime import UTC, datetime

    from pipeline.ledger.recovery import begin_again, describe_loss

    workspace = _workspace()
    if not describe_loss(workspace.ledger):
        typer.echo(f"{workspace.ledger}: nothing is lost")
        return
    aside = begin_again(workspace.ledger, accept, datetime.now(UTC))
    if aside:
        typer.echo(f"the damaged ledger was moved to {aside}")
    typer.echo(f"{workspace.ledger}: it goes on, and the loss is sealed in it")


def _ledger() -> "Ledger":
    from pipeline.ledger.ledger import Ledger

    return Ledger(_workspace().ledger, read_only=True)


def _workspace() -> "Workspace":
    workspace = options.whole_workspace()
    workspace.check()
    return workspace


def _universe_name() -> str:
    return _settings().universe.name


def _settings() -> "Config":
    from flows.runtime.locations import default_config
    from pipeline.config_file import load

    return load(options.config or default_config())
