"""Check the site and its copy: what could not be rebuilt or copied goes on showing an earlier evening."""

from flows.evening.publishing.copy_reports import read_last_copy, reports_address
from flows.operations.health import HealthCheck, failed, passed
from flows.runtime.context import Run
from pipeline.ledger.known_head import ledger_exists
from pipeline.ledger.ledger import Ledger
from pipeline.report.site.addresses import index_path
from pipeline.report.site.build import read_state
from pipeline.storage.object_folder import ObjectFolder

__all__ = ["check_copies", "check_site"]


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


def check_copies(run: Run) -> list[HealthCheck]:
    """Say whether the reports are copied, and whether the object store answers; nothing unless they are to be copied.

    Raises:
        CopyError: it does not answer, or refuses.
    """
    if not (url := reports_address(run)):
        return []
    last = read_last_copy(run.workspace.last_copy(run.name))
    if last is not None and last.problem:
        return [
            failed(
                f"[storage] the reports are not all copied: the attempt at {last.at} failed: {last.problem}",
                "nextday forecast copies all that is lacking",
            )
        ]
    there = ObjectFolder(url).sizes()
    if last is None or last.url != url:
        return [passed(f"[storage] {url} answers; the next run copies the reports")]
    if lacking := last.files.keys() - there.keys():
        return [failed(f"[storage] {url} lacks {min(lacking)}", "nextday forecast copies it again")]
    return [passed(f"[storage] the reports are copied to {url}, last at {last.at}")]
