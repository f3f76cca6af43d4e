"""Check what [storage] names outside of the workspace: the MLflow server, and the copies of the reports."""

from flows.evening.publishing.copy_reports import read_last_copy, reports_address
from flows.operations.health import HealthCheck, failed, passed
from flows.runtime.context import Run
from flows.runtime.tracking import shared_models
from models.ensembles.model_files import model_version
from pipeline.storage.object_folder import ObjectFolder
from pipeline.tracking.registry import Registry

__all__ = ["check_copies", "check_mlflow"]


def check_mlflow(run: Run) -> list[HealthCheck]:
    """Ask the MLflow server who serves; nothing without one.

    Raises:
        TrackingUnreachableError: it does not answer, or refuses.
    """
    shared = shared_models(run)
    if shared is None:
        return []
    named = shared.champion(run.name)
    serving = Registry(run.workspace.home, model_version).serving(run.name)
    if named == (serving.model_version if serving else ""):
        return [passed(f"MLflow answers at {shared.server}, and names the same champion")]
    what = f"MLflow answers at {shared.server}, and names {named or 'no champion'}: the next run follows"
    return [passed(what)]


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
