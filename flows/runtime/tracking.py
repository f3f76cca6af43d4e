"""The workspace's MLflow tracking, and the tags of a tracked run."""

from prefect.runtime import flow_run
from prefect.settings import PREFECT_UI_URL

from flows.runtime import temporary_server
from flows.runtime.context import Run
from models.ensembles.model_files import model_version
from pipeline.tracking.runs import Tracking

__all__ = ["run_tags", "tracking"]


def tracking(run: Run) -> Tracking:
    """Return the tracking of the run's workspace."""
    return Tracking(run.workspace.home, digest=model_version)


def run_tags(run: Run) -> dict[str, str]:
    """Return the tags that link a tracked run to its Prefect flow run."""
    has_page = PREFECT_UI_URL.value() and not temporary_server.is_running()
    known = {
        "flow_run_id": flow_run.id,
        "flow_run_name": flow_run.name,
        "flow_run_url": flow_run.ui_url if has_page else None,
    }
    return {"now": run.now.isoformat()} | {name: str(value) for name, value in known.items() if value}
