"""Check the site: one that could not be rebuilt goes on showing an earlier evening."""

from flows.operations.health import HealthCheck, failed, passed
from flows.runtime.context import Run
from pipeline.ledger.known_head import ledger_exists
from pipeline.ledger.ledger import Ledger
from pipeline.report.site.addresses import index_path
from pipeline.report.site.build import read_state

__all__ = ["check_site"]


def check_site(run: Run) -> list[HealthCheck]:
    """Compare what the site shows with the ledger; nothing before there is a site.

    Raises:
        NextdayError: the ledger cannot be read.
    """
    index, state = index_path(run.workspace.reports, run.name), read_state(run.workspace.site(run.name))
    if not state.as_of or not ledger_exists(run.workspace.ledger):
        return []
    last = Ledger(run.workspace.ledger, read_only=True).last_as_of(run.name)
    if not index.exists():
        return [failed(f"the site is gone: {index}", "nextday site --rebuild")]
    if last is not None and f"{last:%Y-%m-%d}" > state.as_of:
        what = f"the site shows the evening of {state.as_of}, the last forecast is from {last:%Y-%m-%d}"
        return [failed(what, "nextday site --rebuild shows why it could not be rebuilt")]
    return [passed(f"the site shows the evening of {state.as_of}: {index}")]
