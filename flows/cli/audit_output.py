"""What `nextday audit` prints: each leakage check, whether it passed, and the evidence."""

from pathlib import Path

from rich.markup import escape

from flows.cli.console import console, make_table
from pipeline.audit.record import Audit
from pipeline.formatting import count

__all__ = ["show_audit"]

_STYLES = {"passed": "green", "failed": "bold red", "not applicable": "dim"}


def show_audit(audit: Audit, path: Path, *, full: bool) -> None:
    """Print the extent, a table of the checks, and the result."""
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
