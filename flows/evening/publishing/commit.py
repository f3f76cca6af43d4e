"""Commit what was sealed to the git repository of [publish]: a failure costs no forecast, and is told by the doctor."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from flows.runtime.context import Run
from flows.runtime.progress import log_line
from pipeline.errors import NextdayError
from pipeline.formatting import format_instant
from pipeline.publishing.repository import commit_batches
from pipeline.storage.files import write_text
from pipeline.storage.paths import expand

__all__ = ["LastCommit", "commit_sealed", "read_last_commit"]


@dataclass(frozen=True)
class LastCommit:
    """How the last attempt ended.

    Attributes:
        at: When (UTC, ISO 8601).
        ledger_head: The ledger's head that is committed; empty where it failed.
        problem: Why it failed, and the fix; empty if it did not.
    """

    at: str
    ledger_head: str = ""
    problem: str = ""


def commit_sealed(run: Run) -> None:
    """Commit the batches that the repository lacks, those of earlier evenings too; nothing unless [publish] asks, and
    nothing of a simulation: the repository is that of the real record.

    The forecasts are sealed by then. Whatever fails is shown, written down for the doctor, and tried again by the next
    run.
    """
    settings = run.config.publish
    if not settings.commit or run.in_simulation:
        return
    at = format_instant(run.clock())
    try:
        done = commit_batches(run.workspace.ledger, run.base / expand(settings.repository), run.name)
    except (NextdayError, OSError, ValueError) as error:
        problem = str(error) if isinstance(error, NextdayError) else repr(error)
        log_line(f"the forecasts are sealed, but not committed; the next run tries again. {problem}")
        last = LastCommit(at, problem=" ".join(problem.split()))
    else:
        last = LastCommit(at, done.ledger_head)
        if done.commit:
            log_line(
                f"committed {done.batches} sealed batches as {done.commit[:12]} in {settings.repository}; push it "
                "before the open"
            )
    try:
        write_text(run.workspace.last_commit(run.name), json.dumps(asdict(last), indent=1) + "\n")
    except NextdayError as error:
        log_line(f"how the commit ended cannot be written down: {error}")


def read_last_commit(path: Path) -> LastCommit | None:
    """Return how the last attempt ended; None before the first one, or where the note is damaged."""
    try:
        return LastCommit(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
