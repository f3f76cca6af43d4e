"""The command line. Heavy imports are inside the commands, so that `--help` answers at once."""

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.arguments import (
    flow_arguments,
    options,
    parse_date,
    parse_path,
    parse_time,
    put_options_first,
    show_version,
)
from flows.cli.audit_commands import audit_app
from flows.cli.backup_commands import backup_app
from flows.cli.catalog_commands import models_app, promotion_app, source_app, ui_app
from flows.cli.failures import echo_wrapped, end_by, ended_by_signals
from flows.cli.init_command import init_app
from flows.cli.ledger_commands import ledger_app
from flows.cli.monitoring.alarm_commands import alarm_app
from flows.cli.monitoring.notify_commands import notify_app
from flows.cli.monitoring.simulate_command import simulate_app
from flows.cli.prices_commands import prices_app
from flows.cli.publishing.json_output import AsJson, call, documents_alone, fail
from flows.cli.publishing.publish_command import publish_app
from flows.cli.startup import import_beside, start_quickly, start_server_early, use_or_stop, working

if TYPE_CHECKING:
    from flows.runtime.temporary_server import TemporaryServer

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="""Forecast every evening whether each stock will close up or down in its next session; seal the forecasts
before the market opens; score them afterwards.

**First time:** `nextday init files prices.csv` or `nextday init yahoo AAPL MSFT` writes your settings, and
`nextday forecast` works with them; without any it is offline, on twenty years of two indices.

**Every evening:** `nextday deploy` schedules the flows in Prefect; `nextday doctor` checks the installation.

Exit codes: 0 success (also if there was nothing new to do), 1 failure, 2 invalid input.
""",
)
app.add_typer(ledger_app, name="ledger")
app.add_typer(prices_app, name="prices")
app.add_typer(notify_app, name="notify")
app.add_typer(alarm_app, name="alarm")
app.add_typer(models_app, name="models")
app.add_typer(source_app, name="source")
for _nameless in (backup_app, audit_app, init_app, promotion_app, publish_app, simulate_app, ui_app):
    app.add_typer(_nameless)


_SESSION = "The session whose close the forecasts were made from (as_of in the CSV), or their target session."


@app.callback()
def _options(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(
            help="The configuration file.",
            show_default="nextday.toml here or in a folder above, NEXTDAY_CONFIG, in a checkout its own",
            parser=parse_path,
        ),
    ] = None,
    home: Annotated[
        Path | None,
        typer.Option(
            help="The workspace.",
            show_default="NEXTDAY_HOME, or data/ next to the configuration",
            parser=parse_path,
        ),
    ] = None,
    now: Annotated[
        str,
        typer.Option(
            help="The clock, e.g. 2018-12-10T22:00Z; without an offset in the exchange's time; a date means its end.",
            show_default="the wall clock",
        ),
    ] = "",
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=show_version)
    ] = False,
) -> None:
    options.config, options.home, options.debug = config, home, debug
    options.now = parse_time(now, "--now")
    if "--help" not in sys.argv and context.invoked_subcommand != "init":
        echo_wrapped(f"Settings {options.settings()}, workspace {options.folder()}")
    _set_environment()


@app.command()
def forecast(as_json: AsJson = False) -> None:
    """Run the nightly session, from fetching prices to the report.

    The steps: fetch and check prices, catch up missed sessions, settle, forecast, seal, report. Trains a model first
    if there is none. Running it again changes nothing: the first row of a forecast is final.
    """
    arguments, server = _prepare_flow_and_server()
    from flows.cli.output import show_evening
    from flows.nightly import nightly
    from flows.runtime.tasks import call_flow

    if server:
        use_or_stop(server, arguments)
    with working():
        show_evening(call_flow(nightly, **arguments), as_json=as_json)


@app.command()
def update() -> None:
    """Fetch and check prices; print the last session they cover."""
    arguments = _prepare_flow()
    from flows.cli.output import show_price_status
    from flows.nightly import update as update_flow
    from flows.runtime.tasks import call_flow

    with working():
        show_price_status(call_flow(update_flow, **arguments))


@app.command()
def retrain() -> None:
    """Train and score a new model: it challenges the champion, or replaces it, as [promotion] says."""
    _train()


@app.command()
def challenge(
    name: Annotated[
        str, typer.Option(help="What it is called.", show_default="that of the settings file")
    ] = "",
) -> None:
    """Let another procedure challenge the champion: give its settings with --config other.toml.

    Its universe is the same. It forecasts beside the champion every evening; `nextday models list` shows who stands.
    """
    settings = options.settings()
    if not name and settings.stem == "nextday":
        raise typer.BadParameter(
            "give the other procedure's settings, or a name for these", param_hint="--config"
        )
    if (name or settings.stem) == "retrain":
        raise typer.BadParameter(
            "retrain is the name of `nextday retrain`; choose another", param_hint="--name"
        )
    _train(name or settings.stem)


def _train(name: str = "") -> None:
    arguments, server = _prepare_flow_and_server()
    from flows.cli.output import show_retrained
    from flows.retrain import retrain as retrain_flow

    if server:
        import_beside(server, trains=True)
    with working():
        show_retrained(retrain_flow(**arguments | ({"name": name} if name else {})))


@app.command()
def backtest(
    out: Annotated[
        Path | None,
        typer.Option(
            help="The folder for the page and its tables.",
            show_default="a new one in reports/<universe>/backtests of the workspace",
            parser=parse_path,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a walk-forward backtest and write its report.

    The model is refit through history; each fit forecasts the sessions after it, and these are scored. Nothing is
    written to the ledger. If interrupted, it resumes at the first fit that is not finished yet.
    """
    arguments = _prepare_flow()
    from flows.backtest import backtest as backtest_flow
    from flows.cli.output import show_backtest
    from flows.runtime.tasks import call_flow

    with working():
        show_backtest(call_flow(backtest_flow, **arguments, out=out and out.resolve()), as_json=as_json)


@app.command()
def search(
    trials: Annotated[int, typer.Option(help="How many trials to add to those already made.", min=1)] = 20,
    timeout: Annotated[
        float | None,
        typer.Option(help="Minutes after which no new trial starts.", min=0, show_default="none"),
    ] = None,
    anew: Annotated[bool, typer.Option("--anew", help="Start a new search, on today's prices.")] = False,
) -> None:
    """Search for better hyperparameters inside the training data.

    nextday.toml is not changed. Every trial is kept and counted. Stopping at any time loses at most the trial in
    progress.
    """
    from flows.cli.arguments import require_optuna

    require_optuna()
    arguments = _prepare_flow()
    from flows.cli.search_output import show_search
    from flows.runtime.tasks import call_flow
    from flows.search.search import search as search_flow

    with working():
        show_search(call_flow(search_flow, **arguments, trials=trials, minutes=timeout, anew=anew))


@app.command()
def settle() -> None:
    """Fetch prices and record the outcomes of forecasts now due."""
    arguments = _prepare_flow()
    from flows.nightly import settle_only
    from flows.runtime.tasks import call_flow

    with working():
        call_flow(settle_only, **arguments)


@app.command()
def maintain() -> None:
    """Compact prices and databases; remove leftovers of killed runs."""
    arguments = _prepare_flow()
    from flows.maintenance import maintenance
    from flows.runtime.tasks import call_flow

    with working():
        call_flow(maintenance, **arguments)


@app.command()
def replay(
    session: Annotated[str, typer.Argument(help=_SESSION)],
) -> None:
    """Recompute a session's sealed forecasts and compare each row."""
    day = parse_date(session)
    from flows.cli.output import show_replay
    from flows.evening.forecasting import find_as_of
    from flows.evening.forecasting import replay as replay_session
    from flows.runtime.context import open_run

    run = open_run(**flow_arguments(), read_only=True)
    replayed = replay_session(run, find_as_of(run, day))
    show_replay(replayed)
    if not replayed.is_same:
        raise typer.Exit(1)


@app.command()
def report(
    session: Annotated[str, typer.Argument(help=f"{_SESSION} Default: the newest.")] = "",
) -> None:
    """Write a session's reports again from ledger and evaluation."""
    day = parse_date(session) if session else None
    from flows.cli.output import show_paths
    from flows.evening.forecasting import find_as_of
    from flows.evening.reporting import rebuild_report
    from flows.runtime.context import open_run
    from flows.runtime.tasks import PATIENCE

    run = open_run(**flow_arguments(), read_only=True)
    session_day = find_as_of(run, day) if day else None
    with run.workspace.locked(run.name, timeout=PATIENCE, log=typer.echo):
        show_paths(rebuild_report(run, session_day))


@app.command()
def deploy(
    pool: Annotated[
        str,
        typer.Option(
            help="The work pool, of any type: process, docker, kubernetes.",
            show_default="the one in use, at first nextday-local, a process pool",
        ),
    ] = "",
) -> None:
    """Create Prefect's work pool and the deployments of the flows.

    The deployments are `nightly`, `retrain`, `maintenance` and `backtest`. Another pool than nextday-local must exist.
    """
    _prepare()
    from flows.operations.deploy import deploy as deploy_flows

    with working():
        for line in deploy_flows(options.config, options.home, pool):
            typer.echo(line)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Check the installation and print a fix for each problem."""
    from pipeline.errors import NextdayError

    with suppress(NextdayError):  # examine() reports a workspace that cannot be used
        _prepare_prefect()
    from flows.cli.output import show_health
    from flows.operations.doctor import examine

    checks = examine(options.config, options.home, options.now)
    show_health(checks, as_json=as_json)
    if any(not check.is_passed for check in checks):
        raise typer.Exit(1)


def main() -> None:
    """Run the command line; an error is printed in a few lines and sets the exit code, without a traceback."""
    start_quickly()
    arguments = put_options_first(sys.argv[1:])
    with ended_by_signals() as find_signal, documents_alone(arguments):
        try:
            call(app, arguments)
        except BaseException as error:
            if number := find_signal():  # whatever it led to in Prefect or elsewhere
                end_by(number)
            if options.debug or not isinstance(error, Exception):
                raise
            fail(error)


def _prepare() -> dict[str, Any]:
    """Prepare the environment for the import of Prefect, and return the arguments of every flow."""
    arguments = flow_arguments()
    _prepare_prefect()
    return arguments


def _prepare_flow() -> dict[str, Any]:
    """Do the same, and check that the Prefect server answers if PREFECT_API_URL is set."""
    arguments = _prepare()
    from prefect.settings import PREFECT_API_URL

    if PREFECT_API_URL.value():
        from flows.runtime.prefect_api import server_url

        server_url()
    return arguments


def _prepare_flow_and_server() -> "tuple[dict[str, Any], TemporaryServer | None]":
    """Do the same, and start Prefect's temporary server if PREFECT_API_URL names none."""
    server = start_server_early()
    if server and sys.stderr.isatty():
        typer.echo("Starting Prefect's temporary server ...", err=True)
    arguments = _prepare_flow()
    from prefect.settings import PREFECT_API_URL

    if PREFECT_API_URL.value():
        if server:
            server.stop()
        return arguments, None
    from flows.runtime.temporary_server import TemporaryServer

    return arguments, server or TemporaryServer()


def _set_environment() -> None:
    """Set what Prefect and TensorFlow read at import: no telemetry, no log on the terminal, and a home folder."""
    try:
        Path.home()
    except RuntimeError:  # no HOME, and a user without an entry in the passwd file, as in a container
        os.environ["HOME"] = str(options.workspace().home)
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if not options.debug:
        os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    # A proxy is meant for Yahoo; Prefect would use it for its requests to the server on this machine.
    direct = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    if direct != "*":
        os.environ["no_proxy"] = os.environ["NO_PROXY"] = f"{direct},127.0.0.1,localhost,::1".lstrip(",")


def _prepare_prefect() -> None:
    """Keep Prefect's state in the workspace where the machine has no ~/.prefect yet."""
    if not Path("~/.prefect").expanduser().exists():
        # The database of its temporary server needs an existing folder.
        workspace = options.workspace()
        workspace.create()
        os.environ.setdefault("PREFECT_HOME", str(workspace.home / "prefect"))


if __name__ == "__main__":  # python -m flows.cli.app
    main()
