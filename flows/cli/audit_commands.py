"""`nextday audit`: check the procedure for look-ahead bias and leakage."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.arguments import flow_arguments
from flows.cli.startup import working

if TYPE_CHECKING:
    from flows.operations.leaks import LeakReport, LeakRow
    from pipeline.audit.apparent_skill import Figure
    from pipeline.audit.record import Audit
    from pipeline.outputs import Output

__all__ = ["audit_app"]

audit_app = typer.Typer()

_STYLES = {"passed": "green", "failed": "bold red", "not applicable": "dim"}


@audit_app.command("audit")
def audit(
    full: Annotated[
        bool, typer.Option("--full", help="Fit everything as configured, on all of history.")
    ] = False,
    leaks: Annotated[
        bool,
        typer.Option(
            "--leaks",
            help="Instead plant each classic leak, one at a time, and print the skill it would show.",
        ),
    ] = False,
) -> None:
    """Check features, folds, fit and forecasts for leakage.

    Nothing may depend on the future. Custom code has to pass before it may forecast live. Exit code 1 if a check fails.
    With --leaks nothing is checked or saved.
    """
    arguments = flow_arguments()
    from flows.operations.audit import audit as audit_run
    from flows.operations.leaks import plant_leaks
    from flows.runtime.context import open_run

    run = open_run(**arguments)
    if leaks:
        with working():
            report = plant_leaks(run, full=full)
        _show_leaks(report, full=full)
        return
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

    _show_extent(audit, full=full)
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


def _show_extent(shown: "Audit | LeakReport", *, full: bool) -> None:
    from flows.cli.console import console

    console.print()
    console.print(f"{shown.universe}, prices through {shown.as_of}: {shown.extent}", markup=False)
    if not full:
        console.print("--full fits everything as configured, on all of history")


def _show_leaks(report: "LeakReport", *, full: bool) -> None:
    """Print a table for each output: the clean procedure, then each leak."""
    from flows.cli.console import console, make_table
    from pipeline.formatting import count
    from pipeline.outputs import describe_output

    _show_extent(report, full=full)
    for output in report.outputs:
        clean = report.rows[0].skills[output]
        console.print()
        table = make_table(
            "leak: what is planted",
            "n",
            "log loss saved",
            "more than clean",
            "hit rate",
            "AUC within sessions",
            "earned, bp",
        )
        sessions = count(len(clean.by_session), "session")
        table.title = f"{describe_output(output)}: {sessions}, 95% intervals by whole sessions"
        for row in report.rows:
            planted = row.leak.planted if output == report.outputs[0] else ""
            table.add_row(*_leak_cells(row, output, planted))
        console.print(table)
    console.print()
    console.print(
        "Log loss saved is against the base rate. Earned is the mean of a session before costs, in basis points, by "
        "the rule of the trading view. Nothing of this is saved: it is neither a score nor a pass of the audit. It "
        "shows what the test range says, and is not counted as a trial: choose no settings by it."
    )


def _leak_cells(row: "LeakRow", output: "Output", planted: str) -> list[str]:
    from rich.markup import escape

    text = f"[bold]{escape(row.leak.name)}[/]\n{escape(planted)}\n"
    if row.reason:
        return [text, "", escape(f"not planted: {row.reason}")]
    skill, more = row.skills[output], row.more.get(output)
    earned = skill.earned
    return [
        text,
        f"{skill.n:,}",
        _describe_figure(skill.saved, decimals=4, sign="+"),
        _describe_figure(more, decimals=4, sign="+") if more else "",
        _describe_figure(skill.hit_rate, decimals=1, percent=True),
        _describe_figure(skill.auc_within, decimals=3),
        _describe_figure((earned.value, earned.low, earned.high), decimals=1, sign="+") if earned else "–",
    ]


def _describe_figure(
    figure: "Figure | tuple[float, float, float]", *, decimals: int, sign: str = "", percent: bool = False
) -> str:
    """Format a number above its interval; too few sessions have none."""
    from pipeline.formatting import format_alike

    value, low, high = format_alike(*figure, decimals=decimals, sign=sign, percent=percent)
    return f"{value}\n\\[{low}, {high}]" if low != "–" else value
