"""The workspace's runs and models, as MLflow and the serving pointer know them."""

from prefect.runtime import flow_run

from flows.runtime.context import Run
from models.ensembles.model_files import model_version
from pipeline.tracking.runs import Tracking

__all__ = ["run_tags", "tracking"]


def tracking(run: Run) -> Tracking:
    """Return the tracking of the run's workspace."""
    return Tracking(run.workspace.home, digest=model_version)


def run_tags(run: Run) -> dict[str, str]:
    """Return the tags that join a tracked run with its Prefect flow run."""
    known = {"flow_run_id": flow_run.id, "flow_run_name": flow_run.name, "flow_run_url": flow_run.ui_url}
    return {"now": run.now.isoformat()} | {name: str(value) for name, value in known.items() if value}
