"""`nextday ledger`: show, verify and export the sealed record."""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.arguments import options, parse_date, parse_path, require_folder

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.ledger.ledger import Ledger

__all__ = ["ledger_app"]

ledger_app = typer.Typer(no_args_is_help=True, help="The sealed record: forecasts and their outcomes.")


@ledger_app.command("show")
def ledger_show(
    last: Annotated[int, typer.Option(help="How many sessions.", min=1)] = 5,
) -> None:
    """Show the newest forecasts with their outcomes."""
    from flows.cli.output import show_record

    ledger, universe = _ledger(), _universe_name()
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
    csv: Annotated[Path, typer.Option(help="The file to write; - for standard output.", parser=parse_path)],
    everything: Annotated[
        bool, typer.Option("--all", help="Every universe, not only the configured one.")
    ] = False,
) -> None:
    """Export every forecast with its outcome as CSV."""
    require_folder(csv, "--csv")
    ledger, universe = _ledger(), None if everything else _universe_name()
    ledger.export_csv(universe, sys.stdout if str(csv) == "-" else csv)


@ledger_app.command("positions")
def ledger_positions(
    csv: Annotated[Path, typer.Option(help="The file to write; - for standard output.", parser=parse_path)],
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
    from pipeline.storage.files import write_text
    from pipeline.trading.exports import FORMS, select_evening, tabulate

    require_folder(csv, "--csv")
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
    text = format_csv(tabulate(rows, form, settings.trading))
    if str(csv) == "-":
        sys.stdout.write(text)
    else:
        write_text(csv, text)


@ledger_app.command("begin-again")
def ledger_begin_again(
    accept: Annotated[str, typer.Option(help="What is lost, word for word as this command says it.")] = "",
) -> None:
    """Go on after a loss: the words that accept it are sealed, and every later report repeats them.

    First look for a backup: nextday restore. A ledger that cannot be trusted is set aside, not deleted.
    """
    from datetime import UTC, datetime

    from pipeline.ledger.recovery import begin_again, describe_loss

    workspace = options.workspace()
    workspace.check()
    if not describe_loss(workspace.ledger):
        typer.echo(f"{workspace.ledger}: nothing is lost")
        return
    aside = begin_again(workspace.ledger, accept, datetime.now(UTC))
    if aside:
        typer.echo(f"the damaged ledger was moved to {aside}")
    typer.echo(f"{workspace.ledger}: it goes on, and the loss is sealed in it")


def _ledger() -> "Ledger":
    from pipeline.ledger.ledger import Ledger

    workspace = options.workspace()
    workspace.check()
    return Ledger(workspace.ledger, read_only=True)


def _universe_name() -> str:
    return _settings().universe.name


def _settings() -> "Config":
    from flows.runtime.locations import default_config
    from pipeline.config_file import load

    return load(options.config or default_config())
