"""Publish the record of a universe, and check that its sealed batches are committed."""

from datetime import datetime
from pathlib import Path

from flows.evening.publishing.commit import read_last_commit
from flows.operations.health import HealthCheck, failed, passed
from flows.runtime.context import Run, open_run
from flows.runtime.locations import PROJECT, absolute_path, default_config
from pipeline.ledger.known_head import ledger_exists
from pipeline.ledger.ledger import Ledger
from pipeline.publishing.publication import Published, publish

__all__ = ["check_commits", "publish_record"]


def publish_record(
    config: Path | None, home: Path | None, now: datetime | None, target: Path, *, everything: bool
) -> Published:
    """Publish the configured universe: see pipeline.publishing.publication.publish.

    Raises:
        InputError: the settings or the folder cannot be used.
        LedgerError: there is no ledger yet, or its seal is broken.
        NextdayError: a file cannot be read or written.
    """
    run = open_run(config, home, now, read_only=True)
    workspace = run.workspace
    settings = absolute_path(config or default_config()).parent
    return publish(
        workspace.ledger,
        workspace.reports / run.name,
        absolute_path(target),
        universe=run.name,
        everything=everything,
        private=absolute_path(workspace.home),
        places=_name_places(workspace.home, settings),
    )


def _name_places(home: Path, settings: Path) -> dict[Path, str]:
    """Return a word for each folder of this machine that a remark on a page may name; the first meaning counts."""
    named = {absolute_path(home): "(workspace)", home: "(workspace)", settings: "(settings)"}
    try:
        user = {Path.home(): "~"}
    except RuntimeError:  # a user without a home
        user = {}
    return {PROJECT: "(nextday)"} | user | named


def check_commits(run: Run) -> list[HealthCheck]:
    """Say whether what is sealed is committed; nothing unless [publish] commit is on."""
    if not run.config.publish.commit:
        return []
    last = read_last_commit(run.workspace.last_commit(run.name))
    if last is None:
        return [passed("[publish] no commit was tried yet: the next nightly run commits what is sealed")]
    if last.problem:
        return [
            failed(
                f"[publish] the sealed batches are not committed: the attempt at {last.at} failed: {last.problem}",
                "mend the repository; then nextday forecast commits all that it lacks",
            )
        ]
    if not ledger_exists(run.workspace.ledger):
        return []
    head = Ledger(run.workspace.ledger, read_only=True).head().hash
    if last.ledger_head and last.ledger_head != head:
        return [
            passed(f"[publish] committed at {last.at}; what was sealed since is committed by the next run")
        ]
    return [passed(f"[publish] everything sealed is committed, last at {last.at}")]
