"""`nextday audit`: does the procedure know what nobody could have known?"""

from typing import Annotated

import typer

from flows.cli.arguments import flow_arguments

__all__ = ["audit_app"]

audit_app = typer.Typer()


@audit_app.command("audit")
def audit(
    full: Annotated[
        bool, typer.Option("--full", help="Fit everything as configured, on all of history.")
    ] = False,
) -> None:
    """Look whether features, folds, fit or forecasts know what nobody could have known.

    Code of your own has to pass it before it may forecast live. Exit code 1 if a check fails.
    """
    arguments = flow_arguments()
    from flows.cli.audit_output import show_audit
    from flows.operations.audit import audit as audit_run
    from flows.runtime.context import open_run
    from flows.runtime.progress import show_progress

    run = open_run(**arguments)
    with show_progress():
        found = audit_run(run, full=full)
    show_audit(found, run.workspace.audit(run.name), full=full)
    if not found.is_passed:
        raise typer.Exit(1)
