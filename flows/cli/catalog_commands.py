"""`nextday source check`, `models`, `promote`, `rollback`, `ui`, `site`: custom code, models, and pages to look at."""

import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.arguments import flow_arguments, options, parse_date

if TYPE_CHECKING:
    from flows.training.verified_champion import Champion
    from pipeline.sources.custom import CustomSource

__all__ = ["models_app", "promotion_app", "source_app", "ui_app"]

source_app = typer.Typer(no_args_is_help=True, help="Check a custom price source.")
models_app = typer.Typer(no_args_is_help=True, help="The trained models.")
promotion_app = typer.Typer()
ui_app = typer.Typer()

_END, _DAYS = timedelta(days=7), timedelta(days=365)
"""How long ago the checked days end, for the newest bars still change, and how many they are."""


@source_app.callback()
@models_app.callback()
def _group() -> None:
    """Keep a group with a single command a group."""


@source_app.command("check")
def check(
    place: Annotated[str, typer.Argument(help="The source, for example my_prices:MyDatabase.")],
    symbol: Annotated[str, typer.Argument(help="A symbol that it knows.")],
    start: Annotated[
        str, typer.Option(help="The first day to ask for.", show_default="a year before the end")
    ] = "",
    end: Annotated[str, typer.Option(help="The last day; in the past.", show_default="a week ago")] = "",
) -> None:
    """Ask a custom source as nextday would, and name the rule that it breaks.

    Its module is looked for beside the settings, and here. Exit code 1 if it breaks a rule.
    """
    from pipeline.errors import NextdayError
    from pipeline.formatting import count
    from pipeline.sources.conformance import ConformanceError, check_source

    now = options.now or datetime.now(UTC)
    last = parse_date(end, "--end") if end else (now - _END).date()
    first = parse_date(start, "--start") if start else last - _DAYS
    if not first < last < now.date():
        raise typer.BadParameter("give a --start before --end, and an --end in the past")
    source = _load(place)
    try:
        bars = check_source(source, symbol, start=first, end=last, now=now.astimezone(UTC)).bars
    except ConformanceError as error:
        raise NextdayError(
            str(error),
            where=f"{place}, asked for {symbol} from {first} to {last}",
            fix="correct the source, or choose other days with --start and --end; docs/custom_source.md has the rules",
        ) from None
    typer.echo(
        f"{place} keeps the rules: {count(len(bars), 'bar')} of {symbol} from {bars['session'].iloc[0]:%Y-%m-%d} to "
        f"{bars['session'].iloc[-1]:%Y-%m-%d}, the same when asked twice and from the middle on"
    )


def _load(place: str) -> "CustomSource":
    from pipeline.config import UniverseConfig
    from pipeline.config_file import load
    from pipeline.errors import InputError
    from pipeline.plugins import is_custom_code
    from pipeline.sources.custom import load_source

    if not is_custom_code(place):
        raise InputError(
            f"{place!r} names no source", where="SOURCE", fix="write module:Name: my_prices:MyDatabase"
        )
    settings, chosen = options.settings(), UniverseConfig()
    if settings.is_file() and (written := load(settings).universe).source == place:
        chosen = written
    folder = settings.parent if chosen.has_custom_source else Path.cwd()
    return load_source(place, folder, chosen.source_options)


@models_app.command("list")
def list_models() -> None:
    """List the trained models of the universe, the newest first."""
    from flows.cli.console import console, make_table
    from models.ensembles.model_files import model_version
    from pipeline.config_file import load
    from pipeline.formatting import format_day, format_moment
    from pipeline.tracking.challengers import ChallengerBook
    from pipeline.tracking.registry import Registry

    universe = load(options.settings()).universe.name
    registry = Registry(options.folder(), model_version)
    models, champion = registry.versions(universe), registry.serving(universe)
    if not models:
        typer.echo(f"no model of {universe!r} yet: nextday forecast trains one, and nextday retrain another")
        return
    book = ChallengerBook(options.folder())
    challengers = {each.model_version: each.name for each in book.challengers(universe)}
    table = make_table("model", "trained through", "champion", "challenger", "verdict")
    for model in models:
        is_champion = champion is not None and champion.model_version == model.model_version
        since = f"since {format_moment(model.promoted_at)}" if model.promoted_at else "never"
        table.add_row(
            model.model_version,
            format_day(model.trained_through),
            f"now, {since}" if is_champion else since.replace("since", "once, from"),
            challengers.get(model.model_version, ""),
            model.tags.get("verdict", "not scored"),
        )
    console.print(table)
    if promoted := book.promotions(universe):
        console.print("Champions and why they serve:")
    for each in promoted:
        line = f"  {each.promoted_at[:10]} {each.model_version}: {each.in_words}"
        console.print(line, markup=False)
    console.print(f"Folder: {registry.home / 'models' / universe}", markup=False, soft_wrap=True)


@models_app.command("withdraw")
def withdraw(
    name: Annotated[str, typer.Argument(help="The challenger, as `nextday models list` names it.")],
) -> None:
    """Let a challenger forecast no longer; its sealed forecasts and its files stay."""
    from flows.operations.champions import withdraw as withdraw_challenger

    gone = withdraw_challenger(name, **flow_arguments())
    typer.echo(f"{gone.name} ({gone.model_version}) challenges the champion no longer")


_WHY = Annotated[
    str, typer.Option(help="The reason, which is written down with your name.", show_default=False)
]


@promotion_app.command("promote")
def promote(
    version: Annotated[str, typer.Argument(help="The model, or the beginning of its version.")],
    why: _WHY = "",
) -> None:
    """Make a trained model the champion by hand; no sealed row changes."""
    from flows.operations.champions import promote_by_hand

    _show_champion(promote_by_hand(version, why, **flow_arguments()))


@promotion_app.command("rollback")
def rollback(why: _WHY = "") -> None:
    """Make the champion before the present one champion again; no sealed row changes."""
    from flows.operations.champions import roll_back

    _show_champion(roll_back(why, **flow_arguments()))


def _show_champion(champion: "Champion") -> None:
    typer.echo(
        f"{champion.version} is the champion, trained through {champion.trained_through:%Y-%m-%d}: it forecasts from "
        "the next evening on; rows that are sealed stay as they are"
    )


@ui_app.command("ui")
def ui(
    port: Annotated[int, typer.Option(help="The port on 127.0.0.1.", min=1, max=65535)] = 5000,
) -> None:
    """Start the MLflow UI for the tracked runs and models, and open the universe's runs in a browser.

    With [storage] mlflow the pages are those of that server, and nothing is started.
    """
    import webbrowser

    from flows.cli.output import show_ui
    from flows.runtime.browser import has_screen, open_later
    from flows.runtime.context import open_run
    from flows.runtime.tracking import tracking

    run = open_run(options.config, options.home, options.now)
    book = tracking(run)
    if book.server:
        page = f"{book.server}/{book.runs_page(run.name)}"
        show_ui(page, run.config.model.name, is_started=False)
        if has_screen():
            webbrowser.open(page)
        return
    command = book.ui_command(port)
    page = f"http://127.0.0.1:{port}/{book.runs_page(run.name)}"
    show_ui(page, run.config.model.name)
    sys.stdout.flush()  # the server takes this process's place
    if has_screen():
        open_later(page)
    os.execv(command[0], command)


@ui_app.command("site")
def site(
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Write every page again first.")] = False,
) -> None:
    """Print the path of the universe's pages, and open them in a browser.

    Every evening rebuilds them. They are built now where there are none yet, or with --rebuild. Any web server can
    serve the folder: all links are relative.
    """
    import webbrowser

    from flows.evening.publishing.site import rebuild_site
    from flows.runtime.browser import has_screen
    from flows.runtime.context import open_run
    from flows.runtime.tasks import PATIENCE
    from pipeline.report.site.addresses import index_path

    run = open_run(**flow_arguments(), read_only=True)
    index = index_path(run.workspace.reports, run.name)
    if rebuild or not index.exists():
        with run.workspace.locked(run.name, timeout=PATIENCE, log=typer.echo):
            rebuild_site(run, whole=rebuild)
    typer.echo(index)
    if has_screen():
        webbrowser.open(index.as_uri())
