"""The command line. Heavy imports live inside the commands, so that help answers at once."""

import os
import signal
import traceback
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.arguments import flow_arguments, parse_date, parse_path, parse_time, place
from flows.cli.audit_commands import audit_app
from flows.cli.backup_commands import backup_app
from flows.cli.ledger_commands import ledger_app
from flows.cli.prices_commands import prices_app

if TYPE_CHECKING:
    import pandas as pd

    from flows.runtime.context import Run

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
    help="""Forecast, every evening, whether each stock closes up or down on its next session; write it down before
the market opens; score it afterwards.

**First time:** `nextday forecast` works at once, offline, on twenty years of two indices. Then edit nextday.toml.

**Every evening:** `nextday deploy` hands the flows to Prefect; `nextday doctor` says what is wrong and how to fix it.

Exit codes: 0 done (also: nothing new to do), 1 could not do it, 2 wrong input.
""",
)
app.add_typer(ledger_app, name="ledger")
app.add_typer(prices_app, name="prices")
app.add_typer(backup_app)
app.add_typer(audit_app)


_SESSION = "The session whose close they were made from (as_of in the CSV), or the one that they speak of."


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"nextday {version('nextday')}")
        raise typer.Exit


@app.callback()
def _options(
    config: Annotated[
        Path | None,
        typer.Option(
            help="The configuration file.",
            show_default="NEXTDAY_CONFIG, or nextday.toml of the project",
            parser=parse_path,
        ),
    ] = None,
    home: Annotated[
        Path | None,
        typer.Option(
            help="The workspace.",
            show_default="NEXTDAY_HOME, or data/ beside the configuration",
            parser=parse_path,
        ),
    ] = None,
    now: Annotated[
        str,
        typer.Option(
            help="The clock, e.g. 2018-12-10T22:00Z; without an offset the exchange's; a bare date is its last minute.",
            show_default="the wall clock",
        ),
    ] = "",
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    place.config, place.home, place.debug = config, home, debug
    place.now = parse_time(now, "--now")
    _set_environment()


@app.command()
def forecast() -> None:
    """Run the whole evening: fetch, check, catch up, settle, forecast, seal, report.

    Trains a model first if there is none. Running it twice changes nothing: the first row of a forecast stands.
    """
    arguments = _prepared_for_a_flow()
    from flows.cli.output import show_evening
    from flows.nightly import nightly
    from flows.runtime.progress import show_progress

    with show_progress():
        show_evening(nightly(**arguments))


@app.command()
def update() -> None:
    """Fetch and check prices, and say how far they reach."""
    arguments = _prepared_for_a_flow()
    from flows.cli.output import show_price_status
    from flows.nightly import update as update_flow
    from flows.runtime.progress import show_progress

    with show_progress():
        show_price_status(update_flow(**arguments))


@app.command()
def retrain() -> None:
    """Train, score and promote a new champion."""
    arguments = _prepared_for_a_flow()
    from flows.cli.output import show_evaluation
    from flows.retrain import retrain as retrain_flow
    from flows.runtime.progress import show_progress

    with show_progress():
        show_evaluation(retrain_flow(**arguments))


@app.command()
def backtest(
    out: Annotated[
        Path | None,
        typer.Option(
            help="The folder for the page and its tables.",
            show_default="reports/<universe>/backtest of the workspace",
            parser=parse_path,
        ),
    ] = None,
) -> None:
    """Walk through history: fit anew as time goes on, forecast what follows each fit, and score it.

    Nothing of it enters the ledger. Interrupted, it goes on at the first network that was not trained yet.
    """
    arguments = _prepared_for_a_flow()
    from flows.backtest import backtest as backtest_flow
    from flows.cli.output import show_backtest
    from flows.runtime.progress import show_progress

    with show_progress():
        show_backtest(backtest_flow(**arguments, out=out.resolve() if out else None))


@app.command()
def search(
    trials: Annotated[
        int, typer.Option(help="How many settings to try, in addition to earlier ones.", min=1)
    ] = 20,
    timeout: Annotated[
        float | None, typer.Option(help="Minutes after which no trial begins.", min=0, show_default="none")
    ] = None,
    anew: Annotated[
        bool, typer.Option("--anew", help="Begin another search, on the prices of today.")
    ] = False,
) -> None:
    """Look for better settings of the network, inside the training data; nextday.toml stays as it is.

    Every trial is kept and counted. Ending it at any time loses no more than the trial under way.
    """
    from flows.cli.arguments import require_optuna

    require_optuna()
    arguments = _prepared_for_a_flow()
    from flows.cli.search_output import show_search
    from flows.runtime.progress import show_progress
    from flows.search.search import search as search_flow

    with show_progress():
        show_search(search_flow(**arguments, trials=trials, minutes=timeout, anew=anew))


@app.command()
def settle() -> None:
    """Fetch prices and write down what happened to the forecasts whose session has come."""
    arguments = _prepared_for_a_flow()
    from flows.nightly import settle_only
    from flows.runtime.progress import show_progress

    with show_progress():
        settle_only(**arguments)


@app.command()
def maintain() -> None:
    """Join the small files of the prices, tidy the databases, and remove what killed runs have left."""
    arguments = _prepared_for_a_flow()
    from flows.maintenance import maintenance
    from flows.runtime.progress import show_progress

    with show_progress():
        maintenance(**arguments)


@app.command()
def replay(
    session: Annotated[str, typer.Argument(help=_SESSION)],
) -> None:
    """Make the sealed forecasts of a SESSION again and compare, row by row."""
    day = parse_date(session)
    from flows.cli.output import show_replay
    from flows.evening.forecasting import replay as replay_session
    from flows.runtime.context import open_run

    run = open_run(**flow_arguments(), read_only=True)
    made = replay_session(run, _session(run, day))
    show_replay(made)
    if not made.is_same:
        raise typer.Exit(1)


@app.command()
def report(
    session: Annotated[str, typer.Argument(help=f"{_SESSION} Default: the newest.")] = "",
) -> None:
    """Write the reports of a session again, from the ledger and the kept evaluation."""
    day = parse_date(session) if session else None
    from flows.cli.output import show_paths
    from flows.evening.reporting import rebuild_report
    from flows.runtime.context import open_run
    from flows.runtime.tasks import PATIENCE

    run = open_run(**flow_arguments(), read_only=True)
    session_day = _session(run, day) if day else None
    with run.workspace.locked(run.name, timeout=PATIENCE, log=typer.echo):
        show_paths(rebuild_report(run, session_day))


@app.command()
def deploy() -> None:
    """Create Prefect's work pool and the deployments `nightly`, `retrain`, `maintenance` and `backtest`."""
    _prepared()
    from flows.operations.deploy import deploy as deploy_flows
    from flows.runtime.progress import show_progress

    with show_progress():
        for line in deploy_flows(place.config, place.home):
            typer.echo(line)


@app.command()
def doctor() -> None:
    """Look for what is wrong and say how to fix it."""
    from pipeline.errors import NextdayError

    with suppress(NextdayError):  # a workspace that cannot be used is what the examination finds
        _prepare_prefect()
    from flows.cli.output import show_health
    from flows.operations.doctor import examine

    found = examine(place.config, place.home, place.now)
    show_health(found)
    if any(not item.is_well for item in found):
        raise typer.Exit(1)


@app.command()
def ui(
    port: Annotated[int, typer.Option(help="The port on 127.0.0.1.", min=1, max=65535)] = 5000,
) -> None:
    """Open MLflow's pages on the tracked runs and models."""
    from flows.runtime.context import open_run
    from flows.runtime.tracking import tracking

    command = tracking(open_run(place.config, place.home, place.now)).ui_command(port)
    typer.echo(f"MLflow on http://127.0.0.1:{port} (end it with Ctrl+C)")
    os.execv(command[0], command)


def main() -> None:
    """Run the command line; an error of ours is a few lines and an exit code, never a traceback."""
    try:
        app(standalone_mode=True)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception as error:
        if place.debug:
            raise
        told_to_end = _find_signal(error)
        if told_to_end == signal.SIGINT:
            raise SystemExit(130) from None
        if told_to_end:
            signal.signal(told_to_end, signal.SIG_DFL)
            os.kill(os.getpid(), told_to_end)
        is_ours = hasattr(error, "fix")
        typer.echo(f"nextday: {error if is_ours else _unexpected(error)}", err=True)
        raise SystemExit(getattr(error, "exit_code", 1) if is_ours else 1) from None


def _find_signal(error: BaseException | None) -> int:
    """Return which signal led to the error, 0 for none: Prefect trips over one that comes while it makes a task run."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return signal.SIGINT
        if type(error).__name__ == "TerminationSignal":  # Prefect's, which may not be loaded
            return int(getattr(error, "signal", signal.SIGTERM))
        error = error.__context__
    return 0


def _unexpected(error: Exception) -> str:
    from pipeline.errors import NextdayError

    last = traceback.extract_tb(error.__traceback__)[-1]
    told = NextdayError(
        f"This should not have happened: {type(error).__name__}: {error}",
        where=f"{last.filename}, line {last.lineno}",
        fix="nextday --debug and the same command again shows the whole traceback",
    )
    return str(told)


def _session(run: "Run", day: date) -> "pd.Timestamp":
    import pandas as pd

    from pipeline.evaluation.horizons import select_horizon

    session = pd.Timestamp(day)
    run.calendar.position(session)
    if run.ledger.forecasts(run.name, as_of=session).empty:
        meant = select_horizon(run.ledger.forecasts(run.name, target_session=session))["as_of"]
        return session if meant.empty else meant.max()
    return session


def _prepared() -> dict[str, Any]:
    """Return what every flow asks for, with everything ready for the import of Prefect."""
    arguments = flow_arguments()
    _prepare_prefect()
    return arguments


def _prepared_for_a_flow() -> dict[str, Any]:
    """Return the same, after a look whether the server that somebody has named answers."""
    arguments = _prepared()
    from prefect.settings import PREFECT_API_URL

    if PREFECT_API_URL.value():
        from flows.operations.deploy import server_url

        server_url()
    return arguments


def _set_environment() -> None:
    """Set what Prefect and TensorFlow read once, at import: no telemetry, no log on the terminal."""
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "180")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if not place.debug:
        os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    # A proxy is for Yahoo: Prefect would send its messages to the server on this machine through it.
    direct = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    if direct != "*":
        os.environ["no_proxy"] = os.environ["NO_PROXY"] = f"{direct},127.0.0.1,localhost,::1".lstrip(",")


def _prepare_prefect() -> None:
    """Keep Prefect's state in the workspace, on a machine that does not use Prefect yet."""
    if not Path("~/.prefect").expanduser().exists():
        # The database of its temporary server needs the folder to be there.
        workspace = place.workspace()
        workspace.create()
        os.environ.setdefault("PREFECT_HOME", str(workspace.home / "prefect"))
