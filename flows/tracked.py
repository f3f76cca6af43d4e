"""The workspace's runs and models, as MLflow and the serving pointer know them."""

from pipeline.tracking import Tracking

from flows.run import Run
from models.saved import model_version

__all__ = ["tracking"]


def tracking(run: Run) -> Tracking:
    """Return the tracking of the run's workspace."""
    return Tracking(run.workspace.home, digest=model_version)
