"""The MLflow tracking of a run, in its workspace or on a server that machines share, and the tags of a tracked run."""

from collections.abc import Callable

from prefect.runtime import flow_run
from prefect.settings import PREFECT_UI_URL

from flows.runtime import temporary_server
from flows.runtime.context import Run
from flows.runtime.progress import log_line
from models.ensembles.model_files import model_version
from pipeline.tracking.mlflow_server import locate_server
from pipeline.tracking.registry import Registry
from pipeline.tracking.runs import Tracking
from pipeline.tracking.shared_models import SharedModels

__all__ = [
    "follow_shared_models",
    "own_tracking",
    "prefect_page",
    "registry",
    "run_tags",
    "shared_models",
    "tracking",
]


def tracking(run: Run) -> Tracking:
    """Return the tracking where [storage] mlflow says that it is.

    That of a simulation is always in its own workspace: its champions must not serve the real evenings.

    Raises:
        InputError: the address cannot be used.
    """
    address = "" if run.in_simulation else run.config.storage.mlflow
    return Tracking(run.workspace.home, digest=model_version, server=locate_server(address))


def own_tracking(run: Run) -> Tracking:
    """Return the tracking of the workspace itself, whatever [storage] says."""
    return Tracking(run.workspace.home, digest=model_version)


def shared_models(run: Run) -> SharedModels | None:
    """Return the models that the run's workspace shares with other machines; None if it shares none."""
    return tracking(run).shared


def registry(run: Run, say: Callable[[str], None] | None = None) -> Registry:
    """Return the registered models of the workspace; files that other machines have made are fetched when needed."""
    shared = shared_models(run)
    return Registry(run.workspace.home, model_version, say=say, fetch=shared.fetch if shared else None)


def follow_shared_models(run: Run) -> None:
    """Learn which models serve and challenge, where other machines may have changed that.

    Without an answer a run must not go on: it could seal the forecasts of a former champion, and the first row of each
    key is final.

    Raises:
        TrackingUnreachableError: the MLflow server does not answer, or refuses.
        InputError: see `SharedModels.follow`.
    """
    if shared := shared_models(run):
        for line in shared.follow(run.name, run.now):
            log_line(line)


def run_tags(run: Run) -> dict[str, str]:
    """Return the tags that link a tracked run to its Prefect flow run."""
    known = {
        "flow_run_id": flow_run.id,
        "flow_run_name": flow_run.name,
        "flow_run_url": flow_run.ui_url if prefect_page("runs") else None,
    }
    return {"now": run.now.isoformat()} | {name: str(value) for name, value in known.items() if value}


def prefect_page(path: str) -> str:
    """Return the address of one of Prefect's pages; empty where the server has none, or ends with this command."""
    pages = PREFECT_UI_URL.value()
    return f"{pages}/{path}" if pages and not temporary_server.is_running() else ""
