"""The workspace's MLflow tracking, and the tags of a tracked run."""

from prefect.runtime import flow_run
from prefect.settings import PREFECT_UI_URL

from flows.runtime import temporary_server
from flows.runtime.context import Run
from models.ensembles.model_files import model_version
from pipeline.tracking.runs import Tracking

__all__ = ["prefect_page", "run_tags", "tracking"]


def tracking(run: Run) -> Tracking:
    """Return the tracking of the run's workspace."""
    return Tracking(run.workspace.home, digest=model_version)


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
