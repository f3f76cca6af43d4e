"""`nextday audit`: check the procedure for look-ahead bias and leakage."""

from typing import Annotated

import typer

from flows.cli.arguments import flow_arguments
from flows.cli.startup import working

__all__ = ["audit_app"]

audit_app = typer.Typer()


@audit_app.command("audit")
def audit(
    full: Annotated[
        bool, typer.Option("--full", help="Fit everything as configured, on all of history.")
    ] = False,
) -> None:
    """Check features, folds, fit and forecasts for leakage.

    Nothing may depend on the future. Custom code has to pass before it may forecast live. Exit code 1 if a check fails.
    """
    arguments = flow_arguments()
    from flows.cli.audit_output import show_audit
    from flows.operations.audit import audit as audit_run
    from flows.runtime.context import open_run

    run = open_run(**arguments)
    with working():
        result = audit_run(run, full=full)
    show_audit(result, run.workspace.audit(run.name), full=full)
    if not result.is_passed:
        raise typer.Exit(1)
