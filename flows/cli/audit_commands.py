"""`nextday audit`: check the procedure for look-ahead bias and leakage."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.arguments import flow_arguments
from flows.cli.startup import working

if TYPE_CHECKING:
    from pipeline.audit.record import Audit

__all__ = ["audit_app"]

audit_app = typer.Typer()

_STYLES = {"passed": "green", "failed": "bold red", "not applicable": "dim"}


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
    from flows.operations.audit import audit as audit_run
    from flows.runtime.context import open_run

    run = open_run(**arguments)
    with working():
        result = audit_run(run, full=full)
    _show_audit(result, run.workspace.audit(run.name), full=full)
    if not result.is_passed:
        raise typer.Exit(1)


def _show_audit(audit: "Audit", path: Path, *, full: bool) -> None:
    """Print the extent, a table of the checks, and the result."""
    from rich.markup import escape

    from flows.cli.console import console, make_table
    from pipeline.formatting import count

    console.print()
    console.print(f"{audit.universe}, prices through {audit.as_of}: {audit.extent}", markup=False)
    if not full:
        console.print("--full fits everything as configured, on all of history")
    for location, code in audit.code.items():
        console.print(f"custom code: {location} ({code})", markup=False)
    console.print()
    table = make_table("result", "check: what was done, and the evidence")
    for check in audit.checks:
        style = _STYLES[check.status]
        text = f"[bold]{escape(check.name)}[/]\n{escape(check.what)}\n[{style}]{escape(check.evidence)}[/]\n"
        table.add_row(f"[{style}]{check.status}[/]", text)
    console.print(table)
    console.print()
    failed = audit.count("failed")
    verdict = f"{count(failed, 'check')} failed" if failed else "the audit passed"
    console.print(
        f"{verdict}: {audit.count('passed')} passed, {audit.count('not applicable')} not applicable",
        style="bold",
    )
    console.print(f"  {path}", markup=False, soft_wrap=True)
